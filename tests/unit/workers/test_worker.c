/* Tests of the worker loop against a scripted coordinator: leases run to results, and every fault
 * that the protocol knows (restart, silence, drop, stale attempt, lost blob, double grant, drain,
 * stop, time limit, refusal) ends as docs/workers.md says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "nn/recipe.h"
#include "tests/unit/nn/synthetic.h"
#include "tests/unit/workers/fake.h"
#include "workers/worker.h"

#define LIMIT_MS 100000 /* of a machine that does much else */

static struct synthetic ecg;
static const struct ecg_dataset *data[2];
static char folder[64];

struct rig {
    struct fake f;
    struct worker *w;
};

static void start(struct rig *r)
{
    struct cn_error err = {0};
    fake_open(&r->f);
    struct worker_options o = {.role = WORKER_TRAIN,
                               .endpoint = r->f.endpoint,
                               .zmq = r->f.zmq,
                               .slots = 1,
                               .core = -1,
                               .max_gang = 4,
                               .checkpoint_every_s = 0.1,
                               .cache_dir = folder,
                               .data = data};
    if (worker_create(&r->w, &o, &err) || worker_start(r->w, &err)) fail_msg("%s", err.text);
}

static bool said_bye(struct fake *f)
{
    return f->byes > 0;
}

static void end(struct rig *r)
{
    worker_stop(r->w); /* already ended ones say nothing more */
    if (!r->f.byes && !r->f.refuse_hello) fake_serve(&r->f, said_bye, 2000);
    worker_destroy(r->w);
    fake_close(&r->f);
}

/* ---- leases ---- */

struct lease_kit {
    Cinch__JobBase base;
    Cinch__JobSpec spec;
    Cinch__Lease lease, *list[4];
    Cinch__LeaseGrant grant;
    Cinch__Blob resume;
    uint32_t width[4];
    char *recipe;
};

static void kit_init(struct lease_kit *k, uint64_t job, uint32_t attempt, int epochs)
{
    struct nn_recipe r;
    cinch__job_base__init(&k->base);
    cinch__job_spec__init(&k->spec);
    cinch__lease__init(&k->lease);
    cinch__lease_grant__init(&k->grant);
    cinch__blob__init(&k->resume);
    assert_int_equal(nn_recipe_named(&r, "paper", "cnn", NULL), 0);
    r.epochs = epochs;
    r.batch = 16;
    k->recipe = nn_recipe_json(&r);
    memcpy(k->width, (uint32_t[]){8, 6, 8, 4}, sizeof k->width);
    k->base.fingerprint = (ProtobufCBinaryData){CN_HASH_BYTES, ecg.d.fingerprint.b};
    k->base.net = (char *)"cnn";
    k->base.widths = k->width;
    k->base.n_widths = 4;
    k->base.recipe = k->recipe;
    k->spec.kind = CINCH__JOB_KIND__TRAIN;
    k->spec.common = &k->base;
    k->spec.seed = 5;
    k->lease.job = job;
    k->lease.attempt = attempt;
    k->lease.spec = &k->spec;
    k->lease.run = (char *)"r1";
    k->list[0] = &k->lease;
    k->grant.leases = k->list;
    k->grant.n_leases = 1;
}

static void grant(struct fake *f, uint64_t job, uint32_t attempt, int epochs)
{
    struct lease_kit k;
    kit_init(&k, job, attempt, epochs);
    fake_push(f, PR_LEASE_GRANT, &k.grant);
    free(k.recipe);
}

static bool ready(struct fake *f)
{
    return f->hellos > 0 && f->capacity > 0;
}

static bool has_result(struct fake *f)
{
    return fake_count(f, PR_RESULT) > 0;
}

static bool has_two_results(struct fake *f)
{
    return fake_count(f, PR_RESULT) > 1;
}

static bool has_epoch(struct fake *f)
{
    return f->epochs > 0;
}

static bool has_checkpoint(struct fake *f)
{
    return fake_count(f, PR_CHECKPOINT) > 0;
}

static bool two_hellos(struct fake *f)
{
    return f->hellos > 1;
}

static bool told_of_several(struct fake *f)
{
    return f->together;
}

static bool holds_two(struct fake *f)
{
    return f->held_beat >= 2;
}

static bool holds_nothing(struct fake *f)
{
    return f->held_beat == 0;
}

static void serve(struct rig *r, bool (*done)(struct fake *f))
{
    assert_true(fake_serve(&r->f, done, LIMIT_MS));
}

/* What an undisturbed job of `epochs` gives; remembered by the first test. */
static struct cn_hash expected;
enum { EPOCHS = 60, LONG = 500 }; /* LONG: surely not over before its first checkpoint */

static void a_lease_runs_to_its_result(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    assert_int_equal(r.f.capacity, 2); /* one running, one prefetched */
    grant(&r.f, 1, 1, EPOCHS);
    serve(&r, has_result);
    const struct fake_entry *e = fake_entry(&r.f, PR_RESULT, 0);
    assert_int_equal(e->code, 0);
    assert_int_equal(e->job, 1);
    assert_int_equal(e->attempt, 1);
    assert_int_equal(e->n_outputs, 1);
    assert_non_null(fake_blob(&r.f, &e->output[0]));
    assert_non_null(strstr(e->metrics, "best_score"));
    assert_int_equal(r.f.epochs, EPOCHS);
    expected = e->output[0];
    serve(&r, holds_nothing);
    worker_stop(r.w);
    serve(&r, said_bye);
    assert_int_equal(worker_join(r.w, NULL), 0);
    end(&r);
}

static void a_stop_checkpoints_and_hands_back(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, 100000);
    grant(&r.f, 2, 1, 10); /* prefetched, never begun */
    serve(&r, has_epoch);
    serve(&r, holds_two);
    worker_stop(r.w);
    serve(&r, said_bye);
    assert_int_equal(worker_join(r.w, NULL), 0);
    assert_int_equal(fake_count(&r.f, PR_RESULT), 0);
    assert_int_equal(fake_count(&r.f, PR_RELEASE), 2);
    /* The running lease's last checkpoint is durable before its release. */
    int last_checkpoint = -1, release = -1;
    for (int i = 0; i < r.f.logged; i++) {
        if (r.f.log[i].type == PR_CHECKPOINT) last_checkpoint = i;
        if (r.f.log[i].type == PR_RELEASE && r.f.log[i].job == 1) release = i;
    }
    assert_true(last_checkpoint >= 0 && last_checkpoint < release);
    assert_non_null(fake_blob(&r.f, &r.f.log[last_checkpoint].output[0]));
    end(&r);
}

/* A lease with a checkpoint ends with the bits of the undisturbed job. */
static void a_resumed_lease_has_the_same_bits(void **state)
{
    static struct rig r;
    struct lease_kit k;
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, LONG);
    serve(&r, has_result);
    struct cn_hash whole = fake_entry(&r.f, PR_RESULT, 0)->output[0];
    r.f.logged = 0;
    grant(&r.f, 2, 1, LONG);
    serve(&r, has_checkpoint);
    worker_stop(r.w);
    serve(&r, said_bye);
    worker_destroy(r.w);
    const struct fake_entry *c = NULL;
    for (int i = 0; i < fake_count(&r.f, PR_CHECKPOINT); i++)
        c = fake_entry(&r.f, PR_CHECKPOINT, i);
    const struct fake_blob *b = fake_blob(&r.f, &c->output[0]);
    struct fake_blob kept = *b;
    kept.data = malloc(b->n);
    memcpy(kept.data, b->data, b->n);
    fake_close(&r.f);

    start(&r);
    serve(&r, ready);
    struct cn_hash hash;
    fake_put(&r.f, kept.data, kept.n, &hash);
    kit_init(&k, 2, 2, LONG);
    k.resume.role = (char *)"checkpoint";
    k.resume.hash = (ProtobufCBinaryData){CN_HASH_BYTES, hash.b};
    k.resume.size = kept.n;
    k.lease.resume = &k.resume;
    fake_push(&r.f, PR_LEASE_GRANT, &k.grant);
    serve(&r, has_result);
    const struct fake_entry *e = fake_entry(&r.f, PR_RESULT, 0);
    assert_int_equal(e->code, 0);
    assert_int_equal(e->attempt, 2);
    assert_memory_equal(&e->output[0], &whole, sizeof whole);
    r.f.logged = 0; /* and without it, when nobody has it any more */
    hash.b[0] ^= 1;
    k.lease.attempt = 3;
    fake_push(&r.f, PR_LEASE_GRANT, &k.grant);
    serve(&r, has_result);
    e = fake_entry(&r.f, PR_RESULT, 0);
    assert_int_equal(e->code, 0);
    assert_memory_equal(&e->output[0], &whole, sizeof whole);
    free(k.recipe);
    free(kept.data);
    end(&r);
}

static void a_dropped_lease_makes_room(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, 100000);
    grant(&r.f, 2, 1, EPOCHS);
    serve(&r, has_epoch);
    Cinch__Held which = CINCH__HELD__INIT;
    Cinch__Drop drop = CINCH__DROP__INIT;
    which.job = 1;
    which.attempt = 1;
    drop.lease = &which;
    drop.reason = (char *)"cancelled";
    fake_push(&r.f, PR_DROP, &drop);
    serve(&r, has_result);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->job, 2);
    serve(&r, holds_nothing);
    assert_int_equal(fake_count(&r.f, PR_RESULT), 1);
    assert_int_equal(fake_count(&r.f, PR_RELEASE), 0);
    end(&r);
}

static void a_restarted_coordinator_finds_the_job_running(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, EPOCHS * 3);
    serve(&r, has_epoch);
    r.f.forget = true;
    serve(&r, two_hellos);
    assert_int_equal(r.f.held_said, 1); /* "I am still at it" */
    serve(&r, has_result);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->attempt, 1);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->code, 0);
    end(&r);
}

/* The coordinator is away while the job ends: the result waits, and arrives. */
static void a_result_outlives_an_outage(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, EPOCHS);
    serve(&r, has_epoch);
    cn_sleep_ms(2500); /* nobody answers for longer than lost_ms */
    fake_restart(&r.f);
    r.f.hellos = 0;
    serve(&r, has_result);
    assert_true(r.f.hellos > 0);
    assert_memory_equal(&fake_entry(&r.f, PR_RESULT, 0)->output[0], &expected, sizeof expected);
    end(&r);
}

static void a_lost_blob_is_put_again(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    r.f.result_code = CN_ENOTFOUND;
    grant(&r.f, 1, 1, EPOCHS);
    serve(&r, has_result);
    const struct fake_entry *e = fake_entry(&r.f, PR_RESULT, 0);
    assert_int_equal(r.f.result_code, 0); /* the first try was refused */
    assert_non_null(fake_blob(&r.f, &e->output[0]));
    end(&r);
}

static void a_stale_result_is_not_repeated(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    r.f.result_code = CN_ESTALE;
    grant(&r.f, 1, 1, 2);
    serve(&r, has_epoch);
    grant(&r.f, 2, 1, EPOCHS);
    serve(&r, has_result);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->job, 2);
    serve(&r, holds_nothing);
    assert_int_equal(fake_count(&r.f, PR_RESULT), 1);
    end(&r);
}

static void a_stale_checkpoint_stops_the_job(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    r.f.checkpoint_code = CN_ESTALE;
    grant(&r.f, 1, 1, 100000);
    serve(&r, has_checkpoint);
    serve(&r, holds_nothing);
    assert_int_equal(fake_count(&r.f, PR_RESULT), 0);
    assert_int_equal(fake_count(&r.f, PR_RELEASE), 0);
    end(&r);
}

static void a_lease_pushed_twice_runs_once(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, EPOCHS);
    grant(&r.f, 1, 1, EPOCHS);
    grant(&r.f, 2, 1, 2);
    serve(&r, has_two_results);
    serve(&r, holds_nothing);
    assert_int_equal(fake_count(&r.f, PR_RESULT), 2);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->job, 1);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 1)->job, 2);
    end(&r);
}

static void a_newer_attempt_replaces_the_older(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, 100000);
    serve(&r, has_epoch);
    grant(&r.f, 1, 2, EPOCHS);
    serve(&r, has_result);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->attempt, 2);
    assert_int_equal(fake_count(&r.f, PR_RELEASE), 0);
    end(&r);
}

static void a_gang_returns_each_member(void **state)
{
    static struct rig r;
    struct lease_kit k[3];
    start(&r);
    serve(&r, ready);
    for (int i = 0; i < 3; i++) kit_init(&k[i], (uint64_t)(10 + i), 1, EPOCHS);
    k[1].spec.seed = 6;
    k[2].spec.seed = 7;
    k[0].list[1] = &k[1].lease;
    k[0].list[2] = &k[2].lease;
    k[0].grant.n_leases = 3;
    fake_push(&r.f, PR_LEASE_GRANT, &k[0].grant);
    serve(&r, told_of_several);
    assert_false(r.f.apart); /* the coordinator knows by this that it is one unit */
    serve(&r, has_two_results);
    serve(&r, holds_nothing);
    assert_int_equal(fake_count(&r.f, PR_RESULT), 3);
    for (int i = 0; i < 3; i++) {
        const struct fake_entry *e = fake_entry(&r.f, PR_RESULT, i);
        assert_int_equal(e->code, 0);
        if (e->job == 10) assert_memory_equal(&e->output[0], &expected, sizeof expected);
        free(k[i].recipe);
    }
    end(&r);
}

static void a_drained_worker_finishes_and_leaves(void **state)
{
    static struct rig r;
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, EPOCHS * 3);
    grant(&r.f, 2, 1, EPOCHS);
    serve(&r, has_epoch);
    r.f.drain = true;
    serve(&r, said_bye);
    assert_int_equal(worker_join(r.w, NULL), 0);
    assert_int_equal(fake_count(&r.f, PR_RESULT), 1);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->job, 1);
    assert_int_equal(fake_count(&r.f, PR_RELEASE), 1);
    assert_int_equal(fake_entry(&r.f, PR_RELEASE, 0)->job, 2);
    assert_int_equal(r.f.capacity, 0);
    end(&r);
}

static void a_time_limit_fails_the_job_for_good(void **state)
{
    static struct rig r;
    struct lease_kit k;
    start(&r);
    serve(&r, ready);
    kit_init(&k, 1, 1, 100000);
    k.lease.time_limit_s = 1;
    fake_push(&r.f, PR_LEASE_GRANT, &k.grant);
    serve(&r, has_result);
    const struct fake_entry *e = fake_entry(&r.f, PR_RESULT, 0);
    assert_int_equal(e->code, CN_ETIMEOUT);
    assert_true(e->permanent);
    assert_non_null(strstr(e->reason, "1 s"));
    free(k.recipe);
    end(&r);
}

static void a_bad_job_fails_and_the_next_runs(void **state)
{
    static struct rig r;
    struct lease_kit k;
    start(&r);
    serve(&r, ready);
    kit_init(&k, 1, 1, 1);
    k.base.net = (char *)"nonet";
    fake_push(&r.f, PR_LEASE_GRANT, &k.grant);
    grant(&r.f, 2, 1, EPOCHS);
    serve(&r, has_two_results);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->code, CN_EINVALID);
    assert_true(fake_entry(&r.f, PR_RESULT, 0)->permanent);
    assert_non_null(strstr(fake_entry(&r.f, PR_RESULT, 0)->reason, "nonet"));
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 1)->code, 0);
    free(k.recipe);
    end(&r);
}

/* The dataset is neither given, nor in the cache, nor with the coordinator. */
static void an_unknown_dataset_is_said(void **state)
{
    static struct rig r;
    struct lease_kit k;
    uint8_t other[CN_HASH_BYTES] = {9, 9};
    start(&r);
    serve(&r, ready);
    kit_init(&k, 1, 1, 1);
    k.base.fingerprint = (ProtobufCBinaryData){CN_HASH_BYTES, other};
    fake_push(&r.f, PR_LEASE_GRANT, &k.grant);
    serve(&r, has_result);
    assert_int_equal(fake_entry(&r.f, PR_RESULT, 0)->code, CN_ENOTFOUND);
    assert_false(fake_entry(&r.f, PR_RESULT, 0)->permanent);
    free(k.recipe);
    end(&r);
}

static bool never(struct fake *f)
{
    return false;
}

static void a_refused_worker_ends(void **state)
{
    static struct rig r;
    struct cn_error err = {0};
    start(&r);
    r.f.refuse_hello = CN_EREFUSED;
    fake_serve(&r.f, never, 300);
    assert_int_equal(worker_join(r.w, &err), CN_EREFUSED);
    end(&r);
}

static void a_revoked_worker_ends(void **state)
{
    static struct rig r;
    struct cn_error err = {0};
    start(&r);
    serve(&r, ready);
    grant(&r.f, 1, 1, 100000);
    serve(&r, has_epoch);
    r.f.refuse_beat = CN_EREFUSED;
    fake_serve(&r.f, never, 300);
    assert_int_equal(worker_join(r.w, &err), CN_EREFUSED);
    assert_non_null(strstr(err.text, "fake"));
    r.f.refuse_hello = CN_EREFUSED; /* nothing more is to come */
    end(&r);
}

static void nobody_there_is_said(void **state)
{
    struct cn_error err = {0};
    struct worker *w;
    struct worker_options o = {.role = WORKER_TRAIN,
                               .endpoint = "ipc:///tmp/cinch-nobody.sock",
                               .core = -1,
                               .cache_dir = folder,
                               .first_wait_ms = 300};
    assert_int_equal(worker_create(&w, &o, NULL), 0);
    assert_int_equal(worker_run(w, &err), CN_ECONNECT);
    assert_non_null(strstr(err.text, "cinch-nobody.sock"));
    worker_destroy(w);
}

static int setup(void **state)
{
    if (!getenv("CINCH_LOG")) cn_log_level(CN_ERROR);
    synthetic_make(&ecg, ECG_MULTI_LABEL, 200, 12, 250);
    memset(ecg.d.fingerprint.b, 7, CN_HASH_BYTES);
    data[0] = &ecg.d;
    snprintf(folder, sizeof folder, "/tmp/worker-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return setenv("XDG_RUNTIME_DIR", folder, 1);
}

static int teardown(void **state)
{
    synthetic_free(&ecg);
    return cn_rmtree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lease_runs_to_its_result),
        cmocka_unit_test(a_stop_checkpoints_and_hands_back),
        cmocka_unit_test(a_resumed_lease_has_the_same_bits),
        cmocka_unit_test(a_dropped_lease_makes_room),
        cmocka_unit_test(a_restarted_coordinator_finds_the_job_running),
        cmocka_unit_test(a_result_outlives_an_outage),
        cmocka_unit_test(a_lost_blob_is_put_again),
        cmocka_unit_test(a_stale_result_is_not_repeated),
        cmocka_unit_test(a_stale_checkpoint_stops_the_job),
        cmocka_unit_test(a_lease_pushed_twice_runs_once),
        cmocka_unit_test(a_newer_attempt_replaces_the_older),
        cmocka_unit_test(a_gang_returns_each_member),
        cmocka_unit_test(a_drained_worker_finishes_and_leaves),
        cmocka_unit_test(a_time_limit_fails_the_job_for_good),
        cmocka_unit_test(a_bad_job_fails_and_the_next_runs),
        cmocka_unit_test(an_unknown_dataset_is_said),
        cmocka_unit_test(a_refused_worker_ends),
        cmocka_unit_test(a_revoked_worker_ends),
        cmocka_unit_test(nobody_there_is_said),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
