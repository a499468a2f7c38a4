/* Tests of base/: random numbers against published vectors, YAML places, files that are all or
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/pool.h"
#include "base/rng.h"
#include "base/yaml.h"

/* Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors). */
static void philox_known_answers(void **state)
{
    cn_rng4 zero = cn_rng(0, 0, 0, 0);
    assert_int_equal(zero.v[0], 0x6627e8d5);
    assert_int_equal(zero.v[1], 0xe169c58d);
    assert_int_equal(zero.v[2], 0xbc57ac4c);
    assert_int_equal(zero.v[3], 0x9b00dbd8);
    cn_rng4 ones = cn_rng(~0ull, ~0u, ~0u, ~0ull);
    assert_int_equal(ones.v[0], 0x408f276d);
    assert_int_equal(ones.v[1], 0x41c83b0e);
    assert_int_equal(ones.v[2], 0xa20bc7c6);
    assert_int_equal(ones.v[3], 0x6d5451fd);
}

static void shuffle_is_a_permutation(void **state)
{
    const uint32_t sizes[] = {1, 2, 3, 5, 64, 65, 1585, 17441};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint32_t n = sizes[s], fixed = 0;
        uint8_t *seen = calloc(n, 1);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t j = cn_rng_shuffle(7, 3, i, n);
            assert_true(j < n && !seen[j]);
            seen[j] = 1;
            fixed += i == j;
        }
        if (n > 1000) assert_true(fixed < 20);
        free(seen);
    }
}

static int parse(const char *text, struct cn_yaml **y, struct cn_error *err)
{
    return cn_yaml_parse(y, "grid.yaml", text, strlen(text), err);
}

static void yaml_names_the_place(void **state)
{
    struct cn_yaml *y;
    struct cn_error err;
    assert_int_equal(parse("nets: [cnn]\nepoch: 3\n", &y, &err), 0);
    const char *known[] = {"nets", "epochs", NULL};
    assert_int_equal(cn_yaml_only(y, known, &err), CN_EINVALID);
    assert_string_equal(err.text, "grid.yaml:2:1: unknown key 'epoch'; did you mean 'epochs'?");
    int64_t v;
    assert_int_equal(cn_yaml_int(cn_yaml_get(y, "epoch"), "epochs", 5, 9, &v, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "grid.yaml:2:8: epochs must lie between 5 and 9"));
    cn_yaml_destroy(y);

    assert_int_equal(parse("a: 1\na: 2\n", &y, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "2:1"));
    assert_int_equal(parse("a: [1, 2\nb: 3\n", &y, &err), CN_EINVALID);
    assert_int_equal(parse("a: &x 1\nb: *x\n", &y, &err), CN_EINVALID);
    assert_int_equal(parse("# nothing\n", &y, &err), 0);
    assert_int_equal(y->n, 0);
    cn_yaml_destroy(y);
}

static void yaml_is_one_plain_tree(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"a: 1\n---\nb: 2\n", "grid.yaml:2:1: a second document"},
        {"---\na: 1\n...\n---\n", "grid.yaml:4:1: a second document"},
        {"a: 1\n...\ngarbage\n", "grid.yaml:3:"},
        {"{a: 1} b", "grid.yaml:1:8: "},
        {"a: 1\n  b: 2\n", "grid.yaml:2:"},
        {"a: &x 1\n", "grid.yaml:1:4: anchors"},
        {"a: &x [1]\n", "grid.yaml:1:4: anchors"},
        {"&x a: 1\n", "grid.yaml:1:"},
        {"a: *x\n", "grid.yaml:1:4: aliases"},
        {"a: !!str 1\n", "grid.yaml:1:4: tags"},
        {"a: !mine {b: 1}\n", "grid.yaml:1:4: tags"},
        {"%TAG ! tag:x,2000:\n---\na: 1\n", "grid.yaml:1:1: directives"},
        {"%YAML 1.1\n---\na: 1\n", "grid.yaml:1:1: directives"},
        {"a: 1\r...\r%TAG !a! b\r", "grid.yaml:1:1: directives"},
        {"a: \"x\\0y\"\n", "grid.yaml:1:4: a text with a 0"},
        {"b: 1\na: 1\nc: 1\na: 2\nb: 2\n", "grid.yaml:4:1: key 'a' stands here twice"},
        {"x: {b: 1, c: 2, \"b\": 3}\n", "grid.yaml:1:17: key 'b' stands here twice"},
        {"? [a]\n: 1\n", "grid.yaml:1:3: a key must be a plain word"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cn_yaml *y;
        struct cn_error err;
        assert_int_equal(parse(bad[i].text, &y, &err), CN_EINVALID);
        assert_null(y);
        if (!strstr(err.text, bad[i].says)) fail_msg("'%s' lacks '%s'", err.text, bad[i].says);
    }
    struct cn_yaml *y;
    struct cn_error err;
    assert_int_equal(parse("---\na: 1\n...\n# the end\n", &y, &err), 0);
    cn_yaml_destroy(y);
    assert_int_equal(parse("\xEF\xBB\xBF"
                           "a: 50 %TAG\n",
                           &y, &err),
                     0); /* a mark of UTF-8 */
    assert_string_equal(cn_yaml_get(y, "a")->text, "50 %TAG");
    cn_yaml_destroy(y);
}

static void yaml_refuses_depth(void **state)
{
    char deep[200] = "";
    memset(deep, '[', 100);
    struct cn_yaml *y;
    struct cn_error err;
    assert_int_equal(parse(deep, &y, &err), CN_EINVALID);
    assert_null(y);
}

static void write_is_all_or_nothing(void **state)
{
    char dir[] = "/tmp/cinch-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/f", dir);
    struct cn_error err;
    assert_int_equal(cn_file_write(path, "old", 3, &err), 0);

    /* a file-size limit stands in for a full disk */
    struct rlimit was, small = {4096, 4096};
    getrlimit(RLIMIT_FSIZE, &was);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    char *big = calloc(1, 100000);
    assert_true(cn_file_write(path, big, 100000, &err) < 0);
    setrlimit(RLIMIT_FSIZE, &was);
    free(big);

    char *back;
    size_t n;
    assert_int_equal(cn_file_read(path, 100, &back, &n, &err), 0);
    assert_string_equal(back, "old");
    free(back);
    assert_int_equal(cn_file_read(path, 2, &back, &n, &err), CN_ELIMIT);
    assert_int_equal(cn_file_read("/nonexistent/x", 2, &back, &n, &err), CN_ENOTFOUND);
    assert_int_equal(cn_rmtree(dir, &err), 0);
    assert_false(cn_dir_exists(dir));
}

static void content_is(const char *path, const char *expected)
{
    char *back;
    size_t n;
    assert_int_equal(cn_file_read(path, 100, &back, &n, NULL), 0);
    assert_string_equal(back, expected);
    free(back);
}

static void writing_keeps_what_is_there(void **state)
{
    char dir[] = "/tmp/cinch-test-XXXXXX";
    struct cn_error err;
    struct stat st;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chdir(dir), 0);

    /* links, also of links and to what is not there yet */
    assert_int_equal(mkdir("disk", 0777) | symlink("disk/f", "a") | symlink("a", "b"), 0);
    assert_int_equal(cn_file_write_new("b", "new", 3, &err), 0);
    content_is("disk/f", "new");
    assert_int_equal(cn_file_write("a", "newer", 5, &err), 0);
    content_is("disk/f", "newer");
    assert_true(!lstat("a", &st) && S_ISLNK(st.st_mode) && !lstat("b", &st) && S_ISLNK(st.st_mode));
    assert_int_equal(symlink("round", "round"), 0);
    assert_true(cn_file_write("round", "", 0, &err) < 0);

    /* nothing is replaced by what must be new */
    assert_int_equal(cn_file_write_new("b", "other", 5, &err), CN_EEXISTS);
    content_is("b", "newer");

    /* what is no file */
    assert_int_equal(mkfifo("pipe", 0666), 0);
    assert_int_equal(cn_file_write("disk", "", 0, &err), CN_EINVALID);
    assert_int_equal(cn_file_write("/dev/null", "x", 1, &err), 0);
    assert_true(!stat("/dev/null", &st) && S_ISCHR(st.st_mode));
    assert_int_equal(cn_file_write("/dev/full", "x", 1, &err), CN_ENOSPACE);

    /* a probe finds out, leaves nothing, and waits for no reader of a pipe */
    assert_int_equal(cn_file_probe("b", &err) | cn_file_probe("g", &err), 0);
    assert_int_equal(cn_file_probe("pipe", &err), 0);
    assert_int_equal(cn_file_probe("no/f", &err), CN_ENOTFOUND);
    assert_true(cn_file_probe("disk/f/g", &err) < 0);
    assert_true(cn_file_probe("disk", &err) < 0);
    content_is("b", "newer");
    assert_int_equal(unlink("disk/f") | rmdir("disk"), 0); /* nothing else is in it */
    assert_int_equal(chdir("/") | cn_rmtree(dir, &err), 0);
}

static void hash_round_trip(void **state)
{
    struct cn_hash a, b;
    char hex[CN_HASH_HEX];
    cn_hash_bytes("abc", 3, &a);
    cn_hash_hex(&a, hex);
    /* BLAKE2b-256 of "abc", from Python's hashlib.blake2b(b"abc", digest_size=32) */
    assert_string_equal(hex, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
    assert_int_equal(cn_hash_parse(hex, &b), 0);
    assert_memory_equal(&a, &b, sizeof a);
    hex[5] = 'g';
    assert_int_equal(cn_hash_parse(hex, &b), CN_EINVALID);
}

static void count_item(void *arg, int item, int thread)
{
    atomic_fetch_add((atomic_int *)arg + item, 1);
}

static void pool_runs_each_item_once(void **state)
{
    struct cn_pool *p = cn_pool_create(4);
    static atomic_int hits[1000];
    for (int loop = 0; loop < 50; loop++) cn_pool_run(p, 1000, count_item, hits);
    for (int i = 0; i < 1000; i++) assert_int_equal(atomic_load(&hits[i]), 50);
    cn_pool_destroy(p);
}

static void error_texts(void **state)
{
    struct cn_error err = {0};
    errno = ENOSPC;
    assert_int_equal(cn_fail_errno(&err, "%s", "f"), CN_ENOSPACE);
    assert_int_equal(cn_fail_prefix(&err, "job %d", 3), CN_ENOSPACE);
    assert_string_equal(err.text, "job 3: f: No space left on device");
    assert_string_equal(cn_code_name(CN_ECORRUPT), "CORRUPT");
}

/* What is no regular file is refused at once: a pipe without a writer would be waited for for ever. */
static void pipes_folders_and_devices_are_no_files(void **state)
{
    char dir[] = "/tmp/cinch-base-XXXXXX", pipe[64], *data;
    struct cn_map m;
    struct cn_hash h;
    assert_non_null(mkdtemp(dir));
    snprintf(pipe, sizeof pipe, "%s/pipe", dir);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    const struct {
        const char *path, *says;
    } bad[] = {{pipe, "a named pipe"}, {dir, "a folder"}, {"/dev/zero", "a device"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cn_error err = {0};
        assert_int_equal(cn_file_read(bad[i].path, 1 << 20, &data, NULL, &err), CN_EINVALID);
        assert_non_null(strstr(err.text, bad[i].says));
        assert_non_null(strstr(err.text, bad[i].path));
        assert_null(data);
        assert_int_equal(cn_map_open(&m, bad[i].path, &err), CN_EINVALID);
        assert_int_equal(cn_hash_file(bad[i].path, &h, &err), CN_EINVALID);
    }
    unlink(pipe);
    rmdir(dir);
}

/* The size is known before any memory is taken. */
static void files_over_the_limit(void **state)
{
    char path[] = "/tmp/cinch-base-XXXXXX", *data;
    struct cn_error err = {0};
    int fd = mkstemp(path);
    assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
    assert_int_equal(cn_file_read(path, 1 << 20, &data, NULL, &err), CN_ELIMIT);
    assert_int_equal(ftruncate(fd, 5), 0);
    assert_int_equal(cn_file_read(path, 5, &data, NULL, &err), 0);
    free(data);
    assert_int_equal(cn_file_read(path, 4, &data, NULL, &err), CN_ELIMIT);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(shuffle_is_a_permutation),
        cmocka_unit_test(yaml_names_the_place),
        cmocka_unit_test(yaml_is_one_plain_tree),
        cmocka_unit_test(yaml_refuses_depth),
        cmocka_unit_test(write_is_all_or_nothing),
        cmocka_unit_test(writing_keeps_what_is_there),
        cmocka_unit_test(hash_round_trip),
        cmocka_unit_test(pool_runs_each_item_once),
        cmocka_unit_test(error_texts),
        cmocka_unit_test(pipes_folders_and_devices_are_no_files),
        cmocka_unit_test(files_over_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
