/* cpu/measure/spawn.h - one cinch-lat process, seen from outside; private to cpu/measure. */
#ifndef CINCH_CPU_MEASURE_SPAWN_H
#define CINCH_CPU_MEASURE_SPAWN_H

#include "cpu/measure/measure.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEASURE_SANITISED 1
#else
#define MEASURE_SANITISED 0
#endif

#define MEASURE_ANSWER_LIMIT (1 << 20)

/* The process's whole life: `request` in, `answer` [MEASURE_ANSWER_LIMIT] out. Of the spec only the
 * allocator (glibc, jemalloc, tcmalloc) and `stop` count. *cpu_s grows by the processor time that it
 * took. CN_EINTERRUPTED, CN_ETIMEOUT; CN_EINTERNAL: it ended without an answer. */
int measure_ask(const char *request, const struct measure_spec *spec, char *answer, double *cpu_s,
                struct cn_error *err);

#endif
