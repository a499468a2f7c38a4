/* coordinator/tables.c - the scheduler's tables: growing arrays, names as ids, the key table. See
 * sched.h. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/sched.h"
#include "proto/message.h"
#include "proto/words.h"

bool sc__grow(void *array, uint32_t *cap, uint32_t need, size_t size)
{
    if (need <= *cap) return true;
    uint32_t grown = *cap + *cap / 2 + 64;
    if (grown < need) grown = need;
    void *p;
    memcpy(&p, array, sizeof p);
    p = realloc(p, grown * size);
    if (!p) return false;
    memset((char *)p + *cap * size, 0, (grown - *cap) * size);
    memcpy(array, &p, sizeof p);
    *cap = grown;
    return true;
}

struct sched *sc_create(const struct sc_limits *limits)
{
    static const struct sc_limits defaults = {
        .lost_ms = 10000, .crashes = 5, .losses = 20, .grace_ms = 30000, .steal_ms = 3000};
    struct sched *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->limits = limits ? *limits : defaults;
    /* id 0 of every table is "none" */
    bool ok = sc__grow(&s->job, &s->cap_jobs, 1, sizeof *s->job) &&
              sc__grow(&s->edge, &s->cap_edges, 1, sizeof *s->edge) &&
              sc__grow(&s->want, &s->cap_wants, 1, sizeof *s->want) &&
              sc__grow(&s->base, &s->cap_bases, 1, sizeof *s->base) &&
              sc__grow(&s->shape, &s->cap_shapes, 1, sizeof *s->shape) &&
              sc__grow(&s->queue, &s->cap_queues, 1, sizeof *s->queue) &&
              sc__grow(&s->run, &s->cap_runs, 1, sizeof *s->run) &&
              sc__grow(&s->user, &s->cap_users, 1, sizeof *s->user) &&
              sc__grow(&s->dataset, &s->cap_datasets, 1, sizeof *s->dataset) &&
              sc__grow(&s->worker, &s->cap_workers, 1, sizeof *s->worker) &&
              sc__grow(&s->effect, &s->cap_effects, 64, sizeof *s->effect);
    s->n_jobs = s->n_edges = s->n_wants = s->n_bases = s->n_shapes = s->n_queues = s->n_runs = 1;
    s->n_users = s->n_datasets = s->n_workers = 1;
    if (ok) return s;
    sc_destroy(s);
    return NULL;
}

void sc_destroy(struct sched *s)
{
    if (!s) return;
    for (uint32_t i = 0; i < s->n_bases && s->base; i++) free(s->base[i].body);
    for (uint32_t i = 0; i < s->n_queues && s->queue; i++) free(s->queue[i].heap);
    for (uint32_t i = 0; i < s->n_runs && s->run; i++) free(s->run[i].queue);
    for (uint32_t i = 0; i < s->n_users && s->user; i++) free(s->user[i].name);
    for (uint32_t i = 0; i < s->n_workers && s->worker; i++) {
        free(s->worker[i].datasets);
        free(s->worker[i].engines);
    }
    free(s->job);
    free(s->edge);
    free(s->want);
    free(s->table);
    free(s->base);
    free(s->shape);
    free(s->shape_table);
    free(s->queue);
    free(s->busy);
    free(s->run);
    free(s->user);
    free(s->dataset);
    free(s->worker);
    free(s->effect);
    free(s);
}

uint32_t sc_find_user(const struct sched *s, const char *name)
{
    for (uint32_t i = 1; i < s->n_users; i++)
        if (!strcmp(s->user[i].name, name)) return i;
    return 0;
}

uint32_t sc_user(struct sched *s, const char *name)
{
    uint32_t known = sc_find_user(s, name);
    if (known) return known;
    if (!sc__grow(&s->user, &s->cap_users, s->n_users + 1, sizeof *s->user)) return 0;
    char *copy = strdup(name);
    if (!copy) return 0;
    s->user[s->n_users] = (struct sc_user){.name = copy};
    return s->n_users++;
}

uint32_t sc_find_dataset(const struct sched *s, const struct cn_hash *fingerprint)
{
    for (uint32_t i = 1; i < s->n_datasets; i++)
        if (!memcmp(&s->dataset[i].fingerprint, fingerprint, sizeof *fingerprint)) return i;
    return 0;
}

uint32_t sc_dataset(struct sched *s, const struct cn_hash *fingerprint)
{
    uint32_t known = sc_find_dataset(s, fingerprint);
    if (known) return known;
    if (!sc__grow(&s->dataset, &s->cap_datasets, s->n_datasets + 1, sizeof *s->dataset)) return 0;
    s->dataset[s->n_datasets] = (struct sc_dataset){.fingerprint = *fingerprint};
    return s->n_datasets++;
}

int sc_norm(const char *name)
{
    return *name ? pr_word(PR_WORDS_NORM, name) + (pr_word(PR_WORDS_NORM, name) >= 0) : 0;
}

const char *sc_norm_name(int norm)
{
    const char *name = norm ? pr_word_at(PR_WORDS_NORM, norm - 1) : "";
    return name ? name : "?";
}

size_t sc_allocators(char *const *name, size_t n, uint32_t *mask)
{
    size_t unknown = 0;
    *mask = 0;
    for (size_t i = 0; i < n; i++) {
        int at = pr_word(PR_WORDS_ALLOCATOR, name[i]);
        unknown += at < 0;
        if (at >= 0) *mask |= 1u << at;
    }
    return unknown;
}

uint32_t sc_find_base(const struct sched *s, const struct cn_hash *hash)
{
    for (uint32_t i = 1; i < s->n_bases; i++)
        if (!s->base[i].broken && !memcmp(&s->base[i].hash, hash, sizeof *hash)) return i;
    return 0;
}

uint32_t sc_base(struct sched *s, const struct sc_base *base)
{
    uint32_t id = base->broken ? 0 : sc_find_base(s, &base->hash);
    if (id) return id;
    if (!sc__grow(&s->base, &s->cap_bases, s->n_bases + 1, sizeof *s->base)) return 0;
    uint8_t *body = malloc(base->n_body ? base->n_body : 1);
    if (!body) return 0;
    if (base->n_body) memcpy(body, base->body, base->n_body);
    s->base[s->n_bases] = *base;
    s->base[s->n_bases].body = body;
    return s->n_bases++;
}

static bool same_shape(const struct sc_shape *a, const struct sc_shape *b)
{
    return a->base == b->base && a->rounds == b->rounds && a->round == b->round &&
           a->training == b->training && a->kind == b->kind &&
           !memcmp(&a->keep, &b->keep, sizeof a->keep);
}

/* The place of a shape, or the free one where it belongs. */
static uint32_t *shape_place(const struct sched *s, const struct sc_shape *want)
{
    uint64_t h, keep;
    memcpy(&keep, &want->keep, sizeof keep);
    h = want->base + 0x9e3779b97f4a7c15u * (keep ^ (uint64_t)want->rounds << 40 ^
                                            (uint64_t)want->round << 16 ^
                                            (uint64_t)want->kind << 8 ^ want->training);
    h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9u;
    uint32_t mask = s->shape_table_size - 1, at = (uint32_t)(h >> 32) & mask;
    while (s->shape_table[at] && !same_shape(&s->shape[s->shape_table[at]], want))
        at = (at + 1) & mask;
    return &s->shape_table[at];
}

static bool shape_room(struct sched *s)
{
    if (s->n_shapes * 2 < s->shape_table_size) return true;
    uint32_t size = s->shape_table_size ? s->shape_table_size * 2 : 256;
    uint32_t *table = calloc(size, sizeof *table);
    if (!table) return false;
    free(s->shape_table);
    s->shape_table = table;
    s->shape_table_size = size;
    for (uint32_t i = 1; i < s->n_shapes; i++) *shape_place(s, &s->shape[i]) = i;
    return true;
}

uint32_t sc__shape(struct sched *s, const struct sc_job *j)
{
    bool training = j->kind == CINCH__JOB_KIND__TRAIN || j->kind == CINCH__JOB_KIND__DISTILL;
    struct sc_shape want = {.base = j->base,
                            .rounds = training ? 0 : j->rounds,
                            .round = training ? 0 : j->round,
                            .training = training,
                            .kind = training ? 0 : j->kind,
                            .keep = training ? 1 : j->keep};
    if (!shape_room(s) || !sc__grow(&s->shape, &s->cap_shapes, s->n_shapes + 1, sizeof *s->shape))
        return 0;
    uint32_t *place = shape_place(s, &want);
    if (*place) return *place;
    s->shape[s->n_shapes] = want;
    return *place = s->n_shapes++;
}

/* ---- key table: linear probing, the key's own first bytes are the hash */

static uint32_t slot_of(const struct sched *s, const struct cn_hash *key)
{
    uint64_t h;
    memcpy(&h, key->b, sizeof h);
    return (uint32_t)(h & (s->table_size - 1));
}

uint32_t sc_find_job(const struct sched *s, const struct cn_hash *key)
{
    if (!s->table_size) return 0;
    for (uint32_t at = slot_of(s, key);; at = (at + 1) & (s->table_size - 1)) {
        uint32_t id = s->table[at];
        if (!id || !memcmp(&s->job[id].key, key, sizeof *key)) return id;
    }
}

static void table_put(struct sched *s, uint32_t id)
{
    uint32_t at = slot_of(s, &s->job[id].key);
    while (s->table[at]) at = (at + 1) & (s->table_size - 1);
    s->table[at] = id;
}

static bool table_room(struct sched *s, uint32_t jobs)
{
    uint32_t size = s->table_size ? s->table_size : 1024;
    while ((uint64_t)jobs * 4 > (uint64_t)size * 3) size *= 2;
    if (size == s->table_size) return true;
    uint32_t *old = s->table, *table = calloc(size, sizeof *table);
    if (!table) return false;
    s->table = table;
    s->table_size = size;
    for (uint32_t i = 1; i < s->n_jobs; i++)
        if (!s->job[i].broken) table_put(s, i);
    free(old);
    return true;
}

bool sc_reserve(struct sched *s, uint32_t wanted, uint32_t jobs, uint32_t bases)
{
    return table_room(s, s->n_jobs + jobs) && shape_room(s) &&
           sc__grow(&s->job, &s->cap_jobs, s->n_jobs + jobs, sizeof *s->job) &&
           sc__grow(&s->edge, &s->cap_edges, s->n_edges + 2 * jobs, sizeof *s->edge) &&
           sc__grow(&s->want, &s->cap_wants, s->n_wants + wanted, sizeof *s->want) &&
           sc__grow(&s->base, &s->cap_bases, s->n_bases + bases, sizeof *s->base) &&
           sc__grow(&s->dataset, &s->cap_datasets, s->n_datasets + bases, sizeof *s->dataset) &&
           sc__grow(&s->run, &s->cap_runs, s->n_runs + 1, sizeof *s->run) &&
           sc__grow(&s->user, &s->cap_users, s->n_users + 1, sizeof *s->user) &&
           sc__grow(&s->effect, &s->cap_effects, s->n_effects + jobs, sizeof *s->effect);
}

static bool edge_add(struct sched *s, uint32_t parent, uint32_t child)
{
    if (!sc__grow(&s->edge, &s->cap_edges, s->n_edges + 1, sizeof *s->edge)) return false;
    s->edge[s->n_edges] = (struct sc_edge){child, s->job[parent].child};
    s->job[parent].child = s->n_edges++;
    return true;
}

/* A job's ancestors have at least one more step to go than it. */
static void raise_chain(struct sched *s, uint32_t id, uint16_t chain)
{
    struct sc_job *j = &s->job[id];
    if (j->chain >= chain) return;
    j->chain = chain;
    if (j->state == SC_READY && j->queued) sc__chain_grew(s, id);
    for (int i = 0; i < 2; i++)
        if (j->parent[i]) raise_chain(s, j->parent[i], (uint16_t)(chain + 1));
}

uint32_t sc_job_add(struct sched *s, const struct sc_job *given, bool restored)
{
    if (!table_room(s, s->n_jobs + 1) ||
        !sc__grow(&s->job, &s->cap_jobs, s->n_jobs + 1, sizeof *s->job))
        return 0;
    uint32_t id = s->n_jobs;
    struct sc_job *j = &s->job[id];
    *j = *given;
    j->child = j->want = j->unit = j->next_lease = j->prev_lease = j->queued = j->chain = 0;
    j->started = 0;
    if (!restored) {
        j->state = SC_WAITING;
        j->attempt = j->worker = 0;
        j->crashes = j->lost = 0;
    }
    if (!(j->shape = sc__shape(s, j))) return 0;
    for (int i = 0; i < 2; i++)
        if (j->parent[i] && !edge_add(s, j->parent[i], id)) return 0;
    s->n_jobs++;
    s->total[j->state]++;
    if (!j->broken) table_put(s, id);
    raise_chain(s, id, 1);
    return id;
}

int sc_want_add(struct sched *s, uint32_t run, uint32_t job)
{
    struct sc_run *r = &s->run[run];
    if (!sc__grow(&s->want, &s->cap_wants, s->n_wants + 1, sizeof *s->want)) return CN_ENOMEM;
    uint32_t id = s->n_wants++;
    s->want[id] = (struct sc_want){.run = run, .job = job, .next_of_job = s->job[job].want};
    s->job[job].want = id;
    if (r->last_want)
        s->want[r->last_want].next_of_run = id;
    else
        r->want = id;
    r->last_want = id;
    r->count[s->job[job].state]++;
    r->jobs++;
    s->user[r->user].jobs++;
    struct sc_base *b = &s->base[s->job[job].base];
    if (!b->user) { /* the first run that wants it has brought it */
        b->user = r->user;
        s->user[r->user].bases++;
        s->user[r->user].text += b->n_body;
    }
    return 0;
}

uint32_t sc_run_add(struct sched *s, uint32_t user, int priority, bool paused,
                    uint32_t time_limit_s)
{
    if (!sc__grow(&s->run, &s->cap_runs, s->n_runs + 1, sizeof *s->run)) return 0;
    s->user[user].runs++;
    s->run[s->n_runs] = (struct sc_run){
        .user = user, .priority = priority, .paused = paused, .time_limit_s = time_limit_s};
    return s->n_runs++;
}

uint32_t sc_find_worker(const struct sched *s, const uint8_t instance[PR_INSTANCE_BYTES])
{
    for (uint32_t i = 1; i < s->n_workers; i++)
        if (s->worker[i].used && !memcmp(s->worker[i].instance, instance, PR_INSTANCE_BYTES))
            return i;
    return 0;
}

struct sc_job *sc_job_of(const struct sched *s, uint64_t id)
{
    return id && id < s->n_jobs ? &s->job[id] : NULL;
}

void sc__effect(struct sched *s, struct sc_effect e)
{
    if (!sc__grow(&s->effect, &s->cap_effects, s->n_effects + 1, sizeof *s->effect)) {
        s->nomem = true;
        return;
    }
    s->effect[s->n_effects++] = e;
}
