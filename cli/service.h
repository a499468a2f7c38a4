/* cli/service.h - talking to the coordinator: where it is, and questions answered in JSON. */
#ifndef CINCH_CLI_SERVICE_H
#define CINCH_CLI_SERVICE_H

#include "cli/cli.h"
#include "proto/client.h"

/* What the service commands share on the command line. */
struct cli_remote {
    const char *connect; /* --connect, or NULL */
    const char *key;     /* --key, or NULL */
};

#define OPT_REMOTE(r)                                                                              \
    OPT_TEXT("connect", 0, &(r)->connect, "WHERE", "ipc://PATH or tcp://HOST:PORT"),               \
        OPT_TEXT("key", 0, &(r)->key, "FILE", "key file; needed for tcp://")

/* Connects to --connect, else $CINCH_COORDINATOR, else `connect:` of the configuration file
 * ($XDG_CONFIG_HOME/cinch/config.yaml, which may also hold `key:`), else the default local socket.
 */
int cli_connect(struct cli *c, const struct cli_remote *r, struct pr_client **out);

/* A Query parsed: *doc is a new reference. */
int cli_query(struct cli *c, struct pr_client *client, Cinch__Query__What what, const char *id,
              json_t **doc);
/* A Control likewise; doc may be NULL. */
int cli_control(struct cli *c, struct pr_client *client, Cinch__Control__What what, const char *id,
                int value, json_t **doc);

/* Reading answers: "" and 0 where a key is absent. */
const char *cli_text(const json_t *o, const char *key);
/* What people read as the state of a run's document: "paused" where that is so, else its state. */
const char *cli_run_state(const json_t *run);
int64_t cli_integer(const json_t *o, const char *key);
double cli_real(const json_t *o, const char *key); /* NaN where absent or null */

#endif
