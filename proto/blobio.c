/* proto/blobio.c - fetching blobs: 1 MiB chunks, a few of them under way at once, continued where it
 * stopped when the connection or the coordinator went away, hashes verified on this end too.
 * Sending them is in blobput.c. */
#define _GNU_SOURCE /* asprintf */
#include "proto/client_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"

enum {
    STALL_MS = 3000, /* no answer for so long: start over from what the coordinator has */
};

int pr_blob_report(const struct pr_blob_progress *p, uint64_t done, uint64_t total,
                   struct cn_error *err)
{
    if (p && p->fn && p->fn(p->arg, done, total))
        return cn_fail(err, CN_EINTERRUPTED, "transfer stopped");
    return 0;
}

int pr_blob_reply(struct pr_client *c, struct pr_message *m, uint64_t first, struct cn_error *err)
{
    int64_t deadline = cn_mono_ms() + STALL_MS;
    for (;;) {
        int rc = pr_client_recv(c, m, deadline, err);
        if (rc <= 0) return rc;
        if (pr_says_hello(m)) {
            pr_message_clear(m);
            rc = pr_client_hello(c, cn_mono_ms() + c->how.timeout_ms, err);
            return rc ? rc : 0;
        }
        if (m->h.id >= first && m->h.id < c->next_id) return 1;
        pr_message_clear(m);
    }
}

struct get {
    const struct cn_hash *hash;
    const struct pr_blob_progress *progress;
    uint64_t size;  /* ~0: not known yet */
    uint64_t have;  /* written so far */
    uint64_t limit; /* refuse larger ones */
    int (*write)(struct get *g, uint64_t offset, const void *data, size_t n, struct cn_error *err);
    struct cn_hasher *hasher;
    uint8_t *mem; /* pr_blob_get */
    int fd;       /* pr_blob_get_file */
    bool spoilt;  /* the disk failed: nobody knows what the part holds */
};

static int ask_chunk(struct pr_client *c, const struct get *g, uint64_t at, struct cn_error *err)
{
    Cinch__BlobGet q = CINCH__BLOB_GET__INIT;
    q.hash = pr_hash_field(g->hash);
    q.offset = at;
    q.length = PR_CHUNK;
    return pr_client_send(c, PR_BLOB_GET, c->next_id++, &q, NULL, 0, err);
}

static int take_chunk(struct get *g, const struct pr_message *m, struct cn_error *err)
{
    const Cinch__BlobChunk *b = (const void *)m->body;
    size_t n = zmq_msg_size((zmq_msg_t *)&m->data);
    if (g->size == UINT64_MAX && b->size > g->limit)
        return cn_fail(err, CN_ELIMIT, "blob of %llu bytes, above the limit of %llu",
                       (unsigned long long)b->size, (unsigned long long)g->limit);
    if (g->size == UINT64_MAX) g->size = b->size;
    if (b->size != g->size || g->have > g->size || n > PR_CHUNK || n > g->size - g->have)
        return cn_fail(err, CN_ECORRUPT, "blob: the coordinator's chunks do not fit together");
    if (b->offset != g->have || (!n && g->have < g->size))
        return 0; /* a leftover of an earlier try */
    const void *data = zmq_msg_data((zmq_msg_t *)&m->data);
    int rc = g->write(g, g->have, data, n, err);
    if (rc) return rc;
    cn_hasher_add(g->hasher, data, n);
    g->have += n;
    return pr_blob_report(g->progress, g->have, g->size, err);
}

/* Fetches from g->have on: 1 complete, 0 start over. */
static int get_stream(struct pr_client *c, struct get *g, struct cn_error *err)
{
    uint64_t at = g->have, first = c->next_id, before = g->have;
    int under_way = 0;
    while (g->size == UINT64_MAX || g->have < g->size) {
        /* the size is known after the first chunk */
        while (under_way < (g->size == UINT64_MAX ? 1 : PR_BLOB_WINDOW) &&
               (g->size == UINT64_MAX || at < g->size)) {
            int rc = ask_chunk(c, g, at, err);
            if (rc == CN_EBUSY) break;
            if (rc) return rc == CN_ECONNECT ? 0 : rc;
            at += PR_CHUNK;
            under_way++;
        }
        if (!under_way) return 0;
        struct pr_message m;
        int rc = pr_blob_reply(c, &m, first, err);
        if (rc <= 0) return rc;
        under_way--;
        rc = pr_reply_error(&m, err);
        if (!rc && m.h.type == PR_BLOB_CHUNK) rc = take_chunk(g, &m, err);
        pr_message_clear(&m);
        if (rc) return rc;
        if (g->have == before && !under_way) return 0;
    }
    return 1;
}

/* Other bytes came than the hash asks for. The coordinator looks whether its own are: if so, it puts
 * them aside and has them made again. */
static int report(struct pr_client *c, const struct cn_hash *hash, struct cn_error *err)
{
    char hex[CN_HASH_HEX];
    Cinch__BlobHave q = CINCH__BLOB_HAVE__INIT;
    Cinch__BlobState *s = NULL;
    cn_hash_hex(hash, hex);
    q.hash = pr_hash_field(hash);
    q.suspect = 1;
    bool there = pr_call(c, PR_BLOB_HAVE, &q, PR_BLOB_STATE, &s, err) || s->complete;
    pr_free(s);
    if (there)
        return cn_fail(err, CN_ECORRUPT,
                       "blob %s arrived with another hash than asked for; fetch it again", hex);
    return cn_fail(
        err, CN_ENOTFOUND,
        "blob %s is damaged at the coordinator, which has put it aside; it is made again "
        "where that is possible",
        hex);
}

static int get_all(struct pr_client *c, struct get *g, struct cn_error *err)
{
    int64_t deadline = cn_mono_ms() + c->how.timeout_ms;
    for (;;) {
        uint64_t before = g->have;
        int rc = get_stream(c, g, err);
        if (rc < 0) return rc;
        if (rc) break;
        if (g->have > before) deadline = cn_mono_ms() + c->how.timeout_ms;
        if (cn_mono_ms() > deadline)
            return cn_fail(err, CN_ECONNECT, "fetching a blob from %s: no progress",
                           c->how.endpoint);
    }
    struct cn_hash got;
    cn_hasher_finish(g->hasher, &got);
    return memcmp(got.b, g->hash->b, CN_HASH_BYTES) ? report(c, g->hash, err) : 0;
}

static int write_mem(struct get *g, uint64_t offset, const void *data, size_t n,
                     struct cn_error *err)
{
    if (!g->mem && !(g->mem = malloc(g->size + 1)))
        return cn_fail(err, CN_ENOMEM, "blob: out of memory");
    if (n) memcpy(g->mem + offset, data, n);
    return 0;
}

int pr_blob_get(struct pr_client *c, const struct cn_hash *hash, size_t limit, void **data,
                size_t *n, struct cn_error *err)
{
    struct get g = {.hash = hash, .size = UINT64_MAX, .limit = limit, .write = write_mem, .fd = -1};
    *data = NULL;
    *n = 0;
    if (!(g.hasher = cn_hasher_create())) return cn_fail(err, CN_ENOMEM, "blob: out of memory");
    int rc = get_all(c, &g, err);
    cn_hasher_destroy(g.hasher);
    if (rc) {
        free(g.mem);
        return rc;
    }
    g.mem[g.size] = 0;
    *data = g.mem;
    *n = g.size;
    return 0;
}

static int write_fd(struct get *g, uint64_t offset, const void *data, size_t n,
                    struct cn_error *err)
{
    const char *p = data;
    while (n) {
        ssize_t put = pwrite(g->fd, p, n, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        g->spoilt = put < 0 && errno == EIO;
        if (put < 0) return cn_fail_errno(err, "writing a fetched blob");
        p += put;
        offset += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

/* Feeds what an earlier download left into the hasher; g->have becomes its length. */
static int take_part(struct get *g, const char *part, struct cn_error *err)
{
    g->fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (g->fd < 0) return cn_fail_errno(err, "%s", part);
    static const size_t step = 1 << 16;
    char *buf = malloc(step);
    if (!buf) return cn_fail(err, CN_ENOMEM, "%s: out of memory", part);
    ssize_t got;
    while ((got = read(g->fd, buf, step)) > 0) {
        cn_hasher_add(g->hasher, buf, (size_t)got);
        g->have += (uint64_t)got;
    }
    free(buf);
    return got < 0 ? cn_fail_errno(err, "%s", part) : 0;
}

static int get_into(struct pr_client *c, struct get *g, const char *part, const char *path,
                    struct cn_error *err)
{
    int rc = take_part(g, part, err);
    if (!rc) rc = get_all(c, g, err);
    if (!rc && ftruncate(g->fd, (off_t)g->size)) rc = cn_fail_errno(err, "%s", part);
    if (!rc && (g->spoilt = fsync(g->fd))) rc = cn_fail_errno(err, "%s: fsync", part);
    if (g->fd >= 0) close(g->fd);
    if (rc == CN_ECORRUPT || rc == CN_ENOTFOUND || g->spoilt) unlink(part);
    return rc ? rc : cn_file_rename(part, path, err);
}

int pr_blob_get_file(struct pr_client *c, const struct cn_hash *hash, const char *path,
                     const struct pr_blob_progress *progress, struct cn_error *err)
{
    char *target = cn_file_target(path, err), *part = NULL, hex[CN_HASH_HEX];
    if (!target) return CN_EIO;
    cn_hash_hex(hash, hex);
    if (asprintf(&part, "%s.%.16s.part", target, hex) < 0) part = NULL;
    struct get g = {.hash = hash,
                    .size = UINT64_MAX,
                    .limit = PR_MAX_BLOB,
                    .write = write_fd,
                    .fd = -1,
                    .progress = progress};
    g.hasher = cn_hasher_create();
    int rc = part && g.hasher ? 0 : cn_fail(err, CN_ENOMEM, "blob: out of memory");
    if (!rc) rc = get_into(c, &g, part, target, err);
    cn_hasher_destroy(g.hasher);
    free(part);
    free(target);
    return rc;
}
