/* Tests of smaller parts: metrics at their edges, the batch gatherer's augmentations, memory plans
 * and the executor's size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/train/backend.h"
#include "nn/exec.h"
#include "nn/metrics.h"
#include "nn/plan.h"

/* Metrics */

static void auroc_by_hand(void **state)
{
    const float p[] = {0.1f, 0.4f, 0.35f, 0.8f}, tied[] = {0.5f, 0.5f, 0.5f, 0.5f};
    const uint8_t y[] = {0, 0, 1, 1}, ones[] = {1, 1, 1, 1}, zeros[4] = {0};
    assert_true(nn_auroc(p, y, 4, 1) == 0.75);
    assert_true(nn_auroc(tied, y, 4, 1) == 0.5);
    assert_true(isnan(nn_auroc(p, ones, 4, 1)));
    assert_true(isnan(nn_auroc(p, zeros, 4, 1)));
    const float broken[] = {0.1f, NAN, 0.3f, 0.4f};
    assert_true(isnan(nn_auroc(broken, y, 4, 1)));
}

/* A label that one class is missing from is reported, and left out of the mean. */
static void undefined_labels(void **state)
{
    const float p[] = {0.1f, 0.9f, 0.3f, 0.4f, 0.2f, 0.7f, 0.35f, 0.6f, 0.5f, 0.8f, 0.1f, 0.2f};
    const uint8_t y[] = {0, 1, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1}; /* label 1 is 1 in every record */
    struct nn_auroc_report r;
    nn_auroc_all(p, y, 4, 3, 1, &r);
    assert_true(isnan(r.per_label[1]) && r.undefined == 1);
    assert_true(fabs(r.macro - (r.per_label[0] + r.per_label[2]) / 2) < 1e-15);
    assert_true(r.ci95[0] <= r.ci95[1]);
    nn_auroc_all(p + 1, y + 1, 1, 3, 1, &r); /* one record: nothing is defined */
    assert_true(isnan(r.macro) && r.undefined == 3 && isnan(r.ci95[0]));
    assert_int_equal(nn_auroc_all(p, y, 0, 3, 1, &r), 0);
    assert_true(isnan(r.macro) && r.undefined == 3);
    const float broken[] = {0.1f, NAN, 0.3f, 0.2f};
    const uint8_t truth[] = {0, 1, 1, 0};
    assert_int_equal(nn_auroc_all(broken, truth, 2, 2, 0, &r), CN_EINVALID);
    assert_true(isnan(r.per_label[1]) &&
                r.per_label[0] == 1); /* said, not taken for a class missing */
}

/* As many labels as an artifact may have: each counted, none beyond its array. */
static void many_labels(void **state)
{
    enum { N = 64, LABELS = NN_MAX_LABELS };
    float *p = malloc(sizeof *p * N * LABELS);
    uint8_t *y = malloc(N * LABELS), *one = calloc(N, LABELS);
    struct nn_auroc_report r;
    struct nn_class_report *k = malloc(sizeof *k);
    for (int i = 0; i < N * LABELS; i++) {
        y[i] = (i / LABELS + i % LABELS) % 2;
        p[i] =
            (float)y[i] * (i % LABELS == 100 ? -1 : 1); /* label 100 is told the wrong way round */
    }
    assert_int_equal(nn_auroc_all(p, y, N, LABELS, 1, &r), 0);
    assert_true(r.undefined == 0 && r.per_label[127] == 1 && r.per_label[100] == 0);
    assert_true(fabs(r.macro - 127.0 / 128) < 1e-12);
    for (int i = 0; i < N; i++) one[i * LABELS + 2 * i] = 1;
    for (int i = 0; i < N * LABELS; i++) p[i] = one[i];
    nn_classify(p, one, N, LABELS, k);
    assert_true(k->accuracy == 1 && k->confusion[126][126] == 1 && k->f1[127] == 0);
    assert_true(fabs(k->macro_f1 - 0.5) < 1e-12);
    free(p);
    free(y);
    free(one);
    free(k);
}

/* Two thousand records: the interval is about ±2 standard errors (Hanley & McNeil) and the same
 * every time. */
static void bootstrap_is_sensible(void **state)
{
    enum { N = 2000 };
    float *p = malloc(N * sizeof *p);
    uint8_t *y = malloc(N);
    for (int i = 0; i < N; i++) {
        cn_rng4 r = cn_rng(1, 1004, 0, (uint64_t)i);
        y[i] = r.v[0] % 2;
        p[i] = cn_rng_uniform(r.v[1]) + 0.3f * y[i];
    }
    struct nn_auroc_report a, b;
    nn_auroc_all(p, y, N, 1, 1, &a);
    nn_auroc_all(p, y, N, 1, 1, &b);
    assert_memory_equal(a.ci95, b.ci95, sizeof a.ci95);
    double q1 = a.macro / (2 - a.macro), q2 = 2 * a.macro * a.macro / (1 + a.macro);
    double se = sqrt((a.macro * (1 - a.macro) + (N / 2 - 1) * (q1 + q2 - 2 * a.macro * a.macro)) /
                     (N / 2.0 * N / 2.0));
    double width = (a.ci95[1] - a.ci95[0]) / (2 * 1.96 * se);
    assert_true(width > 0.8 && width < 1.2);
    free(p);
    free(y);
}

/* The gatherer */

enum { LEADS = 3, SAMPLES = 64, RECORDS = 40, LABELS = 4, BATCH = 8 };

struct gathered {
    float x[BATCH * LEADS * SAMPLES], y[BATCH * LABELS], t[BATCH * LABELS];
};

static float data_x[RECORDS * LEADS * SAMPLES], data_y[RECORDS * LABELS], teacher[RECORDS * LABELS];
static uint32_t rows[RECORDS];

static void fill_data(void)
{
    for (int i = 0; i < RECORDS; i++) {
        rows[i] = (uint32_t)(RECORDS - 1 - i);
        for (int l = 0; l < LABELS; l++) {
            data_y[i * LABELS + l] = (float)((i >> l) & 1);
            teacher[i * LABELS + l] = (float)(i * LABELS + l) / (RECORDS * LABELS);
        }
        for (int k = 0; k < LEADS * SAMPLES; k++)
            data_x[i * LEADS * SAMPLES + k] = (float)(1 + i) + 0.001f * (float)k;
    }
}

static struct gathered gather(struct nn_scalars s, int train, int row0)
{
    struct gathered g;
    struct nn_backend *be;
    struct cpu_train_options opt = {.threads = 2};
    struct cn_error err;
    fill_data();
    assert_int_equal(cpu_train_create(&be, &opt, &err), 0);
    struct nn_gather a = {.m = 1, .b = BATCH, .leads = LEADS, .samples = SAMPLES};
    a.labels = LABELS;
    a.data_x = data_x;
    a.data_y = data_y;
    a.index = rows;
    a.n = RECORDS;
    a.row0 = row0;
    a.train = train;
    a.teacher = teacher;
    a.s = &s;
    a.x = g.x;
    a.y = g.y;
    a.t = g.t;
    assert_int_equal(be->ops->gather(be, &a), 0);
    be->ops->destroy(be);
    return g;
}

static const float *record(const struct gathered *g, int r)
{
    return g->x + r * LEADS * SAMPLES;
}

/* Which dataset record a gathered row is, from its first value. */
static int origin(const struct gathered *g, int r)
{
    return (int)record(g, r)[0] - 1;
}

static void gathers_in_order(void **state)
{
    struct nn_scalars s = {.seed = 1, .aug_shift = 9, .mixup = 1}; /* ignored outside training */
    struct gathered g = gather(s, 0, 16);
    for (int r = 0; r < BATCH; r++) {
        int i = RECORDS - 1 - (16 + r);
        assert_memory_equal(record(&g, r), data_x + i * LEADS * SAMPLES, LEADS * SAMPLES * 4);
        assert_memory_equal(g.y + r * LABELS, data_y + i * LABELS, LABELS * 4);
    }
}

/* An epoch visits every record once, labels and teacher go along, another epoch differs. */
static void shuffles(void **state)
{
    int seen[RECORDS] = {0}, same = 0;
    for (uint32_t at = 0; at < RECORDS; at += BATCH) {
        struct nn_scalars s = {.seed = 3, .epoch = 1, .row0 = at}, t = {.seed = 3, .row0 = at};
        struct gathered g = gather(s, 1, 0), other = gather(t, 1, 0);
        for (int r = 0; r < BATCH; r++) {
            int i = origin(&g, r), place = RECORDS - 1 - i;
            seen[i]++;
            same += i == origin(&other, r);
            assert_memory_equal(g.y + r * LABELS, data_y + i * LABELS, LABELS * 4);
            assert_memory_equal(g.t + r * LABELS, teacher + place * LABELS, LABELS * 4);
        }
    }
    for (int i = 0; i < RECORDS; i++) assert_int_equal(seen[i], 1);
    assert_true(same < RECORDS / 3);
}

static void augments(void **state)
{
    struct nn_scalars plain = {.seed = 3}, s;
    struct gathered was = gather(plain, 1, 0), g;
    double sum = 0, square = 0;
    int moved = 0, leads = 0, masked = 0;

    s = plain, s.aug_shift = 10;
    g = gather(s, 1, 0);
    for (int r = 0; r < BATCH; r++) {
        int shift = 0;
        const float *x = record(&g, r), *w = record(&was, r);
        while (shift < 10 && x[shift] == 0) shift++;
        if (!shift) {
            while (shift < 10 && x[SAMPLES - 1 - shift] == 0) shift++;
            shift = -shift;
        }
        moved += shift != 0;
        for (int t = 0; t < SAMPLES; t++)
            assert_true(x[t] == (t - shift >= 0 && t - shift < SAMPLES ? w[t - shift] : 0));
    }
    assert_true(moved >= BATCH / 2);

    s = plain, s.aug_scale = 0.2f;
    g = gather(s, 1, 0);
    for (int r = 0; r < BATCH; r++) {
        float factor = record(&g, r)[0] / record(&was, r)[0];
        assert_true(factor >= 0.8f && factor <= 1.2f);
        for (int k = 0; k < LEADS * SAMPLES; k++)
            assert_true(fabsf(record(&g, r)[k] - factor * record(&was, r)[k]) < 1e-4f);
        sum += factor;
    }
    assert_true(fabs(sum / BATCH - 1) < 0.15);

    s = plain, s.aug_noise = 0.5f, sum = 0;
    g = gather(s, 1, 0);
    for (int k = 0; k < BATCH * LEADS * SAMPLES; k++) {
        double d = g.x[k] - was.x[k];
        sum += d;
        square += d * d;
    }
    double n = BATCH * LEADS * SAMPLES;
    assert_true(fabs(sum / n) < 0.05 && fabs(sqrt(square / n) - 0.5) < 0.03);

    s = plain, s.aug_lead = 0.5f;
    g = gather(s, 1, 0);
    for (int l = 0; l < BATCH * LEADS; l++) leads += g.x[l * SAMPLES] == 0;
    assert_true(leads > BATCH * LEADS / 4 && leads < BATCH * LEADS * 3 / 4);

    s = plain, s.aug_mask = 0.5f;
    g = gather(s, 1, 0);
    for (int r = 0; r < BATCH; r++) {
        int zeros = 0, edges = 0;
        for (int t = 0; t < SAMPLES; t++) {
            zeros += record(&g, r)[t] == 0;
            edges += t > 0 && (record(&g, r)[t] == 0) != (record(&g, r)[t - 1] == 0);
        }
        assert_true(zeros <= SAMPLES / 2 && edges <= 2);
        masked += zeros > 0;
    }
    assert_true(masked >= BATCH / 2);
}

/* Noise is the documented function of (seed, epoch, position, element), whatever order it is drawn
 * in: another device relies on it. */
static void noise_is_as_documented(void **state)
{
    struct nn_scalars plain = {.seed = 3, .epoch = 2, .row0 = 16}, s = plain;
    struct gathered was = gather(plain, 1, 0);
    s.aug_noise = 1;
    struct gathered g = gather(s, 1, 0);
    for (uint64_t r = 0; r < BATCH; r++)
        for (uint64_t e = 0; e < LEADS * SAMPLES; e++) {
            cn_rng4 v = cn_rng(3, CN_RNG_NOISE, 2, (16 + r) << 32 | e / 4);
            uint32_t word = v.v[e % 4];
            int sum = 0;
            for (int b = 0; b < 4; b++) sum += (int)(word >> 8 * b & 255);
            double want = (sum - 510) / sqrt(4 * (256.0 * 256 - 1) / 12);
            size_t at = (size_t)r * LEADS * SAMPLES + (size_t)e;
            assert_true(fabs(g.x[at] - was.x[at] - want) < 1e-5);
        }
}

/* Mixtures: row r and row b-1-r, signal, labels and teacher with the same share. */
static void mixes(void **state)
{
    struct nn_scalars plain = {.seed = 3}, s = {.seed = 3, .mixup = 1};
    struct gathered was = gather(plain, 1, 0), g = gather(s, 1, 0);
    int mixed = 0;
    for (int r = 0; r < BATCH; r++) {
        int q = BATCH - 1 - r;
        float a = record(&was, r)[0], b = record(&was, q)[0];
        float share = (record(&g, r)[0] - b) / (a - b);
        assert_true(share > -1e-4f && share < 1.0001f);
        mixed += share > 0.02f && share < 0.98f;
        for (int l = 0; l < LABELS; l++) {
            int i = r * LABELS + l, j = q * LABELS + l;
            assert_true(fabsf(g.y[i] - share * was.y[i] - (1 - share) * was.y[j]) < 1e-4f);
            assert_true(fabsf(g.t[i] - share * was.t[i] - (1 - share) * was.t[j]) < 1e-4f);
        }
    }
    assert_true(mixed > BATCH / 2);
}

static void smooths(void **state)
{
    struct nn_scalars plain = {.seed = 3}, s = {.seed = 3, .smooth = 0.1f};
    struct gathered was = gather(plain, 1, 0), g = gather(s, 1, 0);
    for (int i = 0; i < BATCH * LABELS; i++)
        assert_true(fabsf(g.y[i] - (was.y[i] * 0.9f + 0.05f)) < 1e-6f);
}

/* Plans */

static void plans_do_not_overlap(void **state)
{
    struct nn_plan p = {0};
    size_t bytes, sum = 0;
    for (int i = 0; i < 200; i++) {
        cn_rng4 r = cn_rng(1, 1005, 0, (uint64_t)i);
        int from = (int)(r.v[0] % 60);
        nn_plan_add(&p, 1 + r.v[1] % 5000, from, from + (int)(r.v[2] % 20));
        sum += p.buffer[i].bytes;
    }
    assert_int_equal(nn_plan_place(&p, &bytes, NULL), 0);
    assert_true(bytes < sum / 2); /* a third are alive at once at most */
    for (int i = 0; i < p.n; i++)
        for (int k = 0; k < i; k++) {
            const struct nn_plan_buffer *a = &p.buffer[i], *b = &p.buffer[k];
            int alive = a->from <= b->to && b->from <= a->to;
            int apart = a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset;
            assert_true(!alive || apart);
            assert_true(a->offset % 256 == 0 && a->offset + a->bytes <= bytes);
        }
}

/* The largest net's training at study A's batch stays under 1.5 GB, on any kernels. */
static void resnet_memory(void **state)
{
    const char *const isa[] = {"ref", NULL};
    for (int k = 0; k < 2; k++) {
        struct nn_backend *be;
        struct cpu_train_options opt = {.threads = 1, .isa = isa[k]};
        struct nn_net *net;
        struct nn_exec *ex;
        struct cn_error err;
        assert_int_equal(cpu_train_create(&be, &opt, &err), 0);
        assert_int_equal(nn_net_build(&net, "resnet", NULL, 0, (struct nn_shape){0}, &err), 0);
        assert_int_equal(nn_exec_create(&ex, be, net, 1, 128, 1, &err), 0);
        print_message("resnet, batch 128, %s: %.0f MB\n", isa[k] ? isa[k] : "best",
                      (double)nn_exec_bytes(ex) / 1e6);
        assert_true(nn_exec_bytes(ex) < 1500000000);
        nn_exec_destroy(ex);
        nn_net_destroy(net);
        be->ops->destroy(be);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(auroc_by_hand),
        cmocka_unit_test(undefined_labels),
        cmocka_unit_test(many_labels),
        cmocka_unit_test(bootstrap_is_sensible),
        cmocka_unit_test(gathers_in_order),
        cmocka_unit_test(shuffles),
        cmocka_unit_test(augments),
        cmocka_unit_test(noise_is_as_documented),
        cmocka_unit_test(mixes),
        cmocka_unit_test(smooths),
        cmocka_unit_test(plans_do_not_overlap),
        cmocka_unit_test(resnet_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
