/* cli/selftest_cpu.c - the CPU's part of `cinch selftest`: training kernels of every instruction set that
 * this CPU has against the plain loops, a short training, and an artifact run on every instruction
 * set. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cli/selftest.h"
#include "cpu/quant/quant.h"
#include "cpu/rt/cinchrt.h"
#include "cpu/train/backend.h"
#include "nn/train.h"

enum { RECORDS = 60, LEADS = 12, SAMPLES = 200, LABELS = 5, EPOCHS = 3 };

/* The loss that three epochs on the made-up records end with, on every machine: sums in another order
 * change its last digits only. */
static const struct {
    const char *net;
    double loss;
} known[] = {{"cnn", 3.567504}, {"rnn", 2.873953}};

enum { KNOWN = sizeof known / sizeof *known };

/* ---- made-up records ---- */

int selftest_data(struct ecg_dataset **out, int n, int leads, int samples, struct cn_error *err)
{
    size_t floats = (size_t)n * (size_t)leads * (size_t)samples;
    struct ecg_dataset *d = calloc(1, sizeof *d);
    float *x = malloc(floats * sizeof *x);
    uint8_t *y = calloc((size_t)n, LABELS), *part = malloc((size_t)n);
    *out = NULL;
    if (!d || !x || !y || !part) {
        free(d);
        free(x);
        free(y);
        free(part);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    for (int i = 0; i < n; i++) {
        part[i] = i % 10 == 3 ? ECG_TEST : i % 5 == 1 ? ECG_VALIDATION : ECG_TRAIN;
        for (int l = 0; l < LABELS; l++)
            y[i * LABELS + l] = cn_rng(11, 0, 0, (uint64_t)i * LABELS + (uint64_t)l).v[0] % 3 == 0;
    }
    /* noise, and for each label that is set a slow wave in the leads that belong to it */
    for (size_t k = 0; k < floats; k++) {
        int t = (int)(k % (size_t)samples), lead = (int)(k / (size_t)samples) % leads;
        int i = (int)(k / (size_t)samples) / leads;
        x[k] = 0.6f * cn_rng_uniform(cn_rng(12, 0, 0, k).v[0]) - 0.3f;
        for (int l = 0; l < LABELS; l++)
            if (y[i * LABELS + l] && lead % LABELS == l)
                x[k] += sinf(0.1f * (float)((l + 1) * t + 7 * i));
    }
    *d = (struct ecg_dataset){.name = "selftest", .task = ECG_MULTI_LABEL, .n = n, .hz = 100};
    d->n_leads = leads;
    d->n_samples = samples;
    d->n_labels = LABELS;
    for (int l = 0; l < LABELS; l++) d->label[l][0] = (char)('A' + l);
    for (int l = 0; l < leads; l++) d->std[l] = 1;
    d->x = x;
    d->y = y;
    d->part = part;
    *out = d;
    return 0;
}

void selftest_data_free(struct ecg_dataset *d)
{
    if (!d) return;
    free((void *)d->x);
    free((void *)d->y);
    free((void *)d->part);
    free(d);
}

/* ---- training ---- */

static void last_loss(void *arg, int member, const struct nn_epoch *e)
{
    if (e->epoch_done) *(double *)arg = e->train_loss;
}

int selftest_train(struct nn_backend *be, const char *net, const struct ecg_dataset *d,
                   double *loss, struct nn_model **model, struct cn_error *err)
{
    static const int cnn[] = {8, 7, 9, 6}, rnn[] = {9}, resnet[] = {5, 4, 3, 6, 5, 7, 4, 6, 5};
    struct nn_recipe r;
    struct nn_net *built = NULL;
    struct nn_train_member m = {.seed = 5};
    const int *width = !strcmp(net, "cnn") ? cnn : !strcmp(net, "rnn") ? rnn : resnet;
    int n = width == cnn ? 4 : width == rnn ? 1 : 9;
    struct nn_shape shape = {d->n_leads, d->n_samples, d->n_labels};
    *loss = NAN;
    int rc = nn_recipe_named(&r, "cinch", net, err);
    r.epochs = EPOCHS;
    r.batch = 8;
    r.aug_shift = 5;
    if (!rc) rc = nn_net_build(&built, net, width, n, shape, err);
    if (!rc) rc = nn_model_create(&m.model, built, m.seed, d, err);
    struct nn_train t = {.backend = be, .data = d, .recipe = &r, .m = 1, .member = &m};
    t.events.arg = loss;
    t.events.progress = last_loss;
    if (!rc) rc = nn_train_run(&t, err);
    if (!rc && model)
        *model = m.model;
    else
        nn_model_destroy(m.model);
    return rc;
}

static int train_cpu(const char *net, int threads, const struct ecg_dataset *d, double *loss,
                     struct nn_model **m, struct cn_error *err)
{
    struct nn_backend *be;
    struct cpu_train_options opt = {.threads = threads};
    int rc = cpu_train_create(&be, &opt, err);
    if (rc) return rc;
    rc = selftest_train(be, net, d, loss, m, err);
    be->ops->destroy(be);
    return rc;
}

/* One thread and three: the same bits, and the loss that belongs to them. *m: the caller's. */
static void check_training(struct selftest *s, int k, const struct ecg_dataset *d,
                           struct nn_model **m)
{
    struct nn_model *other = NULL;
    struct cn_error err = {0};
    double loss, again;
    int rc = train_cpu(known[k].net, 1, d, &loss, m, &err);
    if (!rc) rc = train_cpu(known[k].net, 3, d, &again, &other, &err);
    bool same = !rc && !memcmp((*m)->params, other->params, other->net->n_floats * sizeof(float));
    bool near = !rc && fabs(loss - known[k].loss) <= 1e-4 * known[k].loss;
    if (rc)
        selftest_note(s, "training", known[k].net, false, NULL, "%s", err.text);
    else
        selftest_note(s, "training", known[k].net, same && near, NULL,
                      "loss %.6f (expected %.6f); one thread and three: %s", loss, known[k].loss,
                      same ? "the same bits" : "DIFFERENT bits");
    nn_model_destroy(other);
}

/* ---- kernels ---- */

static void check_kernels(struct selftest *s)
{
    static const char *const isas[] = {"portable", "avx2", "avx512"};
    struct selftest_side side[2] = {{"ref", NULL, 0}, {NULL, NULL, 0}};
    struct cpu_train_options ref = {.threads = 1, .isa = "ref"};
    bool quick = s->quick;
    struct cn_error err = {0};
    if (cpu_train_create(&side[0].be, &ref, &err)) {
        selftest_note(s, "training ops", "ref", false, NULL, "%s", err.text);
        return;
    }
    s->quick = true; /* the plain loops take their time */
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        struct cpu_train_options opt = {.threads = 2, .isa = isas[i]};
        char group[40];
        if (cpu_train_create(&side[1].be, &opt, &err)) {
            selftest_note(s, "training ops", isas[i], true, NULL, "not here: %s", err.text);
            continue;
        }
        side[1].name = isas[i];
        snprintf(group, sizeof group, "training ops, %s", isas[i]);
        selftest_ops(s, group, side, 2);
        side[1].be->ops->destroy(side[1].be);
    }
    s->quick = quick;
    side[0].be->ops->destroy(side[0].be);
}

/* ---- artifacts ---- */

static int run_artifact(const struct quant_artifact *a, enum cinchrt_isa isa,
                        const struct ecg_dataset *d, float *p, struct cn_error *err)
{
    size_t bytes, record = (size_t)d->n_leads * (size_t)d->n_samples;
    struct cinchrt_model *m = NULL;
    int bad = cinchrt_model_size(a->data, a->n, isa, &bytes);
    void *memory = bad ? NULL : malloc(bytes);
    if (!bad && memory) bad = cinchrt_load(&m, a->data, a->n, isa, memory, bytes);
    void *scratch = !bad && m ? malloc(cinchrt_scratch_size(m)) : NULL;
    for (int i = 0; scratch && i < d->n; i++)
        cinchrt_run(m, d->x + (size_t)i * record, NULL, p + i * LABELS, scratch);
    int rc = bad        ? cn_fail(err, CN_EINTERNAL, "%s", cinchrt_error_text(bad))
             : !scratch ? cn_fail(err, CN_ENOMEM, "out of memory")
                        : 0;
    free(scratch);
    free(memory);
    return rc;
}

static double largest(const float *a, const float *b, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);
        if (!(d <= most)) most = isnan(d) ? INFINITY : d;
    }
    return most;
}

/* Each instruction set against the portable kernels: int8 the same bits, float near; and those against
 * the net that was converted. */
static void check_isas(struct selftest *s, const char *name, const struct quant_artifact *a,
                       const struct ecg_dataset *d, const float *expected, double bound)
{
    static float p[CINCHRT_ISA_COUNT][RECORDS * LABELS];
    bool exact = a->report.mode != QUANT_FLOAT;
    for (int isa = CINCHRT_ISA_PORTABLE; isa < CINCHRT_ISA_COUNT; isa++) {
        struct cn_error err = {0};
        char what[80];
        if (!cinchrt_isa_available((enum cinchrt_isa)isa)) continue;
        snprintf(what, sizeof what, "%s, %s", name, cinchrt_isa_name((enum cinchrt_isa)isa));
        if (run_artifact(a, (enum cinchrt_isa)isa, d, p[isa], &err)) {
            selftest_note(s, "artifacts", what, false, NULL, "%s", err.text);
            continue;
        }
        double far = largest(p[isa], expected, d->n * LABELS);
        double apart = largest(p[isa], p[CINCHRT_ISA_PORTABLE], d->n * LABELS);
        bool ok = far <= bound && apart <= (exact ? 0 : 1e-5);
        selftest_note(
            s, "artifacts", what, ok, NULL,
            "probabilities differ from the net's by %.1e, from the portable kernels' by %.1e", far,
            apart);
    }
}

static void check_artifacts(struct selftest *s, const struct nn_model *m, struct ecg_dataset *d)
{
    static const struct {
        enum quant_mode mode;
        const char *name;
        double bound; /* of the probabilities, against the float net */
    } way[] = {{QUANT_FLOAT, "float", 1e-5}, {QUANT_FULL, "int8", 0.1}};
    static float expected[RECORDS * LABELS];
    uint32_t rows[RECORDS];
    struct nn_backend *be = NULL;
    struct cpu_train_options opt = {.threads = 1};
    struct cn_error err = {0};
    for (uint32_t i = 0; i < RECORDS; i++) rows[i] = i;
    int rc = cpu_train_create(&be, &opt, &err);
    if (!rc) rc = nn_predict(be, m, d, rows, RECORDS, expected, &err);
    if (be) be->ops->destroy(be);
    for (size_t i = 0; i < 2 && !rc; i++) {
        struct quant_options how = {.mode = way[i].mode, .calibration = 12};
        struct quant_artifact a = {0};
        char name[64];
        snprintf(name, sizeof name, "%s %s", m->net->name, way[i].name);
        rc = quant_convert(&a, m, d, &how, &err);
        if (!rc) check_isas(s, name, &a, d, expected, way[i].bound);
        quant_artifact_release(&a);
    }
    if (rc) selftest_note(s, "artifacts", m->net->name, false, NULL, "%s", err.text);
}

int selftest_cpu(struct selftest *s)
{
    struct ecg_dataset *d;
    int rc = selftest_data(&d, RECORDS, LEADS, SAMPLES, &s->c->err);
    if (rc) return rc;
    check_kernels(s);
    struct nn_model *m[KNOWN] = {NULL};
    for (int k = 0; k < KNOWN; k++) check_training(s, k, d, &m[k]);
    for (int k = 0; k < KNOWN; k++) {
        if (m[k]) check_artifacts(s, m[k], d);
        nn_model_destroy(m[k]);
    }
    selftest_data_free(d);
    return 0;
}
