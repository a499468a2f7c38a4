/* base/yaml.c - see yaml.h. Events of libyaml are folded into the tree by recursive descent. */
#include "base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/file.h"

#define MAX_BYTES (1u << 20)
#define MAX_DEPTH 32
#define MAX_NODES 100000

struct reader {
    yaml_parser_t parser;
    const char *file;
    int nodes;
    struct cn_error *err;
};

static void node_free(struct cn_yaml *y)
{
    if (!y) return;
    for (int i = 0; i < y->n; i++) {
        node_free(y->item[i]);
        if (y->key) node_free(y->key[i]);
    }
    free(y->item);
    free(y->key);
    free(y->text);
    free(y);
}

void cn_yaml_destroy(struct cn_yaml *root)
{
    if (!root) return;
    free((char *)root->file);
    node_free(root);
}

int cn_yaml_fail(const struct cn_yaml *at, struct cn_error *err, const char *fmt, ...)
{
    char text[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return cn_fail(err, CN_EINVALID, "%s:%d:%d: %s", at->file, at->line, at->column, text);
}

static int next_event(struct reader *r, yaml_event_t *ev)
{
    if (yaml_parser_parse(&r->parser, ev)) return 0;
    const yaml_mark_t *m = &r->parser.problem_mark;
    return cn_fail(r->err, CN_EINVALID, "%s:%zu:%zu: %s%s%s", r->file, m->line + 1, m->column + 1,
                   r->parser.problem ? r->parser.problem : "not YAML",
                   r->parser.context ? ", " : "", r->parser.context ? r->parser.context : "");
}

static int grow(struct cn_yaml *y, struct cn_yaml *key, struct cn_yaml *value)
{
    if ((y->n & (y->n - 1)) == 0) { /* a power of two: full */
        size_t cap = y->n ? (size_t)y->n * 2 : 1;
        struct cn_yaml **item = realloc(y->item, cap * sizeof *item);
        if (!item) return CN_ENOMEM;
        y->item = item;
        if (y->kind == CN_YAML_MAP) {
            struct cn_yaml **k = realloc(y->key, cap * sizeof *k);
            if (!k) return CN_ENOMEM;
            y->key = k;
        }
    }
    y->item[y->n] = value;
    if (y->kind == CN_YAML_MAP) y->key[y->n] = key;
    y->n++;
    return 0;
}

static int read_node(struct reader *r, yaml_event_t *ev, int depth, struct cn_yaml **out);

struct place { /* of a key among those of its map */
    const char *text;
    int i;
};

static int by_text(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    int c = strcmp(x->text, y->text);
    return c ? c : x->i - y->i;
}

/* Equal keys stand side by side once they are sorted; of several pairs the first in the file is told. */
static int check_keys(struct reader *r, const struct cn_yaml *map)
{
    int second = map->n;
    struct place *p = calloc((size_t)map->n + 1, sizeof *p);
    if (!p) return cn_fail(r->err, CN_ENOMEM, "%s: out of memory", r->file);
    for (int i = 0; i < map->n; i++) p[i] = (struct place){map->key[i]->text, i};
    qsort(p, (size_t)map->n, sizeof *p, by_text);
    for (int i = 1; i < map->n; i++)
        if (!strcmp(p[i - 1].text, p[i].text) && p[i].i < second) second = p[i].i;
    free(p);
    if (second == map->n) return 0;
    const struct cn_yaml *key = map->key[second];
    return cn_yaml_fail(key, r->err, "key '%s' stands here twice", key->text);
}

static int read_key(struct reader *r, yaml_event_t *ev, int depth, struct cn_yaml **key)
{
    int rc = read_node(r, ev, depth, key);
    if (!rc && (*key)->kind != CN_YAML_SCALAR)
        rc = cn_yaml_fail(*key, r->err, "a key must be a plain word");
    return rc ? rc : next_event(r, ev);
}

static int read_members(struct reader *r, struct cn_yaml *y, int depth)
{
    yaml_event_type_t end =
        y->kind == CN_YAML_LIST ? YAML_SEQUENCE_END_EVENT : YAML_MAPPING_END_EVENT;
    for (;;) {
        yaml_event_t ev;
        struct cn_yaml *key = NULL, *value = NULL;
        int rc = next_event(r, &ev);
        if (rc) return rc;
        if (ev.type == end) {
            yaml_event_delete(&ev);
            return y->kind == CN_YAML_MAP ? check_keys(r, y) : 0;
        }
        if (y->kind == CN_YAML_MAP) rc = read_key(r, &ev, depth + 1, &key);
        if (!rc) rc = read_node(r, &ev, depth + 1, &value);
        if (!rc && grow(y, key, value))
            rc = cn_fail(r->err, CN_ENOMEM, "%s: out of memory", r->file);
        if (rc) {
            node_free(key);
            node_free(value);
            return rc;
        }
    }
}

static int read_scalar(struct reader *r, const yaml_event_t *ev, struct cn_yaml *y)
{
    const char *value = (const char *)ev->data.scalar.value;
    y->kind = CN_YAML_SCALAR;
    y->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (strlen(value) != ev->data.scalar.length)
        return cn_yaml_fail(y, r->err, "a text with a 0 character in it");
    y->text = strdup(value);
    return y->text ? 0 : cn_fail(r->err, CN_ENOMEM, "%s: out of memory", r->file);
}

/* What a node may not carry. */
static int check_properties(struct reader *r, const yaml_event_t *ev, const struct cn_yaml *at)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    if (ev->type == YAML_SCALAR_EVENT) {
        anchor = ev->data.scalar.anchor;
        tag = ev->data.scalar.tag;
    } else if (ev->type == YAML_SEQUENCE_START_EVENT) {
        anchor = ev->data.sequence_start.anchor;
        tag = ev->data.sequence_start.tag;
    } else if (ev->type == YAML_MAPPING_START_EVENT) {
        anchor = ev->data.mapping_start.anchor;
        tag = ev->data.mapping_start.tag;
    } else {
        return cn_yaml_fail(at, r->err, "aliases are not supported; write the value out");
    }
    if (anchor)
        return cn_yaml_fail(at, r->err, "anchors (&%s) are not supported; write the value out",
                            (const char *)anchor);
    if (tag)
        return cn_yaml_fail(at, r->err,
                            "tags (%s) are not supported; the key says what its value is",
                            (const char *)tag);
    return 0;
}

static int begin_node(struct reader *r, const yaml_event_t *ev, int depth, struct cn_yaml *y)
{
    y->file = r->file;
    y->line = (int)ev->start_mark.line + 1;
    y->column = (int)ev->start_mark.column + 1;
    if (++r->nodes > MAX_NODES) return cn_yaml_fail(y, r->err, "more than %d values", MAX_NODES);
    if (depth > MAX_DEPTH)
        return cn_yaml_fail(y, r->err, "nested deeper than %d levels", MAX_DEPTH);
    int rc = check_properties(r, ev, y);
    if (rc) return rc;
    if (ev->type == YAML_SCALAR_EVENT) return read_scalar(r, ev, y);
    y->kind = ev->type == YAML_SEQUENCE_START_EVENT ? CN_YAML_LIST : CN_YAML_MAP;
    return 0;
}

/* Consumes *ev and what belongs to it. */
static int read_node(struct reader *r, yaml_event_t *ev, int depth, struct cn_yaml **out)
{
    struct cn_yaml *y = calloc(1, sizeof *y);
    int rc =
        y ? begin_node(r, ev, depth, y) : cn_fail(r->err, CN_ENOMEM, "%s: out of memory", r->file);
    yaml_event_delete(ev);
    if (!rc && y->kind != CN_YAML_SCALAR) rc = read_members(r, y, depth);
    if (rc) {
        node_free(y);
        y = NULL;
    }
    *out = y;
    return rc;
}

static int empty_map(struct reader *r, struct cn_yaml **root)
{
    *root = calloc(1, sizeof **root);
    if (!*root) return cn_fail(r->err, CN_ENOMEM, "%s: out of memory", r->file);
    **root = (struct cn_yaml){.kind = CN_YAML_MAP, .file = r->file, .line = 1, .column = 1};
    return 0;
}

/* Nothing but comments may follow. */
static int read_end(struct reader *r)
{
    yaml_event_t ev;
    int rc = next_event(r, &ev);
    if (!rc && ev.type == YAML_DOCUMENT_END_EVENT) {
        yaml_event_delete(&ev);
        rc = next_event(r, &ev);
    }
    if (rc) return rc;
    if (ev.type != YAML_STREAM_END_EVENT)
        rc = cn_fail(r->err, CN_EINVALID,
                     "%s:%zu:%zu: a second document begins here; a file holds one", r->file,
                     ev.start_mark.line + 1, ev.start_mark.column + 1);
    yaml_event_delete(&ev);
    return rc;
}

static int read_document(struct reader *r, struct cn_yaml **root)
{
    yaml_event_t ev;
    int rc = next_event(r, &ev); /* the stream's start */
    if (rc) return rc;
    yaml_event_delete(&ev);
    rc = next_event(r, &ev);
    if (rc) return rc;
    bool nothing = ev.type == YAML_STREAM_END_EVENT; /* but comments */
    yaml_event_delete(&ev);
    if (nothing) return empty_map(r, root);
    rc = next_event(r, &ev);
    if (!rc) rc = read_node(r, &ev, 0, root);
    if (!rc && (rc = read_end(r))) {
        node_free(*root);
        *root = NULL;
    }
    return rc;
}

/* Whether a line begins after this byte: after CR and LF, and after the last byte of NEL, LS and PS,
 * which YAML counts as breaks too. */
static bool ends_line(char c)
{
    unsigned char u = (unsigned char)c;
    return u == '\n' || u == '\r' || u == 0x85 || u == 0xA8 || u == 0xA9;
}

/* Directives stand at the start of a line. libyaml must not see them: it compares each with all before
 * it. */
static int check_directives(const char *name, const char *text, size_t n, struct cn_error *err)
{
    int line = 1;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\n') line++;
        if (text[i] != '%' || (i && !ends_line(text[i - 1]))) continue;
        if ((n - i >= 5 && !memcmp(text + i, "%YAML", 5)) ||
            (n - i >= 4 && !memcmp(text + i, "%TAG", 4)))
            return cn_fail(err, CN_EINVALID, "%s:%d:1: directives (%%) are not supported", name,
                           line);
    }
    return 0;
}

int cn_yaml_parse(struct cn_yaml **root, const char *name, const char *text, size_t n,
                  struct cn_error *err)
{
    *root = NULL;
    if (n > MAX_BYTES) return cn_fail(err, CN_ELIMIT, "%s: larger than %u bytes", name, MAX_BYTES);
    if (n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) { /* some editors' mark of UTF-8 */
        text += 3;
        n -= 3;
    }
    int rc = check_directives(name, text, n, err);
    if (rc) return rc;
    struct reader r = {.err = err};
    char *file = strdup(name);
    if (!file || !yaml_parser_initialize(&r.parser)) {
        free(file);
        return cn_fail(err, CN_ENOMEM, "%s: out of memory", name);
    }
    r.file = file;
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING); /* not what a BOM says */
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
    rc = read_document(&r, root);
    yaml_parser_delete(&r.parser);
    if (rc) free(file);
    return rc;
}

int cn_yaml_load(struct cn_yaml **root, const char *path, struct cn_error *err)
{
    char *text;
    size_t n;
    *root = NULL;
    int rc = cn_file_read(path, MAX_BYTES, &text, &n, err);
    if (rc) return rc;
    rc = cn_yaml_parse(root, path, text, n, err);
    free(text);
    return rc;
}

const struct cn_yaml *cn_yaml_get(const struct cn_yaml *map, const char *key)
{
    if (!map || map->kind != CN_YAML_MAP) return NULL;
    for (int i = 0; i < map->n; i++)
        if (!strcmp(map->key[i]->text, key)) return map->item[i];
    return NULL;
}

static int edit_distance(const char *a, const char *b)
{
    int na = (int)strlen(a), nb = (int)strlen(b), row[65];
    if (na > 64 || nb > 64) return 99;
    for (int j = 0; j <= nb; j++) row[j] = j;
    for (int i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[nb];
}

const char *cn_nearest(const char *word, const char *const *names)
{
    const char *best = NULL;
    int least = 1000, n = (int)strlen(word);
    for (; *names; names++) {
        int d = edit_distance(word, *names);
        if (d < least) {
            least = d;
            best = *names;
        }
    }
    return best && least <= (n < 3 ? 1 : (n + 2) / 3) ? best : NULL;
}

static int unknown(const struct cn_yaml *at, const char *what, const char *const *names,
                   struct cn_error *err)
{
    const char *near = cn_nearest(at->text, names);
    if (near)
        return cn_yaml_fail(at, err, "unknown %s '%s'; did you mean '%s'?", what, at->text, near);
    char list[200] = "";
    for (size_t n = 0; *names && n < sizeof list - 1; names++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "", *names);
    return cn_yaml_fail(at, err, "unknown %s '%s'; known are: %s", what, at->text, list);
}

int cn_yaml_only(const struct cn_yaml *map, const char *const *known, struct cn_error *err)
{
    if (map->kind != CN_YAML_MAP) return cn_yaml_fail(map, err, "expected keys with values");
    for (int i = 0; i < map->n; i++) {
        const char *const *k = known;
        while (*k && strcmp(*k, map->key[i]->text)) k++;
        if (!*k) return unknown(map->key[i], "key", known, err);
    }
    return 0;
}

static int want_scalar(const struct cn_yaml *v, const char *what, const char *type,
                       struct cn_error *err)
{
    if (v->kind != CN_YAML_SCALAR) return cn_yaml_fail(v, err, "%s must be %s", what, type);
    return 0;
}

int cn_yaml_int(const struct cn_yaml *v, const char *what, int64_t lo, int64_t hi, int64_t *out,
                struct cn_error *err)
{
    int rc = want_scalar(v, what, "a whole number", err);
    if (rc) return rc;
    char *end;
    errno = 0;
    long long x = strtoll(v->text, &end, 10);
    if (v->quoted || end == v->text || *end || errno)
        return cn_yaml_fail(v, err, "%s must be a whole number, not '%s'", what, v->text);
    if (x < lo || x > hi)
        return cn_yaml_fail(v, err, "%s must lie between %lld and %lld, not %lld", what,
                            (long long)lo, (long long)hi, x);
    *out = x;
    return 0;
}

int cn_yaml_float(const struct cn_yaml *v, const char *what, double lo, double hi, double *out,
                  struct cn_error *err)
{
    int rc = want_scalar(v, what, "a number", err);
    if (rc) return rc;
    char *end;
    double x = strtod(v->text, &end);
    if (v->quoted || end == v->text || *end || !isfinite(x))
        return cn_yaml_fail(v, err, "%s must be a number, not '%s'", what, v->text);
    if (x < lo || x > hi)
        return cn_yaml_fail(v, err, "%s must lie between %g and %g, not %s", what, lo, hi, v->text);
    *out = x;
    return 0;
}

int cn_yaml_bool(const struct cn_yaml *v, const char *what, bool *out, struct cn_error *err)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", NULL};
    int rc = want_scalar(v, what, "true or false", err);
    if (rc) return rc;
    for (int i = 0; words[i] && !v->quoted; i++) {
        if (strcmp(v->text, words[i])) continue;
        *out = i & 1;
        return 0;
    }
    return cn_yaml_fail(v, err, "%s must be true or false, not '%s'", what, v->text);
}

int cn_yaml_str(const struct cn_yaml *v, const char *what, const char **out, struct cn_error *err)
{
    int rc = want_scalar(v, what, "a text", err);
    if (rc) return rc;
    *out = v->text;
    return 0;
}

int cn_yaml_enum(const struct cn_yaml *v, const char *what, const char *const *names, int *out,
                 struct cn_error *err)
{
    int rc = want_scalar(v, what, "a word", err);
    if (rc) return rc;
    for (int i = 0; names[i]; i++) {
        if (strcmp(v->text, names[i])) continue;
        *out = i;
        return 0;
    }
    return unknown(v, what, names, err);
}
