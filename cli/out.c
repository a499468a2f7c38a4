/* cli/out.c - see out.h. The table of endings knows the formats that people exchange nets, signals and
 * tables in; a name with an ending that is not in it, or without one, is as good as any. */
#include "cli/out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"

#define SPARE_NAMES 9

struct ending {
    const char *text;
    int forms; /* 0: none that cinch writes to a file of the user's choice */
};

static const struct ending endings[] = {
    {"safetensors", CLI_FORM_MODEL}, {"cinch", CLI_FORM_ARTIFACT},
    {"onnx", CLI_FORM_ONNX},         {"c", CLI_FORM_C},
    {"csv", CLI_FORM_CSV},           {"svg", CLI_FORM_SVG},
    {"key", CLI_FORM_KEY},           {"txt", CLI_FORM_TEXT | CLI_FORM_CSV | CLI_FORM_KEY},
    {"md", CLI_FORM_TEXT},           {"log", CLI_FORM_TEXT},
};

/* PyTorch, Keras, TensorFlow, NumPy and others; signals; pictures, tables and archives. */
static const char *const foreign[] = {
    "pt",     "pth",  "ckpt", "pkl",  "pickle",  "joblib", "h5",   "hdf5", "keras",  "pb",
    "tflite", "npz",  "npy",  "gguf", "mat",     "hea",    "dat",  "atr",  "edf",    "bdf",
    "scp",    "wav",  "png",  "jpg",  "jpeg",    "gif",    "pdf",  "eps",  "xml",    "html",
    "htm",    "json", "yaml", "yml",  "toml",    "tsv",    "xls",  "xlsx", "tex",    "zip",
    "tar",    "gz",   "xz",   "zst",  "h",       "cc",     "cpp",  "cu",   "rs",     "py",
    "sh",     "o",    "so",   "a",    "mlmodel", "pte",    "xlsb", "ods",  "parquet"};

/* The forms that a name may hold, or -1 where its ending says nothing. */
static int forms_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    if (!dot || dot == name) return -1;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(endings[i].text, dot + 1)) return endings[i].forms;
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (!strcasecmp(foreign[i], dot + 1)) return 0;
    return -1;
}

static const char *form_name(enum cli_form form)
{
    switch (form) {
    case CLI_FORM_MODEL:
        return "safetensors";
    case CLI_FORM_ARTIFACT:
        return "a .cinch artifact";
    case CLI_FORM_ONNX:
        return "ONNX";
    case CLI_FORM_C:
        return "C source";
    case CLI_FORM_CSV:
        return "CSV";
    case CLI_FORM_SVG:
        return "SVG";
    case CLI_FORM_KEY:
        return "a key file";
    default:
        return "plain text";
    }
}

int cli_out_ending(struct cli *c, const char *path, enum cli_form form)
{
    int forms = forms_of(path);
    if (forms < 0 || forms & (int)form) return 0;
    return cn_fail(&c->err, CN_EINVALID,
                   "%s: what is written is %s, and the ending '%s' stands for another format; give "
                   "the file another name",
                   path, form_name(form), strrchr(path, '.'));
}

/* `-`, and the names under which systems have standard output among the files. */
static bool is_stdout(const char *path)
{
    return !strcmp(path, "-") || !strcmp(path, "/dev/stdout") || !strcmp(path, "/dev/fd/1") ||
           !strcmp(path, "/proc/self/fd/1");
}

bool cli_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int check_inputs(struct cli *c, const struct cli_out *out)
{
    for (int i = 0; i < CLI_OUT_INPUTS; i++)
        if (out->input[i] && cli_same_file(out->path, out->input[i]))
            return cn_fail(&c->err, CN_EINVALID,
                           "%s would overwrite %s, which this command reads; name another file",
                           out->path, out->input[i]);
    return 0;
}

static int check_place(struct cli *c, const struct cli_out *out)
{
    struct stat st;
    if (!stat(out->path, &st)) {
        if (S_ISDIR(st.st_mode))
            return cn_fail(&c->err, CN_EINVALID, "%s is a folder; name a file in it", out->path);
        if (S_ISREG(st.st_mode) && !out->force)
            return cn_fail(&c->err, CN_EEXISTS,
                           "%s exists already; name another file, or --force replaces it",
                           out->path);
    }
    return cn_file_probe(out->path, &c->err);
}

int cli_out_check(struct cli *c, const struct cli_out *out)
{
    if (!out->path) return 0;
    if (is_stdout(out->path)) {
        if (!c->json) return 0;
        return cn_fail(&c->err, CN_EINVALID,
                       "%s is standard output, where --json puts its document; name a file",
                       out->path);
    }
    int rc = cli_out_ending(c, out->path, out->form);
    if (!rc) rc = check_inputs(c, out);
    return rc ? rc : check_place(c, out);
}

/* Under a free name, FOLDER + NAME.1 and so on; false where that cannot be. */
static bool write_spare(const char *folder, const char *name, char path[4200], const void *data,
                        size_t n)
{
    for (int i = 1; i <= SPARE_NAMES; i++) {
        struct cn_error ignored;
        if (snprintf(path, 4200, "%s%s.%d", folder, name, i) >= 4200) return false;
        int rc = cn_file_write_new(path, data, n, &ignored);
        if (rc != CN_EEXISTS && rc != CN_EINVALID) return !rc;
    }
    return false;
}

/* The result of long work goes somewhere, if there is any place for it: beside the file that it should
 * have been, else into the folder one is in, else to where temporary files go. `c->err` says why it
 * could not go where it should; what comes back is a failure of the work, not of the command line. */
static int write_beside(struct cli *c, const struct cli_out *out, const void *data, size_t n)
{
    struct stat st;
    char path[4200], temporary[2048];
    struct cn_error why = c->err;
    const char *slash = strrchr(out->path, '/'), *name = slash ? slash + 1 : out->path;
    const char *tmpdir = getenv("TMPDIR");
    bool stream = !stat(out->path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
    snprintf(temporary, sizeof temporary, "%s/", tmpdir && *tmpdir ? tmpdir : "/tmp");
    if (!stream &&
        (write_spare("", out->path, path, data, n) || write_spare("", name, path, data, n) ||
         write_spare(temporary, name, path, data, n)))
        return cn_fail(&c->err, CN_EIO, "%s; the result is in %s instead", why.text, path);
    return cn_fail(&c->err, CN_EIO, "%s", why.text);
}

int cli_out_write(struct cli *c, const struct cli_out *out, const void *data, size_t n)
{
    if (is_stdout(out->path)) {
        if (fwrite(data, 1, n, stdout) == n && !fflush(stdout)) return 0;
        return cn_fail_errno(&c->err, "cannot write to stdout");
    }
    int rc = out->force ? cn_file_write(out->path, data, n, &c->err)
                        : cn_file_write_new(out->path, data, n, &c->err);
    return rc ? write_beside(c, out, data, n) : 0;
}

FILE *cli_out_words(const struct cli_out *out)
{
    return out->path && is_stdout(out->path) ? stderr : stdout;
}
