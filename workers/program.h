/* workers/program.h - which of the two worker programs worker_main.c is linked into. */
#ifndef CINCH_WORKERS_PROGRAM_H
#define CINCH_WORKERS_PROGRAM_H

#include "workers/worker.h"

extern const enum worker_role program_role;

#endif
