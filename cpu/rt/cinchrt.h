/* cpu/rt/cinchrt.h - run a .cinch artifact: the whole interface of the deployment runtime.
 *
 *     size_t bytes;
 *     cinchrt_model_size(file, n, CINCHRT_BEST, &bytes);              // memory a model takes
 *     cinchrt_load(&m, file, n, CINCHRT_BEST, malloc(bytes), bytes);  // check, choose, pack
 *     scratch = malloc(cinchrt_scratch_size(m));
 *     cinchrt_run(m, x, logits, probability, scratch);                // as often as wanted
 *
 * C99, no allocation, no global state, no library. `file` is any memory with the file's bytes
 * (mmap, flash); nothing of it is kept after cinchrt_load. A loaded model is constant: threads may
 * share it, each with its own scratch. Memory and scratch need no alignment. Int8 nets give the
 * same bits on every instruction set; float nets differ in the last bits between them. Every
 * function is safe on hostile files: it checks before it reads.
 */
#ifndef CINCHRT_H
#define CINCHRT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CINCHRT_ERRORS(X)                                                                          \
    X(EARG, -1, "a pointer is NULL or an argument out of range")                                   \
    X(ETRUNCATED, -2, "the file is shorter than it says, or longer")                               \
    X(EMAGIC, -3, "not a .cinch file")                                                             \
    X(EVERSION, -4, "a .cinch file of another version than this runtime reads")                    \
    X(ECRC, -5, "the file is damaged: its CRC does not match")                                     \
    X(EFORMAT, -6, "the file contradicts itself: see cpu/rt/format.h")                             \
    X(ERANGE, -7,                                                                                  \
      "weights, scales or sums of a layer are out of the format's range, or not finite")           \
    X(EISA, -8, "this CPU or this build lacks the instruction set asked for")                      \
    X(EMEMORY, -9, "the memory given is smaller than cinchrt_model_size asked for")

enum cinchrt_error {
    CINCHRT_OK = 0,
#define CINCHRT_X(name, code, text) CINCHRT_##name = code,
    CINCHRT_ERRORS(CINCHRT_X)
#undef CINCHRT_X
};
const char *cinchrt_error_text(int code); /* one sentence; never NULL */

/* Instruction sets, weakest first. The choice is made once, at load. */
enum cinchrt_isa {
    CINCHRT_ISA_PORTABLE = 0,
    CINCHRT_ISA_AVX2,       /* with FMA */
    CINCHRT_ISA_AVXVNNI,    /* int8 dot products in 256 bits */
    CINCHRT_ISA_AVX512,     /* F, BW, VL, DQ */
    CINCHRT_ISA_AVX512VNNI, /* int8 dot products in 512 bits */
    CINCHRT_ISA_AMX,        /* int8 convolutions in tiles, the rest as avx512vnni */
    CINCHRT_ISA_COUNT,
    CINCHRT_BEST = 255, /* as a cap: whatever this CPU has */
};
const char *cinchrt_isa_name(enum cinchrt_isa isa); /* "avx512vnni"; "?" for an unknown one */
/* "portable" .. "amx" -> *isa; CINCHRT_EISA for any other text. */
int cinchrt_isa_parse(const char *name, enum cinchrt_isa *isa);
int cinchrt_isa_available(enum cinchrt_isa isa); /* 1: this CPU and this build have it */
enum cinchrt_isa cinchrt_isa_best(void);

struct cinchrt_model;

/* Bytes that cinchrt_load needs for this file under this cap. Checks the whole
 * file: 0 or the error cinchrt_load would give. A cap that is not available
 * (and not CINCHRT_BEST): CINCHRT_EISA. */
int cinchrt_model_size(const void *file, size_t n, enum cinchrt_isa cap, size_t *bytes);

/* Checks the file, chooses kernels no stronger than `cap` and packs the weights
 * for them into mem. *model points into mem, which the caller owns; to unload,
 * free mem. */
int cinchrt_load(struct cinchrt_model **model, const void *file, size_t n, enum cinchrt_isa cap,
                 void *mem, size_t bytes);

size_t cinchrt_scratch_size(const struct cinchrt_model *model); /* bytes for one cinchrt_run */

/* One inference. x: [leads, samples] float, normalised as cinchrt_info says.
 * logits, probability: [labels] each, either may be NULL. scratch:
 * cinchrt_scratch_size bytes, its content before and after does not matter. 0
 * or CINCHRT_EARG. */
int cinchrt_run(const struct cinchrt_model *model, const float *x, float *logits,
                float *probability, void *scratch);

/* Applies the file's normalisation: x = (mv - mean) / std per lead; [leads,
 * samples] both; may be in place. */
void cinchrt_normalise(const struct cinchrt_model *model, const float *mv, float *x);

struct cinchrt_info {
    const char *net;
    int kind; /* 0 float, 1 int8, 2 dynamic int8 (enum cinchrt_kind in format.h)
             */
    int softmax;
    int leads, samples, labels, layers;
    float hz;
    const float *mean, *std;  /* [leads], mV */
    const char *const *label; /* [labels] */
    enum cinchrt_isa isa;     /* the one chosen */
    uint64_t weights, macs;   /* of the matrices; of one inference */
    uint64_t macs_nonzero;    /* macs whose weight, as stored, is not zero */
    size_t file_bytes;
};
/* Facts of a loaded model; the pointers live as long as its memory. */
const struct cinchrt_info *cinchrt_info(const struct cinchrt_model *model);

struct cinchrt_layer_info {
    const char *op;     /* "conv_i8" */
    const char *kernel; /* "i8_conv_12x32__avx512vnni" */
    int in0, in1;       /* -1 the net's input, -2 none */
    int cin, tin, cin1, cout, tout;
    int k, pad, pool, relu;
    uint64_t weights, macs, macs_nonzero;
    size_t bytes; /* of its data in the file */
    int sparse;   /* 1: stored there without the weights that are zero */
    float scale;  /* of the quantised output; 0 where it is not */
    int zero, qmax;
};
int cinchrt_layer_info(const struct cinchrt_model *model, int layer,
                       struct cinchrt_layer_info *info);

/* For tests, the quantiser's report and the curious: called after each layer
 * with its output. Element (c, t) of type `type` lies at data[t * stride + c].
 */
enum cinchrt_probe_type {
    CINCHRT_PROBE_U8,  /* uint8_t, real = (q - zero) * scale */
    CINCHRT_PROBE_U16, /* the same values in int16_t; no kernel keeps them so today
                      */
    CINCHRT_PROBE_H16, /* int16_t, real = q / 32768 */
    CINCHRT_PROBE_F32,
};
struct cinchrt_probe {
    int layer;
    enum cinchrt_probe_type type;
    const void *data;
    int channels, time, stride; /* stride in elements */
    float scale;
    int zero;
};
typedef void cinchrt_probe_fn(void *context, const struct cinchrt_probe *probe);
int cinchrt_run_probed(const struct cinchrt_model *model, const float *x, float *logits,
                       float *probability, void *scratch, cinchrt_probe_fn *fn, void *context);

#ifdef __cplusplus
}
#endif
#endif
