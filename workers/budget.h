/* workers/budget.h - how many jobs of a gang fit into the memory of a device. */
#ifndef CINCH_WORKERS_BUDGET_H
#define CINCH_WORKERS_BUDGET_H

#include "nn/train.h"

/* The largest number of members, from `run`->m downwards, whose training fits into what is left of
 * the device's memory: 1 .. run->m. CN_ENOMEM when not even one does; the text names the figures. */
int budget_members(const struct nn_train *run, int *members, struct cn_error *err);

#endif
