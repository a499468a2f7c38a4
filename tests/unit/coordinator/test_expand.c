/* A grid's expansion: every cell once, chains of rounds, what distinct axes share, and keys that tell
 * apart what must not be confused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "coordinator/expand.h"

/* A grid of study B: beats, two splits, two units, three schedules, at once and in three stages. */
struct fixture {
    Cinch__Submit s;
    Cinch__Net net, *nets[1];
    Cinch__Prune prune;
    Cinch__Split split[2], *splits[2];
    Cinch__Finetune finetune[3], *finetunes[3];
    uint8_t fp[2][CN_HASH_BYTES];
    uint64_t seeds[2];
    uint32_t rounds[2];
    double keep[1];
    char *norms[2], *units[2], *schedules[3];
};

static const char *const recipe[] = {"{\"epochs\":10}", "{\"epochs\":4}", "{\"epochs\":3}"};

static void fill(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    cinch__submit__init(&f->s);
    cinch__net__init(&f->net);
    cinch__prune__init(&f->prune);
    for (int i = 0; i < 3; i++) {
        cinch__finetune__init(&f->finetune[i]);
        f->finetune[i].epochs = i == 0 ? 10 : i == 1 ? 4 : 3;
        f->finetune[i].recipe = (char *)recipe[i];
        f->finetunes[i] = &f->finetune[i];
    }
    for (int i = 0; i < 2; i++) {
        f->fp[i][0] = (uint8_t)(i + 1);
        cinch__split__init(&f->split[i]);
        f->split[i].name = (char *)(i ? "patient" : "random");
        f->split[i].fingerprint = (ProtobufCBinaryData){CN_HASH_BYTES, f->fp[i]};
        f->splits[i] = &f->split[i];
        f->seeds[i] = (uint64_t)i;
    }
    f->nets[0] = &f->net;
    f->net.name = (char *)"beat";
    f->net.recipe = (char *)"{\"epochs\":20}";
    f->net.finetune = (char *)"{\"epochs\":5}";
    f->net.finetunes = f->finetunes;
    f->net.n_finetunes = 3;
    f->rounds[0] = 1, f->rounds[1] = 3;
    f->keep[0] = 0.4;
    f->norms[0] = (char *)"L1", f->norms[1] = (char *)"L2";
    f->units[0] = (char *)"structure", f->units[1] = (char *)"weight";
    f->schedules[0] = (char *)"geometric", f->schedules[1] = (char *)"linear";
    f->schedules[2] = (char *)"sensitivity";
    f->prune.rounds = f->rounds;
    f->prune.n_rounds = 2;
    f->prune.keep = f->keep;
    f->prune.n_keep = 1;
    f->prune.norms = f->norms;
    f->prune.n_norms = 2;
    f->s.fingerprint = f->split[0].fingerprint;
    f->s.nets = f->nets;
    f->s.n_nets = 1;
    f->s.seeds = f->seeds;
    f->s.n_seeds = 2;
    f->s.prune = &f->prune;
}

static uint32_t count(const struct ex_grid *g, int kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n; i++) n += g->job[i].kind == kind;
    return n;
}

static void keys_differ(const struct ex_grid *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        for (uint32_t k = 0; k < i; k++)
            assert_memory_not_equal(&g->job[i].key, &g->job[k].key, sizeof g->job[i].key);
}

static Cinch__JobBase *body_of(const struct ex_grid *g, const struct ex_job *j)
{
    const struct ex_base *b = &g->base[j->base];
    return cinch__job_base__unpack(NULL, b->n_body, b->body);
}

static void without_new_keys_nothing_multiplies(void **state)
{
    struct fixture f;
    struct ex_grid g;
    fill(&f);
    assert_int_equal(ex_expand(&g, &f.s, 0, NULL), 0);
    assert_int_equal(count(&g, CINCH__JOB_KIND__TRAIN), 2);
    assert_int_equal(count(&g, CINCH__JOB_KIND__PRUNE), 2 * 2 * 4); /* seeds, norms, 1 + 3 rounds */
    assert_int_equal(g.cells, 2 * (1 + 4));
    for (uint32_t i = 0; i < g.n; i++) {
        Cinch__JobBase *b = body_of(&g, &g.job[i]);
        bool prunes = g.job[i].kind == CINCH__JOB_KIND__PRUNE;
        assert_string_equal(b->split, "");
        assert_string_equal(b->prune_unit, prunes ? "structure" : "");
        assert_string_equal(b->prune_schedule, prunes ? "geometric" : "");
        if (prunes) assert_string_equal(b->recipe, f.net.finetune);
        cinch__job_base__free_unpacked(b, NULL);
    }
    keys_differ(&g);
    ex_clear(&g);
}

/* Of weights all norms are one variant; the trained net is shared by everything. */
static void axes_multiply(void **state)
{
    struct fixture f;
    struct ex_grid g;
    fill(&f);
    f.s.splits = f.splits;
    f.s.n_splits = 2;
    f.prune.units = f.units;
    f.prune.n_units = 2;
    f.prune.schedules = f.schedules;
    f.prune.n_schedules = 3;
    assert_int_equal(ex_expand(&g, &f.s, 0, NULL), 0);
    uint32_t start = 2 * 2, ways = 3 * (2 + 1); /* splits, seeds; schedules, norms and weights */
    assert_int_equal(count(&g, CINCH__JOB_KIND__TRAIN), start);
    assert_int_equal(count(&g, CINCH__JOB_KIND__PRUNE), start * ways * 4);
    assert_int_equal(g.cells, start * (1 + ways * 2));
    keys_differ(&g);
    for (uint32_t i = 0; i < g.n; i++) {
        const struct ex_base *e = &g.base[g.job[i].base];
        Cinch__JobBase *b = body_of(&g, &g.job[i]);
        assert_string_equal(b->split, e->fingerprint.b[0] == 1 ? "random" : "patient");
        assert_memory_equal(b->fingerprint.data, e->fingerprint.b, CN_HASH_BYTES);
        cinch__job_base__free_unpacked(b, NULL);
    }
    ex_clear(&g);
}

/* 10 epochs over three rounds: 4, 3, 3; at once: 10. */
static void a_total_is_divided_over_the_rounds(void **state)
{
    static const char *const of_three[] = {"{\"epochs\":4}", "{\"epochs\":3}", "{\"epochs\":3}"};
    struct fixture f;
    struct ex_grid g;
    struct cn_error err;
    int seen = 0;
    fill(&f);
    f.prune.total_epochs = 10;
    assert_int_equal(ex_expand(&g, &f.s, 0, NULL), 0);
    for (uint32_t i = 0; i < g.n; i++) {
        const struct ex_job *j = &g.job[i];
        if (j->kind != CINCH__JOB_KIND__PRUNE) continue;
        Cinch__JobBase *b = body_of(&g, j);
        assert_string_equal(b->recipe, j->rounds == 1 ? recipe[0] : of_three[j->round - 1]);
        cinch__job_base__free_unpacked(b, NULL);
        seen++;
    }
    assert_int_equal(seen, 2 * 2 * 4);
    keys_differ(&g);
    ex_clear(&g);
    f.net.n_finetunes = 1;
    assert_int_equal(ex_expand(&g, &f.s, 0, &err), CN_EINVALID);
}

/* The same cells whatever the order and company of the axes' values: results are found again. */
static void keys_do_not_depend_on_company(void **state)
{
    struct fixture f;
    struct ex_grid all, one;
    uint32_t found = 0;
    fill(&f);
    f.prune.units = f.units;
    f.prune.n_units = 2;
    f.prune.schedules = f.schedules;
    f.prune.n_schedules = 3;
    assert_int_equal(ex_expand(&all, &f.s, 0, NULL), 0);
    f.prune.units = &f.units[1];
    f.prune.schedules = &f.schedules[2];
    f.prune.n_units = f.prune.n_schedules = 1;
    f.s.splits = f.splits; /* named now, but the same data */
    f.s.n_splits = 1;
    assert_int_equal(ex_expand(&one, &f.s, 0, NULL), 0);
    for (uint32_t i = 0; i < one.n; i++)
        for (uint32_t k = 0; k < all.n; k++)
            found += !memcmp(&one.job[i].key, &all.job[k].key, sizeof one.job[i].key);
    assert_int_equal(found, one.n);
    ex_clear(&all);
    ex_clear(&one);
}

/* A student has a seed of its own; whatever measures or prunes it goes by the grid's. Nothing else moved. */
static void students_start_from_their_own_seed(void **state)
{
    static const protobuf_c_boolean both[] = {0, 1};
    struct fixture f;
    struct ex_grid g;
    fill(&f);
    f.s.distill = (protobuf_c_boolean *)both;
    f.s.n_distill = 2;
    assert_int_equal(ex_expand(&g, &f.s, 0, NULL), 0);
    assert_int_equal(count(&g, CINCH__JOB_KIND__DISTILL), 2);
    for (uint32_t i = 0; i < g.n; i++) {
        const struct ex_job *j = &g.job[i];
        if (j->kind != CINCH__JOB_KIND__DISTILL) {
            assert_true(j->seed < 2);
            continue;
        }
        const struct ex_job *teacher = &g.job[j->parent[0] - 1];
        assert_int_equal(j->seed, pr_student_seed(teacher->seed));
        for (uint32_t k = 0; k < g.n; k++)
            assert_true(g.job[k].kind != CINCH__JOB_KIND__TRAIN || g.job[k].seed != j->seed);
    }
    assert_int_equal(pr_student_seed(1), 4294967297);
    ex_clear(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_new_keys_nothing_multiplies),
        cmocka_unit_test(axes_multiply),
        cmocka_unit_test(students_start_from_their_own_seed),
        cmocka_unit_test(a_total_is_divided_over_the_rounds),
        cmocka_unit_test(keys_do_not_depend_on_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
