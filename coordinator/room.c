/* coordinator/room.c - see room.h. */
#include "coordinator/room.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum {
    BUCKETS = 1024,
    PARTS_OF_USER = 1000, /* each is a file, however small */
    PARTS = 20000,
};
static const int64_t QUIET_MS = 10 * 60 * 1000;      /* it keeps no room free after that */
static const int64_t FORGET_MS = 6 * 60 * 60 * 1000; /* and goes after that */

struct part {
    struct part *next;
    struct up_key key;
    uint64_t have;
    int64_t last; /* monotonic ms */
};

struct holder {
    uint64_t user; /* up_user */
    uint64_t bytes;
    uint32_t parts;
};

struct room {
    char state[PATH_MAX];
    double reserve;
    uint64_t quota;
    struct part *bucket[BUCKETS];
    uint32_t n_parts, next; /* next: the bucket that ro_forgotten looks at */
    struct holder *holder;
    uint32_t n_holders, cap_holders;
    /* while the folder is read */
    int64_t now, wall;
    bool nomem;
};

static struct part **find(const struct room *r, const struct cn_hash *name, uint64_t user)
{
    struct part **at = (struct part **)&r->bucket[(name->b[0] << 8 | name->b[1]) % BUCKETS];
    while (*at && ((*at)->key.user != user || memcmp(&(*at)->key.name, name, sizeof *name)))
        at = &(*at)->next;
    return at;
}

static struct holder *holder_of(const struct room *r, uint64_t user)
{
    for (uint32_t i = 0; i < r->n_holders; i++)
        if (r->holder[i].user == user) return &r->holder[i];
    return NULL;
}

/* Made when absent; NULL: out of memory. */
static struct holder *make_holder(struct room *r, uint64_t user)
{
    struct holder *h = holder_of(r, user);
    if (h) return h;
    for (uint32_t i = 0; i < r->n_holders && !h; i++)
        if (!r->holder[i].bytes && !r->holder[i].parts) h = &r->holder[i];
    if (!h && r->n_holders == r->cap_holders) {
        uint32_t cap = r->cap_holders ? r->cap_holders * 2 : 64;
        struct holder *grown = realloc(r->holder, cap * sizeof *grown);
        if (!grown) return NULL;
        r->holder = grown;
        r->cap_holders = cap;
    }
    if (!h) h = &r->holder[r->n_holders++];
    *h = (struct holder){.user = user};
    return h;
}

static struct part *add_part(struct room *r, const struct up_key *key, uint64_t have, int64_t last)
{
    struct holder *h = make_holder(r, key->user);
    struct part *p = h ? calloc(1, sizeof *p) : NULL;
    if (!p) return NULL;
    *p = (struct part){.key = *key, .have = have, .last = last};
    *find(r, &key->name, key->user) = p;
    r->n_parts++;
    h->parts++;
    h->bytes += key->size;
    return p;
}

static void drop_part(struct room *r, struct part **at)
{
    struct part *p = *at;
    struct holder *h = holder_of(r, p->key.user);
    h->parts--;
    h->bytes -= p->key.size;
    *at = p->next;
    r->n_parts--;
    free(p);
}

/* One that the last coordinator left. */
static void take_up(void *arg, const struct up_key *key, uint64_t have, int64_t time)
{
    struct room *r = arg;
    char path[PATH_MAX];
    int64_t age = r->wall - time;
    bool old = age > FORGET_MS || have > key->size || *find(r, &key->name, key->user);
    if (!old && !add_part(r, key, have, r->now - (age > 0 ? age : 0))) r->nomem = true;
    if (!old) return;
    up_part_path(r->state, key, path, sizeof path);
    remove(path);
}

int ro_open(struct room **out, const char *state, double reserve, uint64_t quota, int64_t now,
            int64_t wall, struct cn_error *err)
{
    struct room *r = *out = calloc(1, sizeof *r);
    if (!r) return cn_fail(err, CN_ENOMEM, "room: out of memory");
    snprintf(r->state, sizeof r->state, "%s", state);
    r->reserve = reserve;
    r->quota = quota;
    r->now = now;
    r->wall = wall;
    up_each(state, take_up, r);
    return r->nomem ? cn_fail(err, CN_ENOMEM, "room: out of memory") : 0;
}

void ro_close(struct room *r)
{
    for (int i = 0; r && i < BUCKETS; i++)
        while (r->bucket[i]) drop_part(r, &r->bucket[i]);
    if (r) free(r->holder);
    free(r);
}

/* Bytes that are still to come, of those who go on. */
static double coming(const struct room *r, int64_t now)
{
    double n = 0;
    for (int i = 0; i < BUCKETS; i++)
        for (const struct part *p = r->bucket[i]; p; p = p->next)
            if (now - p->last < QUIET_MS && p->key.size > p->have)
                n += (double)(p->key.size - p->have);
    return n;
}

static int check_disk(const struct room *r, uint64_t more, int64_t now, struct cn_error *err)
{
    struct statvfs v;
    if (r->reserve < 0 || statvfs(r->state, &v)) return 0;
    double room = (double)v.f_bavail * (double)v.f_frsize - coming(r, now) - (double)more;
    if (room >= r->reserve) return 0;
    return cn_fail(
        err, CN_ENOSPACE,
        "the coordinator's disk has no room for %.1f MB more; it takes them when there is",
        (double)more / 1e6);
}

int ro_check(const struct room *r, const char *user, uint64_t more, struct cn_error *err)
{
    const struct holder *h = holder_of(r, up_user(user));
    uint64_t have = h ? h->bytes : 0;
    if (!r->quota || (more <= r->quota && have <= r->quota - more)) return 0;
    return cn_fail(
        err, CN_ELIMIT,
        "%s holds %.1f MB here, with this %.1f MB; the quota is %.1f MB (cinchd --quota)", user,
        (double)have / 1e6, ((double)have + (double)more) / 1e6, (double)r->quota / 1e6);
}

static int check_new(const struct room *r, const struct up_key *key, const struct ro_sender *who,
                     struct cn_error *err)
{
    if (who->worker) return 0;
    const struct holder *h = holder_of(r, key->user);
    if (r->n_parts >= PARTS || (h && h->parts >= PARTS_OF_USER))
        return cn_fail(err, CN_ELIMIT, "too many unfinished uploads of %s; end some first",
                       r->n_parts >= PARTS ? "everybody" : who->user);
    uint64_t more = key->size > UINT64_MAX - who->besides ? key->size : key->size + who->besides;
    return ro_check(r, who->user, more, err);
}

int ro_upload(struct room *r, const struct up_key *key, const struct ro_sender *who, int64_t now,
              struct cn_error *err)
{
    struct part **at = find(r, &key->name, key->user), *p = *at;
    if (p && p->key.size != key->size)
        return cn_fail(err, CN_EINVALID, "an upload of that name has another size");
    bool quiet = p && now - p->last >= QUIET_MS;
    int rc = p ? 0 : check_new(r, key, who, err);
    if (!rc && (!p || quiet)) rc = check_disk(r, key->size - (p ? p->have : 0), now, err);
    if (rc) return rc;
    if (!p && !(p = add_part(r, key, 0, now))) return cn_fail(err, CN_ENOMEM, "out of memory");
    p->last = now;
    return 0;
}

void ro_arrived(struct room *r, const struct up_key *key, uint64_t have, int64_t now)
{
    struct part *p = *find(r, &key->name, key->user);
    if (!p) return;
    p->have = have;
    p->last = now;
}

void ro_ended(struct room *r, const struct up_key *key)
{
    struct part **at = find(r, &key->name, key->user);
    if (*at) drop_part(r, at);
}

uint64_t ro_declared(const struct room *r, const struct cn_hash *name, uint64_t user)
{
    const struct part *p = *find(r, name, user);
    return p ? p->key.size : 0;
}

bool ro_forgotten(struct room *r, int64_t now, struct up_key *key)
{
    r->next = (r->next + 1) % BUCKETS;
    for (struct part **at = &r->bucket[r->next]; *at; at = &(*at)->next) {
        if (now - (*at)->last < FORGET_MS) continue;
        *key = (*at)->key;
        drop_part(r, at);
        return true;
    }
    return false;
}

void ro_add(struct room *r, const char *user, uint64_t bytes)
{
    struct holder *h = make_holder(r, up_user(user));
    if (h) h->bytes += bytes; /* without memory it counts from the next start on */
}

void ro_sub(struct room *r, const char *user, uint64_t bytes)
{
    struct holder *h = holder_of(r, up_user(user));
    if (h) h->bytes -= bytes < h->bytes ? bytes : h->bytes;
}
