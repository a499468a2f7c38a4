/* cli/upload.c - see upload.h. */
#include "cli/upload.h"

#include <stdio.h>

#include "cli/data.h"
#include "cli/progress.h"

static int on_upload(void *arg, uint64_t done, uint64_t total)
{
    cli_progress_update(arg, (double)done / 1e6, (double)total / 1e6, NULL);
    return cli_signalled();
}

int upload_known(struct cli *c, struct pr_client *client, const struct cn_hash *fingerprint,
                 bool *has)
{
    Cinch__DataGet ask = CINCH__DATA_GET__INIT;
    Cinch__Dataset *answer = NULL;
    struct cn_error err = {0};
    ask.fingerprint = pr_hash_field(fingerprint);
    int rc = pr_call(client, PR_DATA_GET, &ask, PR_DATASET, &answer, &err);
    *has = !rc && answer->blob;
    if (!rc) pr_free(answer);
    if (rc == CN_ENOTFOUND) return 0;
    if (rc) c->err = err;
    return rc;
}

int upload_named(struct cli *c, struct pr_client *client, const char *name,
                 struct cn_hash *fingerprint)
{
    Cinch__DataGet ask = CINCH__DATA_GET__INIT;
    Cinch__Dataset *answer = NULL;
    ask.name = (char *)name;
    int rc = pr_call(client, PR_DATA_GET, &ask, PR_DATASET, &answer, &c->err);
    if (rc == CN_ENOTFOUND)
        return cn_fail(&c->err, CN_ENOTFOUND,
                       "the coordinator has no dataset '%s'; send one with --data DIR", name);
    if (!rc) rc = pr_hash_read(&answer->fingerprint, fingerprint, &c->err);
    if (answer) pr_free(answer);
    return rc;
}

static int send_cache(struct cli *c, struct pr_client *client, const struct ecg_dataset *d,
                      const char *name)
{
    char path[4096], info[256];
    struct cn_hash hash;
    uint64_t size = 0;
    int rc = ecg_dataset_path(d, path, sizeof path);
    if (rc) return cn_fail(&c->err, rc, "the cache file of dataset %s cannot be named", d->name);
    struct cli_progress bar;
    cli_progress_start(&bar, c, "sending the dataset", "MB");
    struct pr_blob_progress progress = {on_upload, &bar};
    rc = pr_blob_put_file(client, path, &hash, &size, &progress, &c->err);
    cli_progress_end(&bar);
    if (rc) return rc;
    snprintf(info, sizeof info, "{\"records\": %d, \"leads\": %d, \"samples\": %d, \"labels\": %d}",
             d->n, d->n_leads, d->n_samples, d->n_labels);
    Cinch__DataAdd add = CINCH__DATA_ADD__INIT;
    Cinch__Blob blob = CINCH__BLOB__INIT;
    blob.role = "dataset";
    blob.hash = pr_hash_field(&hash);
    blob.size = size;
    add.name = (char *)name;
    add.fingerprint = pr_hash_field(&d->fingerprint);
    add.blob = &blob;
    add.info = info;
    add.replace = 1;
    rc = pr_call(client, PR_DATA_ADD, &add, PR_EMPTY, NULL, &c->err);
    if (rc != CN_EREFUSED) return rc;
    /* The name is another user's; jobs go by the fingerprint, so any name will do. */
    char own[PR_MAX_NAME + 1];
    struct cn_error why = c->err;
    int n = snprintf(own, sizeof own, "%s@%s", name, pr_client_welcome(client)->user);
    if (n >= (int)sizeof own) return rc;
    add.name = own;
    rc = pr_call(client, PR_DATA_ADD, &add, PR_EMPTY, NULL, &c->err);
    if (rc == CN_EREFUSED) c->err = why;
    if (!rc)
        cli_say(c, "the coordinator's %s is another user's; this one is kept as %s", name, own);
    return rc;
}

int upload_dataset(struct cli *c, struct pr_client *client, const char *data, const char *name,
                   const struct cli_parting *how, struct cn_hash *fingerprint)
{
    struct ecg_dataset *d = NULL;
    char known_as[160];
    bool has = false;
    int rc = cli_dataset_open_as(c, data, how, &d);
    if (rc) return rc;
    *fingerprint = d->fingerprint;
    rc = cli_dataset_name(c, name, how, known_as, sizeof known_as);
    if (!rc) rc = upload_known(c, client, fingerprint, &has);
    if (!rc && !has) rc = send_cache(c, client, d, known_as);
    ecg_dataset_close(d);
    return rc;
}
