/* workers/classes.h - how well exclusive classes are told apart, as a document: of a job's metrics
 * and of `cinch eval`. */
#ifndef CINCH_WORKERS_CLASSES_H
#define CINCH_WORKERS_CLASSES_H

#include <jansson.h>

#include "nn/metrics.h"

/* {per_class: {LABEL: {sensitivity, precision, f1, records}}, confusion: [truth][predicted],
 * averaged, absent: [LABEL..]}. The macro-F1 is the mean over `averaged` classes, which is all of
 * them; those without any record are named in `absent` and count in it with 0. label: [labels].
 * A new object; NULL when out of memory. */
json_t *classes_json(const struct nn_class_report *r, int labels, const char *const *label);

#endif
