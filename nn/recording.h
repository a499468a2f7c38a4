/* nn/recording.h - a sequence of ops that is run again and again with the same arguments: recorded once
 * where the backend can, then replayed with one call. Private to this room. */
#ifndef CINCH_NN_RECORDING_H
#define CINCH_NN_RECORDING_H

#include "nn/backend.h"

struct nn_recording {
    struct nn_graph *graph; /* NULL: not recorded (yet) */
    int runs;               /* plain ones so far */
    int plain;              /* 1: the backend could not record it */
};

/* Runs ops(arg), which returns 0 or an error. The first run is plain, so that a backend can choose kernels
 * and allocate; the second is recorded. What cannot be recorded runs plainly for good. 0, or a negative
 * code with the text in be->error. */
int nn_recording_run(struct nn_recording *r, struct nn_backend *be, int (*ops)(void *arg),
                     void *arg);
void nn_recording_clear(struct nn_recording *r, struct nn_backend *be); /* accepts a zeroed one */

#endif
