/* cli/data.c - see data.h. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "cli/data.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/grid.h"
#include "cli/progress.h"
#include "ecg/registry.h"
#include "nn/model.h"
#include "nn/net.h"

int cli_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

static void on_progress(void *arg, int done, int total)
{
    cli_progress_update(arg, done, total, NULL);
}

int cli_dataset_open(struct cli *c, const char *data, struct ecg_dataset **out)
{
    return cli_dataset_open_as(c, data, &(struct cli_parting){0}, out);
}

/* Whether the folder's records can be parted so. */
static int check_parting(struct cli *c, const char *dir, const struct cli_parting *how)
{
    enum ecg_kind kind = ecg_folder_kind(dir);
    if (how->split != ECG_SPLIT_RANDOM && kind == ECG_PTBXL)
        return cn_fail(&c->err, CN_EINVALID,
                       "%s holds PTB-XL, whose folds are fixed: only the beats of MIT-BIH have a "
                       "split",
                       dir);
    if (how->drop_unlabelled && kind == ECG_MITDB)
        return cn_fail(&c->err, CN_EINVALID,
                       "%s holds MIT-BIH, whose beats all have a class: `unlabelled` is about "
                       "PTB-XL",
                       dir);
    return 0;
}

int cli_dataset_open_as(struct cli *c, const char *data, const struct cli_parting *how,
                        struct ecg_dataset **out)
{
    *out = NULL;
    if (cn_file_exists(data) && !cn_dir_exists(data)) {
        if (how->split || how->drop_unlabelled || c->gaps)
            return cn_fail(
                &c->err, CN_EINVALID,
                "%s is a cache file, whose records are read and parted already; name the folder "
                "that it was built from",
                data);
        return ecg_dataset_map(out, data, &c->err);
    }
    char dir[4096];
    struct ecg_gaps gaps;
    int rc = ecg_gaps_parse(&gaps, c->gaps, &c->err);
    if (!rc) rc = ecg_data_dir(data, dir, sizeof dir, &c->err);
    if (!rc) rc = check_parting(c, dir, how);
    if (rc) return rc;
    struct cli_progress bar;
    cli_progress_start(&bar, c, "reading records", "records");
    struct ecg_build b = {.dir = dir,
                          .drop_unlabelled = how->drop_unlabelled,
                          .split = how->split,
                          .gaps = gaps,
                          .progress = on_progress,
                          .progress_arg = &bar};
    rc = ecg_dataset_open(out, &b, &c->err);
    cli_progress_end(&bar);
    return rc;
}

int cli_dataset_name(struct cli *c, const char *name, const struct cli_parting *how, char *out,
                     size_t cap)
{
    struct ecg_gaps gaps;
    char bridged[40] = "";
    int rc = ecg_gaps_parse(&gaps, c->gaps, &c->err);
    if (gaps.bridge > 0) snprintf(bridged, sizeof bridged, "@gaps%g", gaps.bridge);
    snprintf(out, cap, "%s%s%s%s", name, how->split == ECG_SPLIT_INTER_PATIENT ? "@patient" : "",
             how->drop_unlabelled ? "@labelled" : "", bridged);
    return rc;
}

struct cli_parting cli_grid_parting(const struct grid *g, int i)
{
    return (struct cli_parting){.split = i < g->n_splits ? g->split[i] : ECG_SPLIT_RANDOM,
                                .drop_unlabelled = g->drop_unlabelled};
}

int cli_dataset_fits(struct cli *c, const struct ecg_dataset *d, const struct nn_net *net)
{
    if (d->n_leads != net->n_leads || d->n_samples != net->n_samples ||
        d->n_labels != net->n_labels)
        return cn_fail(&c->err, CN_EINVALID,
                       "net %s takes %d leads x %d samples and gives %d labels, but dataset %s has "
                       "%d x %d and %d",
                       net->name, net->n_leads, net->n_samples, net->n_labels, d->name, d->n_leads,
                       d->n_samples, d->n_labels);
    if ((d->task == ECG_ONE_LABEL) != (net->loss == NN_CROSS_ENTROPY))
        return cn_fail(&c->err, CN_EINVALID, "net %s is for %s, dataset %s is %s", net->name,
                       net->loss == NN_CROSS_ENTROPY ? "one label a record" : "several labels",
                       d->name, d->task == ECG_ONE_LABEL ? "one label a record" : "several labels");
    return 0;
}

/* Labels by name, in order; one that the file does not name becomes the dataset's. */
static int adopt_labels(struct cli *c, struct nn_model *m, const char *path,
                        const struct ecg_dataset *d)
{
    for (int i = 0; i < m->net->n_labels; i++) {
        if (*m->label[i] && strcmp(m->label[i], d->label[i]) != 0)
            return cn_fail(&c->err, CN_EINVALID, "label %d of %s is %s, of dataset %s %s", i + 1,
                           path, m->label[i], d->name, d->label[i]);
        memcpy(m->label[i], d->label[i], sizeof m->label[i]);
    }
    return 0;
}

int cli_dataset_suits(struct cli *c, const struct ecg_dataset *d, struct nn_model *m,
                      const char *path)
{
    int rc = cli_dataset_fits(c, d, m->net);
    if (!rc) rc = adopt_labels(c, m, path, d);
    if (rc) return rc;
    if (m->unsaid) nn_model_adopt(m, d);
    if (m->hz > 0 && fabsf(m->hz - d->hz) > 1e-3f)
        return cn_fail(&c->err, CN_EINVALID,
                       "%s was made for signals of %g Hz, but those of dataset %s have %g Hz", path,
                       (double)m->hz, d->name, (double)d->hz);
    return 0;
}

int cli_teacher_suits(struct cli *c, const struct ecg_dataset *d, struct nn_model *m,
                      const char *path)
{
    int rc = cli_dataset_suits(c, d, m, path);
    size_t n = (size_t)d->n_leads * sizeof(float);
    if (!rc && (memcmp(m->mean, d->mean, n) != 0 || memcmp(m->std, d->std, n) != 0))
        cn_warn("cli",
                "teacher %s was made with another normalisation than dataset %s has: what it "
                "teaches is less than it could",
                path, d->name);
    return rc;
}
