/* The beat net in int8 is one function, however it is computed: the rules of cpu/rt/format.h written
 * down once more here in 64 bits, the runtime on every instruction set that this CPU has, and the
 * exported C source compiled as strict C99 give the same bits. Whole, structurally pruned and masked
 * nets, every mode; on ordinary records and on ones that saturate the input. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "cpu/quant/improve.h"
#include "export/artifact.h"
#include "export/export.h"
#include "nn/prune.h"
#include "tests/unit/quant/made.h"

#define WORK CINCH_BINARY_DIR "/tests/beat_exact"
#define STRICT "-std=c99 -O1 -Wall -Wextra -Wshadow -pedantic -Werror"
#define RECORDS 48
#define SAMPLES 260
#define LABELS 5
#define WIDEST (20 * 60)

/* ------------------------------------------------------------------------ the rules once more */

static int64_t requantise(int64_t a, float mult)
{
    int e;
    int64_t m = (int64_t)ldexpf(frexpf(mult, &e), 24);
    int s = 24 - e;
    return (a * m + ((int64_t)1 << (s - 1))) >> s;
}

static int clamp(int64_t v, int64_t low, int64_t high)
{
    return (int)(v < low ? low : v > high ? high : v);
}

/* Sum of output channel o at time t (before the pool). x [cin][tin]. */
static int64_t sum_at(const struct export_layer *l, const int *x, int zero, int o, int t)
{
    int k = export_is_conv(l) ? l->f.k : l->tin;
    int64_t sum = export_i32(l->bias, (size_t)o);
    for (int c = 0; c < l->f.cin; c++)
        for (int j = 0; j < k; j++) {
            int at = export_is_conv(l) ? t + j - l->f.pad : j;
            int v = at >= 0 && at < l->tin ? x[c * l->tin + at] : zero;
            sum += (int8_t)l->w[(o * l->f.cin + c) * k + j] * (int64_t)(v - zero);
        }
    return sum;
}

static int64_t largest_sum(const struct export_layer *l, const int *x, int zero, int o, int t)
{
    int64_t most = INT64_MIN;
    for (int p = 0; p < l->f.pool; p++) {
        int64_t sum = sum_at(l, x, zero, o, t * l->f.pool + p);
        if (sum > most) most = sum;
    }
    return most;
}

/* saturated: how many activations stood at the upper end. */
static void reference(const struct export_artifact *a, const float *x, float *logits,
                      long *saturated)
{
    static int q[2][WIDEST];
    int *in = q[0], *out = q[1];
    const float per_step = 1 / a->edge[0].scale;
    for (int i = 0; i < SAMPLES; i++) {
        float v = rintf(x[i] * per_step);
        in[i] = isnan(v)    ? 0
                : v > 1e6f  ? a->edge[0].qmax
                : v < -1e6f ? 0
                            : clamp((int64_t)v + a->edge[0].zero, 0, a->edge[0].qmax);
        *saturated += in[i] == a->edge[0].qmax;
    }
    for (int i = 0; i < a->n; i++) {
        const struct export_layer *l = &a->layer[i];
        const struct export_edge *to = &a->edge[i + 1];
        for (int o = 0; o < l->f.cout; o++)
            for (int t = 0; t < l->tout; t++) {
                int64_t sum = largest_sum(l, in, a->edge[i].zero, o, t);
                float mult = export_f32(l->mult, (size_t)o);
                if (i == a->n - 1) {
                    logits[o] = (float)sum * mult;
                    continue;
                }
                int low = l->f.flags & CINCHRT_RELU ? to->zero : 0;
                out[o * l->tout + t] = clamp(to->zero + requantise(sum, mult), low, to->qmax);
                *saturated += out[o * l->tout + t] == to->qmax;
            }
        int *swap = in;
        in = out, out = swap;
    }
}

/* ------------------------------------------------------------------------------------- records */

/* Half of them as the net was calibrated on, the others louder and louder, flat, stepped, endless. */
static float *draw_records(const struct made *made)
{
    float *x = malloc(sizeof *x * RECORDS * SAMPLES);
    for (int r = 0; r < RECORDS; r++)
        for (int t = 0; t < SAMPLES; t++) {
            float v = unfused_noise(900 + (uint64_t)r, t);
            if (r < 24) v = made->x[r % made->d.n * SAMPLES + t] + 0.1f * v;
            if (r >= 24 && r < 40) v *= ldexpf(1, (r - 24) * 2);
            if (r == 40) v = 0;
            if (r == 41) v = 1e30f;
            if (r == 42) v = -1e30f;
            if (r == 43) v = t < 130 ? 1e4f : -1e4f;
            if (r == 44) v = t % 2 ? 40 : -40;
            if (r == 45) v = t == 99 ? INFINITY : 0;
            if (r == 46) v = t == 99 ? -INFINITY : v;
            if (r == 47) v = t % 3 ? v : NAN;
            x[r * SAMPLES + t] = v;
        }
    return x;
}

static void write_records(const float *x)
{
    FILE *f = fopen(WORK "/x.txt", "w");
    assert_non_null(f);
    for (int i = 0; i < RECORDS * SAMPLES; i++) fprintf(f, "%.9g\n", (double)x[i]);
    assert_int_equal(fclose(f), 0);
}

/* --------------------------------------------------------------------------- the three ways */

struct answers {
    float logits[RECORDS][LABELS], probability[RECORDS][LABELS];
};

static void run_isa(const void *file, size_t n, enum cinchrt_isa isa, const float *x,
                    struct answers *out)
{
    struct cinchrt_model *m;
    size_t bytes;
    assert_int_equal(cinchrt_model_size(file, n, isa, &bytes), 0);
    void *memory = malloc(bytes);
    assert_int_equal(cinchrt_load(&m, file, n, isa, memory, bytes), 0);
    void *scratch = malloc(cinchrt_scratch_size(m));
    for (int r = 0; r < RECORDS; r++)
        cinchrt_run(m, x + r * SAMPLES, out->logits[r], out->probability[r], scratch);
    free(scratch);
    free(memory);
}

static void run_program(const void *file, size_t n, struct answers *out)
{
    struct cn_error err;
    char *c;
    size_t c_n;
    if (export_c(file, n, "net", &c, &c_n, &err)) fail_msg("%s", err.text);
    assert_int_equal(cn_file_write(WORK "/net.c", c, c_n, &err), 0);
    free(c);
    assert_int_equal(system(CINCH_CC " " STRICT " -Dnet_MAIN -o " WORK "/net " WORK
                                     "/net.c && " WORK "/net < " WORK "/x.txt > " WORK "/y.txt"),
                     0);
    FILE *f = fopen(WORK "/y.txt", "r");
    assert_non_null(f);
    for (int r = 0; r < RECORDS; r++)
        for (int l = 0; l < LABELS; l++)
            assert_int_equal(fscanf(f, "%f %f", &out->logits[r][l], &out->probability[r][l]), 2);
    fclose(f);
}

static void check_artifact(const char *what, const void *file, size_t n, const float *x)
{
    static struct answers want, got;
    struct export_artifact a;
    struct cn_error err;
    long saturated = 0;
    assert_int_equal(export_open(&a, file, n, &err), 0);
    run_isa(file, n, CINCHRT_ISA_PORTABLE, x, &want);
    for (int r = 0; r < RECORDS; r++) {
        float z[LABELS];
        reference(&a, x + r * SAMPLES, z, &saturated);
        if (memcmp(z, want.logits[r], sizeof z) != 0)
            fail_msg("%s, record %d: logit 0 is %.9g, the rules say %.9g", what, r,
                     (double)want.logits[r][0], (double)z[0]);
    }
    assert_true(saturated > 2000);
    for (int isa = 1; isa < CINCHRT_ISA_COUNT; isa++) {
        if (!cinchrt_isa_available((enum cinchrt_isa)isa)) continue;
        run_isa(file, n, (enum cinchrt_isa)isa, x, &got);
        if (memcmp(&got, &want, sizeof got) != 0)
            fail_msg("%s: %s differs from portable", what, cinchrt_isa_name((enum cinchrt_isa)isa));
    }
    run_program(file, n, &got);
    if (memcmp(&got, &want, sizeof got) != 0) fail_msg("%s: the C source differs", what);
    export_close(&a);
}

/* --------------------------------------------------------------------------------------- nets */

static struct nn_model *make_model(const int *widths, double sparsity)
{
    struct nn_model *m = unfused_model("beat", widths, widths ? 5 : 0, 11);
    float *mask = malloc(sizeof *mask * m->net->n_params);
    struct cn_error err;
    assert_int_equal(nn_prune_mask(m, sparsity, mask, &err), 0);
    for (size_t i = 0; i < m->net->n_params; i++) m->params[i] *= mask[i];
    free(mask);
    return m;
}

static void check_net(const char *name, const int *widths, double sparsity)
{
    struct nn_model *m = make_model(widths, sparsity);
    struct made *made = made_dataset(m->net, 30);
    float *x = draw_records(made);
    struct cn_error err;
    char what[64];
    write_records(x);
    for (int mode = QUANT_PAPER; mode <= QUANT_BEST; mode++) {
        struct quant_artifact a;
        struct quant_options opt = {.mode = (enum quant_mode)mode};
        if (quant_convert(&a, m, &made->d, &opt, &err)) fail_msg("%s", err.text);
        snprintf(what, sizeof what, "%s, mode %s", name, quant_mode_names[mode]);
        check_artifact(what, a.data, a.n, x);
        quant_artifact_release(&a);
    }
    free(x);
    made_destroy(made);
    nn_model_destroy(m);
}

static void test_whole(void **state)
{
    check_net("whole", NULL, 0);
}

static void test_pruned(void **state)
{
    check_net("structurally pruned", (const int[]){3, 7, 6, 11, 9}, 0);
    check_net("one of everything", (const int[]){1, 1, 1, 1, 1}, 0);
}

static void test_masked(void **state)
{
    check_net("60 % of the weights at zero", NULL, 0.6);
    check_net("95 % of the weights at zero", NULL, 0.95);
    check_net("pruned and masked", (const int[]){4, 9, 15, 20, 12}, 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole), cmocka_unit_test(test_pruned),
                                       cmocka_unit_test(test_masked)};
    struct cn_error err;
    if (cn_mkdirs(WORK, &err)) return 1;
    return cmocka_run_group_tests_name("beat_exact", tests, NULL, NULL);
}
