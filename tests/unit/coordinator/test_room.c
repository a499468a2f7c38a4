/* Room on the disk and bytes of users: counted from the first chunk on, over a restart, until they are gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "coordinator/room.h"

enum { MB = 1000000 };

struct place {
    char dir[64];
    struct room *r;
    struct cn_error err;
};

static void open_room(struct place *p, double reserve, uint64_t quota, int64_t wall)
{
    assert_int_equal(ro_open(&p->r, p->dir, reserve, quota, 1000, wall, &p->err), 0);
}

static void make_place(struct place *p)
{
    char path[128];
    strcpy(p->dir, "/tmp/cinch-room-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(path, sizeof path, "%s/partial", p->dir);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void clear(struct place *p)
{
    ro_close(p->r);
    assert_int_equal(cn_rmtree(p->dir, NULL), 0);
}

static struct up_key key_of(const char *user, uint8_t n, uint64_t size)
{
    return (struct up_key){.name = {{n, 1}}, .size = size, .user = up_user(user)};
}

static int begin(struct place *p, const char *user, uint8_t n, uint64_t size, int64_t now)
{
    struct up_key key = key_of(user, n, size);
    struct ro_sender who = {.user = user};
    return ro_upload(p->r, &key, &who, now, &p->err);
}

static void what_is_declared_counts_for_its_sender(void **state)
{
    struct place p;
    make_place(&p);
    open_room(&p, -1, 10 * MB, 0);
    for (uint8_t i = 0; i < 5; i++) assert_int_equal(begin(&p, "anna", i, 2 * MB, 1000), 0);
    assert_int_equal(begin(&p, "anna", 9, 1, 1000), CN_ELIMIT);
    assert_non_null(strstr(p.err.text, "anna holds 10.0 MB"));
    assert_int_equal(begin(&p, "anna", 3, 2 * MB, 1000), 0); /* it goes on */
    assert_int_equal(begin(&p, "ben", 9, 10 * MB, 1000), 0);
    struct up_key done = key_of("anna", 0, 2 * MB);
    ro_ended(p.r, &done);
    assert_int_equal(begin(&p, "anna", 9, 2 * MB, 1000), 0);
    ro_add(p.r, "cem", 9 * MB); /* results */
    assert_int_equal(ro_check(p.r, "cem", MB, &p.err), 0);
    assert_int_equal(ro_check(p.r, "cem", MB + 1, &p.err), CN_ELIMIT);
    assert_int_equal(ro_check(p.r, "cem", UINT64_MAX, &p.err), CN_ELIMIT);
    ro_add(p.r, "cem", 9 * MB); /* never refused, but nothing more is taken */
    assert_int_equal(ro_check(p.r, "cem", 0, &p.err), CN_ELIMIT);
    ro_sub(p.r, "cem", 18 * MB);
    assert_int_equal(begin(&p, "cem", 1, 10 * MB, 1000), 0);
    clear(&p);
}

static void a_workers_results_are_not_refused(void **state)
{
    struct place p;
    make_place(&p);
    open_room(&p, -1, MB, 0);
    struct up_key key = key_of("box", 1, 5 * MB);
    struct ro_sender who = {.user = "box", .worker = true};
    assert_int_equal(ro_upload(p.r, &key, &who, 1000, &p.err), 0);
    clear(&p);
}

static void parts_count_over_a_restart_until_they_are_old(void **state)
{
    struct place p;
    char path[256], old[256], odd[256];
    make_place(&p);
    struct up_key key = key_of("anna", 1, 3 * MB), stale = key_of("anna", 2, 3 * MB), found;
    up_part_path(p.dir, &key, path, sizeof path);
    up_part_path(p.dir, &stale, old, sizeof old);
    snprintf(odd, sizeof odd, "%s/partial/%064d", p.dir, 7);
    assert_int_equal(cn_file_write(path, "12345", 5, NULL), 0);
    assert_int_equal(cn_file_write(old, "12345", 5, NULL), 0);
    assert_int_equal(cn_file_write(odd, "12345", 5, NULL),
                     0); /* of a version that had no users there */
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    int64_t wall = (int64_t)st.st_mtime * 1000 + 1000, hours = 3600 * 1000;
    struct timespec then[2] = {{st.st_mtime - 7 * 3600, 0}, {st.st_mtime - 7 * 3600, 0}};
    assert_int_equal(utimensat(AT_FDCWD, old, then, 0), 0);
    open_room(&p, -1, 4 * MB, wall);
    assert_true(cn_file_exists(path));
    assert_false(cn_file_exists(old) || cn_file_exists(odd));
    assert_int_equal(ro_declared(p.r, &key.name, key.user), 3 * MB);
    assert_int_equal(ro_declared(p.r, &key.name, up_user("ben")), 0);
    assert_int_equal(begin(&p, "anna", 5, 2 * MB, 1000), CN_ELIMIT);
    bool gone = false;
    for (int i = 0; i < 2000 && !gone; i++) gone = ro_forgotten(p.r, 5 * hours, &found);
    assert_false(gone);
    for (int i = 0; i < 2000 && !gone; i++) gone = ro_forgotten(p.r, 6 * hours + 2000, &found);
    assert_true(gone && !memcmp(&found.name, &key.name, sizeof key.name) && found.size == 3 * MB);
    assert_int_equal(begin(&p, "anna", 5, 2 * MB, 6 * hours), 0);
    clear(&p);
}

static void what_is_coming_in_counts_against_the_reserve(void **state)
{
    struct place p;
    struct statvfs v;
    make_place(&p);
    assert_int_equal(statvfs(p.dir, &v), 0);
    double room = (double)v.f_bavail * (double)v.f_frsize;
    uint64_t third = (uint64_t)(room / 3);
    open_room(&p, 64e6, 0, 0);
    int64_t minutes = 60 * 1000;
    assert_int_equal(begin(&p, "anna", 1, third, 1000), 0);
    assert_int_equal(begin(&p, "anna", 2, third, 1000), 0);
    assert_int_equal(begin(&p, "ben", 3, third, 1000), CN_ENOSPACE);
    assert_int_equal(begin(&p, "ben", 3, 64000, 9 * minutes), 0);
    assert_int_equal(begin(&p, "anna", 1, third, 9 * minutes), 0); /* goes on; 2 does not */
    assert_int_equal(begin(&p, "ben", 4, third, 12 * minutes), 0);
    assert_int_equal(begin(&p, "anna", 2, third, 13 * minutes), CN_ENOSPACE); /* its room went */
    clear(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_declared_counts_for_its_sender),
        cmocka_unit_test(a_workers_results_are_not_refused),
        cmocka_unit_test(parts_count_over_a_restart_until_they_are_old),
        cmocka_unit_test(what_is_coming_in_counts_against_the_reserve),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
