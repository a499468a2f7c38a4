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
#include "workers/cacheroom.h"

struct entry {
    struct entry *next;
    struct cn_hash fingerprint;
    const struct ecg_dataset *data;
    struct ecg_dataset *owned; /* NULL: the caller's */
    int lock_fd;               /* shared while it is open, where it was fetched; else -1 */
    int users;                 /* datasets_get without their datasets_put */
};

struct datasets {
    pthread_mutex_t lock;
    char folder[2048];
    uint64_t limit; /* bytes of the folder; 0: none */
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

static int add(struct datasets *d, const struct ecg_dataset *data, struct ecg_dataset *owned,
               int lock_fd)
{
    struct entry *e = calloc(1, sizeof *e);
    if (!e) return CN_ENOMEM;
    e->fingerprint = data->fingerprint;
    e->data = data;
    e->owned = owned;
    e->lock_fd = lock_fd;
    e->next = d->first;
    d->first = e;
    return 0;
}

static void entry_free(struct entry *e)
{
    ecg_dataset_close(e->owned);
    if (e->lock_fd >= 0) close(e->lock_fd);
    free(e);
}

/* With the lock held, or before anybody else knows d. */
static void close_idle(void *arg, const struct cn_hash *fingerprint)
{
    struct datasets *d = arg;
    struct entry **at = &d->first;
    while (*at && memcmp(&(*at)->fingerprint, fingerprint, sizeof *fingerprint) != 0)
        at = &(*at)->next;
    struct entry *e = *at;
    if (!e || !e->owned || e->users) return;
    *at = e->next;
    entry_free(e);
}

/* With the lock held. */
static void make_room(struct datasets *d, uint64_t incoming)
{
    uint64_t over = d->limit ? cacheroom_make(d->folder, d->limit, incoming, close_idle, d) : 0;
    if (over && incoming)
        cn_warn(
            "worker",
            "%s will be %.1f MB above --cache-limit: what else is there is in use, or was built "
            "on this machine",
            d->folder, (double)over * 1e-6);
}

int datasets_create(struct datasets **out, const struct ecg_dataset *const *given,
                    const char *cache_dir, uint64_t limit, struct cn_error *err)
{
    *out = NULL;
    struct datasets *d = calloc(1, sizeof *d);
    if (!d) return cn_fail(err, CN_ENOMEM, "out of memory for the datasets");
    pthread_mutex_init(&d->lock, NULL);
    int rc = cache_folder(cache_dir, d->folder, sizeof d->folder, err);
    for (int i = 0; rc == 0 && given && given[i]; i++) rc = add(d, given[i], NULL, -1);
    if (rc) {
        datasets_destroy(d);
        return rc;
    }
    d->limit = limit;
    make_room(d, 0);
    *out = d;
    return 0;
}

void datasets_destroy(struct datasets *d)
{
    if (!d) return;
    for (struct entry *e = d->first, *next; e; e = next) {
        next = e->next;
        entry_free(e);
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

/* Where the coordinator has it, and how much of it there is. */
static int look_up(const struct cn_hash *fingerprint, struct pr_client *client,
                   struct cn_hash *blob, uint64_t *size, struct cn_error *err)
{
    Cinch__DataGet ask = CINCH__DATA_GET__INIT;
    Cinch__Dataset *set = NULL;
    ask.fingerprint = pr_hash_field(fingerprint);
    int rc = pr_call(client, PR_DATA_GET, &ask, PR_DATASET, &set, err);
    if (rc) return rc;
    if (!set->blob || set->blob->hash.len == 0)
        rc = cn_fail(err, CN_ENOTFOUND,
                     "dataset %s is neither on this machine nor with the coordinator: submit with "
                     "--data, or build it here with `cinch data add`",
                     set->name);
    if (rc == 0) rc = pr_hash_read(&set->blob->hash, blob, err);
    if (rc == 0) {
        *size = set->blob->size;
        cn_info("worker", "fetching dataset %s, %.1f MB", set->name, (double)*size * 1e-6);
    }
    pr_free(set);
    return rc;
}

/* Downloads under a lock of the file system, so that workers of one machine fetch once, and keeps it
 * shared in *lock_fd: nobody removes what is open. */
static int fetch(struct datasets *d, const struct cn_hash *fingerprint, const char *path,
                 struct pr_client *client, int *lock_fd, struct cn_error *err)
{
    struct cn_hash blob;
    uint64_t size;
    int fd = cacheroom_lock(path, true), rc = 0;
    if (fd < 0) return cn_fail_errno(err, "cannot lock %s.lock", path);
    do {
        flock(fd, LOCK_EX);
        if (!cn_file_exists(path)) {
            rc = look_up(fingerprint, client, &blob, &size, err);
            if (rc == 0) make_room(d, size);
            if (rc == 0) rc = pr_blob_get_file(client, &blob, path, NULL, err);
        }
        flock(fd, LOCK_SH); /* not in one step: it may be gone again */
    } while (rc == 0 && !cn_file_exists(path));
    *lock_fd = fd;
    return rc;
}

/* One that is in the folder; a lock file tells that it was fetched. Whether it is (still) there. */
static bool is_here(const char *path, int *lock_fd)
{
    *lock_fd = cacheroom_lock(path, false);
    if (*lock_fd >= 0) flock(*lock_fd, LOCK_SH);
    if (cn_file_exists(path)) return true;
    if (*lock_fd >= 0) close(*lock_fd);
    *lock_fd = -1;
    return false;
}

/* With the lock held. */
static int open_one(struct datasets *d, const struct cn_hash *fingerprint, struct pr_client *client,
                    struct cn_error *err)
{
    char hex[CN_HASH_HEX], path[2150];
    struct ecg_dataset *own = NULL;
    int lock_fd = -1;
    cn_hash_hex(fingerprint, hex);
    snprintf(path, sizeof path, "%s/%s.ecg", d->folder, hex);
    int rc = is_here(path, &lock_fd) ? 0 : fetch(d, fingerprint, path, client, &lock_fd, err);
    if (rc == 0) rc = ecg_dataset_map(&own, path, err);
    if (rc == 0 && memcmp(&own->fingerprint, fingerprint, sizeof *fingerprint) != 0)
        rc = cn_fail(err, CN_ECORRUPT, "%s holds another dataset than its name says: delete it",
                     path);
    if (rc == 0 && add(d, own, own, lock_fd))
        rc = cn_fail(err, CN_ENOMEM, "out of memory for a dataset");
    if (rc == 0) return 0;
    ecg_dataset_close(own);
    if (lock_fd >= 0) close(lock_fd);
    return rc;
}

int datasets_get(struct datasets *d, const struct cn_hash *fingerprint, struct pr_client *client,
                 const struct ecg_dataset **out, struct cn_error *err)
{
    pthread_mutex_lock(&d->lock);
    int rc = find(d, fingerprint) ? 0 : open_one(d, fingerprint, client, err);
    struct entry *e = rc ? NULL : find(d, fingerprint);
    if (e) {
        char hex[CN_HASH_HEX], path[2150];
        cn_hash_hex(fingerprint, hex);
        snprintf(path, sizeof path, "%s/%s.ecg", d->folder, hex);
        cacheroom_used(path);
        e->users++;
        *out = e->data;
    }
    pthread_mutex_unlock(&d->lock);
    return rc;
}

void datasets_put(struct datasets *d, const struct ecg_dataset *data)
{
    pthread_mutex_lock(&d->lock);
    struct entry *e = d->first;
    while (e && (!data || e->data != data)) e = e->next;
    if (e && --e->users == 0) make_room(d, 0);
    pthread_mutex_unlock(&d->lock);
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
