/* Blobs on their way: broken off anywhere, spoilt, large ones that are hashed while they are sent, and a coordinator that is away
 * behind a tunnel that still answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "coordinator/upload.h"
#include "harness.h"

enum { PART = (2 << 20) + 100 };

/* Where the harness's user sends that many bytes of that hash to. */
static void part_of(const struct fixture *f, const struct cn_hash *hash, char *out, size_t cap)
{
    struct up_key key = {.name = *hash, .size = PART, .user = up_user("tester")};
    up_part_path(f->state, &key, out, cap);
}

/* Uploads that a kill left behind at every length, the full one too: the last byte was written, the hash not yet verified. */
static void broken_off_uploads_go_on(void **state)
{
    struct fixture f;
    char *data = malloc(PART), path[256];
    static const size_t left[] = {0, 1, 1 << 20, PART - 1, PART, PART + 5};
    fixture_open(&f, NULL);
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        struct cn_hash hash;
        void *back;
        size_t n;
        memset(data, 'a' + (int)i, PART);
        cn_hash_bytes(data, PART, &hash);
        part_of(&f, &hash, path, sizeof path);
        char *part = calloc(1, left[i] + 1);
        memcpy(part, data, left[i] < PART ? left[i] : PART);
        assert_int_equal(cn_file_write(path, part, left[i], NULL), 0);
        free(part);
        if (pr_blob_put(f.client, data, PART, &hash, &f.err))
            fail_msg("%zu left: %s", left[i], f.err.text);
        assert_false(cn_file_exists(path));
        assert_int_equal(pr_blob_get(f.client, &hash, PART, &back, &n, &f.err), 0);
        assert_int_equal(n, PART);
        assert_memory_equal(back, data, PART);
        free(back);
    }
    struct cn_hash hash;
    assert_int_equal(pr_blob_put(f.client, "", 0, &hash, &f.err),
                     0); /* the empty blob is one too */
    memset(data, 'z', PART);
    cn_hash_bytes(data, PART, &hash);
    part_of(&f, &hash, path, sizeof path);
    assert_int_equal(cn_file_write(path, data, 5, NULL), 0);
    FILE *wrong = fopen(path, "r+");
    fputc('x', wrong);
    fclose(wrong);
    assert_int_equal(pr_blob_put(f.client, data, PART, &hash, &f.err),
                     CN_ECORRUPT); /* what lay there was spoilt */
    assert_int_equal(pr_blob_put(f.client, data, PART, &hash, &f.err), 0); /* and is gone now */
    free(data);
    fixture_close(&f);
}

static void downloads_go_on_where_they_stopped(void **state)
{
    struct fixture f;
    enum { N = 3 << 20 };
    char *data = malloc(N), path[128], part[170], hex[CN_HASH_HEX], *back;
    struct cn_hash hash, other;
    size_t n;
    fixture_open(&f, NULL);
    for (int i = 0; i < N; i++) data[i] = (char)(i >> 8);
    assert_int_equal(pr_blob_put(f.client, data, N, &hash, &f.err), 0);
    snprintf(path, sizeof path, "%s/got", f.dir);
    cn_hash_hex(&hash, hex);
    snprintf(part, sizeof part, "%s.%.16s.part", path, hex); /* of this blob and no other */
    static const size_t left[] = {0, 5, 1 << 20, N};
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        assert_int_equal(cn_file_write(part, data, left[i], NULL), 0);
        assert_int_equal(pr_blob_get_file(f.client, &hash, path, NULL, &f.err), 0);
        assert_int_equal(cn_file_read(path, N, &back, &n, NULL), 0);
        assert_int_equal(n, N);
        assert_memory_equal(back, data, N);
        free(back);
        assert_false(cn_file_exists(part));
    }
    data[0] ^= 1; /* a spoilt part is noticed, and does not lie in the way the next time */
    assert_int_equal(cn_file_write(part, data, 100, NULL), 0);
    assert_int_equal(pr_blob_get_file(f.client, &hash, path, NULL, &f.err), CN_ECORRUPT);
    assert_int_equal(pr_blob_get_file(f.client, &hash, path, NULL, &f.err), 0);
    other = hash;
    other.b[0] ^= 1;
    assert_int_equal(pr_blob_get_file(f.client, &other, path, NULL, &f.err), CN_ENOTFOUND);
    data[1] ^= 1; /* what is left of one blob is never taken for the start of another */
    assert_int_equal(pr_blob_put(f.client, data, N, &other, &f.err), 0);
    assert_int_equal(cn_file_write(part, data, 100, NULL), 0);
    assert_int_equal(pr_blob_get_file(f.client, &other, path, NULL, &f.err), 0);
    assert_true(cn_file_exists(part));
    free(data);
    fixture_close(&f);
}

/* ---- large ones */

enum { LARGE = (20 << 20) + 12345 }; /* above what is hashed before it is sent */

static uint8_t *make_large(uint8_t flavour)
{
    uint8_t *data = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++) data[i] = (uint8_t)(i * 31 + (i >> 13));
    data[100000] ^= flavour; /* at none of the bytes that the made-up name comes from */
    return data;
}

/* The only file under STATE/partial; "" when there is none. */
static void only_part(const struct fixture *f, char *out, size_t cap)
{
    char dir[128];
    snprintf(dir, sizeof dir, "%s/partial", f->state);
    *out = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        if (*e->d_name != '.') snprintf(out, cap, "%s/%s", dir, e->d_name);
    closedir(d);
}

static void is_stored(struct fixture *f, const uint8_t *data, const struct cn_hash *hash)
{
    struct cn_hash want;
    void *back;
    size_t n;
    cn_hash_bytes(data, LARGE, &want);
    assert_memory_equal(hash, &want, sizeof want);
    assert_int_equal(pr_blob_get(f->client, hash, LARGE, &back, &n, &f->err), 0);
    assert_int_equal(n, LARGE);
    assert_memory_equal(back, data, LARGE);
    free(back);
}

struct breaking { /* stops a transfer once so many bytes are there */
    uint64_t at, first;
};

static int break_off(void *arg, uint64_t done, uint64_t total)
{
    struct breaking *b = arg;
    if (!b->first) b->first = done;
    return b->at && done >= b->at;
}

/* The sender does not know the hash yet when it stops; the next one goes on all the same. */
static void a_large_upload_goes_on_where_it_stopped(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    uint8_t *data = make_large(0);
    char path[128], part[512];
    struct cn_hash hash;
    struct breaking b = {.at = 9 << 20};
    struct pr_blob_progress progress = {break_off, &b};
    snprintf(path, sizeof path, "%s/large", f.dir);
    assert_int_equal(cn_file_write(path, data, LARGE, NULL), 0);
    assert_int_equal(pr_blob_put_file(f.client, path, &hash, NULL, &progress, &f.err),
                     CN_EINTERRUPTED);
    only_part(&f, part, sizeof part);
    assert_true(*part);
    b = (struct breaking){0};
    assert_int_equal(pr_blob_put_file(f.client, path, &hash, NULL, &progress, &f.err), 0);
    assert_true(b.first > 9 << 20); /* not from the beginning */
    is_stored(&f, data, &hash);
    only_part(&f, part, sizeof part);
    assert_string_equal(part, "");
    assert_int_equal(pr_blob_put(f.client, data, LARGE, &hash, &f.err), 0); /* once more */
    only_part(&f, part, sizeof part);
    assert_string_equal(part, "");
    free(data);
    fixture_close(&f);
}

/* What lies under the made-up name is somebody else's: both ends see it by the hash, and it is sent anew. */
static void a_large_upload_survives_a_name_that_is_taken(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    uint8_t *one = make_large(1), *two = make_large(2);
    char path[128], part[512];
    struct cn_hash hash, other;
    struct breaking b = {.at = 9 << 20};
    struct pr_blob_progress progress = {break_off, &b};
    snprintf(path, sizeof path, "%s/large", f.dir);
    assert_int_equal(cn_file_write(path, one, LARGE, NULL), 0);
    assert_int_equal(pr_blob_put_file(f.client, path, &hash, NULL, &progress, &f.err),
                     CN_EINTERRUPTED);
    assert_int_equal(pr_blob_put(f.client, two, LARGE, &other, &f.err), 0);
    is_stored(&f, two, &other);
    b.at = 0;
    assert_int_equal(pr_blob_put_file(f.client, path, &hash, NULL, &progress, &f.err), 0);
    is_stored(&f, one, &hash);
    assert_memory_not_equal(&hash, &other, sizeof hash);
    only_part(&f, part, sizeof part);
    assert_string_equal(part, "");
    free(one);
    free(two);
    fixture_close(&f);
}

struct sender {
    struct fixture *f;
    const uint8_t *data;
    struct cn_hash hash;
    int rc;
};

static void *send_one(void *arg)
{
    struct sender *s = arg;
    struct pr_client *c;
    struct pr_connect how = {.endpoint = s->f->ipc, .user = "tester", .timeout_ms = 60000};
    struct cn_error err;
    s->rc = pr_client_open(&c, &how, &err);
    if (s->rc) return NULL;
    s->rc = pr_blob_put(c, s->data, LARGE, &s->hash, &err);
    pr_client_close(c);
    return NULL;
}

/* Two that differ where the name does not look, and two that are equal, all at once. */
static void large_uploads_side_by_side(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    uint8_t *one = make_large(1), *two = make_large(2);
    struct sender s[4] = {
        {&f, one, {{0}}, 0}, {&f, two, {{0}}, 0}, {&f, one, {{0}}, 0}, {&f, two, {{0}}, 0}};
    pthread_t t[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&t[i], NULL, send_one, &s[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(s[i].rc, 0);
        is_stored(&f, s[i].data, &s[i].hash);
    }
    free(one);
    free(two);
    fixture_close(&f);
}

/* ---- a tunnel whose far end is away */

struct tunnel {
    int fd, port;
    pthread_t thread;
    atomic_int stop;
};

static void *hang_up(void *arg)
{
    struct tunnel *t = arg;
    while (!atomic_load(&t->stop)) {
        struct pollfd p = {t->fd, POLLIN, 0};
        int c = poll(&p, 1, 50) == 1 ? accept(t->fd, NULL, NULL) : -1;
        if (c >= 0) close(c);
    }
    return NULL;
}

static void tunnel_open(struct tunnel *t)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    memset(t, 0, sizeof *t);
    t->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(t->fd, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(t->fd, 16), 0);
    assert_int_equal(getsockname(t->fd, (struct sockaddr *)&a, &n), 0);
    t->port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&t->thread, NULL, hang_up, t), 0);
}

/* A worker whose key was good must take that for an outage, not for a refusal: else a job fails because the coordinator is away. */
static void who_hangs_up_is_away_when_the_key_is_known(void **state)
{
    struct fixture f;
    struct tunnel t;
    struct pr_key k;
    struct pr_client *c;
    char file[128], where[64];
    fixture_open(&f, NULL);
    tunnel_open(&t);
    assert_int_equal(pr_key_make(&k, "far", "worker", &f.err), 0);
    strcpy(k.server, k.public_key); /* any will do: nobody answers */
    snprintf(file, sizeof file, "%s/far.key", f.dir);
    assert_int_equal(pr_key_save(&k, file, &f.err), 0);
    snprintf(where, sizeof where, "tcp://127.0.0.1:%d", t.port);
    struct pr_connect how = {.endpoint = where, .key_file = file, .timeout_ms = 2500, .known = 1};
    assert_int_equal(pr_client_open(&c, &how, &f.err), CN_ECONNECT);
    how.known = 0;
    assert_int_equal(pr_client_open(&c, &how, &f.err), CN_EREFUSED);
    atomic_store(&t.stop, 1);
    pthread_join(t.thread, NULL);
    close(t.fd);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_off_uploads_go_on),
        cmocka_unit_test(downloads_go_on_where_they_stopped),
        cmocka_unit_test(a_large_upload_goes_on_where_it_stopped),
        cmocka_unit_test(a_large_upload_survives_a_name_that_is_taken),
        cmocka_unit_test(large_uploads_side_by_side),
        cmocka_unit_test(who_hangs_up_is_away_when_the_key_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
