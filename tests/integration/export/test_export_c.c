/* Exported C source, the one file and model.c with model.h: compiled as strict C99 with every warning an error, it
 * gives the same bits as the portable runtime; int8 nets also when compiled for 32 bits, where the compiler can. Uses the artifacts of
 * tests/golden/export. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "cpu/rt/cinchrt.h"
#include "export/export.h"

#define ARTIFACTS CINCH_SOURCE_DIR "/tests/golden/export/"
#define WORK CINCH_BINARY_DIR "/tests/export_c"
#define STRICT "-std=c99 -O1 -Wall -Wextra -Wshadow -pedantic -Werror"
#define RECORDS 3

static void shell(const char *command)
{
    if (system(command) != 0) fail_msg("failed: %s", command);
}

/* Writes RECORDS random records as text and returns them: [RECORDS, size]. */
static float *make_records(int size)
{
    float *x = malloc((size_t)(RECORDS * size) * sizeof *x);
    FILE *f = fopen(WORK "/x.txt", "w");
    assert_non_null(x);
    assert_non_null(f);
    for (int i = 0; i < RECORDS * size; i++) {
        cn_rng4 r = cn_rng(9, CN_RNG_NOISE, 0, (uint64_t)i);
        x[i] = 5 * (cn_rng_uniform(r.v[0]) + cn_rng_uniform(r.v[1]) - 1);
        fprintf(f, "%.9g\n", (double)x[i]);
    }
    fclose(f);
    return x;
}

static void compare(const struct cinchrt_model *m, const char *name, const float *x)
{
    const struct cinchrt_info *info = cinchrt_info(m);
    void *scratch = malloc(cinchrt_scratch_size(m));
    FILE *f = fopen(WORK "/y.txt", "r");
    assert_non_null(f);
    for (int r = 0; r < RECORDS; r++) {
        float z[16], p[16], got[2];
        assert_int_equal(cinchrt_run(m, x + r * info->leads * info->samples, z, p, scratch), 0);
        for (int i = 0; i < info->labels; i++) {
            assert_int_equal(fscanf(f, "%f %f", &got[0], &got[1]), 2);
            if (got[0] != z[i] || got[1] != p[i])
                fail_msg("%s, record %d, label %d: %.9g %.9g, the runtime says %.9g %.9g", name, r,
                         i, (double)got[0], (double)got[1], (double)z[i], (double)p[i]);
        }
    }
    assert_int_equal(fgetc(f), '\n');
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
    free(scratch);
}

static void build_and_run(const struct cinchrt_model *m, const char *name, const char *flags,
                          const float *x)
{
    char command[1200];
    snprintf(command, sizeof command,
             CINCH_CC " " STRICT " %s -Dnet_MAIN -o " WORK "/net " WORK "/net.c && " WORK
                      "/net < " WORK "/x.txt > " WORK "/y.txt",
             flags);
    shell(command);
    compare(m, name, x);
}

/* Runs records through model.c, every second by put and infer, in millivolts that normalise to x. */
static const char module_main[] =
    "#include <stdio.h>\n"
    "#include \"model.h\"\n"
    "int main(void)\n{\n"
    "    static float x[NET_LEADS * NET_SAMPLES];\n"
    "    float z[NET_LABELS], p[NET_LABELS];\n"
    "    int i, n = 0, record = 0;\n"
    "    if (net_put(-1, 0, 0) != -1 || net_put(0, NET_SAMPLES, 0) != -1) return 1;\n"
    "    if (net_run(0, z, p) != -1) return 1;\n"
    "    while (scanf(\"%f\", &x[n]) == 1) {\n"
    "        if (++n < NET_LEADS * NET_SAMPLES) continue;\n"
    "        if (record++ & 1) {\n"
    "            for (i = 0; i < n; i++) net_put(i / NET_SAMPLES, i % NET_SAMPLES, x[i]);\n"
    "            net_infer(z, p);\n"
    "        } else {\n"
    "            for (i = 0; i < n; i++) {\n"
    "                float d = x[i] - net_mean[i / NET_SAMPLES];\n"
    "                x[i] = d / net_std[i / NET_SAMPLES];\n"
    "            }\n"
    "            net_run(x, z, p);\n"
    "        }\n"
    "        n = 0;\n"
    "        for (i = 0; i < NET_LABELS; i++) printf(\"%.9g %.9g\\n\", z[i], p[i]);\n"
    "    }\n"
    "    return net_label[0][0] == 0 || NET_SCRATCH_BYTES <= 0;\n}\n";

static void check_module(const struct cinchrt_model *m, const char *name, const void *file,
                         size_t n, float *x)
{
    const struct cinchrt_info *info = cinchrt_info(m);
    struct export_module c;
    struct cn_error err;
    int size = info->leads * info->samples;
    if (export_c_module(file, n, "net", &c, &err)) fail_msg("%s", err.text);
    assert_int_equal(strlen(c.c), c.c_n);
    assert_int_equal(strlen(c.h), c.h_n);
    assert_null(strstr(c.c, "malloc"));
    assert_null(strstr(c.c, "NET_")); /* no kernel that is switched off, no switch */
    assert_int_equal(cn_file_write(WORK "/model.c", c.c, c.c_n, &err), 0);
    assert_int_equal(cn_file_write(WORK "/model.h", c.h, c.h_n, &err), 0);
    assert_int_equal(cn_file_write(WORK "/main.c", module_main, strlen(module_main), &err), 0);
    shell(CINCH_CC " " STRICT " -o " WORK "/module " WORK "/model.c " WORK "/main.c && " WORK
                   "/module < " WORK "/x.txt > " WORK "/y.txt");
    for (int r = 0; r < RECORDS; r++) cinchrt_normalise(m, x + r * size, x + r * size);
    compare(m, name, x);
    export_module_release(&c);
}

static int has_m32(void)
{
    return system("echo 'int main(void){return 0;}' | " CINCH_CC " -m32 -x c - -o " WORK
                  "/m32 2>/dev/null && " WORK "/m32") == 0;
}

static void check(const char *name)
{
    struct cinchrt_model *m;
    struct cn_error err;
    char path[600], *file, *c;
    size_t n, c_n, bytes;
    snprintf(path, sizeof path, ARTIFACTS "%s.cinch", name);
    if (cn_file_read(path, 1 << 20, &file, &n, &err)) fail_msg("%s", err.text);
    if (export_c(file, n, "net", &c, &c_n, &err)) fail_msg("%s", err.text);
    assert_int_equal(strlen(c), c_n);
    assert_int_equal(cn_file_write(WORK "/net.c", c, c_n, &err), 0);
    assert_int_equal(cinchrt_model_size(file, n, CINCHRT_ISA_PORTABLE, &bytes), 0);
    void *memory = malloc(bytes);
    assert_int_equal(cinchrt_load(&m, file, n, CINCHRT_ISA_PORTABLE, memory, bytes), 0);
    const struct cinchrt_info *info = cinchrt_info(m);
    float *x = make_records(info->leads * info->samples);
    build_and_run(m, name, "", x);
    if (info->kind == 1 && has_m32()) build_and_run(m, name, "-m32", x);
    check_module(m, name, file, n, x);
    free(x);
    free(memory);
    free(file);
    free(c);
}

static void test_int8(void **state)
{
    (void)state;
    check("cnn_full");
    check("cnn_paper");
    check("rnn_full");
    check("resnet_full");
    check("resnet_paper");
    check("beat_full");
    check("masked-beat_full");
    check("masked-resnet_full");
}

static void test_float(void **state)
{
    (void)state;
    check("cnn_float");
    check("rnn_float");
    check("resnet_float");
    check("beat_float");
    check("masked-beat_float");
}

/* A pooled convolution writes over its input: the record itself is nearly all that the net takes. */
static void test_scratch(void **state)
{
    struct export_module m;
    struct cn_error err;
    char *file;
    size_t n;
    (void)state;
    if (cn_file_read(ARTIFACTS "cnn_full.cinch", 1 << 20, &file, &n, &err))
        fail_msg("%s", err.text);
    if (export_c_module(file, n, "net", &m, &err)) fail_msg("%s", err.text);
    assert_in_range(m.scratch, 12 * 1000, 12 * 1000 + 64);
    export_module_release(&m);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_int8), cmocka_unit_test(test_float),
                                       cmocka_unit_test(test_scratch)};
    struct cn_error err;
    if (cn_mkdirs(WORK, &err)) return 1;
    return cmocka_run_group_tests_name("export_c", tests, NULL, NULL);
}
