/* cli/cmd_runs.c - looking at what the coordinator holds: ls, show, log, explain, workers. Under
 * --json the coordinator's own document is passed on. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/service.h"
#include "cli/table.h"

/* One question with one answer, for all commands of this file. */
struct question {
    Cinch__Query__What what;
    const char *operands, *about;
    int words;
    void (*print)(const json_t *doc);
};

static int ask(struct cli *c, const struct question *q, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const struct cli_option options[] = {OPT_REMOTE(&remote), OPT_END};
    struct cli_use use = {q->operands, q->about, options, q->words, q->words, 0, NULL};
    struct pr_client *client = NULL;
    json_t *doc = NULL;
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    rc = cli_connect(c, &remote, &client);
    if (!rc) rc = cli_query(c, client, q->what, q->words ? use.word[0] : NULL, &doc);
    pr_client_close(client);
    if (rc) return rc;
    if (c->json) return cli_answer_json(c, doc);
    q->print(doc);
    json_decref(doc);
    return 0;
}

static enum cli_colour state_colour(const char *state)
{
    if (!strcmp(state, "failed")) return CLI_RED;
    if (!strcmp(state, "done") || !strcmp(state, "succeeded")) return CLI_GREEN;
    if (!strcmp(state, "running") || !strcmp(state, "leased")) return CLI_YELLOW;
    return CLI_PLAIN;
}

/* "2026-11-22T08:33:00.123Z" or milliseconds -> "11-22 08:33:00" */
static void short_time(const json_t *v, char out[32])
{
    char text[32] = "";
    if (json_is_string(v))
        snprintf(text, sizeof text, "%s", json_string_value(v));
    else if (json_is_integer(v))
        cn_wall_text(json_integer_value(v), text);
    snprintf(out, 32, "%.5s %.8s", strlen(text) > 5 ? text + 5 : "",
             strlen(text) > 11 ? text + 11 : "");
}

static int total_of(const json_t *jobs)
{
    static const char *const states[] = {"waiting", "ready",     "leased", "succeeded",
                                         "failed",  "cancelled", "blocked"};
    int n = 0;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        n += (int)cli_integer(jobs, states[i]);
    return n;
}

static void print_list(const json_t *doc)
{
    const json_t *runs = json_object_get(doc, "runs");
    struct cli_table *t =
        cli_table_create("RUN\tNAME\tUSER\tSTATE\tDONE\tJOBS\tFAILED\tFILED", "llllrrrl");
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *r = json_array_get(runs, i), *jobs = json_object_get(r, "jobs");
        const char *state = cli_run_state(r);
        char filed[32];
        short_time(json_object_get(r, "created"), filed);
        cli_table_add(t, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s", cli_text(r, "run"), cli_text(r, "name"),
                      cli_text(r, "user"), state, (int)cli_integer(jobs, "succeeded"),
                      total_of(jobs), (int)cli_integer(jobs, "failed"), filed);
        cli_table_colour(t, 3, state_colour(state));
    }
    if (json_array_size(runs))
        cli_table_print(t, stdout);
    else
        cli_print(stdout, "no runs yet; `cinch submit GRID` files one\n");
    cli_table_destroy(t);
}

int cmd_ls(struct cli *c, int argc, char **argv)
{
    static const struct question q = {CINCH__QUERY__WHAT__LIST, "", "Lists the runs.", 0,
                                      print_list};
    return ask(c, &q, argc, argv);
}

/* Text of several lines stands below its key, indented. */
static void print_text(const char *text, int depth)
{
    if (!strchr(text, '\n')) {
        cli_print(stdout, "%s\n", text);
        return;
    }
    putchar('\n');
    for (const char *p = text; *p;) {
        int n = (int)strcspn(p, "\n");
        cli_print(stdout, "%*s%.*s\n", depth * 2 + 2, "", n, p);
        p += n + (p[n] == '\n');
    }
}

/* A document as indented "key: value" lines; a list of plain values on one line, a list of objects
 * with one line each. */
static void print_fields(const json_t *o, int depth)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v)
    {
        cli_print(stdout, "%*s%s: ", depth * 2, "", key);
        if (json_is_object(v)) {
            putchar('\n');
            print_fields(v, depth + 1);
        } else if (json_is_string(v)) {
            print_text(json_string_value(v), depth);
        } else if (json_is_object(json_array_get(v, 0))) {
            putchar('\n');
            for (size_t i = 0; i < json_array_size(v); i++) {
                cli_print(stdout, "%*s", depth * 2 + 2, "");
                cli_put_json(stdout, json_array_get(v, i), JSON_REAL_PRECISION(5));
                putchar('\n');
            }
        } else {
            cli_put_json(stdout, v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
            putchar('\n');
        }
    }
}

static void print_show(const json_t *doc)
{
    json_t *shown = json_copy((json_t *)doc);
    json_object_set_new(shown, "state", json_string(cli_run_state(doc)));
    json_object_del(shown, "paused");
    print_fields(shown, 0);
    json_decref(shown);
}

int cmd_show(struct cli *c, int argc, char **argv)
{
    static const struct question q = {CINCH__QUERY__WHAT__SHOW, "ID",
                                      "Everything about a run (r12) or a job (j345).", 1,
                                      print_show};
    return ask(c, &q, argc, argv);
}

static void print_log(const json_t *doc)
{
    const json_t *events = json_object_get(doc, "events");
    struct cli_table *t = cli_table_create("TIME\tEVENT\tJOB\tWORKER\tTEXT", "lllll");
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *e = json_array_get(events, i);
        char when[32];
        short_time(json_object_get(e, "time"), when);
        cli_table_add(t, "%s\t%s\t%s\t%s\t%s", when, cli_text(e, "type"), cli_text(e, "job"),
                      cli_text(e, "worker"), cli_text(e, "text"));
    }
    cli_table_print(t, stdout);
    cli_table_destroy(t);
}

int cmd_log(struct cli *c, int argc, char **argv)
{
    static const struct question q = {CINCH__QUERY__WHAT__LOG, "ID",
                                      "What happened to a run (r12) or a job (j345), in order.", 1,
                                      print_log};
    return ask(c, &q, argc, argv);
}

static void print_explain(const json_t *doc)
{
    cli_print(stdout, "%s (%s): %s\n", cli_text(doc, "id"), cli_run_state(doc),
              cli_text(doc, "text"));
}

int cmd_explain(struct cli *c, int argc, char **argv)
{
    static const struct question q = {CINCH__QUERY__WHAT__EXPLAIN, "ID",
                                      "Says in words why a job waits or failed.", 1, print_explain};
    return ask(c, &q, argc, argv);
}

/* "native 9, cudnn 5": how many ops each engine does on a GPU worker; --json lists them. */
static void count_engines(const json_t *list, char *out, size_t cap)
{
    int cudnn = 0, n = (int)json_array_size(list);
    for (int i = 0; i < n; i++)
        cudnn += !strcmp(cli_text(json_array_get(list, (size_t)i), "engine"), "cudnn");
    *out = 0;
    if (n) snprintf(out, cap, "native %d, cudnn %d", n - cudnn, cudnn);
}

static void device_text(const json_t *w, char *out, size_t cap)
{
    int64_t bytes = cli_integer(w, "gpu_bytes"), gpus = cli_integer(w, "gpus");
    const char *name = cli_text(w, "device");
    if (!bytes)
        snprintf(out, cap, "CPU %s", cli_text(w, "isa"));
    else
        snprintf(out, cap, "%.0lld%s%s %.0f GB", gpus > 1 ? (long long)gpus : 0,
                 gpus > 1 ? " x " : "", *name ? name : "GPU", (double)bytes / 1e9);
}

static void print_workers(const json_t *doc)
{
    const json_t *list = json_object_get(doc, "workers");
    struct cli_table *t = cli_table_create(
        "WORKER\tHOST\tDEVICE\tSLOTS\tHOLDS\tDONE\tSTATE\tDOES\tKERNELS", "lllrrrlll");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *w = json_array_get(list, i), *kinds = json_object_get(w, "kinds");
        char does[128] = "", device[192], kernels[64];
        for (size_t k = 0; k < json_array_size(kinds); k++) {
            size_t n = strlen(does);
            const char *name = json_string_value(json_array_get(kinds, k));
            snprintf(does + n, sizeof does - n, "%s%s", n ? " " : "", name ? name : "?");
        }
        bool here = json_is_true(json_object_get(w, "connected"));
        bool draining = json_is_true(json_object_get(w, "draining"));
        device_text(w, device, sizeof device);
        count_engines(json_object_get(w, "engines"), kernels, sizeof kernels);
        cli_table_add(t, "%s\t%s\t%s\t%lld\t%lld\t%lld\t%s\t%s\t%s", cli_text(w, "worker"),
                      cli_text(w, "host"), device, (long long)cli_integer(w, "slots"),
                      (long long)cli_integer(w, "held"), (long long)cli_integer(w, "done"),
                      !here      ? "gone"
                      : draining ? "draining"
                                 : "here",
                      does, kernels);
    }
    if (json_array_size(list))
        cli_table_print(t, stdout);
    else
        cli_print(stdout, "no workers; `cinch-train --cpu` and `cinch-eval` start them\n");
    cli_table_destroy(t);
}

int cmd_workers(struct cli *c, int argc, char **argv)
{
    static const struct question q = {CINCH__QUERY__WHAT__WORKERS, "", "Lists the workers.", 0,
                                      print_workers};
    return ask(c, &q, argc, argv);
}
