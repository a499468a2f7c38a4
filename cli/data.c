/* cli/data.c - see data.h. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "cli/data.h"

#include <sched.h>
#include <string.h>

#include "base/file.h"
#include "cli/progress.h"
#include "ecg/registry.h"
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
    *out = NULL;
    if (cn_file_exists(data) && !cn_dir_exists(data)) return ecg_dataset_map(out, data, &c->err);
    char dir[4096];
    int rc = ecg_data_dir(data, dir, sizeof dir, &c->err);
    if (rc) return rc;
    struct cli_progress bar;
    cli_progress_start(&bar, c, "reading records", "records");
    struct ecg_build b = {.dir = dir, .progress = on_progress, .progress_arg = &bar};
    rc = ecg_dataset_open(out, &b, &c->err);
    cli_progress_end(&bar);
    return rc;
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
