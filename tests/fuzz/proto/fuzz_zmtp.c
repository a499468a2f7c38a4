/* Fuzz target of the server's half of ZMTP: any bytes, in any pieces, end in messages of at most three frames within the limits, or
 * in a complaint that ends the connection. The first byte says how: 1 CURVE, 2 ask for room, 4 with a good handshake before. */
#include <stdint.h>
#include <string.h>

#include "proto/zmtp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(int ok)
{
    if (!ok) __builtin_trap();
}

static void took(struct pr_zmtp *z)
{
    zmq_msg_t frame[PR_ZMTP_FRAMES];
    size_t all = 0;
    unsigned n = pr_zmtp_take(z, frame);
    must(n >= 1 && n <= PR_ZMTP_MOST_FRAMES);
    for (int i = 0; i < PR_ZMTP_FRAMES; i++) {
        all += zmq_msg_size(&frame[i]);
        zmq_msg_close(&frame[i]);
    }
    must(all <= z->most && !z->held);
}

static int all_of(struct pr_zmtp *z, const uint8_t *data, size_t n, size_t piece)
{
    while (n) {
        size_t used, m = n < piece ? n : piece;
        struct cn_error err;
        int rc = pr_zmtp_feed(z, data, m, &used, &err);
        must(used <= m);
        data += used;
        n -= used;
        if (rc < 0) return rc;
        if (rc == PR_ZMTP_MESSAGE) took(z);
        if (rc == PR_ZMTP_KEY) must(0); /* nobody guesses a key */
        if (rc == PR_ZMTP_ROOM) z->granted = true;
        must(z->held <= z->most && z->n_reply <= sizeof z->reply);
        if (z->n_reply > 100) z->n_reply = 0;
    }
    return 0;
}

static void shake_hands(struct pr_zmtp *z)
{
    uint8_t hands[64 + 8] = {0xff, [9] = 0x7f, [10] = 3, [64] = 4, [65] = 6};
    memcpy(hands + 12, "NULL", 4);
    memcpy(hands + 66, "\x05READY", 6);
    must(!all_of(z, hands, sizeof hands, 64));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct pr_curve_keys keys = {{1}, {2}};
    struct pr_zmtp z;
    if (n < 2) return 0;
    unsigned how = data[0];
    pr_zmtp_init(&z, how & 1 ? &keys : NULL);
    z.n_reply = 0;
    z.largest = z.most = 4096;
    if (how & 2) z.asked = 64;
    if (!(how & 1) && how & 4) shake_hands(&z);
    all_of(&z, data + 2, n - 2, (size_t)data[1] % 80 + 1);
    pr_zmtp_clear(&z);
    return 0;
}
