/* Tests of ecg/dataset, ecg/cache and ecg/inputs: what is in the cache, when it is built and when not,
 * builders at once, and that a failure leaves nothing behind. */
#include "fake.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "ecg/cache.h"
#include "ecg/dataset.h"
#include "ecg/preprocess.h"

#define RECORDS 40

/* Progress of a build: how often it was called, and that it only ever counts up by one. */
struct seen {
    int calls, last, total, wrong;
};

static void progress(void *arg, int done, int total)
{
    struct seen *s = arg;
    s->calls++;
    s->wrong += done != s->last + 1 || (s->total && total != s->total);
    s->last = done;
    s->total = total;
}

static int open_in(struct ecg_dataset **d, const char *dir, const char *cache, struct seen *seen,
                   struct cn_error *err)
{
    struct ecg_build b = {.dir = dir, .cache_dir = cache, .threads = 3};
    if (seen) {
        memset(seen, 0, sizeof *seen);
        b.progress = progress;
        b.progress_arg = seen;
    }
    return ecg_dataset_open(d, &b, err);
}

/* Files in a folder whose names end in `ending`. */
static int files(const char *dir, const char *ending)
{
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        size_t len = strlen(e->d_name), m = strlen(ending);
        n += len >= m && !strcmp(e->d_name + len - m, ending);
    }
    if (d) closedir(d);
    return n;
}

static void content_of_the_cache(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct seen seen;
    struct cn_error err;
    static float x[12000];
    fake_folder(dir, "content");
    fake_folder(cache, "content-cache");
    fake_ptbxl(dir, RECORDS);
    must(open_in(&d, dir, cache, &seen, &err), &err);
    assert_int_equal(seen.calls, 2 * RECORDS);
    assert_int_equal(seen.total, 2 * RECORDS);
    assert_int_equal(seen.wrong, 0);
    assert_true(d->n == RECORDS && d->n_leads == 12 && d->n_samples == 1000 && d->hz == 100);
    assert_true(d->task == ECG_MULTI_LABEL && d->n_labels == 5);
    assert_string_equal(d->label[0], "NORM");
    assert_int_equal((uintptr_t)d->x % 64, 0);
    struct ecg_norm norm = {d->mean, d->std};
    struct ecg_prep how = {.stage = ECG_NORMALISED, .norm = &norm};
    for (int i = 0; i < RECORDS; i++) {
        snprintf(path, sizeof path, "%s/records100/00000/%05d_lr", dir, i + 1);
        must((int)ecg_preprocess_file(path, &how, x, &err), &err);
        assert_memory_equal(d->x + i * 12000, x, sizeof x); /* what `infer` sees, bit for bit */
        snprintf(path, sizeof path, "%05d_lr", i + 1);
        assert_string_equal(d->id[i], path);
        assert_int_equal(d->fold[i], i % 10 + 1);
        for (int l = 0; l < 5; l++) assert_int_equal(d->y[i * 5 + l], l == (i + 1) % 6);
    }
    ecg_dataset_close(d);
}

/* Over the training folds alone, every lead has mean 0 and deviation 1. */
static void statistics_come_from_the_training_part(void **state)
{
    char dir[256], cache[256];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "stats");
    fake_folder(cache, "stats-cache");
    fake_ptbxl(dir, RECORDS);
    must(open_in(&d, dir, cache, NULL, &err), &err);
    uint32_t *idx;
    int n;
    must(ecg_dataset_part(d, ECG_TRAIN, &idx, &n, &err), &err);
    assert_int_equal(n, 32);
    for (int l = 0; l < 12; l++) {
        double sum = 0, squares = 0;
        for (int k = 0; k < n; k++)
            for (int t = 0; t < 1000; t++) {
                double v = (double)d->x[idx[k] * 12000 + (uint32_t)l * 1000 + (uint32_t)t];
                sum += v;
                squares += v * v;
            }
        assert_true(fabs(sum / n / 1000) < 1e-6 && fabs(squares / n / 1000 - 1) < 1e-5);
    }
    for (int k = 0; k < n; k++) assert_true(d->fold[idx[k]] <= 8 && (!k || idx[k] > idx[k - 1]));
    free(idx);
    must(ecg_dataset_part(d, ECG_UNUSED, &idx, &n, &err), &err);
    assert_int_equal(n, 0);
    free(idx);
    ecg_dataset_close(d);
}

static void same_bytes_for_any_number_of_threads(void **state)
{
    char dir[256], cache[256], path[512], *bytes[3];
    size_t n[3];
    fake_folder(dir, "threads");
    fake_ptbxl(dir, RECORDS);
    for (int k = 0; k < 3; k++) {
        struct ecg_dataset *d;
        struct cn_error err;
        fake_folder(cache, "threads-cache");
        struct ecg_build b = {.dir = dir, .cache_dir = cache, .threads = 1 + 3 * k};
        must(ecg_dataset_open(&d, &b, &err), &err);
        assert_int_equal(ecg_dataset_path(d, path, sizeof path), 0);
        assert_int_equal(ecg_dataset_path(d, path, 8), CN_ELIMIT);
        ecg_dataset_path(d, path, sizeof path);
        must(cn_file_read(path, 1 << 26, &bytes[k], &n[k], &err), &err);
        ecg_dataset_close(d);
    }
    assert_true(n[0] == n[1] && n[0] == n[2]);
    assert_memory_equal(bytes[0], bytes[1], n[0]);
    assert_memory_equal(bytes[0], bytes[2], n[0]);
    for (int k = 0; k < 3; k++) free(bytes[k]);
}

/* --- when it is built ------------------------------------------------------------------------ */

static void opened_again_without_building(void **state)
{
    char dir[256], cache[256], other[256], path[512];
    struct ecg_dataset *d;
    struct seen seen;
    struct cn_error err;
    fake_folder(dir, "again");
    fake_folder(cache, "again-cache");
    fake_folder(other, "again-moved");
    fake_ptbxl(dir, RECORDS);
    must(open_in(&d, dir, cache, &seen, &err), &err);
    struct cn_hash fingerprint = d->fingerprint;
    ecg_dataset_close(d);
    must(open_in(&d, dir, cache, &seen, &err), &err);
    assert_int_equal(seen.calls, 0);
    ecg_dataset_close(d);

    /* elsewhere, with other times: the same content, so the same file, and a second key to it */
    assert_int_equal(rmdir(other), 0);
    assert_int_equal(rename(dir, other), 0);
    snprintf(path, sizeof path, "%s/records100/00000/00003_lr.dat", other);
    assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
    must(open_in(&d, other, cache, &seen, &err), &err);
    assert_int_equal(seen.calls, 0);
    assert_memory_equal(&d->fingerprint, &fingerprint, sizeof fingerprint);
    ecg_dataset_close(d);
    assert_int_equal(files(cache, ".ecg"), 1);
    snprintf(path, sizeof path, "%s/keys", cache);
    assert_int_equal(files(path, "") - 2, 2);
}

static void changed_inputs_give_another_cache(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct seen seen;
    struct cn_error err;
    struct stat st;
    fake_folder(dir, "changed");
    fake_folder(cache, "changed-cache");
    fake_ptbxl(dir, RECORDS);
    must(open_in(&d, dir, cache, NULL, &err), &err);
    struct cn_hash before = d->fingerprint;
    ecg_dataset_close(d);

    /* the same size, and the mtime put back: only ctime tells */
    snprintf(path, sizeof path, "%s/ptbxl_database.csv", dir);
    assert_int_equal(stat(path, &st), 0);
    fake_replace(path, "'IMI'", "'LVH'");
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    must(open_in(&d, dir, cache, &seen, &err), &err);
    assert_int_equal(seen.calls, 2 * RECORDS);
    assert_memory_not_equal(&d->fingerprint, &before, sizeof before);
    assert_true(d->y[0 * 5 + 1] == 0 && d->y[0 * 5 + 3] == 1);
    ecg_dataset_close(d);
    assert_int_equal(files(cache, ".ecg"), 2);
}

static void fill_with_junk(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.') fake_text(dir, e->d_name, "junk");
    closedir(d);
}

static void a_damaged_cache_is_built_again(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct seen seen;
    struct cn_error err;
    fake_folder(dir, "rebuilt");
    fake_folder(cache, "rebuilt-cache");
    fake_ptbxl(dir, RECORDS);
    must(open_in(&d, dir, cache, NULL, &err), &err);
    ecg_dataset_path(d, path, sizeof path);
    ecg_dataset_close(d);
    assert_int_equal(truncate(path, 5000), 0);
    cn_log_level(CN_ERROR);
    must(open_in(&d, dir, cache, &seen, &err), &err);
    cn_log_level(CN_INFO);
    assert_int_equal(seen.calls, 2 * RECORDS);
    assert_int_equal(d->n, RECORDS);
    ecg_dataset_close(d);

    /* a key that leads nowhere, and one that is no key */
    assert_int_equal(unlink(path), 0);
    must(open_in(&d, dir, cache, &seen, &err), &err);
    assert_int_equal(seen.calls, 2 * RECORDS);
    ecg_dataset_close(d);
    snprintf(path, sizeof path, "%s/keys", cache);
    fill_with_junk(path);
    must(open_in(&d, dir, cache, &seen, &err), &err);
    assert_int_equal(seen.calls, 0);
    ecg_dataset_close(d);
}

static void builders_at_once(void **state)
{
    char dir[256], cache[256];
    pid_t child[4];
    fake_folder(dir, "builders");
    fake_folder(cache, "builders-cache");
    fake_ptbxl(dir, RECORDS);
    for (int k = 0; k < 4; k++) {
        child[k] = fork();
        if (child[k] == 0) {
            struct ecg_dataset *d;
            struct seen seen;
            struct cn_error err;
            cn_log_level(CN_SILENT);
            int rc = open_in(&d, dir, cache, &seen, &err);
            int good = !rc && d->n == RECORDS && !ecg_cache_check_samples(d, &err);
            ecg_dataset_close(rc ? NULL : d);
            _exit(!good ? 9 : seen.calls ? 1 : 0); /* child */
        }
    }
    int built = 0;
    for (int k = 0; k < 4; k++) {
        int status;
        waitpid(child[k], &status, 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
        built += WEXITSTATUS(status);
    }
    assert_int_equal(built, 1);
    assert_int_equal(files(cache, ".part"), 0);
}

/* A builder that is killed leaves a .part; the next one is not disturbed by it. */
static void killed_builder(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "killed");
    fake_folder(cache, "killed-cache");
    fake_ptbxl(dir, RECORDS);
    must(open_in(&d, dir, cache, NULL, &err), &err);
    ecg_dataset_path(d, path, sizeof path);
    ecg_dataset_close(d);
    assert_int_equal(unlink(path), 0);
    strcat(path, ".part");
    fake_write(path, "half", 4);
    must(open_in(&d, dir, cache, NULL, &err), &err);
    assert_int_equal(ecg_cache_check_samples(d, &err), 0);
    ecg_dataset_close(d);
    assert_int_equal(files(cache, ".part"), 0);
}

/* --- failures -------------------------------------------------------------------------------- */

static void bad_inputs_leave_nothing(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(cache, "bad-cache");
    must_fail(open_in(&d, "/no/such/folder", cache, NULL, &err), CN_ENOTFOUND, &err,
              "/no/such/folder: no such folder");
    fake_folder(dir, "bad");
    must_fail(open_in(&d, dir, cache, NULL, &err), CN_ENOTFOUND, &err, "no dataset here");
    fake_ptbxl(dir, RECORDS);
    snprintf(path, sizeof path, "%s/records100/00000/00033_lr.dat", dir);
    fake_flip(path, 5000);
    snprintf(path, sizeof path, "%s/records100/00000/00021_lr.dat", dir);
    assert_int_equal(truncate(path, 100), 0);
    for (int k = 0; k < 5; k++) /* the first in the table's order, whatever the threads do */
        must_fail(open_in(&d, dir, cache, NULL, &err), CN_ECORRUPT, &err,
                  "00021_lr.dat: truncated: 100 bytes");
    assert_int_equal(unlink(path), 0);
    must_fail(open_in(&d, dir, cache, NULL, &err), CN_ENOTFOUND, &err, "00021_lr.dat");
    fake_ptbxl(dir, RECORDS);
    snprintf(path, sizeof path, "%s/records100/00000/00033_lr.hea", dir);
    fake_replace(path, "00033_lr.dat 16", "00001_lr.dat 16");
    must_fail(open_in(&d, dir, cache, NULL, &err), CN_EINVALID, &err,
              "00033_lr.hea:2: '00001_lr.dat' is no file of this");
    assert_null(d);
    assert_int_equal(files(cache, ".ecg") + files(cache, ".part"), 0);
}

static void no_training_folds(void **state)
{
    char dir[256], cache[256];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "untrained");
    fake_folder(cache, "untrained-cache");
    fake_ptbxl(dir, 2);
    fake_text(dir, "ptbxl_database.csv",
              "ecg_id,scp_codes,strat_fold,filename_lr\n1,{},9,records100/00000/00001_lr\n");
    must_fail(open_in(&d, dir, cache, NULL, &err), CN_EINVALID, &err, "training folds 1-8");
    assert_int_equal(files(cache, ".ecg") + files(cache, ".part"), 0);
}

/* A disk that is full, or nearly: here, a limit on file size. */
static void no_room_for_the_cache(void **state)
{
    char dir[256], cache[256];
    struct ecg_dataset *d;
    struct cn_error err;
    struct rlimit old, tight = {1 << 20, RLIM_INFINITY};
    fake_folder(dir, "full");
    fake_folder(cache, "full-cache");
    fake_ptbxl(dir, RECORDS);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    tight.rlim_max = old.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    int rc = open_in(&d, dir, cache, NULL, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    must_fail(rc, CN_EIO, &err, "cannot reserve 1.9 MB for the dataset cache");
    assert_int_equal(files(cache, ".ecg") + files(cache, ".part"), 0);
}

static void places_for_the_cache(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "places");
    fake_folder(cache, "places-cache");
    fake_ptbxl(dir, 8);
    setenv("XDG_CACHE_HOME", cache, 1);
    must(open_in(&d, dir, NULL, NULL, &err), &err);
    ecg_dataset_path(d, path, sizeof path);
    assert_memory_equal(path, cache, strlen(cache));
    assert_memory_equal(path + strlen(cache), "/cinch/", 7);
    ecg_dataset_close(d);
    strcat(cache, "/own");
    setenv("CINCH_CACHE", cache, 1);
    must(open_in(&d, dir, NULL, NULL, &err), &err);
    assert_int_equal(files(cache, ".ecg"), 1);
    ecg_dataset_close(d);
    unsetenv("CINCH_CACHE");
    unsetenv("XDG_CACHE_HOME");
}

/* --- cache files of others ------------------------------------------------------------------- */

/* Maps `bytes` with byte `at` changed to `value`, the hashes put right again when `seal`. */
static int map_changed(const char *bytes, size_t n, size_t at, int value, int seal,
                       struct cn_error *err)
{
    char path[256];
    struct ecg_dataset *d;
    uint8_t *copy = malloc(n);
    memcpy(copy, bytes, n);
    if (at < n) copy[at] = (uint8_t)value;
    if (seal) ecg_cache_seal(copy, n);
    fake_folder(path, "changed-map");
    strcat(path, "/x.ecg");
    fake_write(path, copy, n);
    free(copy);
    int rc = ecg_dataset_map(&d, path, err);
    ecg_dataset_close(d);
    return rc;
}

static void cache_files_are_checked(void **state)
{
    char dir[256], cache[256], path[512], *bytes;
    size_t n;
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "checked");
    fake_folder(cache, "checked-cache");
    fake_ptbxl(dir, 10);
    must(open_in(&d, dir, cache, NULL, &err), &err);
    ecg_dataset_path(d, path, sizeof path);
    ecg_dataset_close(d);
    must(cn_file_read(path, 1 << 26, &bytes, &n, &err), &err);
    must(map_changed(bytes, n, n, 0, 0, &err), &err);
    must(map_changed(bytes, n, n, 0, 1, &err), &err);
    must_fail(map_changed(bytes, 100, n, 0, 0, &err), CN_ECORRUPT, &err, "not a dataset cache");
    must_fail(map_changed(bytes, n, 0, 'X', 1, &err), CN_ECORRUPT, &err, "not a dataset cache");
    must_fail(map_changed(bytes, n, 8, 9, 1, &err), CN_EVERSION, &err,
              "version 9; this cinch reads 1");
    must_fail(map_changed(bytes, n, 60, 1, 0, &err), CN_ECORRUPT, &err, "header hash");
    must_fail(map_changed(bytes, n - 24, n, 0, 1, &err), CN_ECORRUPT, &err, "file size");
    must_fail(map_changed(bytes, n, 148, 11, 1, &err), CN_ECORRUPT, &err, "file size");
    must_fail(map_changed(bytes, n, 151, 255, 1, &err), CN_ECORRUPT, &err, "sizes");
    must_fail(map_changed(bytes, n, 152, 13, 1, &err), CN_ECORRUPT, &err, "sizes");
    must_fail(map_changed(bytes, n, 160, 9, 1, &err), CN_ECORRUPT, &err, "sizes");
    must_fail(map_changed(bytes, n, 144, 3, 1, &err), CN_ECORRUPT, &err, "header fields");
    must_fail(map_changed(bytes, n, 347, 0xff, 1, &err), CN_ECORRUPT, &err, "statistics");
    size_t y = 4096 + 10 * 48000;
    must_fail(map_changed(bytes, n, y, 2, 0, &err), CN_ECORRUPT, &err, "tables hash");
    must_fail(map_changed(bytes, n, y, 2, 1, &err), CN_ECORRUPT, &err, "labels");
    must_fail(map_changed(bytes, n, y + 64, 11, 1, &err), CN_ECORRUPT, &err, "folds");
    must_fail(map_changed(bytes, n, y + 128, 4, 1, &err), CN_ECORRUPT, &err, "folds");
    free(bytes);

    fake_write(path, "", 0);
    must_fail(ecg_dataset_map(&d, path, &err), CN_ECORRUPT, &err, "empty file");
    must_fail(ecg_dataset_map(&d, "/no/such.ecg", &err), CN_ENOTFOUND, &err, "/no/such.ecg");
}

/* The seeds of the fuzzer are written in Python from the specification of the format alone; they lack
 * the zeros that fill the header. */
static void a_file_made_from_the_specification(void **state)
{
    char path[256], *packed;
    size_t n;
    struct ecg_dataset *d;
    struct cn_error err;
    must(cn_file_read(CINCH_SOURCE_DIR "/tests/fuzz/ecg/corpus/cache/multi.bin", 1 << 20, &packed,
                      &n, &err),
         &err);
    uint8_t *file = calloc(1, n + 4096 - 392);
    memcpy(file, packed, 392);
    memcpy(file + 4096, packed + 392, n - 392);
    fake_folder(path, "specified");
    strcat(path, "/x.ecg");
    fake_write(path, file, n + 4096 - 392);
    must(ecg_dataset_map(&d, path, &err), &err);
    must(ecg_cache_check_samples(d, &err), &err);
    assert_true(d->n == 3 && d->n_leads == 2 && d->n_samples == 3 && d->n_labels == 2);
    assert_true(d->x[0] == -3 && d->x[6] == 0 && d->mean[1] == 0.5f && d->std[1] == 2);
    assert_true(d->y[1] == 1 && d->y[4] == 1 && d->fold[2] == 10 && d->part[1] == ECG_VALIDATION);
    assert_string_equal(d->id[2], "r3");
    assert_string_equal(d->label[1], "B");
    assert_int_equal(d->fingerprint.b[31], 31);
    ecg_dataset_close(d);
    free(file);
    free(packed);
}

static void flipped_samples_are_found(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "flipped");
    fake_folder(cache, "flipped-cache");
    fake_ptbxl(dir, 10);
    must(open_in(&d, dir, cache, NULL, &err), &err);
    assert_int_equal(ecg_cache_check_samples(d, &err), 0);
    ecg_dataset_path(d, path, sizeof path);
    ecg_dataset_close(d);
    fake_flip(path, 4096 + 123456);
    must(ecg_dataset_map(&d, path, &err), &err);
    must_fail(ecg_cache_check_samples(d, &err), CN_ECORRUPT, &err, "samples");
    ecg_dataset_close(d);
    ecg_dataset_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(content_of_the_cache),
        cmocka_unit_test(statistics_come_from_the_training_part),
        cmocka_unit_test(same_bytes_for_any_number_of_threads),
        cmocka_unit_test(opened_again_without_building),
        cmocka_unit_test(changed_inputs_give_another_cache),
        cmocka_unit_test(a_damaged_cache_is_built_again),
        cmocka_unit_test(builders_at_once),
        cmocka_unit_test(killed_builder),
        cmocka_unit_test(bad_inputs_leave_nothing),
        cmocka_unit_test(no_training_folds),
        cmocka_unit_test(no_room_for_the_cache),
        cmocka_unit_test(places_for_the_cache),
        cmocka_unit_test(cache_files_are_checked),
        cmocka_unit_test(a_file_made_from_the_specification),
        cmocka_unit_test(flipped_samples_are_found),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_clear();
    return failed;
}
