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
#define STEM 160 /* bytes of a file name before the role */
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

/* How often each stem stands in the list: {stem: count}. */
static json_t *count_stems(const json_t *list)
{
    json_t *counts = json_object();
    char stem[STEM];
    for (size_t i = 0; i < json_array_size(list); i++) {
        stem_of(json_array_get(list, i), stem, sizeof stem);
        json_object_set_new(counts, stem, json_integer(cli_integer(counts, stem) + 1));
    }
    return counts;
}

/* The same, unique in the list: nets of one name but other widths get their job's id as well. */
static void unique_stem(const json_t *a, const json_t *counts, char out[STEM])
{
    stem_of(a, out, STEM);
    size_t n = strlen(out);
    if (cli_integer(counts, out) > 1) snprintf(out + n, STEM - n, "-%.20s", cli_text(a, "job"));
}

/* Sets blob_model of `to`: what the job made. */
static int model_of_job(struct cli *c, struct pr_client *client, const char *id, json_t *to)
{
    json_t *job = NULL;
    int rc = cli_query(c, client, CINCH__QUERY__WHAT__SHOW, id, &job);
    const json_t *out = json_object_get(job, "outputs");
    for (size_t i = 0; i < json_array_size(out); i++) {
        const json_t *o = json_array_get(out, i);
        if (!strcmp(cli_text(o, "role"), "model"))
            json_object_set_new(to, "blob_model", json_string(cli_text(o, "blob")));
    }
    json_decref(job);
    return rc;
}

/* The checkpoint behind an evaluation is the model that its first parent made. */
static int model_of_evaluation(struct cli *c, struct pr_client *client, json_t *a)
{
    json_t *job = NULL;
    int rc = cli_query(c, client, CINCH__QUERY__WHAT__SHOW, cli_text(a, "job"), &job);
    const char *id = json_string_value(json_array_get(json_object_get(job, "parents"), 0));
    if (!rc && id) rc = model_of_job(c, client, id, a);
    json_decref(job);
    return rc;
}

static int on_stop(void *arg, uint64_t done, uint64_t total)
{
    return cli_signalled();
}

static int fetch_file(struct cli *c, struct pr_client *client, struct cli_outdir *dir, json_t *a,
                      const struct file *f, const char *stem)
{
    char key[32], name[200], path[4096];
    struct cn_hash hash;
    struct pr_blob_progress stop = {on_stop, NULL};
    bool there;
    snprintf(key, sizeof key, "blob_%s", f->role);
    const char *hex = cli_text(a, key);
    if (!*hex) return 0; /* not made */
    if (cn_hash_parse(hex, &hash))
        return cn_fail(&c->err, CN_ECORRUPT, "the report names a file by '%.80s', which is no hash",
                       hex);
    snprintf(name, sizeof name, "%s-%s", stem, f->ending);
    snprintf(path, sizeof path, "%.3800s/%s", cli_outdir_path(dir), name);
    snprintf(key, sizeof key, "path_%s", f->role);
    int rc = cli_outdir_may(c, dir, name, &hash, &there);
    if (!rc) rc = cli_outdir_note(c, dir, name, &hash);
    if (!rc && !there) rc = pr_blob_get_file(client, &hash, path, &stop, &c->err);
    if (!rc) json_object_set_new(a, key, cli_json_text(path));
    return rc;
}

/* Of every entry of `list` the files that `what` says. */
static int fetch_files(struct cli *c, struct pr_client *client, const json_t *list,
                       struct cli_outdir *dir, int what)
{
    size_t n = json_array_size(list);
    char stem[STEM];
    struct cli_progress bar;
    json_t *counts = count_stems(list);
    int rc = 0;
    cli_progress_start(&bar, c, "fetching", "artifacts");
    for (size_t i = 0; !rc && i < n; i++) {
        json_t *a = json_array_get(list, i);
        unique_stem(a, counts, stem);
        if (strchr(stem, '/'))
            rc = cn_fail(&c->err, CN_ECORRUPT, "'%s' is not a file's name", stem);
        for (size_t k = 0; !rc && k < N_FILES; k++)
            if (files[k].what & what) rc = fetch_file(c, client, dir, a, &files[k], stem);
        cli_progress_update(&bar, (double)i + 1, (double)n, NULL);
    }
    cli_progress_end(&bar);
    json_decref(counts);
    return rc;
}

/* Whether a job's model is one that the grid asks for: a trained net, or what the last round of
 * pruning left. */
static bool is_wanted(const json_t *job)
{
    const char *kind = cli_text(job, "kind");
    if (strcmp(cli_text(job, "state"), "succeeded")) return false;
    return !strcmp(kind, "train") || !strcmp(kind, "distill") ||
           (!strcmp(kind, "prune") && cli_integer(job, "round") == cli_integer(job, "rounds"));
}

/* The nets of a run that measures nothing, which its report does not name: "models" of the
 * document, with what the jobs say of them. */
static int add_models(struct cli *c, struct pr_client *client, const char *run, json_t *doc)
{
    json_t *jobs = NULL, *models = json_array();
    int rc = cli_query(c, client, CINCH__QUERY__WHAT__JOBS, run, &jobs);
    const json_t *list = json_object_get(jobs, "jobs");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(cli_text(json_array_get(list, i), "kind"), "evaluate")) goto out;
    for (size_t i = 0; !rc && i < json_array_size(list); i++) {
        json_t *job = json_array_get(list, i);
        if (!is_wanted(job)) continue;
        rc = model_of_job(c, client, cli_text(job, "job"), job);
        json_array_append(models, job);
    }
    if (!rc) json_object_set(doc, "models", models);
out:
    json_decref(jobs);
    json_decref(models);
    return rc;
}

static int add_checkpoints(struct cli *c, struct pr_client *client, const char *run, json_t *doc)
{
    const json_t *list = json_object_get(doc, "artifacts");
    int rc = 0;
    for (size_t i = 0; !rc && i < json_array_size(list); i++)
        rc = model_of_evaluation(c, client, json_array_get(list, i));
    return rc || json_array_size(list) ? rc : add_models(c, client, run, doc);
}

int fetch_run(struct cli *c, struct pr_client *client, const char *run, struct cli_outdir *dir,
              int what, json_t **doc)
{
    int rc = cli_query(c, client, CINCH__QUERY__WHAT__REPORT, run, doc);
    if (!rc && what & FETCH_CHECKPOINTS) rc = add_checkpoints(c, client, run, *doc);
    if (!rc && what) rc = fetch_files(c, client, json_object_get(*doc, "artifacts"), dir, what);
    if (!rc && what)
        rc = fetch_files(c, client, json_object_get(*doc, "models"), dir, FETCH_CHECKPOINTS);
    if (what && cli_outdir_replaced(dir))
        cli_say(c, "%s: %zu files of earlier results, which other ones of that name replace",
                cli_outdir_path(dir), cli_outdir_replaced(dir));
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

static int write_all(struct cli *c, const struct report *r, const json_t *doc, const char *dir,
                     bool *drawn)
{
    char path[4096];
    char *text = json_dumps(doc, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    snprintf(path, sizeof path, "%.4000s/report.json", dir);
    int rc = text ? cn_file_write(path, text, strlen(text), &c->err)
                  : cn_fail(&c->err, CN_ENOMEM, "out of memory");
    if (!rc) rc = write_text(c, r, dir, "report.csv", report_csv);
    if (!rc) rc = write_text(c, r, dir, "report.txt", report_print);
    if (!rc) rc = report_figures(r, dir, drawn, &c->err);
    if (!rc) rc = stages_write(r, dir, drawn, &c->err);
    free(text);
    return rc;
}

const char *const fetch_report_names[] = {"report.json", "report.csv", "report.txt", NULL};

/* All is written into a folder of its own first: a report is there whole or not at all. */
int fetch_write_report(struct cli *c, const json_t *doc, struct cli_outdir *to)
{
    struct report *r = NULL;
    bool drawn = false;
    char made[4096];
    struct cn_error ignored;
    int rc = cn_mkdirs(cli_outdir_path(to), &c->err);
    if (!rc) rc = report_create(&r, doc, &c->err);
    snprintf(made, sizeof made, "%.4000s/.report-XXXXXX", cli_outdir_path(to));
    if (!rc && !mkdtemp(made)) rc = cn_fail_errno(&c->err, "%s", made);
    if (!rc) {
        rc = write_all(c, r, doc, made, &drawn);
        if (!rc) rc = cli_outdir_take(c, to, made);
        cn_rmtree(made, &ignored);
    }
    if (!rc && !drawn)
        cli_say(c, "gnuplot is not there or failed: figures are left as .dat and .gp");
    report_destroy(r);
    return rc;
}
