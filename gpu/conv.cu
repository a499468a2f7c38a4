/* gpu/conv.cu - Conv1d forward and backward as implicit matrix products, fp32.
 *
 *   forward   y[co,t]  = Σ_ci Σ_k w[co,ci,k] · x[ci, t+k-pad]
 *   data      dx[ci,t] = Σ_co Σ_k w[co,ci,K-1-k] · dy[co, t+k-(K-1-pad)]      (forward with turned
 * weights) weights   dw[co,ci,k] = Σ_b Σ_t dy[b,co,t] · x[b,ci,t+k-pad]
 *
 * Forward and data: a block owns 8·TY output channels × 8·TX times of one record; a thread 8 × 8 of
 * them, in registers. The input window and the weights of 8 input channels stand in shared memory;
 * the window moves over the K taps in registers, so one shared load of x feeds up to 8·K
 * multiply-adds. Weights: a block owns a tile of dw and a share of the batch; the shares' partial
 * sums are added in a fixed order by a second kernel. How the batch is shared depends on the shape
 * of one member only, so a gang gives the same bits as its members alone.
 */
#include "gpu/common.cuh"

enum { CI_CHUNK = 8, TILE = 8 };

struct conv_shape {
    int b, cin, cout, tin, tout, k, pad;
    int64_t rows;    /* M·B */
    int64_t wstride; /* floats between members' weights */
    int turned;      /* 1: weights are [cin(out), cout(in), K] read backwards: the data gradient */
    int add;         /* y += */
};

/* Weight of output channel o, input channel i, tap k, seen from this launch's direction. */
__device__ __forceinline__ float conv_weight(const float *w, const conv_shape &s, int o, int i,
                                             int k)
{
    if (o >= s.cout || i >= s.cin) return 0.0f;
    return s.turned ? w[((int64_t)i * s.cout + o) * s.k + (s.k - 1 - k)]
                    : w[((int64_t)o * s.cin + i) * s.k + k];
}

/* grid: gpu_row_grid(time tiles · channel tiles, M·B); KT = 0: any K. */
template <int KT, int TX, int TY>
__global__ void __launch_bounds__(TX *TY, 384 / (TX * TY))
    f32_conv1d(conv_shape s, const float *__restrict__ x, const float *__restrict__ w,
               const float *__restrict__ bias, float *__restrict__ y)
{
    extern __shared__ float4 shared4[];
    const int K = KT ? KT : s.k;
    const int xw = (TX * TILE + K - 1 + 3) & ~3;    /* floats per row of the window */
    constexpr int ww = TY * TILE + 4;               /* floats per row of the weights */
    float *xs = reinterpret_cast<float *>(shared4); /* [CI_CHUNK][xw] */
    float *ws = xs + CI_CHUNK * xw;                 /* [CI_CHUNK·K][ww] */
    const int tid = threadIdx.x, tx = tid % TX, ty = tid / TX;
    const int time_tiles = (s.tout + TX * TILE - 1) / (TX * TILE);
    const int t0 = blockIdx.x % time_tiles * TX * TILE, o0 = blockIdx.x / time_tiles * TY * TILE;
    const int64_t row = gpu_row(), member = row / s.b;
    if (row >= s.rows) return;
    x += row * s.cin * s.tin;
    w += member * s.wstride;

    float acc[TILE][TILE] = {};
    for (int i0 = 0; i0 < s.cin; i0 += CI_CHUNK) {
        for (int e = tid; e < CI_CHUNK * xw; e += TX * TY) {
            int i = i0 + e / xw, t = t0 + e % xw - s.pad;
            xs[e] = i < s.cin && t >= 0 && t < s.tin ? x[(int64_t)i * s.tin + t] : 0.0f;
        }
        for (int e = tid; e < CI_CHUNK * K * TY * TILE; e += TX * TY) {
            int ik = e % (CI_CHUNK * K), o = e / (CI_CHUNK * K);
            ws[ik * ww + o] = conv_weight(w, s, o0 + o, i0 + ik / K, ik % K);
        }
        __syncthreads();
        for (int i = 0; i < CI_CHUNK; i++) {
            const float *xr = xs + i * xw + tx * 4;
            if (KT) {
                /* a thread's times: two runs of 4, so that neighbouring threads read neighbouring
                 * float4 */
                constexpr int N = (4 + (KT ? KT : 1) - 1 + 3) / 4;
                float win[2][N * 4];
#pragma unroll
                for (int h = 0; h < 2; h++)
#pragma unroll
                    for (int j = 0; j < N; j++)
                        *reinterpret_cast<float4 *>(&win[h][j * 4]) =
                            *reinterpret_cast<const float4 *>(xr + h * TX * 4 + j * 4);
#pragma unroll
                for (int k = 0; k < KT; k++) {
                    float wv[TILE];
                    const float *wr = ws + (i * KT + k) * ww + ty * TILE;
                    *reinterpret_cast<float4 *>(&wv[0]) = *reinterpret_cast<const float4 *>(wr);
                    *reinterpret_cast<float4 *>(&wv[4]) = *reinterpret_cast<const float4 *>(wr + 4);
#pragma unroll
                    for (int o = 0; o < TILE; o++)
#pragma unroll
                        for (int t = 0; t < TILE; t++) acc[o][t] += wv[o] * win[t / 4][t % 4 + k];
                }
            } else {
                for (int k = 0; k < K; k++) {
                    const float *wr = ws + (i * K + k) * ww + ty * TILE;
#pragma unroll
                    for (int t = 0; t < TILE; t++) {
                        float xv = xr[(t / 4) * TX * 4 + t % 4 + k];
#pragma unroll
                        for (int o = 0; o < TILE; o++) acc[o][t] += wr[o] * xv;
                    }
                }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int o = 0; o < TILE; o++) {
        int co = o0 + ty * TILE + o;
        if (co >= s.cout) break;
        float b = bias ? bias[member * s.wstride + co] : 0.0f;
        float *yr = y + (row * s.cout + co) * s.tout;
#pragma unroll
        for (int t = 0; t < TILE; t++) {
            int at = t0 + (t / 4) * TX * 4 + tx * 4 + t % 4;
            if (at < s.tout) yr[at] = (s.add ? yr[at] : 0.0f) + acc[o][t] + b;
        }
    }
}

template <int KT, int TX, int TY>
static int launch_tile(struct nn_backend *be, const conv_shape *s, const float *x, const float *w,
                       const float *bias, float *y)
{
    int xw = (TX * TILE + s->k - 1 + 3) & ~3, ww = TY * TILE + 4;
    size_t shared = sizeof(float) * (size_t)(CI_CHUNK * xw + CI_CHUNK * s->k * ww);
    dim3 grid = gpu_row_grid(
        (int64_t)gpu_blocks(s->tout, TX * TILE) * gpu_blocks(s->cout, TY * TILE), s->rows);
    f32_conv1d<KT, TX, TY><<<grid, TX * TY, shared, gpu_of(be)->stream>>>(*s, x, w, bias, y);
    return gpu_launched(be, "conv1d");
}

/* The tile whose padding wastes least. */
template <int KT>
static int launch_conv(struct nn_backend *be, const conv_shape *s, const float *x, const float *w,
                       const float *bias, float *y)
{
    if (s->tout <= 40) return launch_tile<KT, 4, 8>(be, s, x, w, bias, y);
    if (s->cout <= 32) return launch_tile<KT, 16, 4>(be, s, x, w, bias, y);
    return launch_tile<KT, 16, 8>(be, s, x, w, bias, y);
}

static int conv_any(struct nn_backend *be, const conv_shape *s, const float *x, const float *w,
                    const float *bias, float *y)
{
    switch (s->k) {
    case 1:
        return launch_conv<1>(be, s, x, w, bias, y);
    case 3:
        return launch_conv<3>(be, s, x, w, bias, y);
    case 5:
        return launch_conv<5>(be, s, x, w, bias, y);
    case 7:
        return launch_conv<7>(be, s, x, w, bias, y);
    default:
        if (s->k > 16)
            return cn_fail(&be->error, CN_EUNSUPPORTED, "conv1d: kernel width %d is over 16", s->k);
        return launch_tile<0, 16, 4>(be, s, x, w, bias, y);
    }
}

static int64_t rows_of(const struct nn_conv1d *a)
{
    return (int64_t)a->m * a->b;
}

static int conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a)
{
    conv_shape s = {a->b,   a->cin,     a->cout,   a->tin, a->tout, a->k,
                    a->pad, rows_of(a), a->stride, 0,      0};
    return conv_any(be, &s, a->x, a->w, a->bias, a->y);
}

/* ---- gradient of the weights ---- */

enum { DW_TIME = 32, DW_CO = 4 };

/* Input channels per thread: the more taps, the fewer, to stay in registers. */
template <int KT> struct dw_tile {
    static constexpr int ci = KT >= 5 ? 2 : KT >= 3 ? 4 : 4;
    static constexpr int taps = KT ? KT : 1;
};

/* grid: (co tiles of 64, ci tiles of 8·CI [· K when KT = 0], M·S); 128 threads = 16 (co) × 8 (ci).
 * `part` [M·S][cout·cin·K]. */
template <int KT>
__global__ void __launch_bounds__(128, 3)
    f32_conv1d_dw(conv_shape s, int shares, const float *__restrict__ x,
                  const float *__restrict__ dy, float *__restrict__ part)
{
    constexpr int CI = dw_tile<KT>::ci, TAPS = dw_tile<KT>::taps;
    constexpr int XW = (DW_TIME + TAPS - 1 + 3) / 4 * 4 + 4, YW = DW_TIME + 4,
                  N = (4 + TAPS - 1 + 3) / 4;
    __shared__ __align__(16) float xs[8 * CI * XW];
    __shared__ __align__(16) float ys[64 * YW];
    const int tid = threadIdx.x, tx = tid & 7, ty = tid >> 3;
    const int tap0 = KT ? 0 : (int)(blockIdx.y % s.k), o0 = blockIdx.x * 64;
    const int i0 = (KT ? blockIdx.y : blockIdx.y / s.k) * 8 * CI;
    const int member = blockIdx.z / shares, share = blockIdx.z % shares;
    const int b0 = (int)((int64_t)s.b * share / shares),
              b1 = (int)((int64_t)s.b * (share + 1) / shares);

    float acc[DW_CO][CI][TAPS] = {};
    for (int b = b0; b < b1; b++) {
        const float *xb = x + ((int64_t)member * s.b + b) * s.cin * s.tin;
        const float *yb = dy + ((int64_t)member * s.b + b) * s.cout * s.tout;
        for (int t0 = 0; t0 < s.tout; t0 += DW_TIME) {
            for (int e = tid; e < 8 * CI * XW; e += 128) {
                int i = i0 + e / XW, t = t0 + e % XW + tap0 - s.pad;
                xs[e] = i < s.cin && t >= 0 && t < s.tin ? xb[(int64_t)i * s.tin + t] : 0.0f;
            }
            for (int e = tid; e < 64 * DW_TIME; e += 128) {
                int o = o0 + e / DW_TIME, t = t0 + e % DW_TIME;
                ys[e / DW_TIME * YW + e % DW_TIME] =
                    o < s.cout && t < s.tout ? yb[(int64_t)o * s.tout + t] : 0.0f;
            }
            __syncthreads();
            for (int t = 0; t < DW_TIME; t += 4) {
                float yv[DW_CO][4];
#pragma unroll
                for (int o = 0; o < DW_CO; o++)
                    *reinterpret_cast<float4 *>(yv[o]) =
                        *reinterpret_cast<const float4 *>(ys + (o * 16 + ty) * YW + t);
#pragma unroll
                for (int i = 0; i < CI; i++) {
                    float win[N * 4];
#pragma unroll
                    for (int j = 0; j < N; j++)
                        *reinterpret_cast<float4 *>(win + 4 * j) =
                            *reinterpret_cast<const float4 *>(xs + (i * 8 + tx) * XW + t + 4 * j);
#pragma unroll
                    for (int o = 0; o < DW_CO; o++)
#pragma unroll
                        for (int k = 0; k < TAPS; k++)
#pragma unroll
                            for (int u = 0; u < 4; u++) acc[o][i][k] += yv[o][u] * win[u + k];
                }
            }
            __syncthreads();
        }
    }
    float *out = part + (int64_t)blockIdx.z * s.cout * s.cin * s.k;
#pragma unroll
    for (int o = 0; o < DW_CO; o++)
#pragma unroll
        for (int i = 0; i < CI; i++) {
            int co = o0 + o * 16 + ty, ci = i0 + i * 8 + tx;
            if (co >= s.cout || ci >= s.cin) continue;
#pragma unroll
            for (int k = 0; k < TAPS; k++)
                out[((int64_t)co * s.cin + ci) * s.k + tap0 + k] = acc[o][i][k];
        }
}

/* dw[m] = Σ over shares, in order. grid: (blocks over n, M) */
__global__ void f32_sum_shares(int shares, int64_t n, int64_t stride,
                               const float *__restrict__ part, float *__restrict__ dw)
{
    int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= n) return;
    part += (int64_t)blockIdx.y * shares * n;
    float v = 0.0f;
    for (int s = 0; s < shares; s++) v += part[s * n + e];
    dw[blockIdx.y * stride + e] = v;
}

/* dbias[m, co] = Σ_b Σ_t dy. grid: (cout, M), 256 threads */
__global__ void f32_conv1d_dbias(conv_shape s, const float *__restrict__ dy,
                                 float *__restrict__ dbias)
{
    __shared__ float buf[32];
    int co = blockIdx.x, m = blockIdx.y;
    float v = 0.0f;
    for (int64_t e = threadIdx.x; e < (int64_t)s.b * s.tout; e += blockDim.x) {
        int64_t b = e / s.tout, t = e % s.tout;
        v += dy[(((int64_t)m * s.b + b) * s.cout + co) * s.tout + t];
    }
    v = block_sum(v, buf);
    if (threadIdx.x == 0) dbias[m * s.wstride + co] = v;
}

/* Enough blocks to fill a large card (about 4 per SM of 132) from one member's shape alone. */
static int dw_shares(const conv_shape *s, int tiles)
{
    int want = (512 + tiles - 1) / tiles;
    return want < 1 ? 1 : want > s->b ? s->b : want;
}

template <int KT>
static int launch_dw(struct nn_backend *be, const struct nn_conv1d *a, const conv_shape *s)
{
    int ot = (int)gpu_blocks(s->cout, 64),
        it = (int)gpu_blocks(s->cin, 8 * dw_tile<KT>::ci) * (KT ? 1 : s->k);
    int shares = dw_shares(s, ot * it);
    int64_t n = (int64_t)s->cout * s->cin * s->k;
    float *part = (float *)gpu_scratch(be, sizeof(float) * (size_t)(n * shares * a->m));
    if (!part) return be->error.code;
    cudaStream_t st = gpu_of(be)->stream;
    f32_conv1d_dw<KT><<<dim3(ot, it, a->m * shares), 128, 0, st>>>(*s, shares, a->x, a->dy, part);
    int rc = gpu_launched(be, "conv1d weight gradient");
    if (rc) return rc;
    f32_sum_shares<<<dim3(gpu_blocks(n, 256), a->m), 256, 0, st>>>(shares, n, a->stride, part,
                                                                   a->dw);
    return gpu_launched(be, "conv1d weight gradient sum");
}

int gpu_conv1d_dbias(struct nn_backend *be, const struct nn_conv1d *a)
{
    conv_shape s = {a->b,   a->cin,     a->cout,   a->tin, a->tout, a->k,
                    a->pad, rows_of(a), a->stride, 0,      0};
    f32_conv1d_dbias<<<dim3(a->cout, a->m), 256, 0, gpu_of(be)->stream>>>(s, a->dy, a->dbias);
    return gpu_launched(be, "conv1d bias gradient");
}

static int conv1d_backward(struct nn_backend *be, const struct nn_conv1d *a)
{
    conv_shape s = {a->b,   a->cin,     a->cout,   a->tin, a->tout, a->k,
                    a->pad, rows_of(a), a->stride, 0,      0};
    int rc;
    switch (a->k) {
    case 1:
        rc = launch_dw<1>(be, a, &s);
        break;
    case 3:
        rc = launch_dw<3>(be, a, &s);
        break;
    case 5:
        rc = launch_dw<5>(be, a, &s);
        break;
    case 7:
        rc = launch_dw<7>(be, a, &s);
        break;
    default:
        rc = launch_dw<0>(be, a, &s);
        break;
    }
    if (!rc && a->dbias) rc = gpu_conv1d_dbias(be, a);
    if (rc || !a->dx) return rc;
    conv_shape back = {a->b,       a->cout,   a->cin, a->tout,  a->tin, a->k, a->k - 1 - a->pad,
                       rows_of(a), a->stride, 1,      a->dx_add};
    return conv_any(be, &back, a->dy, a->w, NULL, a->dx);
}

void gpu_conv_ops(struct nn_backend_ops *t)
{
    t->conv1d_forward = conv1d_forward;
    t->conv1d_backward = conv1d_backward;
}
