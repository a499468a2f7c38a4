/* tests/fuzz/replay.c - a main for a libFuzzer target where libFuzzer is not: runs every file of a
 * corpus folder, and so many mutations of each, drawn from Philox so that a failure comes again.
 * usage: PROGRAM CORPUS MUTATIONS */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"

#define MAX_FILE (1u << 20)
#define ROOM 64 /* bytes a mutation may add */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* Up to four edits: a byte changed, a stretch dropped, doubled or overwritten. Returns the length. */
static size_t mutate(uint8_t *x, size_t n, uint64_t file, uint64_t index)
{
    cn_rng4 how = cn_rng(file, CN_RNG_NOISE, 0, index);
    for (uint32_t k = 0; k <= how.v[0] % 4 && n > 0; k++) {
        cn_rng4 r = cn_rng(file, CN_RNG_NOISE, 1 + k, index);
        size_t at = r.v[0] % n, len = 1 + r.v[1] % ROOM;
        if (len > n - at) len = n - at;
        switch (r.v[2] % 4) {
        case 0:
            x[at] = (uint8_t)r.v[3];
            break;
        case 1:
            memmove(x + at, x + at + len, n - at - len);
            n -= len;
            break;
        case 2:
            if (len > ROOM / 4) len = ROOM / 4;
            memmove(x + at + len, x + at, n - at);
            n += len;
            break;
        default:
            memmove(x + at, x + r.v[3] % (n - len + 1), len);
        }
    }
    return n;
}

static int run_file(const char *path, uint64_t file, long mutations)
{
    char *data = NULL;
    size_t n = 0;
    struct cn_error err = {0};
    if (cn_file_read(path, MAX_FILE, &data, &n, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    LLVMFuzzerTestOneInput((const uint8_t *)data, n);
    for (long i = 0; i < mutations; i++) {
        /* a copy of its own size, so that a sanitizer sees the first byte beyond */
        uint8_t *big = malloc(n + ROOM + 1);
        if (!big) return 1;
        memcpy(big, data, n);
        size_t m = mutate(big, n, file, (uint64_t)i);
        uint8_t *exact = malloc(m ? m : 1);
        if (!exact) return 1;
        memcpy(exact, big, m);
        LLVMFuzzerTestOneInput(exact, m);
        free(exact);
        free(big);
    }
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s CORPUS MUTATIONS\n", argv[0]);
        return 2;
    }
    struct dirent **entry = NULL;
    int n = scandir(argv[1], &entry, NULL, alphasort), files = 0, bad = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry[i]->d_name);
        if (cn_file_exists(path)) bad |= run_file(path, (uint64_t)files++, atol(argv[2]));
        free(entry[i]);
    }
    free(entry);
    printf("%d files, %s mutations each\n", files, argv[2]);
    return bad || files == 0;
}
