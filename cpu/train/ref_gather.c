/* cpu/train/ref_gather.c - a batch from the resident dataset: shuffled, augmented, mixed.
 *
 * What each draw is (all Philox, keyed by the member's seed and epoch; `pos` = position of the row
 * in the epoch), so that another device can draw the same:
 *   AUGMENT index pos<<8 | 0: v[0] shift, v[1] amplitude, v[2] length of the mask, v[3] its start
 *   AUGMENT index pos<<8 | 1 + lead/4: v[lead % 4] whether the lead is zeroed
 *   NOISE   index pos<<32 | e/4, e = lead·samples + t: v[e % 4], whose four bytes are summed (an
 *           Irwin-Hall variable, near-Gaussian) and scaled to unit variance
 *   MIXUP   index pos<<8 | try: Jöhnk's Beta(a, a) from v[0], v[1]
 * value = masked or zeroed ? 0 : x[t - shift]·(1 + amplitude) + noise.
 * Mixup: row r of a batch of b becomes λ·row r + (1-λ)·row b-1-r, signals, labels and teacher
 * alike.
 */
#include "base/rng.h"
#include "cpu/train/context.h"
#include "cpu/train/ref.h"

#include <math.h>
#include <string.h>

#define MIXUP_TRIES 64
#define LANES 16 /* draws side by side */
/* 1 / standard deviation of the sum of four uniform bytes: sqrt(4·(256² - 1)/12) */
#define NOISE_UNIT (1.0f / 147.8006f)

/* One record's draws. */
struct augment {
    int shift, mask_at, mask_n;
    float scale, noise;
    uint32_t zeroed; /* bit per lead */
};

static struct augment draw_augment(const struct nn_gather *a, const struct nn_scalars *s,
                                   uint32_t pos)
{
    struct augment g = {.scale = 1, .noise = s->aug_noise};
    cn_rng4 r = cn_rng(s->seed, CN_RNG_AUGMENT, s->epoch, (uint64_t)pos << 8);
    g.shift = (int)rintf((2 * cn_rng_uniform(r.v[0]) - 1) * s->aug_shift);
    g.scale += (2 * cn_rng_uniform(r.v[1]) - 1) * s->aug_scale;
    g.mask_n = (int)(cn_rng_uniform(r.v[2]) * s->aug_mask * (float)a->samples);
    g.mask_at = (int)(cn_rng_uniform(r.v[3]) * (float)(a->samples - g.mask_n + 1));
    for (int l = 0; s->aug_lead > 0 && l < a->leads; l++) {
        if (l % 4 == 0)
            r = cn_rng(s->seed, CN_RNG_AUGMENT, s->epoch,
                       (uint64_t)pos << 8 | (uint64_t)(1 + l / 4));
        if (cn_rng_uniform(r.v[l % 4]) < s->aug_lead) g.zeroed |= 1u << l;
    }
    return g;
}

static float noise_of(uint32_t v)
{
    int sum = (int)(v & 255) + (int)(v >> 8 & 255) + (int)(v >> 16 & 255) + (int)(v >> 24);
    return (float)(sum - 510) * NOISE_UNIT;
}

/* cn_rng of LANES indexes from `index` on, side by side so that a compiler can vectorise it: noise
 * takes thousands of draws a record. */
static void draw_noise(const struct nn_scalars *s, uint64_t index, float out[4 * LANES])
{
    uint32_t c0[LANES], c1[LANES], c2[LANES], c3[LANES];
    uint32_t k0 = (uint32_t)s->seed, k1 = (uint32_t)(s->seed >> 32);
    for (uint32_t l = 0; l < LANES; l++) {
        c0[l] = (uint32_t)index + l; /* the low half holds e/4 and never overflows */
        c1[l] = (uint32_t)(index >> 32);
        c2[l] = s->epoch;
        c3[l] = CN_RNG_NOISE;
    }
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < LANES; l++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[l], p1 = (uint64_t)0xCD9E8D57u * c2[l];
            uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c1[l] = (uint32_t)p1;
            c3[l] = (uint32_t)p0;
            c0[l] = n0;
            c2[l] = n2;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int l = 0; l < LANES; l++) {
        out[4 * l] = noise_of(c0[l]);
        out[4 * l + 1] = noise_of(c1[l]);
        out[4 * l + 2] = noise_of(c2[l]);
        out[4 * l + 3] = noise_of(c3[l]);
    }
}

/* Onto all n values of a record. */
static void add_noise(const struct nn_scalars *s, uint32_t pos, float strength, int n, float *x)
{
    float draw[4 * LANES];
    for (int e = 0; e < n; e += 4 * LANES) {
        int some = n - e < 4 * LANES ? n - e : 4 * LANES;
        draw_noise(s, (uint64_t)pos << 32 | (uint64_t)(e / 4), draw);
        for (int k = 0; k < some; k++) x[e + k] += strength * draw[k];
    }
}

/* out[t] = in[t - shift]·scale, zero where the record has no such sample. */
static void shift_lead(const float *in, int n, int shift, float scale, float *out)
{
    int lo = shift > 0 ? shift : 0, hi = shift < 0 ? n + shift : n;
    lo = lo < n ? lo : n;
    hi = hi > lo ? hi : lo;
    for (int t = 0; t < lo; t++) out[t] = 0;
    for (int t = lo; t < hi; t++) out[t] = in[t - shift] * scale;
    for (int t = hi; t < n; t++) out[t] = 0;
}

struct gather_job {
    const struct nn_gather *a;
    const struct cpu_kernels *k; /* NULL: the plain loops */
};

static void augment_record(const struct gather_job *j, const struct nn_scalars *s, uint32_t pos,
                           const float *in, float *out)
{
    const struct nn_gather *a = j->a;
    struct augment g = draw_augment(a, s, pos);
    size_t samples = (size_t)a->samples;
    for (int l = 0; l < a->leads; l++)
        shift_lead(in + (size_t)l * samples, a->samples, g.shift, g.scale,
                   out + (size_t)l * samples);
    struct philox_args noise = {s->seed, (uint64_t)pos << 32, CN_RNG_NOISE, s->epoch};
    if (g.noise > 0 && j->k)
        j->k->noise(&noise, g.noise, NOISE_UNIT, out, a->leads * a->samples);
    else if (g.noise > 0)
        add_noise(s, pos, g.noise, a->leads * a->samples, out);
    for (int l = 0; l < a->leads; l++, out += samples) {
        if (g.zeroed >> l & 1)
            memset(out, 0, samples * sizeof *out);
        else
            memset(out + g.mask_at, 0, (size_t)g.mask_n * sizeof *out);
    }
}

/* Where row r of the batch lies in `index`. */
static uint32_t place_of_row(const struct nn_gather *a, const struct nn_scalars *s, int r)
{
    if (!a->train) return (a->cursor ? *a->cursor : (uint32_t)a->row0) + (uint32_t)r;
    return cn_rng_shuffle(s->seed, s->epoch, s->row0 + (uint32_t)r, (uint32_t)a->n);
}

static void gather_row(void *arg, int item, int thread)
{
    const struct gather_job *j = arg;
    const struct nn_gather *a = j->a;
    int m = item / a->b, r = item % a->b;
    const struct nn_scalars *s = a->train ? &a->s[m] : NULL;
    size_t record = (size_t)a->leads * a->samples, labels = (size_t)a->labels;
    uint32_t place = place_of_row(a, s, r), row = a->index[place];
    const float *in = a->data_x + row * record;
    float *x = a->x + (size_t)item * record, *y = a->y + (size_t)item * labels;
    if (a->train)
        augment_record(j, s, s->row0 + (uint32_t)r, in, x);
    else
        memcpy(x, in, record * sizeof *x);
    if (!a->data_y) return;
    memcpy(y, a->data_y + row * labels, labels * sizeof *y);
    if (a->train && s->smooth > 0)
        for (size_t l = 0; l < labels; l++) /* even odds: 1/2 per label, or 1/L per class */
            y[l] = y[l] * (1 - s->smooth) + s->smooth / (a->one_label ? (float)labels : 2);
    if (a->t && a->teacher)
        memcpy(a->t + (size_t)item * labels, a->teacher + ((size_t)m * a->n + place) * labels,
               labels * sizeof *y);
}

/* Jöhnk, 1964: x = u^(1/a), y = v^(1/a), accepted when x + y ≤ 1. */
static float draw_lambda(const struct nn_scalars *s, uint32_t pos)
{
    for (uint64_t k = 0; k < MIXUP_TRIES; k++) {
        cn_rng4 r = cn_rng(s->seed, CN_RNG_MIXUP, s->epoch, (uint64_t)pos << 8 | k);
        float x = powf(cn_rng_uniform(r.v[0]), 1 / s->mixup);
        float y = powf(cn_rng_uniform(r.v[1]), 1 / s->mixup);
        if (x + y <= 1 && x + y > 0) return x / (x + y);
    }
    return 0.5f;
}

/* Rows p and q of `v`, each n wide, become their mixtures. */
static void mix_pair(float *v, size_t n, int p, int q, const float lambda[2])
{
    float *vp = v + (size_t)p * n, *vq = v + (size_t)q * n;
    for (size_t i = 0; i < n; i++) {
        float old_p = vp[i], old_q = vq[i];
        vp[i] = lambda[0] * old_p + (1 - lambda[0]) * old_q;
        vq[i] = lambda[1] * old_q + (1 - lambda[1]) * old_p;
    }
}

/* Item: one pair of rows (r, b-1-r) of a member. */
static void mixup_rows(void *arg, int item, int thread)
{
    const struct nn_gather *a = arg;
    int pairs = a->b / 2, m = item / pairs, r = item % pairs, q = a->b - 1 - r;
    const struct nn_scalars *s = &a->s[m];
    if (s->mixup <= 0) return;
    float lambda[2] = {draw_lambda(s, s->row0 + (uint32_t)r),
                       draw_lambda(s, s->row0 + (uint32_t)q)};
    int p = m * a->b + r;
    q += m * a->b;
    mix_pair(a->x, (size_t)a->leads * a->samples, p, q, lambda);
    mix_pair(a->y, (size_t)a->labels, p, q, lambda);
    if (a->t && a->teacher) mix_pair(a->t, (size_t)a->labels, p, q, lambda);
}

int ref_gather(struct nn_backend *be, const struct nn_gather *a)
{
    struct gather_job j = {a, cpu_train_of(be)->k};
    cn_pool_run(cpu_train_pool(be), a->m * a->b, gather_row, &j);
    if (a->train) cn_pool_run(cpu_train_pool(be), a->m * (a->b / 2), mixup_rows, (void *)a);
    return 0;
}
