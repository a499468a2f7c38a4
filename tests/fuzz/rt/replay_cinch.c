/* Replays the corpus through the fuzz target, then a bounded, repeatable number of random mutations of it and of small files
 * of every net, stored plain and sparse: the always-on part of the fuzzing. With an argument: writes seed files for libFuzzer there.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/rt/rt_make.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define MUTATIONS 150 /* per file */

struct input {
    uint8_t *data;
    size_t n;
};

static int read_corpus(const char *folder, struct input *to, int room)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    int count = 0;
    while (d && (e = readdir(d)) && count < room) {
        char path[1024];
        FILE *f;
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        f = fopen(path, "rb");
        if (!f) continue;
        to[count].data = malloc(1 << 16);
        to[count].n = fread(to[count].data, 1, 1 << 16, f);
        count++;
        fclose(f);
    }
    if (d) closedir(d);
    return count;
}

static int make_seeds(struct input *to)
{
    static const char *const nets[] = {"cnn", "rnn", "beat", "resnet"};
    static const int widths[9] = {2, 3, 1, 4, 2, 3, 2, 5, 2};
    int count = 0;
    for (int i = 0; i < 4; i++)
        for (int kind = 0; kind < 3; kind++) {
            struct input *plain = &to[count++], *sparse = &to[count++];
            plain->data = rt_make_net(nets[i], kind, widths, 255, (uint64_t)count / 2, &plain->n);
            rt_make_zeros(plain->data, plain->n, 0.6, 1);
            sparse->data = rt_make_sparse(plain->data, plain->n, &sparse->n);
        }
    return count;
}

static void mutate(struct rt_make *random, uint8_t *data, size_t n)
{
    int edits = 1 + (int)(rt_make_random(random) % 4);
    while (edits--) {
        /* mostly in the header and the layer table, where the structure is */
        size_t limit = rt_make_random(random) % 4 ? (n < 700 ? n : 700) : n;
        size_t at = rt_make_random(random) % limit;
        switch (rt_make_random(random) % 4) {
        case 0:
            data[at] ^= (uint8_t)(1 << rt_make_random(random) % 8);
            break;
        case 1:
            data[at] = (uint8_t)rt_make_random(random);
            break;
        case 2:
            data[at] = rt_make_random(random) & 1 ? 0 : 255;
            break;
        default:
            data[at] = (uint8_t)(data[at] + 1);
            break;
        }
    }
}

int main(int argc, char **argv)
{
    static struct input inputs[256];
    struct rt_make random = {.seed = 20};
    int n = make_seeds(inputs);
    if (argc > 1) {
        for (int i = 0; i < n; i++) {
            char path[1024];
            FILE *f;
            snprintf(path, sizeof path, "%s/seed-%02d.cinch", argv[1], i);
            f = fopen(path, "wb");
            if (!f || fwrite(inputs[i].data, 1, inputs[i].n, f) != inputs[i].n || fclose(f))
                return 1;
        }
        return 0;
    }
    n += read_corpus(CINCH_SOURCE_DIR "/tests/fuzz/rt/corpus", inputs + n, 256 - n);
    for (int i = 0; i < n; i++) {
        uint8_t *copy = malloc(inputs[i].n + 1);
        LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].n);
        for (int k = 0; k < MUTATIONS && inputs[i].n > 1; k++) {
            size_t cut =
                rt_make_random(&random) % 8 ? inputs[i].n : rt_make_random(&random) % inputs[i].n;
            memcpy(copy, inputs[i].data, inputs[i].n);
            mutate(&random, copy, inputs[i].n);
            LLVMFuzzerTestOneInput(copy, cut);
        }
        free(copy);
        free(inputs[i].data);
    }
    printf("%d files, %d mutations each\n", n, MUTATIONS);
    return 0;
}
