/* Tests of proto/ without a coordinator: header, decoding under a cap, names, key files, job keys.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/check.h"
#include "proto/keys.h"
#include "proto/message.h"
#include "proto/spec.h"

static void header_comes_back(void **state)
{
    struct pr_header h = {.type = PR_RESULT, .code = CN_ESTALE, .id = 0x1122334455667788ull}, back;
    uint8_t raw[PR_HEADER_BYTES];
    pr_header_put(raw, &h);
    assert_int_equal(raw[8], 0x88); /* little-endian on every machine */
    assert_int_equal(pr_header_get(&back, raw, sizeof raw, NULL), 0);
    assert_int_equal(back.type, PR_RESULT);
    assert_int_equal(back.code, CN_ESTALE);
    assert_true(back.id == h.id);
    assert_int_equal(pr_header_get(&back, raw, sizeof raw - 1, NULL), CN_ECORRUPT);
    raw[0] ^= 1;
    assert_int_equal(pr_header_get(&back, raw, sizeof raw, NULL), CN_ECORRUPT);
}

static void table_is_complete(void **state)
{
    int n = 0;
    for (const struct pr_message_info *m = pr_message_table(); m->name; m++, n++) {
        assert_ptr_equal(pr_message_info(m->type), m);
        for (const struct pr_message_info *o = m + 1; o->name; o++)
            assert_int_not_equal(o->type, m->type);
    }
    assert_true(n > 25);
    assert_null(pr_message_info(9999));
}

/* Two bytes on the wire, a hundred in memory: 4 MiB of empty leases must hit the cap, not the
 * machine. */
static void decoding_is_capped(void **state)
{
    size_t n = PR_MAX_BODY;
    uint8_t *bomb = malloc(n);
    for (size_t i = 0; i + 1 < n; i += 2) bomb[i] = 0x0a, bomb[i + 1] = 0x00;
    ProtobufCMessage *m;
    struct cn_error err;
    assert_int_equal(pr_unpack(&m, PR_LEASE_GRANT, bomb, n, &err), CN_ELIMIT);
    assert_null(m);
    assert_int_equal(pr_unpack(&m, PR_LEASE_GRANT, bomb, 64, &err), 0);
    assert_int_equal(((Cinch__LeaseGrant *)(void *)m)->n_leases, 32);
    pr_free(m);
    assert_int_equal(pr_unpack(&m, PR_LEASE_GRANT, "\xff\xff\xff", 3, &err), CN_ECORRUPT);
    assert_int_equal(pr_unpack(&m, 9999, "", 0, &err), CN_EUNSUPPORTED);
    free(bomb);
}

static void names_are_never_paths(void **state)
{
    const char *good[] = {"ptbxl", "study-a", "anna@box", "r1:2+3", "a.b_c"};
    const char *bad[] = {"",        ".",   "..",   "../x",     "a/b",  "-x",
                         ".hidden", "a b", "a\nb", "\xc3\xa4", "a\\b", "%2e%2e"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(pr_name_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(pr_name_valid(bad[i]));
    char longest[PR_MAX_NAME + 2];
    memset(longest, 'a', sizeof longest);
    longest[PR_MAX_NAME + 1] = 0;
    assert_false(pr_name_valid(longest));
    longest[PR_MAX_NAME] = 0;
    assert_true(pr_name_valid(longest));
}

static void text_is_utf8(void **state)
{
    assert_true(pr_text_valid("Ho\xc5\x82"
                              "da, \xe2\x89\xa5 3\n",
                              100));
    const char *bad[] = {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80",
                         "\xc3",     "a\x01",        "\x7f",         "\xe2\x89"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(pr_text_valid(bad[i], 100));
    assert_false(pr_text_valid("abc", 2));
    assert_true(pr_text_valid("abc", 3));
}

static void submit_is_checked(void **state)
{
    uint8_t nonce[PR_INSTANCE_BYTES] = {1}, fp[CN_HASH_BYTES] = {2};
    Cinch__Net net = CINCH__NET__INIT, *nets[] = {&net};
    uint64_t seeds[] = {1};
    double keep[] = {0.5};
    Cinch__Prune prune = CINCH__PRUNE__INIT;
    prune.n_keep = 1;
    prune.keep = keep;
    net.name = (char *)"cnn";
    Cinch__Submit s = CINCH__SUBMIT__INIT;
    s.nonce = (ProtobufCBinaryData){sizeof nonce, nonce};
    s.fingerprint = (ProtobufCBinaryData){sizeof fp, fp};
    s.name = (char *)"grid";
    s.n_nets = 1;
    s.nets = nets;
    s.n_seeds = 1;
    s.seeds = seeds;
    s.prune = &prune;
    struct cn_error err;
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), 0);
    keep[0] = 0;
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "prune.keep"));
    keep[0] = 0.0 / 0.0; /* not a number is in no range */
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
    keep[0] = 1;
    s.name = (char *)"../../etc/passwd";
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
    s.name = (char *)"grid";
    s.nonce.len = 3;
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
}

/* What a total of epochs and several splits demand of a submit. */
static void submit_of_stages_is_checked(void **state)
{
    uint8_t nonce[PR_INSTANCE_BYTES] = {1}, fp[CN_HASH_BYTES] = {2}, other[CN_HASH_BYTES] = {3};
    Cinch__Finetune two = CINCH__FINETUNE__INIT, three = CINCH__FINETUNE__INIT;
    Cinch__Finetune *finetunes[] = {&two, &three};
    Cinch__Net net = CINCH__NET__INIT, *nets[] = {&net};
    Cinch__Split first = CINCH__SPLIT__INIT, second = CINCH__SPLIT__INIT;
    Cinch__Split *splits[] = {&first, &second};
    Cinch__Prune prune = CINCH__PRUNE__INIT;
    Cinch__Submit s = CINCH__SUBMIT__INIT;
    uint64_t seeds[] = {1};
    uint32_t rounds[] = {2};
    char *names[] = {(char *)"weight"};
    struct cn_error err;
    two.epochs = 2;
    three.epochs = 3;
    net.name = (char *)"beat";
    net.finetunes = finetunes;
    net.n_finetunes = 2;
    first.name = (char *)"random";
    second.name = (char *)"patient";
    first.fingerprint = (ProtobufCBinaryData){sizeof fp, fp};
    second.fingerprint = (ProtobufCBinaryData){sizeof other, other};
    prune.n_rounds = 1;
    prune.rounds = rounds;
    prune.total_epochs = 5;
    prune.units = names;
    prune.n_units = 1;
    s.nonce = (ProtobufCBinaryData){sizeof nonce, nonce};
    s.fingerprint = (ProtobufCBinaryData){sizeof fp, fp};
    s.name = (char *)"grid";
    s.n_nets = s.n_seeds = 1;
    s.nets = nets;
    s.seeds = seeds;
    s.prune = &prune;
    s.splits = splits;
    s.n_splits = 2;
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), 0);
    net.n_finetunes = 1; /* the first round has 3 epochs, for which there is no recipe now */
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "3 epochs"));
    net.n_finetunes = 2;
    rounds[0] = 6; /* a round without an epoch */
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
    rounds[0] = 2;
    names[0] = (char *)"../weight";
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
    names[0] = (char *)"weight";
    second.fingerprint.len = 3;
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
    second.fingerprint.len = sizeof other;
    s.fingerprint.data = other; /* not the first split's */
    assert_int_equal(pr_check(PR_SUBMIT, &s.base, &err), CN_EINVALID);
}

static void epochs_are_shared_out(void **state)
{
    for (uint32_t rounds = 1; rounds <= 12; rounds++)
        for (uint32_t total = rounds; total < 40; total++) {
            uint32_t sum = 0, before = total;
            for (uint32_t k = 1; k <= rounds; k++) {
                uint32_t e = pr_round_epochs(total, rounds, k);
                assert_true(e >= 1 && e <= before && e + 1 >= total / rounds);
                before = e;
                sum += e;
            }
            assert_int_equal(sum, total);
        }
}

static void key_file_is_private(void **state)
{
    char dir[] = "/tmp/cinch-keys-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/anna.key", dir);
    struct pr_key k, back;
    struct cn_error err;
    assert_int_equal(pr_key_make(&k, "anna", "submit", &err), 0);
    assert_int_equal(pr_key_save(&k, path, &err), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(pr_key_load(&back, path, &err), 0);
    assert_memory_equal(&k, &back, sizeof k);
    assert_int_not_equal(pr_key_save(&k, path, &err), 0); /* never over an existing key */
    chmod(path, 0640);
    assert_int_equal(pr_key_load(&back, path, &err), CN_EREFUSED);
    assert_non_null(strstr(err.text, "chmod 600"));
    assert_int_equal(pr_key_make(&k, "anna", "emperor", &err), CN_EINVALID);
    assert_int_equal(pr_key_make(&k, "../anna", "submit", &err), CN_EINVALID);
    unlink(path);
    rmdir(dir);
}

/* Every field must move the key, and nothing else may. */
static void job_key_covers_the_spec(void **state)
{
    struct cn_hash base = {{1}}, p0 = {{2}}, p1 = {{3}}, key[12], again;
    struct pr_spec_key s = {.engine = 1,
                            .kind = CINCH__JOB_KIND__PRUNE,
                            .seed = 7,
                            .rounds = 5,
                            .round = 2,
                            .keep = 0.5,
                            .norm = "L1",
                            .n_parents = 2,
                            .parent = {&p0, &p1}};
    struct pr_spec_key v[12];
    for (int i = 0; i < 12; i++) v[i] = s;
    v[1].engine = 2;
    v[2].kind = CINCH__JOB_KIND__EVALUATE;
    v[3].seed = 8;
    v[4].rounds = 6;
    v[5].round = 3;
    v[6].keep = 0.25;
    v[7].norm = "L2";
    v[8].n_parents = 1;
    v[9].parent[0] = &p1, v[9].parent[1] = &p0; /* roles matter */
    v[10].distilled = 1;
    v[11].nonce = 1;
    for (int i = 0; i < 12; i++) pr_spec_key(&v[i], &base, &key[i]);
    for (int i = 0; i < 12; i++)
        for (int j = 0; j < i; j++) assert_memory_not_equal(&key[i], &key[j], sizeof key[i]);
    pr_spec_key(&s, &base, &again);
    assert_memory_equal(&again, &key[0], sizeof again);
    pr_spec_key(&s, &p0, &again);
    assert_memory_not_equal(&again, &key[0], sizeof again);
}

static void base_hash_ignores_placement(void **state)
{
    Cinch__JobBase b = CINCH__JOB_BASE__INIT;
    struct cn_hash a, c;
    b.net = (char *)"cnn";
    assert_int_equal(pr_base_hash(&b, &a, NULL), 0);
    b.gpu_bytes = 1 << 30;
    assert_int_equal(pr_base_hash(&b, &c, NULL), 0);
    assert_memory_equal(&a, &c, sizeof a);
    b.split = (char *)"patient"; /* the fingerprint tells splits apart */
    assert_int_equal(pr_base_hash(&b, &c, NULL), 0);
    assert_memory_equal(&a, &c, sizeof a);
    b.gpus = 2; /* the order of sums, and without synchronised BatchNorm more than that */
    assert_int_equal(pr_base_hash(&b, &c, NULL), 0);
    assert_memory_not_equal(&a, &c, sizeof a);
    uint8_t body[64];
    assert_true(cinch__job_base__get_packed_size(&b) <= sizeof body);
    assert_int_equal(pr_base_gpus(body, cinch__job_base__pack(&b, body)), 2);
    b.gpus = 0;
    b.net = (char *)"rnn";
    assert_int_equal(pr_base_hash(&b, &c, NULL), 0);
    assert_memory_not_equal(&a, &c, sizeof a);
    b.prune_unit = (char *)"weight";
    assert_int_equal(pr_base_hash(&b, &a, NULL), 0);
    assert_memory_not_equal(&a, &c, sizeof a);
    b.prune_schedule = (char *)"sensitivity";
    assert_int_equal(pr_base_hash(&b, &c, NULL), 0);
    assert_memory_not_equal(&a, &c, sizeof a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_comes_back),
        cmocka_unit_test(table_is_complete),
        cmocka_unit_test(decoding_is_capped),
        cmocka_unit_test(names_are_never_paths),
        cmocka_unit_test(text_is_utf8),
        cmocka_unit_test(submit_is_checked),
        cmocka_unit_test(submit_of_stages_is_checked),
        cmocka_unit_test(epochs_are_shared_out),
        cmocka_unit_test(key_file_is_private),
        cmocka_unit_test(job_key_covers_the_spec),
        cmocka_unit_test(base_hash_ignores_placement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
