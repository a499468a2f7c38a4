/* nn/recording.c - see recording.h. */
#include "nn/recording.h"

/* Nothing of a failed recording has run, so its ops can still be run one by one. */
static void record(struct nn_recording *r, struct nn_backend *be, int (*ops)(void *arg), void *arg)
{
    int rc = be->ops->capture_begin(be);
    if (!rc) rc = ops(arg);
    if (!rc) rc = be->ops->capture_end(be, &r->graph);
    if (!rc) return;
    be->ops->capture_drop(be);
    r->graph = NULL;
    r->plain = 1;
}

int nn_recording_run(struct nn_recording *r, struct nn_backend *be, int (*ops)(void *arg),
                     void *arg)
{
    int can = be->ops->capture_begin != NULL && !r->plain;
    if (can && !r->graph && r->runs) record(r, be, ops, arg);
    if (r->graph) return be->ops->replay(be, r->graph);
    r->runs++;
    return ops(arg);
}

void nn_recording_clear(struct nn_recording *r, struct nn_backend *be)
{
    if (r->graph) be->ops->graph_destroy(be, r->graph);
    *r = (struct nn_recording){0};
}
