/* cli/fetch.c - see fetch.h. */
#include "cli/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/service.h"

/* The kinds of file that an artifact of the report names. */
static const struct {
    int what;                         /* enum fetch_what */
    const char *hash, *path, *ending; /* keys in the document; end of the file's name */
} files[] = {
    {FETCH_ARTIFACTS, "blob_float", "path_float", "float.cinch"},
    {FETCH_ARTIFACTS, "blob_int8", "path_int8", "int8.cinch"},
    {FETCH_CHECKPOINTS, "blob_model", "path_model", "model.safetensors"},
};
#define N_FILES (sizeof files / sizeof *files)

/* "cnn-s0-kd-r5-k0.5-L2" without ending: readable, and unique within a run. */
static void stem_of(const json_t *a, char *out, size_t cap)
{
    const json_t *round = json_object_get(a, "round");
    int64_t rounds = cli_integer(a, "rounds");
    const json_t *widths = json_object_get(a, "full_widths");
    int n = snprintf(out, cap, "%s", cli_text(a, "net"));
    for (size_t i = 0; i < json_array_size(widths); i++)
        n += snprintf(out + n, cap - (size_t)n, "%c%lld", i ? 'x' : '_',
                      (long long)json_integer_value(json_array_get(widths, i)));
    n += snprintf(out + n, cap - (size_t)n, "-s%lld%s", (long long)cli_integer(a, "seed"),
                  json_is_true(json_object_get(a, "distilled")) ? "-kd" : "");
    if (!rounds) return;
    n += snprintf(out + n, cap - (size_t)n, "-r%lld-k%g-%s", (long long)rounds, cli_real(a, "keep"),
                  cli_text(a, "norm"));
    if (json_is_integer(round) && json_integer_value(round) != rounds)
        snprintf(out + n, cap - (size_t)n, "-after%lld", (long long)json_integer_value(round));
}

static int on_stop(void *arg, uint64_t done, uint64_t total)
{
    return cli_signalled();
}

static int fetch_file(struct cli *c, struct pr_client *client, json_t *a, const char *dir, int k)
{
    char stem[256], path[4096];
    struct cn_hash hash;
    struct pr_blob_progress stop = {on_stop, NULL};
    const char *hex = cli_text(a, files[k].hash);
    if (!*hex) return 0; /* not made: a float net without int8, or a failed evaluation */
    if (cn_hash_parse(hex, &hash))
        return cn_fail(&c->err, CN_ECORRUPT, "the report names a file by '%.80s', which is no hash",
                       hex);
    stem_of(a, stem, sizeof stem);
    if (strchr(stem, '/')) return cn_fail(&c->err, CN_ECORRUPT, "'%s' is not a file's name", stem);
    snprintf(path, sizeof path, "%s/%s-%s", dir, stem, files[k].ending);
    int rc = pr_blob_get_file(client, &hash, path, &stop, &c->err);
    if (!rc) json_object_set_new(a, files[k].path, json_string(path));
    return rc;
}

static int fetch_files(struct cli *c, struct pr_client *client, json_t *doc, const char *dir,
                       int what)
{
    const json_t *list = json_object_get(doc, "artifacts");
    size_t n = json_array_size(list);
    struct cli_progress bar;
    int rc = cn_mkdirs(dir, &c->err);
    cli_progress_start(&bar, c, "fetching", "artifacts");
    for (size_t i = 0; !rc && i < n; i++) {
        for (size_t k = 0; !rc && k < N_FILES; k++)
            if (files[k].what & what)
                rc = fetch_file(c, client, json_array_get(list, i), dir, (int)k);
        cli_progress_update(&bar, (double)i, (double)n, NULL);
    }
    cli_progress_end(&bar);
    return rc;
}

int fetch_run(struct cli *c, struct pr_client *client, const char *run, const char *dir, int what,
              json_t **doc)
{
    int rc = cli_query(c, client, CINCH__QUERY__WHAT__REPORT, run, doc);
    if (!rc && dir && what) rc = fetch_files(c, client, *doc, dir, what);
    if (rc) {
        json_decref(*doc);
        *doc = NULL;
    }
    return rc;
}

static int write_text(struct cli *c, const struct report *r, const char *dir, const char *name,
                      void (*print)(const struct report *, FILE *))
{
    char path[4096], *text = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = open_memstream(&text, &n);
    if (!f) return cn_fail(&c->err, CN_ENOMEM, "out of memory");
    print(r, f);
    fclose(f);
    int rc = cn_file_write(path, text, n, &c->err);
    free(text);
    return rc;
}

int fetch_write_report(struct cli *c, const json_t *doc, const char *dir)
{
    struct report *r = NULL;
    bool drawn = false;
    char path[4096];
    int rc = cn_mkdirs(dir, &c->err);
    if (!rc) rc = report_create(&r, doc, &c->err);
    char *text = rc ? NULL : json_dumps(doc, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    snprintf(path, sizeof path, "%s/report.json", dir);
    if (!rc && !text) rc = cn_fail(&c->err, CN_ENOMEM, "out of memory");
    if (!rc) rc = cn_file_write(path, text, strlen(text), &c->err);
    if (!rc) rc = write_text(c, r, dir, "report.csv", report_csv);
    if (!rc) rc = write_text(c, r, dir, "report.txt", report_print);
    if (!rc) rc = report_figures(r, dir, &drawn, &c->err);
    if (!rc && !drawn)
        cli_say(c, "gnuplot is not there or failed: figures are left as .dat and .gp");
    free(text);
    report_destroy(r);
    return rc;
}
