/* Nothing is lost: restarts, kills, full disks, locked and old databases, copies. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "coordinator/admin.h"
#include "coordinator/store.h"
#include "harness.h"

static const struct grid small = {
    .seeds = 2, .distill = true, .rounds = {2}, .keep = {0.5}, .norms = {"L1"}};

static pid_t spawn(char *const argv[])
{
    pid_t pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    execv(argv[0], argv);
    _exit(127); /* child */
}

static pid_t spawn_cinchd(const struct fixture *f)
{
    return spawn((char *[]){CINCH_BINARY_DIR "/bin/cinchd", "--state", (char *)f->state, "--listen",
                            (char *)f->ipc, "--lost", "3", "--quiet", NULL});
}

static pid_t spawn_worker(const struct fixture *f, const char *epochs, const char *ms,
                          const char *checkpoint)
{
    return spawn((char *[]){CINCH_BINARY_DIR "/tests/nulltool", "worker", "--connect",
                            (char *)f->ipc, "--epochs", (char *)epochs, "--epoch-ms", (char *)ms,
                            "--checkpoint", (char *)checkpoint, NULL});
}

static void kill9(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void client_again(struct fixture *f)
{
    struct pr_connect how = {.endpoint = f->ipc, .user = "tester"};
    pr_client_close(f->client);
    f->client = NULL;
    for (int i = 0; i < 100 && pr_client_open(&f->client, &how, &f->err); i++) cn_sleep_ms(50);
    assert_non_null(f->client);
}

/* A folder and endpoints without a coordinator in this process. */
static void bare(struct fixture *f)
{
    fixture_open(f, NULL);
    fixture_stop(f);
}

static void what_was_answered_survives_kill_9(void **state)
{
    struct fixture f;
    bare(&f);
    char last[32] = "";
    for (int i = 0; i < 8; i++) {
        pid_t pid = spawn_cinchd(&f);
        client_again(&f);
        if (*last)
            free(ask(&f, CINCH__QUERY__WHAT__SHOW, last)); /* fails the test when it is gone */
        struct grid g = {.seeds = 50 + i, .first_seed = 100 * i, .never = true};
        Cinch__Submitted *s = fixture_submit(&f, &g);
        snprintf(last, sizeof last, "%s", s->run);
        kill9(pid); /* the moment that it was answered */
        pr_free(s);
    }
    pid_t pid = spawn_cinchd(&f);
    client_again(&f);
    char *json = ask(&f, CINCH__QUERY__WHAT__LIST, NULL);
    assert_int_equal(count(json, "\"run\":"), 8);
    free(json);
    kill9(pid);
    fixture_start(&f, NULL);
    fixture_close(&f);
}

static void running_jobs_go_on_over_a_restart(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    fixture_worker(&f,
                   (struct null_options){.slots = 2, .prefetch = 1, .epochs = 20, .epoch_ms = 100});
    struct grid g = {.seeds = 3, .never = true};
    Cinch__Submitted *s = fixture_submit(&f, &g);
    for (int i = 0; i < 3; i++) {
        cn_sleep_ms(i == 1 ? 700 : 300);
        fixture_stop(&f);
        cn_sleep_ms(i == 1 ? 4000 : 200); /* once for longer than a worker may be silent */
        fixture_start(&f, NULL);
    }
    fixture_wait(&f, s->run, "done", 20);
    char *json = ask(&f, CINCH__QUERY__WHAT__JOBS, s->run);
    assert_int_equal(count(json, "\"attempt\":1,"), 3); /* no work was thrown away */
    free(json);
    pr_free(s);
    fixture_close(&f);
}

/* The blob of the only job's model. */
static void model_of(struct fixture *f, const char *job, char hex[65])
{
    char *json = ask(f, CINCH__QUERY__WHAT__SHOW, job),
         *at = strstr(json, "\"role\":\"model\",\"blob\":\"");
    assert_non_null(at);
    snprintf(hex, 65, "%s", at + 23);
    free(json);
}

static void a_job_killed_five_times_ends_with_the_same_bits(void **state)
{
    struct fixture f;
    char calm[65], killed[65], want[40];
    fixture_open(&f, NULL);
    struct grid g = {.seeds = 1, .never = true, .fresh = true};
    fixture_worker(&f, (struct null_options){.slots = 1, .epochs = 40, .epoch_ms = 1});
    Cinch__Submitted *s = fixture_submit(&f, &g);
    fixture_wait(&f, s->run, "done", 20);
    model_of(&f, "j1", calm);
    pr_free(s);
    fixture_stop_workers(&f);
    s = fixture_submit(&f, &g);
    for (int i = 1; i <= 5; i++) {
        pid_t pid = spawn_worker(&f, "40", "50", "3");
        snprintf(want, sizeof want, "\"attempt\":%d", i);
        for (int k = 0; k < 400; k++) { /* until it works on this attempt, then for a while */
            char *json = ask(&f, CINCH__QUERY__WHAT__SHOW, "j2");
            bool there = strstr(json, want) && strstr(json, "\"progress\"");
            free(json);
            if (there) break;
            cn_sleep_ms(25);
        }
        cn_sleep_ms(97 * i % 400 + 150);
        kill9(pid);
    }
    pid_t pid = spawn_worker(&f, "40", "5", "3");
    fixture_wait(&f, s->run, "done", 30);
    model_of(&f, "j2", killed);
    assert_string_equal(calm, killed);
    char *json = ask(&f, CINCH__QUERY__WHAT__SHOW, "j2");
    assert_non_null(strstr(json, "\"attempt\":6"));
    assert_non_null(strstr(json, "\"crashes\":0"));
    /* it went on from checkpoints: the last attempt's part of the curve does not start at 1 */
    assert_null(strstr(json, "{\"attempt\":6,\"epoch\":1,"));
    free(json);
    kill9(pid);
    pr_free(s);
    fixture_close(&f);
}

static void only_one_coordinator_at_a_time(void **state)
{
    struct fixture f;
    struct coordinator *second;
    fixture_open(&f, NULL);
    struct co_options o = {
        .state = f.state, .listen = {"ipc:///tmp/cinch-second.sock"}, .n_listen = 1};
    assert_int_equal(co_create(&second, &o, &f.err), CN_EBUSY);
    assert_non_null(strstr(f.err.text, "another coordinator"));
    assert_int_equal(ad_gc(f.state, stdout, &f.err), CN_EBUSY);
    fixture_close(&f);
}

/* ---- full disk: a file system of 12 MB, in a mount namespace of our own */

static bool tiny_disk(const char *path)
{
    cn_mkdirs(path, NULL);
    if (unshare(CLONE_NEWNS) && unshare(CLONE_NEWUSER | CLONE_NEWNS)) return false;
    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
    return !mount("tmpfs", path, "tmpfs", 0, "size=12m");
}

static void fill(const char *path)
{
    char block[4096];
    memset(block, 1, sizeof block);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    while (write(fd, block, sizeof block) > 0) continue;
    while (write(fd, block, 16) > 0) continue;
    close(fd);
}

/* Runs in a child process, since the mount namespace is for a whole process; the result is its exit status. */
static int full_disk_story(struct fixture *f, int reserve_mb)
{
    char filler[128];
    struct grid g = {.seeds = 30, .never = true},
                more = {.seeds = 2, .first_seed = 100, .never = true};
    snprintf(filler, sizeof filler, "%s/filler", f->state);
    struct co_options o = {.reserve_mb = reserve_mb};
    fixture_start(f, &o);
    Cinch__Submitted *s = fixture_submit(f, &g);
    fixture_worker(f, (struct null_options){.slots = 2, .epochs = 3, .epoch_ms = 20});
    cn_sleep_ms(200);
    fill(filler);
    pr_client_timeout(f->client, 3000);
    int refused = 0;
    for (int i = 0; i < 100 && refused != CN_ENOSPACE;
         i++) { /* what fits into the last page may still pass */
        more.first_seed += 10;
        refused = submit_grid(f->client, &more, NULL, &f->err);
        cn_sleep_ms(50);
    }
    if (refused != CN_ENOSPACE) return 2;
    char *json = ask(f, CINCH__QUERY__WHAT__STATUS, NULL); /* it goes on serving */
    int serving = strstr(json, "\"trouble\":\"\"") == NULL;
    free(json);
    if (!serving) return 3;
    cn_sleep_ms(1500);
    unlink(filler);
    fixture_wait(f, s->run, "done", 20); /* and recovers by itself, with nothing lost */
    more.first_seed = 5000;
    if (submit_grid(f->client, &more, NULL, &f->err)) return 4;
    json = ask(f, CINCH__QUERY__WHAT__JOBS, s->run);
    int done = count(json, "\"state\":\"succeeded\"");
    free(json);
    pr_free(s);
    fixture_stop_workers(f);
    fixture_stop(f);
    if (ad_check(f->state, stdout, &f->err)) return 5;
    return done == 30 ? 0 : 6;
}

static void full_disk(int reserve_mb)
{
    struct fixture f;
    bare(&f);
    pid_t pid = fork();
    if (!pid) {
        if (!tiny_disk(f.state)) _exit(77);     /* child */
        _exit(full_disk_story(&f, reserve_mb)); /* child */
    }
    int status;
    waitpid(pid, &status, 0);
    cn_rmtree(f.dir, NULL);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("no mount namespaces here: skipped\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void a_full_disk_is_seen_coming(void **state)
{
    full_disk(1);
}

static void a_full_disk_that_comes_as_a_surprise(void **state)
{
    full_disk(-1);
}

static void a_locked_database_is_waited_for(void **state)
{
    struct fixture f;
    char path[128];
    sqlite3 *db;
    fixture_open(&f, NULL);
    snprintf(path, sizeof path, "%s/queue.db", f.state);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    pr_client_timeout(f.client, 1500);
    Cinch__Submitted *s = NULL;
    int rc = submit_grid(f.client, &small, &s, &f.err);
    assert_true(rc == CN_ECONNECT || rc == CN_EBUSY); /* not answered, or refused: never promised */
    char *json = ask(&f, CINCH__QUERY__WHAT__STATUS, NULL);
    assert_non_null(strstr(json, "in use by another process"));
    free(json);
    sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(db);
    cn_sleep_ms(1200);
    pr_client_timeout(f.client, 10000);
    s = fixture_submit(&f, &small);
    pr_free(s);
    fixture_close(&f);
}

/* ---- schemas */

/* STATE/queue.db as the coordinator of an older schema left it (stores/make.py). */
static void put_store(struct fixture *f, int version)
{
    char path[160], *sql;
    sqlite3 *db;
    size_t n;
    bare(f);
    cn_rmtree(f->state, NULL);
    cn_mkdirs(f->state, NULL);
    snprintf(path, sizeof path, "%s/tests/integration/coordinator/stores/v%d.sql", CINCH_SOURCE_DIR,
             version);
    assert_int_equal(cn_file_read(path, 1 << 20, &sql, &n, &f->err), 0);
    snprintf(path, sizeof path, "%s/queue.db", f->state);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL)) fail_msg("%s", sqlite3_errmsg(db));
    /* the blobs are not kept here: what is missing would be made again */
    sqlite3_exec(db, "DELETE FROM output; DELETE FROM checkpoint", NULL, NULL, NULL);
    sqlite3_close(db);
    free(sql);
}

/* A grid that the old coordinator left in the middle: what was done stays done, and the rest can be, by workers that come now. */
static void stores_of_every_older_schema_are_taken_over(void **state)
{
    for (int version = 1; version <= ST_SCHEMA; version++) {
        struct fixture f;
        put_store(&f, version);
        fixture_start(&f, NULL);
        char *before = ask(&f, CINCH__QUERY__WHAT__JOBS, "r2");
        assert_int_equal(count(before, "\"job\":"), 28);
        int done = count(before, "\"state\":\"succeeded\"");
        int leased = count(before, "\"state\":\"leased\"");
        assert_true(done > 0 && leased > 0 && done + leased < 28);
        char *log = ask(&f, CINCH__QUERY__WHAT__LOG, "r2"),
             *older = ask(&f, CINCH__QUERY__WHAT__LOG, "r1"),
             *keys = ask(&f, CINCH__QUERY__WHAT__KEYS, NULL);
        assert_true(count(older, "\"type\":\"crashed\"") > 0);
        assert_int_equal(count(log, "\"type\":\"succeeded\""), done);
        assert_int_equal(count(keys, "\"name\":\"anna\""), 1);
        fixture_worker(&f, (struct null_options){.slots = 2, .epochs = 0});
        fixture_wait(&f, "r1", "done", 30);
        fixture_wait(&f, "r2", "done", 30);
        char *after = ask(&f, CINCH__QUERY__WHAT__LOG, "r2");
        assert_int_equal(count(after, "\"type\":\"succeeded\""), 28); /* none of them twice */
        free(before);
        free(log);
        free(older);
        free(keys);
        free(after);
        fixture_close(&f);
    }
}

static void a_newer_or_broken_store_is_left_alone(void **state)
{
    struct fixture f;
    char path[128];
    sqlite3 *db;
    bare(&f);
    snprintf(path, sizeof path, "%s/queue.db", f.state);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL);
    sqlite3_close(db);
    struct co_options o = {.state = f.state, .listen = {f.ipc}, .n_listen = 1};
    assert_int_equal(co_create(&f.c, &o, &f.err), CN_EVERSION);
    char *data;
    size_t n;
    assert_int_equal(cn_file_read(path, 1 << 24, &data, &n, NULL), 0);
    memset(data, 'x', n < 4096 ? n : 4096);
    assert_int_equal(cn_file_write(path, data, n, NULL), 0);
    free(data);
    assert_int_equal(co_create(&f.c, &o, &f.err), CN_ECORRUPT);
    cn_rmtree(f.dir, NULL);
}

/* ---- check, gc, backup */

static void check_gc_and_backup(void **state)
{
    struct fixture f;
    char copy[128], extra[256], *json, *again;
    fixture_open(&f, NULL);
    fixture_worker(&f, (struct null_options){.slots = 2, .epochs = 2});
    Cinch__Submitted *s = fixture_submit(&f, &small);
    fixture_wait(&f, s->run, "done", 20);
    json = ask(&f, CINCH__QUERY__WHAT__REPORT, s->run);
    snprintf(copy, sizeof copy, "%s/copy", f.dir);
    assert_int_equal(ad_check(f.state, stdout, &f.err), 0); /* both beside the live one */
    assert_int_equal(ad_backup(f.state, copy, true, stdout, &f.err), 0);
    assert_int_equal(ad_backup(f.state, copy, true, stdout, &f.err), CN_EEXISTS);
    fixture_stop_workers(&f);
    fixture_stop(&f);

    snprintf(extra, sizeof extra, "%s/blobs/00/00%062d", f.state, 0);
    cn_mkdirs(f.state, NULL);
    char dir[256];
    snprintf(dir, sizeof dir, "%s/blobs/00", f.state);
    cn_mkdirs(dir, NULL);
    assert_int_equal(cn_file_write(extra, "junk", 4, NULL), 0);
    assert_int_equal(ad_gc(f.state, stdout, &f.err), 0);
    assert_false(cn_file_exists(extra));
    assert_int_equal(ad_check(f.state, stdout, &f.err), 0); /* and nothing else went */

    char *at = strstr(json, "\"blob_int8\":\""), hex[65], blob[256];
    snprintf(hex, sizeof hex, "%s", at + 13);
    snprintf(blob, sizeof blob, "%s/blobs/%.2s/%s", f.state, hex, hex);
    struct stat st;
    assert_int_equal(stat(blob, &st), 0);
    unlink(blob); /* the copy has a name of its own */
    assert_int_equal(ad_check(f.state, stdout, &f.err), CN_ECORRUPT);
    char *junk = calloc(1, (size_t)st.st_size);
    assert_int_equal(cn_file_write(blob, junk, (size_t)st.st_size, NULL), 0);
    free(junk);
    assert_int_equal(ad_check(f.state, stdout, &f.err), CN_ECORRUPT);

    strcpy(f.state, copy);
    assert_int_equal(ad_check(f.state, stdout, &f.err), 0);
    fixture_start(&f, NULL);
    again = ask(&f, CINCH__QUERY__WHAT__REPORT, s->run);
    assert_string_equal(json, again);
    free(json);
    free(again);
    pr_free(s);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_disk_is_seen_coming), /* forks: before this process has threads */
        cmocka_unit_test(a_full_disk_that_comes_as_a_surprise),
        cmocka_unit_test(what_was_answered_survives_kill_9),
        cmocka_unit_test(running_jobs_go_on_over_a_restart),
        cmocka_unit_test(a_job_killed_five_times_ends_with_the_same_bits),
        cmocka_unit_test(only_one_coordinator_at_a_time),
        cmocka_unit_test(a_locked_database_is_waited_for),
        cmocka_unit_test(stores_of_every_older_schema_are_taken_over),
        cmocka_unit_test(a_newer_or_broken_store_is_left_alone),
        cmocka_unit_test(check_gc_and_backup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
