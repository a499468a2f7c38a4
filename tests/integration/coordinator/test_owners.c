/* What one user's entries are worth against another user: datasets, quotas of entries, and rows of an old
 * or damaged queue.db. Over TCP with keys, since a key is what makes a user. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sqlite3.h>
#include <unistd.h>

#include "base/clock.h"
#include "coordinator/admin.h"
#include "harness.h"
#include "proto/keys.h"
#include "proto/wire.h"

static const struct co_options tcp = {.listen = {"tcp://127.0.0.1:*"}, .n_listen = 1};

/* A client with a key of its own. */
static struct pr_client *user(struct fixture *f, const char *name, const char *role)
{
    struct pr_key k;
    char file[128], endpoint[96];
    struct pr_client *c;
    Cinch__KeyCreate q = CINCH__KEY_CREATE__INIT;
    Cinch__KeyCreated *made;
    snprintf(file, sizeof file, "%s/%s.key", f->dir, name);
    if (access(file, R_OK)) {
        assert_int_equal(pr_key_make(&k, name, role, &f->err), 0);
        q.name = (char *)name;
        q.role = (char *)role;
        q.public_ = k.public_key;
        assert_int_equal(pr_call(f->client, PR_KEY_CREATE, &q, PR_KEY_CREATED, &made, &f->err), 0);
        strcpy(k.server, made->server);
        pr_free(made);
        assert_int_equal(pr_key_save(&k, file, &f->err), 0);
    }
    snprintf(endpoint, sizeof endpoint, "%s", co_endpoint(f->c, 0));
    struct pr_connect how = {.endpoint = endpoint, .key_file = file, .timeout_ms = 10000};
    if (pr_client_open(&c, &how, &f->err)) fail_msg("%s", f->err.text);
    return c;
}

/* Adds dataset `name` with fingerprint {fp} and these bytes; the code. */
static int add(struct pr_client *c, const char *name, uint8_t fp, const char *bytes, bool replace)
{
    uint8_t print[CN_HASH_BYTES] = {fp};
    struct cn_error err;
    struct cn_hash hash;
    Cinch__Blob b = CINCH__BLOB__INIT;
    Cinch__DataAdd d = CINCH__DATA_ADD__INIT;
    if (bytes) {
        assert_int_equal(pr_blob_put(c, bytes, strlen(bytes), &hash, &err), 0);
        b.hash = pr_hash_field(&hash);
        b.size = strlen(bytes);
        d.blob = &b;
    }
    d.name = (char *)name;
    d.fingerprint = (ProtobufCBinaryData){sizeof print, print};
    d.info = (char *)"{}";
    d.replace = replace;
    return pr_call(c, PR_DATA_ADD, &d, PR_EMPTY, NULL, &err);
}

/* What the coordinator gives for a fingerprint or, with fp 0, a name. */
static void expect(struct pr_client *c, const char *name, uint8_t fp, const char *bytes)
{
    uint8_t print[CN_HASH_BYTES] = {fp};
    struct cn_error err;
    struct cn_hash want;
    Cinch__DataGet q = CINCH__DATA_GET__INIT;
    Cinch__Dataset *got;
    q.name = (char *)name;
    if (fp) q.fingerprint = (ProtobufCBinaryData){sizeof print, print};
    int rc = pr_call(c, PR_DATA_GET, &q, PR_DATASET, &got, &err);
    if (!bytes) {
        assert_int_equal(rc, CN_ENOTFOUND);
        return;
    }
    assert_int_equal(rc, 0);
    cn_hash_bytes(bytes, strlen(bytes), &want);
    assert_int_equal(got->blob->size, strlen(bytes));
    assert_memory_equal(got->blob->hash.data, want.b, sizeof want.b);
    pr_free(got);
}

static void datasets_are_their_owners(void **state)
{
    struct fixture f;
    fixture_open(&f, &tcp);
    struct pr_client *anna = user(&f, "anna", "submit"), *bob = user(&f, "bob", "submit");
    assert_int_equal(add(anna, "clinic", 1, "anna's", false), 0);
    assert_int_equal(add(anna, "clinic", 1, "anna's", false), 0); /* once more is no change */
    assert_int_equal(add(bob, "clinic", 2, "bob's", false), CN_EEXISTS);
    assert_int_equal(add(bob, "clinic", 2, "bob's", true), CN_EREFUSED);
    assert_int_equal(add(bob, "clinic", 1, "bob's", true), CN_EREFUSED);
    assert_int_equal(add(bob, "zoo", 1, "bob's", true), CN_EREFUSED); /* its fingerprint is taken */
    assert_int_equal(add(bob, "same", 1, "anna's", false), 0); /* with its bytes: a second name */
    assert_int_equal(add(bob, "bare", 1, NULL, false), 0);     /* or with none */
    expect(bob, "clinic", 0, "anna's");
    expect(bob, "", 1, "anna's");
    expect(bob, "bare", 0, "anna's");
    expect(bob, "zoo", 0, NULL);
    assert_int_equal(add(bob, "bobs", 2, "bob's", false), 0);
    assert_int_equal(add(anna, "clinic", 3, "anna's new", true), 0); /* one's own may change */
    expect(anna, "clinic", 0, "anna's new");
    expect(anna, "", 1, "anna's"); /* bob's names still stand for it */
    pr_client_close(anna);
    pr_client_close(bob);
    fixture_stop(&f);
    fixture_start(&f, &tcp); /* owners are kept */
    bob = user(&f, "bob", "submit");
    assert_int_equal(add(bob, "clinic", 2, "bob's", true), CN_EREFUSED);
    assert_int_equal(add(bob, "other", 3, "bob's", false), CN_EREFUSED);
    assert_int_equal(add(f.client, "clinic", 4, "admin's", true), 0);
    expect(bob, "clinic", 0, "admin's");
    pr_client_close(bob);
    fixture_close(&f);
}

static int order(struct pr_client *c, Cinch__Control__What what, const char *id)
{
    struct cn_error err;
    return pr_control(c, what, id, 0, NULL, &err);
}

/* The state of a run or job, as everyone is told it. */
static void expect_state(struct fixture *f, const char *id, const char *state)
{
    char want[64], *show = ask(f, CINCH__QUERY__WHAT__SHOW, id),
                   *explain = ask(f, CINCH__QUERY__WHAT__EXPLAIN, id);
    snprintf(want, sizeof want, "\"state\":\"%s\"", state);
    if (!strstr(show, want)) fail_msg("no %s in %.300s", want, show);
    assert_non_null(strstr(explain, want));
    free(show);
    free(explain);
}

/* Two users want the same jobs: r1 is anna's, r2 bob's. */
static void orders_reach_no_further_than_ones_own(void **state)
{
    struct fixture f;
    fixture_open(&f, &tcp);
    struct pr_client *anna = user(&f, "anna", "submit"), *bob = user(&f, "bob", "submit");
    struct grid g = {.seeds = 1}, hasty = {.seeds = 1, .time_limit_s = 1, .priority = 1000};
    assert_int_equal(submit_grid(anna, &g, NULL, &f.err), 0);
    assert_int_equal(submit_grid(bob, &hasty, NULL, &f.err), 0);
    for (int what = CINCH__CONTROL__WHAT__CANCEL; what <= CINCH__CONTROL__WHAT__RESUME; what++)
        assert_int_equal(order(bob, (Cinch__Control__What)what, "r1"), CN_EREFUSED);
    assert_int_equal(order(bob, CINCH__CONTROL__WHAT__PRIORITY, "r1"), CN_EREFUSED);
    assert_int_equal(order(bob, CINCH__CONTROL__WHAT__CANCEL, "j1"), CN_EREFUSED);
    assert_int_equal(order(bob, CINCH__CONTROL__WHAT__PAUSE, "r2"), 0);
    expect_state(&f, "j1", "ready"); /* for anna it goes on */
    assert_int_equal(order(bob, CINCH__CONTROL__WHAT__CANCEL, "r2"), 0);
    expect_state(&f, "r1", "waiting");
    expect_state(&f, "r2", "cancelled");
    assert_int_equal(order(anna, CINCH__CONTROL__WHAT__CANCEL, "j1"), 0); /* bob's run is dead */
    expect_state(&f, "j1", "cancelled");
    assert_int_equal(order(bob, CINCH__CONTROL__WHAT__RETRY, "j1"), 0); /* bob's own run, then */
    expect_state(&f, "r2", "waiting");
    assert_int_equal(order(anna, CINCH__CONTROL__WHAT__CANCEL, "r1"), 0);
    expect_state(&f, "r1", "cancelled");
    expect_state(&f, "j1", "ready");
    assert_int_equal(order(anna, CINCH__CONTROL__WHAT__CANCEL, "j1"), CN_EREFUSED);
    assert_int_equal(order(f.client, CINCH__CONTROL__WHAT__CANCEL, "r2"), 0); /* an admin may */
    expect_state(&f, "r2", "cancelled");
    pr_client_close(anna);
    pr_client_close(bob);
    fixture_close(&f);
}

/* Of two runs with one name each user means their own; a nonce is one's own too. */
static void names_mean_ones_own_run(void **state)
{
    struct fixture f;
    char *json;
    fixture_open(&f, &tcp);
    struct pr_client *anna = user(&f, "anna", "submit"), *bob = user(&f, "bob", "submit");
    struct grid g = {.seeds = 1, .name = "study"}, h = {.seeds = 2, .name = "study"};
    assert_int_equal(submit_grid(anna, &g, NULL, &f.err), 0);
    assert_int_equal(submit_grid(bob, &h, NULL, &f.err), 0);
    assert_int_equal(pr_query(anna, CINCH__QUERY__WHAT__SHOW, "study", &json, &f.err), 0);
    assert_non_null(strstr(json, "\"run\":\"r1\""));
    free(json);
    assert_int_equal(pr_query(f.client, CINCH__QUERY__WHAT__SHOW, "study", &json, &f.err), 0);
    assert_non_null(strstr(json, "\"run\":\"r2\"")); /* who has none: the latest */
    free(json);
    assert_int_equal(order(anna, CINCH__CONTROL__WHAT__CANCEL, "study"), 0);
    expect_state(&f, "r1", "cancelled");
    expect_state(&f, "r2", "waiting");
    pr_client_close(anna);
    pr_client_close(bob);
    fixture_close(&f);
}

static int submit_as(struct pr_client *c, const struct grid *g)
{
    struct cn_error err = {0};
    int rc = submit_grid(c, g, NULL, &err);
    if (rc) assert_non_null(strstr(err.text, "the limit is"));
    return rc;
}

static void entries_are_counted_whatever_became_of_them(void **state)
{
    struct co_options few = tcp;
    few.user_runs = 3;
    struct fixture f;
    fixture_open(&f, &few);
    struct pr_client *anna = user(&f, "anna", "submit"), *bob = user(&f, "bob", "submit");
    struct grid g = {.seeds = 1, .never = true, .fresh = true},
                many = {.seeds = 3001, .never = true};
    assert_int_equal(submit_as(anna, &many), CN_ELIMIT);
    for (int i = 1; i <= 3; i++) {
        char run[8];
        snprintf(run, sizeof run, "r%d", i);
        assert_int_equal(submit_as(anna, &g), 0);
        assert_int_equal(pr_control(anna, CINCH__CONTROL__WHAT__CANCEL, run, 0, NULL, &f.err), 0);
    }
    assert_int_equal(submit_as(anna, &g), CN_ELIMIT);
    assert_int_equal(submit_as(bob, &g), 0); /* others are free to go on */
    pr_client_close(anna);
    pr_client_close(bob);
    fixture_stop(&f);
    fixture_start(&f, &few);
    anna = user(&f, "anna", "submit");
    assert_int_equal(submit_as(anna, &g), CN_ELIMIT);
    int n = 0;
    for (; n < 300; n++) {
        char name[16];
        snprintf(name, sizeof name, "d%d", n);
        if (add(anna, name, (uint8_t)(n + 1), NULL, false)) break;
    }
    assert_int_equal(n, 256);
    assert_int_equal(add(anna, "d3", 1, NULL, true), 0);
    pr_client_close(anna);
    fixture_close(&f);
}

/* To cancel and retry a large run in a loop comes to an end; small runs may go on. */
static void orders_are_counted_by_what_they_touch(void **state)
{
    struct fixture f;
    fixture_open(&f, &tcp);
    struct pr_client *anna = user(&f, "anna", "submit"), *bob = user(&f, "bob", "submit");
    pr_client_timeout(anna, 120000);
    struct grid g = {.seeds = 300000, .never = true, .paused = true}, h = {.seeds = 1};
    assert_int_equal(submit_grid(anna, &g, NULL, &f.err), 0);
    assert_int_equal(submit_grid(bob, &h, NULL, &f.err), 0);
    int n = 0;
    while (n < 20 &&
           !order(anna, n % 2 ? CINCH__CONTROL__WHAT__PAUSE : CINCH__CONTROL__WHAT__RESUME, "r1"))
        n++;
    assert_int_equal(n, 6);
    for (int i = 0; i < 50; i++)
        assert_int_equal(
            order(bob, i % 2 ? CINCH__CONTROL__WHAT__RETRY : CINCH__CONTROL__WHAT__CANCEL, "r2"),
            0);
    pr_client_close(anna);
    pr_client_close(bob);
    fixture_close(&f);
}

static void sql(const char *state, const char *text)
{
    char path[160], *err = NULL;
    sqlite3 *db;
    snprintf(path, sizeof path, "%s/queue.db", state);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, text, NULL, NULL, &err)) fail_msg("%s: %s", text, err);
    sqlite3_close(db);
}

/* Each leaves the run of the grid that was done, and takes a new one; whatever else it costs. */
static void rows_that_make_no_sense_are_set_aside(void **state)
{
    static const char *const mess[] = {
        "UPDATE job SET norm='norm7' WHERE id=3",
        "UPDATE job SET kind=77 WHERE id=3",
        "UPDATE job SET state=99, attempt=-5 WHERE id=4",
        "UPDATE job SET parent0=4711 WHERE id=3",
        "UPDATE job SET key=x'00' WHERE id=3",
        "UPDATE job SET base=4000000000 WHERE id=4",
        "UPDATE job SET state=2, worker=500 WHERE id=3",
        "UPDATE job SET keep='much', round=70000",
        "DELETE FROM job WHERE id=3",
        "INSERT INTO job (id, key) VALUES (3000000000, x'00')",
        "UPDATE base SET allocators='alloc1', body=x'120561626f6465'",
        "UPDATE base SET body=x'ffff' WHERE id=2",
        "UPDATE base SET hash=x'00'",
        "DELETE FROM base WHERE id=1",
        "UPDATE run SET name='\x1b[2J', user='../x' WHERE id=2",
        "UPDATE run SET nonce=x'', fingerprint=NULL WHERE id=2",
        "DELETE FROM run WHERE id=1",
        "INSERT INTO want VALUES (99, 1, 2), (1, 7, 3), (1, 1, 400000000)",
        "UPDATE worker SET instance=x'00', name='\x1b[2J'",
        "INSERT INTO worker VALUES (900000000, x'00', 'w', 'h')",
        "INSERT INTO dataset VALUES ('../d', x'01', x'02', 5, 'x', '')",
        "INSERT INTO key VALUES ('short', 'eve', 'emperor', 0, 0)",
    };
    for (size_t i = 0; i < sizeof mess / sizeof *mess; i++) {
        struct fixture f;
        struct grid g = {.seeds = 1, .rounds = {1}, .keep = {0.5}, .norms = {"L1"}},
                    h = {.seeds = 2,
                         .first_seed = 50,
                         .rounds = {1},
                         .keep = {0.25},
                         .norms = {"L2"}};
        fixture_open(&f, NULL);
        pr_free(fixture_submit(&f, &g));
        pr_free(fixture_submit(&f, &(struct grid){.seeds = 1, .first_seed = 9, .paused = true}));
        fixture_stop(&f);
        sql(f.state, mess[i]);
        fixture_start(&f, NULL);
        fixture_worker(&f, (struct null_options){.slots = 2, .epochs = 1});
        Cinch__Submitted *s = fixture_submit(&f, &h);
        fixture_wait(&f, s->run, "done", 20);
        pr_free(s);
        for (int what = CINCH__QUERY__WHAT__STATUS; what <= CINCH__QUERY__WHAT__KEYS; what++) {
            char *json = ask(&f, (Cinch__Query__What)what, "r1");
            assert_null(strchr(json, '\x1b'));
            free(json);
        }
        for (int job = 1; job <= 4; job++) {
            char id[8];
            snprintf(id, sizeof id, "j%d", job);
            free(ask(&f, CINCH__QUERY__WHAT__SHOW, id));
            free(ask(&f, CINCH__QUERY__WHAT__EXPLAIN, id));
        }
        fixture_close(&f);
    }
}

/* A job that was set aside does not stand in the way of the same job submitted again. */
static void what_is_set_aside_can_be_done_anew(void **state)
{
    struct fixture f;
    struct grid g = {.seeds = 1, .rounds = {1}, .keep = {0.5}, .norms = {"L1"}};
    fixture_open(&f, NULL);
    pr_free(fixture_submit(&f, &g));
    fixture_stop(&f);
    sql(f.state, "UPDATE base SET body=x'ffff'");
    FILE *out = fopen("/dev/null", "w");
    assert_int_equal(ad_check(f.state, out, &f.err), CN_ECORRUPT);
    fclose(out);
    fixture_start(&f, NULL);
    char *json = ask(&f, CINCH__QUERY__WHAT__EXPLAIN, "j1");
    assert_non_null(strstr(json, "set aside"));
    free(json);
    assert_int_equal(pr_control(f.client, CINCH__CONTROL__WHAT__RETRY, "j1", 0, &json, &f.err), 0);
    assert_non_null(strstr(json, "\"changed\":0"));
    free(json);
    fixture_worker(&f, (struct null_options){.slots = 2, .epochs = 1});
    Cinch__Submitted *s = fixture_submit(&f, &g);
    fixture_wait(&f, s->run, "done", 20);
    fixture_stop_workers(&f);
    fixture_stop(&f);
    fixture_start(&f, NULL);
    fixture_wait(&f, s->run, "done", 1);
    pr_free(s);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(datasets_are_their_owners),
        cmocka_unit_test(names_mean_ones_own_run),
        cmocka_unit_test(orders_reach_no_further_than_ones_own),
        cmocka_unit_test(entries_are_counted_whatever_became_of_them),
        cmocka_unit_test(orders_are_counted_by_what_they_touch),
        cmocka_unit_test(rows_that_make_no_sense_are_set_aside),
        cmocka_unit_test(what_is_set_aside_can_be_done_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
