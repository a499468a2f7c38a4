/* bench/peers/rt_time.c - the runtime's side of bench/peers: writes random artifacts and times them on demand.
 *
 *     rt_time make NET float|int8|dynamic SEED OUT WIDTH..     one artifact at these widths
 *     rt_time serve [ISA]                                      then on stdin, one a line: FILE RUNS
 *     rt_time widths NET float|int8 [STEP]                     every width: what an odd one costs over the next multiple of 8
 *
 * `serve` keeps every file it was given loaded, so that a driver can alternate short blocks of runs with
 * its own; it answers each line with "MIN MEDIAN MEAN" in microseconds, one thread, batch 1.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/rt/cinchrt.h"
#include "cpu/rt/format.h"
#include "tests/unit/rt/rt_make.h"

#define MAX_FILES 64
#define MAX_RUNS 20000
#define MAX_WIDTH 128

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int make(int argc, char **argv)
{
    int kind = !strcmp(argv[3], "float") ? 0 : !strcmp(argv[3], "int8") ? 1 : 2, widths[16] = {0};
    size_t n;
    uint8_t *file;
    FILE *f;
    for (int i = 6; i < argc && i < 22; i++) widths[i - 6] = atoi(argv[i]);
    file = rt_make_net(argv[2], kind, widths, 255, (uint64_t)atoi(argv[4]), &n);
    f = fopen(argv[5], "wb");
    if (!f || fwrite(file, 1, n, f) != n || fclose(f)) {
        perror(argv[5]);
        return 1;
    }
    free(file);
    return 0;
}

struct loaded {
    char path[512];
    struct cinchrt_model *m;
    void *scratch;
    float *x;
};

static int load(struct loaded *l, const char *path, enum cinchrt_isa isa)
{
    FILE *f = fopen(path, "rb");
    long n = -1;
    size_t bytes;
    void *file;
    int code;
    const struct cinchrt_info *info;
    if (f && !fseek(f, 0, SEEK_END)) n = ftell(f);
    if (n < 0 || fseek(f, 0, SEEK_SET)) return -1;
    file = malloc((size_t)n);
    if (fread(file, 1, (size_t)n, f) != (size_t)n) return -1;
    fclose(f);
    code = cinchrt_model_size(file, (size_t)n, isa, &bytes);
    if (!code) code = cinchrt_load(&l->m, file, (size_t)n, isa, malloc(bytes), bytes);
    free(file);
    if (code) {
        fprintf(stderr, "%s: %s\n", path, cinchrt_error_text(code));
        return code;
    }
    info = cinchrt_info(l->m);
    l->scratch = malloc(cinchrt_scratch_size(l->m));
    l->x = malloc(sizeof(float) * (size_t)info->leads * (size_t)info->samples);
    rt_make_signal(1, l->x, info->leads, info->samples);
    snprintf(l->path, sizeof l->path, "%s", path);
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of `runs` runs; mean_min[2] gets mean and minimum unless NULL. */
static double median_us(const struct loaded *l, int runs, double *mean_min)
{
    static double us[MAX_RUNS];
    float z[CINCHRT_MAX_LABELS];
    double sum = 0;
    for (int i = 0; i < runs; i++) {
        double t = now_us();
        cinchrt_run(l->m, l->x, NULL, z, l->scratch);
        us[i] = now_us() - t;
        sum += us[i];
    }
    qsort(us, (size_t)runs, sizeof us[0], ascending);
    if (mean_min) mean_min[0] = sum / runs, mean_min[1] = us[0];
    return us[runs / 2];
}

static void time_block(const struct loaded *l, int runs)
{
    double mean_min[2], median = median_us(l, runs, mean_min);
    printf("%.2f %.2f %.2f\n", mean_min[1], median, mean_min[0]);
    fflush(stdout);
}

static int serve(const char *isa_name)
{
    static struct loaded files[MAX_FILES];
    int n = 0, runs;
    char line[600], path[512];
    enum cinchrt_isa isa = CINCHRT_BEST;
    if (isa_name && cinchrt_isa_parse(isa_name, &isa)) {
        fprintf(stderr, "unknown instruction set %s\n", isa_name);
        return 2;
    }
    while (fgets(line, sizeof line, stdin)) {
        int i = 0;
        if (sscanf(line, "%511s %d", path, &runs) != 2 || runs < 1 || runs > MAX_RUNS) return 2;
        while (i < n && strcmp(files[i].path, path)) i++;
        if (i == MAX_FILES || (i == n && load(&files[n++], path, isa))) return 1;
        time_block(&files[i], runs);
    }
    return 0;
}

/* Uniform widths 1..most of one net, each timed in `rounds` short blocks that alternate with all others, so that a change of the
 * machine's speed meets all of them; the least of the blocks' medians counts. */
static int widths_of(const char *net, const char *kind, int step)
{
    static struct loaded files[MAX_WIDTH + 1];
    static double best[MAX_WIDTH + 1];
    int most = !strcmp(net, "rnn")   ? 64
               : !strcmp(net, "cnn") ? 96
                                     : 128,
        runs = !strcmp(net, "cnn") ? 40 : 5;
    double worst = 0, steepest = 0;
    for (int w = 1; w <= most; w++) {
        int all[16];
        size_t n, bytes;
        for (int i = 0; i < 16; i++) all[i] = w;
        best[w] = 1e18;
        if (w % 8 && w % step) continue;
        uint8_t *file = rt_make_net(net, !strcmp(kind, "int8"), all, 255, 1, &n);
        if (cinchrt_model_size(file, n, CINCHRT_BEST, &bytes) ||
            cinchrt_load(&files[w].m, file, n, CINCHRT_BEST, malloc(bytes), bytes))
            return 1;
        free(file);
        files[w].scratch = malloc(cinchrt_scratch_size(files[w].m));
        files[w].x = malloc(sizeof(float) * 12 * 1000);
        rt_make_signal(1, files[w].x, 12, 1000);
    }
    for (int round = 0; round < 12; round++)
        for (int w = 1; w <= most; w++) {
            double us = files[w].m ? median_us(&files[w], runs, NULL) : 1e18;
            if (us < best[w]) best[w] = us;
        }
    for (int w = 1; w <= most; w++) {
        int next = (w + 7) / 8 * 8;
        double over = best[w] / best[next];
        if (!files[w].m) continue;
        for (int v = w + 1; v <= most; v++)
            if (files[v].m && best[w] / best[v] > steepest) steepest = best[w] / best[v];
        if (over > worst) worst = over;
        printf("%s %s width %3d: %9.2f us, %.3f of width %d\n", net, kind, w, best[w], over, next);
    }
    printf("worst: %.3f of the next multiple of 8, %.3f of any wider net\n", worst, steepest);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 3 && !strcmp(argv[1], "widths"))
        return widths_of(argv[2], argv[3], argc > 4 ? atoi(argv[4]) : 1);
    if (argc > 6 && !strcmp(argv[1], "make")) return make(argc, argv);
    if (argc > 1 && !strcmp(argv[1], "serve")) return serve(argv[2]);
    fputs("usage: rt_time make NET float|int8|dynamic SEED OUT WIDTH..\n"
          "       rt_time serve [ISA]      then lines FILE RUNS on stdin\n"
          "       rt_time widths NET float|int8 [STEP]\n",
          stderr);
    return 2;
}
