/* cli/cmd_export.c - `cinch export`: a checkpoint or an artifact in another tool's form, ONNX or C source. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/model.h"
#include "cli/out.h"
#include "cli/outdir.h"
#include "cpu/quant/quant.h"
#include "export/export.h"

#define SYMBOL_MAX 40

struct args {
    const char *file, *symbol;
    struct cli_out out;
    bool onnx, c;
    struct cli_outdir *dir; /* --c -o DIR; else NULL */
};

static const char *const module_names[] = {"model.c", "model.h", NULL};

/* Whether the name given with --c is a folder's: of one that is there, or of one to be made. What ends
 * in .c and what is there as something else is one file. */
static bool names_folder(const char *path)
{
    struct stat st;
    size_t n = strlen(path);
    if (!strcmp(path, "-") || !*path) return false;
    if (!stat(path, &st)) return S_ISDIR(st.st_mode);
    return n < 2 || strcmp(path + n - 2, ".c") != 0;
}

static int check_out(struct cli *c, struct args *a)
{
    struct stat st;
    a->out.form = a->onnx ? CLI_FORM_ONNX : CLI_FORM_C;
    a->out.input[0] = a->file;
    if (a->onnx || !names_folder(a->out.path)) return cli_out_check(c, &a->out);
    int rc = stat(a->out.path, &st) ? cli_out_ending(c, a->out.path, CLI_FORM_C) : 0;
    return rc ? rc : cli_outdir_open(c, a->out.path, a->out.force, module_names, &a->dir);
}

static int parse(struct cli *c, struct args *a, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_FLAG("onnx", 0, &a->onnx, "an ONNX model: float, or int8 as QuantizeLinear graph"),
        OPT_FLAG("c", 0, &a->c,
                 "C99 source without library or malloc: FILE.c, or DIR/model.c with DIR/model.h"),
        OPT_TEXT("symbol", 0, &a->symbol, "NAME",
                 "prefix in the C source; from the file's name, `model` in a folder"),
        OPT_TEXT("out", 'o', &a->out.path, "PATH", "the file to write; with --c also a folder"),
        OPT_FORCE(&a->out),
        OPT_END};
    struct cli_use use = {"FILE --onnx | --c -o PATH",
                          "Writes a checkpoint (as float) or an artifact (as it is) for other "
                          "tools.",
                          options,
                          1,
                          1,
                          0,
                          NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    a->file = use.word[0];
    if (a->onnx == a->c) return cn_fail(&c->err, CN_EINVALID, "say --onnx or --c, one of the two");
    rc = cli_need(c, a->out.path, "-o");
    return rc ? rc : check_out(c, a);
}

/* "out/cnn-s0.c" -> "cnn_s0": a C identifier from the file's name. */
static void symbol_of(const char *path, char out[SYMBOL_MAX + 1])
{
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    size_t n = 0;
    if (!isalpha((unsigned char)*name)) out[n++] = 'm';
    for (; *name && *name != '.' && n < SYMBOL_MAX; name++)
        out[n++] = isalnum((unsigned char)*name) ? *name : '_';
    out[n] = 0;
}

/* The bytes of an artifact: the file's own, or a checkpoint's converted to a float one. */
static int artifact_bytes(struct cli *c, const struct args *a, const struct cli_model *m,
                          struct quant_artifact *converted, char **own, const void **data,
                          size_t *n)
{
    if (m->rt) {
        int rc = cn_file_read(a->file, (size_t)1 << 30, own, n, &c->err);
        *data = *own;
        return rc;
    }
    struct quant_options opt = {.mode = QUANT_FLOAT};
    int rc = quant_convert(converted, m->net, NULL, &opt, &c->err);
    *data = converted->data;
    *n = converted->n;
    return rc;
}

/* Both files of a folder, written into one of their own first: both are put there, or none. */
static int write_module(struct cli *c, const struct args *a, const struct export_module *m)
{
    char made[4096], path[4200];
    struct cn_error ignored;
    int rc = cn_mkdirs(a->out.path, &c->err);
    if (rc) return rc;
    snprintf(made, sizeof made, "%.4000s/.export-XXXXXX", a->out.path);
    if (!mkdtemp(made)) return cn_fail_errno(&c->err, "%s", made);
    snprintf(path, sizeof path, "%s/model.c", made);
    rc = cn_file_write(path, m->c, m->c_n, &c->err);
    snprintf(path, sizeof path, "%s/model.h", made);
    if (!rc) rc = cn_file_write(path, m->h, m->h_n, &c->err);
    if (!rc) rc = cli_outdir_take(c, a->dir, made);
    cn_rmtree(made, &ignored);
    return rc;
}

/* *scratch: bytes of model.c's static scratch. */
static int write_folder(struct cli *c, const struct args *a, const void *data, size_t n,
                        size_t *written, size_t *scratch)
{
    struct export_module m;
    int rc = export_c_module(data, n, a->symbol ? a->symbol : "model", &m, &c->err);
    if (rc) return rc;
    rc = write_module(c, a, &m);
    *written = m.c_n + m.h_n;
    *scratch = m.scratch;
    export_module_release(&m);
    return rc;
}

/* What was written, for the reader. */
static void say(const struct args *a, const struct cli_model *m, size_t written, size_t scratch)
{
    if (a->dir)
        cli_print(stdout,
                  "%s/model.c, model.h: C source of a %s %s, %zu bytes; scratch at its peak %zu "
                  "bytes, static\n",
                  a->out.path, m->kind, m->name, written, scratch);
    else
        cli_print(cli_out_words(&a->out), "%s: %s of a %s %s, %zu bytes\n", a->out.path,
                  a->onnx ? "ONNX model" : "C source", m->kind, m->name, written);
}

static int say_json(struct cli *c, const struct args *a, const struct cli_model *m, size_t written,
                    size_t scratch)
{
    json_t *o = json_pack("{s:o, s:s, s:s, s:s, s:I}", "path", cli_json_text(a->out.path), "form",
                          a->onnx ? "onnx" : "c", "net", m->name, "kind", m->kind, "bytes",
                          (json_int_t)written);
    if (a->dir) json_object_set_new(o, "scratch_bytes", json_integer((json_int_t)scratch));
    return cli_answer_json(c, o);
}

static int write_form(struct cli *c, const struct args *a, const void *data, size_t n,
                      size_t *written)
{
    char symbol[SYMBOL_MAX + 1], *text = NULL;
    void *bytes = NULL;
    symbol_of(a->out.path, symbol);
    int rc = a->onnx ? export_onnx(data, n, &bytes, written, &c->err)
                     : export_c(data, n, a->symbol ? a->symbol : symbol, &text, written, &c->err);
    if (!rc) rc = cli_out_write(c, &a->out, a->onnx ? bytes : text, *written);
    free(bytes);
    free(text);
    return rc;
}

int cmd_export(struct cli *c, int argc, char **argv)
{
    struct args a = {0};
    struct cli_model m = {0};
    struct quant_artifact converted = {0};
    char *own = NULL;
    const void *data = NULL;
    size_t n = 0, written = 0, scratch = 0;
    int rc = parse(c, &a, argc, argv);
    if (rc) return rc;
    rc = cli_model_open(c, a.file, &m);
    if (!rc) rc = cli_model_normalises(c, &m);
    if (!rc) rc = artifact_bytes(c, &a, &m, &converted, &own, &data, &n);
    if (!rc && a.dir)
        rc = write_folder(c, &a, data, n, &written, &scratch);
    else if (!rc)
        rc = write_form(c, &a, data, n, &written);
    if (!rc && c->json)
        rc = say_json(c, &a, &m, written, scratch);
    else if (!rc && !c->quiet)
        say(&a, &m, written, scratch);
    cli_outdir_close(a.dir);
    quant_artifact_release(&converted);
    free(own);
    cli_model_close(&m);
    return rc;
}
