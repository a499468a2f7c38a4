/* coordinator/given.c - JSON inside messages: metrics, recipes, options, descriptions, kernel choices. See
 * core.h.
 *
 * The text around it has been checked (proto/check.h), but an escape such as \u001b is harmless only until
 * somebody decodes it. So every name and string inside is checked once decoded; numbers are finite,
 * since JSON has no others.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "coordinator/core.h"
#include "proto/check.h"

static bool clean(const json_t *v, int depth)
{
    const char *key;
    json_t *e;
    bool ok = depth < GIVEN_DEPTH;
    if (json_is_string(v)) return cn_text_clean(json_string_value(v), json_string_length(v));
    if (ok && json_is_object(v)) json_object_foreach((json_t *)v, key, e)
        {
            ok = ok && cn_text_clean(key, PR_MAX_TEXT) && clean(e, depth + 1);
        }
    for (size_t i = 0; ok && json_is_array(v) && i < json_array_size(v); i++)
        ok = clean(json_array_get(v, i), depth + 1);
    return ok;
}

int given_object(const char *what, const char *text, struct cn_error *err)
{
    json_error_t e = {.text = ""};
    if (!*text) return 0;
    json_t *v = json_loads(text, JSON_REJECT_DUPLICATES, &e);
    bool object = json_is_object(v), ok = object && clean(v, 0);
    json_decref(v);
    if (ok) return 0;
    return object ? cn_fail(err, CN_EINVALID,
                            "%s: a name or text in it has control characters, or it is nested more "
                            "than %d deep",
                            what, GIVEN_DEPTH)
                  : cn_fail(err, CN_EINVALID, "%s is not a JSON object: %.100s", what, e.text);
}

int given_text(const char *what, const char *text, struct cn_error *err)
{
    json_t *v = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    bool ok = !v || clean(v, 0);
    json_decref(v);
    return ok ? 0
              : cn_fail(err, CN_EINVALID, "%s: a name or text in it has control characters", what);
}

static int given_net(const Cinch__Net *n, struct cn_error *err)
{
    int rc = given_object("submit: a recipe", n->recipe, err);
    if (!rc) rc = given_object("submit: a fine-tuning recipe", n->finetune, err);
    for (size_t i = 0; i < n->n_finetunes && !rc; i++)
        rc = given_object("submit: a fine-tuning recipe", n->finetunes[i]->recipe, err);
    return rc;
}

int given_submit(const Cinch__Submit *s, struct cn_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < s->n_nets && !rc; i++) rc = given_net(s->nets[i], err);
    if (!rc && s->prune) rc = given_object("submit: prune.options", s->prune->options, err);
    if (!rc && s->quantize)
        rc = given_object("submit: quantize.options", s->quantize->options, err);
    return rc;
}

/* One kernel choice of a worker: known members only, and known engines. */
static json_t *engine_entry(const json_t *e)
{
    static const char *const numbers[] = {"native_us", "cudnn_us", "difference"};
    const char *op = json_string_value(json_object_get(e, "op")),
               *engine = json_string_value(json_object_get(e, "engine"));
    if (!op || !cn_text_clean(op, PR_MAX_NAME) || !engine ||
        (strcmp(engine, "native") && strcmp(engine, "cudnn")))
        return NULL;
    json_t *out = json_pack("{s:s, s:s}", "op", op, "engine", engine);
    for (size_t i = 0; out && i < sizeof numbers / sizeof *numbers; i++) {
        json_t *v = json_object_get(e, numbers[i]);
        if (json_is_number(v)) json_object_set(out, numbers[i], v);
    }
    return out;
}

char *given_engines(const char *text)
{
    json_t *list = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *kept = json_array();
    for (size_t i = 0; i < json_array_size(list) && i < GIVEN_ENGINES; i++) {
        json_t *e = engine_entry(json_array_get(list, i));
        if (e) json_array_append_new(kept, e);
    }
    char *out = json_is_array(list) && kept ? json_dumps(kept, JSON_COMPACT) : NULL;
    json_decref(list);
    json_decref(kept);
    return out;
}
