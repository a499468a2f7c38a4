/* tests/unit/rt/amx_shim.h - AMX's tile instructions in C, after the pseudo-code of Intel's Software
 * Developer's Manual, volume 2 (LDTILECFG, TILELOADD, TILESTORED, TDPBUSD, TILERELEASE). Where a CPU would
 * raise #GP or #UD, this stops the program.
 */
#ifndef CINCH_TESTS_AMX_SHIM_H
#define CINCH_TESTS_AMX_SHIM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shim_tile {
    int rows, bytes; /* configured; 0: not */
    uint8_t row[16][64];
};

static struct shim_tile shim_tiles[8];

static void shim_fault(const char *what)
{
    fprintf(stderr, "AMX would fault: %s\n", what);
    abort();
}

static void shim_loadconfig(const void *at)
{
    const uint8_t *c = at;
    if (c[0] != 1) shim_fault("palette");
    for (int i = 1; i < 64; i++)
        if ((i < 16 || (i >= 32 && i < 48) || i >= 56) && c[i])
            shim_fault("a reserved byte is set");
    memset(shim_tiles, 0, sizeof shim_tiles);
    for (int i = 0; i < 8; i++) {
        uint16_t bytes;
        memcpy(&bytes, c + 16 + 2 * i, 2);
        if (bytes > 64 || c[48 + i] > 16) shim_fault("a tile larger than the palette's");
        if (!bytes != !c[48 + i]) shim_fault("rows without columns or columns without rows");
        shim_tiles[i].bytes = bytes, shim_tiles[i].rows = c[48 + i];
    }
}

static void shim_release(void)
{
    memset(shim_tiles, 0, sizeof shim_tiles);
}

static void shim_load(struct shim_tile *t, const void *base, size_t stride)
{
    if (!t->rows) shim_fault("a tile that is not configured");
    memset(t->row, 0, sizeof t->row);
    for (int r = 0; r < t->rows; r++)
        memcpy(t->row[r], (const uint8_t *)base + (size_t)r * stride, (size_t)t->bytes);
}

static void shim_store(const struct shim_tile *t, void *base, size_t stride)
{
    if (!t->rows) shim_fault("a tile that is not configured");
    for (int r = 0; r < t->rows; r++)
        memcpy((uint8_t *)base + (size_t)r * stride, t->row[r], (size_t)t->bytes);
}

/* c [m, n] += a [m, k] of unsigned times b [k, n] of signed bytes, fours summed; 32 bits that wrap. */
static void shim_dpbusd(struct shim_tile *c, const struct shim_tile *a, const struct shim_tile *b)
{
    if (c == a || c == b || a == b) shim_fault("operands must be three tiles");
    if (!c->rows || !a->rows || !b->rows) shim_fault("a tile that is not configured");
    if (a->bytes % 4 || b->bytes % 4 || c->bytes % 4) shim_fault("columns that are no whole words");
    if (c->rows != a->rows || a->bytes / 4 != b->rows || c->bytes != b->bytes)
        shim_fault("shapes that do not fit");
    for (int m = 0; m < c->rows; m++)
        for (int k = 0; k < a->bytes / 4; k++)
            for (int n = 0; n < c->bytes / 4; n++) {
                uint32_t sum;
                memcpy(&sum, &c->row[m][4 * n], 4);
                for (int i = 0; i < 4; i++)
                    sum += (uint32_t)(a->row[m][4 * k + i] * (int8_t)b->row[k][4 * n + i]);
                memcpy(&c->row[m][4 * n], &sum, 4);
            }
}

#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd
#define _tile_loadconfig(at) shim_loadconfig(at)
#define _tile_release() shim_release()
#define _tile_loadd(tile, base, stride) shim_load(&shim_tiles[tile], base, stride)
#define _tile_stored(tile, base, stride) shim_store(&shim_tiles[tile], base, stride)
#define _tile_dpbusd(c, a, b) shim_dpbusd(&shim_tiles[c], &shim_tiles[a], &shim_tiles[b])

#endif
