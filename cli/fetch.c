/* cli/fetch.c - see fetch.h. */
#include "cli/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/service.h"
#include "cli/stages.h"

/* The files of an artifact of the report: role of the blob, and end of the file's name. */
struct file {
    int what; /* enum fetch_what */
    const char *role, *ending;
};

static const struct file files[] = {
    {FETCH_ARTIFACTS, "float", "float.cinch"},
    {FETCH_ARTIFACTS, "int8", "int8.cinch"},
    {FETCH_CHECKPOINTS, "model", "model.safetensors"},
};
#define N_FILES (sizeof files / sizeof *files)

/* "cnn-s0-kd-r5-k0.5-L2", "beat-s0-patient-r5-k0.4-weight-linear": readable. */
static void stem_of(const json_t *a, char *out, size_t cap)
{
    int64_t rounds = cli_integer(a, "rounds"), round = cli_integer(a, "round");
    size_t n = (size_t)snprintf(out, cap, "%.40s-s%lld%s", cli_text(a, "net"),
                                (long long)cli_integer(a, "seed"),
                                json_is_true(json_object_get(a, "distilled")) ? "-kd" : "");
    const char *split = cli_text(a, "split"), *schedule = cli_text(a, "schedule");
    if (*split && strcmp(split, "random")) n += (size_t)snprintf(out + n, cap - n, "-%.20s", split);
    if (!rounds) return;
    bool weights = !strcmp(cli_text(a, "unit"), "weight");
    n += (size_t)snprintf(out + n, cap - n, "-r%lld-k%g-%.10s", (long long)rounds,
                          cli_real(a, "keep"), weights ? "weight" : cli_text(a, "norm"));
    if (*schedule && strcmp(schedule, "geometric"))
        n += (size_t)snprintf(out + n, cap - n, "-%.20s", schedule);
    if (round != rounds) snprintf(out + n, cap - n, "-after%lld", (long long)round);
}

/* The same, unique in the list: nets of one name but other widths get their job's id as well. */
static void unique_stem(const json_t *list, size_t i, char *out, size_t cap)
{
    char other[160];
    stem_of(json_array_get(list, i), out, cap);
    for (size_t k = 0; k < json_array_size(list); k++) {
        stem_of(json_array_get(list, k), other, sizeof other);
        if (k == i || strcmp(out, other)) continue;
        size_t n = strlen(out);
        snprintf(out + n, cap - n, "-%.20s", cli_text(json_array_get(list, i), "job"));
        return;
    }
}

/* The checkpoint behind an evaluation is the model that its first parent made. */
static int model_blob(struct cli *c, struct pr_client *client, json_t *a)
{
    json_t *job = NULL, *parent = NULL;
    int rc = cli_query(c, client, CINCH__QUERY__WHAT__SHOW, cli_text(a, "job"), &job);
    const char *id = json_string_value(json_array_get(json_object_get(job, "parents"), 0));
    if (!rc && id) rc = cli_query(c, client, CINCH__QUERY__WHAT__SHOW, id, &parent);
    const json_t *out = json_object_get(parent, "outputs");
    for (size_t i = 0; i < json_array_size(out); i++) {
        const json_t *o = json_array_get(out, i);
        if (!strcmp(cli_text(o, "role"), "model"))
            json_object_set_new(a, "blob_model", json_string(cli_text(o, "blob")));
    }
    json_decref(job);
    json_decref(parent);
    return rc;
}

static int on_stop(void *arg, uint64_t done, uint64_t total)
{
    return cli_signalled();
}

static int fetch_file(struct cli *c, struct pr_client *client, json_t *a, const struct file *f,
                      const char *stem_path)
{
    char key[32], path[4096];
    struct cn_hash hash;
    struct pr_blob_progress stop = {on_stop, NULL};
    snprintf(key, sizeof key, "blob_%s", f->role);
    const char *hex = cli_text(a, key);
    if (!*hex) return 0; /* not made */
    if (cn_hash_parse(hex, &hash))
        return cn_fail(&c->err, CN_ECORRUPT, "the report names a file by '%.80s', which is no hash",
                       hex);
    snprintf(path, sizeof path, "%s-%s", stem_path, f->ending);
    snprintf(key, sizeof key, "path_%s", f->role);
    int rc = pr_blob_get_file(client, &hash, path, &stop, &c->err);
    if (!rc) json_object_set_new(a, key, json_string(path));
    return rc;
}

static int fetch_files(struct cli *c, struct pr_client *client, json_t *doc, const char *dir,
                       int what)
{
    const json_t *list = json_object_get(doc, "artifacts");
    size_t n = json_array_size(list);
    char stem[160], path[4000];
    struct cli_progress bar;
    int rc = cn_mkdirs(dir, &c->err);
    cli_progress_start(&bar, c, "fetching", "artifacts");
    for (size_t i = 0; !rc && i < n; i++) {
        json_t *a = json_array_get(list, i);
        unique_stem(list, i, stem, sizeof stem);
        if (strchr(stem, '/'))
            rc = cn_fail(&c->err, CN_ECORRUPT, "'%s' is not a file's name", stem);
        snprintf(path, sizeof path, "%.3800s/%s", dir, stem);
        if (!rc && (what & FETCH_CHECKPOINTS)) rc = model_blob(c, client, a);
        for (size_t k = 0; !rc && k < N_FILES; k++)
            if (files[k].what & what) rc = fetch_file(c, client, a, &files[k], path);
        cli_progress_update(&bar, (double)i + 1, (double)n, NULL);
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
    if (!rc) rc = stages_write(r, dir, &drawn, &c->err);
    if (!rc && !drawn)
        cli_say(c, "gnuplot is not there or failed: figures are left as .dat and .gp");
    free(text);
    report_destroy(r);
    return rc;
}
