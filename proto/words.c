/* proto/words.c - see words.h. A unit test holds these tables against those of the rooms that give
 * the words their meaning. */
#include "proto/words.h"

#include <string.h>

#define WORDS 8 /* of the longest table, its end included */

static const struct {
    const char *word[WORDS], *text;
} table[PR_WORDS_KINDS] = {
    [PR_WORDS_NET] = {{"rnn", "cnn", "resnet", "beat"}, "rnn, cnn, resnet, beat"},
    [PR_WORDS_NORM] = {{"L1", "L2", "taylor"}, "L1, L2, taylor"},
    [PR_WORDS_UNIT] = {{"structure", "weight"}, "structure, weight"},
    [PR_WORDS_SCHEDULE] = {{"geometric", "linear", "sensitivity"},
                           "geometric, linear, sensitivity"},
    [PR_WORDS_MODE] = {{"paper", "full", "best", "float"}, "paper, full, best, float"},
    [PR_WORDS_ALLOCATOR] = {{"glibc", "jemalloc", "tcmalloc"}, "glibc, jemalloc, tcmalloc"},
    [PR_WORDS_ISA] = {{"portable", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"},
                      "portable, avx2, avxvnni, avx512, avx512vnni, amx"},
    [PR_WORDS_SPLIT] = {{"random", "patient"}, "random, patient"},
    [PR_WORDS_ROLE] = {{"model", "float", "int8"}, "model, float, int8"},
};

int pr_word(enum pr_words kind, const char *word)
{
    for (int i = 0; table[kind].word[i]; i++)
        if (!strcmp(table[kind].word[i], word)) return i;
    return -1;
}

const char *pr_word_at(enum pr_words kind, int place)
{
    return place >= 0 && place < WORDS ? table[kind].word[place] : NULL;
}

const char *const *pr_words(enum pr_words kind)
{
    return table[kind].word;
}

const char *pr_words_text(enum pr_words kind)
{
    return table[kind].text;
}
