/* cpu/rt/format.c - what format.h promises: CRC, sizes of data blocks, the
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

uint64_t cinchrt_layer_bytes(const struct cinchrt_file_layer *l, uint32_t tin)
{
    uint64_t cin = l->cin, cout = l->cout, rows = 4 * cout;
    uint64_t side = l->in1 == CINCHRT_NO_INPUT ? 0 : 1;
    switch (l->op) {
    case CINCHRT_CONV_I8:
        return cout * (8 + cin * l->k) + side * cout * (4 + l->cin1);
    case CINCHRT_LINEAR_I8:
        return cout * (8 + cin * tin);
    case CINCHRT_LSTM_I8:
        return rows * (6 + cin + cout) + cout;
    case CINCHRT_LAYERNORM_I8:
        return 6 * cin;
    case CINCHRT_CONV_F32:
        return 4 * cout * (1 + cin * l->k + side * l->cin1);
    case CINCHRT_LINEAR_F32:
        return 4 * cout * (1 + cin * tin);
    case CINCHRT_LSTM_F32:
        return 4 * rows * (1 + cin + cout);
    case CINCHRT_LAYERNORM_F32:
        return 8 * cin;
    case CINCHRT_LINEAR_DYN:
        return 4 * cout + 4 + cout * cin * tin;
    case CINCHRT_LSTM_DYN:
        return 4 * rows + 8 + rows * (cin + cout);
    default:
        return 0;
    }
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
