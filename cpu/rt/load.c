/* cpu/rt/load.c - from a checked file to a model that runs: memory plan, kernel
 * choice, packed weights.
 */
#include "cpu/rt/model.h"

/* Bytes an edge takes, pads and slack included; *lead gets those before row 0.
 */
static uint64_t edge_bytes(const struct rt_edge *e, size_t *lead)
{
    uint64_t row = (uint64_t)e->stride * (e->type == RT_U8 ? 1 : e->type == RT_H16 ? 2 : 4);
    *lead = rt_round((size_t)row * (size_t)e->pad, RT_ALIGN);
    return rt_round(*lead + (size_t)(row * (uint32_t)(e->t + e->pad)) + RT_SLACK, RT_ALIGN);
}

struct place {
    uint64_t from, to;
    int first, last;
};

/* First fit: the lowest offset at which edge i meets no edge whose life
 * overlaps its own. */
static uint64_t find_place(const struct place *p, int n, const struct place *mine, uint64_t bytes)
{
    uint64_t at = 0;
    int i, moved = 1;
    while (moved) {
        moved = 0;
        for (i = 0; i < n; i++) {
            if (p[i].first > mine->last || p[i].last < mine->first) continue;
            if (at < p[i].to && at + bytes > p[i].from) at = p[i].to, moved = 1;
        }
    }
    return at;
}

static int place_edges(struct cinchrt_model *m)
{
    struct place p[CINCHRT_MAX_LAYERS + 1];
    uint64_t end = 0, tmp = 0;
    int i;
    for (i = 0; i <= m->n_layers; i++) {
        struct rt_edge *e = &m->edge[i];
        size_t lead;
        uint64_t bytes = edge_bytes(e, &lead);
        p[i].first = e->first, p[i].last = e->last;
        p[i].from = find_place(p, i, &p[i], bytes);
        p[i].to = p[i].from + bytes;
        e->offset = (size_t)p[i].from + lead;
        if (p[i].to > end) end = p[i].to;
    }
    for (i = 0; i < m->n_layers; i++) {
        const struct rt_kernel *k = m->layer[i].kernel;
        size_t need = k->scratch_size ? k->scratch_size(m, &m->layer[i]) : 0;
        if (need > tmp) tmp = need;
    }
    if (end + tmp > 0x7fff0000u) return CINCHRT_ERANGE;
    m->tmp = (size_t)end;
    m->scratch_bytes = (size_t)(end + tmp) + RT_ALIGN;
    return 0;
}

static int choose(struct cinchrt_model *m, enum cinchrt_isa cap)
{
    size_t bytes = rt_round(sizeof *m, RT_ALIGN), most = 0;
    int i, code, level;
    m->isa = cap == CINCHRT_BEST ? cinchrt_isa_best() : cap;
    for (i = 0; i < m->n_layers; i++) {
        m->layer[i].kernel = rt_kernel_for(m->isa, m->layer[i].f.op);
        if (!m->layer[i].kernel) return CINCHRT_EFORMAT;
    }
    for (level = 2 * m->isa + 1; level >= 0; level--) {
        const struct rt_isa_table *t = rt_table_of((enum cinchrt_isa)(level / 2), level & 1);
        if (!t || !cinchrt_isa_available((enum cinchrt_isa)(level / 2))) continue;
        if (!m->quantise) m->quantise = t->quantise;
        if (!m->transpose) m->transpose = t->transpose;
    }
    if ((code = place_edges(m)) < 0) return code;
    for (i = 0; i < m->n_layers; i++) {
        const struct rt_layer *l = &m->layer[i];
        bytes += rt_round(l->kernel->pack_size(m, l), RT_ALIGN);
        /* a sparse block is unpacked behind what is packed so far, where the next layers come later */
        if (l->f.flags & CINCHRT_SPARSE && bytes + l->block_bytes > most)
            most = bytes + l->block_bytes;
    }
    m->packed_bytes = (bytes > most ? bytes : most) + RT_ALIGN;
    return 0;
}

static int prepare(struct cinchrt_model *m, const void *file, size_t n, enum cinchrt_isa cap)
{
    int code;
    if (!file) return CINCHRT_EARG;
    if (cap != CINCHRT_BEST && !cinchrt_isa_available(cap)) return CINCHRT_EISA;
    if ((code = rt_check(m, file, n)) < 0) return code;
    return choose(m, cap);
}

int cinchrt_model_size(const void *file, size_t n, enum cinchrt_isa cap, size_t *bytes)
{
    struct cinchrt_model m;
    int code;
    if (!bytes) return CINCHRT_EARG;
    if ((code = prepare(&m, file, n, cap)) < 0) return code;
    *bytes = m.packed_bytes;
    return 0;
}

/* Pointers into the model itself, set once it lies where it stays. */
static void point(struct cinchrt_model *m)
{
    int i;
    for (i = 0; i < m->info.labels; i++) m->label[i] = m->label_text[i];
    m->info.net = m->net;
    m->info.mean = m->mean;
    m->info.std = m->std;
    m->info.label = m->label;
    m->info.isa = m->isa;
}

int cinchrt_load(struct cinchrt_model **model, const void *file, size_t n, enum cinchrt_isa cap,
                 void *mem, size_t bytes)
{
    size_t skew = (size_t)(RT_ALIGN - ((uintptr_t)mem & (RT_ALIGN - 1))) & (RT_ALIGN - 1);
    struct cinchrt_model *m;
    uint8_t *at;
    int i, code;
    if (!model || !mem) return CINCHRT_EARG;
    *model = 0;
    if (bytes < skew + sizeof *m) return CINCHRT_EMEMORY;
    m = (struct cinchrt_model *)(void *)((uint8_t *)mem + skew);
    if ((code = prepare(m, file, n, cap)) < 0) return code;
    if (bytes < m->packed_bytes) return CINCHRT_EMEMORY;
    point(m);
    at = (uint8_t *)m + rt_round(sizeof *m, RT_ALIGN);
    for (i = 0; i < m->n_layers; i++) {
        struct rt_layer *l = &m->layer[i];
        const uint8_t *block = (const uint8_t *)file + l->f.offset;
        uint8_t *end = at + rt_round(l->kernel->pack_size(m, l), RT_ALIGN);
        if (l->f.flags & CINCHRT_SPARSE) {
            cinchrt_sparse_unpack(&l->f, (uint32_t)l->tin, block, end);
            block = end;
        }
        l->packed = at;
        l->kernel->pack(m, l, block, at);
        at = end;
    }
    *model = m;
    return 0;
}

size_t cinchrt_scratch_size(const struct cinchrt_model *model)
{
    return model ? model->scratch_bytes : 0;
}

const struct cinchrt_info *cinchrt_info(const struct cinchrt_model *model)
{
    return model ? &model->info : 0;
}

static const char *op_name(int op)
{
    switch (op) {
    case CINCHRT_CONV_I8:
        return "conv_i8";
    case CINCHRT_LINEAR_I8:
        return "linear_i8";
    case CINCHRT_MEAN_I8:
        return "mean_i8";
    case CINCHRT_LSTM_I8:
        return "lstm_i8";
    case CINCHRT_LAYERNORM_I8:
        return "layernorm_i8";
    case CINCHRT_CONV_F32:
        return "conv_f32";
    case CINCHRT_LINEAR_F32:
        return "linear_f32";
    case CINCHRT_MEAN_F32:
        return "mean_f32";
    case CINCHRT_LSTM_F32:
        return "lstm_f32";
    case CINCHRT_LAYERNORM_F32:
        return "layernorm_f32";
    case CINCHRT_LINEAR_DYN:
        return "linear_dyn";
    case CINCHRT_LSTM_DYN:
        return "lstm_dyn";
    default:
        return "?";
    }
}

static int edge_name(int name)
{
    return name == CINCHRT_NET_INPUT ? -1 : name == CINCHRT_NO_INPUT ? -2 : name;
}

int cinchrt_layer_info(const struct cinchrt_model *model, int layer,
                       struct cinchrt_layer_info *info)
{
    const struct rt_layer *l;
    if (!model || !info || layer < 0 || layer >= model->n_layers) return CINCHRT_EARG;
    l = &model->layer[layer];
    memset(info, 0, sizeof *info);
    info->op = op_name(l->f.op);
    info->kernel = l->kernel->name;
    info->in0 = edge_name(l->f.in0);
    info->in1 = edge_name(l->f.in1);
    info->cin = l->f.cin, info->tin = l->tin, info->cin1 = l->f.cin1;
    info->cout = l->f.cout, info->tout = l->tout;
    info->k = l->f.k, info->pad = l->f.pad, info->pool = l->f.pool;
    info->relu = (l->f.flags & CINCHRT_RELU) != 0;
    info->scale = l->f.scale, info->zero = l->f.zero, info->qmax = l->f.qmax;
    info->bytes = l->stored_bytes, info->sparse = (l->f.flags & CINCHRT_SPARSE) != 0;
    info->weights = l->weights, info->macs = l->macs, info->macs_nonzero = l->macs_nonzero;
    return 0;
}

const char *cinchrt_error_text(int code)
{
    switch (code) {
    case CINCHRT_OK:
        return "no error";
#define X(name, value, text)                                                                       \
    case CINCHRT_##name:                                                                           \
        return text;
        CINCHRT_ERRORS(X)
#undef X
    default:
        return "unknown error";
    }
}
