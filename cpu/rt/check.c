/* cpu/rt/check.c - reads a file that may be hostile and refuses everything
 * format.h does not allow.
 *
 * After rt_check a model's layers, edges and data blocks are consistent, every
 * array lies inside the file and no integer sum can overflow; the kernels rely
 * on that and check nothing.
 */
#include "cpu/rt/model.h"

#define MAX_EDGE_ELEMENTS (1u << 26)

struct reader {
    struct cinchrt_model *m;
    const uint8_t *file;
    size_t n;
    struct cinchrt_file_header h;
    size_t table;            /* offset of the layer records */
    size_t free_from;        /* first byte behind the last data block */
    int input_typed, sparse; /* sparse: a layer that is so was seen */
};

static int finite_f32(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return (bits >> 23 & 255) != 255;
}

static int is_conv(int op)
{
    return op == CINCHRT_CONV_I8 || op == CINCHRT_CONV_F32;
}

static int is_layernorm(int op)
{
    return op == CINCHRT_LAYERNORM_I8 || op == CINCHRT_LAYERNORM_F32;
}

static int is_linear(int op)
{
    return op == CINCHRT_LINEAR_I8 || op == CINCHRT_LINEAR_F32 || op == CINCHRT_LINEAR_DYN;
}

static int known_op(int op)
{
    return (op >= CINCHRT_CONV_I8 && op <= CINCHRT_LAYERNORM_I8) ||
           (op >= CINCHRT_CONV_F32 && op <= CINCHRT_LAYERNORM_F32) || op == CINCHRT_LINEAR_DYN ||
           op == CINCHRT_LSTM_DYN;
}

static enum rt_type input_type(int op)
{
    if (op == CINCHRT_LAYERNORM_I8) return RT_H16;
    return op < CINCHRT_CONV_F32 ? RT_U8 : RT_F32;
}

static enum rt_type output_type(const struct cinchrt_file_layer *f)
{
    if (f->op == CINCHRT_LSTM_I8) return RT_H16;
    if (f->op == CINCHRT_LINEAR_I8 && f->flags & CINCHRT_LOGITS) return RT_F32;
    return f->op < CINCHRT_CONV_F32 ? RT_U8 : RT_F32;
}

static int read_header(struct reader *r)
{
    struct cinchrt_file_header *h = &r->h;
    size_t end;
    if (r->n < sizeof *h) return CINCHRT_ETRUNCATED;
    memcpy(h, r->file, sizeof *h);
    if (memcmp(h->magic, CINCHRT_MAGIC, 4) != 0) return CINCHRT_EMAGIC;
    if (h->version != CINCHRT_VERSION && h->version != CINCHRT_VERSION_SPARSE)
        return CINCHRT_EVERSION;
    if (h->file_bytes != r->n) return CINCHRT_ETRUNCATED;
    if (h->crc != cinchrt_crc32(r->file + CINCHRT_CRC_START, r->n - CINCHRT_CRC_START))
        return CINCHRT_ECRC;
    if (h->kind > CINCHRT_KIND_DYNAMIC || h->head > CINCHRT_SOFTMAX || h->leads == 0 ||
        h->leads > CINCHRT_MAX_LEADS || h->samples == 0 || h->labels == 0 ||
        h->labels > CINCHRT_MAX_LABELS || h->layers == 0 || h->layers > CINCHRT_MAX_LAYERS ||
        h->align_log2 > 6 || (h->in_qmax != 255 && h->in_qmax != 127) || h->in_zero > h->in_qmax ||
        h->reserved[0] || h->reserved[1] || h->reserved[2])
        return CINCHRT_EFORMAT;
    if (!(h->in_scale > 1e-30f) || !(h->in_scale < 1e30f) || !finite_f32(h->hz))
        return CINCHRT_ERANGE;
    r->table = sizeof *h + 8 * (size_t)h->leads + 8 * (size_t)h->labels;
    end = r->table + sizeof(struct cinchrt_file_layer) * h->layers;
    if (end > r->n) return CINCHRT_ETRUNCATED;
    r->free_from = end;
    return 0;
}

static int read_facts(struct reader *r)
{
    struct cinchrt_model *m = r->m;
    const uint8_t *p = r->file + sizeof r->h;
    int i;
    memcpy(m->net, r->h.net, 16);
    m->head = r->h.head;
    m->n_layers = r->h.layers;
    for (i = 0; i < r->h.leads; i++) {
        m->mean[i] = rt_f32(p + 4 * i);
        m->std[i] = rt_f32(p + 4 * (i + r->h.leads));
        if (!finite_f32(m->mean[i]) || !(m->std[i] > 0) || !finite_f32(m->std[i]))
            return CINCHRT_ERANGE;
    }
    p += 8 * (size_t)r->h.leads;
    for (i = 0; i < r->h.labels; i++) memcpy(m->label_text[i], p + 8 * i, 8);
    m->info.kind = r->h.kind;
    m->info.softmax = r->h.head == CINCHRT_SOFTMAX;
    m->info.leads = r->h.leads;
    m->info.samples = r->h.samples;
    m->info.labels = r->h.labels;
    m->info.layers = r->h.layers;
    m->info.hz = r->h.hz;
    m->info.file_bytes = r->n;
    return 0;
}

/* Fields that an op does not use must hold their neutral value, so that no file
 * means two things.
 */
static int check_fields(const struct reader *r, const struct cinchrt_file_layer *f, int last)
{
    int u8 = output_type(f) == RT_U8;
    int own_qmax =
        u8 || f->op == CINCHRT_LSTM_I8 || f->op == CINCHRT_LSTM_DYN || f->op == CINCHRT_LINEAR_DYN;
    int allowed = is_conv(f->op)     ? CINCHRT_RELU
                  : is_linear(f->op) ? CINCHRT_RELU | CINCHRT_LOGITS
                                     : 0;
    int sparse = r->h.version == CINCHRT_VERSION_SPARSE && cinchrt_weight_bytes(f->op);
    int has_param =
        f->op == CINCHRT_MEAN_I8 || f->op == CINCHRT_LSTM_I8 || f->op == CINCHRT_LAYERNORM_I8;
    if (sparse) allowed |= CINCHRT_SPARSE;
    if (f->flags & ~allowed || f->reserved || f->cin == 0 || f->cout == 0 ||
        f->cin > CINCHRT_MAX_CHANNELS || f->cout > CINCHRT_MAX_CHANNELS)
        return CINCHRT_EFORMAT;
    if (is_conv(f->op) ? f->k == 0 || f->k > CINCHRT_MAX_KERNEL || f->pad >= f->k : f->k || f->pad)
        return CINCHRT_EFORMAT;
    if (is_conv(f->op) || is_layernorm(f->op) ? f->pool == 0 : f->pool != 1) return CINCHRT_EFORMAT;
    if (f->in1 != CINCHRT_NO_INPUT && !is_conv(f->op)) return CINCHRT_EFORMAT;
    if ((f->in1 == CINCHRT_NO_INPUT) != (f->cin1 == 0)) return CINCHRT_EFORMAT;
    if (own_qmax ? f->qmax != 255 && f->qmax != 127 : f->qmax != 0) return CINCHRT_EFORMAT;
    if (u8 || f->op == CINCHRT_LSTM_I8 ? f->zero > f->qmax : f->zero != 0) return CINCHRT_EFORMAT;
    if (u8 ? !(f->scale > 1e-30f) || !(f->scale < 1e30f) : f->scale != 0) return CINCHRT_ERANGE;
    if (!has_param && f->param) return CINCHRT_EFORMAT;
    if ((is_layernorm(f->op) || f->op == CINCHRT_MEAN_I8 || f->op == CINCHRT_MEAN_F32) &&
        f->cout != f->cin)
        return CINCHRT_EFORMAT;
    if (f->op == CINCHRT_LINEAR_DYN || f->op == CINCHRT_LINEAR_F32) {
        /* a hidden float linear is plain; LOGITS marks the end */
        if (((f->flags & CINCHRT_LOGITS) != 0) != last) return CINCHRT_EFORMAT;
    } else if (f->flags & CINCHRT_LOGITS && (!last || f->flags & CINCHRT_RELU)) {
        return CINCHRT_EFORMAT;
    }
    if (last && (!is_linear(f->op) || f->cout != r->h.labels)) return CINCHRT_EFORMAT;
    return 0;
}

/* Ties in0/in1 to an edge: it must exist and have the type and channels that
 * the layer reads. */
static int take_edge(struct reader *r, int index, int name, int channels, int op)
{
    enum rt_type want = input_type(op);
    struct rt_edge *e;
    int edge;
    if (name == CINCHRT_NET_INPUT) {
        edge = 0;
        if (want == RT_H16) return CINCHRT_EFORMAT;
        if (!r->input_typed) r->m->edge[0].type = want;
        r->input_typed = 1;
    } else {
        if (name >= index) return CINCHRT_EFORMAT;
        edge = name + 1;
    }
    e = &r->m->edge[edge];
    if (e->type != want || e->c != channels) return CINCHRT_EFORMAT;
    e->last = index;
    return edge;
}

static int make_edge(struct reader *r, const struct rt_layer *l)
{
    struct rt_edge *e = &r->m->edge[l->out];
    size_t unit =
        l->f.op == CINCHRT_LSTM_I8 || l->f.op == CINCHRT_LSTM_F32 || l->f.op == CINCHRT_LSTM_DYN
            ? 32
            : 4;
    e->type = output_type(&l->f);
    e->c = l->f.cout;
    e->t = l->tout;
    e->stride = (int)rt_round((size_t)e->c, unit);
    e->zero = e->type == RT_U8 ? l->f.zero : 0;
    e->qmax = e->type == RT_U8 ? l->f.qmax : 0;
    e->scale = l->f.scale;
    e->first = e->last = l->index;
    if ((uint64_t)e->stride * (uint32_t)(e->t + 2 * CINCHRT_MAX_KERNEL) > MAX_EDGE_ELEMENTS)
        return CINCHRT_ERANGE;
    return 0;
}

/* Sum of |w| over the next n int8 weights. */
static int64_t magnitude(struct rt_walk *w, size_t n)
{
    int64_t sum = 0;
    size_t i;
    for (i = 0; i < n; i++) {
        int v = rt_next_i8(w);
        sum += v < 0 ? -v : v;
    }
    return sum;
}

/* |rq(a, M)| for |a| <= most stays below 2^30? Adds that bound to *sum when
 * asked. */
static int requant_fits(int64_t most, uint32_t mult, int64_t *sum)
{
    struct rt_mult k;
    int64_t value;
    if (!rt_mult_decode(mult, &k)) return 0;
    value = most > INT64_MAX / k.m ? INT64_MAX : ((most * k.m) >> k.s) + 1;
    if (sum) *sum += value;
    return value < (int64_t)1 << 30;
}

static int64_t abs_i32(const uint8_t *p)
{
    int64_t v = (int32_t)rt_u32(p);
    return v < 0 ? -v : v;
}

static int check_sums_conv(const struct rt_layer *l, const uint8_t *block)
{
    struct rt_block b = rt_block_of(l, block);
    struct rt_walk w = rt_walk_of(l, block), w1 = w;
    size_t inner =
        l->f.op == CINCHRT_CONV_I8 ? (size_t)l->f.cin * l->f.k : (size_t)l->f.cin * (size_t)l->tin;
    size_t o;
    if (b.w1) magnitude(&w1, l->f.cout * inner); /* on to the second matrix */
    for (o = 0; o < l->f.cout; o++) {
        int64_t most = abs_i32(b.bias + 4 * o) + 255 * magnitude(&w, inner);
        if (b.w1) {
            int64_t side = 255 * magnitude(&w1, l->f.cin1);
            if (side >= (int64_t)1 << 31 || !requant_fits(side, rt_u32(b.mult1 + 4 * o), &most))
                return CINCHRT_ERANGE;
        }
        if (most >= (int64_t)1 << 31) return CINCHRT_ERANGE;
        if (l->f.flags & CINCHRT_LOGITS) {
            float scale = rt_f32(b.mult + 4 * o);
            if (!(scale > 0) || !(scale < 1e24f)) return CINCHRT_ERANGE; /* times a sum of 2^31 */
        } else if (!requant_fits(most, rt_u32(b.mult + 4 * o), 0)) {
            return CINCHRT_ERANGE;
        }
    }
    return 0;
}

static int check_sums_lstm(const struct rt_layer *l, const uint8_t *block)
{
    size_t hidden = l->f.cout, rows = 4 * hidden, r;
    const uint8_t *mx = block + 2 * rows, *mh = mx + 2 * rows, *cell = mh + 2 * rows;
    struct rt_walk wih = rt_walk_of(l, block), whh = wih;
    if (hidden > 1024 || l->f.param < 1 || l->f.param > 32767) return CINCHRT_ERANGE;
    magnitude(&whh, rows * l->f.cin); /* on to the second matrix */
    for (r = 0; r < rows; r++) {
        if (rt_u16(mx + 2 * r) >> 11 > 29 || rt_u16(mh + 2 * r) >> 11 > 29) return CINCHRT_ERANGE;
        if (255 * magnitude(&wih, l->f.cin) >= (int64_t)1 << 31 ||
            255 * magnitude(&whh, hidden) >= (int64_t)1 << 31)
            return CINCHRT_ERANGE;
    }
    for (r = 0; r < hidden; r++)
        if (cell[r] < 3 || cell[r] > 12) return CINCHRT_ERANGE;
    return 0;
}

static int check_sums_layernorm(const struct rt_layer *l, const uint8_t *block)
{
    size_t c = l->f.cin, i;
    if (c > 1024) return CINCHRT_ERANGE;
    for (i = 0; i < c; i++) {
        int64_t gamma = (int16_t)rt_u16(block + 4 * c + 2 * i);
        int64_t bias = abs_i32(block + 4 * i);
        int64_t most = bias + 32768 * (gamma < 0 ? -gamma : gamma);
        if (most >= (int64_t)1 << 31 || !requant_fits(most, l->f.param, 0)) return CINCHRT_ERANGE;
    }
    return 0;
}

static int check_floats(const uint8_t *p, size_t n)
{
    size_t i;
    for (i = 0; i < n; i++)
        if (!finite_f32(rt_f32(p + 4 * i))) return CINCHRT_ERANGE;
    return 0;
}

/* A block of floats only. */
static int check_all_floats(const struct rt_layer *l, const uint8_t *block)
{
    size_t head = l->block_bytes - 4 * (size_t)l->weights, map;
    if (!(l->f.flags & CINCHRT_SPARSE)) return check_floats(block, l->block_bytes / 4);
    map = head + ((size_t)l->weights + 7) / 8;
    if (check_floats(block, head / 4) < 0) return CINCHRT_ERANGE;
    return check_floats(block + map, (l->stored_bytes - map) / 4);
}

static int check_block(const struct rt_layer *l, const uint8_t *block)
{
    switch (l->f.op) {
    case CINCHRT_CONV_I8:
    case CINCHRT_LINEAR_I8:
        return check_sums_conv(l, block);
    case CINCHRT_LSTM_I8:
        return check_sums_lstm(l, block);
    case CINCHRT_LAYERNORM_I8:
        return check_sums_layernorm(l, block);
    case CINCHRT_MEAN_I8:
        return requant_fits(255ll * l->tin, l->f.param, 0) ? 0 : CINCHRT_ERANGE;
    case CINCHRT_LSTM_DYN:
        return l->f.cout > 1024 ? CINCHRT_ERANGE : check_floats(block, 4 * (size_t)l->f.cout + 2);
    case CINCHRT_LINEAR_DYN:
        if ((uint64_t)l->f.cin * (uint32_t)l->tin > 65536) return CINCHRT_ERANGE;
        return check_floats(block, (size_t)l->f.cout + 1);
    case CINCHRT_LSTM_F32:
    case CINCHRT_LAYERNORM_F32:
        if (l->f.cout > 1024) return CINCHRT_ERANGE;
        return check_all_floats(l, block);
    default:
        return check_all_floats(l, block);
    }
}

static uint64_t count_nonzero(const struct rt_layer *l, const uint8_t *block)
{
    size_t width = cinchrt_weight_bytes(l->f.op), weights = (size_t)l->weights, i;
    const uint8_t *w = block + (l->block_bytes - width * weights);
    uint64_t count = 0;
    if (l->f.flags & CINCHRT_SPARSE)
        return (l->stored_bytes - (size_t)(w - block) - (weights + 7) / 8) / width;
    for (i = 0; i < weights; i++) count += width == 1 ? w[i] != 0 : rt_f32(w + 4 * i) != 0;
    return count;
}

/* Multiply-accumulates: of matrices only. */
static void count_work(struct cinchrt_model *m, struct rt_layer *l, const uint8_t *block)
{
    uint64_t times = is_linear(l->f.op) ? 1 : (uint64_t)l->tfull;
    l->macs = l->weights * times;
    l->macs_nonzero = count_nonzero(l, block) * times;
    m->info.weights += l->weights;
    m->info.macs += l->macs;
    m->info.macs_nonzero += l->macs_nonzero;
}

/* Finds the layer's data block in the file. */
static int place_block(struct reader *r, struct rt_layer *l)
{
    const struct cinchrt_file_layer *f = &l->f;
    uint64_t plain = cinchrt_layer_bytes(f, (uint32_t)l->tin), stored = plain;
    if (f->offset > r->n || f->offset < r->free_from) return CINCHRT_EFORMAT;
    if (f->offset & ((1u << r->h.align_log2) - 1)) return CINCHRT_EFORMAT;
    if (f->flags & CINCHRT_SPARSE) {
        stored = cinchrt_sparse_bytes(f, (uint32_t)l->tin, r->file + f->offset, r->n - f->offset);
        if (!stored) return CINCHRT_EFORMAT;
        r->sparse = 1;
    }
    if (stored > r->n - f->offset) return CINCHRT_EFORMAT;
    l->weights = cinchrt_layer_weights(f, (uint32_t)l->tin);
    l->block_bytes = (size_t)plain;
    l->stored_bytes = (size_t)stored;
    r->free_from = f->offset + (size_t)stored;
    return 0;
}

static int read_layer(struct reader *r, int i)
{
    struct rt_layer *l = &r->m->layer[i];
    struct cinchrt_file_layer *f = &l->f;
    int code;
    memcpy(f, r->file + r->table + sizeof *f * (size_t)i, sizeof *f);
    l->index = i;
    l->out = i + 1;
    l->in1 = -1;
    if (!known_op(f->op)) return CINCHRT_EFORMAT;
    if ((code = check_fields(r, f, i == r->h.layers - 1)) < 0) return code;
    if ((l->in = take_edge(r, i, f->in0, f->cin, f->op)) < 0) return l->in;
    l->tin = r->m->edge[l->in].t;
    l->tout = (int)cinchrt_layer_time(f, (uint32_t)l->tin);
    l->tfull = is_conv(f->op) ? l->tin + 2 * f->pad - f->k + 1 : l->tin;
    if (l->tout < 1) return CINCHRT_EFORMAT;
    if (f->in1 != CINCHRT_NO_INPUT) {
        if ((l->in1 = take_edge(r, i, f->in1, f->cin1, f->op)) < 0) return l->in1;
        if (r->m->edge[l->in1].t != l->tfull) return CINCHRT_EFORMAT;
    }
    if (is_conv(f->op) && r->m->edge[l->in].pad < f->pad) r->m->edge[l->in].pad = f->pad;
    if ((code = place_block(r, l)) < 0) return code;
    if ((code = make_edge(r, l)) < 0) return code;
    if ((code = check_block(l, r->file + f->offset)) < 0) return code;
    if (f->op >= CINCHRT_CONV_F32 && (code = rt_reach(r->m, l, r->file + f->offset)) < 0)
        return code;
    count_work(r->m, l, r->file + f->offset);
    return 0;
}

int rt_check(struct cinchrt_model *m, const uint8_t *file, size_t n)
{
    struct reader r;
    struct rt_edge *in = &m->edge[0];
    int i, code;
    memset(&r, 0, sizeof r);
    memset(m, 0, sizeof *m);
    r.m = m, r.file = file, r.n = n;
    if ((code = read_header(&r)) < 0 || (code = read_facts(&r)) < 0) return code;
    in->c = in->stride = r.h.leads;
    in->t = r.h.samples;
    in->zero = r.h.in_zero;
    in->qmax = r.h.in_qmax;
    in->scale = r.h.in_scale;
    in->reach = RT_REACH_INPUT;
    in->first = in->last = -1;
    for (i = 0; i < m->n_layers; i++)
        if ((code = read_layer(&r, i)) < 0) return code;
    if (!r.input_typed || r.sparse != (r.h.version == CINCHRT_VERSION_SPARSE))
        return CINCHRT_EFORMAT;
    if (in->type == RT_F32) in->zero = 0;
    return 0;
}
