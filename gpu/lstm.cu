/* gpu/lstm.cu - LSTM over all time steps in one launch forward and one backward.
 *
 *   z = W_ih·x_t + b_ih + W_hh·h_{t-1} + b_hh;  i, f, o = σ(z), g = tanh(z);  c_t = f·c_{t-1} +
 * i·g;  h_t = o·tanh(c_t)
 *
 * Rows of a batch are independent, so a block owns one row for all steps: no barrier ever spans the
 * grid. Four neighbouring threads own a unit, one gate each; a thread keeps its row of W_hh (up to
 * 64) and W_ih (up to 16) in registers, h goes round in shared memory (two buffers, so one barrier
 * a step), and the four gates meet by warp shuffle. Backward runs the same way with the columns of
 * W_hh in registers and overwrites the saved gates with their gradients; the weight gradients are
 * then one matrix product over all (batch, time), in shares summed in a fixed order. Save layout:
 * gates [M·B, T, H, 4] then cells [M·B, T, H]. Widths over 64 units or 16 inputs take the _any
 * kernels, which read weights through the cache: correct, not fast.
 */
#include "gpu/common.cuh"

enum { CHUNK = 32, CMAX = 16 };

struct lstm_dims {
    int b, c, h, t;
    int64_t stride;
};

__device__ __forceinline__ float gate_value(float z, int is_tanh)
{
    float k = is_tanh ? 2.0f : 1.0f;
    float s = 1.0f / (1.0f + expf(-k * z));
    return is_tanh ? 2.0f * s - 1.0f : s;
}

/* Copies a [rows, T] slice of times [t0, t0+CHUNK) into shared [rows][CHUNK+1]; zero outside. */
__device__ __forceinline__ void load_times(float *to, const float *from, int rows, int t_all,
                                           int t0)
{
    for (int e = threadIdx.x; e < rows * CHUNK; e += blockDim.x) {
        int r = e / CHUNK, t = t0 + e % CHUNK;
        to[r * (CHUNK + 1) + e % CHUNK] = t >= 0 && t < t_all ? from[(int64_t)r * t_all + t] : 0.0f;
    }
}

/* grid: M·B; 4·H threads (H = the template's, the net's rounded up) */
template <int H>
__global__ void __launch_bounds__(4 * H)
    f32_lstm(lstm_dims d, const float *__restrict__ x, const float *__restrict__ w_ih,
             const float *__restrict__ w_hh, const float *__restrict__ b_ih,
             const float *__restrict__ b_hh, float *__restrict__ y, float4 *__restrict__ gates,
             float *__restrict__ cells)
{
    __shared__ __align__(16) float hs[2][H];
    __shared__ float xs[CMAX * (CHUNK + 1)];
    __shared__ float ys[H * (CHUNK + 1)];
    const int row = blockIdx.x, u = threadIdx.x >> 2, q = threadIdx.x & 3, base = threadIdx.x & 28;
    const int64_t p = (int64_t)(row / d.b) * d.stride;
    const bool live = u < d.h;
    const int r = q * d.h + u;
    float wh[H], wx[CMAX], bias = 0.0f, c = 0.0f;
#pragma unroll
    for (int j = 0; j < H; j++) wh[j] = live && j < d.h ? w_hh[p + (int64_t)r * d.h + j] : 0.0f;
#pragma unroll
    for (int j = 0; j < CMAX; j++) wx[j] = live && j < d.c ? w_ih[p + (int64_t)r * d.c + j] : 0.0f;
    if (live) bias = b_ih[p + r] + b_hh[p + r];
    x += (int64_t)row * d.c * d.t;
    y += (int64_t)row * d.h * d.t;
    for (int e = threadIdx.x; e < 2 * H; e += 4 * H) hs[0][e] = 0.0f;
    for (int e = threadIdx.x; e < CMAX * (CHUNK + 1); e += 4 * H) xs[e] = 0.0f;
    __syncthreads();

    for (int t0 = 0; t0 < d.t; t0 += CHUNK) {
        load_times(xs, x, d.c, d.t, t0);
        __syncthreads();
        const int steps = min(CHUNK, d.t - t0);
        for (int s = 0; s < steps; s++) {
            const int now = (t0 + s) & 1;
            float z[4] = {bias, 0.0f, 0.0f, 0.0f};
#pragma unroll
            for (int j = 0; j < CMAX; j++) z[j & 3] += wx[j] * xs[j * (CHUNK + 1) + s];
#pragma unroll
            for (int j = 0; j < H; j += 4) {
                float4 h4 = *reinterpret_cast<const float4 *>(&hs[now][j]);
                z[0] += wh[j] * h4.x;
                z[1] += wh[j + 1] * h4.y;
                z[2] += wh[j + 2] * h4.z;
                z[3] += wh[j + 3] * h4.w;
            }
            float v = gate_value((z[0] + z[1]) + (z[2] + z[3]), q == 2);
            float gi = __shfl_sync(0xffffffffu, v, base),
                  gf = __shfl_sync(0xffffffffu, v, base + 1);
            float gg = __shfl_sync(0xffffffffu, v, base + 2),
                  go = __shfl_sync(0xffffffffu, v, base + 3);
            c = gf * c + gi * gg;
            float h = go * gate_value(c, 1);
            if (q == 0 && live) {
                hs[now ^ 1][u] = h;
                ys[u * (CHUNK + 1) + s] = h;
                if (gates) {
                    int64_t at = ((int64_t)row * d.t + t0 + s) * d.h + u;
                    gates[at] = make_float4(gi, gf, gg, go);
                    cells[at] = c;
                }
            }
            __syncthreads();
        }
        for (int e = threadIdx.x; e < d.h * steps; e += 4 * H) {
            int j = e / steps, s = e % steps;
            y[(int64_t)j * d.t + t0 + s] = ys[j * (CHUNK + 1) + s];
        }
        __syncthreads();
    }
}

/* Gradient of the four pre-activations of one unit at one step; *dc is carried to the step before.
 */
__device__ __forceinline__ float4 gate_gradients(float4 g, float c, float c_before, float dh,
                                                 float *dc)
{
    float tc = gate_value(c, 1);
    float d = *dc + dh * g.w * (1.0f - tc * tc);
    float4 dz = make_float4(d * g.z * g.x * (1.0f - g.x), d * c_before * g.y * (1.0f - g.y),
                            d * g.x * (1.0f - g.z * g.z), dh * tc * g.w * (1.0f - g.w));
    *dc = d * g.y;
    return dz;
}

/* grid: M·B. Overwrites gates with the gradients of the pre-activations. */
template <int H>
__global__ void __launch_bounds__(4 * H)
    f32_lstm_grad(lstm_dims d, const float *__restrict__ w_hh, const float *__restrict__ dy,
                  float4 *__restrict__ gates, const float *__restrict__ cells)
{
    __shared__ __align__(16) float dz_s[2][4][H + 4];
    __shared__ float ds[H * (CHUNK + 1)];
    const int row = blockIdx.x, u = threadIdx.x >> 2, q = threadIdx.x & 3;
    const int64_t p = (int64_t)(row / d.b) * d.stride;
    const bool live = u < d.h;
    float wt[H], dc = 0.0f;
#pragma unroll
    for (int j = 0; j < H; j++)
        wt[j] = live && j < d.h ? w_hh[p + (int64_t)(q * d.h + j) * d.h + u] : 0.0f;
    dy += (int64_t)row * d.h * d.t;
    for (int e = threadIdx.x; e < 2 * 4 * (H + 4); e += 4 * H) (&dz_s[0][0][0])[e] = 0.0f;

    for (int t0 = (d.t - 1) / CHUNK * CHUNK; t0 >= 0; t0 -= CHUNK) {
        __syncthreads();
        load_times(ds, dy, d.h, d.t, t0);
        __syncthreads();
        for (int s = min(CHUNK, d.t - t0) - 1; s >= 0; s--) {
            const int t = t0 + s, now = t & 1;
            float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
            for (int j = 0; j < H; j += 4) {
                float4 z4 = *reinterpret_cast<const float4 *>(&dz_s[now][q][j]);
                part[0] += wt[j] * z4.x;
                part[1] += wt[j + 1] * z4.y;
                part[2] += wt[j + 2] * z4.z;
                part[3] += wt[j + 3] * z4.w;
            }
            float dh = (part[0] + part[1]) + (part[2] + part[3]);
            dh += __shfl_xor_sync(0xffffffffu, dh, 1);
            dh += __shfl_xor_sync(0xffffffffu, dh, 2);
            if (q == 0 && live) {
                int64_t at = ((int64_t)row * d.t + t) * d.h + u;
                float before = t > 0 ? cells[at - d.h] : 0.0f;
                float4 dz =
                    gate_gradients(gates[at], cells[at], before, dh + ds[u * (CHUNK + 1) + s], &dc);
                gates[at] = dz;
                dz_s[now ^ 1][0][u] = dz.x;
                dz_s[now ^ 1][1][u] = dz.y;
                dz_s[now ^ 1][2][u] = dz.z;
                dz_s[now ^ 1][3][u] = dz.w;
            }
            __syncthreads();
        }
    }
}

/* Any width: 256 threads, weights through the cache; shared: h or dz, and c or dc, of all units. */
__global__ void __launch_bounds__(256)
    f32_lstm_any(lstm_dims d, const float *__restrict__ x, const float *__restrict__ w_ih,
                 const float *__restrict__ w_hh, const float *__restrict__ b_ih,
                 const float *__restrict__ b_hh, float *__restrict__ y, float4 *__restrict__ gates,
                 float *__restrict__ cells)
{
    extern __shared__ float4 shared4[];
    float *hs = reinterpret_cast<float *>(shared4), *cs = hs + 2 * d.h;
    const int row = blockIdx.x;
    const int64_t p = (int64_t)(row / d.b) * d.stride;
    x += (int64_t)row * d.c * d.t;
    y += (int64_t)row * d.h * d.t;
    for (int e = threadIdx.x; e < 3 * d.h; e += blockDim.x) hs[e] = 0.0f;
    for (int t = 0; t < d.t; t++) {
        __syncthreads();
        const float *before = hs + (t & 1) * d.h;
        float *after = hs + (~t & 1) * d.h;
        for (int u = threadIdx.x; u < d.h; u += blockDim.x) {
            float v[4];
            for (int q = 0; q < 4; q++) {
                int64_t r = (int64_t)q * d.h + u;
                float z = b_ih[p + r] + b_hh[p + r];
                for (int j = 0; j < d.c; j++) z += w_ih[p + r * d.c + j] * x[(int64_t)j * d.t + t];
                for (int j = 0; j < d.h; j++) z += w_hh[p + r * d.h + j] * before[j];
                v[q] = gate_value(z, q == 2);
            }
            float c = v[1] * cs[u] + v[0] * v[2], h = v[3] * gate_value(c, 1);
            cs[u] = c;
            after[u] = h;
            y[(int64_t)u * d.t + t] = h;
            if (gates) {
                int64_t at = ((int64_t)row * d.t + t) * d.h + u;
                gates[at] = make_float4(v[0], v[1], v[2], v[3]);
                cells[at] = c;
            }
        }
    }
}

__global__ void __launch_bounds__(256)
    f32_lstm_grad_any(lstm_dims d, const float *__restrict__ w_hh, const float *__restrict__ dy,
                      float4 *__restrict__ gates, const float *__restrict__ cells)
{
    extern __shared__ float4 shared4[];
    float4 *dz_s = shared4; /* [2][h] */
    float *dcs = reinterpret_cast<float *>(shared4 + 2 * d.h);
    const int row = blockIdx.x;
    const int64_t p = (int64_t)(row / d.b) * d.stride;
    dy += (int64_t)row * d.h * d.t;
    for (int e = threadIdx.x; e < 2 * d.h; e += blockDim.x) dz_s[e] = make_float4(0, 0, 0, 0);
    for (int e = threadIdx.x; e < d.h; e += blockDim.x) dcs[e] = 0.0f;
    for (int t = d.t - 1; t >= 0; t--) {
        __syncthreads();
        const float4 *later = dz_s + (t & 1) * d.h;
        for (int u = threadIdx.x; u < d.h; u += blockDim.x) {
            float dh = dy[(int64_t)u * d.t + t], dc = dcs[u];
            for (int j = 0; j < d.h; j++) {
                const float *w = w_hh + p + (int64_t)j * d.h + u;
                int64_t gate = (int64_t)d.h * d.h;
                dh += w[0] * later[j].x + w[gate] * later[j].y + w[2 * gate] * later[j].z +
                      w[3 * gate] * later[j].w;
            }
            int64_t at = ((int64_t)row * d.t + t) * d.h + u;
            float4 dz =
                gate_gradients(gates[at], cells[at], t > 0 ? cells[at - d.h] : 0.0f, dh, &dc);
            gates[at] = dz;
            dcs[u] = dc;
            dz_s[(~t & 1) * d.h + u] = dz;
        }
    }
}

/* ---- weight gradients: [4H] × [H + C + 1] = Σ_{b,t} dz · (h_{t-1} | x_t | 1) ---- */

enum { DW_R = 64, DW_COL = 32 };

/* grid (r tiles, column tiles, M·shares); 128 threads = 16 × 8, each 4 × 4 */
__global__ void __launch_bounds__(128)
    f32_lstm_dw(lstm_dims d, int shares, const float *__restrict__ dz, const float *__restrict__ x,
                const float *__restrict__ y, float *__restrict__ part)
{
    __shared__ __align__(16) float as[CHUNK][DW_R + 4];
    __shared__ __align__(16) float bs[CHUNK][DW_COL + 4];
    const int tid = threadIdx.x, tx = tid & 7, ty = tid >> 3, rows = 4 * d.h, cols = d.h + d.c + 1;
    const int r0 = blockIdx.x * DW_R, c0 = blockIdx.y * DW_COL;
    const int m = blockIdx.z / shares, share = blockIdx.z % shares;
    const int b0 = (int)((int64_t)d.b * share / shares),
              b1 = (int)((int64_t)d.b * (share + 1) / shares);
    float acc[4][4] = {};
    for (int b = b0; b < b1; b++) {
        const int64_t row = (int64_t)m * d.b + b;
        for (int t0 = 0; t0 < d.t; t0 += CHUNK) {
            for (int e = tid; e < CHUNK * DW_R; e += 128) {
                int t = t0 + e / DW_R, r = r0 + e % DW_R; /* r = unit·4 + gate, as stored */
                as[e / DW_R][e % DW_R] =
                    t < d.t && r < rows ? dz[(row * d.t + t) * rows + r] : 0.0f;
            }
            for (int e = tid; e < CHUNK * DW_COL; e += 128) {
                int t = t0 + e % CHUNK, c = c0 + e / CHUNK;
                float v = 0.0f;
                if (t < d.t && c < d.h)
                    v = t > 0 ? y[(row * d.h + c) * d.t + t - 1] : 0.0f;
                else if (t < d.t && c < d.h + d.c)
                    v = x[(row * d.c + c - d.h) * d.t + t];
                else if (t < d.t && c < cols)
                    v = 1.0f;
                bs[e % CHUNK][e / CHUNK] = v;
            }
            __syncthreads();
#pragma unroll 4
            for (int t = 0; t < CHUNK; t++) {
                float a[4], v[4];
                *reinterpret_cast<float4 *>(a) = *reinterpret_cast<const float4 *>(&as[t][ty * 4]);
                *reinterpret_cast<float4 *>(v) = *reinterpret_cast<const float4 *>(&bs[t][tx * 4]);
#pragma unroll
                for (int i = 0; i < 4; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) acc[i][j] += a[i] * v[j];
            }
            __syncthreads();
        }
    }
    float *out = part + (int64_t)blockIdx.z * rows * cols;
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int r = r0 + ty * 4 + i, c = c0 + tx * 4 + j;
            if (r < rows && c < cols) out[(int64_t)r * cols + c] = acc[i][j];
        }
}

/* Adds the shares in order and puts each number where it belongs. grid (blocks over rows·cols, M)
 */
__global__ void f32_lstm_dw_sum(lstm_dims d, int shares, const float *__restrict__ part,
                                float *__restrict__ dw_ih, float *__restrict__ dw_hh,
                                float *__restrict__ db_ih, float *__restrict__ db_hh)
{
    const int rows = 4 * d.h, cols = d.h + d.c + 1;
    int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, n = (int64_t)rows * cols;
    if (e >= n) return;
    part += blockIdx.y * shares * n;
    float v = 0.0f;
    for (int s = 0; s < shares; s++) v += part[s * n + e];
    int r = (int)(e / cols), c = (int)(e % cols);
    int64_t at = (int64_t)(r & 3) * d.h + (r >> 2), p = blockIdx.y * d.stride;
    if (c < d.h)
        dw_hh[p + at * d.h + c] = v;
    else if (c < d.h + d.c)
        dw_ih[p + at * d.c + c - d.h] = v;
    else
        db_ih[p + at] = db_hh[p + at] = v;
}

/* dx[c, t] = Σ_r W_ih[r, c]·dz[t, r]; one thread an element */
__global__ void f32_lstm_dx(lstm_dims d, int rows_all, const float *__restrict__ w_ih,
                            const float *__restrict__ dz, float *__restrict__ dx)
{
    int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= (int64_t)rows_all * d.c * d.t) return;
    int64_t row = e / d.t / d.c;
    int t = (int)(e % d.t), c = (int)(e / d.t % d.c);
    const float *w = w_ih + row / d.b * d.stride + c, *z = dz + (row * d.t + t) * 4 * d.h;
    float v = 0.0f;
    for (int u = 0; u < d.h; u++)
        for (int q = 0; q < 4; q++) v += w[(int64_t)(q * d.h + u) * d.c] * z[u * 4 + q];
    dx[e] = v;
}

static int64_t lstm_save_floats(struct nn_backend *be, const struct nn_lstm *a)
{
    (void)be;
    return (int64_t)a->m * a->b * a->t * a->h * 5;
}

static float *cells_of(const struct nn_lstm *a)
{
    return a->save + (int64_t)a->m * a->b * a->t * a->h * 4;
}

static int lstm_forward(struct nn_backend *be, const struct nn_lstm *a)
{
    lstm_dims d = {a->b, a->c, a->h, a->t, a->stride};
    cudaStream_t st = gpu_of(be)->stream;
    int rows = a->m * a->b;
    float4 *gates = a->train ? (float4 *)a->save : NULL;
    float *cells = a->train ? cells_of(a) : NULL;
#define LSTM(H)                                                                                    \
    f32_lstm<H>                                                                                    \
        <<<rows, 4 * H, 0, st>>>(d, a->x, a->w_ih, a->w_hh, a->b_ih, a->b_hh, a->y, gates, cells)
    if (a->c > CMAX || a->h > 64) {
        size_t shared = sizeof(float) * 3 * (size_t)a->h;
        if (shared > 48 * 1024)
            return cn_fail(&be->error, CN_EUNSUPPORTED,
                           "lstm: %d units are more than a GPU block holds (4096)", a->h);
        f32_lstm_any<<<rows, 256, shared, st>>>(d, a->x, a->w_ih, a->w_hh, a->b_ih, a->b_hh, a->y,
                                                gates, cells);
    } else if (a->h <= 8)
        LSTM(8);
    else if (a->h <= 16)
        LSTM(16);
    else if (a->h <= 32)
        LSTM(32);
    else
        LSTM(64);
#undef LSTM
    return gpu_launched(be, "lstm");
}

static int lstm_grad_steps(struct nn_backend *be, const struct nn_lstm *a, lstm_dims d)
{
    cudaStream_t st = gpu_of(be)->stream;
    int rows = a->m * a->b;
    float4 *gates = (float4 *)a->save;
    const float *cells = cells_of(a);
#define GRAD(H) f32_lstm_grad<H><<<rows, 4 * H, 0, st>>>(d, a->w_hh, a->dy, gates, cells)
    if (a->c > CMAX || a->h > 64) {
        size_t shared = sizeof(float) * 9 * (size_t)a->h;
        if (shared > 48 * 1024)
            return cn_fail(
                &be->error, CN_EUNSUPPORTED,
                "lstm: training %d units needs more shared memory than a GPU block has; 1365 fit",
                a->h);
        f32_lstm_grad_any<<<rows, 256, shared, st>>>(d, a->w_hh, a->dy, gates, cells);
    } else if (a->h <= 8)
        GRAD(8);
    else if (a->h <= 16)
        GRAD(16);
    else if (a->h <= 32)
        GRAD(32);
    else
        GRAD(64);
#undef GRAD
    return gpu_launched(be, "lstm gradient");
}

static int lstm_backward(struct nn_backend *be, const struct nn_lstm *a)
{
    lstm_dims d = {a->b, a->c, a->h, a->t, a->stride};
    cudaStream_t st = gpu_of(be)->stream;
    int rc = lstm_grad_steps(be, a, d);
    if (rc) return rc;
    int rows = 4 * a->h, cols = a->h + a->c + 1, shares = a->b < 32 ? a->b : 32;
    int64_t n = (int64_t)rows * cols;
    float *part = (float *)gpu_scratch(be, sizeof(float) * (size_t)(n * shares * a->m));
    if (!part) return be->error.code;
    dim3 grid(gpu_blocks(rows, DW_R), gpu_blocks(cols, DW_COL), a->m * shares);
    f32_lstm_dw<<<grid, 128, 0, st>>>(d, shares, a->save, a->x, a->y, part);
    f32_lstm_dw_sum<<<dim3(gpu_blocks(n, 256), a->m), 256, 0, st>>>(d, shares, part, a->dw_ih,
                                                                    a->dw_hh, a->db_ih, a->db_hh);
    if (a->dx) {
        int64_t e = (int64_t)a->m * a->b * a->c * a->t;
        f32_lstm_dx<<<gpu_blocks(e, 256), 256, 0, st>>>(d, a->m * a->b, a->w_ih, a->save, a->dx);
    }
    return gpu_launched(be, "lstm weight gradient");
}

void gpu_lstm_ops(struct nn_backend_ops *t)
{
    t->lstm_save_floats = lstm_save_floats;
    t->lstm_forward = lstm_forward;
    t->lstm_backward = lstm_backward;
}
