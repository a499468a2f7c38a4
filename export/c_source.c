/* export/c_source.c - an artifact as C99: constant arrays, the kernels of export/kernels.h, and a function that
 * calls them layer by layer. One file, with scratch from its caller; or model.c with scratch of its own,
 * whose interface c_header.c writes. */
#define _GNU_SOURCE /* memmem */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/rt/fixed.h"
#include "export/artifact.h"
#include "export/c_header.h"
#include "export/export.h"
#include "export/text.h"

extern const char export_carried[]; /* tables.h, fixed.h, real.h, kernels.h; made by embed.cmake */

#define MAX_SYMBOL 40
#define ALIGN_ROOM 7 /* for a scratch that starts anywhere */

struct source {
    const struct export_artifact *a;
    const char *symbol;
    struct export_text *out;
    size_t offset[CINCHRT_MAX_LAYERS +
                  2]; /* of each edge in the scratch; the last: of a layer's state */
    size_t scratch;
    int module; /* 1: model.c; 0: the one file */
};

/* Arrays */

static void array_open(struct source *s, const char *type, int layer, const char *name)
{
    export_printf(s->out, "static const %s l%d_%s[] = {", type, layer, name);
}

static void array_break(struct source *s, size_t i, size_t per_line)
{
    if (i % per_line == 0) export_printf(s->out, "\n ");
}

static void array_close(struct source *s)
{
    export_printf(s->out, "\n};\n");
}

static void write_i8(struct source *s, int layer, const char *name, const uint8_t *v, size_t n)
{
    array_open(s, "int8_t", layer, name);
    for (size_t i = 0; i < n; i++) {
        array_break(s, i, 20);
        export_printf(s->out, "%d,", (int8_t)v[i]);
    }
    array_close(s);
}

static void write_u8(struct source *s, int layer, const char *name, const uint8_t *v, size_t n)
{
    array_open(s, "uint8_t", layer, name);
    for (size_t i = 0; i < n; i++) {
        array_break(s, i, 20);
        export_printf(s->out, "%d,", v[i]);
    }
    array_close(s);
}

static void write_16(struct source *s, int layer, const char *name, const uint8_t *v, size_t n,
                     int is_signed)
{
    array_open(s, is_signed ? "int16_t" : "uint16_t", layer, name);
    for (size_t i = 0; i < n; i++) {
        array_break(s, i, 14);
        int16_t x = export_i16(v, i);
        export_printf(s->out, "%d,", is_signed ? x : (int)(uint16_t)x);
    }
    array_close(s);
}

static void write_i32(struct source *s, int layer, const char *name, const uint8_t *v, size_t n)
{
    array_open(s, "int32_t", layer, name);
    for (size_t i = 0; i < n; i++) {
        array_break(s, i, 8);
        export_printf(s->out, "%d,", export_i32(v, i));
    }
    array_close(s);
}

/* A float literal that reads back as the same bits. */
static void literal(struct export_text *out, float v)
{
    char text[40];
    snprintf(text, sizeof text, "%.9g", (double)v);
    export_printf(out, "%s%sf", text, strpbrk(text, ".en") ? "" : ".0");
}

static void write_f32(struct source *s, int layer, const char *name, const uint8_t *v, size_t n)
{
    array_open(s, "float", layer, name);
    for (size_t i = 0; i < n; i++) {
        array_break(s, i, 8);
        literal(s->out, export_f32(v, i));
        export_printf(s->out, ",");
    }
    array_close(s);
}

static struct rt_mult mult_of(uint32_t bits)
{
    struct rt_mult k = {0, 1};
    rt_mult_decode(bits, &k);
    return k;
}

static void write_mult(struct source *s, int layer, const char *name, const uint8_t *v, size_t n)
{
    array_open(s, "struct rt_mult", layer, name);
    for (size_t i = 0; i < n; i++) {
        array_break(s, i, 6);
        struct rt_mult k = mult_of((uint32_t)export_i32(v, i));
        export_printf(s->out, "{%d,%d},", k.m, k.s);
    }
    array_close(s);
}

/* Layers: their arrays and the struct that a kernel takes. */

static void write_shape(struct source *s, const struct export_layer *l)
{
    int linear = export_is_linear(l);
    export_printf(s->out, "{%d, %d, %d, %d, %d, %d, %d, %d, %d}", l->f.cin, l->f.cin1, l->f.cout,
                  linear ? l->tin : l->f.k, linear ? 0 : l->f.pad, l->tin, linear ? 1 : l->tout,
                  linear ? 1 : l->f.pool, (l->f.flags & CINCHRT_RELU) != 0);
}

static void define_conv_i8(struct source *s, int i, const struct export_layer *l)
{
    const struct export_edge *in = &s->a->edge[l->in], *out = &s->a->edge[l->out];
    size_t rows = export_rows(l);
    int last = (l->f.flags & CINCHRT_LOGITS) != 0;
    write_i32(s, i, "bias", l->bias, rows);
    if (last)
        write_f32(s, i, "logit", l->mult, rows);
    else
        write_mult(s, i, "mult", l->mult, rows);
    write_i8(s, i, "w", l->w, rows * export_columns(l));
    if (l->in1 >= 0) {
        write_mult(s, i, "mult1", l->mult1, rows);
        write_i8(s, i, "w1", l->w1, rows * export_columns1(l));
    }
    export_printf(s->out, "static const struct net_conv_i8 l%d = {", i);
    write_shape(s, l);
    export_printf(s->out, ", %d, %d, %d, %d, l%d_bias, ", in->zero,
                  l->in1 >= 0 ? s->a->edge[l->in1].zero : 0, out->zero, out->qmax, i);
    if (last)
        export_printf(s->out, "0, 0, l%d_logit, l%d_w, 0};\n\n", i, i);
    else if (l->in1 >= 0)
        export_printf(s->out, "l%d_mult, l%d_mult1, 0, l%d_w, l%d_w1};\n\n", i, i, i, i);
    else
        export_printf(s->out, "l%d_mult, 0, 0, l%d_w, 0};\n\n", i, i);
}

static void define_lstm_i8(struct source *s, int i, const struct export_layer *l)
{
    size_t rows = export_rows(l);
    write_16(s, i, "bias", l->bias, rows, 1);
    write_16(s, i, "mx", l->mult, rows, 0);
    write_16(s, i, "mh", l->mult1, rows, 0);
    write_u8(s, i, "bits", l->cell, l->f.cout);
    write_i8(s, i, "w", l->w, rows * export_columns(l));
    write_i8(s, i, "w1", l->w1, rows * export_columns1(l));
    export_printf(
        s->out,
        "static const struct net_lstm_i8 l%d = {%d, %d, %d, %d, %d, %d, %u,\n    l%d_bias, l%d_mx, "
        "l%d_mh, l%d_bits, l%d_w, l%d_w1};\n\n",
        i, l->f.cin, l->f.cout, l->tin, s->a->edge[l->in].zero, l->f.zero, l->f.qmax, l->f.param, i,
        i, i, i, i, i);
}

static void define_norm_i8(struct source *s, int i, const struct export_layer *l)
{
    struct rt_mult k = mult_of(l->f.param);
    const struct export_edge *out = &s->a->edge[l->out];
    write_i32(s, i, "bias", l->bias, l->f.cin);
    write_16(s, i, "gamma", l->gamma, l->f.cin, 1);
    export_printf(s->out,
                  "static const struct net_norm_i8 l%d = {%d, %d, %d, %d, %d, {%d, %d}, l%d_bias, "
                  "l%d_gamma};\n\n",
                  i, l->f.cin, l->tout, l->f.pool, out->zero, out->qmax, k.m, k.s, i, i);
}

static void define_f32(struct source *s, int i, const struct export_layer *l)
{
    size_t rows = export_rows(l);
    if (l->f.op == CINCHRT_LAYERNORM_F32) {
        write_f32(s, i, "gamma", l->gamma, l->f.cin);
        write_f32(s, i, "beta", l->bias, l->f.cin);
        export_printf(
            s->out, "static const struct net_norm_f32 l%d = {%d, %d, %d, l%d_gamma, l%d_beta};\n\n",
            i, l->f.cin, l->tout, l->f.pool, i, i);
        return;
    }
    write_f32(s, i, "bias", l->bias, rows);
    write_f32(s, i, "w", l->w, rows * export_columns(l));
    if (l->w1) write_f32(s, i, "w1", l->w1, rows * export_columns1(l));
    if (l->f.op == CINCHRT_LSTM_F32) {
        export_printf(
            s->out,
            "static const struct net_lstm_f32 l%d = {%d, %d, %d, l%d_bias, l%d_w, l%d_w1};\n\n", i,
            l->f.cin, l->f.cout, l->tin, i, i, i);
        return;
    }
    export_printf(s->out, "static const struct net_conv_f32 l%d = {", i);
    write_shape(s, l);
    if (l->w1)
        export_printf(s->out, ", l%d_bias, l%d_w, l%d_w1};\n\n", i, i, i);
    else
        export_printf(s->out, ", l%d_bias, l%d_w, 0};\n\n", i, i);
}

static void define_layer(struct source *s, int i)
{
    const struct export_layer *l = &s->a->layer[i];
    switch (l->f.op) {
    case CINCHRT_CONV_I8:
    case CINCHRT_LINEAR_I8:
        define_conv_i8(s, i, l);
        break;
    case CINCHRT_LSTM_I8:
        define_lstm_i8(s, i, l);
        break;
    case CINCHRT_LAYERNORM_I8:
        define_norm_i8(s, i, l);
        break;
    case CINCHRT_MEAN_I8:
    case CINCHRT_MEAN_F32:
        break;
    default:
        define_f32(s, i, l);
    }
}

/* The calls of the run function. */

static const char *c_type(const struct export_edge *e)
{
    return e->type == EXPORT_U8 ? "uint8_t" : e->type == EXPORT_H16 ? "int16_t" : "float";
}

/* "(uint8_t *)(at + 128)", or 0 for edge -1. */
static void edge_text(const struct source *s, int edge, char text[64])
{
    if (edge < 0)
        snprintf(text, 64, "0");
    else
        snprintf(text, 64, "(%s *)(void *)(at + %zu)", c_type(&s->a->edge[edge]), s->offset[edge]);
}

static void call_mean(struct source *s, const struct export_layer *l, const char *x, const char *y)
{
    if (l->f.op == CINCHRT_MEAN_F32) {
        export_printf(s->out, "    net_mean_f32(%d, %d, %s, %s);\n", l->f.cin, l->tin, x, y);
        return;
    }
    struct rt_mult k = mult_of(l->f.param);
    export_printf(s->out, "    mult.m = %d, mult.s = %d;\n", k.m, k.s);
    export_printf(s->out, "    net_mean_i8(%d, %d, %d, mult, %d, %d, %s, %s);\n", l->f.cin, l->tin,
                  s->a->edge[l->in].zero, l->f.zero, l->f.qmax, x, y);
}

static void call_layer(struct source *s, int i)
{
    const struct export_layer *l = &s->a->layer[i];
    char x[64], x1[64], y[64];
    size_t state = s->offset[s->a->n + 1];
    edge_text(s, l->in, x);
    edge_text(s, l->in1, x1);
    edge_text(s, l->out, y);
    switch (l->f.op) {
    case CINCHRT_CONV_I8:
    case CINCHRT_LINEAR_I8:
        if (l->f.flags & CINCHRT_LOGITS)
            export_printf(s->out, "    net_logits_i8(&l%d, %s, %s);\n", i, x, y);
        else
            export_printf(s->out, "    net_conv_i8(&l%d, %s, %s, %s);\n", i, x, x1, y);
        break;
    case CINCHRT_CONV_F32:
    case CINCHRT_LINEAR_F32:
        export_printf(s->out, "    net_conv_f32(&l%d, %s, %s, %s);\n", i, x, x1, y);
        break;
    case CINCHRT_LSTM_I8:
        export_printf(s->out, "    net_lstm_i8(&l%d, %s, %s, (int16_t *)(void *)(at + %zu));\n", i,
                      x, y, state);
        break;
    case CINCHRT_LSTM_F32:
        export_printf(s->out, "    net_lstm_f32(&l%d, %s, %s, (float *)(void *)(at + %zu));\n", i,
                      x, y, state);
        break;
    case CINCHRT_LAYERNORM_I8:
    case CINCHRT_LAYERNORM_F32:
        export_printf(s->out, "    net_norm_%s(&l%d, %s, %s);\n",
                      l->f.op == CINCHRT_LAYERNORM_I8 ? "i8" : "f32", i, x, y);
        break;
    default:
        call_mean(s, l, x, y);
    }
}

/* Memory: first fit by lifetime; a convolution may write over what it has read. */

static int last_reader(const struct export_artifact *a, int edge)
{
    int last = edge; /* edge e is written by step e, the input by step 0 */
    for (int i = 0; i < a->n; i++)
        if (a->layer[i].in == edge || a->layer[i].in1 == edge) last = i + 1;
    return edge == a->n ? a->n + 1 : last;
}

static size_t edge_size(const struct export_edge *e)
{
    size_t width = e->type == EXPORT_U8 ? 1 : e->type == EXPORT_H16 ? 2 : 4;
    return ((size_t)e->c * (size_t)e->t * width + 7) / 8 * 8;
}

/* An int8 convolution may write over its own input, when nothing else reads that: output row t starts
 * where input rows before t * pool - pad, which nobody reads any more, lay. The bytes that the output
 * must start below the input for that; 0: it may not. */
static size_t lead_of(const struct export_artifact *a, int e)
{
    const struct export_layer *l = &a->layer[e - 1];
    long lead = 0;
    if (l->f.op != CINCHRT_CONV_I8 || l->in1 >= 0 || last_reader(a, l->in) > e ||
        a->edge[l->in].type != EXPORT_U8 || a->edge[e].type != EXPORT_U8)
        return 0;
    for (long t = 0; t < l->tout; t++) {
        long row = t * l->f.pool - l->f.pad;
        long need = (t + 1) * l->f.cout - (row > 0 ? row * l->f.cin : 0);
        if (need > lead) lead = need;
    }
    return ((size_t)lead + 7) / 8 * 8;
}

/* Where edge e may start so that edge o, placed before, stays whole while it is read: `at`, or a later place. */
static size_t beside(const struct source *s, int e, size_t at, int o)
{
    const struct export_artifact *a = s->a;
    size_t other = edge_size(&a->edge[o]), lead;
    if (last_reader(a, o) < e || at >= s->offset[o] + other ||
        s->offset[o] >= at + edge_size(&a->edge[e]))
        return at;
    lead = a->layer[e - 1].in == o ? lead_of(a, e) : 0;
    return lead && at + lead <= s->offset[o] ? at : s->offset[o] + other;
}

/* Places all edges, the input at `first`: the end of the last one. */
static size_t place(struct source *s, size_t first)
{
    const struct export_artifact *a = s->a;
    size_t end = first + edge_size(&a->edge[0]);
    s->offset[0] = first;
    for (int e = 1; e <= a->n; e++) {
        size_t at = 0;
        for (int o = 0; o < e; o++) {
            size_t next = beside(s, e, at, o);
            if (next == at) continue;
            at = next;
            o = -1; /* start again: the new place may meet an earlier edge */
        }
        s->offset[e] = at;
        if (at + edge_size(&a->edge[e]) > end) end = at + edge_size(&a->edge[e]);
    }
    return end;
}

/* The input at the front, or so far back that the first layer may write over it: what takes less. */
static void place_edges(struct source *s)
{
    const struct export_artifact *a = s->a;
    size_t state = 0, lead = lead_of(a, 1), end = place(s, 0), behind = place(s, lead);
    if (behind < end)
        end = behind;
    else
        place(s, 0);
    for (int i = 0; i < a->n; i++)
        if (export_is_lstm(&a->layer[i]) && 12 * (size_t)a->layer[i].f.cout > state)
            state = 12 * (size_t)a->layer[i].f.cout;
    s->offset[a->n + 1] = end;
    s->scratch = end + state + ALIGN_ROOM;
}

/* The file */

/* The kernel that a layer needs. */
static const char *kernel_name(const struct export_layer *l)
{
    switch (l->f.op) {
    case CINCHRT_CONV_I8:
    case CINCHRT_LINEAR_I8:
        return l->f.flags & CINCHRT_LOGITS ? "LOGITS_I8" : "CONV_I8";
    case CINCHRT_MEAN_I8:
        return "MEAN_I8";
    case CINCHRT_LSTM_I8:
        return "LSTM_I8";
    case CINCHRT_LAYERNORM_I8:
        return "NORM_I8";
    case CINCHRT_MEAN_F32:
        return "MEAN_F32";
    case CINCHRT_LSTM_F32:
        return "LSTM_F32";
    case CINCHRT_LAYERNORM_F32:
        return "NORM_F32";
    default:
        return "CONV_F32";
    }
}

/* Switches the needed kernels on, each once. */
static void write_uses(struct source *s)
{
    export_printf(s->out, "#define NET_%s\n", s->a->edge[0].type == EXPORT_U8 ? "I8" : "F32");
    for (int i = 0; i < s->a->n; i++) {
        const char *name = kernel_name(&s->a->layer[i]);
        int seen = 0;
        for (int j = 0; j < i; j++) seen |= strcmp(name, kernel_name(&s->a->layer[j])) == 0;
        if (!seen) export_printf(s->out, "#define NET_%s\n", name);
    }
}

/* Whether the line "#ifdef NET_A" or "#if defined NET_A || defined NET_B" names a kernel that is needed. */
static int block_used(const struct source *s, const char *line, size_t n)
{
    char text[128], *save = NULL;
    snprintf(text, sizeof text, "%.*s", (int)n, line);
    for (char *word = strtok_r(text, " |\n", &save); word; word = strtok_r(NULL, " |\n", &save)) {
        if (strncmp(word, "NET_", 4) != 0) continue;
        if (!strcmp(word + 4, s->a->edge[0].type == EXPORT_U8 ? "I8" : "F32")) return 1;
        for (int i = 0; i < s->a->n; i++)
            if (!strcmp(word + 4, kernel_name(&s->a->layer[i]))) return 1;
    }
    return 0;
}

/* The carried headers without their includes of each other; in a module also without the kernels
 * that are not needed, and without the switches of the others. These do not nest. */
static void write_carried(struct source *s)
{
    int inside = 0, used = 1;
    for (const char *p = export_carried; *p;) {
        const char *end = strchr(p, '\n');
        size_t n = end ? (size_t)(end - p) + 1 : strlen(p);
        int opens = s->module && !strncmp(p, "#if", 3) && memmem(p, n, " NET_", 5);
        int closes = inside && !strncmp(p, "#endif", 6);
        if (opens) inside = 1, used = block_used(s, p, n);
        if (!opens && !closes && used && strncmp(p, "#include", 8) != 0) export_add(s->out, p, n);
        if (closes) inside = 0, used = 1;
        p += n;
    }
}

static void write_top(struct source *s)
{
    const struct export_artifact *a = s->a;
    char net[17] = {0};
    memcpy(net, a->h.net, sizeof a->h.net);
    export_printf(s->out, "/* The net");
    export_c_comment(s->out, net);
    export_printf(s->out, " as C99, made by `cinch export --c`. Needs no library, no malloc.\n");
    export_printf(s->out, " *     uint64_t scratch[(%s_SCRATCH_BYTES + 7) / 8];\n", s->symbol);
    export_printf(s->out, " *     %s_run(x, logits, probability, scratch);\n", s->symbol);
    export_printf(s->out, " * x: [%d leads][%d samples], (mV - mean) / std per lead:\n *   mean",
                  a->h.leads, a->h.samples);
    for (int i = 0; i < a->h.leads; i++) export_printf(s->out, " %.9g", (double)a->mean[i]);
    export_printf(s->out, "\n *   std ");
    for (int i = 0; i < a->h.leads; i++) export_printf(s->out, " %.9g", (double)a->std[i]);
    export_printf(s->out, "\n * logits, probability: [%d]", a->h.labels);
    for (int i = 0; i < a->h.labels; i++) export_c_comment(s->out, a->label[i]);
    export_printf(s->out, "; either may be NULL.\n");
    export_printf(s->out, " * Compile with -std=c99 (or -ffp-contract=off), so that no "
                          "multiply-add is fused.\n */\n");
    export_printf(s->out, "#include <stddef.h>\n#include <stdint.h>\n#include <string.h>\n\n");
    export_printf(s->out, "#define %s_SCRATCH_BYTES %zu\n", s->symbol, s->scratch);
    export_printf(
        s->out, "int %s_run(const float *x, float *logits, float *probability, void *scratch);\n\n",
        s->symbol);
    write_uses(s);
    write_carried(s);
    export_printf(s->out, "\n");
}

static void write_grid(struct source *s)
{
    const struct export_edge *in = &s->a->edge[0];
    if (in->type != EXPORT_U8) return;
    export_printf(s->out, "    static const struct net_grid grid = {");
    literal(s->out, in->scale);
    export_printf(s->out, ", %d, %d};\n", in->zero, in->qmax);
}

static void write_input(struct source *s)
{
    const struct export_artifact *a = s->a;
    char x[64];
    edge_text(s, 0, x);
    if (a->edge[0].type == EXPORT_U8)
        export_printf(s->out, "    net_input_i8(x, %d, %d, grid, %s);\n", a->h.leads, a->h.samples,
                      x);
    else
        export_printf(s->out, "    net_input_f32(x, %d, %d, %s);\n", a->h.leads, a->h.samples, x);
}

static void write_z(struct source *s)
{
    char z[64];
    edge_text(s, s->a->n, z);
    export_printf(s->out, "    const float *z = %s;\n", z);
    for (int i = 0; i < s->a->n; i++)
        if (s->a->layer[i].f.op == CINCHRT_MEAN_I8) {
            export_printf(s->out, "    struct rt_mult mult;\n");
            return;
        }
}

/* All layers and what is done with the last one's output. */
static void write_calls(struct source *s)
{
    const struct export_artifact *a = s->a;
    for (int i = 0; i < a->n; i++) call_layer(s, i);
    export_printf(s->out, "    if (logits) memcpy(logits, z, %d * sizeof *z);\n", a->h.labels);
    export_printf(s->out, "    if (probability) net_head(%d, %d, z, probability);\n",
                  a->h.head == CINCHRT_SOFTMAX, a->h.labels);
    export_printf(s->out, "    return 0;\n}\n");
}

static void write_run(struct source *s)
{
    export_printf(
        s->out, "int %s_run(const float *x, float *logits, float *probability, void *scratch)\n{\n",
        s->symbol);
    export_printf(s->out,
                  "    uint8_t *at = (uint8_t *)(((uintptr_t)scratch + 7) & ~(uintptr_t)7);\n");
    write_z(s);
    write_grid(s);
    export_printf(s->out, "    if (!x || !scratch) return -1;\n");
    write_input(s);
    write_calls(s);
    export_printf(s->out, "\n");
}

/* The functions that model.h declares. */
static void write_module(struct source *s)
{
    const struct export_artifact *a = s->a;
    char x[64];
    const char *name = s->symbol;
    edge_text(s, 0, x);
    export_printf(s->out,
                  "static union {\n    uint8_t at[%zu];\n    int64_t align;\n} net_scratch;\n\n",
                  s->scratch);
    export_printf(s->out, "int %s_put(int lead, int sample, float mv)\n{\n", name);
    export_printf(s->out, "    uint8_t *at = net_scratch.at;\n");
    write_grid(s);
    export_printf(s->out,
                  "    if (lead < 0 || lead >= %d || sample < 0 || sample >= %d) return -1;\n",
                  a->h.leads, a->h.samples);
    export_printf(s->out, "    mv = (mv - %s_mean[lead]) / %s_std[lead];\n", name, name);
    export_printf(s->out, "    (%s)[sample * %d + lead] = %s;\n    return 0;\n}\n\n", x, a->h.leads,
                  a->edge[0].type == EXPORT_U8 ? "net_sample_i8(mv, grid)" : "mv");
    export_printf(s->out, "int %s_infer(float *logits, float *probability)\n{\n", name);
    export_printf(s->out, "    uint8_t *at = net_scratch.at;\n");
    write_z(s);
    write_calls(s);
    export_printf(s->out, "\nint %s_run(const float *x, float *logits, float *probability)\n{\n",
                  name);
    export_printf(s->out, "    uint8_t *at = net_scratch.at;\n");
    write_grid(s);
    export_printf(s->out, "    if (!x) return -1;\n");
    write_input(s);
    export_printf(s->out, "    return %s_infer(logits, probability);\n}\n", name);
}

static void write_main(struct source *s)
{
    const struct export_artifact *a = s->a;
    export_printf(s->out,
                  "#ifdef %s_MAIN\n"
                  "#include <stdio.h>\n\n"
                  "/* Reads records of %d numbers (lead after lead, normalised), prints logits and "
                  "probabilities. */\n"
                  "int main(void)\n{\n"
                  "    static float x[%d];\n"
                  "    static uint64_t scratch[(%s_SCRATCH_BYTES + 7) / 8];\n"
                  "    float z[%d], p[%d];\n"
                  "    int i, n = 0;\n"
                  "    while (scanf(\"%%f\", &x[n]) == 1) {\n"
                  "        if (++n < %d) continue;\n"
                  "        n = 0;\n"
                  "        %s_run(x, z, p, scratch);\n"
                  "        for (i = 0; i < %d; i++) printf(\"%%.9g %%.9g\\n\", z[i], p[i]);\n"
                  "    }\n"
                  "    return n != 0;\n}\n#endif\n",
                  s->symbol, a->h.leads * a->h.samples, a->h.leads * a->h.samples, s->symbol,
                  a->h.labels, a->h.labels, a->h.leads * a->h.samples, s->symbol, a->h.labels);
}

static int check_symbol(const char *symbol, struct cn_error *err)
{
    size_t n = strlen(symbol);
    int ok = n > 0 && n <= MAX_SYMBOL && !isdigit((unsigned char)symbol[0]);
    for (size_t i = 0; i < n; i++)
        ok = ok && (isalnum((unsigned char)symbol[i]) || symbol[i] == '_');
    if (ok) return 0;
    return cn_fail(err, CN_EINVALID, "'%s' is not a C identifier of 1 to %d letters", symbol,
                   MAX_SYMBOL);
}

static int check_layers(const struct export_artifact *a, struct cn_error *err)
{
    for (int i = 0; i < a->n; i++)
        if (a->layer[i].f.op == CINCHRT_LSTM_DYN || a->layer[i].f.op == CINCHRT_LINEAR_DYN)
            return cn_fail(
                err, CN_EUNSUPPORTED,
                "the artifact quantises activations at run time (mode paper of an LSTM), which "
                "has no C form; quantise in mode full, best or float");
    return 0;
}

/* Opens the file and checks that it has a C form. */
static int open_source(struct source *s, struct export_artifact *a, const void *file, size_t n,
                       struct cn_error *err)
{
    int rc = check_symbol(s->symbol, err);
    if (!rc) rc = export_open(a, file, n, err);
    if (!rc) rc = check_layers(a, err);
    if (!rc) place_edges(s);
    return rc;
}

int export_c(const void *file, size_t n, const char *symbol, char **out, size_t *out_n,
             struct cn_error *err)
{
    struct export_text text = {0};
    struct export_artifact *a = calloc(1, sizeof *a);
    struct source s = {.a = a, .symbol = symbol, .out = &text};
    *out = NULL;
    *out_n = 0;
    int rc = a ? open_source(&s, a, file, n, err) : cn_fail(err, CN_ENOMEM, "no memory to export");
    if (!rc) {
        write_top(&s);
        for (int i = 0; i < a->n; i++) define_layer(&s, i);
        write_run(&s);
        write_main(&s);
        if (text.failed) rc = cn_fail(err, CN_ENOMEM, "no memory to export");
    }
    if (a) export_close(a);
    free(a);
    if (rc) {
        export_text_release(&text);
        return rc;
    }
    *out = text.data;
    *out_n = text.n;
    return 0;
}

static void write_module_file(struct source *s)
{
    export_printf(s->out, "/* model.c - see model.h. Compile with -std=c99 (or -ffp-contract=off), "
                          "so that no multiply-add is fused. */\n");
    export_printf(s->out, "#include \"model.h\"\n\n#include <stdint.h>\n#include <string.h>\n\n");
    write_carried(s);
    export_printf(s->out, "\n");
    export_c_facts(s->a, s->symbol, s->out);
    for (int i = 0; i < s->a->n; i++) define_layer(s, i);
    write_module(s);
}

int export_c_module(const void *file, size_t n, const char *symbol, struct export_module *out,
                    struct cn_error *err)
{
    struct export_text c = {0}, h = {0};
    struct export_artifact *a = calloc(1, sizeof *a);
    struct source s = {.a = a, .symbol = symbol, .out = &c, .module = 1};
    memset(out, 0, sizeof *out);
    int rc = a ? open_source(&s, a, file, n, err) : cn_fail(err, CN_ENOMEM, "no memory to export");
    if (!rc) {
        s.scratch -= ALIGN_ROOM; /* its own scratch is aligned */
        write_module_file(&s);
        export_c_header(a, symbol, s.scratch, &h);
        if (c.failed || h.failed) rc = cn_fail(err, CN_ENOMEM, "no memory to export");
    }
    if (a) export_close(a);
    free(a);
    out->c = c.data, out->c_n = c.n, out->h = h.data, out->h_n = h.n, out->scratch = s.scratch;
    if (rc) export_module_release(out);
    return rc;
}

void export_module_release(struct export_module *m)
{
    free(m->c);
    free(m->h);
    memset(m, 0, sizeof *m);
}
