/* Probabilities of one record: numbers in millivolts on standard input, lead after lead, as many as the net takes. */
#include <stdio.h>
#include <stdlib.h>

#include <cinchrt.h>

/* A whole file of at most 64 MB; *n its bytes. NULL when it cannot be read. */
static unsigned char *read_file(const char *path, size_t *n)
{
    static const size_t most = (size_t)64 << 20;
    FILE *f = fopen(path, "rb");
    unsigned char *data = f ? malloc(most) : NULL;
    *n = data ? fread(data, 1, most, f) : 0;
    if (f) fclose(f);
    return data;
}

static int print_probabilities(const struct cinchrt_model *m)
{
    const struct cinchrt_info *info = cinchrt_info(m);
    size_t samples = (size_t)info->leads * (size_t)info->samples, i;
    float *x = malloc(samples * sizeof *x), *p = malloc((size_t)info->labels * sizeof *p);
    void *scratch = malloc(cinchrt_scratch_size(m));
    int bad = !x || !p || !scratch;
    for (i = 0; !bad && i < samples; i++) bad = scanf("%f", &x[i]) != 1;
    if (bad)
        fprintf(stderr, "expected %d leads of %d numbers\n", info->leads, info->samples);
    else {
        cinchrt_normalise(m, x, x);
        cinchrt_run(m, x, NULL, p, scratch);
        for (i = 0; i < (size_t)info->labels; i++) printf("%-8s %.4f\n", info->label[i], p[i]);
    }
    free(x);
    free(p);
    free(scratch);
    return bad;
}

int main(int argc, char **argv)
{
    size_t n = 0, bytes = 0;
    unsigned char *file = argc == 2 ? read_file(argv[1], &n) : NULL;
    struct cinchrt_model *m = NULL;
    void *memory = NULL;
    int code, bad = 1;
    if (!file) {
        fprintf(stderr, "usage: probabilities MODEL.cinch < numbers\n");
        return 2;
    }
    code = cinchrt_model_size(file, n, CINCHRT_BEST, &bytes);
    if (!code && (memory = malloc(bytes)))
        code = cinchrt_load(&m, file, n, CINCHRT_BEST, memory, bytes);
    if (m)
        bad = print_probabilities(m);
    else
        fprintf(stderr, "%s: %s\n", argv[1], code ? cinchrt_error_text(code) : "out of memory");
    free(memory);
    free(file);
    return bad;
}
