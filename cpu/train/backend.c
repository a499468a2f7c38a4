/* cpu/train/backend.c - the CPU backend: memory is plain memory, ops run at once in the calling
 * thread and the pool's. The table starts with the reference loops; faster kernels replace entries
 * at creation, as the CPU and `isa` allow. */
#include "cpu/train/backend.h"

#include "cpu/train/context.h"
#include "cpu/train/ref.h"

#include <stdlib.h>
#include <string.h>

static void backend_destroy(struct nn_backend *be)
{
    if (!be) return;
    struct cpu_train *c = be->ctx;
    cn_pool_destroy(c->pool);
    free(c);
}

static int backend_alloc(struct nn_backend *be, size_t bytes, void **p)
{
    size_t rounded = (bytes + 63) / 64 * 64;
    *p = rounded < bytes ? NULL : aligned_alloc(64, rounded ? rounded : 64);
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

static int backend_attach(struct nn_backend *be, const void *host, size_t bytes, const void **p)
{
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

int cpu_train_create(struct nn_backend **out, const struct cpu_train_options *opt,
                     struct cn_error *err)
{
    *out = NULL;
    if (opt->threads < 1 || opt->threads > 1024)
        return cn_fail(err, CN_EINVALID, "threads must lie between 1 and 1024, not %d",
                       opt->threads);
    const char *isa = opt->isa ? opt->isa : getenv("CINCH_ISA");
    if (isa && strcmp(isa, "ref") && strcmp(isa, "portable"))
        return cn_fail(err, CN_EUNSUPPORTED, "unknown instruction set '%s'; known: ref, portable",
                       isa);
    struct cpu_train *c = calloc(1, sizeof *c);
    if (!c) return cn_fail(err, CN_ENOMEM, "out of memory");
    c->ops = ref_ops;
    c->be = (struct nn_backend){.ops = &c->ops, .ctx = c};
    c->pool = cn_pool_create(opt->threads);
    if (!c->pool) {
        free(c);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    *out = &c->be;
    return 0;
}
