/* bench/quant/score.c - see score.h. */
#include "bench/quant/score.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/quant/improve.h"
#include "nn/metrics.h"

struct run {
    const struct cinchrt_model *model;
    void *scratch;
    float *logits; /* [n, labels] */
    uint8_t *y;    /* [n, labels] */
};

static void run_all(const struct run *r, const struct ecg_dataset *d, const uint32_t *idx, int n)
{
    size_t size = (size_t)d->n_leads * (size_t)d->n_samples, labels = (size_t)d->n_labels;
    for (int i = 0; i < n; i++) {
        cinchrt_run(r->model, d->x + idx[i] * size, r->logits + (size_t)i * labels, NULL,
                    r->scratch);
        memcpy(r->y + (size_t)i * labels, d->y + idx[i] * labels, labels);
    }
}

static int rows_of(const struct ecg_dataset *d, int part, uint32_t **idx, int *n,
                   struct cn_error *err)
{
    if (part != SCORE_ALL) return ecg_dataset_part(d, (enum ecg_part)part, idx, n, err);
    *idx = malloc(((size_t)d->n + 1) * sizeof **idx);
    if (!*idx) return cn_fail(err, CN_ENOMEM, "no memory to score an artifact");
    *n = d->n;
    for (int i = 0; i < d->n; i++) (*idx)[i] = (uint32_t)i;
    return 0;
}

int score_artifact(const struct quant_artifact *a, const struct ecg_dataset *d, int part,
                   double *auroc, struct cn_error *err)
{
    struct cinchrt_model *model;
    struct nn_auroc_report report;
    void *memory = NULL;
    uint32_t *idx = NULL;
    int n = 0, rc = quant_load(&model, &memory, a->data, a->n, err);
    if (!rc) rc = rows_of(d, part, &idx, &n, err);
    if (!rc) {
        size_t cells = (size_t)n * (size_t)d->n_labels;
        struct run r = {model, malloc(cinchrt_scratch_size(model)),
                        calloc(cells + 1, sizeof(float)), calloc(cells + 1, 1)};
        if (r.scratch && r.logits && r.y) {
            run_all(&r, d, idx, n);
            nn_auroc_all(r.logits, r.y, n, d->n_labels, 0, &report);
            *auroc = report.macro;
        } else {
            rc = cn_fail(err, CN_ENOMEM, "no memory to score an artifact");
        }
        free(r.scratch);
        free(r.logits);
        free(r.y);
    }
    free(idx);
    free(memory);
    return rc;
}
