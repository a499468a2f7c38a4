/* gpu/engine.cu - the choice between engine native and engine cudnn, op by op and shape by shape.
 *
 * Purpose: at the first call of an op with a shape, both engines run it on the same data; their outputs are compared, both are
 * timed, and the faster is kept for that shape. They are timed as they will run: recorded in a graph, warm, and with as many
 * members as the job has. A cudnn result further than a tolerance from the native one is not used, and said.
 *
 * Choices are logged, and kept in a text file per card, driver, cuDNN, plugin and precision ($XDG_CACHE_HOME/cinch/gpu-*.txt).
 * The file is the one place where a choice is made: it is read again, locked, before something is measured, so that slots
 * and processes of one machine choose alike and the bits stay the same. Hence also a shape has one choice whatever the gang:
 * that of the job which met it first. A member gets the bits that it gets alone.
 *
 * Caveats: while a step is captured nothing is measured; an unseen shape then takes the native engine. With
 * --engine cudnn there is no measuring: cudnn does what it can.
 */
#include "gpu/engine.cuh"

#include <dlfcn.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mutex>

#include "gpu/cudnn.cuh"
#include "gpu/wait.cuh"

enum { NATIVE = 0, CUDNN = 1, MAX_OUT = 5, REPEATS = 3, ROUNDS = 2 };

/* How far cudnn may stand from native, of the largest value: other summation orders stay far below the first, TF32's 10 and
 * bf16's 7 bits of fraction below the others. */
static const float tolerance[] = {2e-4f, 4e-3f, 3e-2f};

struct choice {
    char key[120];
    int engine;
    float us[2];
    float difference;
    int used; /* by this backend; others came with the file */
    struct choice *next;
};

struct gpu_engine {
    struct nn_backend_ops native; /* the table before dispatching */
    struct choice *choices;
    char file[512]; /* up to the precision; "" when there is nowhere to keep it */
};

/* Memory that an op writes (or updates), so that two engines can start from the same. */
struct output {
    void *p;
    size_t bytes;
};

typedef int (*op_f)(struct nn_backend *be, const void *args);

struct trial {
    const char *key;
    int m; /* members of the job */
    op_f run[2];
    const void *args;
    int n;
    struct output out[MAX_OUT];
};

#ifdef CINCH_HAVE_CUDNN

static struct choice *find(struct gpu_engine *e, const char *key)
{
    struct choice *c = e->choices;
    while (c && strcmp(c->key, key)) c = c->next;
    return c;
}

static struct choice *remember(struct gpu_engine *e, const char *key, int engine)
{
    struct choice *c = (struct choice *)calloc(1, sizeof *c);
    if (!c) return NULL;
    snprintf(c->key, sizeof c->key, "%s", key);
    c->engine = engine;
    c->next = e->choices;
    e->choices = c;
    return c;
}

static const char *precision_name(struct nn_backend *be)
{
    static const char *const name[] = {"fp32", "tf32", "bf16"};
    return name[gpu_of(be)->opt.precision];
}

/* ---- the file: one line a choice: engine TAB native µs TAB cudnn µs TAB difference TAB members TAB key ---- */

static void read_choices(struct gpu_engine *e, FILE *f)
{
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char name[8], key[120];
        float us[2], difference;
        int m;
        if (sscanf(line, "%7s %f %f %f %d %119[^\n]", name, &us[0], &us[1], &difference, &m, key) !=
                6 ||
            find(e, key))
            continue;
        struct choice *c = remember(e, key, !strcmp(name, "cudnn") ? CUDNN : NATIVE);
        if (!c) break;
        c->us[0] = us[0];
        c->us[1] = us[1];
        c->difference = difference;
    }
}

/* Locked until it is closed, and read: what others have chosen by now is known. NULL: no file. */
static FILE *open_choices(struct nn_backend *be)
{
    struct gpu_engine *e = gpu_of(be)->engine;
    char path[600];
    if (!e->file[0]) return NULL;
    snprintf(path, sizeof path, "%s-%s.txt", e->file, precision_name(be));
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return NULL;
    FILE *f = flock(fd, LOCK_EX) ? NULL : fdopen(fd, "a+");
    if (!f) {
        close(fd);
        return NULL;
    }
    rewind(f);
    read_choices(e, f);
    return f;
}

static void append_choice(FILE *f, const struct choice *c, int m)
{
    if (!f) return;
    fseek(f, 0, SEEK_END);
    fprintf(f, "%s\t%.2f\t%.2f\t%.2e\t%d\t%s\n", c->engine == CUDNN ? "cudnn" : "native", c->us[0],
            c->us[1], c->difference, m, c->key);
}

/* FNV-1a over the plugin's own file: other kernels are other choices. */
static unsigned long long plugin_hash(void)
{
    static unsigned long long hash;
    static std::once_flag once;
    std::call_once(once, [] {
        Dl_info self;
        FILE *f = dladdr((void *)plugin_hash, &self) ? fopen(self.dli_fname, "rb") : NULL;
        unsigned char part[65536];
        hash = 14695981039346656037ull;
        for (size_t n; f && (n = fread(part, 1, sizeof part, f)) > 0;)
            for (size_t i = 0; i < n; i++) hash = (hash ^ part[i]) * 1099511628211ull;
        if (f) fclose(f);
    });
    return hash;
}

static void name_file(struct gpu_ctx *g, struct gpu_engine *e)
{
    struct cinch_gpu_info info;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char dir[300], card[96];
    if (cinch_gpu_describe(g->device, &info, NULL) || (!cache && !home)) return;
    snprintf(dir, sizeof dir, "%.250s%s", cache ? cache : home, cache ? "" : "/.cache");
    mkdir(dir, 0777);
    strncat(dir, "/cinch", sizeof dir - strlen(dir) - 1);
    mkdir(dir, 0777);
    snprintf(card, sizeof card, "%s", info.name);
    for (char *p = card; *p; p++)
        if (*p == ' ' || *p == '/') *p = '-';
    snprintf(e->file, sizeof e->file, "%s/gpu-%s-driver%d-cudnn%d-plugin%016llx", dir, card,
             info.driver, gpu_libs_get()->cudnn, plugin_hash());
}

/* ---- measuring ---- */

/* most[0] = max |a|, most[1] = max |a-b|; one block. NaN in b alone counts as infinite. */
__global__ void f32_difference(int64_t n, const float *a, const float *b, float *most)
{
    __shared__ float buf[2][256];
    float top = 0.0f, far = 0.0f;
    for (int64_t i = threadIdx.x; i < n; i += 256) {
        float d = fabsf(a[i] - b[i]);
        top = fmaxf(top, fabsf(a[i]));
        far = isnan(d) && !isnan(a[i]) ? INFINITY : fmaxf(far, isnan(d) ? 0.0f : d);
    }
    buf[0][threadIdx.x] = top;
    buf[1][threadIdx.x] = far;
    __syncthreads();
    if (threadIdx.x) return;
    for (int i = 1; i < 256; i++) {
        top = fmaxf(top, buf[0][i]);
        far = fmaxf(far, buf[1][i]);
    }
    most[0] = fmaxf(most[0], top);
    most[1] = fmaxf(most[1], far);
}

static int restore(struct nn_backend *be, const struct trial *t, char *saved)
{
    int rc = 0;
    for (int i = 0; i < t->n && !rc; saved += t->out[i++].bytes)
        rc = be->ops->copy(be, t->out[i].p, saved, t->out[i].bytes);
    return rc;
}

static int save(struct nn_backend *be, const struct trial *t, char *to)
{
    int rc = 0;
    for (int i = 0; i < t->n && !rc; to += t->out[i++].bytes)
        rc = be->ops->copy(be, to, t->out[i].p, t->out[i].bytes);
    return rc;
}

static int compare(struct nn_backend *be, const struct trial *t, const char *native,
                   float *difference)
{
    float *most, host[2];
    *difference = 0;
    int rc = be->ops->alloc(be, sizeof host, (void **)&most);
    for (int i = 0; i < t->n && !rc; native += t->out[i++].bytes) {
        rc = be->ops->zero(be, most, sizeof host);
        if (rc) break;
        f32_difference<<<1, 256, 0, gpu_of(be)->stream>>>(
            (int64_t)t->out[i].bytes / 4, (const float *)native, (const float *)t->out[i].p, most);
        rc = gpu_launched(be, "comparison");
        if (!rc) rc = be->ops->download(be, host, most, sizeof host);
        if (!rc && host[1] > *difference * (host[0] + 1e-20f))
            *difference = host[1] / (host[0] + 1e-20f);
    }
    be->ops->release(be, most);
    return rc;
}

/* REPEATS of the op as a graph. Where the engine cannot be recorded: NULL and no error, a line is in the log. */
static struct nn_graph *record(struct nn_backend *be, const struct trial *t, int engine)
{
    struct nn_graph *graph = NULL;
    int rc = be->ops->capture_begin(be);
    for (int i = 0; i < REPEATS && !rc; i++) rc = t->run[engine](be, t->args);
    if (!rc) rc = be->ops->capture_end(be, &graph);
    if (rc) be->ops->capture_drop(be);
    return rc ? NULL : graph;
}

/* The best of ROUNDS replays after a first one that warms. */
static int time_graph(struct nn_backend *be, struct nn_graph *graph, cudaEvent_t from,
                      cudaEvent_t to, float *us)
{
    cudaStream_t s = gpu_of(be)->stream;
    int rc = be->ops->replay(be, graph);
    for (int i = 0; i < ROUNDS && !rc; i++) {
        float ms = 0;
        cudaEventRecord(from, s);
        rc = be->ops->replay(be, graph);
        cudaEventRecord(to, s);
        if (!rc) rc = gpu_wait_event(be, to, "timing");
        cudaError_t e = rc ? cudaSuccess : cudaEventElapsedTime(&ms, from, to);
        if (e != cudaSuccess) rc = gpu_fail(be, e, "timing");
        if (ms * 1000.0f / REPEATS < *us) *us = ms * 1000.0f / REPEATS;
    }
    return rc;
}

static int time_engine(struct nn_backend *be, const struct trial *t, int engine, float *us)
{
    cudaEvent_t from = NULL, to = NULL;
    *us = INFINITY; /* an engine that cannot be recorded is not taken */
    struct nn_graph *graph = record(be, t, engine);
    if (!graph) return 0;
    cudaError_t e = cudaEventCreate(&from);
    if (e == cudaSuccess) e = cudaEventCreate(&to);
    int rc = e == cudaSuccess ? time_graph(be, graph, from, to, us) : gpu_fail(be, e, "timing");
    be->ops->graph_destroy(be, graph);
    if (from) cudaEventDestroy(from);
    if (to) cudaEventDestroy(to);
    return rc;
}

/* Leaves outputs as they were before. c->engine is the verdict. */
static int measure(struct nn_backend *be, const struct trial *t, struct choice *c)
{
    size_t bytes = 0;
    for (int i = 0; i < t->n; i++) bytes += t->out[i].bytes;
    char *before = NULL, *native = NULL;
    int rc = be->ops->alloc(be, bytes, (void **)&before);
    if (!rc) rc = be->ops->alloc(be, bytes, (void **)&native);
    if (!rc) rc = save(be, t, before);
    if (!rc) rc = t->run[NATIVE](be, t->args);
    if (!rc) rc = save(be, t, native);
    if (!rc) rc = restore(be, t, before);
    if (!rc) rc = t->run[CUDNN](be, t->args);
    if (!rc) rc = compare(be, t, native, &c->difference);
    for (int e = NATIVE; e <= CUDNN && !rc; e++) rc = time_engine(be, t, e, &c->us[e]);
    if (!rc) rc = restore(be, t, before);
    be->ops->release(be, before);
    be->ops->release(be, native);
    if (rc) return rc;
    c->engine =
        c->difference <= tolerance[gpu_of(be)->opt.precision] && c->us[CUDNN] < c->us[NATIVE]
            ? CUDNN
            : NATIVE;
    return 0;
}

/* cudnn cannot do this shape (or there is no memory to try): that is an answer, not a failure. */
static int forgive(struct nn_backend *be, struct choice *c, int rc)
{
    if (rc != CN_EUNSUPPORTED && rc != CN_ENOMEM) return rc;
    gpu_log(gpu_of(be), "%s: native (%s)", c->key, be->error.text);
    memset(&be->error, 0, sizeof be->error);
    c->engine = NATIVE;
    return 0;
}

/* Measures what nobody on this machine has measured yet. */
static int choose(struct nn_backend *be, const struct trial *t, struct choice **out)
{
    struct gpu_ctx *g = gpu_of(be);
    int measured = g->opt.engine == CINCH_ENGINE_AUTO, rc = 0;
    FILE *f = measured ? open_choices(be) : NULL;
    struct choice *c = find(g->engine, t->key), *known = c;
    if (!c) c = remember(g->engine, t->key, g->opt.engine == CINCH_ENGINE_CUDNN ? CUDNN : NATIVE);
    *out = c;
    if (!c) rc = cn_fail(&be->error, CN_ENOMEM, "out of memory");
    if (c && !known && measured) rc = forgive(be, c, measure(be, t, c));
    if (c && !known && measured && !rc) {
        gpu_log(g, "%s: %s (native %.1f us, cudnn %.1f us, difference %.1e, %d at once)", c->key,
                c->engine == CUDNN ? "cudnn" : "native", c->us[NATIVE], c->us[CUDNN], c->difference,
                t->m);
        append_choice(f, c, t->m);
    }
    if (f) fclose(f);
    return rc;
}

static int decide(struct nn_backend *be, const struct trial *t, int *engine)
{
    struct gpu_ctx *g = gpu_of(be);
    struct choice *c = find(g->engine, t->key);
    *engine = NATIVE;
    if (!c && g->capturing) return 0;
    int rc = c ? 0 : choose(be, t, &c);
    if (rc) return rc;
    c->used = 1;
    *engine = c->engine;
    return 0;
}

static int run_trial(struct nn_backend *be, const struct trial *t)
{
    int engine, rc = decide(be, t, &engine);
    if (rc) return rc;
    rc = t->run[engine](be, t->args);
    if (rc != CN_EUNSUPPORTED || engine == NATIVE) return rc;
    struct choice *c =
        find(gpu_of(be)->engine, t->key); /* --engine cudnn met a shape it cannot do */
    rc = c ? forgive(be, c, rc) : rc;
    return rc ? rc : t->run[NATIVE](be, t->args);
}

/* ---- the ops ---- */

#define NATIVE_OP(op) gpu_of(be)->engine->native.op

/* Adapters from the typed entries of both engines to op_f. */
#define ADAPT(op, type)                                                                            \
    static int native_##op(struct nn_backend *be, const void *a)                                   \
    {                                                                                              \
        return NATIVE_OP(op)(be, (const type *)a);                                                 \
    }                                                                                              \
    static int dnn_##op(struct nn_backend *be, const void *a)                                      \
    {                                                                                              \
        return cudnn_##op(be, (const type *)a);                                                    \
    }
ADAPT(conv1d_forward, struct nn_conv1d)
ADAPT(conv1d_backward, struct nn_conv1d)
ADAPT(batchnorm_forward, struct nn_batchnorm)
ADAPT(batchnorm_backward, struct nn_batchnorm)
ADAPT(linear_forward, struct nn_linear)
ADAPT(linear_backward, struct nn_linear)
#undef ADAPT

static struct output floats(const void *p, int64_t n)
{
    struct output o = {(void *)p, sizeof(float) * (size_t)n};
    return o;
}

/* A parameter's gradient for all members, with the gaps between them. */
static struct output per_member(const void *p, int m, int64_t stride, int64_t n)
{
    return floats(p, (m - 1) * stride + n);
}

static void add_output(struct trial *t, struct output o)
{
    if (o.p) t->out[t->n++] = o;
}

static void conv_key(struct nn_backend *be, const struct nn_conv1d *a, const char *op,
                     char key[120])
{
    snprintf(key, 120, "%s %s b%d c%d>%d t%d k%d p%d%s%s", op, precision_name(be), a->b, a->cin,
             a->cout, a->tin, a->k, a->pad, a->dx ? " dx" : "", a->dx && a->dx_add ? "+" : "");
}

static int conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a)
{
    char key[120];
    struct nn_conv1d f = *a;
    f.dx = NULL;
    conv_key(be, &f, "conv1d forward", key);
    struct trial t = {key, a->m, {native_conv1d_forward, dnn_conv1d_forward}, a, 0, {}};
    add_output(&t, floats(a->y, (int64_t)a->m * a->b * a->cout * a->tout));
    return run_trial(be, &t);
}

static int conv1d_backward(struct nn_backend *be, const struct nn_conv1d *a)
{
    char key[120];
    conv_key(be, a, "conv1d backward", key);
    struct trial t = {key, a->m, {native_conv1d_backward, dnn_conv1d_backward}, a, 0, {}};
    add_output(&t, per_member(a->dw, a->m, a->stride, (int64_t)a->cout * a->cin * a->k));
    add_output(&t, floats(a->dx, (int64_t)a->m * a->b * a->cin * a->tin));
    if (a->dbias) add_output(&t, per_member(a->dbias, a->m, a->stride, a->cout));
    return run_trial(be, &t);
}

/* Statistics over ranks are the native engine's alone. */
static int synced(struct nn_backend *be)
{
    return gpu_of(be)->opt.ranks > 1 && gpu_of(be)->opt.sync_batchnorm;
}

/* Whether all members of a gang are aligned as one alone is; else cuDNN could choose another kernel for some. */
static int lines_up(const struct nn_batchnorm *a)
{
    return (int64_t)a->b * a->c * a->t % 64 == 0 && a->stride % 64 == 0;
}

static int batchnorm_forward(struct nn_backend *be, const struct nn_batchnorm *a)
{
    if (!a->train || synced(be) || !lines_up(a)) return NATIVE_OP(batchnorm_forward)(be, a);
    char key[120];
    snprintf(key, sizeof key, "batchnorm forward %s b%d c%d t%d", precision_name(be), a->b, a->c,
             a->t);
    struct trial t = {key, a->m, {native_batchnorm_forward, dnn_batchnorm_forward}, a, 0, {}};
    add_output(&t, floats(a->y, (int64_t)a->m * a->b * a->c * a->t));
    add_output(&t, per_member(a->running_mean, a->m, a->stride, a->c));
    add_output(&t, per_member(a->running_var, a->m, a->stride, a->c));
    add_output(&t, floats(a->save_mean, (int64_t)a->m * a->c));
    add_output(&t, floats(a->save_rstd, (int64_t)a->m * a->c));
    return run_trial(be, &t);
}

static int batchnorm_backward(struct nn_backend *be, const struct nn_batchnorm *a)
{
    if (!a->dx || a->dx == a->dy || synced(be) || !lines_up(a))
        return NATIVE_OP(batchnorm_backward)(be, a);
    char key[120];
    snprintf(key, sizeof key, "batchnorm backward %s b%d c%d t%d", precision_name(be), a->b, a->c,
             a->t);
    struct trial t = {key, a->m, {native_batchnorm_backward, dnn_batchnorm_backward}, a, 0, {}};
    add_output(&t, floats(a->dx, (int64_t)a->m * a->b * a->c * a->t));
    add_output(&t, per_member(a->dw, a->m, a->stride, a->c));
    add_output(&t, per_member(a->dbias, a->m, a->stride, a->c));
    return run_trial(be, &t);
}

static int linear_forward(struct nn_backend *be, const struct nn_linear *a)
{
    char key[120];
    snprintf(key, sizeof key, "linear forward %s b%d %d>%d", precision_name(be), a->b, a->in,
             a->out);
    struct trial t = {key, a->m, {native_linear_forward, dnn_linear_forward}, a, 0, {}};
    add_output(&t, floats(a->y, (int64_t)a->m * a->b * a->out));
    return run_trial(be, &t);
}

static int linear_backward(struct nn_backend *be, const struct nn_linear *a)
{
    char key[120];
    snprintf(key, sizeof key, "linear backward %s b%d %d>%d", precision_name(be), a->b, a->in,
             a->out);
    struct trial t = {key, a->m, {native_linear_backward, dnn_linear_backward}, a, 0, {}};
    add_output(&t, per_member(a->dw, a->m, a->stride, (int64_t)a->in * a->out));
    add_output(&t, floats(a->dx, (int64_t)a->m * a->b * a->in));
    if (a->dbias) add_output(&t, per_member(a->dbias, a->m, a->stride, a->out));
    return run_trial(be, &t);
}

/* An LSTM's forward leaves its own kind of state for backward, so the two are tried and chosen as one: forward and backward
 * with y as the gradient that comes in. The trial's own memory stands in for what the step has not yet made. */
static int lstm_both(struct nn_backend *be, const struct nn_lstm *a, int engine)
{
    int rc = engine == CUDNN ? cudnn_lstm_forward(be, a) : NATIVE_OP(lstm_forward)(be, a);
    if (rc) return rc;
    return engine == CUDNN ? cudnn_lstm_backward(be, a) : NATIVE_OP(lstm_backward)(be, a);
}

static int native_lstm(struct nn_backend *be, const void *a)
{
    return lstm_both(be, (const struct nn_lstm *)a, NATIVE);
}

static int dnn_lstm(struct nn_backend *be, const void *a)
{
    return lstm_both(be, (const struct nn_lstm *)a, CUDNN);
}

static int64_t lstm_save_floats(struct nn_backend *be, const struct nn_lstm *a)
{
    int64_t native = NATIVE_OP(lstm_save_floats)(be, a), dnn = cudnn_lstm_save_floats(be, a);
    return native > dnn ? native : dnn;
}

static void lstm_key(struct nn_backend *be, const struct nn_lstm *a, char key[120])
{
    snprintf(key, 120, "lstm %s b%d c%d h%d t%d", precision_name(be), a->b, a->c, a->h, a->t);
}

static int lstm_decide(struct nn_backend *be, const struct nn_lstm *a, int *engine)
{
    char key[120];
    lstm_key(be, a, key);
    struct nn_lstm b = *a;
    int64_t weights = (int64_t)4 * a->h * (a->c + a->h + 2);
    float *g = NULL;
    struct trial t = {key, a->m, {native_lstm, dnn_lstm}, &b, 0, {}};
    struct choice *c = find(gpu_of(be)->engine, key);
    if (c || gpu_of(be)->capturing) return decide(be, &t, engine);
    int rc =
        be->ops->alloc(be, sizeof(float) * (size_t)(weights + (a->m - 1) * a->stride), (void **)&g);
    if (rc) return rc;
    b.dy = a->y;
    b.dx = NULL;
    b.dw_ih = g;
    b.dw_hh = b.dw_ih + (int64_t)4 * a->h * a->c;
    b.db_ih = b.dw_hh + (int64_t)4 * a->h * a->h;
    b.db_hh = b.db_ih + 4 * a->h;
    rc = be->ops->zero(be, g, sizeof(float) * (size_t)(weights + (a->m - 1) * a->stride));
    add_output(&t, floats(a->y, (int64_t)a->m * a->b * a->h * a->t));
    add_output(&t, per_member(g, a->m, a->stride, weights));
    if (!rc) rc = decide(be, &t, engine);
    be->ops->release(be, g);
    return rc;
}

static int lstm_forward(struct nn_backend *be, const struct nn_lstm *a)
{
    int engine = NATIVE, rc = a->train ? lstm_decide(be, a, &engine) : 0;
    if (rc) return rc;
    return engine == CUDNN ? cudnn_lstm_forward(be, a) : NATIVE_OP(lstm_forward)(be, a);
}

static int lstm_backward(struct nn_backend *be, const struct nn_lstm *a)
{
    char key[120];
    lstm_key(be, a, key);
    struct choice *c = find(gpu_of(be)->engine, key);
    return c && c->engine == CUDNN ? cudnn_lstm_backward(be, a) : NATIVE_OP(lstm_backward)(be, a);
}

void gpu_engine_create(struct nn_backend *be, struct nn_backend_ops *t)
{
    struct gpu_ctx *g = gpu_of(be);
    if (g->opt.engine == CINCH_ENGINE_NATIVE) return;
    g->cudnn = gpu_cudnn_create(be);
    g->engine = g->cudnn ? (struct gpu_engine *)calloc(1, sizeof *g->engine) : NULL;
    if (!g->engine) return;
    g->engine->native = *t;
    if (g->opt.engine == CINCH_ENGINE_AUTO) name_file(g, g->engine);
    t->conv1d_forward = conv1d_forward;
    t->conv1d_backward = conv1d_backward;
    t->batchnorm_forward = batchnorm_forward;
    t->batchnorm_backward = batchnorm_backward;
    t->linear_forward = linear_forward;
    t->linear_backward = linear_backward;
    t->lstm_save_floats = lstm_save_floats;
    t->lstm_forward = lstm_forward;
    t->lstm_backward = lstm_backward;
}

#else

void gpu_engine_create(struct nn_backend *be, struct nn_backend_ops *t)
{
    (void)t;
    if (gpu_of(be)->opt.engine != CINCH_ENGINE_NATIVE) gpu_cudnn_create(be); /* says why not */
}

#endif

void gpu_engine_destroy(struct gpu_ctx *g)
{
    gpu_cudnn_destroy(g->cudnn);
    while (g->engine && g->engine->choices) {
        struct choice *c = g->engine->choices;
        g->engine->choices = c->next;
        free(c);
    }
    free(g->engine);
}

void cinch_gpu_choices(struct nn_backend *be,
                       void (*each)(void *arg, const struct cinch_gpu_choice *c), void *arg)
{
    const struct gpu_engine *e = gpu_of(be)->engine;
    for (const struct choice *c = e ? e->choices : NULL; c; c = c->next) {
        if (!c->used) continue;
        struct cinch_gpu_choice out = {c->key, c->engine == CUDNN, c->us[NATIVE], c->us[CUDNN],
                                       c->difference};
        each(arg, &out);
    }
}
