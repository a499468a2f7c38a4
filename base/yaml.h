/* base/yaml.h - a YAML document as a small tree that remembers where everything stood, so that
 * every complaint names file:line:column. Parsing is libyaml's. What YAML has beyond that
 * tree is refused: a second document, anchors and aliases, tags, directives, a 0 in a text, and a key
 * that stands twice. Reading takes time in proportion to the bytes. */
#ifndef CINCH_BASE_YAML_H
#define CINCH_BASE_YAML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum cn_yaml_kind { CN_YAML_SCALAR, CN_YAML_LIST, CN_YAML_MAP };

struct cn_yaml {
    enum cn_yaml_kind kind;
    const char *file;      /* borrowed from the root */
    int line, column;      /* 1-based */
    char *text;            /* SCALAR: the value */
    bool quoted;           /* SCALAR: stood in quotes, hence a string */
    int n;                 /* LIST, MAP: members */
    struct cn_yaml **item; /* LIST, MAP: n values */
    struct cn_yaml **key;  /* MAP: n scalar keys */
};

/* *root is owned by the caller. `name` stands in messages. At most 1 MiB, 32 levels, 100,000 nodes.
 * An empty document is an empty map. */
int cn_yaml_parse(struct cn_yaml **root, const char *name, const char *text, size_t n,
                  struct cn_error *err);
int cn_yaml_load(struct cn_yaml **root, const char *path, struct cn_error *err);
void cn_yaml_destroy(struct cn_yaml *root); /* the root only; accepts NULL */

const struct cn_yaml *cn_yaml_get(const struct cn_yaml *map, const char *key); /* NULL: absent */

/* Fails with "file:line:column: unknown key 'epoch'; did you mean 'epochs'?" for a key not in
 * `known` (NULL-terminated). */
int cn_yaml_only(const struct cn_yaml *map, const char *const *known, struct cn_error *err);

/* Typed reads; `what` names the field in messages. Ranges are inclusive. */
int cn_yaml_int(const struct cn_yaml *v, const char *what, int64_t lo, int64_t hi, int64_t *out,
                struct cn_error *err);
int cn_yaml_float(const struct cn_yaml *v, const char *what, double lo, double hi, double *out,
                  struct cn_error *err);
int cn_yaml_bool(const struct cn_yaml *v, const char *what, bool *out, struct cn_error *err);
int cn_yaml_str(const struct cn_yaml *v, const char *what, const char **out, struct cn_error *err);
/* One of `names` (NULL-terminated): *out is its index; else an error with the nearest name. */
int cn_yaml_enum(const struct cn_yaml *v, const char *what, const char *const *names, int *out,
                 struct cn_error *err);

/* An error at the node's place: "file:line:column: text". */
int cn_yaml_fail(const struct cn_yaml *at, struct cn_error *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The nearest of `names` by edit distance, or NULL when none is near (more than 1/3 of the letters
 * differ). */
const char *cn_nearest(const char *word, const char *const *names);

#endif
