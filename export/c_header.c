/* export/c_header.c - model.h: what a net wants and gives as macros, and its three functions with an example. */
#include "export/c_header.h"

#include <ctype.h>
#include <string.h>

void export_c_comment(struct export_text *out, const char *name)
{
    export_printf(out, " ");
    for (const char *p = name; *p; p++) {
        unsigned char c = (unsigned char)*p;
        int plain = c >= 0x80 || isalnum(c) || strchr("_-+.:", c);
        export_printf(out, "%c", plain ? c : '_');
    }
}

/* NAME_LEADS and its like carry the symbol in capitals. */
static void define(struct export_text *out, const char *symbol, const char *name)
{
    export_printf(out, "#define ");
    for (const char *p = symbol; *p; p++) export_printf(out, "%c", toupper((unsigned char)*p));
    export_printf(out, "_%s ", name);
}

static const char *op_name(const struct export_layer *l)
{
    if (export_is_conv(l)) return "convolution";
    if (export_is_linear(l)) return "linear";
    if (export_is_lstm(l)) return "LSTM";
    return export_is_layernorm(l) ? "LayerNorm" : "mean";
}

static void write_layers(const struct export_artifact *a, struct export_text *out)
{
    export_printf(out, " * Layers, [channels x steps]:\n");
    for (int i = 0; i < a->n; i++) {
        const struct export_edge *x = &a->edge[a->layer[i].in], *y = &a->edge[a->layer[i].out];
        export_printf(out, " *   %-12s [%d x %d] -> [%d x %d]\n", op_name(&a->layer[i]), x->c, x->t,
                      y->c, y->t);
    }
}

static void write_comment(const struct export_artifact *a, const char *symbol,
                          struct export_text *out)
{
    char net[sizeof a->h.net + 1] = {0};
    memcpy(net, a->h.net, sizeof a->h.net);
    export_printf(out, "/* model.h - the net");
    export_c_comment(out, net);
    export_printf(out,
                  " (%s) as C99, made by `cinch export --c`. It needs memcpy and memset, nothing "
                  "else: no library, no malloc.\n *\n",
                  a->edge[0].type == EXPORT_U8 ? "int8" : "float");
    export_printf(out, " *     float p[%d];\n", a->h.labels);
    export_printf(out, " *     for (lead = 0; lead < %d; lead++)\n", a->h.leads);
    export_printf(out,
                  " *         for (t = 0; t < %d; t++) %s_put(lead, t, millivolts[lead][t]);\n",
                  a->h.samples, symbol);
    export_printf(out, " *     %s_infer(NULL, p); // p[0]: probability of %s_label[0]\n *\n",
                  symbol, symbol);
    write_layers(a, out);
    export_printf(out,
                  " * One scratch is shared by all layers and by all calls: one call at a time.\n"
                  " */\n");
}

static void write_macros(const struct export_artifact *a, const char *symbol, size_t scratch,
                         struct export_text *out)
{
    define(out, symbol, "LEADS"), export_printf(out, "%d\n", a->h.leads);
    define(out, symbol, "SAMPLES"), export_printf(out, "%d /* of each lead */\n", a->h.samples);
    define(out, symbol, "HZ"), export_printf(out, "%.9g /* 0: not known */\n", (double)a->h.hz);
    define(out, symbol, "LABELS"), export_printf(out, "%d\n", a->h.labels);
    define(out, symbol, "SOFTMAX");
    export_printf(out, "%d /* 1: the probabilities add up to 1 */\n", a->h.head == CINCHRT_SOFTMAX);
    define(out, symbol, "SCRATCH_BYTES");
    export_printf(out, "%zu /* static, in model.c */\n\n", scratch);
}

void export_c_header(const struct export_artifact *a, const char *symbol, size_t scratch,
                     struct export_text *out)
{
    write_comment(a, symbol, out);
    export_printf(out, "#ifndef CINCH_MODEL_%s_H\n#define CINCH_MODEL_%s_H\n\n", symbol, symbol);
    export_printf(out, "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n");
    write_macros(a, symbol, scratch, out);
    export_printf(out, "extern const char *const %s_label[%d];\n", symbol, a->h.labels);
    export_printf(out, "extern const float %s_mean[%d], %s_std[%d]; /* of each lead, mV */\n\n",
                  symbol, a->h.leads, symbol, a->h.leads);
    export_printf(out,
                  "/* One sample in millivolts, normalised here. -1: no such lead or sample. */\n"
                  "int %s_put(int lead, int sample, float mv);\n\n",
                  symbol);
    export_printf(out,
                  "/* The net on all samples that were put; it uses them up, so put all of them "
                  "again before the next call.\n"
                  " * logits, probability: one a label, either may be NULL. 0. */\n"
                  "int %s_infer(float *logits, float *probability);\n\n",
                  symbol);
    export_printf(
        out,
        "/* Both in one call: x is [leads][samples], (mV - mean) / std of its lead. -1: x "
        "is NULL. */\n"
        "int %s_run(const float *x, float *logits, float *probability);\n\n",
        symbol);
    export_printf(out, "#ifdef __cplusplus\n}\n#endif\n#endif\n");
}

/* A C string of any bytes. */
static void quoted(struct export_text *out, const char *text)
{
    export_printf(out, "\"");
    for (const char *p = text; *p; p++)
        export_printf(out, isalnum((unsigned char)*p) ? "%c" : "\\%03o", (unsigned char)*p);
    export_printf(out, "\",");
}

static void floats(struct export_text *out, const char *symbol, const char *name, const float *v,
                   int n)
{
    export_printf(out, "const float %s_%s[%d] = {", symbol, name, n);
    for (int i = 0; i < n; i++) export_printf(out, "%s%.8ef,", i % 6 ? " " : "\n ", (double)v[i]);
    export_printf(out, "\n};\n");
}

void export_c_facts(const struct export_artifact *a, const char *symbol, struct export_text *out)
{
    export_printf(out, "const char *const %s_label[%d] = {", symbol, a->h.labels);
    for (int i = 0; i < a->h.labels; i++) {
        export_printf(out, i % 6 ? " " : "\n ");
        quoted(out, a->label[i]);
    }
    export_printf(out, "\n};\n");
    floats(out, symbol, "mean", a->mean, a->h.leads);
    floats(out, symbol, "std", a->std, a->h.leads);
    export_printf(out, "\n");
}
