/* cli/watch.c - see watch.h. Asks for the run and its jobs whenever the coordinator reports an
 * event, at most four times a second. The time left comes from the jobs ended since we began to
 * look, with running jobs counted by the share that they have done. */
#include "cli/watch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/progress.h"
#include "cli/service.h"

#define POLL_MS 1000
#define PAUSE_MS 250
#define LINE_EVERY_MS 10000
#define STALL_MS 5000
#define MAX_JOB_LINES 8
#define BAR 24

struct view {
    const struct cli *c;
    const char *run;
    bool terminal;
    int lines; /* drawn last time, to be drawn over */
    int64_t start_ms, last_ms;
    double first, last; /* jobs done when we began to look, when we last printed */
};

/* Why nothing moves, once nothing has for a while; said again when the reason changes. */
struct stall {
    int64_t since_ms; /* 0: something runs */
    char said[256];
};

struct counts {
    int total, succeeded, failed, leased;
    double running; /* jobs' worth of work inside the leased ones */
};

static struct counts count(const json_t *show)
{
    const json_t *jobs = json_object_get(show, "jobs");
    struct counts n = {.succeeded = (int)cli_integer(jobs, "succeeded"),
                       .failed = (int)cli_integer(jobs, "failed"),
                       .leased = (int)cli_integer(jobs, "leased")};
    n.total = n.succeeded + n.failed + n.leased + (int)cli_integer(jobs, "waiting") +
              (int)cli_integer(jobs, "ready") + (int)cli_integer(jobs, "cancelled") +
              (int)cli_integer(jobs, "blocked");
    return n;
}

static double share_done(const json_t *job)
{
    const json_t *p = json_object_get(job, "progress");
    double epochs = cli_real(p, "epochs"), epoch = cli_real(p, "epoch");
    double batches = cli_real(p, "batches"), batch = cli_real(p, "batch");
    if (!(epochs > 0) || !(epoch > 0)) return 0;
    double share = (epoch - 1 + (batches > 0 ? batch / batches : 1)) / epochs;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

static void erase(struct view *v)
{
    if (v->terminal && v->lines) fprintf(stderr, "\033[%dA\033[J", v->lines);
    v->lines = 0;
}

static void draw_summary(struct view *v, const struct counts *n, bool paused)
{
    double done = n->succeeded + n->running, seconds = (double)(cn_mono_ms() - v->start_ms) / 1000;
    double rate = seconds > 0 ? (done - v->first) / seconds : 0;
    double share = n->total ? done / n->total : 0;
    char left[24], spent[24], bar[BAR * 3 + 1] = "";
    cli_duration(rate > 0 ? (n->total - n->failed - done) / rate : -1, left);
    cli_duration(seconds, spent);
    for (int i = 0; i < BAR; i++) strcat(bar, i < (int)(share * BAR + 0.5) ? "█" : "·");
    fprintf(stderr, "%s %s%s%d/%d jobs, %d running", v->run, v->terminal ? bar : "",
            v->terminal ? " " : "", n->succeeded, n->total, n->leased);
    if (n->failed)
        fprintf(stderr, ", %s%d failed%s", cli_colour(2, CLI_RED), n->failed,
                cli_colour(2, CLI_PLAIN));
    if (paused)
        fprintf(stderr, ", %spaused%s", cli_colour(2, CLI_YELLOW), cli_colour(2, CLI_PLAIN));
    fprintf(stderr, ", %.1f jobs/min, %s gone, %s left\n", rate * 60, spent, left);
    v->lines++;
}

static void draw_job(struct view *v, const json_t *job)
{
    const json_t *p = json_object_get(job, "progress");
    double score = cli_real(p, "val_score"), rate = cli_real(p, "records_per_s");
    cli_print(stderr, "  %s %s %s seed %lld", cli_text(job, "job"), cli_text(job, "kind"),
              cli_text(job, "net"), (long long)cli_integer(job, "seed"));
    if (cli_integer(job, "round"))
        fprintf(stderr, " keep %g round %lld/%lld", cli_real(job, "keep"),
                (long long)cli_integer(job, "round"), (long long)cli_integer(job, "rounds"));
    if (cli_integer(p, "epochs") > 1)
        fprintf(stderr, ": epoch %lld/%lld", (long long)cli_integer(p, "epoch"),
                (long long)cli_integer(p, "epochs"));
    else if (*cli_text(p, "stage"))
        cli_print(stderr, ": %s", cli_text(p, "stage"));
    if (isfinite(score) && score > 0) fprintf(stderr, ", validation %.4f", score);
    if (isfinite(rate) && rate > 0) fprintf(stderr, ", %.0f records/s", rate);
    fputc('\n', stderr);
    v->lines++;
}

static void draw(struct view *v, const json_t *show, const json_t *jobs)
{
    struct counts n = count(show);
    const json_t *list = json_object_get(jobs, "jobs");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!strcmp(cli_text(json_array_get(list, i), "state"), "leased"))
            n.running += share_done(json_array_get(list, i));
    int64_t now = cn_mono_ms();
    double done = n.succeeded + n.failed + n.running;
    if (!v->start_ms) {
        v->start_ms = now;
        v->first = n.succeeded + n.running;
    } else if (!v->terminal && (now - v->last_ms < LINE_EVERY_MS || done == v->last)) {
        return;
    }
    v->last_ms = now;
    v->last = done;
    if (v->c->quiet) return;
    erase(v);
    if (v->terminal)
        fputs("\033[?7l", stderr); /* long lines are cut, not wrapped: they are counted */
    draw_summary(v, &n, json_is_true(json_object_get(show, "paused")));
    for (size_t i = 0; i < json_array_size(list) && v->lines <= MAX_JOB_LINES; i++)
        if (json_object_get(json_array_get(list, i), "progress")) /* not merely on its way */
            draw_job(v, json_array_get(list, i));
    if (v->terminal) fputs("\033[?7h", stderr);
}

static int explain_stall(struct cli *c, struct pr_client *client, const char *run,
                         const json_t *show, struct stall *s)
{
    struct counts n = count(show);
    json_t *doc = NULL;
    int64_t now = cn_mono_ms();
    if (n.leased || !s->since_ms) s->since_ms = n.leased ? 0 : now;
    if (n.leased || now - s->since_ms < STALL_MS) return 0;
    int rc = cli_query(c, client, CINCH__QUERY__WHAT__EXPLAIN, run, &doc);
    const char *text = cli_text(doc, "text");
    if (!rc && strncmp(text, s->said, sizeof s->said - 1)) {
        snprintf(s->said, sizeof s->said, "%s", text);
        cli_say(c, "nothing runs: %s", text);
    }
    json_decref(doc);
    return rc;
}

static bool ended(const json_t *show)
{
    const char *s = cli_text(show, "state");
    return !strcmp(s, "done") || !strcmp(s, "failed") || !strcmp(s, "cancelled");
}

/* Waits for something to happen to the run; *after moves on. */
static int wait_event(struct cli *c, struct pr_client *client, const char *run, uint64_t *after)
{
    Cinch__Watch ask = CINCH__WATCH__INIT;
    Cinch__Json *answer = NULL;
    ask.after = *after;
    ask.timeout_ms = POLL_MS;
    ask.id = (char *)run;
    int rc = pr_call(client, PR_WATCH, &ask, PR_JSON, &answer, &c->err);
    if (rc) return rc;
    json_t *doc = json_loads(answer->text, 0, NULL);
    if (cli_integer(doc, "next") > 0) *after = (uint64_t)cli_integer(doc, "next");
    json_decref(doc);
    pr_free(answer);
    cn_sleep_ms(PAUSE_MS); /* progress comes many times a second; people read slower */
    return 0;
}

int watch_run(struct cli *c, struct pr_client *client, const char *run, json_t **show)
{
    struct view v = {.c = c, .run = run, .terminal = isatty(STDERR_FILENO)};
    struct stall stall = {0};
    uint64_t after = 0;
    int rc = 0;
    *show = NULL;
    for (;;) {
        json_t *now = NULL, *jobs = NULL;
        rc = cli_query(c, client, CINCH__QUERY__WHAT__SHOW, run, &now);
        if (!rc) rc = cli_query(c, client, CINCH__QUERY__WHAT__JOBS, run, &jobs);
        if (!rc) draw(&v, now, jobs);
        json_decref(jobs);
        bool over = !rc && ended(now);
        if (!rc && !over && c->alive) rc = c->alive(c->alive_arg, &c->err);
        if (!rc && !over) rc = explain_stall(c, client, run, now, &stall);
        if (now) {
            json_decref(*show);
            *show = now;
        }
        if (over || rc) break;
        rc = wait_event(c, client, run, &after);
        if (rc || cli_signalled()) break;
    }
    erase(&v);
    if (cli_signalled() && !ended(*show))
        return cn_fail(&c->err, CN_EINTERRUPTED, "stopped watching; the run goes on");
    return rc;
}
