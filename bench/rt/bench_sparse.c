/* bench/rt/bench_sparse.c - does it pay to skip zero weights? The runtime's dense kernels, which
 * multiply by zeros, against candidates that do not (sparse.h), layer by layer, on nets with random
 * weights of which a share is zero.
 *
 *     bench_sparse [SHARE]        default 0.6: `beat` and `cnn`, float and int8, on AVX512-VNNI
 *
 * The least time of many short rounds, in which both sides alternate; one thread. Float convolutions are whole
 * layers; "+ layout" adds bringing activations from the runtime's order of [time][channel] into the candidate's and
 * back. Int8 candidates leave out everything after the sums and so look better than they could be.
 * Each candidate's result is first compared with plain loops. With SHARE 0 the candidates show what
 * they owe to their layout and not to the zeros.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/rt/sparse.h"
#include "cpu/rt/cinchrt.h"
#include "tests/unit/rt/rt_make.h"

#define ROUNDS 400
#define REPEATS 5
#define STRIDE 1152 /* floats or words per row of a candidate's input and output */
#define ROWS 512

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* One layer of the file: its weights, and the candidate made of them. */
struct layer {
    struct cinchrt_layer_info info;
    const float *wf; /* [cout][cin][k], or NULL */
    const int8_t *wi;
    struct sparse_layer s;
    int by_taps; /* int8: words of four taps of a channel, else of four channels at a tap */
    int words;   /* int8: rows of words in x */
    double dense, sparse, layout; /* least microseconds */
};

static struct bench {
    struct cinchrt_model *m;
    void *mem, *scratch;
    int n, last;
    double t; /* of the last probe */
    struct layer layer[16];
    float *x, *input, *y; /* candidate's input, the net's, an output */
    uint8_t *q;
} B;

static int linear(const struct layer *l)
{
    return l->info.k == 0;
}

/* Weight of output o, channel c, tap j; as int or the float's value. */
static double weight(const struct layer *l, int o, int c, int j)
{
    int k = linear(l) ? l->info.tin : l->info.k;
    size_t at = ((size_t)o * (size_t)l->info.cin + (size_t)c) * (size_t)k + (size_t)j;
    return l->wf ? (double)l->wf[at] : l->wi[at];
}

static void add(struct sparse_layer *s, int *n, size_t offset, int32_t bits)
{
    s->offset[*n] = (int32_t)offset;
    s->weight[(*n)++] = bits;
}

/* Single weights. unit: what a step of time and a channel count in x. */
static void pick_weights(struct layer *l, int o, int *n, size_t row)
{
    int k = linear(l) ? l->info.tin : l->info.k;
    for (int c = 0; c < l->info.cin; c++)
        for (int j = 0; j < k; j++) {
            double w = weight(l, o, c, j);
            float f = (float)w;
            int32_t bits = (int32_t)w;
            if (l->wf) memcpy(&bits, &f, 4);
            if (w != 0) add(&l->s, n, (size_t)c * row + (size_t)j, bits);
        }
}

/* Four int8 weights that share a word of x; left out when all are zero. */
static void pick_words(struct layer *l, int o, int *n)
{
    int taps = l->info.k, cin = l->info.cin;
    int groups = l->by_taps ? (taps + 3) / 4 : (cin + 3) / 4, others = l->by_taps ? cin : taps;
    for (int g = 0; g < groups; g++)
        for (int r = 0; r < others; r++) {
            int8_t four[4] = {0};
            int32_t bits;
            for (int i = 0; i < 4; i++) {
                int c = l->by_taps ? r : 4 * g + i, j = l->by_taps ? 4 * g + i : r;
                if (c < cin && j < taps) four[i] = (int8_t)weight(l, o, c, j);
            }
            memcpy(&bits, four, 4);
            size_t row = l->by_taps ? (size_t)r : (size_t)g,
                   step = l->by_taps ? 4u * (size_t)g : (size_t)r;
            if (bits) add(&l->s, n, 4 * (row * STRIDE + step), bits);
        }
}

static void make_candidate(struct layer *l)
{
    static float zero[4096];
    int n = 0, k = linear(l) ? l->info.tin : l->info.k;
    size_t most = (size_t)l->info.cout * (size_t)(l->info.cin + 3) * (size_t)(k + 3);
    struct sparse_layer *s = &l->s;
    s->cout = l->info.cout, s->pool = l->info.pool, s->tout = l->info.tout;
    s->t = linear(l) ? 1 : l->info.tin + 2 * l->info.pad - l->info.k + 1;
    s->bias = zero;
    s->start = malloc(sizeof *s->start * (size_t)(s->cout + 1));
    s->offset = malloc(sizeof *s->offset * most);
    s->weight = malloc(sizeof *s->weight * most);
    l->by_taps = (k + 3) / 4 * l->info.cin < (l->info.cin + 3) / 4 * k;
    l->words = l->by_taps ? l->info.cin : (l->info.cin + 3) / 4;
    for (int o = 0; o < s->cout; o++) {
        s->start[o] = n;
        if (l->wi && !linear(l))
            pick_words(l, o, &n);
        else
            pick_weights(l, o, &n, linear(l) ? (size_t)k : STRIDE);
    }
    s->start[s->cout] = n;
}

static void run_candidate(const struct layer *l)
{
    if (linear(l) && l->wf) sparse_linear_f32(&l->s, B.x, B.y);
    if (linear(l) && l->wi) sparse_linear_i8(&l->s, B.q, (int32_t *)(void *)B.y);
    if (!linear(l) && l->wf) sparse_conv_f32(&l->s, B.x, B.y, STRIDE);
    if (!linear(l) && l->wi) sparse_conv_i8(&l->s, B.q, (int32_t *)(void *)B.y, STRIDE);
}

/* ------------------------------------------------------------------------- is it right at all? */

/* Element (c, t) of the candidate's input. */
static double element(const struct layer *l, int c, int t)
{
    if (linear(l)) return l->wf ? (double)B.x[c * l->info.tin + t] : B.q[c * l->info.tin + t];
    if (l->wf) return (double)B.x[c * STRIDE + t];
    if (l->by_taps) return B.q[4 * (c * STRIDE + t)];
    return B.q[4 * (c / 4 * STRIDE + t) + c % 4];
}

static double plain_sum(const struct layer *l, int o, int t)
{
    int k = linear(l) ? l->info.tin : l->info.k;
    double sum = 0;
    for (int c = 0; c < l->info.cin; c++)
        for (int j = 0; j < k; j++) sum += weight(l, o, c, j) * element(l, c, t + j);
    return sum;
}

static void check(const struct layer *l)
{
    int pool = l->wf && !linear(l) ? l->info.pool : 1, steps = l->wf ? l->info.tout : l->s.t;
    run_candidate(l);
    for (int o = 0; o < l->s.cout; o++)
        for (int t = 0; t < (linear(l) ? 1 : steps); t++) {
            double want = linear(l) || l->wi ? plain_sum(l, o, t) : 0;
            for (int p = 0; l->wf && !linear(l) && p < pool; p++)
                want = fmax(want, plain_sum(l, o, t * pool + p));
            size_t at = linear(l) ? (size_t)o : (size_t)o * STRIDE + (size_t)t;
            double got = l->wf ? (double)B.y[at] : ((int32_t *)(void *)B.y)[at];
            if (!(fabs(got - want) <= (l->wf ? 1e-3 * (1 + fabs(want)) : 0))) {
                fprintf(stderr, "wrong: output %d, step %d: %g, not %g\n", o, t, got, want);
                exit(1);
            }
        }
}

/* ------------------------------------------------------------------------------------- measuring */

/* What the runtime's layout would cost the candidate: its input in, its output out. A single lead
 * has one layout only. */
static void move_layout(const struct layer *l)
{
    int in = (l->info.cin + 3) / 4 * 4, out = (l->info.tout + 3) / 4 * 4;
    if (l->info.cin > 1) sparse_transpose(B.x, l->info.tin, in, B.y, STRIDE);
    sparse_transpose(B.x, l->info.cout, out, B.y, (l->info.cout + 3) / 4 * 4);
}

static void probe(void *context, const struct cinchrt_probe *p)
{
    double t = now_us();
    if (t - B.t < B.layer[p->layer].dense) B.layer[p->layer].dense = t - B.t;
    B.t = t;
}

static void measure(void)
{
    float z[8];
    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < REPEATS; i++) {
            /* the first layer's share begins with the input's quantisation or transposition */
            B.t = now_us();
            cinchrt_run_probed(B.m, B.input, z, NULL, B.scratch, probe, NULL);
        }
        for (int i = 0; i < B.n; i++)
            for (int k = 0; k < REPEATS; k++) {
                struct layer *l = &B.layer[i];
                double t = now_us(), done;
                run_candidate(l);
                done = now_us();
                if (done - t < l->sparse) l->sparse = done - t;
                if (l->wi || linear(l)) continue;
                t = now_us();
                move_layout(l);
                done = now_us();
                if (done - t < l->layout) l->layout = done - t;
            }
    }
}

static void open_net(const char *net, int kind, double share, uint8_t **file)
{
    size_t n, bytes;
    struct cinchrt_file_header h;
    *file = rt_make_net(net, kind, NULL, 255, 1, &n);
    rt_make_zeros(*file, n, share, 3);
    memcpy(&h, *file, sizeof h);
    if (cinchrt_model_size(*file, n, CINCHRT_ISA_AVX512VNNI, &bytes)) exit(1);
    B.mem = malloc(bytes);
    if (cinchrt_load(&B.m, *file, n, CINCHRT_ISA_AVX512VNNI, B.mem, bytes)) exit(1);
    B.scratch = malloc(cinchrt_scratch_size(B.m));
    B.n = h.layers;
    rt_make_signal(1, B.input, h.leads, h.samples);
    for (int i = 0; i < B.n; i++) {
        struct layer *l = &B.layer[i];
        struct cinchrt_file_layer f;
        memset(l, 0, sizeof *l);
        l->dense = l->sparse = 1e30;
        cinchrt_layer_info(B.m, i, &l->info);
        l->layout = kind || linear(l) ? 0 : 1e30;
        memcpy(&f, *file + sizeof h + 8u * h.leads + 8u * h.labels + sizeof f * (size_t)i,
               sizeof f);
        const uint8_t *end = *file + f.offset + cinchrt_layer_bytes(&f, (uint32_t)l->info.tin);
        const uint8_t *w = end - l->info.weights * (kind ? 1 : 4);
        if (kind) {
            l->wi = (const int8_t *)w;
        } else { /* aligned */
            float *copy = malloc(l->info.weights * 4);
            memcpy(copy, w, l->info.weights * 4);
            l->wf = copy;
        }
        make_candidate(l);
        check(l);
    }
}

static void report(const char *net, int kind, double share)
{
    double dense = 0, sparse = 0, layout = 0;
    printf("\n%s, %s, %.0f %% of the weights at zero\n", net, kind ? "int8" : "float", 100 * share);
    printf(
        "  layer  kind           MACs  not zero  dense us  sparse us  + layout  dense / sparse\n");
    for (int i = 0; i < B.n; i++) {
        const struct layer *l = &B.layer[i];
        printf("  %5d  %-10s %8llu   %5.1f %%  %8.3f   %8.3f  %8.3f           %5.2f\n", i,
               l->info.op, (unsigned long long)l->info.macs,
               100.0 * (double)l->info.macs_nonzero / (double)l->info.macs, l->dense, l->sparse,
               l->sparse + l->layout, l->dense / (l->sparse + l->layout));
        dense += l->dense;
        sparse += l->sparse;
        layout += l->layout;
    }
    printf("  all layers                            %8.3f   %8.3f  %8.3f           %5.2f\n", dense,
           sparse, sparse + layout, dense / (sparse + layout));
}

static void close_net(uint8_t *file)
{
    for (int i = 0; i < B.n; i++) {
        free(B.layer[i].s.start);
        free(B.layer[i].s.offset);
        free(B.layer[i].s.weight);
        free((void *)(uintptr_t)B.layer[i].wf);
    }
    free(B.mem);
    free(B.scratch);
    free(file);
}

int main(int argc, char **argv)
{
    static const char *const nets[] = {"beat", "cnn"};
    double share = argc > 1 ? atof(argv[1]) : 0.6;
    if (!cinchrt_isa_available(CINCHRT_ISA_AVX512VNNI)) {
        puts("SKIPPED: this CPU has no AVX512-VNNI");
        return 0;
    }
    B.x = calloc(ROWS * STRIDE, sizeof *B.x);
    B.y = calloc(ROWS * STRIDE, sizeof *B.y);
    B.q = calloc(ROWS * STRIDE, 4);
    B.input = calloc(12 * 1000, sizeof *B.input);
    struct rt_make random = {.seed = 4};
    for (int i = 0; i < ROWS * STRIDE; i++) B.x[i] = (float)rt_make_uniform(&random, -1, 1);
    /* a word is what a step and the three after it hold, as words of taps are */
    for (int i = 0; i < ROWS * STRIDE; i++) B.q[4 * i] = (uint8_t)rt_make_random(&random);
    for (int i = 0; i < ROWS * STRIDE - 3; i++)
        for (int k = 1; k < 4; k++) B.q[4 * i + k] = B.q[4 * (i + k)];
    for (int i = 0; i < 2; i++)
        for (int kind = 0; kind < 2; kind++) {
            uint8_t *file;
            open_net(nets[i], kind, share, &file);
            measure();
            report(nets[i], kind, share);
            close_net(file);
        }
    free(B.x), free(B.y), free(B.q), free(B.input);
    return 0;
}
