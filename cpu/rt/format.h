/* cpu/rt/format.h - the .cinch file: what cpu/quant writes and cpu/rt runs.
 *
 * SPECIFICATION, versions 1 and 2. Little-endian, IEEE floats. In this order:
 *
 *     struct cinchrt_file_header            52 bytes
 *     float mean[leads], std[leads]         of the input: x = (mV - mean) / std
 *     char label[labels][8]                 zero-padded
 *     struct cinchrt_file_layer[layers]     28 bytes each, in execution order
 *     one data block per layer              at layer.offset, a multiple of 1 << align_log2,
 *                                           ascending, not overlapping; gaps are zero
 *
 * The writer aligns to the largest of 64, 16, 4, 1 bytes that keeps the size rule: an int8 file
 * has at most 1 byte per weight + 8 per output channel + 512. A file has version 2 when some layer
 * of it is SPARSE, and no gaps then; else version 1. Readers refuse any other version, the flag
 * SPARSE in version 1, and version 2 without it. `crc` is the CRC-32 (IEEE 802.3, as zlib's) of bytes
 * 16 .. file_bytes-1.
 *
 * LAYERS AND EDGES. Layer i reads edge in0 (and in1): 0 .. i-1 name a layer's output, 255 the
 * net's input [leads, samples]. An edge is [channels, time]; `cin` repeats the channels of in0,
 * `cin1` those of in1. Types of edges:
 *
 *     U8    real = (q - zero) * scale, 0 <= q <= qmax (255 or 127); zero, scale, qmax stand in
 *           the layer that writes it (of the net's input: in the header)
 *     H16   int16, real = q / 32768: output of LSTM_I8
 *     F32   float
 *
 * The last layer is a LINEAR with flag LOGITS, or (LINEAR_I8) with a U8 output that is
 * dequantised; its cout is `labels`. The head is sigmoid or softmax of the logits, in float.
 *
 * DATA BLOCKS, arrays one after another without gaps (orders of indices as in PyTorch):
 *
 *     CONV_I8        i32 bias[cout], f32 mult[cout], (f32 mult1[cout] if in1),
 *                    i8 w[cout][cin][k], (i8 w1[cout][cin1] if in1)
 *     LINEAR_I8      i32 bias[cout], f32 mult[cout], i8 w[cout][cin * time];
 *                    the input is flattened [channel][time]
 *     MEAN_I8        nothing; `param` is the multiplier's f32
 *     LSTM_I8        i16 bias[4H], u16 mx[4H], u16 mh[4H], u8 cell[H],
 *                    i8 w_ih[4H][cin], i8 w_hh[4H][H]; gates i f g o; cout = H;
 *                    zero and qmax are those of the 8-bit copy of h that feeds back, whose
 *                    scale is 1/param, param in 1..32767
 *     LAYERNORM_I8   i32 bias[cin], i16 gamma[cin]; `param` is the multiplier's f32
 *     CONV_F32       f32 bias[cout], f32 w[cout][cin][k], (f32 w1[cout][cin1] if in1)
 *     LINEAR_F32     f32 bias[cout], f32 w[cout][cin * time]
 *     MEAN_F32       nothing
 *     LSTM_F32       f32 bias[4H] (both of PyTorch's added), f32 w_ih[4H][cin], f32 w_hh[4H][H]
 *     LAYERNORM_F32  f32 gamma[cin], f32 beta[cin]
 *     LSTM_DYN       f32 bias[4H], f32 scale_ih, f32 scale_hh, i8 w_ih[4H][cin], i8 w_hh[4H][H]
 *     LINEAR_DYN     f32 bias[cout], f32 scale, i8 w[cout][cin * time]
 *
 * Floats are finite, and small enough that no sum of a float layer leaves 1e34 for inputs of up to
 * 1000 standard deviations (reach.c).
 *
 * SPARSE LAYERS. Matrices (the arrays w..., which end every block that has any) hold W weights, 1 or 4
 * bytes wide, in the order above. In a layer with the flag SPARSE their place is taken by
 *
 *     u8 bitmap[ceil(W / 8)]   bit i & 7 of byte i >> 3 tells that weight i is not zero; bits past W
 *                              are 0
 *     the weights that are not zero, in order
 *
 * The arrays before them stay as they are. Writers decide layer by layer and store sparse only what
 * that makes smaller; readers refuse a sparse layer that is not smaller than its plain form, a stored
 * weight of zero, and W > 2^26. A float weight of -0 is read back as +0.
 *
 * INTEGER RULES, the only arithmetic between the two ends of an int8 net. >> is arithmetic
 * (floor), sat16 clamps to [-32768, 32767].
 *
 *     rq(a, M)      requantisation: M > 0 is a float32, M = m * 2^-s, 2^23 <= m < 2^24,
 *                   1 <= s <= 62: (a * m + 2^(s-1)) >> s in 64 bits. One rounding, half up.
 *     mulhrs(a, b)  (a * b + 2^14) >> 15
 *     input         q = clamp(rint(x * (1 / scale)) + zero, 0, qmax); quotient and product in
 *                   float32, rint to even, NaN gives 0
 *     CONV_I8       a(o,t) = bias[o] + sum w[o][c][j] * (x[c][t+j-pad] - zx);
 *                   x outside [0, T) is zx
 *                   with in1: a += rq(sum w1[o][c] * (x1[c][t] - z1), mult1[o])
 *                   pool: maximum of a over `pool` consecutive t, a shorter tail is dropped
 *                   q = clamp(zero + rq(a, mult[o]), RELU ? zero : 0, qmax)
 *     LINEAR_I8     as CONV_I8 over the whole input; with LOGITS: logit = (float)a * mult[o]
 *     MEAN_I8       q = clamp(zero + rq(sum_t (x - zx), M), 0, qmax)
 *     LSTM_I8       per row r, gates and bias in Q4.11:
 *                   px = sat16(sat16(rq16(sum w_ih * (x - zx), mx[r])) + bias[r])
 *                   v = sat16(px + sat16(rq16(sum w_hh * (hq - zero), mh[r])))
 *                   then per unit, in Q15:
 *                   i = sig(v_i), f = sig(v_f), g = tanh16(sat16(2 * v_g)), o = sig(v_o)
 *                   c = sat16(mulhrs(f, c) + mulhrs(mulhrs(i, g), 1 << n)), c in Q(n) with
 *                   n = cell[u] in 3..12
 *                   h = mulhrs(o, tanh16(clamp(c, -lim, lim) << (12-n))), lim = 32767 >> (12-n)
 *                   hq = clamp(zero + mulhrs(h, param), 0, qmax)
 *                   at the start c = 0, hq = zero
 *     rq16(a, v)    m = 2048 | (v & 2047), s = 30 - (v >> 11) in 1..30: (a*m + 2^(s-1)) >> s
 *     tanh16(a)     a in Q3.12, odd; 32 parabolas (fixed.h, tables.h)
 *     sig(v)        16384 + (tanh16(v) >> 1)
 *     LAYERNORM_I8  over the C channels at each t, h of type H16:
 *                   S1 = sum h, S2 = sum h*h, mu = floor((2*S1 + C) / 2C)
 *                   D = C*S2 - S1*S1 + 10737*C*C
 *                   (r, s) = rt_rstd(D, C) of fixed.h: r * 2^-s near 2^10 * C / sqrt(D)
 *                   n = sat16(((h - mu) * r + 2^(s-1)) >> s), in Q10
 *                   q = max over `pool` t of clamp(zero + rq(gamma * n + bias, M), 0, qmax)
 *
 * LSTM_DYN and LINEAR_DYN are the study's way, float allowed: x_t and h_t are quantised at each
 * step to 0 .. qmax by their own minimum and maximum (zero always inside the range), products in
 * int32, everything else in float, one rounding at a time as dyn.h writes it.
 *
 * Every sum must fit: a reader refuses a layer in which |bias| + 255 * sum |w| of a channel could
 * reach 2^31, or a requantised value 2^30.
 */
#ifndef CINCHRT_FORMAT_H
#define CINCHRT_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define CINCHRT_MAGIC "CNCH"
#define CINCHRT_VERSION 1
#define CINCHRT_VERSION_SPARSE 2
#define CINCHRT_CRC_START 16 /* the CRC covers the file from this byte on */
#define CINCHRT_NET_INPUT 255
#define CINCHRT_NO_INPUT 254

#define CINCHRT_MAX_LAYERS 64
#define CINCHRT_MAX_CHANNELS 4096
#define CINCHRT_MAX_TIME 65535
#define CINCHRT_MAX_LEADS 64
#define CINCHRT_MAX_LABELS 128
#define CINCHRT_MAX_KERNEL 64
#define CINCHRT_MAX_SPARSE (1u << 26) /* weights of a sparse layer */

enum cinchrt_op {
    CINCHRT_CONV_I8 = 1,
    CINCHRT_LINEAR_I8 = 2,
    CINCHRT_MEAN_I8 = 3,
    CINCHRT_LSTM_I8 = 4,
    CINCHRT_LAYERNORM_I8 = 5,
    CINCHRT_CONV_F32 = 17,
    CINCHRT_LINEAR_F32 = 18,
    CINCHRT_MEAN_F32 = 19,
    CINCHRT_LSTM_F32 = 20,
    CINCHRT_LAYERNORM_F32 = 21,
    CINCHRT_LINEAR_DYN = 34,
    CINCHRT_LSTM_DYN = 36,
};

enum cinchrt_kind { CINCHRT_KIND_FLOAT = 0, CINCHRT_KIND_INT8 = 1, CINCHRT_KIND_DYNAMIC = 2 };
enum cinchrt_head { CINCHRT_SIGMOID = 0, CINCHRT_SOFTMAX = 1 };

enum {
    CINCHRT_RELU = 1,   /* CONV, LINEAR */
    CINCHRT_LOGITS = 2, /* LINEAR: float output; always set on LINEAR_F32 and
                         LINEAR_DYN that end a net */
    CINCHRT_SPARSE = 4, /* CONV, LINEAR, LSTM: matrices without their zeros */
};

struct cinchrt_file_header {
    char magic[4]; /* "CNCH" */
    uint16_t version;
    uint8_t kind; /* enum cinchrt_kind: what people call the file; the layers' ops
                   decide */
    uint8_t head; /* enum cinchrt_head */
    uint32_t file_bytes;
    uint32_t crc;
    char net[16]; /* "cnn", zero-padded */
    uint16_t leads, samples;
    uint8_t labels, layers;
    uint8_t align_log2; /* 0, 2, 4 or 6 */
    uint8_t in_zero;    /* of the quantised input */
    float hz;           /* sampling rate; 0: unknown */
    float in_scale;     /* > 0; 1 in a float net */
    uint8_t in_qmax;    /* 255 or 127 */
    uint8_t reserved[3];
};

struct cinchrt_file_layer {
    uint8_t op;    /* enum cinchrt_op */
    uint8_t flags; /* CINCHRT_RELU, CINCHRT_LOGITS, CINCHRT_SPARSE */
    uint8_t k;     /* CONV: kernel length; else 0 */
    uint8_t pad;   /* CONV: zeros on both sides, < k */
    uint8_t in0, in1;
    uint8_t pool; /* CONV, LAYERNORM: window and stride of the fused max-pool, 1:
                   none; else 1 */
    uint8_t zero;
    uint16_t cin, cout, cin1; /* cin1: 0 without in1 */
    uint8_t qmax;             /* 255 or 127; 0 where the output is not U8 (but LSTM_I8, *_DYN) */
    uint8_t reserved;
    float scale;     /* of the U8 output; else 0 */
    uint32_t offset; /* of the data block, from the start of the file */
    uint32_t param;  /* see the data blocks; else 0 */
};

/* Compile-time proof that the compiler put no padding in. */
typedef char cinchrt_header_is_52_bytes[sizeof(struct cinchrt_file_header) == 52 ? 1 : -1];
typedef char cinchrt_layer_is_28_bytes[sizeof(struct cinchrt_file_layer) == 28 ? 1 : -1];

/* CRC-32 of n bytes (IEEE 802.3, as zlib's crc32(0, data, n)). */
uint32_t cinchrt_crc32(const void *data, size_t n);

/* Steps of time that a layer yields from tin (0: impossible), the bytes of its data block in plain
 * form, and its weights (W above). `l` need hold only op, k, pad, pool, in1, cin, cout, cin1. */
uint32_t cinchrt_layer_time(const struct cinchrt_file_layer *l, uint32_t tin);
uint64_t cinchrt_layer_bytes(const struct cinchrt_file_layer *l, uint32_t tin);
uint64_t cinchrt_layer_weights(const struct cinchrt_file_layer *l, uint32_t tin);
size_t cinchrt_weight_bytes(int op); /* 1 or 4; 0: no matrices */

/* Data blocks in sparse form. `bytes`: how many of the `room` bytes at `stored` the block takes, 0
 * when they are no block as specified above. `unpack`: from a block that `bytes` accepted to its plain
 * form of cinchrt_layer_bytes. `pack`: the other way, into as much room; the bytes written, 0 when the
 * plain form is no larger. */
uint64_t cinchrt_sparse_bytes(const struct cinchrt_file_layer *l, uint32_t tin,
                              const uint8_t *stored, uint64_t room);
void cinchrt_sparse_unpack(const struct cinchrt_file_layer *l, uint32_t tin, const uint8_t *stored,
                           uint8_t *plain);
uint64_t cinchrt_sparse_pack(const struct cinchrt_file_layer *l, uint32_t tin, const uint8_t *plain,
                             uint8_t *stored);

/* The 16-bit multiplier of LSTM_I8's rows, and back. The first gives the least one >= x (to 2^-20) with 9 significant
 * bits, because kernels multiply faster by those than by all 12: choose it first and the weights' scale
 * from it, and nothing is lost. x in [2^-19, 2040], ends clamped. */
uint16_t cinchrt_mult16(float x);
float cinchrt_mult16_value(uint16_t v);

/* The LSTM's two functions as the runtime computes them, for tests and the
 * quantiser. Q3.12 -> Q15; Q4.11 -> Q15. */
int16_t cinchrt_tanh16(int16_t a);
int16_t cinchrt_sig16(int16_t v);

#endif
