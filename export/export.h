/* export/export.h - an artifact written in other tools' forms: ONNX, or C source.
 *
 * Both read the bytes of a .cinch file, so a checkpoint is exported by converting it first
 * (quant_convert, mode float) and an int8 artifact keeps exactly its integers.
 */
#ifndef CINCH_EXPORT_H
#define CINCH_EXPORT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* An ONNX model (opset 17): input "x" [N, leads, samples], normalised; outputs "logits" and "probability"
 * [N, labels]. Float artifacts become plain float graphs. Int8 ones become QuantizeLinear/DequantizeLinear
 * graphs with the same scales, zero points and integer weights; their LSTM and LayerNorm compute in float
 * between quantised ends, and rounding differs from the runtime's in the last step. Dynamic (study) LSTMs
 * become float LSTMs over the rounded weights. *out is malloc'ed. Errors: CN_ECORRUPT (not a .cinch file, or
 * damaged), CN_ENOMEM. */
int export_onnx(const void *file, size_t n, void **out, size_t *out_n, struct cn_error *err);

/* One self-contained C99 source: weights, kernels and
 *     int SYMBOL_run(const float *x, float *logits, float *probability, void *scratch);
 * with SYMBOL_SCRATCH_BYTES of scratch from the caller; no malloc, no library. Results are the same bits as the
 * portable runtime's. With -DSYMBOL_MAIN it is a program that reads records as text and prints probabilities.
 * `symbol` must be a C identifier of at most 40 letters. *out is malloc'ed, 0-terminated. Errors: as above,
 * CN_EINVALID (symbol), CN_EUNSUPPORTED (a dynamic LSTM, mode paper: it needs float anyway; export full or float). */
int export_c(const void *file, size_t n, const char *symbol, char **out, size_t *out_n,
             struct cn_error *err);

/* model.c and model.h: the same kernels, only those needed, with a static scratch of `scratch` bytes
 * that all layers share, and the functions SYMBOL_put, SYMBOL_infer and SYMBOL_run; model.h says
 * how. Texts are malloc'ed and 0-terminated. Same errors. */
struct export_module {
    char *c, *h;
    size_t c_n, h_n, scratch;
};
int export_c_module(const void *file, size_t n, const char *symbol, struct export_module *out,
                    struct cn_error *err);
void export_module_release(struct export_module *m);

#endif
