/* exec.c - jobs as values: inputs, outputs, and which executor runs which kind. */
#include "workers/exec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void exec_job_clear(struct exec_job *job)
{
    for (int i = 0; i < job->n_in; i++) free(job->in[i].data);
    for (int i = 0; i < job->n_out; i++) free(job->out[i].data);
    free(job->resume);
    free(job->metrics);
    memset(job, 0, sizeof *job);
}

const struct exec_blob *exec_input(const struct exec_job *job, const char *role)
{
    for (int i = 0; i < job->n_in; i++)
        if (strcmp(job->in[i].role, role) == 0) return &job->in[i];
    return NULL;
}

int exec_output(struct exec_job *job, const char *role, void *data, size_t n)
{
    if (job->n_out == PR_MAX_OUTPUTS) {
        free(data);
        return cn_fail(&job->error, CN_EINTERNAL,
                       "a job has more outputs than the protocol allows");
    }
    struct exec_blob *b = &job->out[job->n_out++];
    snprintf(b->role, sizeof b->role, "%s", role);
    b->data = data;
    b->n = n;
    return 0;
}

void exec_run(struct exec_unit *u)
{
    switch (u->job[0].spec->kind) {
    case CINCH__JOB_KIND__TRAIN:
    case CINCH__JOB_KIND__DISTILL:
    case CINCH__JOB_KIND__PRUNE:
        exec_train(u);
        return;
    case CINCH__JOB_KIND__EVALUATE:
        exec_evaluate(u);
        return;
    default:
        for (int i = 0; i < u->n; i++)
            u->job[i].code =
                cn_fail(&u->job[i].error, CN_EUNSUPPORTED, "this worker does not know job kind %d",
                        (int)u->job[i].spec->kind);
    }
}

bool exec_is_permanent(int code)
{
    switch (code) {
    case CN_EINVALID:
    case CN_ECORRUPT:
    case CN_EVERSION:
    case CN_EDIVERGED:
    case CN_EUNSUPPORTED:
    case CN_ETIMEOUT:
        return true;
    default:
        return false; /* memory, disk, device: another machine may have them */
    }
}
