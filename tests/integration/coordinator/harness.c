/* harness.c - see harness.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "harness.h"

#include <sodium.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

void fixture_start(struct fixture *f, const struct co_options *more)
{
    struct co_options o = more ? *more : (struct co_options){0};
    o.state = f->state;
    o.listen[o.n_listen++] = f->ipc;
    if (!o.lost_ms) o.lost_ms = 3000;
    int rc = co_create(&f->c, &o, &f->err);
    if (rc) fail_msg("%s", f->err.text);
    assert_int_equal(co_start(f->c, &f->err), 0);
    pr_client_close(f->client); /* of a coordinator that was another process */
    struct pr_connect how = {.endpoint = f->ipc, .user = "tester"};
    if (pr_client_open(&f->client, &how, &f->err)) fail_msg("%s", f->err.text);
}

void fixture_open(struct fixture *f, const struct co_options *more)
{
    memset(f, 0, sizeof *f);
    cn_log_level(CN_WARN);
    strcpy(f->dir, "/tmp/cinch-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->state, sizeof f->state, "%s/state", f->dir);
    snprintf(f->ipc, sizeof f->ipc, "ipc://%s/sock", f->dir);
    fixture_start(f, more);
}

void fixture_stop(struct fixture *f)
{
    pr_client_close(f->client);
    f->client = NULL;
    co_destroy(f->c);
    f->c = NULL;
}

static void *worker_thread(void *arg)
{
    struct fixture_worker *w = arg;
    struct cn_error err;
    null_run(&w->o, &err);
    return NULL;
}

void fixture_worker(struct fixture *f, struct null_options o)
{
    struct fixture_worker *w = &f->worker[f->n_workers++];
    assert_true(f->n_workers <= 8);
    w->o = o;
    if (!o.endpoint) w->o.endpoint = f->ipc;
    if (!o.core) w->o.core = -1;
    w->o.stop = &w->stop;
    w->o.done = &f->done;
    w->running = !pthread_create(&w->thread, NULL, worker_thread, w);
    assert_true(w->running);
}

void fixture_stop_workers(struct fixture *f)
{
    for (int i = 0; i < f->n_workers; i++) atomic_store(&f->worker[i].stop, 1);
    for (int i = 0; i < f->n_workers; i++)
        if (f->worker[i].running) pthread_join(f->worker[i].thread, NULL);
    f->n_workers = 0;
    memset(f->worker, 0, sizeof f->worker);
}

void fixture_close(struct fixture *f)
{
    fixture_stop_workers(f);
    fixture_stop(f);
    assert_int_equal(cn_rmtree(f->dir, &f->err), 0);
}

int submit_grid(struct pr_client *c, const struct grid *g, Cinch__Submitted **reply,
                struct cn_error *err)
{
    static const protobuf_c_boolean both[] = {0, 1};
    uint8_t nonce[PR_INSTANCE_BYTES], fp[CN_HASH_BYTES] = {7};
    Cinch__Net net = CINCH__NET__INIT, *nets[] = {&net};
    Cinch__Prune prune = CINCH__PRUNE__INIT;
    Cinch__Submit s = CINCH__SUBMIT__INIT;
    uint64_t *seeds = calloc((size_t)g->seeds + 1, sizeof *seeds);
    for (int i = 0; i < g->seeds; i++) seeds[i] = (uint64_t)(g->first_seed + i + 1);
    randombytes_buf(nonce, sizeof nonce);
    net.name = (char *)"cnn";
    net.recipe = (char *)"{\"epochs\":3}";
    s.nonce = (ProtobufCBinaryData){sizeof nonce, nonce};
    s.fingerprint = (ProtobufCBinaryData){sizeof fp, fp};
    s.name = (char *)(g->name ? g->name : "grid");
    s.dataset = (char *)"ptbxl";
    s.n_nets = 1;
    s.nets = nets;
    s.n_seeds = (size_t)g->seeds;
    s.seeds = seeds;
    s.n_distill = g->distill ? 2 : 1;
    s.distill = (protobuf_c_boolean *)both;
    s.fresh = g->fresh;
    s.paused = g->paused;
    s.priority = g->priority;
    s.time_limit_s = (uint32_t)g->time_limit_s;
    s.measure = g->never         ? CINCH__MEASURE__NEVER
                : g->every_round ? CINCH__MEASURE__EVERY_ROUND
                                 : CINCH__MEASURE__FINAL;
    prune.rounds = (uint32_t *)g->rounds;
    prune.keep = (double *)g->keep;
    prune.norms = (char **)g->norms;
    while (prune.n_rounds < 4 && g->rounds[prune.n_rounds]) prune.n_rounds++;
    while (prune.n_keep < 4 && g->keep[prune.n_keep] > 0) prune.n_keep++;
    while (prune.n_norms < 4 && g->norms[prune.n_norms]) prune.n_norms++;
    if (prune.n_rounds) s.prune = &prune;
    int rc = pr_call(c, PR_SUBMIT, &s, PR_SUBMITTED, reply, err);
    free(seeds);
    return rc;
}

Cinch__Submitted *fixture_submit(struct fixture *f, const struct grid *g)
{
    Cinch__Submitted *s = NULL;
    if (submit_grid(f->client, g, &s, &f->err)) fail_msg("%s", f->err.text);
    return s;
}

char *ask(struct fixture *f, Cinch__Query__What what, const char *id)
{
    char *json = NULL;
    if (pr_query(f->client, what, id, &json, &f->err)) fail_msg("%s", f->err.text);
    return json;
}

void fixture_wait(struct fixture *f, const char *run, const char *state, int seconds)
{
    char want[64], *json = NULL;
    snprintf(want, sizeof want, "\"state\":\"%s\"", state);
    int64_t deadline = cn_mono_ms() + seconds * 1000ll * (getenv("CINCH_SLOW") ? 10 : 3);
    for (;;) {
        free(json);
        json = ask(f, CINCH__QUERY__WHAT__SHOW, run);
        if (strstr(json, want)) break;
        if (cn_mono_ms() > deadline)
            fail_msg("%s is not %s: %.400s %.600s", run, state, json,
                     ask(f, CINCH__QUERY__WHAT__EXPLAIN, run));
        cn_sleep_ms(20);
    }
    free(json);
}

int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}
