/* The integer rules of cpu/rt/format.h against real arithmetic: each op computed here once more in
 * double from the same file must agree to the last step of rounding. (The vector kernels are then
 * compared bit by bit with the portable ones in test_rt_isa.)
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/rt/cinchrt.h"
#include "cpu/rt/fixed.h"
#include "cpu/rt/real.h"
#include "tests/unit/rt/rt_make.h"

static void test_tanh_and_sigmoid(void **state)
{
    int last = -40000;
    assert_int_equal(cinchrt_tanh16(0), 0);
    for (int a = -32768; a < 32768; a++) {
        int y = cinchrt_tanh16((int16_t)a), s = cinchrt_sig16((int16_t)a);
        assert_true(fabs(y / 32768.0 - tanh(a / 4096.0)) < 3e-4);
        assert_true(fabs(s / 32768.0 - 1 / (1 + exp(-a / 2048.0))) < 2e-4);
        assert_true(y >= last - 1); /* monotone but for one step of rounding */
        last = y;
    }
}

static void test_rstd(void **state)
{
    for (uint32_t c = 1; c <= 1024; c++)
        for (double std = 0; std < 32768; std = std * 1.5 + 1) {
            double want = (std * std + 10737.0) * c * c;
            int32_t r, s;
            rt_rstd((uint64_t)want, c, &r, &s);
            assert_in_range(r, 1 << 13, (1 << 14) - 1);
            assert_in_range(s, 9, 20);
            assert_true(fabs(ldexp(r, -s) * sqrt(want) / c / 1024 - 1) < 3e-4);
        }
}

static void test_multipliers(void **state)
{
    struct rt_mult k;
    float x = 0.0371f, negative = -1, tiny = 1e-20f;
    uint32_t bits;
    memcpy(&bits, &x, 4);
    assert_true(rt_mult_decode(bits, &k));
    assert_true(fabs(ldexp(k.m, -k.s) - x) == 0);
    memcpy(&bits, &negative, 4);
    assert_false(rt_mult_decode(bits, &k));
    memcpy(&bits, &tiny, 4);
    assert_false(rt_mult_decode(bits, &k));
    k.m = 3 << 22, k.s = 24;            /* 0.75 */
    assert_int_equal(rt_rq(2, k), 2);   /* 1.5 up */
    assert_int_equal(rt_rq(-2, k), -1); /* -1.5 up */
    for (double v = 2e-6; v < 2000; v *= 1.01) {
        float back = cinchrt_mult16_value(cinchrt_mult16((float)v));
        assert_true(back >= v * (1 - 2e-6) && back <= v * (1 + 1.0 / 256));
        assert_true(cinchrt_mult16(back) == cinchrt_mult16((float)v)); /* a fixed point */
        assert_true(back == ldexp(rt_mult16_m(cinchrt_mult16((float)v)),
                                  -rt_mult16_s(cinchrt_mult16((float)v))));
    }
    assert_true(-3 >> 1 == -2); /* arithmetic shift, on which all this rests */
}

static void test_real(void **state)
{
    for (double x = -750; x < 709; x += 0.37) {
        assert_true(fabs(rt_exp(x) - exp(x)) <= 1e-14 * exp(x) + 1e-320);
        assert_true(fabs(rt_tanh(x) - tanh(x)) < 1e-14);
    }
    for (double x = 1e-6; x < 1e9; x *= 1.7) assert_true(fabs(rt_rsqrt(x) * sqrt(x) - 1) < 1e-14);
    for (float x = -300; x < 300; x += 0.25f) assert_true(rt_rint(x) == rintf(x));
}

struct run {
    struct cinchrt_model *m;
    void *mem, *scratch;
    float logits[8], probability[8];
    double out[64][512]; /* dequantised outputs of up to 64 channels of the layer asked for */
    int want, time, channels;
};

static void keep(void *context, const struct cinchrt_probe *p)
{
    struct run *r = context;
    if (p->layer != r->want) return;
    r->time = p->time, r->channels = p->channels;
    for (int t = 0; t < p->time && t < 512; t++)
        for (int c = 0; c < p->channels && c < 64; c++) {
            size_t at = (size_t)t * (size_t)p->stride + (size_t)c;
            r->out[c][t] = p->type == CINCHRT_PROBE_U8    ? ((const uint8_t *)p->data)[at]
                           : p->type == CINCHRT_PROBE_H16 ? ((const int16_t *)p->data)[at]
                                                          : (double)((const float *)p->data)[at];
        }
}

static struct run *run(const uint8_t *file, size_t n, const float *x, int layer)
{
    struct run *r = calloc(1, sizeof *r);
    size_t bytes;
    assert_int_equal(cinchrt_model_size(file, n, CINCHRT_ISA_PORTABLE, &bytes), 0);
    r->mem = malloc(bytes);
    assert_int_equal(cinchrt_load(&r->m, file, n, CINCHRT_ISA_PORTABLE, r->mem, bytes), 0);
    r->scratch = malloc(cinchrt_scratch_size(r->m));
    r->want = layer;
    cinchrt_run_probed(r->m, x, r->logits, r->probability, r->scratch, keep, r);
    return r;
}

static void stop(struct run *r)
{
    free(r->mem);
    free(r->scratch);
    free(r);
}

static struct cinchrt_file_layer op(int code, int in0, int cout)
{
    struct cinchrt_file_layer f = {
        .op = (uint8_t)code, .in0 = (uint8_t)in0, .in1 = CINCHRT_NO_INPUT, .cout = (uint16_t)cout};
    return f;
}

/* conv 5 -> 6 (k 3, pad 1), then conv with a side input and pooling, then linear: the middle one
 * recomputed. */
static void test_conv_with_side(void **state)
{
    struct rt_make k;
    struct cinchrt_file_layer f;
    float x[5 * 40], z[2];
    uint8_t *file;
    size_t n;
    rt_make_begin(&k, 5, 5, 40, 2);
    f = op(CINCHRT_CONV_I8, CINCHRT_NET_INPUT, 6);
    f.k = 3, f.pad = 1;
    rt_make_layer(&k, f);
    f = op(CINCHRT_CONV_I8, 0, 7);
    f.k = 5, f.pad = 2, f.pool = 3, f.flags = CINCHRT_RELU, f.zero = 9;
    f.in1 = CINCHRT_NET_INPUT;
    rt_make_layer(&k, f);
    f = op(CINCHRT_LINEAR_I8, 1, 2);
    f.flags = CINCHRT_LOGITS;
    rt_make_layer(&k, f);
    const uint8_t *block = NULL;
    file = rt_make_end(&k, &n);
    block = file + k.layer[1].offset;
    rt_make_signal(1, x, 5, 40);
    struct run *first = run(file, n, x, 0), *second = run(file, n, x, 1);
    assert_int_equal(second->time, 13);
    int q[5][40];
    for (int c = 0; c < 5; c++)
        for (int t = 0; t < 40; t++) {
            int v = (int)rintf(x[c * 40 + t] * (1 / k.h.in_scale)) + k.h.in_zero;
            q[c][t] = v < 0 ? 0 : v > 255 ? 255 : v;
        }
    int saturated = 0, inside = 0;
    for (int o = 0; o < 7; o++)
        for (int p = 0; p < 13; p++) {
            double best = -1e18;
            int32_t bias;
            float mult, mult1;
            const int8_t *w = (const int8_t *)block + 7 * 12, *w1 = w + 7 * 6 * 5;
            memcpy(&bias, block + 4 * o, 4);
            memcpy(&mult, block + 28 + 4 * o, 4);
            memcpy(&mult1, block + 56 + 4 * o, 4);
            for (int t = 3 * p; t < 3 * p + 3; t++) {
                double a = bias, side = 0;
                for (int c = 0; c < 6; c++)
                    for (int j = 0; j < 5; j++)
                        if (t + j - 2 >= 0 && t + j - 2 < 40)
                            a += w[(o * 6 + c) * 5 + j] * (first->out[c][t + j - 2] - 127);
                for (int c = 0; c < 5; c++) side += w1[o * 5 + c] * (q[c][t] - k.h.in_zero);
                a += floor(side * mult1 + 0.5);
                if (a > best) best = a;
            }
            double want = floor(best * mult + 0.5) + 9;
            want = want < 9 ? 9 : want > 255 ? 255 : want;
            if (want == 9 || want == 255)
                saturated++;
            else
                inside++;
            assert_true(second->out[o][p] == want);
        }
    assert_true(saturated > 3 && inside > 30);
    for (int o = 0; o < 2; o++) { /* linear, channel-major input */
        const uint8_t *b = file + k.layer[2].offset;
        int32_t bias;
        float mult;
        memcpy(&bias, b + 4 * o, 4);
        memcpy(&mult, b + 8 + 4 * o, 4);
        double a = bias;
        for (int c = 0; c < 7; c++)
            for (int t = 0; t < 13; t++)
                a += (int8_t)b[16 + (o * 7 + c) * 13 + t] * (second->out[c][t] - 9);
        z[o] = (float)a * mult;
        assert_true(second->logits[o] == z[o]);
        assert_true(fabs(second->probability[o] - 1 / (1 + exp(-(double)z[o]))) < 1e-7);
    }
    stop(first);
    stop(second);
    free(file);
}

/* The static LSTM against a float LSTM with the same (dequantised) weights: 8 bits of h, 16 of the
 * cell. */
static void test_lstm_tracks_float(void **state)
{
    enum { H = 11, C = 3, T = 200 };
    struct rt_make k;
    float x[C * T];
    size_t n;
    rt_make_begin(&k, 8, C, T, 1);
    rt_make_layer(&k, op(CINCHRT_LSTM_I8, CINCHRT_NET_INPUT, H));
    struct cinchrt_file_layer f = op(CINCHRT_LAYERNORM_I8, 0, 0);
    f.pool = 50;
    rt_make_layer(&k, f);
    f = op(CINCHRT_LINEAR_I8, 1, 1);
    f.flags = CINCHRT_LOGITS;
    rt_make_layer(&k, f);
    uint8_t *file = rt_make_end(&k, &n);
    uint8_t *b = file + k.layer[0].offset;
    for (int u = 0; u < H; u++) b[24 * H + u] = 10; /* the cell in Q5.10 */
    for (int i = 0; i < 4 * H; i++) { /* gentle recurrent weights, so that errors do not grow */
        uint16_t v = cinchrt_mult16(0.08f);
        memcpy(b + 16 * H + 2 * i, &v, 2);
    }
    uint32_t crc = cinchrt_crc32(file + CINCHRT_CRC_START, n - CINCHRT_CRC_START);
    memcpy(file + 12, &crc, 4);
    rt_make_signal(4, x, C, T);
    struct run *r = run(file, n, x, 0), *ln = run(file, n, x, 1);
    double h[H] = {0}, c[H] = {0}, worst = 0, moved = 0;
    const int8_t *wih = (const int8_t *)b + 25 * H, *whh = wih + 4 * H * C;
    for (int t = 0; t < T; t++) {
        double next[H];
        for (int u = 0; u < H; u++) {
            double v[4];
            for (int g = 0; g < 4; g++) {
                int row = g * H + u;
                int16_t bias;
                uint16_t mx, mh;
                double ax = 0, ah = 0;
                memcpy(&bias, b + 2 * row, 2);
                memcpy(&mx, b + 8 * H + 2 * row, 2);
                memcpy(&mh, b + 16 * H + 2 * row, 2);
                for (int i = 0; i < C; i++) {
                    double q = rint(x[i * T + t] / k.h.in_scale) + k.h.in_zero;
                    ax += wih[row * C + i] * (fmin(fmax(q, 0), 255) - k.h.in_zero);
                }
                for (int i = 0; i < H; i++) ah += whh[row * H + i] * h[i] * 127;
                v[g] =
                    (ax * cinchrt_mult16_value(mx) + ah * cinchrt_mult16_value(mh) + bias) / 2048;
                v[g] = fmin(fmax(v[g], -16), 16);
            }
            c[u] = c[u] / (1 + exp(-v[1])) + tanh(v[2]) / (1 + exp(-v[0]));
            next[u] = tanh(c[u]) / (1 + exp(-v[3]));
        }
        for (int u = 0; u < H; u++) {
            worst = fmax(worst, fabs(next[u] - r->out[u][t] / 32768));
            moved = fmax(moved, fabs(next[u]));
            h[u] = next[u];
        }
    }
    assert_true(worst < 0.03);
    assert_true(moved > 0.5);
    /* LayerNorm and its pool, from the runtime's own h */
    const uint8_t *lb = file + k.layer[1].offset;
    float mult;
    memcpy(&mult, &k.layer[1].param, 4);
    for (int s = 0; s < 4; s++)
        for (int u = 0; u < H; u++) {
            double best = -1e9;
            int32_t bias;
            int16_t gamma;
            memcpy(&bias, lb + 4 * u, 4);
            memcpy(&gamma, lb + 4 * H + 2 * u, 2);
            for (int t = 50 * s; t < 50 * s + 50; t++) {
                double mean = 0, var = 0;
                for (int i = 0; i < H; i++) mean += r->out[i][t] / H;
                for (int i = 0; i < H; i++) var += pow(r->out[i][t] - mean, 2) / H;
                double norm = (r->out[u][t] - mean) / sqrt(var + 10737) * 1024;
                best = fmax(best, (gamma * norm + bias) * mult + 127);
            }
            assert_true(fabs(ln->out[u][s] - fmin(fmax(best, 0), 255)) < 1.0);
        }
    stop(r);
    stop(ln);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tanh_and_sigmoid), cmocka_unit_test(test_rstd),
        cmocka_unit_test(test_multipliers),      cmocka_unit_test(test_real),
        cmocka_unit_test(test_conv_with_side),   cmocka_unit_test(test_lstm_tracks_float),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
