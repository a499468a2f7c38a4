/* tests/unit/quant/made.h - a small dataset in memory: noise with some rhythm, records 0.. in the
 * validation part. Header only. */
#ifndef CINCH_TESTS_MADE_H
#define CINCH_TESTS_MADE_H

#include <stdio.h>
#include <string.h>

#include "tests/unit/quant/unfused.h"

struct made {
    struct ecg_dataset d;
    float *x;
    uint8_t *y, *fold, *part;
    char (*id)[24];
};

static inline struct made *made_dataset(const struct nn_net *net, int n)
{
    struct made *m = calloc(1, sizeof *m);
    size_t size = (size_t)net->n_leads * (size_t)net->n_samples;
    m->x = calloc((size_t)n * size, sizeof *m->x);
    m->y = calloc((size_t)n * (size_t)net->n_labels, 1);
    m->fold = calloc((size_t)n, 1);
    m->part = calloc((size_t)n, 1);
    m->id = calloc((size_t)n, sizeof *m->id);
    for (int r = 0; r < n; r++) {
        for (size_t i = 0; i < size; i++) {
            int t = (int)(i % (size_t)net->n_samples), lead = (int)(i / (size_t)net->n_samples);
            float beat = (t + 7 * r) % 80 < 6 ? 4.0f : 0;
            m->x[(size_t)r * size + i] =
                unfused_noise(500 + (uint64_t)r, (int)i) + beat * (lead % 2 ? -1 : 1);
        }
        m->part[r] = ECG_VALIDATION;
        m->fold[r] = 9;
        snprintf(m->id[r], sizeof m->id[r], "made%03d", r);
    }
    m->d = (struct ecg_dataset){.name = "made",
                                .task = ECG_MULTI_LABEL,
                                .n = n,
                                .n_leads = net->n_leads,
                                .n_samples = net->n_samples,
                                .n_labels = net->n_labels,
                                .hz = 100,
                                .x = m->x,
                                .y = m->y,
                                .fold = m->fold,
                                .part = m->part,
                                .id = (const char(*)[24])m->id};
    return m;
}

static inline void made_destroy(struct made *m)
{
    free(m->x);
    free(m->y);
    free(m->fold);
    free(m->part);
    free(m->id);
    free(m);
}

#endif
