/* bench/data/bench_dataset.c - opens a dataset once, building its cache where it is absent, and prints
 * what that took: "seconds CPU-seconds peak-resident-MB rows". usage: bench_dataset FOLDER CACHE THREADS */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "ecg/dataset.h"

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: bench_dataset FOLDER CACHE THREADS\n");
        return 2;
    }
    struct ecg_build b = {.dir = argv[1], .cache_dir = argv[2], .threads = atoi(argv[3])};
    struct ecg_dataset *d;
    struct cn_error err;
    struct rusage used;
    int64_t start = cn_mono_ns();
    if (ecg_dataset_open(&d, &b, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    double wall = (double)(cn_mono_ns() - start) / 1e9;
    getrusage(RUSAGE_SELF, &used);
    double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
                 (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
    printf("%.3f %.3f %.1f %d\n", wall, cpu, (double)used.ru_maxrss / 1024, d->n);
    ecg_dataset_close(d);
    return 0;
}
