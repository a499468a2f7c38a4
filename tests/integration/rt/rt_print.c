/* Runs int8 nets of many widths, and the study's dynamic LSTM net, and prints every layer's checksum, the logits' and the probabilities' bits. The same text must
 * come from a 64-bit build with vector kernels and from the portable code compiled for other machines (machine.py). With an argument: writes one
 * small artifact there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/rt/cinchrt.h"
#include "tests/unit/rt/rt_make.h"

static void checksum(void *context, const struct cinchrt_probe *p)
{
    uint32_t sum = 2166136261u;
    for (int t = 0; t < p->time; t++)
        for (int c = 0; c < p->channels; c++) {
            size_t at = (size_t)t * (size_t)p->stride + (size_t)c;
            uint32_t v = 0;
            if (p->type == CINCHRT_PROBE_U8) v = ((const uint8_t *)p->data)[at];
            if (p->type == CINCHRT_PROBE_H16) v = ((const uint16_t *)p->data)[at];
            if (p->type == CINCHRT_PROBE_F32) memcpy(&v, (const float *)p->data + at, 4);
            sum = (sum ^ v) * 16777619u;
        }
    (void)context;
    printf(" %08x", (unsigned)sum);
}

/* Frees the file. */
static int print_file(const char *net, uint8_t *file, size_t n, uint64_t seed)
{
    static float x[12 * 1000];
    size_t bytes;
    struct cinchrt_file_header h;
    struct cinchrt_model *m;
    uint32_t bits[16];
    float out[16];
    void *mem, *scratch;
    memcpy(&h, file, sizeof h);
    if (cinchrt_model_size(file, n, CINCHRT_BEST, &bytes)) return 1;
    mem = malloc(bytes);
    if (cinchrt_load(&m, file, n, CINCHRT_BEST, mem, bytes)) return 1;
    scratch = malloc(cinchrt_scratch_size(m));
    rt_make_signal(seed, x, h.leads, h.samples);
    printf("%s %d:", net, (int)seed);
    cinchrt_run_probed(m, x, out, out + 8, scratch, checksum, NULL);
    memcpy(bits, out, sizeof bits);
    for (int i = 0; i < 5; i++) printf(" %08x %08x", (unsigned)bits[i], (unsigned)bits[i + 8]);
    printf("\n");
    free(scratch);
    free(mem);
    free(file);
    return 0;
}

/* The study's LSTM net: of the float layers LSTM_DYN, LAYERNORM_F32, MEAN_F32 and LINEAR_DYN promise the
 * same bits. */
static int print_dynamic(int width, uint64_t seed)
{
    struct rt_make k;
    struct cinchrt_file_layer f = {.op = CINCHRT_LSTM_DYN,
                                   .in0 = CINCHRT_NET_INPUT,
                                   .in1 = CINCHRT_NO_INPUT,
                                   .cout = (uint16_t)width};
    size_t n;
    rt_make_begin(&k, seed, 1 + width % 12, 100, 5);
    k.qmax = width & 1 ? 127 : 255;
    rt_make_layer(&k, f);
    f.op = CINCHRT_LAYERNORM_F32, f.in0 = 0, f.cout = 0, f.pool = 12;
    rt_make_layer(&k, f);
    f.op = CINCHRT_MEAN_F32, f.in0 = 1, f.pool = 1;
    rt_make_layer(&k, f);
    f.op = CINCHRT_LINEAR_DYN, f.in0 = width & 2 ? 1 : 2, f.cout = 5, f.flags = CINCHRT_LOGITS;
    rt_make_layer(&k, f);
    uint8_t *file = rt_make_end(&k, &n);
    return print_file("dynamic", file, n, seed);
}

static int write_one(const char *path)
{
    size_t n;
    uint8_t *file = rt_make_net("beat", CINCHRT_KIND_INT8, NULL, 255, 1, &n);
    FILE *f = fopen(path, "wb");
    int bad = !f || fwrite(file, 1, n, f) != n || fclose(f);
    free(file);
    return bad;
}

/* A handful of widths of each net. */
int main(int argc, char **argv)
{
    static const char *const nets[] = {"cnn", "rnn", "beat", "resnet"};
    if (argc > 1) return write_one(argv[1]);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 6; k++) {
            int w[9];
            for (int j = 0; j < 9; j++) w[j] = 1 + (i * 7 + k * 5 + j * 3) % (4 + 4 * k);
            size_t n;
            uint64_t seed = (uint64_t)(10 * i + k);
            uint8_t *file = rt_make_net(nets[i], CINCHRT_KIND_INT8, w, k & 1 ? 127 : 255, seed, &n);
            if (print_file(nets[i], file, n, seed)) return 1;
        }
    for (int width = 1; width < 70; width += 6)
        if (print_dynamic(width, (uint64_t)(100 + width))) return 1;
    return 0;
}
