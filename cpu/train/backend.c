/* cpu/train/backend.c - the CPU backend: memory is plain memory, ops run at once in the calling
 * thread and the pool's. The table starts with the reference loops; the fast ops replace entries at
 * creation, over the kernels of the best instruction set that the CPU has and `isa` allows. */
#include "cpu/train/backend.h"

#include "cpu/train/context.h"
#include "cpu/train/fast.h"
#include "cpu/train/ref.h"

#include <stdlib.h>
#include <string.h>

static void backend_destroy(struct nn_backend *be)
{
    if (!be) return;
    struct cpu_train *c = be->ctx;
    cpu_train_scratch_free(c);
    cn_pool_destroy(c->pool);
    free(c);
}

static int backend_alloc(struct nn_backend *be, size_t bytes, void **p)
{
    *p = cpu_train_memory(bytes);
    if (*p) return 0;
    return cn_fail(&be->error, CN_ENOMEM,
                   "out of memory: %zu bytes for training; use a smaller batch", bytes);
}

static void backend_release(struct nn_backend *be, void *p)
{
    free(p);
}

static int backend_copy(struct nn_backend *be, void *dst, const void *src, size_t bytes)
{
    if (bytes) memcpy(dst, src, bytes);
    return 0;
}

static int backend_zero(struct nn_backend *be, void *dst, size_t bytes)
{
    if (bytes) memset(dst, 0, bytes);
    return 0;
}

static int backend_sync(struct nn_backend *be)
{
    return 0;
}

static int backend_attach(struct nn_backend *be, const float *host, size_t n, const void **p,
                          int *half)
{
    *half = 0;
    *p = host; /* no copy: a dataset of gigabytes stays one mapping */
    return 0;
}

static void backend_detach(struct nn_backend *be, const void *p)
{
}

static const struct nn_backend_ops ref_ops = {
    .name = "cpu",
    .destroy = backend_destroy,
    .alloc = backend_alloc,
    .release = backend_release,
    .upload = backend_copy,
    .download = backend_copy,
    .copy = backend_copy,
    .zero = backend_zero,
    .sync = backend_sync,
    .attach = backend_attach,
    .detach = backend_detach,
    .gather = ref_gather,
    .conv1d_forward = ref_conv1d_forward,
    .conv1d_backward = ref_conv1d_backward,
    .batchnorm_forward = ref_batchnorm_forward,
    .batchnorm_backward = ref_batchnorm_backward,
    .relu_forward = ref_relu_forward,
    .relu_backward = ref_relu_backward,
    .add_forward = ref_add_forward,
    .add_backward = ref_add_backward,
    .maxpool_forward = ref_maxpool_forward,
    .maxpool_backward = ref_maxpool_backward,
    .mean_forward = ref_mean_forward,
    .mean_backward = ref_mean_backward,
    .lstm_save_floats = ref_lstm_save_floats,
    .lstm_forward = ref_lstm_forward,
    .lstm_backward = ref_lstm_backward,
    .layernorm_forward = ref_layernorm_forward,
    .layernorm_backward = ref_layernorm_backward,
    .linear_forward = ref_linear_forward,
    .linear_backward = ref_linear_backward,
    .dropout_forward = ref_dropout_forward,
    .dropout_backward = ref_dropout_backward,
    .loss = ref_loss,
    .probability = ref_probability,
    .update = ref_update,
    .average = ref_average,
};

static void use_fast_ops(struct nn_backend_ops *ops)
{
    ops->conv1d_forward = fast_conv1d_forward;
    ops->conv1d_backward = fast_conv1d_backward;
    ops->relu_forward = fast_relu_forward;
    ops->relu_backward = fast_relu_backward;
    ops->add_forward = fast_add_forward;
    ops->add_backward = fast_add_backward;
    ops->maxpool_forward = fast_maxpool_forward;
    ops->maxpool_backward = fast_maxpool_backward;
    ops->mean_forward = fast_mean_forward;
    ops->lstm_save_floats = fast_lstm_save_floats;
    ops->lstm_forward = fast_lstm_forward;
    ops->lstm_backward = fast_lstm_backward;
    ops->layernorm_forward = fast_layernorm_forward;
    ops->layernorm_backward = fast_layernorm_backward;
    ops->linear_forward = fast_linear_forward;
    ops->linear_backward = fast_linear_backward;
    ops->dropout_forward = fast_dropout_forward;
    ops->dropout_backward = fast_dropout_backward;
    ops->update = fast_update;
    ops->average = fast_average;
    ops->conv_block_save_floats = fast_conv_block_save_floats;
    ops->conv_block_forward = fast_conv_block_forward;
    ops->conv_block_backward = fast_conv_block_backward;
}

/* From plain to best. The integer-only sets of the deployment runtime cap to the float set below
 * them. */
static const struct {
    const char *name;
    int level; /* into `kernels`; -1: the reference loops */
} isa_names[] = {{"ref", -1},   {"portable", 0},   {"avx2", 1}, {"avxvnni", 1},
                 {"avx512", 2}, {"avx512vnni", 2}, {"amx", 2}};

static const struct cpu_kernels *kernels_at(int level)
{
#ifdef __x86_64__
    if (level == 2) return &cpu_kernels__avx512;
    if (level == 1) return &cpu_kernels__avx2;
#endif
    return &cpu_kernels__portable;
}

/* The best level that this CPU runs. */
static int cpu_level(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}

/* *k: the kernels to use, NULL for the reference loops. `isa` asked for by the caller must be
 * there; CINCH_ISA is a cap. */
static int choose_kernels(const struct cpu_kernels **k, const char *isa, struct cn_error *err)
{
    const char *cap = isa ? isa : getenv("CINCH_ISA");
    int best = cpu_level();
    *k = kernels_at(best);
    if (!cap || !*cap) return 0;
    for (size_t i = 0; i < sizeof isa_names / sizeof *isa_names; i++) {
        if (strcmp(cap, isa_names[i].name)) continue;
        if (isa_names[i].level > best)
            return cn_fail(err, CN_EUNSUPPORTED, "this CPU has no %s; the best it has is %s", cap,
                           kernels_at(best)->isa);
        *k = isa_names[i].level < 0 ? NULL : kernels_at(isa_names[i].level);
        return 0;
    }
    return cn_fail(err, CN_EUNSUPPORTED,
                   "unknown instruction set '%s'; known: ref, portable, avx2, avx512", cap);
}

int cpu_train_create(struct nn_backend **out, const struct cpu_train_options *opt,
                     struct cn_error *err)
{
    *out = NULL;
    if (opt->threads < 1 || opt->threads > 1024)
        return cn_fail(err, CN_EINVALID, "threads must lie between 1 and 1024, not %d",
                       opt->threads);
    const struct cpu_kernels *k;
    int rc = choose_kernels(&k, opt->isa, err);
    if (rc) return rc;
    struct cpu_train *c = calloc(1, sizeof *c);
    if (!c) return cn_fail(err, CN_ENOMEM, "out of memory");
    c->ops = ref_ops;
    c->k = k;
    if (k) use_fast_ops(&c->ops);
    c->be = (struct nn_backend){.ops = &c->ops, .ctx = c};
    c->pool = cn_pool_create(opt->threads);
    c->own = c->pool ? calloc((size_t)cn_pool_threads(c->pool), sizeof *c->own) : NULL;
    if (!c->own) {
        cn_pool_destroy(c->pool);
        free(c);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    *out = &c->be;
    return 0;
}
