/* cli/selftest_ops.c - one op after another on several backends: same inputs, compared outputs, times.
 *
 * An op is described by its buffers (how long, filled how, compared after which direction) and a
 * function that fills the op's arguments from them. Inputs are the same on all sides: Philox, keyed
 * by op and buffer. Differences are those of the largest output value of side 0.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "cli/selftest.h"

enum { FORWARD, BACKWARD, MAX_BUFS = 10, MAX_SIDES = 4 };
enum use { INPUT, AFTER_FORWARD, AFTER_BACKWARD, PRIVATE };

struct buffer {
    size_t n; /* floats; 0: LSTM's own, as long as the backend says */
    float lo, hi;
    enum use use;
};

struct shape {
    int b, c, o, t, k, pad; /* batch, channels in and out, time, kernel */
};

struct op {
    const char *name;
    int dnn;        /* cuDNN or cuBLAS has it */
    int directions; /* 1: forward only */
    double bound;
    struct shape s;
    struct buffer buffer[MAX_BUFS];
    int (*call)(struct nn_backend *be, const struct shape *s, float **p, int direction);
};

/* ---- the ops; p[i] is buffer i ---- */

static int call_conv(struct nn_backend *be, const struct shape *s, float **p, int direction)
{
    struct nn_conv1d a = {.m = 1, .b = s->b, .cin = s->c, .cout = s->o, .tin = s->t};
    a.tout = s->t + 2 * s->pad - s->k + 1;
    a.k = s->k;
    a.pad = s->pad;
    a.stride = (int64_t)s->c * s->o * s->k;
    a.x = p[0];
    a.w = p[1];
    a.y = p[2];
    a.dy = p[3];
    a.dx = p[4];
    a.dw = p[5];
    return direction ? be->ops->conv1d_backward(be, &a) : be->ops->conv1d_forward(be, &a);
}

static int call_batchnorm(struct nn_backend *be, const struct shape *s, float **p, int direction)
{
    struct nn_batchnorm a = {.m = 1, .b = s->b, .c = s->c, .t = s->t, .stride = 2 * s->c};
    a.train = 1;
    a.eps = 1e-5f;
    a.momentum = 0.1f;
    a.x = p[0];
    a.w = p[1];
    a.bias = p[1] + s->c;
    a.running_mean = p[2];
    a.running_var = p[2] + s->c;
    a.save_mean = p[3];
    a.save_rstd = p[3] + s->c;
    a.y = p[4];
    a.dy = p[5];
    a.dx = p[6];
    a.dw = p[7];
    a.dbias = p[7] + s->c;
    return direction ? be->ops->batchnorm_backward(be, &a) : be->ops->batchnorm_forward(be, &a);
}

static int call_relu(struct nn_backend *be, const struct shape *s, float **p, int direction)
{
    struct nn_eltwise a = {.n = (int64_t)s->b * s->c * s->t, .x = p[0], .y = p[1]};
    a.dy = p[2];
    a.dx = p[3];
    return direction ? be->ops->relu_backward(be, &a) : be->ops->relu_forward(be, &a);
}

static int call_maxpool(struct nn_backend *be, const struct shape *s, float **p, int direction)
{
    struct nn_pool a = {.rows = s->b * s->c, .tin = s->t, .tout = s->t / s->k, .k = s->k};
    a.x = p[0];
    a.y = p[1];
    a.arg = (uint8_t *)p[2];
    a.dy = p[3];
    a.dx = p[4];
    return direction ? be->ops->maxpool_backward(be, &a) : be->ops->maxpool_forward(be, &a);
}

static int call_lstm(struct nn_backend *be, const struct shape *s, float **p, int direction)
{
    struct nn_lstm a = {.m = 1, .b = s->b, .c = s->c, .h = s->o, .t = s->t, .train = 1};
    int64_t ih = (int64_t)4 * s->o * s->c, hh = (int64_t)4 * s->o * s->o;
    a.stride = ih + hh + 8 * s->o;
    a.x = p[0];
    a.w_ih = p[1];
    a.w_hh = p[1] + ih;
    a.b_ih = p[1] + ih + hh;
    a.b_hh = p[1] + ih + hh + 4 * s->o;
    a.y = p[2];
    a.save = p[3];
    a.dy = p[4];
    a.dx = p[5];
    a.dw_ih = p[6];
    a.dw_hh = p[6] + ih;
    a.db_ih = p[6] + ih + hh;
    a.db_hh = p[6] + ih + hh + 4 * s->o;
    return direction ? be->ops->lstm_backward(be, &a) : be->ops->lstm_forward(be, &a);
}

static int call_layernorm(struct nn_backend *be, const struct shape *s, float **p, int direction)
{
    struct nn_layernorm a = {.m = 1, .b = s->b, .c = s->c, .t = s->t, .stride = 2 * s->c};
    a.eps = 1e-5f;
    a.x = p[0];
    a.w = p[1];
    a.bias = p[1] + s->c;
    a.save_mean = p[2];
    a.save_rstd = p[2] + (size_t)s->b * (size_t)s->t;
    a.y = p[3];
    a.dy = p[4];
    a.dx = p[5];
    a.dw = p[6];
    a.dbias = p[6] + s->c;
    return direction ? be->ops->layernorm_backward(be, &a) : be->ops->layernorm_forward(be, &a);
}

static int call_linear(struct nn_backend *be, const struct shape *s, float **p, int direction)
{
    struct nn_linear a = {.m = 1, .b = s->b, .in = s->c, .out = s->o};
    int64_t w = (int64_t)s->c * s->o;
    a.stride = w + s->o;
    a.x = p[0];
    a.w = p[1];
    a.bias = p[1] + w;
    a.y = p[2];
    a.dy = p[3];
    a.dx = p[4];
    a.dw = p[5];
    a.dbias = p[5] + w;
    return direction ? be->ops->linear_backward(be, &a) : be->ops->linear_forward(be, &a);
}

static int call_mean(struct nn_backend *be, const struct shape *s, float **p, int direction)
{
    struct nn_mean a = {
        .rows = s->b * s->c, .t = s->t, .x = p[0], .y = p[1], .dy = p[2], .dx = p[3]};
    return direction ? be->ops->mean_backward(be, &a) : be->ops->mean_forward(be, &a);
}

/* ---- their buffers ---- */

#define N(...) ((size_t)1 * __VA_ARGS__)

static struct op conv(struct shape s)
{
    size_t x = N(s.b * s.c * s.t), y = N(s.b * s.o * (s.t + 2 * s.pad - s.k + 1));
    size_t w = N(s.c * s.o * s.k);
    return (struct op){"conv1d",
                       1,
                       2,
                       5e-5,
                       s,
                       {{x, -1, 1, INPUT},
                        {w, -1, 1, INPUT},
                        {y, 0, 0, AFTER_FORWARD},
                        {y, -1, 1, INPUT},
                        {x, 0, 0, AFTER_BACKWARD},
                        {w, 0, 0, AFTER_BACKWARD}},
                       call_conv};
}

static struct op batchnorm(struct shape s)
{
    size_t x = N(s.b * s.c * s.t), c = 2 * N(s.c);
    return (struct op){"batchnorm",
                       1,
                       2,
                       1e-4,
                       s,
                       {{x, 1, 3, INPUT},
                        {c, 0.5, 1, INPUT},
                        {c, 0, 1, AFTER_FORWARD},
                        {c, 0, 0, PRIVATE},
                        {x, 0, 0, AFTER_FORWARD},
                        {x, -1, 1, INPUT},
                        {x, 0, 0, AFTER_BACKWARD},
                        {c, 0, 0, AFTER_BACKWARD}},
                       call_batchnorm};
}

static struct op relu(struct shape s)
{
    size_t x = N(s.b * s.c * s.t);
    return (struct op){
        "relu",
        0,
        2,
        0,
        s,
        {{x, -1, 1, INPUT}, {x, 0, 0, AFTER_FORWARD}, {x, -1, 1, INPUT}, {x, 0, 0, AFTER_BACKWARD}},
        call_relu};
}

static struct op maxpool(struct shape s)
{
    size_t x = N(s.b * s.c * s.t), y = N(s.b * s.c * (s.t / s.k));
    return (struct op){"maxpool",
                       0,
                       2,
                       0,
                       s,
                       {{x, -1, 1, INPUT},
                        {y, 0, 0, AFTER_FORWARD},
                        {y / 4 + 1, 0, 0, PRIVATE},
                        {y, -1, 1, INPUT},
                        {x, 0, 0, AFTER_BACKWARD}},
                       call_maxpool};
}

static struct op lstm(struct shape s)
{
    size_t x = N(s.b * s.c * s.t), y = N(s.b * s.o * s.t), w = N(4 * s.o * (s.c + s.o + 2));
    return (struct op){"lstm",
                       1,
                       2,
                       2e-4,
                       s,
                       {{x, -1, 1, INPUT},
                        {w, -0.2f, 0.2f, INPUT},
                        {y, 0, 0, AFTER_FORWARD},
                        {0, 0, 0, PRIVATE},
                        {y, -1, 1, INPUT},
                        {x, 0, 0, AFTER_BACKWARD},
                        {w, 0, 0, AFTER_BACKWARD}},
                       call_lstm};
}

static struct op layernorm(struct shape s)
{
    size_t x = N(s.b * s.c * s.t), c = 2 * N(s.c);
    return (struct op){"layernorm",
                       0,
                       2,
                       1e-4,
                       s,
                       {{x, -1, 3, INPUT},
                        {c, -1, 1, INPUT},
                        {2 * N(s.b * s.t), 0, 0, PRIVATE},
                        {x, 0, 0, AFTER_FORWARD},
                        {x, -1, 1, INPUT},
                        {x, 0, 0, AFTER_BACKWARD},
                        {c, 0, 0, AFTER_BACKWARD}},
                       call_layernorm};
}

static struct op linear(struct shape s)
{
    size_t x = N(s.b * s.c), y = N(s.b * s.o), w = N((s.c + 1) * s.o);
    return (struct op){"linear",
                       1,
                       2,
                       2e-5,
                       s,
                       {{x, -1, 1, INPUT},
                        {w, -1, 1, INPUT},
                        {y, 0, 0, AFTER_FORWARD},
                        {y, -1, 1, INPUT},
                        {x, 0, 0, AFTER_BACKWARD},
                        {w, 0, 0, AFTER_BACKWARD}},
                       call_linear};
}

static struct op mean(struct shape s)
{
    size_t x = N(s.b * s.c * s.t), y = N(s.b * s.c);
    return (struct op){
        "mean",
        0,
        2,
        2e-6,
        s,
        {{x, -1, 1, INPUT}, {y, 0, 0, AFTER_FORWARD}, {y, -1, 1, INPUT}, {x, 0, 0, AFTER_BACKWARD}},
        call_mean};
}

/* ---- running one ---- */

struct run { /* of one op on one side */
    float *p[MAX_BUFS];
    float *out[MAX_BUFS]; /* host copies of what is compared */
    double us[2], difference[2];
    struct cn_error error;
};

static size_t floats_of(const struct op *op, int i, struct nn_backend *be)
{
    struct nn_lstm a = {.m = 1, .b = op->s.b, .c = op->s.c, .h = op->s.o, .t = op->s.t, .train = 1};
    return op->buffer[i].n ? op->buffer[i].n : (size_t)be->ops->lstm_save_floats(be, &a);
}

static int used(const struct op *op, int i)
{
    return op->buffer[i].n || op->buffer[i].use == PRIVATE;
}

static int put_buffers(const struct op *op, struct nn_backend *be, struct run *r)
{
    int rc = 0;
    for (int i = 0; i < MAX_BUFS && !rc; i++) {
        const struct buffer *b = &op->buffer[i];
        if (!used(op, i)) continue;
        size_t n = floats_of(op, i, be);
        float *host = calloc(n + 1, sizeof *host);
        if (!host) return cn_fail(&r->error, CN_ENOMEM, "out of memory");
        for (size_t k = 0; b->lo < b->hi && k < n; k++)
            host[k] = b->lo + (b->hi - b->lo) * cn_rng_uniform(cn_rng(7, 0, (uint32_t)i, k).v[0]);
        rc = be->ops->alloc(be, n * sizeof *host, (void **)&r->p[i]);
        if (!rc) rc = be->ops->upload(be, r->p[i], host, n * sizeof *host);
        if (!rc) rc = be->ops->sync(be);
        free(host);
    }
    if (rc) r->error = be->error;
    return rc;
}

static int time_op(const struct op *op, struct nn_backend *be, struct run *r, int direction)
{
    const int64_t most_ns = 20000000; /* so long is measured, or ten calls */
    int after = direction == BACKWARD && op->call == call_lstm; /* it uses up what forward left */
    int n = 0, rc = be->ops->sync(be);
    int64_t start = cn_mono_ns(), spent = 0;
    while (!rc && n < 10 && spent < most_ns) {
        if (after) rc = op->call(be, &op->s, r->p, FORWARD);
        if (!rc) rc = op->call(be, &op->s, r->p, direction);
        n++;
        if (n % 5 == 0) {
            if (!rc) rc = be->ops->sync(be);
            spent = cn_mono_ns() - start;
        }
    }
    if (!rc) rc = be->ops->sync(be);
    r->us[direction] = (double)(cn_mono_ns() - start) * 1e-3 / n - (after ? r->us[FORWARD] : 0);
    if (r->us[direction] < 0) r->us[direction] = 0; /* noise */
    return rc;
}

/* Both directions: once for the outputs, then for the time. */
static int run_op(const struct op *op, struct nn_backend *be, struct run *r)
{
    int rc = put_buffers(op, be, r);
    for (int d = 0; d < op->directions && !rc; d++) {
        rc = op->call(be, &op->s, r->p, d);
        for (int i = 0; i < MAX_BUFS && !rc; i++) {
            if (op->buffer[i].use != (d ? AFTER_BACKWARD : AFTER_FORWARD) || !used(op, i)) continue;
            size_t bytes = op->buffer[i].n * sizeof(float);
            r->out[i] = malloc(bytes + 1);
            if (!r->out[i]) return cn_fail(&r->error, CN_ENOMEM, "out of memory");
            rc = be->ops->download(be, r->out[i], r->p[i], bytes);
        }
    }
    for (int d = 0; d < op->directions && !rc; d++) rc = time_op(op, be, r, d);
    if (rc && !r->error.code) r->error = be->error;
    return rc;
}

static void compare(const struct op *op, const struct run *a, struct run *b)
{
    for (int i = 0; i < MAX_BUFS; i++) {
        if (!a->out[i] || !b->out[i]) continue;
        double far = 0, size = 1e-20;
        int d = op->buffer[i].use == AFTER_BACKWARD;
        for (size_t k = 0; k < op->buffer[i].n; k++) {
            double x = fabs((double)a->out[i][k] - b->out[i][k]);
            if (!(x <= far)) far = isnan(x) ? INFINITY : x;
            if (fabs(a->out[i][k]) > size) size = fabs(a->out[i][k]);
        }
        if (far / size > b->difference[d]) b->difference[d] = far / size;
    }
}

static void clear(struct nn_backend *be, struct run *r)
{
    for (int i = 0; i < MAX_BUFS; i++) {
        if (r->p[i]) be->ops->release(be, r->p[i]);
        free(r->out[i]);
    }
}

/* The check of one direction: figures of all sides. */
static void note_op(struct selftest *s, const char *group, const struct op *op,
                    const struct selftest_side *side, const struct run *r, int n, int direction)
{
    char name[120], detail[400] = "";
    const struct shape *h = &op->s;
    bool ok = true;
    json_t *figures = json_object();
    snprintf(name, sizeof name, "%s %s b%d c%d%s%.0d t%d%s%.0d", op->name,
             direction ? "backward" : "forward", h->b, h->c, h->o ? ">" : "", h->o, h->t,
             h->k ? " k" : "", h->k);
    for (int i = 0; i < n; i++) {
        if (side[i].only_dnn && !op->dnn) continue;
        size_t at = strlen(detail);
        bool fine = !r[i].error.code && r[i].difference[direction] <= op->bound;
        ok &= fine;
        snprintf(detail + at, sizeof detail - at, "%s%s %.1f us", at ? ", " : "", side[i].name,
                 r[i].us[direction]);
        at = strlen(detail);
        if (i) snprintf(detail + at, sizeof detail - at, " (%.1e)", r[i].difference[direction]);
        if (r[i].error.code)
            snprintf(detail + at, sizeof detail - at, " failed: %s", r[i].error.text);
        json_object_set_new(figures, side[i].name,
                            json_pack("{s:f, s:o}", "us", r[i].us[direction], "difference",
                                      cli_json_real(r[i].difference[direction])));
    }
    json_object_set_new(figures, "bound", json_real(op->bound));
    selftest_note(s, group, name, ok, figures, "%s", detail);
}

static void check_op(struct selftest *s, const char *group, const struct op *op,
                     const struct selftest_side *side, int n)
{
    struct run r[MAX_SIDES] = {0};
    for (int i = 0; i < n && i < MAX_SIDES; i++) {
        if (side[i].only_dnn && !op->dnn) continue;
        if (!run_op(op, side[i].be, &r[i]) && i) compare(op, &r[0], &r[i]);
        side[i].be->error = (struct cn_error){0}; /* the next op has its own say */
    }
    for (int d = 0; d < op->directions; d++) note_op(s, group, op, side, r, n, d);
    for (int i = 0; i < n && i < MAX_SIDES; i++) clear(side[i].be, &r[i]);
}

void selftest_ops(struct selftest *s, const char *group, const struct selftest_side *side, int n)
{
    /* the layers of cnn, resnet and rnn at full width, and pruned ones with odd numbers of channels */
    const struct op full[] = {
        conv((struct shape){64, 12, 32, 1000, 3, 0}),
        conv((struct shape){64, 32, 64, 333, 3, 0}),
        conv((struct shape){64, 64, 64, 1000, 7, 3}),
        conv((struct shape){64, 64, 64, 1000, 5, 2}),
        conv((struct shape){64, 7, 13, 1000, 3, 1}),
        batchnorm((struct shape){64, 64, 0, 1000, 0, 0}),
        batchnorm((struct shape){64, 7, 0, 333, 0, 0}),
        relu((struct shape){64, 64, 0, 1000, 0, 0}),
        maxpool((struct shape){64, 32, 0, 998, 3, 0}),
        lstm((struct shape){64, 12, 64, 1000, 0, 0}),
        lstm((struct shape){64, 12, 23, 1000, 0, 0}),
        layernorm((struct shape){64, 64, 0, 1000, 0, 0}),
        mean((struct shape){64, 128, 0, 1000, 0, 0}),
        linear((struct shape){64, 352, 5, 1, 0, 0}),
    };
    const struct op small[] = {
        conv((struct shape){2, 12, 32, 60, 3, 0}), conv((struct shape){2, 7, 13, 41, 5, 2}),
        conv((struct shape){1, 17, 9, 33, 7, 3}),  batchnorm((struct shape){3, 7, 0, 37, 0, 0}),
        relu((struct shape){2, 7, 0, 37, 0, 0}),   maxpool((struct shape){2, 5, 0, 40, 3, 0}),
        lstm((struct shape){2, 12, 23, 17, 0, 0}), layernorm((struct shape){2, 9, 0, 21, 0, 0}),
        mean((struct shape){2, 9, 0, 31, 0, 0}),   linear((struct shape){5, 31, 5, 1, 0, 0}),
    };
    const struct op *op = s->quick ? small : full;
    size_t count = s->quick ? sizeof small / sizeof *small : sizeof full / sizeof *full;
    for (size_t i = 0; i < count; i++) check_op(s, group, &op[i], side, n);
}
