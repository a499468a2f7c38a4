/* cli/service.c - see service.h. */
#include "cli/service.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/yaml.h"
#include "proto/check.h"
#include "proto/wire.h"

struct config {
    char connect[512], key[512];
};

static int config_path(char *path, size_t cap)
{
    const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (base && *base) return snprintf(path, cap, "%s/cinch/config.yaml", base) < (int)cap;
    if (home && *home) return snprintf(path, cap, "%s/.config/cinch/config.yaml", home) < (int)cap;
    return 0;
}

static int read_field(const struct cn_yaml *root, const char *key, char *out, size_t cap,
                      struct cn_error *err)
{
    const struct cn_yaml *v = cn_yaml_get(root, key);
    const char *s = "";
    int rc = v ? cn_yaml_str(v, key, &s, err) : 0;
    if (!rc && snprintf(out, cap, "%s", s) >= (int)cap)
        rc = cn_yaml_fail(v, err, "%s is too long", key);
    return rc;
}

static int read_config(struct config *cfg, struct cn_error *err)
{
    static const char *const known[] = {"connect", "key", NULL};
    char path[4096];
    struct cn_yaml *root = NULL;
    memset(cfg, 0, sizeof *cfg);
    if (!config_path(path, sizeof path) || !cn_file_exists(path)) return 0;
    int rc = cn_yaml_load(&root, path, err);
    if (!rc && root->kind != CN_YAML_MAP)
        rc = cn_yaml_fail(root, err, "expected a mapping of connect and key");
    if (!rc) rc = cn_yaml_only(root, known, err);
    if (!rc) rc = read_field(root, "connect", cfg->connect, sizeof cfg->connect, err);
    if (!rc) rc = read_field(root, "key", cfg->key, sizeof cfg->key, err);
    cn_yaml_destroy(root);
    return rc;
}

static int on_wait(void *arg)
{
    return cli_signalled();
}

int cli_connect(struct cli *c, const struct cli_remote *r, struct pr_client **out)
{
    struct config cfg;
    char local[256];
    *out = NULL;
    int rc = read_config(&cfg, &c->err);
    if (rc) return rc;
    const char *env = getenv("CINCH_COORDINATOR"), *where = local;
    pr_find_endpoint(local, sizeof local);
    if (*cfg.connect) where = cfg.connect;
    if (env && *env) where = env;
    if (r->connect) where = r->connect;
    const char *key = r->key ? r->key : *cfg.key ? cfg.key : NULL;
    rc = pr_endpoint_check(where, &c->err);
    if (rc) return rc;
    if (!strncmp(where, "ipc:///", 7) && access(where + 6, F_OK)) /* no need to wait */
        return cn_fail(&c->err, CN_ECONNECT,
                       "no coordinator at %s; start one with `cinchd --state DIR`, or say where it "
                       "is with --connect",
                       where);
    cli_catch_signals();
    struct pr_connect how = {.endpoint = where, .key_file = key, .stop = on_wait};
    return pr_client_open(out, &how, &c->err);
}

static int parse_answer(struct cli *c, char *text, json_t **doc)
{
    json_error_t why;
    json_t *v = json_loads(text, 0, &why);
    free(text);
    if (!v)
        return cn_fail(&c->err, CN_ECORRUPT, "the coordinator's answer is not JSON: %s", why.text);
    if (doc)
        *doc = v;
    else
        json_decref(v);
    return 0;
}

/* What a user typed, before it is sent; the coordinator would refuse it in the words of the protocol. */
static int check_id(struct cli *c, const char *id)
{
    if (!id || pr_name_valid(id)) return 0;
    return cn_fail(&c->err, CN_EINVALID,
                   "'%s' is no id: runs are called r12, jobs j345; cinch ls lists the runs", id);
}

int cli_query(struct cli *c, struct pr_client *client, Cinch__Query__What what, const char *id,
              json_t **doc)
{
    char *text = NULL;
    *doc = NULL;
    int rc = check_id(c, id);
    if (!rc) rc = pr_query(client, what, id, &text, &c->err);
    return rc ? rc : parse_answer(c, text, doc);
}

int cli_control(struct cli *c, struct pr_client *client, Cinch__Control__What what, const char *id,
                int value, json_t **doc)
{
    char *text = NULL;
    int rc = check_id(c, id);
    if (!rc) rc = pr_control(client, what, id, value, &text, &c->err);
    return rc ? rc : parse_answer(c, text, doc);
}

const char *cli_text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

const char *cli_run_state(const json_t *run)
{
    return json_is_true(json_object_get(run, "paused")) ? "paused" : cli_text(run, "state");
}

int64_t cli_integer(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

double cli_real(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}
