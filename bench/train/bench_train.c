/* bench/train/bench_train.c - whole training steps of the three nets, beside PyTorch's.
 *
 * A step is what the training loop does with a batch: gather the records, forward, loss, backward,
 * optimiser. The peer (peer.py) runs the same step in PyTorch in a process of its own; the two take
 * turns, round by round, so that both see the same machine. Reported are the best and the median
 * round of each, the median of the rounds' ratios, and which share of the core's measured
 * multiply-add ceiling the arithmetic amounts to (3 multiply-adds per weight use and record:
 * forward, towards the input, towards the weights). `--threads` compares N threads with one,
 * `--side` runs two backends at once in one process against one alone.
 */
#include <getopt.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/rng.h"
#include "bench/train/ceiling.h"
#include "cpu/train/backend.h"
#include "cpu/train/context.h"
#include "nn/exec.h"
#include "nn/model.h"

#define MAX_ROUNDS 64
#define RECORDS 512 /* resident dataset */

struct options {
    const char *nets, *python, *isa;
    int threads, rounds, side;
    double seconds; /* of a round, about */
};

/* One net on one backend, ready to train. */
struct bench {
    struct nn_backend *be;
    struct nn_model *model;
    struct nn_exec *ex;
    struct nn_exec_pass pass;
    struct nn_scalars *s;
    struct nn_gather gather;
    struct nn_loss_args loss;
    struct nn_update update;
    int batch, rounds_done;
};

static int batch_of(const char *net)
{
    return strcmp(net, "resnet") ? 64 : 128;
}

static float *device_floats(struct nn_backend *be, size_t n)
{
    void *p;
    if (be->ops->alloc(be, n * sizeof(float), &p)) {
        fprintf(stderr, "%s\n", be->error.text);
        exit(1);
    }
    memset(p, 0, n * sizeof(float));
    return p;
}

static void check(int rc, const struct cn_error *err)
{
    if (!rc) return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void fill_dataset(struct bench *b, const struct nn_net *net)
{
    size_t record = (size_t)net->n_leads * net->n_samples;
    float *x = device_floats(b->be, RECORDS * record);
    float *y = device_floats(b->be, (size_t)RECORDS * net->n_labels);
    uint32_t *index = (uint32_t *)device_floats(b->be, RECORDS);
    for (size_t i = 0; i < RECORDS * record; i++) {
        cn_rng4 r = cn_rng(1, CN_RNG_NOISE, 0, i);
        x[i] = cn_rng_uniform(r.v[0]) + cn_rng_uniform(r.v[1]) - 1;
    }
    for (int i = 0; i < RECORDS * net->n_labels; i++)
        y[i] = cn_rng_uniform(cn_rng(2, CN_RNG_NOISE, 0, (uint64_t)i).v[0]) < 0.3f;
    for (uint32_t i = 0; i < RECORDS; i++) index[i] = i;
    b->gather = (struct nn_gather){.m = 1, .b = b->batch, .leads = net->n_leads};
    b->gather.samples = net->n_samples;
    b->gather.labels = net->n_labels;
    b->gather.data_x = x;
    b->gather.data_y = y;
    b->gather.index = index;
    b->gather.n = RECORDS;
    b->gather.train = 1;
    b->gather.s = b->s;
    b->gather.x = nn_exec_input(b->ex);
    b->gather.y = device_floats(b->be, (size_t)b->batch * net->n_labels);
}

static void fill_step(struct bench *b, const char *name, const struct nn_net *net)
{
    b->pass = (struct nn_exec_pass){.stride = (int64_t)net->n_floats, .b = b->batch, .train = 1};
    b->pass.params = device_floats(b->be, net->n_floats);
    b->pass.grads = device_floats(b->be, net->n_floats);
    b->pass.s = b->s;
    memcpy(b->pass.params, b->model->params, net->n_floats * sizeof(float));
    b->loss = (struct nn_loss_args){.m = 1, .b = b->batch, .labels = net->n_labels, .s = b->s};
    b->loss.z = nn_exec_logits(b->ex);
    b->loss.y = b->gather.y;
    b->loss.dz = nn_exec_dlogits(b->ex);
    b->loss.loss = device_floats(b->be, 1);
    b->update = (struct nn_update){.m = 1, .p = (int64_t)net->n_params, .s = b->s};
    b->update.stride = (int64_t)net->n_floats;
    b->update.kind = strcmp(name, "cnn") ? NN_ADAM : NN_SGD;
    b->update.nesterov = b->update.kind == NN_SGD;
    b->update.w = b->pass.params;
    b->update.g = b->pass.grads;
    b->update.m1 = device_floats(b->be, net->n_floats);
    b->update.m2 = device_floats(b->be, net->n_floats);
}

static void bench_open(struct bench *b, const char *name, const struct options *o, int threads)
{
    struct cn_error err;
    struct cpu_train_options opt = {.threads = threads, .isa = o->isa};
    struct nn_net *net;
    *b = (struct bench){.batch = batch_of(name)};
    check(cpu_train_create(&b->be, &opt, &err), &err);
    check(nn_net_build(&net, name, NULL, 0, (struct nn_shape){0}, &err), &err);
    check(nn_model_create(&b->model, net, 1, NULL, &err), &err);
    check(nn_exec_create(&b->ex, b->be, net, 1, b->batch, 1, &err), &err);
    b->s = (struct nn_scalars *)device_floats(b->be, sizeof(struct nn_scalars));
    *b->s = (struct nn_scalars){.seed = 1, .lr = 1e-4f, .alpha = 1, .momentum = 0.9f};
    b->s->weight_decay = 0.007f;
    b->s->beta1 = 0.9f;
    b->s->beta2 = 0.999f;
    b->s->eps = 1e-8f;
    fill_dataset(b, net);
    fill_step(b, name, net);
}

static void bench_close(struct bench *b)
{
    void *p[] = {(void *)b->gather.data_x,
                 (void *)b->gather.data_y,
                 (void *)b->gather.index,
                 b->gather.y,
                 b->pass.params,
                 b->pass.grads,
                 b->loss.loss,
                 b->update.m1,
                 b->update.m2,
                 b->s};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) b->be->ops->release(b->be, p[i]);
    nn_exec_destroy(b->ex);
    nn_model_destroy(b->model);
    b->be->ops->destroy(b->be);
}

static void step(struct bench *b)
{
    struct nn_backend *be = b->be;
    int rc = be->ops->gather(be, &b->gather);
    if (!rc) rc = nn_exec_forward(b->ex, &b->pass);
    if (!rc) rc = be->ops->loss(be, &b->loss);
    if (!rc) rc = nn_exec_backward(b->ex, &b->pass);
    b->s->step++;
    if (!rc) rc = be->ops->update(be, &b->update);
    check(rc, &be->error);
    b->s->row0 = (b->s->row0 + (uint32_t)b->batch) % RECORDS;
    if (!isfinite(*b->loss.loss)) {
        fprintf(stderr, "the loss is not finite\n");
        exit(1);
    }
}

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Records per second of `steps` steps on that clock. */
static double timed(struct bench *b, int steps, clockid_t clock)
{
    double start = now(clock);
    for (int i = 0; i < steps; i++) step(b);
    return steps * b->batch / (now(clock) - start);
}

/* The PyTorch process: "net batch steps\n" -> "seconds\n". */
struct peer {
    FILE *to, *from;
    pid_t pid;
};

static int peer_open(struct peer *p, const char *python)
{
    int in[2], out[2];
    *p = (struct peer){0};
    if (!python || pipe(in) || pipe(out)) return -1;
    p->pid = fork();
    if (p->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        close(out[0]);
        execlp(python, python, CINCH_SOURCE_DIR "/bench/train/peer.py", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    p->to = fdopen(in[1], "w");
    p->from = fdopen(out[0], "r");
    return 0;
}

/* Records per second, or 0 when the peer does not answer. */
static double peer_timed(struct peer *p, const char *net, int batch, int steps)
{
    double seconds = 0;
    if (!p->to) return 0;
    fprintf(p->to, "%s %d %d\n", net, batch, steps);
    fflush(p->to);
    if (fscanf(p->from, "%lf", &seconds) != 1 || seconds <= 0) return 0;
    return (double)steps * batch / seconds;
}

static void peer_close(struct peer *p)
{
    if (!p->to) return;
    fclose(p->to);
    fclose(p->from);
    waitpid(p->pid, NULL, 0);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Multiply-adds per second on registers alone: the best of several bursts. */
static double ceiling(const char *isa)
{
    double best = 0;
    for (int i = 0; i < 12; i++) {
        double start = now(CLOCK_THREAD_CPUTIME_ID), macs;
#ifdef __x86_64__
        if (!strcmp(isa, "avx512"))
            macs = ceiling_burst__avx512(1000000);
        else if (!strcmp(isa, "avx2"))
            macs = ceiling_burst__avx2(1000000);
        else
#endif
            macs = ceiling_burst__portable(1000000);
        double rate = macs / (now(CLOCK_THREAD_CPUTIME_ID) - start);
        if (rate > best) best = rate;
    }
    return best;
}

/* Peak resident memory since the last reset, in MB. */
static double peak_mb(int reset)
{
    char line[128];
    long kb = 0;
    if (reset) {
        FILE *f = fopen("/proc/self/clear_refs", "w");
        if (f) {
            fputs("5", f);
            fclose(f);
        }
        return 0;
    }
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld kB", &kb) == 1) break;
    if (f) fclose(f);
    return (double)kb / 1024;
}

static const char *isa_of(const struct options *o)
{
    struct nn_backend *be;
    struct cn_error err;
    struct cpu_train_options opt = {.threads = 1, .isa = o->isa};
    check(cpu_train_create(&be, &opt, &err), &err);
    const struct cpu_kernels *k = cpu_train_of(be)->k;
    be->ops->destroy(be);
    return k ? k->isa : "ref";
}

static int steps_for(struct bench *b, double seconds)
{
    step(b); /* first use: scratch memory grows, pages are touched */
    int steps = (int)(seconds * timed(b, 1, CLOCK_MONOTONIC) / b->batch);
    return steps < 1 ? 1 : steps;
}

static void against_peer(const struct options *o, const char *net, struct peer *peer, double top)
{
    struct bench b;
    double own[MAX_ROUNDS], other[MAX_ROUNDS], ratio[MAX_ROUNDS], best = 0;
    peak_mb(1);
    bench_open(&b, net, o, o->threads);
    int steps = steps_for(&b, o->seconds);
    double guess = peer_timed(peer, net, b.batch, 1);
    int peer_steps = guess > 0 ? (int)(o->seconds * guess / b.batch) : 0;
    for (int i = 0; i < o->rounds; i++) {
        own[i] = timed(&b, steps, CLOCK_THREAD_CPUTIME_ID);
        if (own[i] > best) best = own[i];
        other[i] = guess > 0 ? peer_timed(peer, net, b.batch, peer_steps < 1 ? 1 : peer_steps) : 0;
        ratio[i] = other[i] > 0 ? own[i] / other[i] : NAN;
    }
    double macs = 3e-9 * (double)nn_net_macs(b.model->net, NULL), peak = peak_mb(0);
    double mid = median(own, o->rounds);
    printf("%-7s %5d %9.1f %9.1f", net, b.batch, mid, best);
    if (guess > 0)
        printf(" %9.1f %6.2fx", median(other, o->rounds), median(ratio, o->rounds));
    else
        printf(" %9s %7s", "-", "-");
    printf(" %8.1f %6.0f%% %8.0f\n", mid * macs, 100 * mid * macs / top / o->threads, peak);
    fflush(stdout);
    bench_close(&b);
}

/* N threads against one, in turns: by the wall clock, and by processor time, which a busy machine
 * does not spoil: what one thread needs over what the busiest of two does (the caller's share, or
 * the rest). */
static void scaling(const struct options *o, const char *net)
{
    struct bench one, many;
    double wall[MAX_ROUNDS], work[MAX_ROUNDS];
    bench_open(&one, net, o, 1);
    bench_open(&many, net, o, o->threads);
    int steps = steps_for(&one, o->seconds);
    steps_for(&many, o->seconds);
    for (int i = 0; i < o->rounds; i++) {
        double start = now(CLOCK_PROCESS_CPUTIME_ID);
        double single = timed(&one, steps, CLOCK_MONOTONIC);
        double alone = now(CLOCK_PROCESS_CPUTIME_ID) - start, own = now(CLOCK_THREAD_CPUTIME_ID);
        wall[i] = timed(&many, steps, CLOCK_MONOTONIC) / single;
        double all = now(CLOCK_PROCESS_CPUTIME_ID) - start - alone;
        own = now(CLOCK_THREAD_CPUTIME_ID) - own;
        double rest = (all - own) / (o->threads - 1);
        work[i] = alone / (own > rest ? own : rest);
    }
    printf("%-7s %d threads are %.2fx one by the wall clock, %.2fx by processor time\n", net,
           o->threads, median(wall, o->rounds), median(work, o->rounds));
    bench_close(&one);
    bench_close(&many);
}

struct side {
    struct bench *b;
    int steps;
    double rate;
};

static void *side_run(void *arg)
{
    struct side *s = arg;
    s->rate = timed(s->b, s->steps, CLOCK_THREAD_CPUTIME_ID);
    return NULL;
}

/* Two backends of one thread each at once, against one alone. */
static void side_by_side(const struct options *o, const char *net)
{
    struct bench b[2];
    double loss[MAX_ROUNDS];
    for (int i = 0; i < 2; i++) bench_open(&b[i], net, o, 1);
    int steps = steps_for(&b[0], o->seconds);
    steps_for(&b[1], o->seconds);
    for (int i = 0; i < o->rounds; i++) {
        pthread_t thread;
        struct side s[2] = {{&b[0], steps, 0}, {&b[1], steps, 0}};
        double alone = timed(&b[0], steps, CLOCK_THREAD_CPUTIME_ID);
        if (pthread_create(&thread, NULL, side_run, &s[1])) return;
        side_run(&s[0]);
        pthread_join(thread, NULL);
        loss[i] = 100 * (1 - (s[0].rate < s[1].rate ? s[0].rate : s[1].rate) / alone);
    }
    printf("%-7s two jobs side by side: the slower loses %.1f %%\n", net, median(loss, o->rounds));
    for (int i = 0; i < 2; i++) bench_close(&b[i]);
}

static int usage(void)
{
    puts("bench_train [--nets cnn,rnn,resnet] [--python PATH] [--isa NAME] [--rounds N]\n"
         "            [--seconds S] [--threads N] [--side]\n"
         "Times training steps on one thread, in turns with PyTorch when --python (or "
         "CINCH_PYTHON)\n"
         "names a Python that has it. --threads N: N threads against one. --side: two jobs at "
         "once.");
    return 2;
}

static int parse(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {
        {"help", 0, NULL, '?'},    {"nets", 1, NULL, 'n'},   {"python", 1, NULL, 'p'},
        {"isa", 1, NULL, 'i'},     {"rounds", 1, NULL, 'r'}, {"seconds", 1, NULL, 's'},
        {"threads", 1, NULL, 't'}, {"side", 0, NULL, 'b'},   {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'n') o->nets = optarg;
        if (c == 'p') o->python = optarg;
        if (c == 'i') o->isa = optarg;
        if (c == 'r') o->rounds = atoi(optarg);
        if (c == 's') o->seconds = atof(optarg);
        if (c == 't') o->threads = atoi(optarg);
        if (c == 'b') o->side = 1;
        if (c == '?') return usage();
    }
    if (o->rounds < 1 || o->rounds > MAX_ROUNDS || o->threads < 1 || o->seconds <= 0)
        return usage();
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = {.nets = "cnn,rnn,resnet", .threads = 1, .rounds = 5, .seconds = 2};
    o.python = getenv("CINCH_PYTHON");
    if (parse(&o, argc, argv)) return 2;
    struct peer peer = {0};
    const char *isa = isa_of(&o);
    double top = ceiling(isa) / 1e9;
    printf("kernels %s; this core's multiply-add ceiling: %.1f GMAC/s\n", isa, top);
    int plain = o.threads == 1 && !o.side;
    if (plain) {
        peer_open(&peer, o.python);
        printf("%-7s %5s %9s %9s %9s %7s %8s %7s %8s\n", "net", "batch", "rec/s", "best", "PyTorch",
               "ratio", "GMAC/s", "ceiling", "peak MB");
    }
    char *names = strdup(o.nets), *rest = names, *net;
    while ((net = strsep(&rest, ",")) != NULL) {
        if (plain) against_peer(&o, net, &peer, top);
        if (o.threads > 1) scaling(&o, net);
        if (o.side) side_by_side(&o, net);
    }
    free(names);
    peer_close(&peer);
    return 0;
}
