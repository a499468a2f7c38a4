/* bench/quant/bench_accuracy.c - what int8 costs: float minus int8 macro-AUROC on the test fold, for every mode
 * of the quantiser, of each checkpoint given and on average. accuracy.sh trains the checkpoints.
 *
 * usage: bench_accuracy --data DIR MODEL.safetensors..
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/quant/score.h"

#define MODES 3 /* paper, full, best */

struct sums {
    int n;
    double drop[MODES], rmse[MODES];
};

/* Converts in one mode; *auroc on the test part, or a negative code. */
static int one_mode(const struct nn_model *m, const struct ecg_dataset *d, enum quant_mode mode,
                    double *auroc, struct quant_report *report, size_t *bytes)
{
    struct quant_artifact a = {0};
    struct cn_error err = {0};
    struct quant_options opt = {.mode = mode};
    int rc = quant_convert(&a, m, d, &opt, &err);
    if (!rc) rc = score_artifact(&a, d, ECG_TEST, auroc, &err);
    if (rc) fprintf(stderr, "bench_accuracy: %s\n", err.text);
    *report = a.report;
    *bytes = a.n;
    quant_artifact_release(&a);
    return rc;
}

static int one_model(const char *path, const struct ecg_dataset *d, struct sums *s)
{
    struct nn_model *m;
    struct cn_error err;
    struct quant_report report;
    double real, auroc;
    size_t bytes;
    const char *name = strrchr(path, '/');
    int rc = nn_model_load(&m, path, &err);
    if (rc) {
        fprintf(stderr, "bench_accuracy: %s\n", err.text);
        return rc;
    }
    rc = one_mode(m, d, QUANT_FLOAT, &real, &report, &bytes);
    if (!rc) printf("%-26s %7zu  %.4f", name ? name + 1 : path, bytes, real);
    for (int mode = QUANT_PAPER; !rc && mode <= QUANT_BEST; mode++) {
        int64_t start = cn_mono_ms();
        rc = one_mode(m, d, (enum quant_mode)mode, &auroc, &report, &bytes);
        if (rc) break;
        printf("  | %7zu %+.5f %.4f %5.1f", bytes, real - auroc, report.output_rmse,
               (double)(cn_mono_ms() - start) / 1e3);
        fflush(stdout);
        s->drop[mode] += real - auroc;
        s->rmse[mode] += report.output_rmse;
    }
    printf("\n");
    s->n++;
    nn_model_destroy(m);
    return rc;
}

int main(int argc, char **argv)
{
    struct ecg_dataset *d = NULL;
    struct cn_error err;
    struct sums s = {0};
    if (argc < 4 || strcmp(argv[1], "--data") != 0) {
        fprintf(stderr, "usage: bench_accuracy --data DIR MODEL.safetensors..\n");
        return 2;
    }
    struct ecg_build build = {.dir = argv[2]};
    int rc = ecg_dataset_open(&d, &build, &err);
    if (rc) {
        fprintf(stderr, "bench_accuracy: %s\n", err.text);
        return 2;
    }
    printf("%-26s %7s  %6s", "checkpoint", "bytes", "AUROC");
    for (int mode = QUANT_PAPER; mode <= QUANT_BEST; mode++)
        printf("  | %-5s %s %7s %6s %5s", quant_mode_names[mode], "B", "drop", "rmse", "s");
    printf("\n");
    for (int i = 3; !rc && i < argc; i++) rc = one_model(argv[i], d, &s);
    if (!rc && s.n) {
        printf("%-26s %7s  %6s", "mean", "", "");
        for (int mode = QUANT_PAPER; mode <= QUANT_BEST; mode++)
            printf("  | %7s %+.5f %.4f %5s", "", s.drop[mode] / s.n, s.rmse[mode] / s.n, "");
        printf("\n");
    }
    ecg_dataset_close(d);
    return rc ? 1 : 0;
}
