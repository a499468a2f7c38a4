/* Exported ONNX files against ONNX Runtime. onnxruntime.tsv (made by make_export.py) holds, for each artifact
 * beside it, the CRC of the ONNX file that ONNX Runtime ran and the logits and probabilities it gave: this test
 * exports again, expects the very same file, and compares the deployment runtime with those figures.
 *
 * usage: test_export_golden [--make FOLDER]   (writes artifacts and ONNX files for make_export.py)
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "cpu/quant/improve.h"
#include "cpu/rt/format.h"
#include "export/export.h"
#include "nn/prune.h"
#include "tests/unit/quant/made.h"

#define FOLDER CINCH_SOURCE_DIR "/tests/golden/export/"

static double uniform(uint64_t seed, uint64_t index)
{
    uint64_t z = (index + 1) * 0x9E3779B97F4A7C15u + seed;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z = z ^ (z >> 31);
    return (double)(z >> 40) / 16777216.0;
}

/* The input of all cases, as make_export.py draws it too. */
static void draw(float *x, int n)
{
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < 4; k++) sum += uniform(77, (uint64_t)i * 4 + (uint64_t)k);
        x[i] = (float)((sum - 2.0) * 2.0);
    }
}

struct line {
    char name[40];
    unsigned crc;
    double want[10]; /* 5 logits, 5 probabilities */
    double tolerance;
};

/* Runs an artifact with the portable kernels. */
static void run(const char *file, size_t n, float *logits, float *probability)
{
    struct cinchrt_model *m;
    size_t bytes;
    assert_int_equal(cinchrt_model_size(file, n, CINCHRT_ISA_PORTABLE, &bytes), 0);
    void *memory = malloc(bytes);
    assert_int_equal(cinchrt_load(&m, file, n, CINCHRT_ISA_PORTABLE, memory, bytes), 0);
    const struct cinchrt_info *info = cinchrt_info(m);
    float *x = calloc((size_t)(info->leads * info->samples), sizeof *x);
    void *scratch = malloc(cinchrt_scratch_size(m));
    draw(x, info->leads * info->samples);
    assert_int_equal(cinchrt_run(m, x, logits, probability, scratch), 0);
    free(scratch);
    free(x);
    free(memory);
}

static void check_line(const struct line *l)
{
    char path[600], *file;
    size_t n, onnx_n;
    void *onnx;
    float got[10];
    struct cn_error err;
    snprintf(path, sizeof path, FOLDER "%s.cinch", l->name);
    if (cn_file_read(path, 1 << 20, &file, &n, &err)) fail_msg("%s", err.text);
    if (export_onnx(file, n, &onnx, &onnx_n, &err)) fail_msg("%s: %s", l->name, err.text);
    if (cinchrt_crc32(onnx, onnx_n) != l->crc)
        fail_msg("%s: the ONNX file changed; check it again with make_export.py", l->name);
    run(file, n, got, got + 5);
    for (int i = 0; i < 10; i++)
        if (!(fabs((double)got[i] - l->want[i]) <= l->tolerance))
            fail_msg("%s: output %d is %.6f, ONNX Runtime says %.6f", l->name, i, (double)got[i],
                     l->want[i]);
    free(onnx);
    free(file);
}

static void test_onnx(void **state)
{
    (void)state;
    FILE *f = fopen(FOLDER "onnxruntime.tsv", "r");
    char text[1024];
    int lines = 0;
    assert_non_null(f);
    while (fgets(text, sizeof text, f)) {
        struct line l;
        if (text[0] == '#') continue;
        assert_int_equal(sscanf(text, "%39s %x %la %la %la %la %la %la %la %la %la %la %la", l.name,
                                &l.crc, &l.tolerance, &l.want[0], &l.want[1], &l.want[2],
                                &l.want[3], &l.want[4], &l.want[5], &l.want[6], &l.want[7],
                                &l.want[8], &l.want[9]),
                         13);
        check_line(&l);
        lines++;
    }
    fclose(f);
    assert_true(lines >= 18);
}

static void test_refused(void **state)
{
    (void)state;
    struct cn_error err;
    char *file, *c;
    void *onnx;
    size_t n, out;
    assert_int_equal(export_onnx("junk", 4, &onnx, &out, &err), CN_ECORRUPT);
    assert_null(onnx);
    assert_int_equal(cn_file_read(FOLDER "cnn_full.cinch", 1 << 20, &file, &n, &err), 0);
    file[n / 2] ^= 1;
    assert_int_equal(export_onnx(file, n, &onnx, &out, &err), CN_ECORRUPT);
    assert_non_null(strstr(err.text, "CRC"));
    assert_int_equal(export_c(file, n, "net", &c, &out, &err), CN_ECORRUPT);
    file[n / 2] ^= 1;
    assert_int_equal(export_c(file, n, "3net", &c, &out, &err), CN_EINVALID);
    assert_int_equal(export_c(file, n, "a-b", &c, &out, &err), CN_EINVALID);
    assert_int_equal(export_c(file, n, "", &c, &out, &err), CN_EINVALID);
    free(file);
    assert_int_equal(cn_file_read(FOLDER "rnn_paper.cinch", 1 << 20, &file, &n, &err), 0);
    assert_int_equal(export_c(file, n, "net", &c, &out, &err), CN_EUNSUPPORTED);
    free(file);
}

/* Making the cases */

static const struct {
    const char *name, *net;
    int widths[9], n;
    double sparsity; /* of the mask: such layers are stored sparse */
} nets[] = {{"cnn", "cnn", {7, 10, 13, 5}, 4, 0},
            {"rnn", "rnn", {11}, 1, 0},
            {"resnet", "resnet", {5, 8, 3, 7, 9, 11, 4, 6, 10}, 9, 0},
            {"beat", "beat", {5, 3, 7, 9, 11}, 5, 0},
            {"masked-beat", "beat", {5, 8, 12, 20, 11}, 5, 0.6},
            {"masked-resnet", "resnet", {5, 8, 3, 7, 9, 11, 4, 6, 10}, 9, 0.6}};

static int apply_mask(struct nn_model *m, double sparsity, struct cn_error *err)
{
    float *mask = malloc(sizeof *mask * m->net->n_params);
    int rc = mask ? nn_prune_mask(m, sparsity, mask, err) : CN_ENOMEM;
    for (size_t i = 0; !rc && i < m->net->n_params; i++) m->params[i] *= mask[i];
    free(mask);
    return rc;
}

static int write_case(const char *folder, int net, enum quant_mode mode)
{
    struct nn_model *m = unfused_model(nets[net].net, nets[net].widths, nets[net].n, 5);
    struct made *made = made_dataset(m->net, 16);
    struct quant_options opt = {.mode = mode};
    struct quant_artifact a = {0};
    struct cn_error err = {0};
    char path[600];
    void *onnx = NULL;
    size_t n;
    for (int i = 0; i < m->net->n_labels; i++) m->label[i][0] = (char)('A' + i);
    int rc = nets[net].sparsity > 0 ? apply_mask(m, nets[net].sparsity, &err) : 0;
    if (!rc) rc = quant_convert(&a, m, &made->d, &opt, &err);
    if (!rc) rc = export_onnx(a.data, a.n, &onnx, &n, &err);
    snprintf(path, sizeof path, "%s/%s_%s.onnx", folder, nets[net].name, quant_mode_names[mode]);
    if (!rc) rc = cn_file_write(path, onnx, n, &err);
    memcpy(strrchr(path, '.'), ".cinch", 7);
    if (!rc) rc = cn_file_write(path, a.data, a.n, &err);
    if (rc) fprintf(stderr, "%s\n", err.text);
    free(onnx);
    quant_artifact_release(&a);
    made_destroy(made);
    nn_model_destroy(m);
    return rc;
}

static int make(const char *folder)
{
    static const enum quant_mode modes[] = {QUANT_FLOAT, QUANT_FULL, QUANT_PAPER};
    for (size_t net = 0; net < sizeof nets / sizeof *nets; net++)
        for (int k = 0; k < 3; k++)
            if (write_case(folder, (int)net, modes[k])) return 1;
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_onnx), cmocka_unit_test(test_refused)};
    if (argc == 3 && strcmp(argv[1], "--make") == 0) return make(argv[2]);
    return cmocka_run_group_tests_name("export_golden", tests, NULL, NULL);
}
