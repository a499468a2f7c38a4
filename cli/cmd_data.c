/* cli/cmd_data.c - `cinch data`: datasets by name, their health, and single records to look at. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/data.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/service.h"
#include "cli/table.h"
#include "cli/upload.h"
#include "ecg/registry.h"
#include "ecg/show.h"
#include "ecg/verify.h"

/* ----------------------------------------------------------------------------------- add, list */

static int data_add(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const struct cli_option options[] = {OPT_REMOTE(&remote), OPT_END};
    struct cli_use use = {"NAME DIR [--connect WHERE]",
                          "Gives a PTB-XL or MIT-BIH folder a name. With --connect the coordinator "
                          "gets a copy too, for its\nworkers.",
                          options,
                          2,
                          2,
                          0,
                          NULL};
    char dir[4096];
    struct cn_hash fingerprint;
    struct pr_client *client = NULL;
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    const char *name = use.word[0];
    rc = ecg_registry_add(name, use.word[1], &c->err);
    if (!rc) rc = ecg_data_dir(name, dir, sizeof dir, &c->err);
    if (!rc && remote.connect) {
        rc = cli_connect(c, &remote, &client);
        if (!rc) rc = upload_dataset(c, client, dir, name, &(struct cli_parting){0}, &fingerprint);
        pr_client_close(client);
    }
    if (rc) return rc;
    const char *kind = ecg_kind_name(ecg_folder_kind(dir));
    if (c->json)
        return cli_answer_json(c,
                               json_pack("{s:s, s:s, s:o, s:b}", "name", name, "kind", kind, "dir",
                                         cli_json_text(dir), "sent", remote.connect != NULL));
    cli_print(stdout, "%s is %s (%s)%s\n", name, dir, kind, remote.connect ? ", and was sent" : "");
    return 0;
}

/* What the coordinator has; nothing when none can be reached. A new array. */
static json_t *remote_list(struct cli *c, const struct cli_remote *remote)
{
    struct cli quiet = *c;
    struct pr_client *client = NULL;
    json_t *doc = NULL;
    if (!cli_connect(&quiet, remote, &client))
        cli_query(&quiet, client, CINCH__QUERY__WHAT__DATA, NULL, &doc);
    pr_client_close(client);
    json_t *list = json_object_get(doc, "datasets");
    list = json_is_array(list) ? json_incref(list) : json_array();
    json_decref(doc);
    return list;
}

static json_t *local_list(const struct ecg_registry *reg)
{
    json_t *list = json_array();
    for (int i = 0; i < reg->n; i++) {
        const char *dir = reg->of[i].dir;
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:b}", "name", reg->of[i].name,
                                              "kind", ecg_kind_name(ecg_folder_kind(dir)), "dir",
                                              cli_json_text(dir), "there", cn_dir_exists(dir)));
    }
    return list;
}

static void print_lists(const json_t *local, const json_t *remote)
{
    struct cli_table *t = cli_table_create("NAME\tKIND\tWHERE", "lll");
    for (size_t i = 0; i < json_array_size(local); i++) {
        const json_t *d = json_array_get(local, i);
        cli_table_add(t, "%s\t%s\t%s%s", cli_text(d, "name"), cli_text(d, "kind"),
                      cli_text(d, "dir"),
                      json_is_true(json_object_get(d, "there")) ? "" : " (missing)");
    }
    for (size_t i = 0; i < json_array_size(remote); i++)
        cli_table_add(t, "%s\t\ton the coordinator", cli_text(json_array_get(remote, i), "name"));
    if (json_array_size(local) + json_array_size(remote))
        cli_table_print(t, stdout);
    else
        cli_print(stdout, "no datasets yet; `cinch data add NAME DIR` names a folder\n");
    cli_table_destroy(t);
}

static int data_list(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const struct cli_option options[] = {OPT_REMOTE(&remote), OPT_END};
    struct cli_use use = {
        "", "Lists the datasets known here and on the coordinator.", options, 0, 0, 0, NULL};
    struct ecg_registry *reg = NULL;
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc) rc = ecg_registry_list(&reg, &c->err);
    if (rc) return rc;
    json_t *local = local_list(reg), *there = remote_list(c, &remote);
    ecg_registry_destroy(reg);
    if (c->json)
        return cli_answer_json(c, json_pack("{s:o, s:o}", "datasets", local, "coordinator", there));
    print_lists(local, there);
    json_decref(local);
    json_decref(there);
    return 0;
}

static int data_remove(struct cli *c, int argc, char **argv)
{
    struct cli_use use = {"NAME", "Forgets a name; the folder stays as it is.", NULL, 1, 1, 0,
                          NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc) rc = ecg_registry_remove(use.word[0], &c->err);
    if (rc) return rc;
    if (c->json) return cli_answer_json(c, json_pack("{s:s}", "removed", use.word[0]));
    cli_print(stdout, "%s is forgotten; its folder stays\n", use.word[0]);
    return 0;
}

/* -------------------------------------------------------------------------------------- verify */

struct health {
    struct cli_progress bar;
    json_t *problems, *remarks;
};

static void on_problem(void *arg, const char *text)
{
    struct health *h = arg;
    json_array_append_new(h->problems, cli_json_text(text));
}

static void on_remark(void *arg, const char *text)
{
    struct health *h = arg;
    json_array_append_new(h->remarks, cli_json_text(text));
}

static void on_verified(void *arg, int done, int total)
{
    struct health *h = arg;
    cli_progress_update(&h->bar, done, total, NULL);
}

static json_t *fold_counts(const struct ecg_verified *v)
{
    json_t *folds = json_array();
    for (int f = 0; f <= 10; f++) {
        if (!v->rows[f]) continue;
        json_t *labels = json_object();
        for (int l = 0; l < v->n_labels; l++)
            json_object_set_new(labels, v->label[l], json_integer(v->count[f][l]));
        json_array_append_new(
            folds, json_pack("{s:i, s:i, s:o}", "fold", f, "rows", v->rows[f], "labels", labels));
    }
    return folds;
}

static void print_list(const char *title, const json_t *lines)
{
    for (size_t i = 0; i < json_array_size(lines); i++)
        cli_print(stdout, "  %s%s\n", title, json_string_value(json_array_get(lines, i)));
}

static void print_health(const struct ecg_verified *v, const struct health *h)
{
    struct cli_table *t = cli_table_create("FOLD\tROWS", "lr");
    for (int l = 0; l < v->n_labels; l++) cli_table_column(t, 'r', "%s", v->label[l]);
    for (int f = 0; f <= 10; f++) {
        if (!v->rows[f]) continue;
        cli_table_add(t, "%d\t%d", f, v->rows[f]);
        int row = cli_table_rows(t) - 1;
        if (v->kind == ECG_MITDB) cli_table_set(t, row, 0, "all");
        for (int l = 0; l < v->n_labels; l++) cli_table_set(t, row, l + 2, "%d", v->count[f][l]);
    }
    cli_table_print(t, stdout);
    cli_table_destroy(t);
    cli_print(stdout, "%d records, %.1f MB, %d without a label, %d damaged\n", v->records,
              (double)v->bytes / 1e6, v->unlabelled, v->damaged);
    if (v->bridged) cli_print(stdout, "%lld missing samples bridged\n", (long long)v->bridged);
    print_list("", h->problems);
    print_list("note: ", h->remarks);
}

static json_t *health_json(const char *name, const struct ecg_verified *v, const struct health *h)
{
    return json_pack("{s:o, s:s, s:i, s:i, s:i, s:i, s:I, s:I, s:o, s:O, s:O}", "name",
                     cli_json_text(name), "kind", ecg_kind_name(v->kind), "records", v->records,
                     "damaged", v->damaged, "unlabelled", v->unlabelled, "unknown", v->unknown,
                     "bridged", (json_int_t)v->bridged, "bytes", (json_int_t)v->bytes, "folds",
                     fold_counts(v), "problems", h->problems, "remarks", h->remarks);
}

static int verify_folder(struct cli *c, const char *name, const char *dir,
                         const struct ecg_gaps *gaps)
{
    struct health h = {.problems = json_array(), .remarks = json_array()};
    struct ecg_verified v = {0};
    struct ecg_verify ask = {.dir = dir,
                             .gaps = *gaps,
                             .problem = on_problem,
                             .remark = on_remark,
                             .progress = on_verified,
                             .arg = &h};
    cli_progress_start(&h.bar, c, "verifying", "records");
    int rc = ecg_verify(&ask, &v, &c->err);
    cli_progress_end(&h.bar);
    bool read = !rc || (v.records && (rc == CN_ECORRUPT || json_array_size(h.problems)));
    if (read && c->json) {
        struct cn_error err = c->err; /* of the verification: writing must not hide it */
        int put = cli_answer_json(c, health_json(name, &v, &h));
        if (rc) c->err = err;
        if (!rc) rc = put;
    } else if (read) {
        print_health(&v, &h);
    }
    json_decref(h.problems);
    json_decref(h.remarks);
    return rc;
}

static int data_verify(struct cli *c, int argc, char **argv)
{
    const struct cli_option options[] = {OPT_GAPS(c), OPT_END};
    struct cli_use use = {
        "NAME",
        "Reads every record of a dataset (a known name or a folder) as training would, verifies "
        "its "
        "checksums,\ncounts its labels, and tells of records that are there twice and patients in "
        "several folds.",
        options,
        1,
        1,
        0,
        NULL};
    char dir[4096];
    struct ecg_gaps gaps;
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc) rc = ecg_gaps_parse(&gaps, c->gaps, &c->err);
    if (!rc) rc = ecg_data_dir(use.word[0], dir, sizeof dir, &c->err);
    return rc ? rc : verify_folder(c, use.word[0], dir, &gaps);
}

/* ---------------------------------------------------------------------------------------- show */

static const char *const stages[] = {"raw", "filtered", "normalised", NULL};

struct show {
    const char *data, *csv, *svg;
    struct cli_out out; /* the one of them that is given */
    int stage;
    double start, seconds;
};

static int write_or_print(struct cli *c, const struct ecg_strip *s, const struct show *a)
{
    char *text = NULL;
    size_t n = 0;
    int rc = a->svg ? ecg_strip_svg(s, &text, &n, &c->err) : ecg_strip_csv(s, &text, &n, &c->err);
    if (!rc && a->out.path) rc = cli_out_write(c, &a->out, text, n);
    if (!rc && a->out.path && !c->json && cli_out_words(&a->out) == stdout)
        cli_print(stdout, "%s: %s, %d leads x %d samples, %s\n", a->out.path, s->record, s->leads,
                  s->samples, stages[a->stage]);
    if (!rc && !a->out.path && !c->json) fwrite(text, 1, n, stdout);
    free(text);
    return rc;
}

static int answer_strip(struct cli *c, const struct ecg_strip *s, const struct show *a)
{
    json_t *leads = json_object(), *missing = json_object();
    for (int l = 0; l < s->leads; l++) {
        json_t *x = json_array();
        for (int t = 0; t < s->samples; t++)
            json_array_append_new(x, cli_json_real((double)s->x[l * s->samples + t]));
        json_object_set_new(leads, s->lead[l], x);
        if (s->missing[l]) json_object_set_new(missing, s->lead[l], json_integer(s->missing[l]));
    }
    json_t *doc = json_pack("{s:o, s:s, s:s, s:f, s:f, s:i, s:o, s:o, s:I}", "record",
                            cli_json_text(s->record), "stage", stages[a->stage], "unit",
                            a->stage == ECG_NORMALISED ? "" : "mV", "hz", s->hz, "start", s->start,
                            "samples", s->samples, "leads", leads, "missing", missing, "bridged",
                            (json_int_t)s->bridged);
    if (a->svg || a->csv) json_object_set_new(doc, "path", cli_json_text(a->svg ? a->svg : a->csv));
    return cli_answer_json(c, doc);
}

/* A record's own files are inputs. */
static int check_strip_out(struct cli *c, const struct show *a, const char *record)
{
    char header[4200], signal[4200];
    struct cli_out out = a->out;
    snprintf(header, sizeof header, "%s.hea", record);
    snprintf(signal, sizeof signal, "%s.dat", record);
    out.form = a->svg ? CLI_FORM_SVG : CLI_FORM_CSV;
    out.input[0] = header;
    out.input[1] = signal;
    return cli_out_check(c, &out);
}

static int show_record(struct cli *c, const struct show *a, const char *record)
{
    char path[4096];
    struct ecg_dataset *d = NULL;
    struct ecg_strip *s = NULL;
    struct ecg_norm norm = {0};
    int rc = ecg_record_locate(a->data, record, path, sizeof path, &c->err);
    if (!rc) rc = check_strip_out(c, a, path);
    if (!rc && a->stage == ECG_NORMALISED) {
        if (!a->data)
            rc = cn_fail(&c->err, CN_EINVALID,
                         "--stage normalised needs --data: the dataset whose training folds give "
                         "mean and deviation");
        if (!rc) rc = cli_dataset_open(c, a->data, &d);
        if (!rc) norm = (struct ecg_norm){d->mean, d->std};
    }
    struct ecg_show ask = {.path = path,
                           .stage = (enum ecg_stage)a->stage,
                           .norm = d ? &norm : NULL,
                           .start = a->start,
                           .seconds = a->seconds};
    if (!rc) rc = ecg_gaps_parse(&ask.gaps, c->gaps, &c->err);
    if (!rc) rc = ecg_strip_load(&s, &ask, &c->err);
    if (!rc && (a->csv || a->svg || !c->json)) rc = write_or_print(c, s, a);
    if (!rc && c->json) rc = answer_strip(c, s, a);
    ecg_strip_destroy(s);
    ecg_dataset_close(d);
    return rc;
}

static int data_show(struct cli *c, int argc, char **argv)
{
    struct show a = {.stage = ECG_RAW, .seconds = NAN};
    const struct cli_option options[] = {
        OPT_TEXT("data", 0, &a.data, "DIR", "the folder or known name that holds the record"),
        OPT_GAPS(c),
        OPT_CHOICE("stage", &a.stage, "STAGE", stages, "raw (default), filtered, normalised"),
        OPT_TEXT("csv", 0, &a.csv, "OUT", "write CSV there; - is the terminal, the default"),
        OPT_TEXT("svg", 0, &a.svg, "OUT", "draw it on ECG paper"),
        OPT_REAL("start", &a.start, "S", "from this second"),
        OPT_REAL("seconds", &a.seconds, "S", "so long; 10"),
        OPT_FORCE(&a.out),
        OPT_END};
    struct cli_use use = {"RECORD [--stage raw|filtered|normalised] [--csv|--svg OUT]",
                          "One record, by path or name, as numbers or as a picture.",
                          options,
                          1,
                          1,
                          0,
                          NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc && a.csv && a.svg)
        rc = cn_fail(&c->err, CN_EINVALID, "--csv and --svg exclude each other");
    if (!rc && a.seconds <= 0)
        rc = cn_fail(&c->err, CN_EINVALID, "--seconds is a length of time; %g is none", a.seconds);
    if (isnan(a.seconds)) a.seconds = 0; /* the default of what draws it */
    a.out.path = a.svg ? a.svg : a.csv;
    return rc ? rc : show_record(c, &a, use.word[0]);
}

static const struct cli_command commands[] = {
    {"add", "NAME DIR", data_add, NULL},
    {"list", "", data_list, NULL},
    {"remove", "NAME", data_remove, NULL},
    {"verify", "NAME", data_verify, NULL},
    {"show", "RECORD [--stage raw|filtered|normalised] [--csv|--svg OUT]", data_show, NULL},
    {NULL, NULL, NULL, NULL},
};

int cmd_data(struct cli *c, int argc, char **argv)
{
    return cli_subcommands(c, commands, "data command",
                           "Datasets by name, their health, and single records.", argc, argv);
}
