/* cli/embed.c - see embed.h. */
#include "cli/embed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/service.h"
#include "cli/trainer.h"
#include "coordinator/coordinator.h"
#include "workers/worker.h"

#define ENDPOINT "inproc://cinch"

struct embed {
    void *zmq;
    struct coordinator *coordinator;
    struct worker *trainer, *evaluator;
    struct trainer *apart; /* instead of `trainer`, on a GPU */
    char folder[40];       /* of the socket that it comes by; "" without */
    char endpoint[64];
    struct pr_client *client;
    const struct ecg_dataset *data[3]; /* ends with NULL */
};

static int start_coordinator(struct cli *c, const struct embed_options *o, struct embed *e)
{
    struct co_options co = {.state = o->state, .listen = {ENDPOINT}, .n_listen = 1, .zmq = e->zmq};
    if (e->apart) co.listen[co.n_listen++] = e->endpoint;
    int rc = co_create(&e->coordinator, &co, &c->err);
    return rc ? rc : co_start(e->coordinator, &c->err);
}

static int still_trains(void *embed, struct cn_error *err)
{
    return trainer_check(((struct embed *)embed)->apart, err);
}

/* On a GPU: before anything else, while there is one thread to fork. */
static int start_apart(struct cli *c, const struct embed_options *o, struct embed *e)
{
    struct worker_options w = {.role = WORKER_TRAIN,
                               .endpoint = e->endpoint,
                               .name = "train",
                               .slots = o->slots,
                               .core = -1,
                               .data = e->data};
    int rc = device_parse(o->device, &w.device, &c->err);
    if (rc || w.device.kind == DEVICE_CPU) return rc;
    snprintf(e->folder, sizeof e->folder, "/tmp/cinch-run-XXXXXX");
    if (!mkdtemp(e->folder)) {
        e->folder[0] = 0;
        return cn_fail_errno(&c->err, "cannot make a folder in /tmp");
    }
    snprintf(e->endpoint, sizeof e->endpoint, "ipc://%s/sock", e->folder);
    rc = trainer_start(&e->apart, &w, &c->err);
    c->alive = rc ? NULL : still_trains;
    c->alive_arg = e;
    return rc;
}

static int start_worker(struct cli *c, const struct embed_options *o, struct embed *e,
                        enum worker_role role, struct worker **out)
{
    struct worker_options w = {.role = role,
                               .endpoint = ENDPOINT,
                               .zmq = e->zmq,
                               .name = role == WORKER_TRAIN ? "train" : "evaluate",
                               .slots = role == WORKER_TRAIN ? o->slots : 1,
                               .core = -1,
                               .data = e->data};
    if (role == WORKER_TRAIN) {
        int rc = device_parse(o->device, &w.device, &c->err);
        if (rc) return rc;
    }
    int rc = worker_create(out, &w, &c->err);
    return rc ? rc : worker_start(*out, &c->err);
}

static int on_wait(void *arg)
{
    return cli_signalled() > 0;
}

int embed_start(struct cli *c, const struct embed_options *o, struct embed **out)
{
    *out = NULL;
    struct embed *e = calloc(1, sizeof *e);
    if (!e || !(e->zmq = zmq_ctx_new())) {
        free(e);
        return cn_fail(&c->err, CN_ENOMEM, "out of memory");
    }
    memcpy(e->data, o->data, sizeof o->data);
    struct pr_connect how = {.zmq = e->zmq, .endpoint = ENDPOINT, .stop = on_wait};
    int rc = start_apart(c, o, e);
    if (!rc) rc = start_coordinator(c, o, e);
    if (!rc && !e->apart) rc = start_worker(c, o, e, WORKER_TRAIN, &e->trainer);
    if (!rc) rc = start_worker(c, o, e, WORKER_EVALUATE, &e->evaluator);
    if (!rc) rc = pr_client_open(&e->client, &how, &c->err);
    if (rc) {
        c->alive = NULL;
        embed_stop(e);
        return rc;
    }
    *out = e;
    return 0;
}

struct pr_client *embed_client(struct embed *e)
{
    return e->client;
}

void embed_stop(struct embed *e)
{
    if (!e) return;
    pr_client_close(e->client);
    if (e->trainer) worker_stop(e->trainer); /* both at once: their last batches run side by side */
    if (e->apart) trainer_ask_to_stop(e->apart);
    if (e->evaluator) worker_stop(e->evaluator);
    trainer_stop(e->apart);
    worker_destroy(e->trainer);
    worker_destroy(e->evaluator);
    co_destroy(e->coordinator);
    zmq_ctx_term(e->zmq);
    if (e->folder[0]) cn_rmtree(e->folder, NULL);
    free(e);
}
