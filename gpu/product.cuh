/* gpu/product.cuh - one member's product as cuDNN and cuBLAS get it: two operands in, one result out.
 *
 * What a library gets never depends on where in a gang a member lies: an operand that is not aligned as
 * memory of its own would be is copied first, since kernels are chosen by alignment too. In bf16 operands
 * are rounded on the way in and the result is widened on the way out; what is kept between ops
 * (activations, weights, gradients, moments) is fp32 in every precision.
 */
#ifndef CINCH_GPU_PRODUCT_CUH
#define CINCH_GPU_PRODUCT_CUH

#include "gpu/common.cuh"

struct gpu_product {
    const float *in[2];
    float *out;
    int64_t n_in[2], n_out;
    int add;           /* out += */
    size_t work_bytes; /* that the library wants */
    int bf16;
    /* set by gpu_product_begin: what the library is to read and write, and whether it adds */
    const void *a, *b;
    void *c, *work;
    int beta;
};

int gpu_product_begin(struct nn_backend *be, struct gpu_product *p);
int gpu_product_end(struct nn_backend *be, const struct gpu_product *p);

/* Workspace of the library engines, 256-byte aligned, valid until the next call for more. NULL: none was
 * asked for, or it failed (be->error is set). Grows outside of captures only, like gpu_scratch. */
void *gpu_work(struct nn_backend *be, size_t bytes);

#endif
