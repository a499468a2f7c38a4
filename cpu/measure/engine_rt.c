/* engine_rt.c - cinchrt as a thing to time. A checkpoint is converted to a float artifact in
 * memory first, so that `cinch bench` takes either kind of file.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "cpu/measure/engine.h"
#include "cpu/quant/quant.h"
#include "cpu/rt/cinchrt.h"
#include "cpu/rt/format.h"

struct rt_model {
    struct cinchrt_model *m;
    void *memory, *scratch;
    int labels;
};

static bool is_artifact(const struct cn_map *map)
{
    return map->n >= 4 && memcmp(map->data, CINCHRT_MAGIC, 4) == 0;
}

static int rt_fail(struct cn_error *err, const char *file, int rc)
{
    int code = rc == CINCHRT_EISA ? CN_EUNSUPPORTED : CN_ECORRUPT;
    return cn_fail(err, code, "%s: %s", file, cinchrt_error_text(rc));
}

/* Which kernels at most: the caller's wish, else CINCH_ISA, else the best. */
static int rt_cap(const char *isa, enum cinchrt_isa *cap, struct cn_error *err)
{
    if (!isa || !*isa) isa = getenv("CINCH_ISA");
    *cap = CINCHRT_BEST;
    if (!isa || !*isa) return 0;
    if (cinchrt_isa_parse(isa, cap) || !cinchrt_isa_available(*cap))
        return cn_fail(err, CN_EUNSUPPORTED,
                       "instruction set '%s' is unknown or not on this CPU (the best here is %s)",
                       isa, cinchrt_isa_name(cinchrt_isa_best()));
    return 0;
}

static int rt_load(struct rt_model *r, const char *file, const void *data, size_t n,
                   const char *isa, struct cn_error *err)
{
    enum cinchrt_isa cap;
    int rc = rt_cap(isa, &cap, err);
    if (rc) return rc;
    size_t bytes;
    rc = cinchrt_model_size(data, n, cap, &bytes);
    if (rc) return rt_fail(err, file, rc);
    r->memory = malloc(bytes);
    if (!r->memory) return cn_fail(err, CN_ENOMEM, "out of memory for %s", file);
    rc = cinchrt_load(&r->m, data, n, cap, r->memory, bytes);
    if (rc) return rt_fail(err, file, rc);
    r->scratch = malloc(cinchrt_scratch_size(r->m));
    return r->scratch ? 0 : cn_fail(err, CN_ENOMEM, "out of memory for %s", file);
}

/* A checkpoint as a float artifact; released with quant_artifact_release. */
static int as_artifact(const struct cn_map *map, const char *file, struct quant_artifact *a,
                       struct cn_error *err)
{
    struct nn_model *m;
    int rc = nn_model_parse(&m, file, map->data, map->n, err);
    if (rc) return rc;
    struct quant_options opt = {.mode = QUANT_FLOAT};
    rc = quant_convert(a, m, NULL, &opt, err);
    nn_model_destroy(m);
    return rc;
}

static void rt_free(struct rt_model *r)
{
    if (!r) return;
    free(r->scratch);
    free(r->memory);
    free(r);
}

static int load_file(struct rt_model *r, const char *file, const char *isa, struct cn_error *err)
{
    struct cn_map map = {0};
    struct quant_artifact a = {0};
    int rc = cn_map_open(&map, file, err);
    if (rc) return rc;
    if (is_artifact(&map)) {
        rc = rt_load(r, file, map.data, map.n, isa, err);
    } else {
        rc = as_artifact(&map, file, &a, err);
        if (rc == 0) rc = rt_load(r, file, a.data, a.n, isa, err);
        quant_artifact_release(&a);
    }
    cn_map_close(&map);
    return rc;
}

static int rt_open(struct measure_subject *s, const char *file, const char *isa,
                   struct cn_error *err)
{
    struct rt_model *r = calloc(1, sizeof *r);
    if (!r) return cn_fail(err, CN_ENOMEM, "out of memory for %s", file);
    int rc = load_file(r, file, isa, err);
    if (rc) {
        rt_free(r);
        return rc;
    }
    const struct cinchrt_info *info = cinchrt_info(r->m);
    snprintf(s->net, sizeof s->net, "%s", info->net);
    snprintf(s->kind, sizeof s->kind, "%s", info->kind == 0 ? "float" : "int8");
    snprintf(s->isa, sizeof s->isa, "%s", cinchrt_isa_name(info->isa));
    s->leads = info->leads;
    s->samples = info->samples;
    s->labels = info->labels;
    s->model = r;
    return 0;
}

static void rt_run(void *subject)
{
    struct measure_subject *s = subject;
    struct rt_model *r = s->model;
    cinchrt_run(r->m, s->x, s->logits, NULL, r->scratch);
}

static void rt_close(struct measure_subject *s)
{
    rt_free(s->model);
    s->model = NULL;
}

const struct measure_engine_ops measure_engine_rt = {rt_open, rt_run, rt_close};

/* An artifact's name of its net lies in the header; a checkpoint's in its metadata. */
int measure_net_of(const char *file, char net[24], struct cn_error *err)
{
    struct cn_map map = {0};
    memset(net, 0, 24);
    int rc = cn_map_open(&map, file, err);
    if (rc) return rc;
    if (is_artifact(&map)) {
        struct rt_model *r = calloc(1, sizeof *r);
        rc = r ? rt_load(r, file, map.data, map.n, "portable", err)
               : cn_fail(err, CN_ENOMEM, "out of memory for %s", file);
        if (rc == 0) snprintf(net, 24, "%s", cinchrt_info(r->m)->net);
        rt_free(r);
    } else {
        struct nn_model *m;
        rc = nn_model_parse(&m, file, map.data, map.n, err);
        if (rc == 0) {
            snprintf(net, 24, "%s", m->net->name);
            nn_model_destroy(m);
        }
    }
    cn_map_close(&map);
    return rc;
}

void measure_input(float *x, int leads, int samples)
{
    for (int l = 0; l < leads; l++) {
        for (int t = 0; t < samples; t++) {
            cn_rng4 r = cn_rng(0, CN_RNG_NOISE, (uint32_t)l, (uint64_t)t);
            float noise = cn_rng_uniform(r.v[0]) + cn_rng_uniform(r.v[1]) - 1.0f;
            int beat = (t + 7 * l) % 80;
            float spike = beat < 6 ? 4.0f * (1.0f - fabsf((float)beat - 3.0f) / 3.0f) : -0.15f;
            x[l * samples + t] = spike + noise;
        }
    }
}
