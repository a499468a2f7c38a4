/* gpu/cudnn.cu - engine `cudnn`; see cudnn.cuh.
 *
 * A Conv1d is a 2-D convolution of height 1. Members of a gang are called one after another: their weights differ, and
 * cuDNN has no batch of filters. Only algorithms that cuDNN calls deterministic are used. LSTM: cuDNN wants [T, B, C], so
 * signals are turned on the way in and out; its gate order (input, forget, cell, output) is ours.
 *
 * Precision: fp32 keeps tensor cores out (FMA math, pedantic cuBLAS). tf32 lets convolutions, LSTM and matrix products round
 * their factors to TF32, and to nothing less. bf16 rounds the factors of convolutions to bf16 (sums in fp32); LSTM and Linear
 * then run as in tf32, since a thousand steps of a bf16 cell lose what they carry. Weights, gradients and moments are fp32
 * always. Each descriptor's math type is stated, read back, and kept: an algorithm that is offered under another one is used
 * under ours or not at all.
 */
#include "gpu/cudnn.cuh"
#include "gpu/product.cuh"

#include <stdlib.h>
#include <string.h>

#ifdef CINCH_HAVE_CUDNN

struct gpu_cudnn {
    cudnnHandle_t dnn;
    cublasHandle_t blas;
    /* reused by every call */
    cudnnTensorDescriptor_t x, y, p;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    cudnnDropoutDescriptor_t dropout;
    cudnnRNNDescriptor_t rnn;
    cudnnRNNDataDescriptor_t rx, ry;
    cudnnTensorDescriptor_t h, wm, wb;
};

static const float ONE = 1.0f, ZERO = 0.0f;

static int dnn_fail(struct nn_backend *be, cudnnStatus_t s, const char *what)
{
    if (be->error.code) return be->error.code;
    return cn_fail(&be->error, CN_EINTERNAL, "gpu %d: cuDNN: %s: %s", gpu_of(be)->device, what,
                   gpu_libs_get()->cudnnGetErrorString(s));
}

/* The next call in an op; leaves the op with the error's code. */
#define DNN(call)                                                                                  \
    do {                                                                                           \
        cudnnStatus_t s_ = gpu_libs_get()->call;                                                   \
        if (s_ != CUDNN_STATUS_SUCCESS) return dnn_fail(be, s_, #call);                            \
    } while (0)

#define BLAS(call)                                                                                 \
    do {                                                                                           \
        cublasStatus_t s_ = gpu_libs_get()->call;                                                  \
        if (s_ != CUBLAS_STATUS_SUCCESS)                                                           \
            return cn_fail(&be->error, CN_EINTERNAL, "gpu %d: cuBLAS status %d: " #call,           \
                           gpu_of(be)->device, (int)s_);                                           \
    } while (0)

/* What a descriptor is told, and holds to. FMA: no tensor cores. DEFAULT: TF32 on cards that have it, no
 * other rounding of fp32 factors. TENSOR_OP: tensor cores for tensors that are bf16 already.
 * ..._ALLOW_CONVERSION is used nowhere: it lets cuDNN round fp32 factors to fp16. */
static cudnnMathType_t conv_math(const struct gpu_ctx *g)
{
    return g->opt.precision == NN_FP32   ? CUDNN_FMA_MATH
           : g->opt.precision == NN_TF32 ? CUDNN_DEFAULT_MATH
                                         : CUDNN_TENSOR_OP_MATH;
}

static cudnnMathType_t rnn_math(const struct gpu_ctx *g)
{
    return g->opt.precision == NN_FP32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
}

/* A descriptor that does not keep what it was told would compute something else than was asked for. */
static int same_math(struct nn_backend *be, int is, int wanted, const char *what)
{
    if (is == wanted) return 0;
    return cn_fail(&be->error, CN_EINTERNAL, "gpu %d: %s keeps math type %d, not %d",
                   gpu_of(be)->device, what, is, wanted);
}

static int set_math(struct nn_backend *be, struct gpu_cudnn *d)
{
    int fp32 = gpu_of(be)->opt.precision == NN_FP32;
    cublasMath_t is, wanted = fp32 ? CUBLAS_PEDANTIC_MATH : CUBLAS_TF32_TENSOR_OP_MATH;
    BLAS(cublasSetMathMode(d->blas, wanted));
    BLAS(cublasGetMathMode(d->blas, &is));
    return same_math(be, is, wanted, "cuBLAS");
}

int gpu_cudnn_set_precision(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    if (g->cudnn) return set_math(be, g->cudnn);
    if (g->opt.precision != NN_FP32) gpu_log(g, "without cuDNN every product is fp32");
    return 0;
}

static int create_all(struct nn_backend *be, struct gpu_cudnn *d)
{
    struct gpu_ctx *g = gpu_of(be);
    DNN(cudnnCreate(&d->dnn));
    DNN(cudnnSetStream(d->dnn, g->stream));
    BLAS(cublasCreate_v2(&d->blas));
    BLAS(cublasSetStream_v2(d->blas, g->stream));
    int rc = set_math(be, d);
    if (rc) return rc;
    cudnnTensorDescriptor_t *t[] = {&d->x, &d->y, &d->p, &d->h, &d->wm, &d->wb};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) DNN(cudnnCreateTensorDescriptor(t[i]));
    DNN(cudnnCreateFilterDescriptor(&d->w));
    DNN(cudnnCreateConvolutionDescriptor(&d->conv));
    DNN(cudnnCreateDropoutDescriptor(&d->dropout));
    DNN(cudnnSetDropoutDescriptor(d->dropout, d->dnn, 0.0f, NULL, 0, 0));
    DNN(cudnnCreateRNNDescriptor(&d->rnn));
    DNN(cudnnCreateRNNDataDescriptor(&d->rx));
    DNN(cudnnCreateRNNDataDescriptor(&d->ry));
    return 0;
}

struct gpu_cudnn *gpu_cudnn_create(struct nn_backend *be)
{
    const struct gpu_libs *l = gpu_libs_get();
    if (!l->cudnn || !l->cublas) {
        gpu_log(gpu_of(be), "engine cudnn is not there: %s; engine native does all", l->why);
        return NULL;
    }
    struct gpu_cudnn *d = (struct gpu_cudnn *)calloc(1, sizeof *d);
    if (!d || !create_all(be, d)) return d;
    gpu_log(gpu_of(be), "engine cudnn is not usable: %s; engine native does all", be->error.text);
    memset(&be->error, 0, sizeof be->error);
    gpu_cudnn_destroy(d);
    return NULL;
}

void gpu_cudnn_destroy(struct gpu_cudnn *d)
{
    if (!d) return;
    const struct gpu_libs *l = gpu_libs_get();
    cudnnTensorDescriptor_t t[] = {d->x, d->y, d->p, d->h, d->wm, d->wb};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        if (t[i]) l->cudnnDestroyTensorDescriptor(t[i]);
    if (d->w) l->cudnnDestroyFilterDescriptor(d->w);
    if (d->conv) l->cudnnDestroyConvolutionDescriptor(d->conv);
    if (d->dropout) l->cudnnDestroyDropoutDescriptor(d->dropout);
    if (d->rnn) l->cudnnDestroyRNNDescriptor(d->rnn);
    if (d->rx) l->cudnnDestroyRNNDataDescriptor(d->rx);
    if (d->ry) l->cudnnDestroyRNNDataDescriptor(d->ry);
    if (d->dnn) l->cudnnDestroy(d->dnn);
    if (d->blas) l->cublasDestroy_v2(d->blas);
    free(d);
}

/* ---- convolution ---- */

static int is_bf16(struct nn_backend *be)
{
    return gpu_of(be)->opt.precision == NN_BF16;
}

static const float *beta_of(const struct gpu_product *p)
{
    return p->beta ? &ONE : &ZERO;
}

static int describe_conv(struct nn_backend *be, const struct nn_conv1d *a)
{
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    cudnnDataType_t type = is_bf16(be) ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    DNN(cudnnSetTensor4dDescriptor(d->x, CUDNN_TENSOR_NCHW, type, a->b, a->cin, 1, a->tin));
    DNN(cudnnSetTensor4dDescriptor(d->y, CUDNN_TENSOR_NCHW, type, a->b, a->cout, 1, a->tout));
    DNN(cudnnSetFilter4dDescriptor(d->w, type, CUDNN_TENSOR_NCHW, a->cout, a->cin, 1, a->k));
    DNN(cudnnSetConvolution2dDescriptor(d->conv, 0, a->pad, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION,
                                        CUDNN_DATA_FLOAT));
    cudnnMathType_t is, wanted = conv_math(gpu_of(be));
    DNN(cudnnSetConvolutionMathType(d->conv, wanted));
    DNN(cudnnGetConvolutionMathType(d->conv, &is));
    return same_math(be, is, wanted, "a convolution");
}

/* Whether an algorithm offered under another math type than the descriptor's can be asked for under it. */
static int fits(const struct gpu_ctx *g, cudnnMathType_t offered)
{
    if (offered == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION) return 0;
    return g->opt.precision != NN_FP32 || offered != CUDNN_TENSOR_OP_MATH;
}

/* The first algorithm in cuDNN's order that is deterministic and works under the descriptor's own math type,
 * which asking for its workspace tells. CN_EUNSUPPORTED: none. */
template <class Perf, class Size>
static int pick(struct nn_backend *be, const Perf *perf, int n, Size workspace, Perf *best)
{
    for (int i = 0; i < n; i++) {
        size_t bytes = 0;
        if (perf[i].status != CUDNN_STATUS_SUCCESS || perf[i].determinism != CUDNN_DETERMINISTIC ||
            !fits(gpu_of(be), perf[i].mathType) ||
            workspace(perf[i].algo, &bytes) != CUDNN_STATUS_SUCCESS)
            continue;
        *best = perf[i];
        best->memory = bytes;
        return 0;
    }
    return cn_fail(&be->error, CN_EUNSUPPORTED,
                   "gpu %d: cuDNN has no deterministic algorithm for this convolution",
                   gpu_of(be)->device);
}

/* y[m, b, c, t] += bias[m, c] */
__global__ void f32_add_bias(int b, int c, int t, int64_t n, int64_t stride,
                             const float *__restrict__ bias, float *__restrict__ y)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] += bias[i / t / c / b * stride + i / t % c];
}

/* Sizes of one member's tensors. */
struct conv_sizes {
    int64_t x, y, w;
};

static struct conv_sizes sizes_of(const struct nn_conv1d *a)
{
    struct conv_sizes n = {(int64_t)a->b * a->cin * a->tin, (int64_t)a->b * a->cout * a->tout,
                           (int64_t)a->cout * a->cin * a->k};
    return n;
}

int cudnn_conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a)
{
    enum { N = 8 };
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    struct conv_sizes z = sizes_of(a);
    cudnnConvolutionFwdAlgoPerf_t perf[N], best = {};
    int n = 0, rc = describe_conv(be, a);
    if (rc) return rc;
    DNN(cudnnGetConvolutionForwardAlgorithm_v7(d->dnn, d->x, d->w, d->conv, d->y, N, &n, perf));
    auto size = [d](cudnnConvolutionFwdAlgo_t algo, size_t *bytes) {
        return gpu_libs_get()->cudnnGetConvolutionForwardWorkspaceSize(d->dnn, d->x, d->w, d->conv,
                                                                       d->y, algo, bytes);
    };
    if ((rc = pick(be, perf, n, size, &best))) return rc;
    for (int m = 0; m < a->m && !rc; m++) {
        struct gpu_product p = {{a->x + m * z.x, a->w + m * a->stride},
                                a->y + m * z.y,
                                {z.x, z.w},
                                z.y,
                                0,
                                best.memory,
                                is_bf16(be)};
        if ((rc = gpu_product_begin(be, &p))) return rc;
        DNN(cudnnConvolutionForward(d->dnn, &ONE, d->x, p.a, d->w, p.b, d->conv, best.algo, p.work,
                                    best.memory, beta_of(&p), d->y, p.c));
        rc = gpu_product_end(be, &p);
    }
    if (rc || !a->bias) return rc;
    f32_add_bias<<<gpu_blocks(z.y * a->m, 256), 256, 0, gpu_of(be)->stream>>>(
        a->b, a->cout, a->tout, z.y * a->m, a->stride, a->bias, a->y);
    return gpu_launched(be, "bias");
}

static int conv_weight_gradient(struct nn_backend *be, const struct nn_conv1d *a)
{
    enum { N = 8 };
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    struct conv_sizes z = sizes_of(a);
    cudnnConvolutionBwdFilterAlgoPerf_t perf[N], best = {};
    int n = 0, rc;
    DNN(cudnnGetConvolutionBackwardFilterAlgorithm_v7(d->dnn, d->x, d->y, d->conv, d->w, N, &n,
                                                      perf));
    auto size = [d](cudnnConvolutionBwdFilterAlgo_t algo, size_t *bytes) {
        return gpu_libs_get()->cudnnGetConvolutionBackwardFilterWorkspaceSize(
            d->dnn, d->x, d->y, d->conv, d->w, algo, bytes);
    };
    if ((rc = pick(be, perf, n, size, &best))) return rc;
    for (int m = 0; m < a->m && !rc; m++) {
        struct gpu_product p = {{a->x + m * z.x, a->dy + m * z.y},
                                a->dw + m * a->stride,
                                {z.x, z.y},
                                z.w,
                                0,
                                best.memory,
                                is_bf16(be)};
        if ((rc = gpu_product_begin(be, &p))) return rc;
        DNN(cudnnConvolutionBackwardFilter(d->dnn, &ONE, d->x, p.a, d->y, p.b, d->conv, best.algo,
                                           p.work, best.memory, beta_of(&p), d->w, p.c));
        rc = gpu_product_end(be, &p);
    }
    return rc;
}

static int conv_data_gradient(struct nn_backend *be, const struct nn_conv1d *a)
{
    enum { N = 8 };
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    struct conv_sizes z = sizes_of(a);
    cudnnConvolutionBwdDataAlgoPerf_t perf[N], best = {};
    int n = 0, rc;
    DNN(cudnnGetConvolutionBackwardDataAlgorithm_v7(d->dnn, d->w, d->y, d->conv, d->x, N, &n,
                                                    perf));
    auto size = [d](cudnnConvolutionBwdDataAlgo_t algo, size_t *bytes) {
        return gpu_libs_get()->cudnnGetConvolutionBackwardDataWorkspaceSize(
            d->dnn, d->w, d->y, d->conv, d->x, algo, bytes);
    };
    if ((rc = pick(be, perf, n, size, &best))) return rc;
    for (int m = 0; m < a->m && !rc; m++) {
        struct gpu_product p = {{a->w + m * a->stride, a->dy + m * z.y},
                                a->dx + m * z.x,
                                {z.w, z.y},
                                z.x,
                                a->dx_add,
                                best.memory,
                                is_bf16(be)};
        if ((rc = gpu_product_begin(be, &p))) return rc;
        DNN(cudnnConvolutionBackwardData(d->dnn, &ONE, d->w, p.a, d->y, p.b, d->conv, best.algo,
                                         p.work, best.memory, beta_of(&p), d->x, p.c));
        rc = gpu_product_end(be, &p);
    }
    return rc;
}

int cudnn_conv1d_backward(struct nn_backend *be, const struct nn_conv1d *a)
{
    int rc = describe_conv(be, a);
    if (!rc) rc = conv_weight_gradient(be, a);
    if (!rc && a->dx) rc = conv_data_gradient(be, a);
    if (!rc && a->dbias) rc = gpu_conv1d_dbias(be, a);
    return rc;
}

/* ---- batch normalisation ---- */

static int describe_batchnorm(struct nn_backend *be, const struct nn_batchnorm *a)
{
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    DNN(cudnnSetTensor4dDescriptor(d->x, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, a->b, a->c, 1, a->t));
    DNN(cudnnSetTensor4dDescriptor(d->p, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 1, a->c, 1, 1));
    return 0;
}

int cudnn_batchnorm_forward(struct nn_backend *be, const struct nn_batchnorm *a)
{
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    int rc = describe_batchnorm(be, a);
    int64_t per = (int64_t)a->b * a->c * a->t;
    for (int m = 0; !rc && m < a->m; m++) {
        int64_t p = m * a->stride, k = (int64_t)m * a->c;
        DNN(cudnnBatchNormalizationForwardTraining(
            d->dnn, CUDNN_BATCHNORM_SPATIAL, &ONE, &ZERO, d->x, a->x + m * per, d->x,
            a->y + m * per, d->p, a->w + p, a->bias + p, a->momentum, a->running_mean + p,
            a->running_var + p, a->eps, a->save_mean + k, a->save_rstd + k));
    }
    return rc;
}

int cudnn_batchnorm_backward(struct nn_backend *be, const struct nn_batchnorm *a)
{
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    int rc = describe_batchnorm(be, a);
    int64_t per = (int64_t)a->b * a->c * a->t;
    for (int m = 0; !rc && m < a->m; m++) {
        int64_t p = m * a->stride, k = (int64_t)m * a->c;
        DNN(cudnnBatchNormalizationBackward(
            d->dnn, CUDNN_BATCHNORM_SPATIAL, &ONE, &ZERO, &ONE, &ZERO, d->x, a->x + m * per, d->x,
            a->dy + m * per, d->x, a->dx + m * per, d->p, a->w + p, a->dw + p, a->dbias + p, a->eps,
            a->save_mean + k, a->save_rstd + k));
    }
    return rc;
}

/* ---- linear ---- */

/* y[m, b, o] = bias[m, o] */
__global__ void f32_fill_bias(int b, int out, int64_t n, int64_t stride,
                              const float *__restrict__ bias, float *__restrict__ y)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = bias[i / out / b * stride + i % out];
}

__global__ void f32_linear_dbias(int b, int out, int n, int64_t stride,
                                 const float *__restrict__ dy, float *__restrict__ dbias)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int m = i / out, o = i % out;
    float v = 0.0f;
    for (int r = 0; r < b; r++) v += dy[((int64_t)m * b + r) * out + o];
    dbias[m * stride + o] = v;
}

/* One member's product by cuBLAS, c = a·b (+ c): m, n, k and leading dimensions as cuBLAS has them. Members go one
 * by one, with aligned operands: how cuBLAS splits sums depends on the number of products in a call and on
 * alignment, and a member must have the bits that it has alone. */
struct gemm {
    cublasOperation_t ta, tb;
    int m, n, k, lda, ldb;
};

static int product(struct nn_backend *be, const struct gemm *g, struct gpu_product *p)
{
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    int rc = gpu_product_begin(be, p);
    if (rc) return rc;
    BLAS(cublasSgemmStridedBatched(d->blas, g->ta, g->tb, g->m, g->n, g->k, &ONE,
                                   (const float *)p->a, g->lda, 0, (const float *)p->b, g->ldb, 0,
                                   beta_of(p), (float *)p->c, g->m, 0, 1));
    return gpu_product_end(be, p);
}

/* Row-major [r, c] is column-major [c, r], so products are written with their factors swapped. */
int cudnn_linear_forward(struct nn_backend *be, const struct nn_linear *a)
{
    int64_t sx = (int64_t)a->b * a->in, sy = (int64_t)a->b * a->out, w = (int64_t)a->in * a->out;
    struct gemm g = {CUBLAS_OP_T, CUBLAS_OP_N, a->out, a->b, a->in, a->in, a->in};
    f32_fill_bias<<<gpu_blocks(sy * a->m, 256), 256, 0, gpu_of(be)->stream>>>(
        a->b, a->out, sy * a->m, a->stride, a->bias, a->y);
    int rc = gpu_launched(be, "bias");
    for (int m = 0; m < a->m && !rc; m++) {
        struct gpu_product p = {
            {a->w + m * a->stride, a->x + m * sx}, a->y + m * sy, {w, sx}, sy, 1};
        rc = product(be, &g, &p);
    }
    return rc;
}

static int linear_products(struct nn_backend *be, const struct nn_linear *a)
{
    int64_t sx = (int64_t)a->b * a->in, sy = (int64_t)a->b * a->out, w = (int64_t)a->in * a->out;
    struct gemm dw = {CUBLAS_OP_N, CUBLAS_OP_T, a->in, a->out, a->b, a->in, a->out};
    struct gemm dx = {CUBLAS_OP_N, CUBLAS_OP_N, a->in, a->b, a->out, a->in, a->out};
    int rc = 0;
    for (int m = 0; m < a->m && !rc; m++) {
        const float *dy = a->dy + m * sy;
        struct gpu_product p = {{a->x + m * sx, dy}, a->dw + m * a->stride, {sx, sy}, w, 0};
        rc = product(be, &dw, &p);
        if (rc || !a->dx) continue;
        struct gpu_product q = {{a->w + m * a->stride, dy}, a->dx + m * sx, {w, sy}, sx, 0};
        rc = product(be, &dx, &q);
    }
    return rc;
}

int cudnn_linear_backward(struct nn_backend *be, const struct nn_linear *a)
{
    int rc = linear_products(be, a);
    if (rc || !a->dbias) return rc;
    int n = a->m * a->out;
    f32_linear_dbias<<<gpu_blocks(n, 64), 64, 0, gpu_of(be)->stream>>>(a->b, a->out, n, a->stride,
                                                                       a->dy, a->dbias);
    return gpu_launched(be, "bias gradient");
}

/* ---- LSTM ---- */

/* What one member keeps from forward to backward, in floats from its place in `save`. */
struct lstm_plan {
    size_t weights, reserve, work; /* bytes */
    int64_t x, y, w, r,
        all; /* offsets: x [T,B,C], y [T,B,H], weight space, reserve space; length of all */
};

static int64_t whole(int64_t floats)
{
    return (floats + 63) / 64 * 64;
}

static int rnn_keeps_math(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    struct gpu_cudnn *d = g->cudnn;
    cudnnRNNAlgo_t algo;
    cudnnRNNMode_t cell;
    cudnnRNNBiasMode_t bias;
    cudnnDirectionMode_t direction;
    cudnnRNNInputMode_t input;
    cudnnDataType_t type, precision;
    cudnnMathType_t is;
    cudnnDropoutDescriptor_t dropout;
    int32_t in, hidden, projected, layers;
    uint32_t flags;
    DNN(cudnnGetRNNDescriptor_v8(d->rnn, &algo, &cell, &bias, &direction, &input, &type, &precision,
                                 &is, &in, &hidden, &projected, &layers, &dropout, &flags));
    return same_math(be, is, rnn_math(g), "an LSTM");
}

static int describe_lstm(struct nn_backend *be, const struct nn_lstm *a, struct lstm_plan *p)
{
    struct gpu_ctx *g = gpu_of(be);
    struct gpu_cudnn *d = g->cudnn;
    int *lengths = (int *)malloc(sizeof(int) * (size_t)a->b);
    if (!lengths) return cn_fail(&be->error, CN_ENOMEM, "out of memory");
    for (int i = 0; i < a->b; i++) lengths[i] = a->t;
    const struct gpu_libs *l = gpu_libs_get();
    cudnnRNNDataLayout_t layout = CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED;
    cudnnStatus_t s = l->cudnnSetRNNDataDescriptor(d->rx, CUDNN_DATA_FLOAT, layout, a->t, a->b,
                                                   a->c, lengths, NULL);
    if (s == CUDNN_STATUS_SUCCESS)
        s = l->cudnnSetRNNDataDescriptor(d->ry, CUDNN_DATA_FLOAT, layout, a->t, a->b, a->h, lengths,
                                         NULL);
    free(lengths);
    if (s != CUDNN_STATUS_SUCCESS) return dnn_fail(be, s, "cudnnSetRNNDataDescriptor");
    DNN(cudnnSetRNNDescriptor_v8(d->rnn, CUDNN_RNN_ALGO_STANDARD, CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS,
                                 CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, CUDNN_DATA_FLOAT,
                                 CUDNN_DATA_FLOAT, rnn_math(g), a->c, a->h, a->h, 1, d->dropout,
                                 0));
    int rc = rnn_keeps_math(be);
    if (rc) return rc;
    int dim[3] = {1, a->b, a->h}, step[3] = {a->b * a->h, a->h, 1};
    DNN(cudnnSetTensorNdDescriptor(d->h, CUDNN_DATA_FLOAT, 3, dim, step));
    DNN(cudnnGetRNNWeightSpaceSize(d->dnn, d->rnn, &p->weights));
    DNN(cudnnGetRNNTempSpaceSizes(d->dnn, d->rnn, CUDNN_FWD_MODE_TRAINING, d->rx, &p->work,
                                  &p->reserve));
    p->x = 0;
    p->y = p->x + whole((int64_t)a->t * a->b * a->c);
    p->w = p->y + whole((int64_t)a->t * a->b * a->h);
    p->r = p->w + whole((int64_t)(p->weights + 3) / 4);
    p->all = p->r + whole((int64_t)(p->reserve + 3) / 4);
    return 0;
}

/* to[t, b, c] = from[b, c, t], or back. One thread an element of [b, c, t]. */
__global__ void f32_turn(int b, int c, int t, int back, const float *__restrict__ from,
                         float *__restrict__ to)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (int64_t)b * c * t) return;
    int64_t turned = (i % t * b + i / t / c) * c + i / t % c;
    if (back)
        to[i] = from[turned];
    else
        to[turned] = from[i];
}

static int turn(struct nn_backend *be, const struct nn_lstm *a, int channels, int back,
                const float *from, float *to)
{
    int64_t n = (int64_t)a->b * channels * a->t;
    f32_turn<<<gpu_blocks(n, 256), 256, 0, gpu_of(be)->stream>>>(a->b, channels, a->t, back, from,
                                                                 to);
    return gpu_launched(be, "turn");
}

/* Copies between PyTorch's four tensors and cuDNN's weight space; `out`: from the space. */
static int move_weights(struct nn_backend *be, const struct nn_lstm *a, const struct lstm_plan *p,
                        float *space, int out, float *const tensor[4])
{
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    for (int id = 0; id < 8; id++) {
        float *matrix = NULL, *bias = NULL;
        int gate = id % 4, own = id < 4 ? a->c : a->h;
        DNN(cudnnGetRNNWeightParams(d->dnn, d->rnn, 0, p->weights, space, id, d->wm,
                                    (void **)&matrix, d->wb, (void **)&bias));
        float *m = tensor[id / 4] + (int64_t)gate * a->h * own,
              *b = tensor[2 + id / 4] + gate * a->h;
        int rc = be->ops->copy(be, out ? m : matrix, out ? matrix : m,
                               sizeof(float) * (size_t)a->h * own);
        if (!rc)
            rc = be->ops->copy(be, out ? b : bias, out ? bias : b, sizeof(float) * (size_t)a->h);
        if (rc) return rc;
    }
    return 0;
}

int64_t cudnn_lstm_save_floats(struct nn_backend *be, const struct nn_lstm *a)
{
    struct lstm_plan p;
    return describe_lstm(be, a, &p) ? 0 : p.all * a->m;
}

int cudnn_lstm_forward(struct nn_backend *be, const struct nn_lstm *a)
{
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    struct lstm_plan p;
    int rc = describe_lstm(be, a, &p);
    void *work = rc ? NULL : gpu_work(be, p.work);
    if (rc || (!work && p.work)) return be->error.code;
    for (int m = 0; m < a->m && !rc; m++) {
        float *s = a->save + m * p.all;
        int64_t o = m * a->stride;
        float *const tensor[4] = {(float *)a->w_ih + o, (float *)a->w_hh + o, (float *)a->b_ih + o,
                                  (float *)a->b_hh + o};
        rc = turn(be, a, a->c, 0, a->x + (int64_t)m * a->b * a->c * a->t, s + p.x);
        if (!rc) rc = move_weights(be, a, &p, s + p.w, 0, tensor);
        if (rc) return rc;
        DNN(cudnnRNNForward(d->dnn, d->rnn, CUDNN_FWD_MODE_TRAINING, NULL, d->rx, s + p.x, d->ry,
                            s + p.y, d->h, NULL, NULL, d->h, NULL, NULL, p.weights, s + p.w, p.work,
                            work, p.reserve, s + p.r));
        rc = turn(be, a, a->h, 1, s + p.y, a->y + (int64_t)m * a->b * a->h * a->t);
    }
    return rc;
}

int cudnn_lstm_backward(struct nn_backend *be, const struct nn_lstm *a)
{
    struct gpu_cudnn *d = gpu_of(be)->cudnn;
    struct lstm_plan p;
    int rc = describe_lstm(be, a, &p);
    if (rc) return rc;
    size_t work = whole((int64_t)(p.work + 3) / 4), nx = whole((int64_t)a->t * a->b * a->c),
           ny = whole((int64_t)a->t * a->b * a->h);
    float *w = (float *)gpu_work(be, sizeof(float) * (work + nx + ny) + p.weights);
    if (!w) return be->error.code;
    float *dx = w + work, *dy = dx + nx, *dw = dy + ny;
    for (int m = 0; m < a->m && !rc; m++) {
        float *s = a->save + m * p.all;
        int64_t o = m * a->stride;
        float *const tensor[4] = {a->dw_ih + o, a->dw_hh + o, a->db_ih + o, a->db_hh + o};
        rc = turn(be, a, a->h, 0, a->dy + (int64_t)m * a->b * a->h * a->t, dy);
        if (!rc) rc = be->ops->zero(be, dw, p.weights);
        if (rc) return rc;
        DNN(cudnnRNNBackwardData_v8(d->dnn, d->rnn, NULL, d->ry, s + p.y, dy, d->rx, dx, d->h, NULL,
                                    NULL, NULL, d->h, NULL, NULL, NULL, p.weights, s + p.w, p.work,
                                    w, p.reserve, s + p.r));
        DNN(cudnnRNNBackwardWeights_v8(d->dnn, d->rnn, CUDNN_WGRAD_MODE_ADD, NULL, d->rx, s + p.x,
                                       d->h, NULL, d->ry, s + p.y, p.weights, dw, p.work, w,
                                       p.reserve, s + p.r));
        rc = move_weights(be, a, &p, dw, 1, tensor);
        if (!rc && a->dx) rc = turn(be, a, a->c, 1, dx, a->dx + (int64_t)m * a->b * a->c * a->t);
    }
    return rc;
}

#else /* built without cuDNN's headers */

struct gpu_cudnn *gpu_cudnn_create(struct nn_backend *be)
{
    gpu_log(gpu_of(be), "engine cudnn is not there: %s; engine native does all",
            gpu_libs_get()->why);
    return NULL;
}

void gpu_cudnn_destroy(struct gpu_cudnn *d)
{
    (void)d;
}

int gpu_cudnn_set_precision(struct nn_backend *be)
{
    if (gpu_of(be)->opt.precision != NN_FP32)
        gpu_log(gpu_of(be), "built without cuDNN: every product is fp32");
    return 0;
}

#endif
