/* cli/rounds.c - see rounds.h. What a model's file carries beside the weights is a line of JSON,
 * {"asked": {..}, "round": k}, a 0 byte, and the training's checkpoint. */
#include "cli/rounds.h"

#include <stdlib.h>
#include <string.h>

int cli_rounds_pack(const struct cli_rounds *r, const void *training, size_t n, void **out,
                    size_t *out_n, struct cn_error *err)
{
    json_t *o = json_pack("{s:O, s:i}", "asked", r->asked, "round", r->round);
    char *line = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    size_t head = line ? strlen(line) + 1 : 0;
    char *extra = line ? malloc(head + n) : NULL;
    int rc = extra ? 0 : cn_fail(err, CN_ENOMEM, "out of memory for a checkpoint");
    if (!rc) {
        memcpy(extra, line, head);
        if (n) memcpy(extra + head, training, n);
        rc = nn_model_bytes_with(r->before, extra, head + n, out, out_n, err);
    }
    json_decref(o);
    free(line);
    free(extra);
    return rc;
}

/* Every member of what this command asks must stand in the checkpoint, and no other. */
static int check_asked(const json_t *asked, const json_t *theirs, const char *name,
                       struct cn_error *err)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)asked, key, v)
    {
        if (!json_equal(v, json_object_get(theirs, key)))
            return cn_fail(err, CN_EINVALID, "%s: belongs to another pruning: its '%s' differs",
                           name, key);
    }
    if (json_object_size(theirs) == json_object_size(asked)) return 0;
    return cn_fail(err, CN_EINVALID, "%s: belongs to another pruning", name);
}

int cli_rounds_unpack(struct cli_rounds *r, const char *name, const void *data, size_t n,
                      struct nn_model **before, struct cn_error *err)
{
    const void *extra;
    size_t extra_n;
    int rc = nn_model_extra(name, data, n, &extra, &extra_n, err);
    if (rc) return rc;
    size_t line = extra_n ? strnlen(extra, extra_n) : 0;
    json_t *o =
        line && line < extra_n ? json_loadb(extra, line, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const json_t *round = json_object_get(o, "round");
    if (!json_is_object(json_object_get(o, "asked")))
        rc = cn_fail(err, CN_EINVALID, "%s: a model, but not the checkpoint of a pruning", name);
    if (!rc) rc = check_asked(r->asked, json_object_get(o, "asked"), name, err);
    r->round = (int)json_integer_value(round);
    if (!rc &&
        (!json_is_integer(round) || json_integer_value(round) < 1 ||
         json_integer_value(round) > json_integer_value(json_object_get(r->asked, "rounds"))))
        rc = cn_fail(err, CN_ECORRUPT, "%s: 'round' is missing or impossible", name);
    json_decref(o);
    if (rc) return rc;
    r->training_n = extra_n - line - 1;
    r->training = r->training_n ? (const char *)extra + line + 1 : NULL;
    return nn_model_parse(before, name, data, n, err);
}
