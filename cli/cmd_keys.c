/* cli/cmd_keys.c - `cinch keys`: who may talk to a coordinator over TCP. The pair is made here and
 * only its public half travels; the file stays with its owner, mode 0600. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/service.h"
#include "cli/table.h"

static const char *const roles[] = {"read", "submit", "worker", "admin", NULL};

/* A key is never replaced, and never follows a link: the secret lies in a new file with mode 0600 or
 * nowhere. */
static int check_key_file(struct cli *c, const char *path)
{
    struct stat st;
    const struct cli_out out = {.path = path, .form = CLI_FORM_KEY};
    if (!strcmp(path, "-"))
        return cn_fail(&c->err, CN_EINVALID, "a key is secret and goes into a file; name one");
    if (!lstat(path, &st))
        return cn_fail(&c->err, CN_EEXISTS, "%s exists already; name another file with -o", path);
    return cli_out_check(c, &out);
}

static int keys_create(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    int role = 1;
    const char *out = NULL;
    const struct cli_option options[] = {
        OPT_CHOICE("role", &role, "ROLE", roles, "read, submit (default), worker or admin"),
        OPT_TEXT("out", 'o', &out, "FILE", "the key file; NAME.key"), OPT_REMOTE(&remote), OPT_END};
    struct cli_use use = {"NAME [--role ROLE] [-o FILE]",
                          "Makes a key and registers it; the file goes to its owner, who gives it "
                          "to --key.",
                          options,
                          1,
                          1,
                          0,
                          NULL};
    struct pr_client *client = NULL;
    struct pr_key key;
    Cinch__KeyCreate ask = CINCH__KEY_CREATE__INIT;
    Cinch__KeyCreated *answer = NULL;
    char path[512];
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    const char *name = use.word[0];
    snprintf(path, sizeof path, "%s%s", out ? out : name, out ? "" : ".key");
    rc = check_key_file(c, path);
    if (!rc) rc = cli_connect(c, &remote, &client);
    if (!rc) rc = pr_key_make(&key, name, roles[role], &c->err);
    if (!rc) {
        ask.name = key.name;
        ask.role = key.role;
        ask.public_ = key.public_key;
        rc = pr_call(client, PR_KEY_CREATE, &ask, PR_KEY_CREATED, &answer, &c->err);
    }
    if (!rc) {
        snprintf(key.server, sizeof key.server, "%s", answer->server);
        pr_free(answer);
        rc = pr_key_save(&key, path, &c->err);
    }
    char public_key[PR_Z85] = "";
    if (!rc) memcpy(public_key, key.public_key, sizeof public_key);
    pr_key_wipe(&key);
    pr_client_close(client);
    if (rc) return rc;
    if (c->json)
        return cli_answer_json(c,
                               json_pack("{s:s, s:s, s:s, s:o}", "name", name, "role", roles[role],
                                         "public", public_key, "file", cli_json_text(path)));
    cli_print(stdout, "%s: key of %s (%s); hand it over safely, it is secret\n", path, name,
              roles[role]);
    return 0;
}

static void when(const json_t *v, char out[32])
{
    out[0] = 0;
    if (json_is_integer(v) && json_integer_value(v)) cn_wall_text(json_integer_value(v), out);
    if (json_is_string(v)) snprintf(out, 32, "%s", json_string_value(v));
    if (strlen(out) > 19) out[19] = 0;
}

static int keys_list(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const struct cli_option options[] = {OPT_REMOTE(&remote), OPT_END};
    struct cli_use use = {"", "Lists the keys that the coordinator knows.", options, 0, 0, 0, NULL};
    struct pr_client *client = NULL;
    json_t *doc = NULL;
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    rc = cli_connect(c, &remote, &client);
    if (!rc) rc = cli_query(c, client, CINCH__QUERY__WHAT__KEYS, NULL, &doc);
    pr_client_close(client);
    if (rc) return rc;
    if (c->json) return cli_answer_json(c, doc);
    const json_t *list = json_object_get(doc, "keys");
    struct cli_table *t = cli_table_create("NAME\tROLE\tCREATED\tSTATE\tPUBLIC", "lllll");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *k = json_array_get(list, i);
        char created[32];
        when(json_object_get(k, "created"), created);
        cli_table_add(t, "%s\t%s\t%s\t%s\t%s", cli_text(k, "name"), cli_text(k, "role"), created,
                      json_is_true(json_object_get(k, "revoked")) ? "revoked" : "valid",
                      cli_text(k, "public"));
    }
    if (json_array_size(list))
        cli_table_print(t, stdout);
    else
        cli_print(stdout, "no keys yet; `cinch keys create NAME --role ROLE` makes one\n");
    cli_table_destroy(t);
    json_decref(doc);
    return 0;
}

static int keys_revoke(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const struct cli_option options[] = {OPT_REMOTE(&remote), OPT_END};
    struct cli_use use = {
        "NAME",  "Revokes a key by its name or public half; live connections end at once.",
        options, 1,
        1,       0,
        NULL};
    struct pr_client *client = NULL;
    Cinch__KeyRevoke ask = CINCH__KEY_REVOKE__INIT;
    Cinch__Json *answer = NULL;
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    rc = cli_connect(c, &remote, &client);
    if (!rc) {
        ask.key = use.word[0];
        rc = pr_call(client, PR_KEY_REVOKE, &ask, PR_JSON, &answer, &c->err);
    }
    pr_client_close(client);
    if (rc) return rc;
    pr_free(answer);
    if (c->json) return cli_answer_json(c, json_pack("{s:s}", "revoked", use.word[0]));
    cli_print(stdout, "%s is revoked\n", use.word[0]);
    return 0;
}

static const struct cli_command commands[] = {
    {"create", "NAME [--role read|submit|worker|admin] [-o FILE]", keys_create, NULL},
    {"list", "", keys_list, NULL},
    {"revoke", "NAME", keys_revoke, NULL},
    {NULL, NULL, NULL, NULL},
};

int cmd_keys(struct cli *c, int argc, char **argv)
{
    return cli_subcommands(c, commands, "keys command",
                           "Keys of people and workers that reach the coordinator over TCP.", argc,
                           argv);
}
