/* nn/plan.h - sharing one piece of memory between buffers that are never alive together. Private to
 * this room. */
#ifndef CINCH_NN_PLAN_H
#define CINCH_NN_PLAN_H

#include <stddef.h>

#include "base/error.h"

#define NN_PLAN_MAX 512

struct nn_plan_buffer {
    size_t bytes, offset;
    int from, to; /* first and last time of use, inclusive */
};

struct nn_plan { /* zeroed is empty */
    int n;       /* may pass NN_PLAN_MAX, which nn_plan_place reports */
    struct nn_plan_buffer buffer[NN_PLAN_MAX];
};

int nn_plan_add(struct nn_plan *p, size_t bytes, int from, int to); /* the buffer's number */
void nn_plan_use(struct nn_plan *p, int number, int time);          /* alive at `time` too */
/* Gives every buffer a 256-byte aligned offset; *bytes is the memory needed. */
int nn_plan_place(struct nn_plan *p, size_t *bytes, struct cn_error *err);
size_t nn_plan_offset(const struct nn_plan *p, int number);

#endif
