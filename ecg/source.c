/* ecg/source.c - what all kinds of folders share; see source.h. */
#include "ecg/source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "ecg/registry.h"

int ecg_source_open(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err)
{
    if (!cn_dir_exists(b->dir))
        return cn_fail(err, CN_ENOTFOUND, "%s: no such folder; give the dataset's folder", b->dir);
    if (ecg_folder_kind(b->dir) == ECG_PTBXL) return ecg_ptbxl_source(s, b, err);
    return ecg_mitdb_source(s, b, err);
}

void ecg_source_clear(struct ecg_source *s)
{
    if (s->destroy) s->destroy(s);
    ecg_inputs_clear(&s->inputs);
    free(s->item_of);
    memset(s, 0, sizeof *s);
}

void ecg_source_gaps(struct ecg_source *s, const struct ecg_build *b)
{
    size_t n = strlen(s->params);
    if (b->gaps.bridge > 0)
        snprintf(s->params + n, sizeof s->params - n, " gaps=interpolate:%g", b->gaps.bridge);
}
