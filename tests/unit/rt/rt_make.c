/* tests/unit/rt/rt_make.c - random .cinch files; see rt_make.h. */
#include "tests/unit/rt/rt_make.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

uint32_t rt_make_random(struct rt_make *k)
{
    k->seed = k->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(k->seed >> 33) ^ (uint32_t)(k->seed >> 50);
}

double rt_make_uniform(struct rt_make *k, double lo, double hi)
{
    return lo + (hi - lo) * (rt_make_random(k) & 0xffffff) / 16777216.0;
}

void rt_make_begin(struct rt_make *k, uint64_t seed, int leads, int samples, int labels)
{
    memset(k, 0, sizeof *k);
    k->seed_of_file = seed;
    k->seed = seed * 7919 + 17;
    k->qmax = 255;
    memcpy(k->h.magic, CINCHRT_MAGIC, 4);
    k->h.version = CINCHRT_VERSION;
    k->h.leads = (uint16_t)leads;
    k->h.samples = (uint16_t)samples;
    k->h.labels = (uint8_t)labels;
    k->h.hz = 100;
    k->h.in_scale = 8.0f / 255;
    k->h.in_qmax = 255;
    k->h.in_zero = 120;
    memcpy(k->h.net, "random", 6);
}

static uint8_t *put_f32(uint8_t *p, double v)
{
    float f = (float)v;
    memcpy(p, &f, 4);
    return p + 4;
}

static uint8_t *put_i32(uint8_t *p, int32_t v)
{
    memcpy(p, &v, 4);
    return p + 4;
}

static uint8_t *put_i8s(struct rt_make *k, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) *p++ = (uint8_t)(int8_t)((int)(rt_make_random(k) % 255) - 127);
    return p;
}

static uint8_t *put_floats(struct rt_make *k, uint8_t *p, size_t n, double most)
{
    for (size_t i = 0; i < n; i++) p = put_f32(p, rt_make_uniform(k, -most, most));
    return p;
}

/* Products of weights (sd 73) and activations (sd about 60) summed over n. */
static double sum_sd(double n)
{
    return 73 * 60 * sqrt(n);
}

static void draw_conv_i8(struct rt_make *k, const struct cinchrt_file_layer *f, uint8_t *p,
                         size_t inner)
{
    int logits = f->flags & CINCHRT_LOGITS;
    for (int o = 0; o < f->cout; o++)
        p = put_i32(p, (int32_t)rt_make_uniform(k, -sum_sd((double)inner), sum_sd((double)inner)));
    for (int o = 0; o < f->cout; o++)
        p = put_f32(p, (logits ? 2 : 70) * rt_make_uniform(k, 0.5, 1.5) / sum_sd((double)inner));
    if (f->cin1)
        for (int o = 0; o < f->cout; o++)
            p = put_f32(p, sqrt((double)inner / f->cin1) * rt_make_uniform(k, 0.3, 2));
    p = put_i8s(k, p, (size_t)f->cout * inner);
    put_i8s(k, p, (size_t)f->cout * f->cin1);
}

static void draw_lstm_i8(struct rt_make *k, const struct cinchrt_file_layer *f, uint8_t *p)
{
    int rows = 4 * f->cout;
    for (int r = 0; r < rows; r++) {
        int16_t b = (int16_t)rt_make_uniform(k, -4000, 4000);
        memcpy(p, &b, 2), p += 2;
    }
    for (int part = 0; part < 2; part++)
        for (int r = 0; r < rows; r++) {
            double n = part ? f->cout : f->cin;
            uint16_t v = cinchrt_mult16((float)(rt_make_uniform(k, 1000, 5000) / sum_sd(n)));
            if (k->seed_of_file % 3 == 0)
                v |= rt_make_random(k) & 7; /* legal, but not what a writer picks */
            memcpy(p, &v, 2), p += 2;
        }
    for (int u = 0; u < f->cout; u++) *p++ = (uint8_t)(3 + rt_make_random(k) % 10);
    put_i8s(k, p, (size_t)rows * (size_t)(f->cin + f->cout));
}

static void draw_layernorm_i8(struct rt_make *k, struct cinchrt_file_layer *f, uint8_t *p)
{
    float mult = 60.0f / (1024 * 16384);
    for (int c = 0; c < f->cin; c++)
        p = put_i32(p, (int32_t)rt_make_uniform(k, -1024 * 8000, 1024 * 8000));
    for (int c = 0; c < f->cin; c++) {
        int16_t g = (int16_t)rt_make_uniform(k, -32767, 32767);
        memcpy(p, &g, 2), p += 2;
    }
    memcpy(&f->param, &mult, 4);
}

static void draw(struct rt_make *k, struct cinchrt_file_layer *f, uint8_t *p, uint32_t tin)
{
    size_t inner = (size_t)f->cin * (f->k ? f->k : tin), rows = 4 * (size_t)f->cout;
    float mult = 1.0f / (float)tin;
    switch (f->op) {
    case CINCHRT_CONV_I8:
    case CINCHRT_LINEAR_I8:
        draw_conv_i8(k, f, p, inner);
        break;
    case CINCHRT_LSTM_I8:
        draw_lstm_i8(k, f, p);
        break;
    case CINCHRT_LAYERNORM_I8:
        draw_layernorm_i8(k, f, p);
        break;
    case CINCHRT_MEAN_I8:
        memcpy(&f->param, &mult, 4);
        break;
    case CINCHRT_CONV_F32:
    case CINCHRT_LINEAR_F32:
        p = put_floats(k, p, f->cout, 0.5);
        p = put_floats(k, p, f->cout * inner, 1.7 / sqrt((double)inner));
        if (f->cin1) put_floats(k, p, (size_t)f->cout * f->cin1, 1.7 / sqrt(f->cin1));
        break;
    case CINCHRT_LSTM_F32:
        put_floats(k, p, rows * (1u + f->cin + f->cout), 2 / sqrt(f->cout + 1.0));
        break;
    case CINCHRT_LAYERNORM_F32:
        put_floats(k, p, 2u * f->cin, 1);
        break;
    case CINCHRT_LSTM_DYN:
        p = put_floats(k, p, rows, 0.5);
        p = put_f32(put_f32(p, 1 / 127.0 / sqrt(f->cin)), 1 / 127.0 / sqrt(f->cout));
        put_i8s(k, p, rows * (size_t)(f->cin + f->cout));
        break;
    case CINCHRT_LINEAR_DYN:
        p = put_f32(put_floats(k, p, f->cout, 0.5), 2 / 127.0 / sqrt((double)inner));
        put_i8s(k, p, f->cout * inner);
        break;
    default:
        break;
    }
}

int rt_make_layer(struct rt_make *k, struct cinchrt_file_layer f)
{
    int i = k->h.layers++;
    uint32_t tin = f.in0 == CINCHRT_NET_INPUT ? k->h.samples : k->time[f.in0];
    int i8 = f.op < CINCHRT_CONV_F32;
    int u8 = i8 && f.op != CINCHRT_LSTM_I8 && !(f.flags & CINCHRT_LOGITS);
    f.cin = f.in0 == CINCHRT_NET_INPUT ? k->h.leads : k->layer[f.in0].cout;
    if (f.in1 != CINCHRT_NO_INPUT)
        f.cin1 = f.in1 == CINCHRT_NET_INPUT ? k->h.leads : k->layer[f.in1].cout;
    if (!f.cout) f.cout = f.cin;
    if (!f.pool) f.pool = 1;
    if (u8 || f.op == CINCHRT_LSTM_I8 || f.op > CINCHRT_LAYERNORM_F32) f.qmax = (uint8_t)k->qmax;
    if (u8 && !f.scale) f.scale = 0.05f;
    if (u8 && !f.zero && !(f.flags & CINCHRT_RELU)) f.zero = (uint8_t)(k->qmax / 2);
    if (f.op == CINCHRT_LSTM_I8)
        f.zero = k->qmax == 255 ? 128 : 64, f.param = k->qmax == 255 ? 127 : 63;
    k->time[i] = cinchrt_layer_time(&f, tin);
    k->bytes[i] = (size_t)cinchrt_layer_bytes(&f, tin);
    k->block[i] = malloc(k->bytes[i] + 64);
    draw(k, &f, k->block[i], tin);
    k->layer[i] = f;
    return i;
}

uint8_t *rt_make_end(struct rt_make *k, size_t *n)
{
    size_t table = sizeof k->h + 8 * (size_t)k->h.leads + 8 * (size_t)k->h.labels;
    size_t end = table + sizeof k->layer[0] * k->h.layers;
    uint8_t *file, *p;
    for (int i = 0; i < k->h.layers; i++) k->layer[i].offset = (uint32_t)end, end += k->bytes[i];
    k->h.file_bytes = (uint32_t)end;
    file = calloc(1, end);
    p = file + sizeof k->h;
    for (int i = 0; i < k->h.leads; i++) p = put_f32(p, 0.01 * i);
    for (int i = 0; i < k->h.leads; i++) p = put_f32(p, 0.2 + 0.01 * i);
    for (int i = 0; i < k->h.labels; i++, p += 8) p[0] = 'L', p[1] = (uint8_t)('0' + i % 10);
    memcpy(file + table, k->layer, sizeof k->layer[0] * k->h.layers);
    for (int i = 0; i < k->h.layers; i++) {
        memcpy(file + k->layer[i].offset, k->block[i], k->bytes[i]);
        free(k->block[i]);
    }
    memcpy(file, &k->h, sizeof k->h);
    k->h.crc = cinchrt_crc32(file + CINCHRT_CRC_START, end - CINCHRT_CRC_START);
    memcpy(file, &k->h, sizeof k->h);
    *n = end;
    return file;
}

static struct cinchrt_file_layer plain(int op, int in)
{
    struct cinchrt_file_layer f;
    memset(&f, 0, sizeof f);
    f.op = (uint8_t)op;
    f.in0 = (uint8_t)in;
    f.in1 = CINCHRT_NO_INPUT;
    return f;
}

static int conv(struct rt_make *k, int op, int in, int cout, int kernel, int pad, int pool,
                int side)
{
    struct cinchrt_file_layer f = plain(op, in);
    f.cout = (uint16_t)cout, f.k = (uint8_t)kernel, f.pad = (uint8_t)pad, f.pool = (uint8_t)pool;
    f.flags = CINCHRT_RELU;
    f.in1 = (uint8_t)side;
    return rt_make_layer(k, f);
}

static int linear(struct rt_make *k, int op, int in, int cout, int last)
{
    struct cinchrt_file_layer f = plain(op, in);
    f.cout = (uint16_t)cout;
    f.flags = last ? CINCHRT_LOGITS : CINCHRT_RELU;
    return rt_make_layer(k, f);
}

static void make_resnet(struct rt_make *k, int conv_op, int mean_op, int linear_op, const int *w)
{
    int x = CINCHRT_NET_INPUT;
    for (int b = 0; b < 3; b++) {
        int a = conv(k, conv_op, x, w[3 * b], 7, 3, 1, CINCHRT_NO_INPUT);
        int c = conv(k, conv_op, a, w[3 * b + 1], 5, 2, 1, CINCHRT_NO_INPUT);
        x = conv(k, conv_op, c, w[3 * b + 2], 3, 1, 1, x);
    }
    x = rt_make_layer(k, plain(mean_op, x));
    linear(k, linear_op, x, k->h.labels, 1);
}

static void make_rnn(struct rt_make *k, int lstm, int norm, int last, const int *w)
{
    struct cinchrt_file_layer f = plain(lstm, CINCHRT_NET_INPUT);
    int x;
    f.cout = (uint16_t)w[0];
    x = rt_make_layer(k, f);
    f = plain(norm, x);
    f.pool = 125;
    linear(k, last, rt_make_layer(k, f), k->h.labels, 1);
}

uint8_t *rt_make_net(const char *net, int kind, const int *widths, int qmax, uint64_t seed,
                     size_t *n)
{
    static const int cnn[4] = {32, 64, 96, 32}, rnn[1] = {64}, beat[5] = {5, 10, 20, 30, 20};
    static const int resnet[9] = {64, 64, 64, 128, 128, 128, 128, 128, 128};
    int i8 = kind != CINCHRT_KIND_FLOAT, dyn = kind == CINCHRT_KIND_DYNAMIC, x = CINCHRT_NET_INPUT;
    int conv_op = i8 ? CINCHRT_CONV_I8 : CINCHRT_CONV_F32;
    int linear_op = i8 ? CINCHRT_LINEAR_I8 : CINCHRT_LINEAR_F32;
    struct rt_make k;
    int is_beat = !strcmp(net, "beat");
    rt_make_begin(&k, seed, is_beat ? 1 : 12, is_beat ? 260 : 1000, 5);
    memset(k.h.net, 0, sizeof k.h.net);
    memcpy(k.h.net, net, strlen(net));
    k.h.kind = (uint8_t)kind;
    k.qmax = qmax;
    k.h.in_qmax = (uint8_t)qmax;
    k.h.in_zero = (uint8_t)(qmax / 2);
    k.h.in_scale = 8.0f / (float)qmax;
    if (!strcmp(net, "cnn")) {
        const int *w = widths ? widths : cnn;
        for (int i = 0; i < 4; i++) x = conv(&k, conv_op, x, w[i], 3, 0, 3, CINCHRT_NO_INPUT);
        linear(&k, linear_op, x, 5, 1);
    } else if (!strcmp(net, "resnet")) {
        make_resnet(&k, conv_op, i8 ? CINCHRT_MEAN_I8 : CINCHRT_MEAN_F32, linear_op,
                    widths ? widths : resnet);
    } else if (!strcmp(net, "rnn")) {
        make_rnn(&k,
                 dyn  ? CINCHRT_LSTM_DYN
                 : i8 ? CINCHRT_LSTM_I8
                      : CINCHRT_LSTM_F32,
                 i8 && !dyn ? CINCHRT_LAYERNORM_I8 : CINCHRT_LAYERNORM_F32,
                 dyn ? CINCHRT_LINEAR_DYN : linear_op, widths ? widths : rnn);
    } else {
        const int *w = widths ? widths : beat;
        k.h.head = CINCHRT_SOFTMAX;
        for (int i = 0; i < 3; i++)
            x = conv(&k, conv_op, x, w[i], i ? 4 : 3, 0, 2, CINCHRT_NO_INPUT);
        for (int i = 3; i < 5; i++) x = linear(&k, linear_op, x, w[i], 0);
        linear(&k, linear_op, x, 5, 1);
    }
    return rt_make_end(&k, n);
}

void rt_make_seal(uint8_t *file, size_t n)
{
    uint32_t crc = cinchrt_crc32(file + CINCHRT_CRC_START, n - CINCHRT_CRC_START);
    memcpy(file + offsetof(struct cinchrt_file_header, crc), &crc, 4);
}

/* The records of a sound file, with the length of each layer's input. */
struct opened {
    struct cinchrt_file_header h;
    size_t table;
    struct cinchrt_file_layer layer[CINCHRT_MAX_LAYERS];
    uint32_t tin[CINCHRT_MAX_LAYERS];
};

static void open_file(struct opened *o, const uint8_t *file)
{
    uint32_t time[CINCHRT_MAX_LAYERS];
    memcpy(&o->h, file, sizeof o->h);
    o->table = sizeof o->h + 8 * (size_t)o->h.leads + 8 * (size_t)o->h.labels;
    memcpy(o->layer, file + o->table, sizeof o->layer[0] * o->h.layers);
    for (int i = 0; i < o->h.layers; i++) {
        const struct cinchrt_file_layer *l = &o->layer[i];
        o->tin[i] = l->in0 == CINCHRT_NET_INPUT ? o->h.samples : time[l->in0];
        time[i] = cinchrt_layer_time(l, o->tin[i]);
    }
}

void rt_make_zeros(uint8_t *file, size_t n, double share, uint64_t seed)
{
    struct rt_make k = {.seed = seed};
    struct opened o;
    open_file(&o, file);
    for (int i = 0; i < o.h.layers; i++) {
        size_t width = cinchrt_weight_bytes(o.layer[i].op);
        size_t weights = (size_t)cinchrt_layer_weights(&o.layer[i], o.tin[i]);
        uint8_t *end = file + o.layer[i].offset + cinchrt_layer_bytes(&o.layer[i], o.tin[i]);
        for (size_t w = 1; w <= weights; w++)
            if (rt_make_uniform(&k, 0, 1) < share) memset(end - width * w, 0, width);
    }
    rt_make_seal(file, n);
}

uint8_t *rt_make_sparse(const uint8_t *file, size_t n, size_t *sparse_n)
{
    struct opened o;
    uint8_t *out = malloc(n);
    open_file(&o, file);
    size_t end = o.table + sizeof o.layer[0] * o.h.layers;
    memcpy(out, file, end);
    for (int i = 0; i < o.h.layers; i++) {
        const uint8_t *plain = file + o.layer[i].offset;
        size_t bytes = (size_t)cinchrt_sparse_pack(&o.layer[i], o.tin[i], plain, out + end);
        o.layer[i].offset = (uint32_t)end;
        if (bytes) {
            o.layer[i].flags |= CINCHRT_SPARSE;
            o.h.version = CINCHRT_VERSION_SPARSE;
        } else {
            bytes = (size_t)cinchrt_layer_bytes(&o.layer[i], o.tin[i]);
            memcpy(out + end, plain, bytes);
        }
        end += bytes;
    }
    o.h.align_log2 = 0;
    o.h.file_bytes = (uint32_t)end;
    memcpy(out, &o.h, sizeof o.h);
    memcpy(out + o.table, o.layer, sizeof o.layer[0] * o.h.layers);
    rt_make_seal(out, end);
    *sparse_n = end;
    return out;
}

void rt_make_signal(uint64_t seed, float *x, int leads, int samples)
{
    struct rt_make k;
    k.seed = seed;
    for (int l = 0; l < leads; l++) {
        double a = rt_make_uniform(&k, 0.5, 2), phase = rt_make_uniform(&k, 0, 6.28);
        for (int t = 0; t < samples; t++) {
            double beat = sin(t * 0.075 + phase);
            x[l * samples + t] = (float)(a * (pow(beat, 20) * 4 - 0.3 + 0.2 * sin(t * 0.02)) +
                                         rt_make_uniform(&k, -0.3, 0.3));
        }
    }
}
