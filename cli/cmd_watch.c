/* cli/cmd_watch.c - `cinch watch`: follows one run, or all that are not over. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/service.h"
#include "cli/watch.h"

static int verdict(struct cli *c, const char *run, const json_t *show)
{
    const json_t *jobs = json_object_get(show, "jobs");
    const char *state = cli_text(show, "state");
    if (!strcmp(state, "done")) {
        if (!c->json)
            cli_print(stdout, "%s is done: %lld jobs; `cinch report %s` shows the results\n", run,
                      (long long)cli_integer(jobs, "succeeded"), run);
        return 0;
    }
    if (!strcmp(state, "cancelled"))
        return cn_fail(&c->err, CN_ECANCELLED, "%s was cancelled", run);
    return cn_fail(&c->err, CN_EINTERNAL, "%s failed: %lld jobs; `cinch log %s` says why", run,
                   (long long)cli_integer(jobs, "failed"), run);
}

/* The runs to follow: the one named, else all that are not over. A new array of ids. */
static int choose(struct cli *c, struct pr_client *client, const char *id, json_t **ids)
{
    json_t *doc = NULL;
    *ids = json_array();
    if (id) {
        json_array_append_new(*ids, json_string(id));
        return 0;
    }
    int rc = cli_query(c, client, CINCH__QUERY__WHAT__LIST, NULL, &doc);
    const json_t *runs = json_object_get(doc, "runs");
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *r = json_array_get(runs, i);
        const char *s = cli_text(r, "state");
        if (!strcmp(s, "waiting") || !strcmp(s, "running"))
            json_array_append_new(*ids, json_string(cli_text(r, "run")));
    }
    json_decref(doc);
    return rc;
}

int cmd_watch(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const struct cli_option options[] = {OPT_REMOTE(&remote), OPT_END};
    struct cli_use use = {"[RUN]",
                          "Follows a run until it ends: jobs done, rate, time left, and what runs "
                          "now. Without an id: all\nruns that are not over.",
                          options,
                          0,
                          1,
                          0,
                          NULL};
    struct pr_client *client = NULL;
    json_t *ids = NULL, *shown = NULL;
    int rc = cli_parse(c, &use, argc, argv), bad = 0;
    if (rc) return rc;
    rc = cli_connect(c, &remote, &client);
    if (!rc) rc = choose(c, client, use.n_words ? use.word[0] : NULL, &ids);
    if (!rc && !json_array_size(ids) && !c->json) cli_print(stdout, "nothing runs\n");
    shown = json_array();
    for (size_t i = 0; !rc && i < json_array_size(ids); i++) {
        json_t *show = NULL;
        const char *run = json_string_value(json_array_get(ids, i));
        rc = watch_run(c, client, run, &show);
        if (!rc && verdict(c, run, show)) bad = c->err.code;
        json_array_append_new(shown, show ? show : json_null());
        if (rc == CN_EINTERRUPTED) { /* no failure of anything: neither the run's nor a script's */
            cli_say(c, "stopped watching; %s goes on", run);
            rc = 0;
            break;
        }
    }
    if (!rc && c->json)
        rc = cli_answer_json(c, use.n_words ? json_incref(json_array_get(shown, 0))
                                            : json_pack("{s:O}", "runs", shown));
    json_decref(ids);
    json_decref(shown);
    pr_client_close(client);
    return rc ? rc : bad;
}
