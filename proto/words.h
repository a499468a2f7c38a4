/* proto/words.h - the closed vocabularies of the wire: names that stand for something only because a
 * program knows them. What is not in these tables is refused before it is stored (proto/check.c), or
 * ignored where a newer worker describes itself. The tables are constant, so nobody can fill them. */
#ifndef CINCH_PROTO_WORDS_H
#define CINCH_PROTO_WORDS_H

enum pr_words {
    PR_WORDS_NET,       /* nn/zoo.c */
    PR_WORDS_NORM,      /* that rank structures */
    PR_WORDS_UNIT,      /* what pruning removes */
    PR_WORDS_SCHEDULE,  /* how much of it in each round */
    PR_WORDS_MODE,      /* of quantising */
    PR_WORDS_ALLOCATOR, /* under which inference is timed */
    PR_WORDS_ISA,       /* kernels of a worker */
    PR_WORDS_SPLIT,     /* of beats */
    PR_WORDS_ROLE,      /* of a result's outputs */
    PR_WORDS_KINDS,
};

/* The place of `word` in its table, from 0; -1: not in it. "" is in none. */
int pr_word(enum pr_words kind, const char *word);
/* The word at a place; NULL beyond the last one. */
const char *pr_word_at(enum pr_words kind, int place);
/* All of them, ends with NULL. */
const char *const *pr_words(enum pr_words kind);
/* "cnn, rnn, resnet, beat": for sentences. */
const char *pr_words_text(enum pr_words kind);

#endif
