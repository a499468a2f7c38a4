/* proto/spec.h - a job's key: the hash of everything that decides its result.
 *
 * key = BLAKE2b-256 of, in order and little-endian:
 *     "cinch job 1\n" · engine u32 · kind u8 · distilled u8 · seed u64 · rounds u32 · round u32 ·
 * keep f64 bits · nonce u32 · norm length u8 and bytes · base hash 32 · number of parents u8 ·
 * their keys, 32 each, in the order of the kind's inputs base hash = BLAKE2b-256 of the packed
 * JobBase with gpu_bytes and split cleared (protobuf-c writes fields in number order, so equal
 * bases give equal bytes).
 */
#ifndef CINCH_PROTO_SPEC_H
#define CINCH_PROTO_SPEC_H

#include "base/hash.h"
#include "proto/message.h"

#define PR_MAX_PARENTS 2

/* What the key needs beside the base. */
struct pr_spec_key {
    uint32_t engine; /* PR_BITS */
    Cinch__JobKind kind;
    int distilled;
    uint64_t seed;
    uint32_t rounds, round, nonce;
    double keep;
    const char *norm;
    int n_parents;
    const struct cn_hash *parent[PR_MAX_PARENTS];
};

void pr_spec_key(const struct pr_spec_key *s, const struct cn_hash *base, struct cn_hash *key);
/* The seed of the student that a grid distils from its net of seed `seed`: one of its own, since from
 * the teacher's it would start with the teacher's very weights and see the records in its order. */
uint64_t pr_student_seed(uint64_t seed);
int pr_base_hash(const Cinch__JobBase *base, struct cn_hash *out, struct cn_error *err);

/* What of `total` epochs of fine-tuning round `round` (from 1) of `rounds` gets: equal parts, and
 * one more for the first ones while something remains. */
uint32_t pr_round_epochs(uint32_t total, uint32_t rounds, uint32_t round);
/* The recipe for so many, of those that came with Prune.total_epochs; NULL: there is none. */
char *pr_finetune(const Cinch__Net *net, uint32_t epochs);
/* JobBase.gpus of packed bytes; 0 too when they are not a JobBase. */
uint32_t pr_base_gpus(const uint8_t *body, size_t n);

const char *pr_kind_name(int kind); /* "train", "distill", "prune", "evaluate"; "?" */

#endif
