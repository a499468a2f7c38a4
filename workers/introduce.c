/* introduce.c - what a worker tells of itself when it says hello: what it can do, what it has, what it
 * holds. Allocators are tried before they are claimed.
 */
#include <stdlib.h>

#include "base/log.h"
#include "cpu/measure/measure.h"
#include "cpu/rt/cinchrt.h"
#include "workers/worker_private.h"

size_t introduction_held(struct introduction *in, struct worker *w)
{
    size_t n = 0;
    pthread_mutex_lock(&w->lock);
    for (struct held *h = w->held; h && n < PR_MAX_HELD; h = h->next) {
        if (atomic_load(&h->stop) == NOT_OURS) continue;
        cinch__held__init(&in->held[n]);
        in->held[n].job = h->job;
        in->held[n].attempt = h->attempt;
        in->held[n].started = atomic_load(&h->started);
        in->held[n].unit = h->unit;
        in->held_list[n] = &in->held[n];
        n++;
    }
    pthread_mutex_unlock(&w->lock);
    return n;
}

static void introduce_kinds(struct worker *w, struct introduction *in)
{
    in->info.kinds = in->kind;
    if (w->o.role == WORKER_EVALUATE) {
        in->kind[in->info.n_kinds++] = CINCH__JOB_KIND__EVALUATE;
        return;
    }
    in->kind[in->info.n_kinds++] = CINCH__JOB_KIND__TRAIN;
    in->kind[in->info.n_kinds++] = CINCH__JOB_KIND__DISTILL;
    in->kind[in->info.n_kinds++] = CINCH__JOB_KIND__PRUNE;
}

/* Which allocators can really be preloaded: tried, not believed. */
static void introduce_allocators(struct worker *w, struct introduction *in)
{
    in->info.allocators = in->allocator;
    for (int a = MEASURE_GLIBC; w->o.role == WORKER_EVALUATE && a <= MEASURE_TCMALLOC; a++) {
        char detail[128];
        if (measure_allocator_available((enum measure_allocator)a, detail, sizeof detail))
            in->allocator[in->info.n_allocators++] = (char *)measure_allocator_names[a];
        else
            cn_info("worker", "no %s here (%s): jobs that ask for it go elsewhere",
                    measure_allocator_names[a], detail);
    }
}

static const char *best_isa(void)
{
    enum cinchrt_isa isa;
    const char *cap = getenv("CINCH_ISA");
    if (cap && *cap && cinchrt_isa_parse(cap, &isa) == 0 && cinchrt_isa_available(isa)) return cap;
    return cinchrt_isa_name(cinchrt_isa_best());
}

int introduce(struct introduction *in, struct worker *w, struct cn_error *err)
{
    cinch__worker_info__init(&in->info);
    in->info.instance = (ProtobufCBinaryData){PR_INSTANCE_BYTES, w->instance};
    in->info.name = w->name;
    in->info.host = w->host;
    in->info.engine = PR_ENGINE;
    in->info.bits = PR_BITS;
    in->info.slots = (uint32_t)w->n_slots;
    in->info.prefetch = (uint32_t)w->n_slots;
    in->info.max_gang = (uint32_t)w->o.max_gang;
    in->info.isa = (char *)best_isa();
    in->info.core = w->o.role == WORKER_EVALUATE ? w->o.core + 1 : 0;
    if (w->device) {
        in->info.gpu_bytes = device_facts(w->device)->memory;
        in->info.compute_capability = (uint32_t)device_facts(w->device)->capability;
        in->info.gpus = (uint32_t)device_facts(w->device)->gpus;
        if (device_facts(w->device)->is_gpu)
            in->info.device = (char *)device_facts(w->device)->name;
    }
    introduce_kinds(w, in);
    introduce_allocators(w, in);
    int n = 0;
    if (datasets_here(w->datasets, &in->hash, &n, PR_MAX_DATASETS))
        return cn_fail(err, CN_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++)
        in->dataset[i] = (ProtobufCBinaryData){CN_HASH_BYTES, in->hash[i].b};
    in->info.datasets = in->dataset;
    in->info.n_datasets = (size_t)n;
    return 0;
}
