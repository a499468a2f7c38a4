/* cpu/rt/i8__amx.c - int8 convolution in AMX tiles; all else on CPUs with AMX runs the AVX512-VNNI kernels.
 *
 * A tile of activations is 16 steps of time by 64 bytes of their windows: windows are contiguous and
 * overlap, so TILELOADD with the row as stride reads them where they lie. A tile of weights is 16
 * words by 16 output channels, which is how i8_conv.inc.h packs a panel for VPDPBUSD, the depth filled
 * up with zeros to whole tiles (what the last tile reads behind a window is multiplied by 0). Two by
 * two tiles of sums give 32 steps by 32 channels; they start from the bias or the rounded side sums,
 * leave through memory, and are pooled and rounded by the code of the vector kernels.
 *
 * The instructions: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2. Where
 * the CPU has no AMX, tests/unit/rt/test_rt_amx.c runs it on an emulation of the four instructions that
 * it uses; where it has, test_rt_isa.c runs the real ones.
 */
#define RT_DOT_VNNI 1
#include "cpu/rt/vec512.h"

#define RT_ISA amx
#define TILE_M 12
#define DEPTH_WORDS 16
#include "cpu/rt/i8_conv.inc.h"
#include "cpu/rt/table_names.h"
#include "cpu/rt/tables_isa.h"

#ifdef RT_AMX_SHIM
#include RT_AMX_SHIM
#endif

#define AMX_ROWS 16  /* of a tile */
#define AMX_STEPS 32 /* of time in a block */
#define AMX_BYTES 64 /* of a tile's row */

/* Tiles: 0..3 sums [steps 0, 16][vector 0, 1], 4 and 5 activations, 6 and 7 weights. */
static void i8_amx_configure(int steps)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } c;
    int low = steps < AMX_ROWS ? steps : AMX_ROWS, i;
    memset(&c, 0, sizeof c);
    c.palette = 1;
    for (i = 0; i < 8; i++) {
        int second = i == 2 || i == 3 || i == 5;
        c.rows[i] = (uint8_t)(i >= 6 ? AMX_ROWS : second ? steps - low : low);
        c.bytes[i] = c.rows[i] ? AMX_BYTES : 0;
    }
    __asm__ volatile("" ::: "memory"); /* the intrinsics do not say that they read c */
    _tile_loadconfig(&c);
}

/* Sums from `from` on, vectors VL words apart, steps `step` bytes (0: all alike). */
static inline __attribute__((always_inline)) void i8_amx_load(const int32_t *from, size_t step,
                                                              int two, int nv)
{
    const uint8_t *second = (const uint8_t *)from + AMX_ROWS * step;
    __asm__ volatile("" ::: "memory");
    _tile_loadd(0, from, step);
    if (nv > 1) _tile_loadd(1, from + VL, step);
    if (two) _tile_loadd(2, second, step);
    if (two && nv > 1) _tile_loadd(3, second + 4 * VL, step);
}

static inline __attribute__((always_inline)) void i8_amx_store(int32_t *to, int two, int nv)
{
    const size_t step = 4 * VL * (size_t)nv;
    int32_t *second = to + AMX_ROWS * VL * nv;
    _tile_stored(0, to, step);
    if (nv > 1) _tile_stored(1, to + VL, step);
    if (two) _tile_stored(2, second, step);
    if (two && nv > 1) _tile_stored(3, second + VL, step);
}

/* Adds the products of `depth` words of the windows at x. */
static inline __attribute__((always_inline)) void
i8_amx_walk(const uint8_t *x, size_t row, const uint8_t *w, int depth, int two, int nv)
{
    const size_t word = 4 * VL * (size_t)nv; /* bytes of a word's weights */
    int d;
    for (d = 0; d < depth; d += AMX_ROWS, x += AMX_BYTES, w += AMX_ROWS * word) {
        _tile_loadd(6, w, word);
        if (nv > 1) _tile_loadd(7, w + 4 * VL, word);
        _tile_loadd(4, x, row);
        _tile_dpbusd(0, 4, 6);
        if (nv > 1) _tile_dpbusd(1, 4, 7);
        if (!two) continue;
        _tile_loadd(5, x + AMX_ROWS * row, row);
        _tile_dpbusd(2, 5, 6);
        if (nv > 1) _tile_dpbusd(3, 5, 7);
    }
}

/* Sums of `steps` steps from t on, bias and side input included, to sums[steps][nv][VL]. */
static inline __attribute__((always_inline)) void
i8_amx_sum(const struct i8_job *j, size_t t, int steps, int32_t *sums, int two, int nv)
{
    int v;
    if (j->depth1) {
        int32_t bias[2 * VL];
        for (v = 0; v < nv; v++) memcpy(bias + v * VL, j->side[v].bias, 4 * VL);
        i8_amx_load(bias, 0, two, nv);
        i8_amx_walk(j->x1 + t * j->row1, j->row1, j->w1, j->depth1, two, nv);
        i8_amx_store(sums, two, nv);
        for (v = 0; v < nv; v++) i8_side_round(j, v, sums + v * VL, steps, nv * VL);
        i8_amx_load(sums, 4 * VL * (size_t)nv, two, nv);
    } else {
        i8_amx_load(j->bias, 0, two, nv);
    }
    i8_amx_walk(j->x + t * j->row, j->row, j->w, j->depth, two, nv);
    i8_amx_store(sums, two, nv);
}

/* One block: `steps` unpooled steps, the pooled ones from t on. */
static void i8_amx_block(const struct i8_job *j, int pair, size_t t, int steps)
{
    int32_t sums[AMX_STEPS * 2 * VL];
    int nv = pair ? 2 : 1, rows = steps / j->pool, i, q, v;
    size_t from = t * (size_t)j->pool;
    if (steps > AMX_ROWS && pair)
        i8_amx_sum(j, from, steps, sums, 1, 2);
    else if (steps > AMX_ROWS)
        i8_amx_sum(j, from, steps, sums, 1, 1);
    else if (pair)
        i8_amx_sum(j, from, steps, sums, 0, 2);
    else
        i8_amx_sum(j, from, steps, sums, 0, 1);
    for (i = 0; i < rows && j->pool > 1; i++)
        for (v = 0; v < nv; v++) {
            const int32_t *at = sums + (i * j->pool * nv + v) * VL;
            vi a = v_load(at);
            for (q = 1; q < j->pool; q++) a = v_max32(a, v_load(at + q * nv * VL));
            v_store(sums + (i * nv + v) * VL, a);
        }
    (pair ? i8_finish_2 : i8_finish_1)(j, sums, j->y + t * j->yrow, rows);
}

/* Pools wider than a block go the vector kernels' way; they read the same panels. */
static void i8_amx_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    struct i8_job j;
    struct i8_layer s = i8_begin(m, l, scratch, &j);
    size_t tout = (size_t)l->tout, step = (size_t)(AMX_STEPS / j.pool), t;
    int b;
    if (!step) {
        i8_conv_run(m, l, scratch);
        return;
    }
    if (step > tout) step = tout;
    j.row = (size_t)m->edge[l->in].stride;
    j.x = rt_rows(m, l->in, scratch) - (size_t)l->f.pad * j.row;
    i8_amx_configure((int)step * j.pool);
    for (b = 0; b < s.p->blocks; b += 2) {
        int pair = i8_job_of(&s, &j, b);
        for (t = 0; t < tout; t += step) { /* the last block is moved back to end with the output */
            if (t + step > tout) t = tout - step;
            i8_amx_block(&j, pair, t, (int)step * j.pool);
        }
    }
    _tile_release();
}

static const struct rt_kernel conv_kernel = {
    RT_NAME("i8_conv_32x2v"), i8_conv_pack_size, i8_conv_pack, i8_conv_scratch, i8_amx_run,
};
static const uint8_t table_ops[] = {CINCHRT_CONV_I8};
static const struct rt_kernel *const table_kernels[] = {&conv_kernel};

const struct rt_isa_table RT_TABLE(rt_table__) = {table_kernels, table_ops, sizeof table_ops, 0, 0};
