/* classes.c - see classes.h. */
#include "workers/classes.h"

json_t *classes_json(const struct nn_class_report *r, int labels, const char *const *label)
{
    json_t *per = json_object(), *confusion = json_array(), *absent = json_array();
    for (int i = 0; i < labels; i++) {
        json_t *line = json_array();
        json_int_t records = 0;
        for (int j = 0; j < labels; j++) {
            json_array_append_new(line, json_integer(r->confusion[i][j]));
            records += r->confusion[i][j];
        }
        json_array_append_new(confusion, line);
        if (!records) json_array_append_new(absent, json_string(label[i]));
        json_object_set_new(per, label[i],
                            json_pack("{s:f, s:f, s:f, s:I}", "sensitivity", r->sensitivity[i],
                                      "precision", r->precision[i], "f1", r->f1[i], "records",
                                      records));
    }
    return json_pack("{s:o, s:o, s:i, s:o}", "per_class", per, "confusion", confusion, "averaged",
                     labels, "absent", absent);
}
