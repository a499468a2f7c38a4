/* cli/model.c - see model.h. */
#include "cli/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/pool.h"
#include "base/text.h"
#include "cli/data.h"
#include "cli/progress.h"
#include "cpu/train/backend.h"
#include "nn/train.h"

#define CHUNK 64 /* records between two looks at the progress bar */

/* The kernel cap of CINCH_ISA. */
static int isa_cap(struct cli *c, enum cinchrt_isa *cap)
{
    const char *env = getenv("CINCH_ISA");
    *cap = CINCHRT_BEST;
    if (!env || !*env) return 0;
    if (cinchrt_isa_parse(env, cap))
        return cn_fail(&c->err, CN_EINVALID,
                       "CINCH_ISA=%s: no such instruction set; portable, avx2, avxvnni, avx512, "
                       "avx512vnni or amx",
                       env);
    if (!cinchrt_isa_available(*cap))
        return cn_fail(&c->err, CN_EINVALID,
                       "CINCH_ISA=%s: this CPU does not have it; the best "
                       "here is %s",
                       env, cinchrt_isa_name(cinchrt_isa_best()));
    return 0;
}

static int open_artifact(struct cli *c, const struct cn_map *file, struct cli_model *m)
{
    enum cinchrt_isa cap;
    size_t need = 0;
    int rc = isa_cap(c, &cap);
    if (rc) return rc;
    int bad = cinchrt_model_size(file->data, file->n, cap, &need);
    if (!bad) {
        m->memory = malloc(need);
        if (!m->memory) return cn_fail(&c->err, CN_ENOMEM, "out of memory");
        bad = cinchrt_load(&m->rt, file->data, file->n, cap, m->memory, need);
    }
    if (bad) return cn_fail(&c->err, CN_ECORRUPT, "%s: %s", m->path, cinchrt_error_text(bad));
    const struct cinchrt_info *info = cinchrt_info(m->rt);
    m->name = info->net;
    m->kind = info->kind ? "int8" : "float";
    m->leads = info->leads;
    m->samples = info->samples;
    m->labels = info->labels;
    m->softmax = info->softmax;
    m->hz = info->hz;
    m->mean = info->mean;
    m->std = info->std;
    m->params = info->weights;
    m->macs = info->macs;
    m->macs_nonzero = info->macs_nonzero;
    for (int i = 0; i < m->labels; i++) m->label[i] = info->label[i];
    return 0;
}

static int open_checkpoint(struct cli *c, const struct cn_map *file, struct cli_model *m)
{
    int rc = nn_model_parse(&m->net, m->path, file->data, file->n, &c->err);
    if (rc) return rc;
    const struct nn_net *net = m->net->net;
    m->name = net->name;
    m->kind = "float";
    m->leads = net->n_leads;
    m->samples = net->n_samples;
    m->labels = net->n_labels;
    m->softmax = net->loss == NN_CROSS_ENTROPY;
    m->params = net->n_params;
    m->macs = nn_net_macs(net, NULL);
    m->macs_nonzero = nn_model_macs_nonzero(m->net, NULL);
    m->mean = m->net->mean;
    m->std = m->net->std;
    m->hz = m->net->hz;
    for (int i = 0; i < m->labels; i++) m->label[i] = m->net->label[i];
    return 0;
}

/* Reports have a column per label, JSON a key: numbers stand in for absent names, and two labels cannot
 * share one. */
static int name_labels(struct cli *c, struct cli_model *m)
{
    for (int i = 0; i < m->labels; i++) {
        if (!*m->label[i]) {
            snprintf(m->number[i], sizeof m->number[i], "#%d", i + 1);
            m->label[i] = m->number[i];
        }
        for (int k = 0; k < i; k++)
            if (!strcmp(m->label[k], m->label[i]))
                return cn_fail(&c->err, CN_ECORRUPT, "%s: labels %d and %d are both called '%s'",
                               m->path, k + 1, i + 1, m->label[i]);
    }
    return 0;
}

/* Safetensors begin with the length of a JSON header, which begins with a brace. */
static bool is_safetensors(const struct cn_map *file)
{
    return file->n > 9 && file->data[8] == '{';
}

static bool is_artifact(const struct cn_map *file)
{
    size_t need;
    int rc = cinchrt_model_size(file->data, file->n, CINCHRT_BEST, &need);
    return rc != CINCHRT_EMAGIC && !(rc == CINCHRT_ETRUNCATED && is_safetensors(file));
}

/* Names go into tables and JSON: text, on one line. */
static int check_names(struct cli *c, const struct cli_model *m)
{
    const char *bad = cn_text_clean(m->name, 64) && !strpbrk(m->name, "\t\n\r") ? NULL : m->name;
    for (int i = 0; !bad && i < m->labels; i++)
        if (!cn_text_clean(m->label[i], 256) || strpbrk(m->label[i], "\t\n\r")) bad = m->label[i];
    if (!bad) return 0;
    return cn_fail(&c->err, CN_ECORRUPT, "%s: '%s' is not the name of a net or a label", m->path,
                   bad);
}

int cli_model_open(struct cli *c, const char *path, struct cli_model *m)
{
    struct cn_map file = {0};
    memset(m, 0, sizeof *m);
    m->path = path;
    int rc = cn_map_open(&file, path, &c->err);
    if (rc) return rc;
    m->bytes = file.n;
    if (is_artifact(&file))
        rc = open_artifact(c, &file, m);
    else if (is_safetensors(&file))
        rc = open_checkpoint(c, &file, m);
    else
        rc = cn_fail(&c->err, CN_ECORRUPT,
                     "%s is neither a checkpoint (.safetensors) nor an "
                     "artifact (.cinch)",
                     path);
    cn_map_close(&file);
    if (!rc) rc = name_labels(c, m);
    if (!rc) rc = check_names(c, m);
    if (rc) cli_model_close(m);
    return rc;
}

void cli_model_adopt(struct cli *c, struct cli_model *m, const struct ecg_dataset *d)
{
    if (!m->net || !m->net->unsaid || m->leads != d->n_leads || m->labels != d->n_labels) return;
    nn_model_adopt(m->net, d);
    m->hz = m->net->hz;
    for (int i = 0; i < m->labels; i++) m->label[i] = m->net->label[i];
    cli_say(c, "%s names no normalisation: that of dataset %s is taken", m->path, d->name);
}

int cli_model_normalises(struct cli *c, const struct cli_model *m)
{
    if (!m->net || !m->net->unsaid) return 0;
    if (m->softmax && m->leads == 1) return 0; /* each beat is normalised by itself */
    return cn_fail(
        &c->err, CN_EINVALID,
        "%s names no normalisation (mean and std of each lead, mV), without which raw records "
        "cannot be read; `cinch quantize %s --mode float --data DIR -o ART.cinch` adds that "
        "of the dataset it was trained on",
        m->path, m->path);
}

void cli_model_close(struct cli_model *m)
{
    nn_model_destroy(m->net);
    free(m->memory);
    m->net = NULL;
    m->rt = NULL;
    m->memory = NULL;
}

int cli_model_rate(struct cli *c, const struct cli_model *m, double hz)
{
    if (!(m->hz > 0) || fabs((double)m->hz - hz) < 1e-3) return 0;
    return cn_fail(&c->err, CN_EINVALID, "%s was made for signals of %g Hz, but these have %g Hz",
                   m->path, (double)m->hz, hz);
}

int cli_model_fits(struct cli *c, const struct cli_model *m, const struct ecg_dataset *d)
{
    if (m->leads != d->n_leads || m->samples != d->n_samples || m->labels != d->n_labels)
        return cn_fail(
            &c->err, CN_EINVALID,
            "%s takes %d leads x %d samples and gives %d labels, but dataset %s has %d x "
            "%d and %d",
            m->path, m->leads, m->samples, m->labels, d->name, d->n_leads, d->n_samples,
            d->n_labels);
    for (int i = 0; i < m->labels; i++)
        if (strcmp(m->label[i], d->label[i]))
            return cn_fail(&c->err, CN_EINVALID, "label %d of %s is %s, of dataset %s %s", i + 1,
                           m->path, m->label[i], d->name, d->label[i]);
    return cli_model_rate(c, m, (double)d->hz);
}

/* -------------------------------------------------------------------------------------- predict */

struct job {
    const struct cli_model *m;
    const struct ecg_dataset *d;
    const uint32_t *idx;
    float *out;
    bool renormalise;
    int base;             /* first row of this chunk */
    struct cn_error *bad; /* [CHUNK] what each row of the chunk failed with */
    float *x;             /* [threads, leads * samples] */
    char *scratch;        /* [threads, scratch_bytes] */
    size_t scratch_bytes;
};

static bool same_normalisation(const struct cli_model *m, const struct ecg_dataset *d)
{
    size_t n = (size_t)m->leads * sizeof(float);
    return !memcmp(m->mean, d->mean, n) && !memcmp(m->std, d->std, n);
}

/* (z·std_d + mean_d - mean_m) / std_m, lead by lead. */
static void renormalise(const struct cli_model *m, const struct ecg_dataset *d, const float *from,
                        float *to)
{
    for (int l = 0; l < m->leads; l++)
        for (int t = 0; t < m->samples; t++) {
            int i = l * m->samples + t;
            to[i] = (from[i] * d->std[l] + d->mean[l] - m->mean[l]) / m->std[l];
        }
}

static void run_row(void *arg, int item, int thread)
{
    struct job *j = arg;
    size_t floats = (size_t)j->m->leads * (size_t)j->m->samples;
    int row = j->base + item;
    const float *x = j->d->x + (size_t)j->idx[row] * floats;
    if (j->renormalise) {
        float *own = j->x + (size_t)thread * floats;
        renormalise(j->m, j->d, x, own);
        x = own;
    }
    float *p = j->out + (size_t)row * (size_t)j->m->labels;
    j->bad[item].code = 0;
    if (nn_check_input(x, j->idx[row], j->m->leads, j->m->samples, &j->bad[item])) return;
    cinchrt_run(j->m->rt, x, NULL, p, j->scratch + (size_t)thread * j->scratch_bytes);
    nn_check_probability(p, j->idx[row], j->m->labels, &j->bad[item]);
}

/* The first row's failure, if any. */
static int chunk_result(struct cli *c, const struct job *j, int rows)
{
    for (int i = 0; i < rows; i++) {
        if (!j->bad[i].code) continue;
        c->err = j->bad[i];
        return c->err.code;
    }
    return 0;
}

static int predict_artifact(struct cli *c, struct job *j, int n, int threads)
{
    size_t floats = (size_t)j->m->leads * (size_t)j->m->samples;
    struct cn_pool *pool = cn_pool_create(threads);
    struct cli_progress bar;
    int rc = 0;
    j->scratch_bytes = (cinchrt_scratch_size(j->m->rt) + 127) / 64 * 64; /* no shared cache line */
    j->scratch = malloc((size_t)threads * j->scratch_bytes);
    j->x = malloc((size_t)threads * floats * sizeof *j->x);
    j->bad = calloc(CHUNK, sizeof *j->bad);
    if (!pool || !j->scratch || !j->x || !j->bad) rc = cn_fail(&c->err, CN_ENOMEM, "out of memory");
    cli_progress_start(&bar, c, "inference", "records");
    for (j->base = 0; !rc && j->base < n; j->base += CHUNK) {
        int rows = n - j->base < CHUNK ? n - j->base : CHUNK;
        cn_pool_run(pool, rows, run_row, j);
        rc = chunk_result(c, j, rows);
        cli_progress_update(&bar, j->base + rows, n, NULL);
    }
    cli_progress_end(&bar);
    cn_pool_destroy(pool);
    free(j->bad);
    free(j->scratch);
    free(j->x);
    return rc;
}

static int predict_checkpoint(struct cli *c, const struct job *j, int n, int threads)
{
    struct nn_backend *be = NULL;
    struct cpu_train_options cpu = {.threads = threads};
    int rc = cpu_train_create(&be, &cpu, &c->err);
    if (rc) return rc;
    if (!j->renormalise) {
        rc = nn_predict(be, j->m->net, j->d, j->idx, n, j->out, &c->err);
        be->ops->destroy(be);
        return rc;
    }
    size_t floats = (size_t)j->m->leads * (size_t)j->m->samples;
    struct ecg_dataset copy = *j->d;
    float *x = malloc((size_t)n * floats * sizeof *x);
    uint8_t *y = calloc((size_t)n, (size_t)j->m->labels);
    uint32_t *idx = malloc((size_t)n * sizeof *idx);
    if (!x || !y || !idx) rc = cn_fail(&c->err, CN_ENOMEM, "out of memory");
    for (int i = 0; !rc && i < n; i++) {
        renormalise(j->m, j->d, j->d->x + j->idx[i] * floats, x + (size_t)i * floats);
        idx[i] = (uint32_t)i;
    }
    copy.n = n;
    copy.x = x;
    copy.y = y;
    if (!rc) rc = nn_predict(be, j->m->net, &copy, idx, n, j->out, &c->err);
    free(x);
    free(y);
    free(idx);
    be->ops->destroy(be);
    return rc;
}

int cli_model_predict(struct cli *c, const struct cli_model *m, const struct ecg_dataset *d,
                      const uint32_t *idx, int n, int threads, float *out)
{
    struct job j = {
        .m = m, .d = d, .idx = idx, .out = out, .renormalise = !same_normalisation(m, d)};
    if (threads <= 0) threads = cli_cores();
    int rc = m->rt ? predict_artifact(c, &j, n, threads) : predict_checkpoint(c, &j, n, threads);
    return rc ? cn_fail_prefix(&c->err, "%s", m->path) : 0;
}
