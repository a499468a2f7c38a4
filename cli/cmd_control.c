/* cli/cmd_control.c - changing what the coordinator does: cancel, retry, pause, resume. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/service.h"

struct order {
    Cinch__Control__What what;
    const char *operands, *about, *done; /* done: "cancelled", for the answer to people */
    bool runs;                           /* of whole runs: no jobs to count */
};

/* "r12: 3 jobs cancelled", and what else the coordinator has to say. */
static void say(const struct order *o, const char *id, const json_t *doc)
{
    long long n = (long long)cli_integer(doc, "changed");
    const char *text = cli_text(doc, "text");
    if (!n && *text)
        cli_print(stdout, "%s: %s\n", id, text);
    else if (o->runs)
        cli_print(stdout, "%s: %s%s%s\n", id, o->done, *text ? "; " : "", text);
    else
        cli_print(stdout, "%s: %lld job%s %s%s%s\n", id, n, n == 1 ? "" : "s", o->done,
                  *text ? "; " : "", text);
}

/* An order to several that fails at one: what became of the others. */
static void tell_rest(struct cli *c, char *const *id, int failed, int n)
{
    struct cn_error why = c->err;
    char done[80] = "nothing before it", left[80] = "";
    if (failed) snprintf(done, sizeof done, "%d before it: done", failed);
    if (failed + 1 < n)
        snprintf(left, sizeof left, "; %d after it, from %.20s on: not asked for", n - failed - 1,
                 id[failed + 1]);
    cn_fail(&c->err, why.code, "%s (%s%s)", why.text, done, left);
}

static int give(struct cli *c, const struct order *o, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const struct cli_option options[] = {OPT_REMOTE(&remote), OPT_END};
    struct cli_use use = {o->operands, o->about, options, 1, -1, 0, NULL};
    struct pr_client *client = NULL;
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    json_t *all = json_array();
    rc = cli_connect(c, &remote, &client);
    for (int i = 0; !rc && i < use.n_words; i++) {
        json_t *doc = NULL;
        rc = cli_control(c, client, o->what, use.word[i], 0, &doc);
        if (rc && use.n_words > 1) tell_rest(c, use.word, i, use.n_words);
        if (rc) break;
        if (!c->json) say(o, use.word[i], doc);
        json_array_append_new(all, doc);
    }
    pr_client_close(client);
    if (!rc && c->json) return cli_answer_json(c, json_pack("{s:o}", "changed", all));
    json_decref(all);
    return rc;
}

int cmd_cancel(struct cli *c, int argc, char **argv)
{
    static const struct order o = {CINCH__CONTROL__WHAT__CANCEL, "ID..",
                                   "Cancels runs (r12) or jobs (j345) and what depends on them "
                                   "alone. A run that is done\nstays done.",
                                   "cancelled", false};
    return give(c, &o, argc, argv);
}

int cmd_retry(struct cli *c, int argc, char **argv)
{
    static const struct order o = {
        CINCH__CONTROL__WHAT__RETRY, "ID..",
        "Runs the failed and cancelled jobs of a run (r12), or one job "
        "(j345), again, with what\nthey build on; what they blocked comes back with them. In "
        "a cancelled run the run is live\nagain for it.",
        "queued again", false};
    return give(c, &o, argc, argv);
}

int cmd_pause(struct cli *c, int argc, char **argv)
{
    static const struct order o = {CINCH__CONTROL__WHAT__PAUSE, "RUN..",
                                   "Starts no more jobs of a run until `cinch resume`; those that "
                                   "run go on.",
                                   "held back", true};
    return give(c, &o, argc, argv);
}

int cmd_resume(struct cli *c, int argc, char **argv)
{
    static const struct order o = {CINCH__CONTROL__WHAT__RESUME, "RUN..",
                                   "Lets a paused run go on.", "released", true};
    return give(c, &o, argc, argv);
}
