/* export/kernels.h - the operations of an exported net in plain C99. This file is not compiled by itself: export_c
 * copies it into every source that it writes, behind cpu/rt/fixed.h, tables.h and real.h. Arithmetic is that of
 * cpu/rt/format.h, step by step, so results are the portable runtime's bit for bit.
 *
 * Activations are time-major without gaps: element (c, t) at [t * channels + c].
 */

#if defined NET_CONV_I8 || defined NET_LOGITS_I8 || defined NET_CONV_F32
struct net_conv { /* CONV and LINEAR; a linear layer is a convolution with k = tin */
    int cin, cin1, cout, k, pad, tin, tout, pool, relu;
};
#endif

#if defined NET_CONV_I8 || defined NET_LOGITS_I8
struct net_conv_i8 {
    struct net_conv s;
    int zx, z1, zy, qmax;
    const int32_t *bias;                /* [cout] */
    const struct rt_mult *mult, *mult1; /* [cout] */
    const float *logit;                 /* [cout], last layer only */
    const int8_t *w, *w1;               /* [cout][cin][k], [cout][cin1] */
};
#endif

#ifdef NET_I8
struct net_grid {
    float scale;
    int zero, qmax;
};

static uint8_t net_sample_i8(float x, struct net_grid g)
{
    float inverse = 1.0f / g.scale, lo = (float)-g.zero, hi = (float)(g.qmax - g.zero);
    float v = x * inverse;
    if (!(v > lo)) v = lo; /* NaN too */
    if (!(v < hi)) v = hi;
    return (uint8_t)((int)rt_rint(v) + g.zero);
}

static void net_input_i8(const float *x, int leads, int samples, struct net_grid g, uint8_t *y)
{
    int c, t;
    for (c = 0; c < leads; c++)
        for (t = 0; t < samples; t++) y[t * leads + c] = net_sample_i8(x[c * samples + t], g);
}
#endif

#if defined NET_CONV_I8 || defined NET_LOGITS_I8
static int32_t net_sum_i8(const struct net_conv_i8 *l, const uint8_t *x, const uint8_t *x1, int o,
                          int t)
{
    const struct net_conv *s = &l->s;
    const int8_t *w = l->w + (long)o * s->cin * s->k;
    int32_t a = l->bias[o], side = 0;
    int c, j;
    for (j = 0; j < s->k; j++) {
        int row = t + j - s->pad;
        if (row < 0 || row >= s->tin) continue; /* the zero point: contributes nothing */
        for (c = 0; c < s->cin; c++) a += w[c * s->k + j] * (x[(long)row * s->cin + c] - l->zx);
    }
    if (!s->cin1) return a;
    for (c = 0; c < s->cin1; c++)
        side += l->w1[(long)o * s->cin1 + c] * (x1[(long)t * s->cin1 + c] - l->z1);
    return a + rt_rq(side, l->mult1[o]);
}

static int32_t net_pooled_i8(const struct net_conv_i8 *l, const uint8_t *x, const uint8_t *x1,
                             int o, int t)
{
    int32_t a = net_sum_i8(l, x, x1, o, t * l->s.pool), b;
    int j;
    for (j = 1; j < l->s.pool; j++) {
        b = net_sum_i8(l, x, x1, o, t * l->s.pool + j);
        if (b > a) a = b;
    }
    return a;
}
#endif

#ifdef NET_CONV_I8
static void net_conv_i8(const struct net_conv_i8 *l, const uint8_t *x, const uint8_t *x1,
                        uint8_t *y)
{
    int o, t, lo = l->s.relu ? l->zy : 0;
    for (t = 0; t < l->s.tout; t++)
        for (o = 0; o < l->s.cout; o++)
            y[(long)t * l->s.cout + o] = (uint8_t)rt_clamp(
                l->zy + rt_rq(net_pooled_i8(l, x, x1, o, t), l->mult[o]), lo, l->qmax);
}
#endif

#ifdef NET_LOGITS_I8
static void net_logits_i8(const struct net_conv_i8 *l, const uint8_t *x, float *z)
{
    int o;
    for (o = 0; o < l->s.cout; o++) z[o] = (float)net_pooled_i8(l, x, 0, o, 0) * l->logit[o];
}
#endif

#ifdef NET_MEAN_I8
static void net_mean_i8(int c, int t, int zx, struct rt_mult k, int zy, int qmax, const uint8_t *x,
                        uint8_t *y)
{
    int i, j;
    for (i = 0; i < c; i++) {
        int32_t sum = -zx * t;
        for (j = 0; j < t; j++) sum += x[(long)j * c + i];
        y[i] = (uint8_t)rt_clamp(zy + rt_rq(sum, k), 0, qmax);
    }
}
#endif

#ifdef NET_LSTM_I8
struct net_lstm_i8 {
    int cin, h, t, zx, zh, qmax;
    int32_t param;           /* h in Q15 times this is the fed back copy */
    const int16_t *bias;     /* [4h] */
    const uint16_t *mx, *mh; /* [4h] */
    const uint8_t *bits;     /* [h] fraction bits of each cell */
    const int8_t *w, *w1;    /* [4h][cin], [4h][h] */
};

static int32_t net_gate_i8(const struct net_lstm_i8 *l, const uint8_t *x, const uint8_t *hq, int r)
{
    int32_t ax = 0, ah = 0;
    int i;
    for (i = 0; i < l->cin; i++) ax += l->w[(long)r * l->cin + i] * (x[i] - l->zx);
    for (i = 0; i < l->h; i++) ah += l->w1[(long)r * l->h + i] * (hq[i] - l->zh);
    return rt_sat16(rt_sat16((int64_t)rt_rq16(ax, l->mx[r]) + l->bias[r]) + rt_rq16(ah, l->mh[r]));
}

/* state: int16 cell [h], then the two copies of the quantised h. */
static void net_lstm_i8(const struct net_lstm_i8 *l, const uint8_t *x, int16_t *y, int16_t *state)
{
    uint8_t *hq = (uint8_t *)(state + l->h), *next = hq + l->h;
    int t, u, h = l->h;
    memset(state, 0, sizeof *state * (size_t)h);
    memset(hq, l->zh, (size_t)h);
    for (t = 0; t < l->t; t++, x += l->cin, y += h) {
        for (u = 0; u < h; u++) {
            int n = l->bits[u], lim = 32767 >> (12 - n);
            int32_t i = rt_sig16(net_gate_i8(l, x, hq, u));
            int32_t f = rt_sig16(net_gate_i8(l, x, hq, h + u));
            int32_t g = rt_tanh16(rt_sat16(2 * net_gate_i8(l, x, hq, 2 * h + u)));
            int32_t o = rt_sig16(net_gate_i8(l, x, hq, 3 * h + u));
            int32_t c = rt_sat16(rt_mulhrs(f, state[u]) + rt_mulhrs(rt_mulhrs(i, g), 1 << n));
            state[u] = (int16_t)c;
            c = rt_clamp(c, -lim, lim) * (1 << (12 - n));
            y[u] = (int16_t)rt_mulhrs(o, rt_tanh16(c));
            next[u] = (uint8_t)rt_clamp(l->zh + rt_mulhrs(y[u], l->param), 0, l->qmax);
        }
        memcpy(hq, next, (size_t)h);
    }
}
#endif

#ifdef NET_NORM_I8
struct net_norm_i8 {
    int c, tout, pool, zy, qmax;
    struct rt_mult mult;
    const int32_t *bias;
    const int16_t *gamma;
};

static void net_norm_i8(const struct net_norm_i8 *l, const int16_t *h, uint8_t *y)
{
    int t, j, i, c = l->c;
    for (t = 0; t < l->tout; t++, y += c) {
        memset(y, 0, (size_t)c);
        for (j = 0; j < l->pool; j++, h += c) {
            int32_t s1 = 0, mu, r, s;
            int64_t s2 = 0;
            for (i = 0; i < c; i++) {
                s1 += h[i];
                s2 += (int32_t)h[i] * h[i];
            }
            mu = (2 * s1 + c) / (2 * c) - ((2 * s1 + c) % (2 * c) < 0);
            rt_rstd((uint64_t)(c * s2 - (int64_t)s1 * s1 + 10737 * (int64_t)c * c), (uint32_t)c, &r,
                    &s);
            for (i = 0; i < c; i++) {
                int32_t n = rt_sat16(((h[i] - mu) * r + (1 << (s - 1))) >> s);
                int32_t q =
                    rt_clamp(l->zy + rt_rq(l->gamma[i] * n + l->bias[i], l->mult), 0, l->qmax);
                if (q > y[i]) y[i] = (uint8_t)q;
            }
        }
    }
}
#endif

#ifdef NET_F32
static void net_input_f32(const float *x, int leads, int samples, float *y)
{
    int c, t;
    for (c = 0; c < leads; c++)
        for (t = 0; t < samples; t++) y[t * leads + c] = x[c * samples + t];
}
#endif

#ifdef NET_CONV_F32
struct net_conv_f32 {
    struct net_conv s;
    const float *bias, *w, *w1;
};

static float net_sum_f32(const struct net_conv_f32 *l, const float *x, const float *x1, int o,
                         int t)
{
    const struct net_conv *s = &l->s;
    const float *w = l->w + (long)o * s->cin * s->k;
    float a = l->bias[o];
    int c, j;
    for (c = 0; c < s->cin; c++)
        for (j = 0; j < s->k; j++) {
            int row = t + j - s->pad;
            if (row >= 0 && row < s->tin) a += w[c * s->k + j] * x[(long)row * s->cin + c];
        }
    for (c = 0; c < s->cin1; c++) a += l->w1[(long)o * s->cin1 + c] * x1[(long)t * s->cin1 + c];
    return a;
}

static void net_conv_f32(const struct net_conv_f32 *l, const float *x, const float *x1, float *y)
{
    int o, t, j;
    for (t = 0; t < l->s.tout; t++)
        for (o = 0; o < l->s.cout; o++) {
            float a = net_sum_f32(l, x, x1, o, t * l->s.pool);
            for (j = 1; j < l->s.pool; j++) {
                float b = net_sum_f32(l, x, x1, o, t * l->s.pool + j);
                if (b > a) a = b;
            }
            y[(long)t * l->s.cout + o] = l->s.relu && a < 0 ? 0 : a;
        }
}
#endif

#ifdef NET_MEAN_F32
static void net_mean_f32(int c, int t, const float *x, float *y)
{
    int i, j;
    for (i = 0; i < c; i++) {
        float sum[2] = {0, 0}, scale = 1.0f / (float)t; /* of even and odd steps */
        for (j = 0; j < t; j++) sum[j & 1] = sum[j & 1] + x[(long)j * c + i];
        sum[0] = sum[0] + sum[1];
        y[i] = sum[0] * scale;
    }
}
#endif

#ifdef NET_LSTM_F32
struct net_lstm_f32 {
    int cin, h, t;
    const float *bias, *w, *w1;
};

static float net_dot_f32(const float *a, const float *b, int n)
{
    float sum = 0;
    int i;
    for (i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* state: cell, h, next h: [3h] */
static void net_lstm_f32(const struct net_lstm_f32 *l, const float *x, float *y, float *state)
{
    float *c = state, *h = c + l->h, *next = h + l->h, v[4];
    int t, u, g;
    for (u = 0; u < 2 * l->h; u++) state[u] = 0;
    for (t = 0; t < l->t; t++, x += l->cin, y += l->h) {
        for (u = 0; u < l->h; u++) {
            for (g = 0; g < 4; g++) {
                long r = (long)g * l->h + u;
                v[g] = l->bias[r] + net_dot_f32(l->w + r * l->cin, x, l->cin) +
                       net_dot_f32(l->w1 + r * l->h, h, l->h);
            }
            c[u] = (float)(rt_sigmoid(v[1]) * c[u] + rt_sigmoid(v[0]) * rt_tanh(v[2]));
            next[u] = (float)(rt_sigmoid(v[3]) * rt_tanh(c[u]));
        }
        memcpy(h, next, sizeof *h * (size_t)l->h);
        memcpy(y, next, sizeof *y * (size_t)l->h);
    }
}
#endif

#ifdef NET_NORM_F32
struct net_norm_f32 {
    int c, tout, pool;
    const float *gamma, *beta;
};

static void net_norm_f32(const struct net_norm_f32 *l, const float *x, float *y)
{
    int t, j, i, n = l->c;
    for (t = 0; t < l->tout; t++, y += n) {
        for (i = 0; i < n; i++) y[i] = -3.4e38f;
        for (j = 0; j < l->pool; j++, x += n) {
            float mean, rstd;
            rt_norm_moments(x, n, &mean, &rstd);
            for (i = 0; i < n; i++) {
                float v = rt_norm_value(x[i], mean, rstd, l->gamma[i], l->beta[i]);
                if (v > y[i]) y[i] = v;
            }
        }
    }
}
#endif

/* In double, so that the result does not hang on the width of the FPU's registers. */
static void net_head(int softmax, int n, const float *z, float *p)
{
    double sum = 0, top = z[0];
    int i;
    if (!softmax) {
        for (i = 0; i < n; i++) p[i] = (float)rt_sigmoid(z[i]);
        return;
    }
    for (i = 1; i < n; i++)
        if (z[i] > top) top = z[i];
    for (i = 0; i < n; i++) sum += rt_exp(z[i] - top);
    for (i = 0; i < n; i++) p[i] = (float)(rt_exp(z[i] - top) / sum);
}
