/* cli/cmd_control.c - changing what the coordinator does: cancel, retry, pause, resume. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/service.h"

struct order {
    Cinch__Control__What what;
    const char *operands, *about, *done; /* done: "cancelled", for the answer to people */
};

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
        if (rc) break;
        if (!c->json)
            printf("%s: %lld job%s %s\n", use.word[i], (long long)cli_integer(doc, "changed"),
                   cli_integer(doc, "changed") == 1 ? "" : "s", o->done);
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
                                   "alone.",
                                   "cancelled"};
    return give(c, &o, argc, argv);
}

int cmd_retry(struct cli *c, int argc, char **argv)
{
    static const struct order o = {CINCH__CONTROL__WHAT__RETRY, "ID..",
                                   "Runs the failed and cancelled jobs of a run (r12), or one job "
                                   "(j345), again; what they\nblocked comes back with them.",
                                   "queued again"};
    return give(c, &o, argc, argv);
}

int cmd_pause(struct cli *c, int argc, char **argv)
{
    static const struct order o = {CINCH__CONTROL__WHAT__PAUSE, "RUN..",
                                   "Starts no more jobs of a run until `cinch resume`; those that "
                                   "run go on.",
                                   "held back"};
    return give(c, &o, argc, argv);
}

int cmd_resume(struct cli *c, int argc, char **argv)
{
    static const struct order o = {CINCH__CONTROL__WHAT__RESUME, "RUN..",
                                   "Lets a paused run go on.", "released"};
    return give(c, &o, argc, argv);
}
