/* proto/spec.c - see spec.h. */
#include "proto/spec.h"

#include <stdlib.h>
#include <string.h>

static uint8_t *put(uint8_t *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) *at++ = (uint8_t)(v >> (8 * i));
    return at;
}

void pr_spec_key(const struct pr_spec_key *s, const struct cn_hash *base, struct cn_hash *key)
{
    uint8_t buf[512], *at = buf;
    uint64_t keep;
    memcpy(&keep, &s->keep, sizeof keep);
    size_t norm = strlen(s->norm);
    if (norm > 32) norm = 32; /* checked on submit; never longer here */
    memcpy(at, "cinch job 1\n", 12);
    at = put(at + 12, s->engine, 4);
    at = put(at, s->kind, 1);
    at = put(at, s->distilled != 0, 1);
    at = put(at, s->seed, 8);
    at = put(at, s->rounds, 4);
    at = put(at, s->round, 4);
    at = put(at, keep, 8);
    at = put(at, s->nonce, 4);
    at = put(at, norm, 1);
    memcpy(at, s->norm, norm);
    at += norm;
    memcpy(at, base->b, CN_HASH_BYTES);
    at = put(at + CN_HASH_BYTES, (uint64_t)s->n_parents, 1);
    for (int i = 0; i < s->n_parents; i++, at += CN_HASH_BYTES)
        memcpy(at, s->parent[i]->b, CN_HASH_BYTES);
    cn_hash_bytes(buf, (size_t)(at - buf), key);
}

/* One bit, far above the seeds that people give: 1 becomes 4294967297, which --seed takes as well. */
uint64_t pr_student_seed(uint64_t seed)
{
    return seed ^ (uint64_t)1 << 32;
}

int pr_base_hash(const Cinch__JobBase *base, struct cn_hash *out, struct cn_error *err)
{
    Cinch__JobBase copy = *base;
    copy.gpu_bytes = 0;
    copy.split = (char *)"";
    size_t n = cinch__job_base__get_packed_size(&copy);
    uint8_t *bytes = malloc(n ? n : 1);
    if (!bytes) return cn_fail(err, CN_ENOMEM, "job spec: out of memory");
    cinch__job_base__pack(&copy, bytes);
    cn_hash_bytes(bytes, n, out);
    free(bytes);
    return 0;
}

uint32_t pr_round_epochs(uint32_t total, uint32_t rounds, uint32_t round)
{
    return total / rounds + (round <= total % rounds);
}

char *pr_finetune(const Cinch__Net *net, uint32_t epochs)
{
    for (size_t i = 0; i < net->n_finetunes; i++)
        if (net->finetunes[i]->epochs == epochs) return net->finetunes[i]->recipe;
    return NULL;
}

uint32_t pr_base_gpus(const uint8_t *body, size_t n)
{
    Cinch__JobBase *base = cinch__job_base__unpack(NULL, n, body);
    uint32_t gpus = base ? base->gpus : 0;
    if (base) cinch__job_base__free_unpacked(base, NULL);
    return gpus;
}

const char *pr_kind_name(int kind)
{
    static const char *const name[] = {"none", "train", "distill", "prune", "evaluate"};
    return kind >= 0 && kind < 5 ? name[kind] : "?";
}
