/* cpu/train/list_impl.h - the gradient behind a max-pool as a list, for the instruction set of the
 * including file. Of a pooled row only one sample a window carries gradient, and of those the ReLU
 * stops some. A list says where the others are; then the inputs that they saw are added up
 * (block_first.c says to what end).
 */
#include "cpu/train/norm_impl.h"

#define LIST_UNROLL 4 /* entries at once; lists are filled up with zeros to a multiple of it */

/* A row's gradient: entry i is e[i] at column at[i] / step. */
struct list {
    int step, n; /* n: a multiple of LIST_UNROLL, the last may be zeros at column 0 */
    int32_t *at;
    float *e;
    float sum, sum_c;
};

#if VL == 16
INLINE void list_row(const struct bn_grad_row *a, struct list *list)
{
    const vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const vi pool = _mm512_set1_epi32(a->pool), step = _mm512_set1_epi32(list->step);
    vf s = v_zero(), q = v_zero();
    int n = 0;
    for (int p = 0; p < a->t_pool; p += VL) {
        vm real = a->t_pool - p >= VL ? (vm)0xFFFF : v_first(a->t_pool - p);
        vf d = v_sub(_mm512_maskz_loadu_ps(real, a->c_max + p), v_set(a->mean));
        vf z = v_fma(v_set(a->a), d, v_set(a->bias));
        vm open = a->relu ? _mm512_mask_cmp_ps_mask(real, z, v_zero(), _CMP_GT_OQ) : real;
        vf e = _mm512_maskz_loadu_ps(open, a->dy + p);
        vi arg = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(real, a->arg + p));
        vi at = _mm512_add_epi32(lane, _mm512_set1_epi32(p));
        at = _mm512_mullo_epi32(_mm512_add_epi32(_mm512_mullo_epi32(at, pool), arg), step);
        s = v_add(s, e);
        q = v_fma(e, d, q);
        _mm512_storeu_si512(list->at + n, _mm512_maskz_compress_epi32(open, at));
        v_store(list->e + n, _mm512_maskz_compress_ps(open, e));
        n += __builtin_popcount(open);
    }
    _mm512_storeu_si512(list->at + n, _mm512_setzero_si512());
    v_store(list->e + n, v_zero());
    list->n = (n + LIST_UNROLL - 1) / LIST_UNROLL * LIST_UNROLL;
    list->sum = v_sum(s);
    list->sum_c = v_sum(q);
}
#else
INLINE void list_row(const struct bn_grad_row *a, struct list *list)
{
    float s = 0, q = 0;
    int n = 0;
    for (int p = 0; p < a->t_pool; p++) {
        float d = a->c_max[p] - a->mean;
        if (a->relu && !(a->a * d + a->bias > 0)) continue;
        list->at[n] = (p * a->pool + a->arg[p]) * list->step;
        list->e[n++] = a->dy[p];
        s += a->dy[p];
        q += a->dy[p] * d;
    }
    for (; n % LIST_UNROLL; n++) list->at[n] = 0, list->e[n] = 0;
    list->n = n;
    list->sum = s;
    list->sum_c = q;
}
#endif

/* cb vectors of y; each entry of the unrolled loop has sums of its own. */
INLINE void list_block(const int cb, const struct list *list, const float *x, float *y)
{
    vf acc[LIST_UNROLL][3];
    UNROLL(4)
    for (int u = 0; u < LIST_UNROLL; u++) {
        UNROLL(3)
        for (int v = 0; v < cb; v++) acc[u][v] = u ? v_zero() : v_load(y + v * VL);
    }
    for (int i = 0; i < list->n; i += LIST_UNROLL) {
        UNROLL(4)
        for (int u = 0; u < LIST_UNROLL; u++) {
            const float *row = x + list->at[i + u];
            __asm__("" : "+r"(row)); /* one address for all vectors */
            vf e = v_set(list->e[i + u]);
            UNROLL(3)
            for (int v = 0; v < cb; v++) acc[u][v] = v_fma(e, v_load(row + v * VL), acc[u][v]);
        }
    }
    UNROLL(3)
    for (int v = 0; v < cb; v++)
        v_store(y + v * VL, v_add(v_add(acc[0][v], acc[1][v]), v_add(acc[2][v], acc[3][v])));
}

/* Fetches what a row of a list call wants: the pieces are too short for the hardware to see coming. */
INLINE void fetch_windows(const struct bn_grad *g, int64_t at, int n)
{
    for (int i = 0; i < n + 16; i += 16) {
        __builtin_prefetch(g->c_max + at + i);
        __builtin_prefetch(g->dy + at + i);
    }
    for (int i = 0; i < n + 64; i += 64) __builtin_prefetch(g->arg + at + i);
}

static void ISA(f32_bn_list)(const struct list_args *args)
{
    const struct list_args a = *args;
    const struct bn_grad g = *a.g;
    struct list list = {.step = a.step, .at = a.at, .e = a.e};
    for (int o = 0; o < g.rows; o++) {
        struct bn_grad_row r = grad_row(&g, o);
        float *y = a.y + (int64_t)o * a.floats;
        int f = 0;
        r.c_max += a.p0;
        r.arg += a.p0;
        r.dy += a.p0;
        r.t_pool = a.p1 - a.p0;
        fetch_windows(&g, (o + 2) * (int64_t)g.t_pool + a.p0 + (o + 2 < g.rows ? 0 : a.wrap),
                      r.t_pool);
        list_row(&r, &list);
        for (; f + 3 * VL <= a.floats; f += 3 * VL) list_block(3, &list, a.x + f, y + f);
        for (; f < a.floats; f += VL) list_block(1, &list, a.x + f, y + f);
        a.sum[o] = (a.p0 ? a.sum[o] : 0) + list.sum;
        a.sum_c[o] = (a.p0 ? a.sum_c[o] : 0) + list.sum_c;
    }
}
