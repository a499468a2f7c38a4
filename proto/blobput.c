/* proto/blobput.c - sending blobs: 1 MiB chunks, a few of them under way at once, continued where it
 * stopped when the connection or the coordinator went away.
 *
 * A blob's name is its hash, and hashing takes as long as sending. So a large one is sent under a
 * name made from its size and some of its bytes while a thread hashes it; the last chunk carries the
 * hash, which the coordinator compares with its own. Two senders whose different blobs got the same
 * made-up name spoil each other's upload: the hash shows it, and both send again under their hashes.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "proto/client_private.h"

enum {
    SAMPLES = 16,
    SAMPLE_BYTES = 4096,
    HASH_STEP = 1 << 20,
};
static const uint64_t LARGE = 16 << 20; /* hashing less first does not show */

struct ahead { /* the hash, made while the bytes go out */
    const uint8_t *data;
    uint64_t n;
    pthread_t thread;
    bool running;
    atomic_bool stop, known;
    struct cn_hash hash;
};

struct put {
    const uint8_t *data;
    uint64_t n;
    struct cn_hash name; /* of the upload: the hash, or made up */
    bool made_up;
    struct ahead ahead;
    const struct pr_blob_progress *progress;
    uint64_t have; /* what the coordinator says that it has */
    int complete;
};

static void *hash_ahead(void *arg)
{
    struct ahead *a = arg;
    struct cn_hasher *h = cn_hasher_create();
    if (!h) return NULL;
    for (uint64_t at = 0; at < a->n && !atomic_load(&a->stop); at += HASH_STEP)
        cn_hasher_add(h, a->data + at, a->n - at < HASH_STEP ? a->n - at : HASH_STEP);
    cn_hasher_finish(h, &a->hash);
    cn_hasher_destroy(h);
    atomic_store(&a->known, !atomic_load(&a->stop));
    return NULL;
}

/* The blob's hash, waited for; hashes here when the thread could not. */
static const struct cn_hash *true_hash(struct put *p)
{
    struct ahead *a = &p->ahead;
    if (a->running) pthread_join(a->thread, NULL);
    a->running = false;
    if (!atomic_load(&a->known)) cn_hash_bytes(p->data, p->n, &a->hash);
    atomic_store(&a->known, true);
    return &a->hash;
}

/* A name that the same bytes get again, without reading all of them. */
static void make_name(struct put *p)
{
    uint8_t text[8 + SAMPLES * SAMPLE_BYTES];
    uint64_t step = (p->n - SAMPLE_BYTES) / (SAMPLES - 1);
    memcpy(text, &p->n, 8);
    for (int i = 0; i < SAMPLES; i++)
        memcpy(text + 8 + i * SAMPLE_BYTES, p->data + (uint64_t)i * step, SAMPLE_BYTES);
    cn_hash_bytes(text, sizeof text, &p->name);
}

static void name_upload(struct put *p)
{
    p->ahead.data = p->data;
    p->ahead.n = p->n;
    if (p->n >= LARGE) {
        p->ahead.running = !pthread_create(&p->ahead.thread, NULL, hash_ahead, &p->ahead);
        p->made_up = p->ahead.running;
    }
    if (p->made_up)
        make_name(p);
    else
        p->name = *true_hash(p);
}

/* Whether `hash` is there, or how much of it. */
static int ask_have(struct pr_client *c, struct put *p, const struct cn_hash *hash,
                    struct cn_error *err)
{
    Cinch__BlobHave q = CINCH__BLOB_HAVE__INIT;
    q.hash = pr_hash_field(hash);
    Cinch__BlobState *s;
    int rc = pr_call(c, PR_BLOB_HAVE, &q, PR_BLOB_STATE, &s, err);
    if (rc) return rc;
    p->complete = s->complete;
    p->have = s->offset <= p->n ? s->offset : 0;
    pr_free(s);
    return 0;
}

static int send_chunk(struct pr_client *c, struct put *p, uint64_t at, struct cn_error *err)
{
    Cinch__BlobPut q = CINCH__BLOB_PUT__INIT;
    uint64_t left = p->n - at;
    q.hash = pr_hash_field(&p->name);
    q.size = p->n;
    q.offset = at;
    if (p->made_up && left <= PR_CHUNK) q.final = pr_hash_field(true_hash(p));
    return pr_client_send(c, PR_BLOB_PUT, c->next_id++, &q, p->data + at,
                          left < PR_CHUNK ? left : PR_CHUNK, err);
}

/* One reply. 1: complete. */
static int take_state(struct put *p, struct pr_message *m, struct cn_error *err)
{
    int rc = pr_reply_error(m, err);
    if (!rc && m->h.type == PR_BLOB_STATE) {
        const Cinch__BlobState *s = (const void *)m->body;
        p->complete = s->complete;
        p->have = s->offset;
    }
    pr_message_clear(m);
    return rc ? rc : p->complete;
}

/* Sends from p->have on until complete (1), or until something makes starting over necessary (0). */
static int put_stream(struct pr_client *c, struct put *p, struct cn_error *err)
{
    uint64_t at = p->have, first = c->next_id;
    int under_way = 0;
    for (;;) {
        /* All bytes may be there and only not be verified: the coordinator was killed in between. An empty
         * chunk at the end (also that of an empty blob) asks for it. */
        while (under_way < PR_BLOB_WINDOW && (at < p->n || (p->have == p->n && !under_way))) {
            int rc = send_chunk(c, p, at, err);
            if (rc == CN_EBUSY) break;
            if (rc) return rc == CN_ECONNECT ? 0 : rc;
            at += p->n - at < PR_CHUNK ? p->n - at : PR_CHUNK;
            under_way++;
        }
        struct pr_message m;
        int rc = pr_blob_reply(c, &m, first, err);
        if (rc <= 0) return rc;
        under_way--;
        rc = take_state(p, &m, err);
        if (!rc) rc = pr_blob_report(p->progress, p->have, p->n, err);
        if (rc) return rc;
        if (!under_way && at >= p->n) return 0; /* all sent, not complete: chunks were lost */
    }
}

/* One try: 1 complete, 0 try again. */
static int put_once(struct pr_client *c, struct put *p, struct cn_error *err)
{
    int rc = 0;
    /* The last reply may be what got lost. */
    if (p->made_up && atomic_load(&p->ahead.known)) rc = ask_have(c, p, true_hash(p), err);
    if (!rc && !p->complete) rc = ask_have(c, p, &p->name, err);
    if (rc || p->complete) return rc ? rc : 1;
    rc = put_stream(c, p, err);
    if (rc != CN_ECORRUPT || !p->made_up) return rc;
    p->name = *true_hash(p);
    p->made_up = false;
    return 0;
}

static int put_all(struct pr_client *c, struct put *p, struct cn_error *err)
{
    int64_t deadline = cn_mono_ms() + c->how.timeout_ms;
    uint64_t best = 0;
    for (;;) {
        int rc = put_once(c, p, err);
        if (rc < 0) return rc;
        if (rc) return pr_blob_report(p->progress, p->n, p->n, err);
        if (p->have > best) deadline = cn_mono_ms() + c->how.timeout_ms;
        if (p->have > best) best = p->have;
        if (cn_mono_ms() > deadline)
            return cn_fail(err, CN_ECONNECT, "sending a blob to %s: no progress", c->how.endpoint);
    }
}

static int put(struct pr_client *c, struct put *p, struct cn_hash *hash, struct cn_error *err)
{
    name_upload(p);
    int rc = put_all(c, p, err);
    if (rc) atomic_store(&p->ahead.stop, true);
    if (!rc) *hash = *true_hash(p);
    if (p->ahead.running) pthread_join(p->ahead.thread, NULL);
    return rc;
}

int pr_blob_put(struct pr_client *c, const void *data, size_t n, struct cn_hash *hash,
                struct cn_error *err)
{
    struct put p = {.data = data, .n = n};
    return put(c, &p, hash, err);
}

int pr_blob_put_file(struct pr_client *c, const char *path, struct cn_hash *hash, uint64_t *size,
                     const struct pr_blob_progress *progress, struct cn_error *err)
{
    struct cn_map map;
    int rc = cn_map_open(&map, path, err);
    if (rc) return rc;
    struct put p = {.data = map.data, .n = map.n, .progress = progress};
    rc = put(c, &p, hash, err);
    if (size) *size = map.n;
    cn_map_close(&map);
    return rc;
}
