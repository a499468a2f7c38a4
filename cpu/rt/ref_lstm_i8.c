/* cpu/rt/ref_lstm_i8.c - portable static int8 LSTM and integer LayerNorm, word
 * by word as in format.h.
 */
#include "cpu/rt/ref.h"

struct packed {
    int16_t *bias;     /* [4H] Q4.11 */
    uint16_t *mx, *mh; /* [4H] */
    uint8_t *cell;     /* [H] */
    int8_t *wih, *whh; /* [4H][C], [4H][H] */
};

static struct packed lay_out(const struct rt_layer *l, uint8_t *at)
{
    size_t h = l->f.cout, rows = 4 * h;
    struct packed p;
    p.bias = (int16_t *)(void *)at, at += 2 * rows;
    p.mx = (uint16_t *)(void *)at, at += 2 * rows;
    p.mh = (uint16_t *)(void *)at, at += 2 * rows;
    p.cell = at, at += h;
    p.wih = (int8_t *)at, at += rows * l->f.cin;
    p.whh = (int8_t *)at;
    return p;
}

static size_t lstm_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return l->block_bytes;
}

static void lstm_pack(const struct cinchrt_model *m, const struct rt_layer *l, const uint8_t *block,
                      void *dst)
{
    (void)m;
    memcpy(dst, block, l->block_bytes);
}

/* State between steps: c int16 [H], then hq u8 [H], then the new hq u8 [H]. */
static size_t lstm_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return 4 * (size_t)l->f.cout;
}

static int32_t dot(const int8_t *w, const uint8_t *x, int n, int zero)
{
    int32_t sum = 0;
    int c;
    for (c = 0; c < n; c++) sum += w[c] * (x[c] - zero);
    return sum;
}

struct step {
    const struct rt_layer *l;
    const struct packed *p;
    const uint8_t *x, *h; /* rows [C], [H] */
    int xzero;
};

/* Gate input of row r in Q4.11. */
static int32_t gate(const struct step *s, int r)
{
    const struct packed *p = s->p;
    int cin = s->l->f.cin, hidden = s->l->f.cout;
    int32_t ax = dot(p->wih + (size_t)r * (size_t)cin, s->x, cin, s->xzero);
    int32_t ah = dot(p->whh + (size_t)r * (size_t)hidden, s->h, hidden, s->l->f.zero);
    int32_t px = rt_sat16((int64_t)rt_rq16(ax, p->mx[r]) + p->bias[r]);
    return rt_sat16(px + rt_rq16(ah, p->mh[r]));
}

/* New cell and hidden value of unit u. */
static int32_t unit(const struct step *s, int u, int16_t *cell)
{
    int hidden = s->l->f.cout, n = s->p->cell[u], lim = 32767 >> (12 - n);
    int32_t i = rt_sig16(gate(s, u));
    int32_t f = rt_sig16(gate(s, hidden + u));
    int32_t g = rt_tanh16(rt_sat16(2 * gate(s, 2 * hidden + u)));
    int32_t o = rt_sig16(gate(s, 3 * hidden + u));
    int32_t c = rt_sat16(rt_mulhrs(f, *cell) + rt_mulhrs(rt_mulhrs(i, g), 1 << n));
    *cell = (int16_t)c;
    return rt_mulhrs(o, rt_tanh16(rt_clamp(c, -lim, lim) * (1 << (12 - n))));
}

static void lstm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    struct packed p = lay_out(l, (uint8_t *)(uintptr_t)l->packed);
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    int hidden = l->f.cout, t, u;
    int16_t *c = (int16_t *)(void *)(scratch + m->tmp);
    uint8_t *h = (uint8_t *)(c + hidden), *next = h + hidden;
    int16_t *y = (int16_t *)(void *)rt_rows(m, l->out, scratch);
    struct step s;
    s.l = l, s.p = &p, s.h = h, s.xzero = in->zero;
    memset(c, 0, 2 * (size_t)hidden);
    memset(h, l->f.zero, (size_t)hidden);
    for (t = 0; t < l->tin; t++) {
        s.x = rt_rows(m, l->in, scratch) + (size_t)t * (size_t)in->stride;
        for (u = 0; u < hidden; u++) {
            int32_t v = unit(&s, u, &c[u]);
            y[(size_t)t * (size_t)out->stride + (size_t)u] = (int16_t)v;
            next[u] =
                (uint8_t)rt_clamp(l->f.zero + rt_mulhrs(v, (int32_t)l->f.param), 0, l->f.qmax);
        }
        memcpy(h, next, (size_t)hidden);
    }
}

const struct rt_kernel rt_i8_lstm__portable = {"i8_lstm__portable", lstm_pack_size, lstm_pack,
                                               lstm_scratch, lstm_run};

/* Floor of a / b, b > 0. */
static int32_t floor_div(int32_t a, int32_t b)
{
    int32_t q = a / b;
    return a % b < 0 ? q - 1 : q;
}

/* Mean and reciprocal deviation of one row: see LAYERNORM_I8. */
static void row_statistics(const int16_t *h, int c, int32_t *mu, int32_t *r, int32_t *s)
{
    int32_t s1 = 0;
    int64_t s2 = 0;
    int i;
    for (i = 0; i < c; i++) {
        s1 += h[i];
        s2 += (int32_t)h[i] * h[i];
    }
    *mu = floor_div(2 * s1 + c, 2 * c);
    rt_rstd((uint64_t)(c * s2 - (int64_t)s1 * s1 + 10737 * (int64_t)c * c), (uint32_t)c, r, s);
}

static void layernorm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const int16_t *h = (const int16_t *)(const void *)rt_rows(m, l->in, scratch);
    const uint8_t *bias = l->packed, *gamma = bias + 4 * (size_t)l->f.cin;
    uint8_t *y = rt_rows(m, l->out, scratch);
    struct rt_mult k;
    int t, j, i;
    if (!rt_mult_decode(l->f.param, &k)) return; /* never: rt_check refused it */
    for (t = 0; t < l->tout; t++, y += out->stride) {
        memset(y, 0, (size_t)l->f.cin);
        for (j = 0; j < l->f.pool; j++, h += in->stride) {
            int32_t mu, r, s;
            row_statistics(h, l->f.cin, &mu, &r, &s);
            for (i = 0; i < l->f.cin; i++) {
                int32_t n = rt_sat16(((h[i] - mu) * r + (1 << (s - 1))) >> s);
                int32_t a = (int16_t)rt_u16(gamma + 2 * i) * n + (int32_t)rt_u32(bias + 4 * i);
                int32_t q = rt_clamp(out->zero + rt_rq(a, k), 0, out->qmax);
                if (q > y[i]) y[i] = (uint8_t)q;
            }
        }
    }
}

const struct rt_kernel rt_i8_layernorm__portable = {"i8_layernorm__portable", lstm_pack_size,
                                                    lstm_pack, 0, layernorm_run};
