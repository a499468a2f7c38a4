/* cpu/rt/format.c - what format.h promises: CRC, sizes of data blocks and their sparse form, the
 * LSTM's number formats.
 */
#include "cpu/rt/format.h"

#include "cpu/rt/fixed.h"

uint32_t cinchrt_crc32(const void *data, size_t n)
{
    /* Half-byte table of the reflected polynomial 0xedb88320: small enough for a
   * microcontroller.
   */
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    const uint8_t *p = data;
    uint32_t crc = 0xffffffffu;
    size_t i;
    for (i = 0; i < n; i++) {
        crc ^= p[i];
        crc = (crc >> 4) ^ table[crc & 15];
        crc = (crc >> 4) ^ table[crc & 15];
    }
    return ~crc;
}

uint32_t cinchrt_layer_time(const struct cinchrt_file_layer *l, uint32_t tin)
{
    uint32_t full;
    switch (l->op) {
    case CINCHRT_CONV_I8:
    case CINCHRT_CONV_F32:
        full = tin + 2u * l->pad;
        if (l->k == 0 || l->pool == 0 || full < l->k) return 0;
        return (full - l->k + 1) / l->pool;
    case CINCHRT_LAYERNORM_I8:
    case CINCHRT_LAYERNORM_F32:
        return l->pool ? tin / l->pool : 0;
    case CINCHRT_LSTM_I8:
    case CINCHRT_LSTM_F32:
    case CINCHRT_LSTM_DYN:
        return tin;
    case CINCHRT_LINEAR_I8:
    case CINCHRT_LINEAR_F32:
    case CINCHRT_LINEAR_DYN:
    case CINCHRT_MEAN_I8:
    case CINCHRT_MEAN_F32:
        return tin ? 1 : 0;
    default:
        return 0;
    }
}

uint64_t cinchrt_layer_weights(const struct cinchrt_file_layer *l, uint32_t tin)
{
    uint64_t cin = l->cin, cout = l->cout;
    switch (l->op) {
    case CINCHRT_CONV_I8:
    case CINCHRT_CONV_F32:
        return cout * (cin * l->k + (l->in1 == CINCHRT_NO_INPUT ? 0 : l->cin1));
    case CINCHRT_LINEAR_I8:
    case CINCHRT_LINEAR_F32:
    case CINCHRT_LINEAR_DYN:
        return cout * cin * tin;
    case CINCHRT_LSTM_I8:
    case CINCHRT_LSTM_F32:
    case CINCHRT_LSTM_DYN:
        return 4 * cout * (cin + cout);
    default:
        return 0;
    }
}

size_t cinchrt_weight_bytes(int op)
{
    switch (op) {
    case CINCHRT_CONV_F32:
    case CINCHRT_LINEAR_F32:
    case CINCHRT_LSTM_F32:
        return 4;
    case CINCHRT_CONV_I8:
    case CINCHRT_LINEAR_I8:
    case CINCHRT_LSTM_I8:
    case CINCHRT_LINEAR_DYN:
    case CINCHRT_LSTM_DYN:
        return 1;
    default:
        return 0;
    }
}

/* Bytes of the arrays that stand before a block's matrices. */
static uint64_t head_bytes(const struct cinchrt_file_layer *l)
{
    uint64_t cin = l->cin, cout = l->cout, rows = 4 * cout;
    switch (l->op) {
    case CINCHRT_CONV_I8:
        return cout * (l->in1 == CINCHRT_NO_INPUT ? 8 : 12);
    case CINCHRT_LINEAR_I8:
        return cout * 8;
    case CINCHRT_LSTM_I8:
        return rows * 6 + cout;
    case CINCHRT_LAYERNORM_I8:
        return 6 * cin;
    case CINCHRT_CONV_F32:
    case CINCHRT_LINEAR_F32:
        return 4 * cout;
    case CINCHRT_LSTM_F32:
        return 4 * rows;
    case CINCHRT_LAYERNORM_F32:
        return 8 * cin;
    case CINCHRT_LINEAR_DYN:
        return 4 * cout + 4;
    case CINCHRT_LSTM_DYN:
        return 4 * rows + 8;
    default:
        return 0;
    }
}

uint64_t cinchrt_layer_bytes(const struct cinchrt_file_layer *l, uint32_t tin)
{
    return head_bytes(l) + cinchrt_weight_bytes(l->op) * cinchrt_layer_weights(l, tin);
}

/* Weight i of the matrices at p is not zero. */
static int is_weight(const uint8_t *p, size_t i, size_t width)
{
    float v;
    if (width == 1) return p[i] != 0;
    memcpy(&v, p + 4 * i, 4);
    return v != 0;
}

uint64_t cinchrt_sparse_bytes(const struct cinchrt_file_layer *l, uint32_t tin,
                              const uint8_t *stored, uint64_t room)
{
    uint64_t weights = cinchrt_layer_weights(l, tin), head = head_bytes(l);
    uint64_t map = (weights + 7) / 8, count = 0, bytes;
    size_t width = cinchrt_weight_bytes(l->op), i;
    if (!weights || weights > CINCHRT_MAX_SPARSE || room < head + map) return 0;
    stored += head;
    for (i = 0; i < map; i++) {
        uint8_t b = stored[i];
        for (; b; b &= (uint8_t)(b - 1)) count++;
    }
    if (weights % 8 && stored[map - 1] >> weights % 8) return 0;
    bytes = head + map + width * count;
    if (bytes > room || bytes >= head + width * weights) return 0;
    for (i = 0; i < count; i++)
        if (!is_weight(stored + map, i, width)) return 0;
    return bytes;
}

void cinchrt_sparse_unpack(const struct cinchrt_file_layer *l, uint32_t tin, const uint8_t *stored,
                           uint8_t *plain)
{
    size_t weights = (size_t)cinchrt_layer_weights(l, tin), head = (size_t)head_bytes(l), i;
    size_t width = cinchrt_weight_bytes(l->op);
    const uint8_t *map = stored + head, *from = map + (weights + 7) / 8;
    memcpy(plain, stored, head);
    plain += head;
    for (i = 0; i < weights; i++, plain += width) {
        if (map[i >> 3] >> (i & 7) & 1) {
            memcpy(plain, from, width);
            from += width;
        } else {
            memset(plain, 0, width);
        }
    }
}

uint64_t cinchrt_sparse_pack(const struct cinchrt_file_layer *l, uint32_t tin, const uint8_t *plain,
                             uint8_t *stored)
{
    uint64_t weights = cinchrt_layer_weights(l, tin), count = 0;
    size_t head = (size_t)head_bytes(l), width = cinchrt_weight_bytes(l->op), map, i;
    uint8_t *to;
    if (!weights || weights > CINCHRT_MAX_SPARSE) return 0;
    map = (size_t)(weights + 7) / 8;
    for (i = 0; i < weights; i++) count += (uint64_t)is_weight(plain + head, i, width);
    if (map + width * count >= width * weights) return 0;
    memcpy(stored, plain, head);
    memset(stored + head, 0, map);
    plain += head, stored += head;
    to = stored + map;
    for (i = 0; i < weights; i++) {
        if (!is_weight(plain, i, width)) continue;
        stored[i >> 3] |= (uint8_t)(1 << (i & 7));
        memcpy(to, plain + width * i, width);
        to += width;
    }
    return head + map + width * count;
}

uint16_t cinchrt_mult16(float x)
{
    uint32_t bits;
    int e;
    x *= 1.0f -
         1.0f / (1 << 20); /* a value that came back through a float division stays where it was */
    if (!(x > 1.0f / 524288)) return 0;                   /* 2^-19; NaN too */
    if (x >= 2040.0f) return (uint16_t)(29 << 11 | 2032); /* m = 4080: 2040 */
    memcpy(&bits, &x, 4);
    bits += (1u << 15) - 1; /* up to 8 bits behind the leading one; may carry into the exponent */
    e = (int)(bits >> 23) - 127 + 19;
    return (uint16_t)(e << 11 | (int)(bits >> 15 & 255) << 3);
}

float cinchrt_mult16_value(uint16_t v)
{
    uint32_t bits = (uint32_t)((v >> 11) - 19 + 127) << 23 | (uint32_t)(v & 2047) << 12;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

int16_t cinchrt_tanh16(int16_t a)
{
    return (int16_t)rt_tanh16(a);
}

int16_t cinchrt_sig16(int16_t v)
{
    return (int16_t)rt_sig16(v);
}
