/* A small made-up dataset in memory: each label adds its own slow wave to one lead, so that nets
 * can learn it within a few epochs. */
#ifndef CINCH_TESTS_NN_SYNTHETIC_H
#define CINCH_TESTS_NN_SYNTHETIC_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "ecg/dataset.h"

struct synthetic {
    struct ecg_dataset d;
    float *x;
    uint8_t *y, *part;
};

static inline float synthetic_noise(uint64_t i)
{
    return 2 * cn_rng_uniform(cn_rng(99, 1000, 0, i).v[0]) - 1;
}

/* n records; one in five validation, one in ten test, the rest training. */
static inline void synthetic_make(struct synthetic *s, enum ecg_task task, int n, int leads,
                                  int samples)
{
    const int labels = 5;
    memset(s, 0, sizeof *s);
    s->x = malloc(sizeof(float) * (size_t)n * (size_t)leads * (size_t)samples);
    s->y = calloc((size_t)n, (size_t)labels);
    s->part = malloc((size_t)n);
    for (int i = 0; i < n; i++) {
        s->part[i] = i % 10 == 3 ? ECG_TEST : i % 5 == 1 ? ECG_VALIDATION : ECG_TRAIN;
        for (int l = 0; l < labels; l++)
            s->y[i * labels + l] = task == ECG_ONE_LABEL
                                       ? i / 10 % labels == l
                                       : cn_rng(98, 1000, 0, (uint64_t)(i * 8 + l)).v[0] % 3 == 0;
        for (int c = 0; c < leads; c++)
            for (int t = 0; t < samples; t++) {
                size_t at = ((size_t)i * (size_t)leads + (size_t)c) * (size_t)samples + (size_t)t;
                s->x[at] = 0.3f * synthetic_noise(at);
                for (int l = 0; l < labels; l++)
                    if (s->y[i * labels + l] && l % leads == c)
                        s->x[at] += sinf(0.1f * (float)((l + 1) * t + 7 * i));
            }
    }
    s->d = (struct ecg_dataset){.task = task, .n = n, .n_leads = leads, .n_samples = samples};
    s->d.n_labels = labels;
    s->d.hz = 100;
    s->d.x = s->x;
    s->d.y = s->y;
    s->d.part = s->part;
    strcpy(s->d.name, "synthetic");
    for (int c = 0; c < leads; c++) s->d.std[c] = 1;
    for (int l = 0; l < labels; l++) s->d.label[l][0] = (char)('A' + l);
}

static inline void synthetic_free(struct synthetic *s)
{
    free(s->x);
    free(s->y);
    free(s->part);
}

#endif
