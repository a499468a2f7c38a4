/* The disk fails: an fsync of a file, a folder, the database; bits turn over, files vanish. What is called safe is safe, what is
 * served is whole, what is lost is made again or asked for. fsync and fdatasync of this program come first, so that they can fail. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "coordinator/admin.h"
#include "coordinator/core.h"
#include "coordinator/upload.h"
#include "harness.h"

/* So many fsyncs of each kind fail from now on. */
static atomic_int bad_files, bad_folders, bad_db, good_folders;

static bool fails(int fd)
{
    char link[64], path[4096] = "";
    struct stat st;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0 || fstat(fd, &st)) return false;
    bool folder = S_ISDIR(st.st_mode);
    atomic_int *left = strstr(path, "queue.db") ? &bad_db : folder ? &bad_folders : &bad_files;
    if (folder && atomic_load(left) <= 0) atomic_fetch_add(&good_folders, 1);
    if (atomic_load(left) <= 0) return false;
    atomic_fetch_sub(left, 1);
    errno = EIO;
    return true;
}

int fsync(int fd)
{
    return fails(fd) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return fails(fd) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

/* ---- blobs */

static void blob_path(const struct fixture *f, const char *folder, const char *hex, char out[256])
{
    if (folder)
        snprintf(out, 256, "%s/%s/%s", f->state, folder, hex);
    else
        snprintf(out, 256, "%s/blobs/%.2s/%s", f->state, hex, hex);
}

static void flip(const char *path)
{
    struct stat st;
    char c;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && !fstat(fd, &st));
    assert_int_equal(pread(fd, &c, 1, st.st_size / 2), 1);
    c ^= 1;
    assert_int_equal(pwrite(fd, &c, 1, st.st_size / 2), 1);
    close(fd);
}

static char *some_bytes(size_t n, int flavour)
{
    char *data = malloc(n);
    for (size_t i = 0; i < n; i++) data[i] = (char)(i * 7 + (i >> 9) + (size_t)flavour);
    return data;
}

static void put_whole(struct fixture *f, const char *data, size_t n, struct cn_hash *hash)
{
    void *back;
    size_t got;
    if (pr_blob_put(f->client, data, n, hash, &f->err)) fail_msg("%s", f->err.text);
    if (pr_blob_get(f->client, hash, n, &back, &got, &f->err)) fail_msg("%s", f->err.text);
    assert_int_equal(got, n);
    assert_memory_equal(back, data, n);
    free(back);
}

static void is_empty(const struct fixture *f, const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->state, folder);
    assert_int_equal(rmdir(path), 0); /* only an empty one goes */
    assert_int_equal(mkdir(path, 0700), 0);
}

static void a_failed_fsync_is_never_forgotten(void **state)
{
    struct fixture f;
    enum { N = (3 << 20) + 1000 };
    struct cn_hash hash;
    char *data = some_bytes(N, 1), hex[CN_HASH_HEX], path[256];
    fixture_open(&f, NULL);
    cn_hash_bytes(data, N, &hash);
    cn_hash_hex(&hash, hex);
    blob_path(&f, NULL, hex, path);
    atomic_store(&bad_files, 1);
    assert_int_equal(pr_blob_put(f.client, data, N, &hash, &f.err), CN_EIO);
    is_empty(&f, "partial"); /* all of it is to be sent again */
    assert_false(cn_file_exists(path));
    put_whole(&f, data, N, &hash);
    free(data);
    fixture_close(&f);
}

static void a_name_that_is_not_safe_is_not_called_safe(void **state)
{
    struct fixture f;
    struct cn_hash hash;
    char *data = some_bytes(5000, 2), hex[CN_HASH_HEX], path[256];
    fixture_open(&f, NULL);
    cn_hash_bytes(data, 5000, &hash);
    cn_hash_hex(&hash, hex);
    blob_path(&f, NULL, hex, path);
    for (int bad = 1; bad <= 2;
         bad++) { /* the folder of all blobs, when it gets a new one; then that one */
        atomic_store(&bad_folders, 1);
        assert_int_equal(pr_blob_put(f.client, data, 5000, &hash, &f.err), CN_EIO);
        assert_int_equal(atomic_load(&bad_folders), 0);
        assert_false(cn_file_exists(path));
        is_empty(&f, "partial");
        char folder[256];
        snprintf(folder, sizeof folder, "%s/blobs/%.2s", f.state, hex);
        if (bad == 1) assert_int_equal(mkdir(folder, 0700), 0);
    }
    int before = atomic_load(&good_folders);
    put_whole(&f, data, 5000, &hash);
    assert_true(atomic_load(&good_folders) > before);
    fixture_stop(&f); /* the next coordinator does not know whether the last one came so far */
    fixture_start(&f, NULL);
    atomic_store(&bad_folders, 1);
    assert_int_equal(pr_blob_put(f.client, data, 5000, &hash, &f.err), CN_EIO);
    put_whole(&f, data, 5000, &hash);
    free(data);
    fixture_close(&f);
}

static void a_database_that_cannot_be_written_ends_it(void **state)
{
    struct fixture f;
    struct grid g = {.seeds = 2, .never = true};
    char path[256];
    fixture_open(&f, NULL);
    Cinch__Submitted *s = fixture_submit(&f, &g);
    pr_client_timeout(f.client, 1500);
    g.first_seed = 100;
    atomic_store(&bad_db, 1);
    assert_true(submit_grid(f.client, &g, NULL, &f.err) < 0); /* never acknowledged */
    for (int i = 0; i < 200 && !f.c->run_result; i++) cn_sleep_ms(20);
    assert_int_equal(f.c->run_result, CN_EIO);
    assert_non_null(strstr(f.c->run_error.text, "the coordinator stops"));
    assert_int_equal(atomic_load(&bad_db), 0); /* nor tried again */
    fixture_stop(&f);
    snprintf(path, sizeof path, "%s/running", f.state);
    assert_true(cn_file_exists(path)); /* the next start has a look */
    fixture_start(&f, NULL);
    free(ask(&f, CINCH__QUERY__WHAT__SHOW, s->run));
    pr_free(s);
    fixture_close(&f);
}

/* ---- what is damaged */

static void model_of(struct fixture *f, const char *job, char hex[65])
{
    char *json = ask(f, CINCH__QUERY__WHAT__SHOW, job),
         *at = strstr(json, "\"role\":\"model\",\"blob\":\"");
    assert_non_null(at);
    snprintf(hex, 65, "%s", at + 23);
    free(json);
}

/* A run of one training that is done; its model's path. */
static void train_one(struct fixture *f, const struct co_options *o, char hex[65], char path[256])
{
    struct grid g = {.seeds = 1, .never = true};
    fixture_open(f, o);
    fixture_worker(f, (struct null_options){.slots = 1, .epochs = 3});
    Cinch__Submitted *s = fixture_submit(f, &g);
    fixture_wait(f, s->run, "done", 20);
    pr_free(s);
    model_of(f, "j1", hex);
    blob_path(f, NULL, hex, path);
}

static void says(struct fixture *f, const char *run, const char *what)
{
    char *log = ask(f, CINCH__QUERY__WHAT__LOG, run);
    if (!strstr(log, what)) fail_msg("%s is not in %s", what, log);
    free(log);
}

static void a_damaged_model_is_made_again(void **state)
{
    struct fixture f;
    char hex[65], path[256], aside[256];
    train_one(&f, &(struct co_options){.scrub_mb = -1}, hex, path);
    flip(path);
    struct grid g = {.seeds = 1}; /* builds on it */
    Cinch__Submitted *s = fixture_submit(&f, &g);
    fixture_wait(&f, s->run, "done", 20);
    blob_path(&f, "quarantine", hex, aside);
    assert_true(cn_file_exists(aside) && cn_file_exists(path));
    says(&f, s->run, hex);
    pr_free(s);
    assert_int_equal(ad_check(f.state, stdout, &f.err), 0);
    fixture_close(&f);
}

static void the_scrub_finds_it_before_somebody_needs_it(void **state)
{
    struct fixture f;
    char hex[65], path[256], aside[256];
    train_one(&f, &(struct co_options){.scrub_mb = 1000}, hex, path);
    flip(path);
    blob_path(&f, "quarantine", hex, aside);
    for (int i = 0; i < 600 && !cn_file_exists(aside); i++) cn_sleep_ms(50);
    assert_true(cn_file_exists(aside));
    fixture_wait(&f, "r1", "done", 20);
    says(&f, "r1", "damaged");
    fixture_close(&f);
}

static void what_vanished_or_was_put_aside_meanwhile_is_made_again(void **state)
{
    struct fixture f;
    char hex[65], path[256];
    train_one(&f, &(struct co_options){.scrub_mb = -1}, hex, path);
    for (int how = 0; how < 3; how++) {
        fixture_stop_workers(&f);
        fixture_stop(&f);
        if (how == 0) assert_int_equal(unlink(path), 0);
        if (how == 1) assert_int_equal(truncate(path, 5), 0);
        if (how == 2) {
            flip(path);
            assert_int_equal(ad_check(f.state, stdout, &f.err), CN_ECORRUPT);
            assert_false(cn_file_exists(path));
        }
        fixture_start(&f, &(struct co_options){.scrub_mb = -1});
        fixture_worker(&f, (struct null_options){.slots = 1, .epochs = 3});
        struct stat st;
        for (int i = 0; i < 400 && (stat(path, &st) || st.st_size == 5); i++) cn_sleep_ms(50);
        fixture_wait(&f, "r1", "done", 20);
        assert_int_equal(ad_check(f.state, stdout, &f.err), 0);
    }
    fixture_close(&f);
}

static int add_dataset(struct fixture *f, const struct cn_hash *blob, size_t n)
{
    uint8_t fp[CN_HASH_BYTES] = {9};
    Cinch__DataAdd add = CINCH__DATA_ADD__INIT;
    Cinch__Blob b = CINCH__BLOB__INIT;
    add.name = (char *)"waves";
    add.fingerprint = (ProtobufCBinaryData){sizeof fp, fp};
    b.role = (char *)"dataset";
    b.hash = pr_hash_field(blob);
    b.size = n;
    add.blob = &b;
    return pr_call(f->client, PR_DATA_ADD, &add, PR_EMPTY, NULL, &f->err);
}

static bool dataset_is_there(struct fixture *f)
{
    Cinch__DataGet ask_for = CINCH__DATA_GET__INIT;
    Cinch__Dataset *d = NULL;
    ask_for.name = (char *)"waves";
    assert_int_equal(pr_call(f->client, PR_DATA_GET, &ask_for, PR_DATASET, &d, &f->err), 0);
    bool there = d->blob && d->blob->size;
    pr_free(d);
    return there;
}

static void a_damaged_dataset_is_asked_for(void **state)
{
    struct fixture f;
    enum { N = 300000 };
    char *data = some_bytes(N, 3), hex[CN_HASH_HEX], path[256];
    struct cn_hash hash;
    void *back;
    size_t n;
    fixture_open(&f, &(struct co_options){.scrub_mb = -1});
    put_whole(&f, data, N, &hash);
    assert_int_equal(add_dataset(&f, &hash, N), 0);
    cn_hash_hex(&hash, hex);
    blob_path(&f, NULL, hex, path);
    flip(path);
    assert_int_equal(pr_blob_get(f.client, &hash, N, &back, &n, &f.err), CN_ENOTFOUND);
    assert_non_null(strstr(f.err.text, hex));
    assert_false(dataset_is_there(&f));
    fixture_stop(&f);
    fixture_start(&f, NULL);
    assert_false(dataset_is_there(&f));
    put_whole(&f, data, N, &hash);
    assert_int_equal(add_dataset(&f, &hash, N), 0);
    assert_true(dataset_is_there(&f));
    free(data);
    fixture_close(&f);
}

static void sent_again_it_is_whole_again(void **state)
{
    struct fixture f;
    enum { N = 9 << 20 }; /* more than is looked at in one go */
    char *data = some_bytes(N, 4), hex[CN_HASH_HEX], path[256];
    struct cn_hash hash;
    fixture_open(&f, &(struct co_options){.scrub_mb = -1});
    put_whole(&f, data, N, &hash);
    cn_hash_hex(&hash, hex);
    blob_path(&f, NULL, hex, path);
    for (int how = 0; how < 3; how++) {
        if (how == 0) flip(path);
        if (how == 1) assert_int_equal(truncate(path, N / 2), 0);
        if (how == 2) assert_int_equal(truncate(path, 0), 0);
        put_whole(&f, data, N, &hash);
    }
    free(data);
    fixture_close(&f);
}

static void everybody_has_parts_of_their_own(void **state)
{
    struct fixture f;
    char data[1000], path[256], hex[CN_HASH_HEX], folder[256];
    struct cn_hash hash;
    struct cn_error err;
    uint64_t have;
    memset(data, 'a', sizeof data);
    cn_hash_bytes(data, sizeof data, &hash);
    cn_hash_hex(&hash, hex);
    fixture_open(&f, NULL);
    blob_path(&f, NULL, hex, path);
    snprintf(folder, sizeof folder, "%s/blobs/%.2s", f.state, hex);
    struct uploads *u = up_create(f.state);
    struct up_key anna = {hash, sizeof data, up_user("anna")}, ben = anna;
    ben.user = up_user("ben");
    assert_int_equal(up_add(u, &ben, 0, "spoilt", 6, &have, &err), 0);
    assert_int_equal(up_add(u, &anna, 0, data, 500, &have, &err), 0);
    assert_int_equal(have, 500);
    assert_int_equal(up_add(u, &anna, 0, data, 500, &have, &err), 0); /* said twice */
    assert_int_equal(have, 500);
    assert_int_equal(up_add(u, &anna, 500, data, 500, &have, &err), 0);
    assert_int_equal(up_complete(u, &anna, &hash, folder, path, &err), 0);
    assert_true(cn_file_exists(path));
    assert_int_equal(up_have(u, &ben), 6);
    up_forget(u, &ben);
    up_destroy(u);
    is_empty(&f, "partial");
    fixture_close(&f);
}

/* ---- the folder */

static int open_to_others; /* nftw takes no argument */

static int look(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    if (S_ISSOCK(st->st_mode) || !(st->st_mode & 077)) return 0;
    print_message("%s is %o\n", path, (unsigned)st->st_mode & 0777);
    open_to_others++;
    return 0;
}

static void closed(const char *dir)
{
    open_to_others = 0;
    nftw(dir, look, 16, FTW_PHYS);
    assert_int_equal(open_to_others, 0);
}

static void the_folder_is_its_owners_alone(void **state)
{
    struct fixture f;
    char hex[65], path[256], copy[128];
    mode_t mask = umask(0);
    train_one(&f, NULL, hex, path);
    closed(f.state);
    fixture_stop_workers(&f);
    fixture_stop(&f);
    assert_int_equal(chmod(f.state, 0755), 0); /* as an older version left it */
    assert_int_equal(chmod(path, 0644), 0);
    snprintf(path, sizeof path, "%s/queue.db", f.state);
    assert_int_equal(chmod(path, 0666), 0);
    fixture_start(&f, NULL);
    closed(f.state);
    snprintf(copy, sizeof copy, "%s/copy", f.dir);
    assert_int_equal(ad_backup(f.state, copy, false, stdout, &f.err), 0);
    closed(copy);
    umask(mask);
    fixture_close(&f);
}

static void a_backup_tells_what_it_lacks(void **state)
{
    struct fixture f;
    char hex[65], path[256], copy[128], other[512];
    struct stat a, b;
    train_one(&f, &(struct co_options){.scrub_mb = -1}, hex, path);
    fixture_stop_workers(&f);
    for (int links = 0; links < 2; links++) {
        snprintf(copy, sizeof copy, "%s/copy%d", f.dir, links);
        assert_int_equal(ad_backup(f.state, copy, links, stdout, &f.err), 0);
        snprintf(other, sizeof other, "%s/blobs/%.2s/%s", copy, hex, hex);
        assert_int_equal(stat(path, &a) || stat(other, &b), 0);
        assert_int_equal(a.st_ino == b.st_ino, links);
        assert_int_equal(ad_check(copy, stdout, &f.err), 0);
        if (links) unlink(other); /* flipping a bit would flip it in both */
    }
    flip(path);
    for (int links = 0; links < 2; links++) {
        snprintf(copy, sizeof copy, "%s/bad%d", f.dir, links);
        assert_int_equal(ad_backup(f.state, copy, links, stdout, &f.err), CN_ECORRUPT);
        assert_non_null(strstr(f.err.text, hex));
        assert_non_null(strstr(f.err.text, "model of j1"));
    }
    unlink(path);
    snprintf(copy, sizeof copy, "%s/less", f.dir);
    assert_int_equal(ad_backup(f.state, copy, false, stdout, &f.err), CN_ECORRUPT);
    assert_non_null(strstr(f.err.text, "missing"));
    fixture_close(&f);
}

static void after_an_unclean_end_the_queue_is_checked(void **state)
{
    struct fixture f;
    char path[256];
    struct grid g = {.seeds = 500, .never = true};
    fixture_open(&f, NULL);
    pr_free(fixture_submit(&f, &g));
    snprintf(path, sizeof path, "%s/running", f.state);
    assert_true(cn_file_exists(path));
    fixture_stop(&f);
    assert_false(cn_file_exists(path));
    assert_int_equal(cn_file_write(path, "", 0, NULL), 0); /* as after kill -9 */
    fixture_start(&f, NULL);
    fixture_stop(&f);
    char junk[4096], db[256];
    memset(junk, 0x5a, sizeof junk);
    snprintf(db, sizeof db, "%s/queue.db", f.state);
    int fd = open(db, O_WRONLY);
    for (int page = 5; page < 25; page++)
        assert_int_equal(pwrite(fd, junk, sizeof junk, page * 4096), sizeof junk);
    close(fd);
    assert_int_equal(cn_file_write(path, "", 0, NULL), 0);
    struct co_options o = {.state = f.state, .listen = {f.ipc}, .n_listen = 1};
    assert_int_equal(co_create(&f.c, &o, &f.err), CN_ECORRUPT);
    assert_non_null(strstr(f.err.text, "damaged"));
    cn_rmtree(f.dir, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_fsync_is_never_forgotten),
        cmocka_unit_test(a_name_that_is_not_safe_is_not_called_safe),
        cmocka_unit_test(a_database_that_cannot_be_written_ends_it),
        cmocka_unit_test(a_damaged_model_is_made_again),
        cmocka_unit_test(the_scrub_finds_it_before_somebody_needs_it),
        cmocka_unit_test(what_vanished_or_was_put_aside_meanwhile_is_made_again),
        cmocka_unit_test(a_damaged_dataset_is_asked_for),
        cmocka_unit_test(sent_again_it_is_whole_again),
        cmocka_unit_test(everybody_has_parts_of_their_own),
        cmocka_unit_test(the_folder_is_its_owners_alone),
        cmocka_unit_test(a_backup_tells_what_it_lacks),
        cmocka_unit_test(after_an_unclean_end_the_queue_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
