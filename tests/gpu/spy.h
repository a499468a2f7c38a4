/* tests/gpu/spy.h - stands between the GPU plugin and the CUDA libraries: a test program that links
 * spy.c sees the plugin's calls, and can make some of them fail. It needs ENABLE_EXPORTS, so that the
 * plugin finds these symbols before those of the runtime. */
#ifndef CINCH_TESTS_GPU_SPY_H
#define CINCH_TESTS_GPU_SPY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { SPY_TO_DEVICE = 1, SPY_TO_HOST = 2 };

struct spy {
    /* Told. */
    atomic_int pageable;       /* copies between the card and memory that is not pinned */
    atomic_int default_stream; /* copies and kernels on it, and synchronous copies */
    atomic_int blocking;       /* waits without a limit, while `hang` was on */
    atomic_int blocking_nccl;  /* calls that may wait for other ranks for ever */
    atomic_int captures_begun, captures_ended, graphs_made, launches_of_graphs;
    atomic_int
        in_capture_calls; /* allocations, frees, queries and waits of a thread that captures */
    atomic_int launches, downloads;
    /* Done: set by the test. */
    atomic_int
        fail_launch_in_capture; /* the launch of this number (from 1) of every capture fails */
    atomic_int dry;     /* kernels are not run; the largest grids and the sums of blocks are kept */
    unsigned most[3];   /* dry: the largest grid in x, y, z */
    uint64_t blocks;    /* dry: of all launches */
    int math, rnn_math; /* bit k: convolutions, LSTMs ran under cudnnMathType_t k */
    int blas_math;      /* cuBLAS' mode, as last set */
    int offer_math;     /* not 0: cuDNN offers algorithms under cudnnMathType_t offer_math - 1 */
    int keep_calls;     /* spy_call is written */
    int fault;          /* not 0: this cudaError_t is what every call answers from now on */
};

extern struct spy spy;
/* Of the calling thread: its stream never comes to an end, until NCCL is aborted. */
extern _Thread_local int spy_hang;

void spy_reset(void);

#define SPY_CALLS 4096
/* One call of cuDNN or cuBLAS that computes: its name and everything that may decide how it does it (shape,
 * algorithm, math type, workspace, alignment of its operands). */
extern char (*spy_call)[160];
extern int spy_calls;

#endif
