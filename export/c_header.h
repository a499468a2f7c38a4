/* export/c_header.h - the interface of an exported model.c: model.h, and the facts that it declares. */
#ifndef CINCH_EXPORT_C_HEADER_H
#define CINCH_EXPORT_C_HEADER_H

#include "export/artifact.h"
#include "export/text.h"

/* model.h for `scratch` bytes of static scratch. */
void export_c_header(const struct export_artifact *a, const char *symbol, size_t scratch,
                     struct export_text *out);

/* The arrays that model.h declares: labels, means and deviations. */
void export_c_facts(const struct export_artifact *a, const char *symbol, struct export_text *out);

/* A blank and a name out of the file, of which nothing can end the comment. */
void export_c_comment(struct export_text *out, const char *name);

#endif
