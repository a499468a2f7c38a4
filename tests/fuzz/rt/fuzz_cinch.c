/* The fuzz target of the .cinch reader: any bytes are loaded under every instruction set and, when accepted and small, run.
 * The header's length and CRC are made right first, or no mutation would get beyond them.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/rt/cinchrt.h"
#include "cpu/rt/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void load_and_run(const uint8_t *file, size_t n, enum cinchrt_isa isa)
{
    size_t bytes = 0;
    struct cinchrt_model *m = NULL;
    void *mem;
    if (cinchrt_model_size(file, n, isa, &bytes) != 0 || bytes > (64u << 20)) return;
    mem = malloc(bytes);
    if (mem && cinchrt_load(&m, file, n, isa, mem, bytes) == 0) {
        const struct cinchrt_info *info = cinchrt_info(m);
        size_t inputs = (size_t)info->leads * (size_t)info->samples;
        float *x = calloc(inputs, sizeof *x), z[CINCHRT_MAX_LABELS], p[CINCHRT_MAX_LABELS];
        size_t room = cinchrt_scratch_size(m);
        void *scratch = room < (64u << 20) ? malloc(room) : NULL;
        if (x && scratch && info->macs < 3000000) {
            for (size_t i = 0; i < inputs; i++) x[i] = (float)(i % 97) * 0.1f - 4;
            memset(scratch, 0xff, room);
            cinchrt_run(m, x, z, p, scratch);
        }
        free(scratch);
        free(x);
    }
    free(mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *file = malloc(n ? n : 1); /* exactly n bytes: one read too far is seen */
    memcpy(file, data, n);
    if (n >= sizeof(struct cinchrt_file_header)) {
        struct cinchrt_file_header h;
        memcpy(&h, file, sizeof h);
        memcpy(h.magic, CINCHRT_MAGIC, 4);
        if (h.version != CINCHRT_VERSION_SPARSE) h.version = CINCHRT_VERSION;
        h.file_bytes = (uint32_t)n;
        memcpy(file, &h, sizeof h);
        h.crc = cinchrt_crc32(file + CINCHRT_CRC_START, n - CINCHRT_CRC_START);
        memcpy(file, &h, sizeof h);
    }
    for (int isa = 0; isa < CINCHRT_ISA_COUNT; isa++)
        if (cinchrt_isa_available((enum cinchrt_isa)isa))
            load_and_run(file, n, (enum cinchrt_isa)isa);
    free(file);
    return 0;
}
