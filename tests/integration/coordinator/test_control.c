/* What users steer and see, and what many workers do together: over real sockets, with null workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "harness.h"
#include "proto/wire.h"

static void control(struct fixture *f, Cinch__Control__What what, const char *id, int value,
                    int changed)
{
    char *json = NULL, want[32];
    if (pr_control(f->client, what, id, value, &json, &f->err)) fail_msg("%s", f->err.text);
    snprintf(want, sizeof want, "\"changed\":%d}", changed);
    if (changed >= 0 && !strstr(json, want)) fail_msg("%s instead of %s", json, want);
    free(json);
}

static void wait_text(struct fixture *f, Cinch__Query__What what, const char *id, const char *text,
                      int ms)
{
    char *json = NULL;
    for (int64_t deadline = cn_mono_ms() + ms;; cn_sleep_ms(20)) {
        free(json);
        json = ask(f, what, id);
        if (strstr(json, text)) break;
        if (cn_mono_ms() > deadline) fail_msg("no %s in %.800s", text, json);
    }
    free(json);
}

static void cancel_pause_retry_and_their_traces(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    fixture_worker(&f,
                   (struct null_options){
                       .slots = 1, .prefetch = 1, .epochs = 100, .epoch_ms = 50, .name = "slow"});
    struct grid g = {.seeds = 1, .distill = true};
    Cinch__Submitted *s =
        fixture_submit(&f, &g); /* train j1, its evaluation, distill, its evaluation */
    wait_text(&f, CINCH__QUERY__WHAT__SHOW, "j1", "\"progress\"", 5000);
    control(&f, CINCH__CONTROL__WHAT__CANCEL, s->run, 0, 4);
    fixture_wait(&f, s->run, "cancelled", 5);
    wait_text(&f, CINCH__QUERY__WHAT__WORKERS, NULL, "\"held\":0", 5000); /* it was told to stop */
    wait_text(&f, CINCH__QUERY__WHAT__EXPLAIN, "j1", "was cancelled", 0);
    control(&f, CINCH__CONTROL__WHAT__RETRY, s->run, 0, 4);
    control(&f, CINCH__CONTROL__WHAT__PAUSE, s->run, 0, 1);
    wait_text(&f, CINCH__QUERY__WHAT__SHOW, s->run, "\"paused\":true", 0);
    control(&f, CINCH__CONTROL__WHAT__RESUME, s->run, 0, 1);
    wait_text(&f, CINCH__QUERY__WHAT__SHOW, "j1", "\"attempt\":2", 5000);
    control(&f, CINCH__CONTROL__WHAT__CANCEL, "j1", 0, 4);
    /* who, when, why: all of it is in the log */
    char *json = ask(&f, CINCH__QUERY__WHAT__LOG, "j1");
    assert_non_null(strstr(json, "\"type\":\"leased\""));
    assert_non_null(strstr(json, "\"worker\":\"slow\""));
    assert_int_equal(count(json, "\"state\":\"cancelled\""),
                     3); /* twice, and who asked the second time */
    assert_non_null(strstr(json, "asked for by tester"));
    free(json);
    json = ask(&f, CINCH__QUERY__WHAT__LOG, s->run);
    assert_non_null(strstr(json, "retried by tester"));
    free(json);
    assert_int_equal(pr_control(f.client, CINCH__CONTROL__WHAT__CANCEL, "r99", 0, NULL, &f.err),
                     CN_ENOTFOUND);
    assert_int_equal(pr_control(f.client, CINCH__CONTROL__WHAT__PAUSE, "j1", 0, NULL, &f.err),
                     CN_EINVALID);
    pr_free(s);
    fixture_close(&f);
}

static void failures_show_their_root_and_retry_mends(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    fixture_worker(&f, (struct null_options){.slots = 1, .epochs = 1, .fail_per_mille = 1000});
    struct grid g = {.seeds = 1, .distill = true};
    Cinch__Submitted *s = fixture_submit(&f, &g);
    fixture_wait(&f, s->run, "failed", 10);
    char *json = ask(&f, CINCH__QUERY__WHAT__REPORT, s->run);
    assert_int_equal(
        count(json,
              "\"job\":\"j1\",\"kind\":\"train\",\"reason\":\"INTERNAL: thrown for the test\""),
        1);
    free(json);
    wait_text(&f, CINCH__QUERY__WHAT__EXPLAIN, "j4", "because j1 (train)", 0);
    json = ask(&f, CINCH__QUERY__WHAT__SHOW, "j1");
    assert_non_null(strstr(json, "\"crashes\":5"));
    free(json);
    fixture_stop_workers(&f);
    fixture_worker(&f, (struct null_options){.slots = 1, .epochs = 1});
    control(&f, CINCH__CONTROL__WHAT__RETRY, s->run, 0, 1);
    fixture_wait(&f, s->run, "done", 10);
    pr_free(s);
    fixture_close(&f);
}

static void priorities_change_live_and_draining_empties(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    struct grid g = {.seeds = 20, .never = true, .name = "early"},
                h = {.seeds = 3, .first_seed = 100, .never = true, .name = "late"};
    Cinch__Submitted *a = fixture_submit(&f, &g), *b = fixture_submit(&f, &h);
    control(&f, CINCH__CONTROL__WHAT__PRIORITY, b->run, 5, 1);
    fixture_worker(&f,
                   (struct null_options){.slots = 1, .epochs = 4, .epoch_ms = 50, .name = "only"});
    fixture_wait(&f, "late", "done", 10); /* a run's name will do for its id */
    char *json = ask(&f, CINCH__QUERY__WHAT__SHOW, a->run);
    assert_null(strstr(json, "\"state\":\"done\""));
    free(json);
    control(&f, CINCH__CONTROL__WHAT__DRAIN, "only", 0, 1);
    wait_text(&f, CINCH__QUERY__WHAT__WORKERS, NULL, "\"draining\":true", 0);
    wait_text(&f, CINCH__QUERY__WHAT__WORKERS, NULL, "\"held\":0", 5000);
    wait_text(&f, CINCH__QUERY__WHAT__EXPLAIN, a->run, "draining", 0);
    control(&f, CINCH__CONTROL__WHAT__UNDRAIN, "", 0, 1);
    fixture_wait(&f, a->run, "done", 20);
    pr_free(a);
    pr_free(b);
    fixture_close(&f);
}

static void watchers_see_what_happens(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    Cinch__Watch w = CINCH__WATCH__INIT;
    Cinch__Json *j;
    w.timeout_ms = 300;
    int64_t from = cn_mono_ms();
    assert_int_equal(pr_call(f.client, PR_WATCH, &w, PR_JSON, &j, &f.err), 0);
    assert_true(cn_mono_ms() - from >= 290); /* nothing happened: it was waited for */
    assert_non_null(strstr(j->text, "\"events\":[]"));
    w.after = strtoull(strstr(j->text, "\"next\":") + 7, NULL, 10);
    pr_free(j);
    struct grid g = {.seeds = 2, .never = true};
    Cinch__Submitted *s = fixture_submit(&f, &g);
    fixture_worker(&f, (struct null_options){.slots = 2, .epochs = 2, .epoch_ms = 20});
    int done = 0, progress = 0;
    w.timeout_ms = 5000;
    w.id = s->run;
    for (int i = 0; i < 50 && done < 2; i++) {
        assert_int_equal(pr_call(f.client, PR_WATCH, &w, PR_JSON, &j, &f.err), 0);
        done += count(j->text, "\"type\":\"succeeded\"");
        progress += count(j->text, "\"type\":\"progress\"");
        w.after = strtoull(strstr(j->text, "\"next\":") + 7, NULL, 10);
        pr_free(j);
    }
    assert_int_equal(done, 2);
    assert_int_equal(progress, 4);
    w.after = 1; /* from before the start */
    assert_int_equal(pr_call(f.client, PR_WATCH, &w, PR_JSON, &j, &f.err), 0);
    assert_non_null(strstr(j->text, "\"lost\":true"));
    pr_free(j);
    pr_free(s);
    fixture_close(&f);
}

static void five_overlapping_grids_run_each_job_once(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    fixture_worker(&f, (struct null_options){.slots = 3, .epochs = 2});
    fixture_worker(&f, (struct null_options){.slots = 3, .epochs = 2});
    Cinch__Submitted *s[5];
    uint32_t distinct = 0;
    for (int i = 0; i < 5; i++) { /* while the earlier ones run */
        struct grid g = {.seeds = 2 + i % 3,
                         .first_seed = i,
                         .distill = i % 2,
                         .rounds = {2},
                         .keep = {0.5},
                         .norms = {"L1", i % 2 ? "L2" : NULL}};
        s[i] = fixture_submit(&f, &g);
        distinct += s[i]->jobs - s[i]->reused;
    }
    for (int i = 0; i < 5; i++) {
        fixture_wait(&f, s[i]->run, "done", 30);
        pr_free(s[i]);
    }
    for (int i = 0; i < 200 && atomic_load(&f.done) < distinct; i++) cn_sleep_ms(10);
    assert_int_equal(atomic_load(&f.done), distinct);
    char *json = ask(&f, CINCH__QUERY__WHAT__STATUS, NULL), want[40];
    snprintf(want, sizeof want, "\"succeeded\":%u,", distinct);
    assert_non_null(strstr(json, want));
    free(json);
    fixture_close(&f);
}

static void sixty_four_workers_at_once(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    static struct null_options o[64];
    pthread_t t[64];
    atomic_int stop = 0;
    for (int i = 0; i < 64; i++) {
        o[i] = (struct null_options){
            .endpoint = f.ipc, .slots = 1, .epochs = 0, .core = -1, .stop = &stop, .done = &f.done};
        assert_int_equal(pthread_create(&t[i], NULL, (void *(*)(void *))(void *)null_run, &o[i]),
                         0);
    }
    struct grid g = {.seeds = 2000, .never = true};
    Cinch__Submitted *s = fixture_submit(&f, &g);
    fixture_wait(&f, s->run, "done", 30);
    char *json = ask(&f, CINCH__QUERY__WHAT__STATUS, NULL);
    assert_non_null(strstr(json, "\"workers\":64,"));
    free(json);
    for (int i = 0; i < 6000 && atomic_load(&f.done) < 2000; i++) cn_sleep_ms(10);
    assert_int_equal(atomic_load(&f.done), 2000); /* none lost, none twice */
    atomic_store(&stop, 1);
    for (int i = 0; i < 64; i++) pthread_join(t[i], NULL);
    pr_free(s);
    fixture_close(&f);
}

static void gangs_go_out_together_and_end_one_by_one(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    struct grid g = {.seeds = 8, .distill = true, .rounds = {1}, .keep = {0.5}, .norms = {"L1"}};
    Cinch__Submitted *s = fixture_submit(&f, &g);
    fixture_worker(&f,
                   (struct null_options){.slots = 1, .max_gang = 4, .epochs = 3, .epoch_ms = 5});
    fixture_wait(&f, s->run, "done", 30);
    char *json = ask(&f, CINCH__QUERY__WHAT__JOBS, s->run);
    assert_int_equal(count(json, "\"attempt\":1,"), s->jobs);
    free(json);
    pr_free(s);
    fixture_close(&f);
}

static void a_dataset_must_be_somewhere(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    fixture_worker(&f, (struct null_options){.slots = 1, .epochs = 1, .no_data = 1});
    struct grid g = {.seeds = 1};
    Cinch__Submitted *s = fixture_submit(&f, &g);
    wait_text(&f, CINCH__QUERY__WHAT__EXPLAIN, "j1", "lacks the dataset", 3000);
    uint8_t fp[CN_HASH_BYTES] = {7};
    struct cn_hash hash;
    assert_int_equal(pr_blob_put(f.client, "data", 4, &hash, &f.err), 0);
    Cinch__Blob b = CINCH__BLOB__INIT;
    Cinch__DataAdd d = CINCH__DATA_ADD__INIT;
    b.hash = pr_hash_field(&hash);
    b.size = 4;
    d.name = (char *)"ptbxl";
    d.fingerprint = (ProtobufCBinaryData){sizeof fp, fp};
    d.blob = &b;
    d.info = (char *)"{}";
    assert_int_equal(pr_call(f.client, PR_DATA_ADD, &d, PR_EMPTY, NULL, &f.err), 0);
    fixture_wait(&f, s->run, "done", 10); /* it comes with the dataset */
    fp[1] = 1;
    assert_int_equal(pr_call(f.client, PR_DATA_ADD, &d, PR_EMPTY, NULL, &f.err), CN_EEXISTS);
    Cinch__DataGet q = CINCH__DATA_GET__INIT;
    Cinch__Dataset *got;
    q.name = (char *)"ptbxl";
    assert_int_equal(pr_call(f.client, PR_DATA_GET, &q, PR_DATASET, &got, &f.err), 0);
    assert_int_equal(got->blob->size, 4);
    pr_free(got);
    pr_free(s);
    fixture_close(&f);
}

/* A worker's hello with a reserved core; its code, and the reserved cores that the welcome tells. */
static int reserve(void *socket, int n, const char *host, int core, size_t *told)
{
    uint8_t instance[PR_INSTANCE_BYTES] = {(uint8_t)n, 1};
    Cinch__JobKind kinds[] = {CINCH__JOB_KIND__EVALUATE};
    Cinch__WorkerInfo w = CINCH__WORKER_INFO__INIT;
    Cinch__Hello h = CINCH__HELLO__INIT;
    w.instance = (ProtobufCBinaryData){sizeof instance, instance};
    w.name = (char *)"eval";
    w.host = (char *)host;
    w.slots = 1;
    w.engine = PR_ENGINE;
    w.n_kinds = 1;
    w.kinds = kinds;
    w.core = core + 1;
    h.version = PR_VERSION;
    h.worker = &w;
    struct pr_header head = {.type = PR_HELLO, .id = 5};
    assert_int_equal(pr_send(socket, &head, &h.base, NULL, 0, NULL), 0);
    for (int i = 0; i < 100; i++) {
        zmq_pollitem_t item = {socket, 0, ZMQ_POLLIN, 0};
        zmq_poll(&item, 1, 50);
        struct pr_message m;
        if (pr_recv(socket, &m, NULL) != 1) continue;
        int code = m.h.code;
        *told = !code && m.h.type == PR_WELCOME
                    ? ((Cinch__Welcome *)(void *)m.body)->n_reserved_cores
                    : 0;
        pr_message_clear(&m);
        return code;
    }
    return 1;
}

static void latency_cores_are_told_and_not_shared(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    void *zmq = zmq_ctx_new(), *s[4];
    size_t told;
    for (int i = 0; i < 4; i++) assert_int_equal(pr_dealer(&s[i], zmq, f.ipc, NULL, &f.err), 0);
    assert_int_equal(reserve(s[0], 1, "box", 3, &told), 0);
    assert_int_equal(reserve(s[1], 2, "box", 3, &told),
                     CN_EBUSY); /* they would measure each other */
    assert_int_equal(reserve(s[1], 2, "other", 3, &told), 0);
    assert_int_equal(told, 1);
    assert_int_equal(reserve(s[2], 3, "box", -1, &told),
                     0); /* a trainer on the same machine hears of it */
    assert_int_equal(told, 1);
    assert_int_equal(reserve(s[3], 4, "third", -1, &told), 0);
    assert_int_equal(told, 0);
    for (int i = 0; i < 4; i++) zmq_close(s[i]);
    zmq_ctx_term(zmq);
    fixture_close(&f);
}

static void the_local_socket_is_its_owners(void **state)
{
    struct fixture f;
    struct stat st;
    fixture_open(&f, NULL);
    assert_int_equal(stat(f.ipc + 6, &st), 0);
    assert_int_equal(st.st_mode & 0077, 0);
    assert_int_equal(stat(f.state, &st), 0);
    assert_int_equal(st.st_mode & 0077, 0);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancel_pause_retry_and_their_traces),
        cmocka_unit_test(failures_show_their_root_and_retry_mends),
        cmocka_unit_test(priorities_change_live_and_draining_empties),
        cmocka_unit_test(watchers_see_what_happens),
        cmocka_unit_test(five_overlapping_grids_run_each_job_once),
        cmocka_unit_test(sixty_four_workers_at_once),
        cmocka_unit_test(gangs_go_out_together_and_end_one_by_one),
        cmocka_unit_test(a_dataset_must_be_somewhere),
        cmocka_unit_test(latency_cores_are_told_and_not_shared),
        cmocka_unit_test(the_local_socket_is_its_owners),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
