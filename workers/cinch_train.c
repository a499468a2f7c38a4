/* cinch-train - a worker that trains, distils and prunes for a coordinator; worker_main.c is its main. */
#include "workers/program.h"

const enum worker_role program_role = WORKER_TRAIN;
