/* datasets.c - see datasets.h. A fetched dataset gets the name that ecg/dataset.c gives its own
 * (FINGERPRINT.ecg), so that a file built here and one fetched are the same thing.
 */
#include "workers/datasets.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

struct entry {
    struct entry *next;
    struct cn_hash fingerprint;
    const struct ecg_dataset *data;
    struct ecg_dataset *owned; /* NULL: the caller's */
};

struct datasets {
    pthread_mutex_t lock;
    char folder[2048];
    struct entry *first;
};

static int cache_folder(const char *asked, char *out, size_t cap, struct cn_error *err)
{
    const char *own = getenv("CINCH_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (asked)
        snprintf(out, cap, "%s", asked);
    else if (own && *own)
        snprintf(out, cap, "%s", own);
    else if (xdg && *xdg)
        snprintf(out, cap, "%s/cinch", xdg);
    else if (home && *home)
        snprintf(out, cap, "%s/.cache/cinch", home);
    else
        return cn_fail(err, CN_ENOTFOUND,
                       "no place for datasets: set CINCH_CACHE, XDG_CACHE_HOME or HOME");
    return cn_mkdirs(out, err);
}

static int add(struct datasets *d, const struct ecg_dataset *data, struct ecg_dataset *owned)
{
    struct entry *e = calloc(1, sizeof *e);
    if (!e) return CN_ENOMEM;
    e->fingerprint = data->fingerprint;
    e->data = data;
    e->owned = owned;
    e->next = d->first;
    d->first = e;
    return 0;
}

int datasets_create(struct datasets **out, const struct ecg_dataset *const *given,
                    const char *cache_dir, struct cn_error *err)
{
    *out = NULL;
    struct datasets *d = calloc(1, sizeof *d);
    if (!d) return cn_fail(err, CN_ENOMEM, "out of memory for the datasets");
    pthread_mutex_init(&d->lock, NULL);
    int rc = cache_folder(cache_dir, d->folder, sizeof d->folder, err);
    for (int i = 0; rc == 0 && given && given[i]; i++) rc = add(d, given[i], NULL);
    if (rc) {
        datasets_destroy(d);
        return rc;
    }
    *out = d;
    return 0;
}

void datasets_destroy(struct datasets *d)
{
    if (!d) return;
    for (struct entry *e = d->first, *next; e; e = next) {
        next = e->next;
        ecg_dataset_close(e->owned);
        free(e);
    }
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static struct entry *find(struct datasets *d, const struct cn_hash *fingerprint)
{
    for (struct entry *e = d->first; e; e = e->next)
        if (memcmp(&e->fingerprint, fingerprint, sizeof *fingerprint) == 0) return e;
    return NULL;
}

/* Downloads under a lock of the file system, so that workers of one machine fetch once. */
static int fetch(const struct datasets *d, const struct cn_hash *fingerprint, const char *path,
                 struct pr_client *client, struct cn_error *err)
{
    Cinch__DataGet ask = CINCH__DATA_GET__INIT;
    Cinch__Dataset *set = NULL;
    struct cn_hash blob;
    ask.fingerprint = pr_hash_field(fingerprint);
    int rc = pr_call(client, PR_DATA_GET, &ask, PR_DATASET, &set, err);
    if (rc) return rc;
    if (!set->blob || set->blob->hash.len == 0)
        rc = cn_fail(err, CN_ENOTFOUND,
                     "dataset %s is neither on this machine nor with the coordinator: submit with "
                     "--data, or build it here with `cinch data add`",
                     set->name);
    if (rc == 0) rc = pr_hash_read(&set->blob->hash, &blob, err);
    char lock_path[2200];
    snprintf(lock_path, sizeof lock_path, "%s.lock", path);
    int fd = rc ? -1 : open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (rc == 0 && fd < 0) rc = cn_fail_errno(err, "cannot lock %s", lock_path);
    if (rc == 0) {
        flock(fd, LOCK_EX);
        if (!cn_file_exists(path)) {
            cn_info("worker", "fetching dataset %s, %.1f MB", set->name,
                    (double)set->blob->size * 1e-6);
            rc = pr_blob_get_file(client, &blob, path, NULL, err);
        }
    }
    if (fd >= 0) close(fd);
    pr_free(set);
    return rc;
}

/* With the lock held. */
static int open_one(struct datasets *d, const struct cn_hash *fingerprint, struct pr_client *client,
                    const struct ecg_dataset **out, struct cn_error *err)
{
    char hex[CN_HASH_HEX], path[2150];
    struct ecg_dataset *own = NULL;
    cn_hash_hex(fingerprint, hex);
    snprintf(path, sizeof path, "%s/%s.ecg", d->folder, hex);
    int rc = cn_file_exists(path) ? 0 : fetch(d, fingerprint, path, client, err);
    if (rc == 0) rc = ecg_dataset_map(&own, path, err);
    if (rc) return rc;
    if (memcmp(&own->fingerprint, fingerprint, sizeof *fingerprint) != 0)
        rc = cn_fail(err, CN_ECORRUPT, "%s holds another dataset than its name says: delete it",
                     path);
    if (rc == 0 && add(d, own, own)) rc = cn_fail(err, CN_ENOMEM, "out of memory for a dataset");
    if (rc)
        ecg_dataset_close(own);
    else
        *out = own;
    return rc;
}

int datasets_get(struct datasets *d, const struct cn_hash *fingerprint, struct pr_client *client,
                 const struct ecg_dataset **out, struct cn_error *err)
{
    pthread_mutex_lock(&d->lock);
    struct entry *e = find(d, fingerprint);
    int rc = 0;
    if (e)
        *out = e->data;
    else
        rc = open_one(d, fingerprint, client, out, err);
    pthread_mutex_unlock(&d->lock);
    return rc;
}

int datasets_here(struct datasets *d, struct cn_hash **list, int *n, int limit)
{
    struct cn_hash *l = calloc((size_t)limit, sizeof *l);
    int count = 0;
    if (!l) return CN_ENOMEM;
    pthread_mutex_lock(&d->lock);
    for (struct entry *e = d->first; e && count < limit; e = e->next) l[count++] = e->fingerprint;
    DIR *folder = opendir(d->folder);
    for (struct dirent *f; folder && count < limit && (f = readdir(folder));) {
        char hex[CN_HASH_HEX];
        struct cn_hash h;
        size_t len = strlen(f->d_name);
        if (len != CN_HASH_HEX - 1 + 4 || strcmp(f->d_name + CN_HASH_HEX - 1, ".ecg") != 0)
            continue;
        memcpy(hex, f->d_name, CN_HASH_HEX - 1);
        hex[CN_HASH_HEX - 1] = 0;
        if (cn_hash_parse(hex, &h) == 0 && !find(d, &h)) l[count++] = h;
    }
    if (folder) closedir(folder);
    pthread_mutex_unlock(&d->lock);
    *list = l;
    *n = count;
    return 0;
}
