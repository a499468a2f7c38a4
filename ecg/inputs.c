/* ecg/inputs.c - see inputs.h. Both hashes are BLAKE2b over a text: a line with the version and the
 * parameters, then one line per file in the dataset's order, so that they can be recomputed by
 * hand.
 */
#define _GNU_SOURCE
#include "ecg/inputs.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

/* Counts up whenever equal inputs would give other bytes in the cache. */
#define PREPROCESSING_VERSION 1
#define INPUT_LIMIT ((size_t)2 << 30)

int ecg_inputs_init(struct ecg_inputs *in, const char *dir, struct cn_error *err)
{
    memset(in, 0, sizeof *in);
    in->dir = realpath(dir, NULL);
    return in->dir ? 0 : cn_fail_errno(err, "%s", dir);
}

void ecg_inputs_clear(struct ecg_inputs *in)
{
    for (int i = 0; i < in->n; i++) free(in->of[i].file);
    free(in->of);
    free(in->dir);
    memset(in, 0, sizeof *in);
}

int ecg_inputs_add(struct ecg_inputs *in, const char *file, struct cn_error *err)
{
    if (in->n == in->cap) {
        int more = in->cap ? in->cap * 2 : 64;
        void *grown = realloc(in->of, (size_t)more * sizeof *in->of);
        if (!grown) return cn_fail(err, CN_ENOMEM, "%s: out of memory", in->dir);
        in->of = grown;
        in->cap = more;
    }
    memset(&in->of[in->n], 0, sizeof *in->of);
    in->of[in->n].file = strdup(file);
    if (!in->of[in->n].file) return cn_fail(err, CN_ENOMEM, "%s: out of memory", in->dir);
    in->n++;
    return 0;
}

static void input_path(const struct ecg_inputs *in, int i, char *path, size_t cap)
{
    snprintf(path, cap, "%s/%s", in->dir, in->of[i].file);
}

/* --- both hashes ----------------------------------------------------------------------------- */

/* One loop over all files; each fills its own line. */
struct scan {
    struct ecg_inputs *in;
    char (*line)[160]; /* [n]: what goes into the hash behind the file's name */
    int hash_content;
    atomic_int failed;      /* lowest index that failed, or n */
    struct cn_error *error; /* [threads] */
    int *error_item;        /* [threads]: lowest failed item of the thread, or n */
};

static int stat_line(struct scan *s, int i, const char *path, struct cn_error *err)
{
    struct stat st;
    if (stat(path, &st)) return cn_fail_errno(err, "%s", path);
    snprintf(s->line[i], sizeof *s->line, "%lld %llu %lld.%09ld %lld.%09ld", (long long)st.st_size,
             (unsigned long long)st.st_ino, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
             (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    return 0;
}

static int content_line(struct scan *s, int i, const char *path, struct cn_error *err)
{
    char *data, hex[CN_HASH_HEX];
    size_t n = 0;
    int rc = cn_file_read(path, INPUT_LIMIT, &data, &n, err);
    if (rc) return rc;
    struct ecg_input *input = &s->in->of[i];
    cn_hash_bytes(data, n, &input->content);
    free(data);
    cn_hash_hex(&input->content, hex);
    snprintf(s->line[i], sizeof *s->line, "%zu %s", n, hex);
    return 0;
}

static void scan_item(void *arg, int i, int thread)
{
    struct scan *s = arg;
    struct cn_error err;
    char path[PATH_MAX];
    if (i > atomic_load(&s->failed)) return;
    input_path(s->in, i, path, sizeof path);
    int rc = s->hash_content ? content_line(s, i, path, &err) : stat_line(s, i, path, &err);
    if (!rc || i > s->error_item[thread]) return;
    s->error[thread] = err;
    s->error_item[thread] = i;
    int low = atomic_load(&s->failed);
    while (i < low && !atomic_compare_exchange_weak(&s->failed, &low, i)) continue;
}

/* The error of the lowest item, so that the message does not depend on the threads. */
static int scan_error(const struct scan *s, int threads, struct cn_error *err)
{
    int low = atomic_load(&s->failed);
    for (int t = 0; t < threads; t++)
        if (s->error_item[t] == low) return cn_fail(err, s->error[t].code, "%s", s->error[t].text);
    return cn_fail(err, CN_EINTERNAL, "%s: a lost error", s->in->dir);
}

static void hash_lines(const struct scan *s, struct cn_hasher *h, const char *head,
                       struct cn_hash *out)
{
    cn_hasher_add(h, head, strlen(head));
    for (int i = 0; i < s->in->n; i++) {
        cn_hasher_add(h, s->in->of[i].file, strlen(s->in->of[i].file));
        cn_hasher_add(h, " ", 1);
        cn_hasher_add(h, s->line[i], strlen(s->line[i]));
        cn_hasher_add(h, "\n", 1);
    }
    cn_hasher_finish(h, out);
}

static int scan_run(struct scan *s, const char *head, struct cn_pool *pool, struct cn_hash *out,
                    struct cn_error *err)
{
    int threads = cn_pool_threads(pool), n = s->in->n, rc = 0;
    s->line = calloc((size_t)n + 1, sizeof *s->line);
    s->error = calloc((size_t)threads, sizeof *s->error);
    s->error_item = calloc((size_t)threads, sizeof *s->error_item);
    struct cn_hasher *h = cn_hasher_create();
    if (!s->line || !s->error || !s->error_item || !h)
        rc = cn_fail(err, CN_ENOMEM, "%s: out of memory", s->in->dir);
    if (!rc) {
        atomic_init(&s->failed, n);
        for (int t = 0; t < threads; t++) s->error_item[t] = n;
        cn_pool_run(pool, n, scan_item, s);
        if (atomic_load(&s->failed) < n) rc = scan_error(s, threads, err);
    }
    if (!rc) hash_lines(s, h, head, out);
    cn_hasher_destroy(h);
    free(s->line);
    free(s->error);
    free(s->error_item);
    return rc;
}

int ecg_inputs_key(const struct ecg_inputs *in, const char *params, struct cn_pool *pool,
                   struct cn_hash *key, struct cn_error *err)
{
    char head[PATH_MAX + 256];
    struct scan s = {.in = (struct ecg_inputs *)in, .hash_content = 0};
    snprintf(head, sizeof head, "cinch dataset key %d %s\n%s\n", PREPROCESSING_VERSION, params,
             in->dir);
    return scan_run(&s, head, pool, key, err);
}

int ecg_inputs_fingerprint(struct ecg_inputs *in, const char *params, struct cn_pool *pool,
                           struct cn_hash *fingerprint, struct cn_error *err)
{
    char head[256];
    struct scan s = {.in = in, .hash_content = 1};
    snprintf(head, sizeof head, "cinch dataset %d %s\n", PREPROCESSING_VERSION, params);
    int rc = scan_run(&s, head, pool, fingerprint, err);
    in->fingerprinted = !rc;
    return rc;
}

int ecg_inputs_read(const struct ecg_inputs *in, int i, size_t limit, struct ecg_bytes *out,
                    struct cn_error *err)
{
    input_path(in, i, out->path, sizeof out->path);
    int rc = cn_file_read(out->path, limit, &out->data, &out->n, err);
    if (rc || !in->fingerprinted) return rc;
    struct cn_hash now;
    cn_hash_bytes(out->data, out->n, &now);
    if (!memcmp(&now, &in->of[i].content, sizeof now)) return 0;
    free(out->data);
    out->data = NULL;
    return cn_fail(err, CN_ESTALE, "%s: changed while the dataset was being built; try again",
                   out->path);
}

/* The name behind the folder. */
static const char *name_of(const struct ecg_input *input)
{
    const char *slash = strrchr(input->file, '/');
    return slash ? slash + 1 : input->file;
}

int ecg_inputs_reader(void *arg, const char *file, size_t limit, struct ecg_bytes *out,
                      struct cn_error *err)
{
    const struct ecg_record_inputs *r = arg;
    for (int i = r->first; i < r->first + r->n; i++)
        if (!strcmp(name_of(&r->in->of[i]), file))
            return ecg_inputs_read(r->in, i, limit, out, err);
    return cn_fail(
        err, CN_EINVALID,
        "'%s' is no file of this dataset's record: its signals lie in '%s'; put them there", file,
        name_of(&r->in->of[r->first + 1]));
}
