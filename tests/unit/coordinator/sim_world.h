/* sim_world.h - helpers to fill a scheduler without sockets: jobs, runs and workers by a few numbers. */
#ifndef CINCH_TESTS_SIM_WORLD_H
#define CINCH_TESTS_SIM_WORLD_H

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/rng.h"
#include "coordinator/sched.h"

enum { TRAIN = 1, DISTILL, PRUNE, EVALUATE };

/* One base of the net `n`, no needs beyond the dataset, which everyone can fetch. */
static inline uint32_t sim_base(struct sched *s, uint32_t n, uint64_t gpu_bytes)
{
    struct cn_hash fp = {{9}};
    uint8_t body[2] = {(uint8_t)n, (uint8_t)gpu_bytes};
    struct sc_base b = {.gpu_bytes = gpu_bytes, .body = body, .n_body = 2};
    cn_hash_bytes(body, 2, &b.hash);
    b.dataset = sc_dataset(s, &fp);
    s->dataset[b.dataset].stored = true;
    return sc_base(s, &b);
}

/* The job of these numbers, made when it is not there. */
static inline uint32_t sim_job(struct sched *s, int kind, uint32_t base, uint64_t seed, uint32_t p0,
                               uint32_t p1)
{
    struct {
        uint64_t kind, base, seed, p0, p1;
    } id = {(uint64_t)kind, base, seed, p0, p1};
    struct sc_job j = {
        .kind = (uint8_t)kind, .base = base, .seed = seed, .parent = {p0, p1}, .keep = 1};
    cn_hash_bytes(&id, sizeof id, &j.key);
    uint32_t known = sc_find_job(s, &j.key);
    return known ? known : sc_job_add(s, &j, false);
}

static inline struct sc_worker sim_worker_info(int n, uint32_t slots, uint32_t prefetch)
{
    struct sc_worker w = {
        .kinds = 0x1e, .slots = slots, .capacity = slots + prefetch, .max_gang = 1, .core = -1};
    w.instance[0] = (uint8_t)(n + 1);
    w.instance[1] = (uint8_t)(n >> 8);
    w.name[0] = (char)('a' + n % 26);
    w.host[0] = 'h';
    return w;
}

/* Effects since the last call of one kind for one job. */
static inline int sim_effects(const struct sched *s, int what, uint32_t job)
{
    int n = 0;
    for (uint32_t i = 0; i < s->n_effects; i++)
        n += s->effect[i].what == what && (!job || s->effect[i].job == job);
    return n;
}

#endif
