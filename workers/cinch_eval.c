/* cinch-eval - a worker that quantises and measures for a coordinator; worker_main.c is its main. */
#include "workers/program.h"

const enum worker_role program_role = WORKER_EVALUATE;
