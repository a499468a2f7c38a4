/* Fuzz target of the protocol: any bytes as header and body of any message end in a checked message that can be packed, or in a
 * complaint; and any grid that passes its checks expands to a set of jobs whose parents come first. Input: 2 bytes
 * of message type, then the body. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/expand.h"
#include "proto/check.h"
#include "proto/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void round_trip(int type, const ProtobufCMessage *m)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *bytes = malloc(n + 1);
    ProtobufCMessage *again;
    if (!bytes) return;
    if (protobuf_c_message_pack(m, bytes) != n) __builtin_trap();
    /* fields that are not in the schema may come back differently: protobuf-c takes a tag of 0, but not twice */
    if (!pr_unpack(&again, type, bytes, n, NULL)) pr_free(again);
    free(bytes);
}

static double cells(const Cinch__Submit *s)
{
    double rounds = 0;
    for (size_t i = 0; s->prune && i < s->prune->n_rounds; i++) rounds += s->prune->rounds[i];
    double variants = s->prune ? rounds * (double)s->prune->n_keep * (double)s->prune->n_norms : 0;
    return (double)s->n_nets * (double)s->n_seeds * (double)(s->n_distill + 1) * (variants + 2);
}

static void expand(const Cinch__Submit *s)
{
    struct ex_grid g;
    if (s->fingerprint.len != CN_HASH_BYTES || cells(s) > 3000 || ex_expand(&g, s, 0, NULL)) return;
    for (uint32_t i = 0; i < g.n; i++) {
        for (int k = 0; k < PR_MAX_PARENTS; k++)
            if (g.job[i].parent[k] > i) __builtin_trap();
        if (g.job[i].base >= g.n_bases) __builtin_trap();
        for (uint32_t k = i > 50 ? i - 50 : 0; k < i; k++)
            if (!memcmp(&g.job[i].key, &g.job[k].key, sizeof g.job[i].key)) __builtin_trap();
    }
    ex_clear(&g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct pr_header h;
    struct cn_error err;
    if (n >= PR_HEADER_BYTES) pr_header_get(&h, data, PR_HEADER_BYTES, &err);
    if (n < 2) return 0;
    int type = data[0] | data[1] << 8;
    ProtobufCMessage *m;
    if (pr_unpack(&m, type, data + 2, n - 2, &err)) return 0;
    round_trip(type, m);
    if (!pr_check(type, m, &err) && type == PR_SUBMIT)
        expand((const Cinch__Submit *)(const void *)m);
    pr_free(m);
    return 0;
}
