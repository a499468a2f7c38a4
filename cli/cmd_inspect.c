/* cli/cmd_inspect.c - `cinch inspect`: what is inside a checkpoint or an artifact. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/model.h"
#include "cli/table.h"

static json_t *layer_json(const char *name, const char *kind, const int shape[2], uint64_t params,
                          uint64_t macs, uint64_t nonzero)
{
    return json_pack("{s:s, s:s, s:[i, i], s:I, s:I, s:I}", "name", name, "kind", kind, "shape",
                     shape[0], shape[1], "params", (json_int_t)params, "macs", (json_int_t)macs,
                     "macs_nonzero", (json_int_t)nonzero);
}

static json_t *checkpoint_layers(const struct nn_model *m)
{
    const struct nn_net *net = m->net;
    uint64_t macs[NN_MAX_LAYERS], nonzero[NN_MAX_LAYERS];
    json_t *list = json_array();
    nn_net_macs(net, macs);
    nn_model_macs_nonzero(m, nonzero);
    for (int i = 0; i < net->n_layers; i++) {
        const struct nn_layer *l = &net->layer[i];
        uint64_t params = 0;
        for (int t = 0; t < l->n_tensors; t++)
            if (net->tensor[l->tensor + t].trainable) params += net->tensor[l->tensor + t].count;
        const int shape[2] = {l->cout, l->tout};
        json_array_append_new(
            list, layer_json(l->name, nn_op_name(l->op), shape, params, macs[i], nonzero[i]));
    }
    return list;
}

static json_t *artifact_layers(const struct cinchrt_model *rt)
{
    json_t *list = json_array();
    struct cinchrt_layer_info l;
    for (int i = 0; i < cinchrt_info(rt)->layers && !cinchrt_layer_info(rt, i, &l); i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        const int shape[2] = {l.cout, l.tout};
        json_t *o = layer_json(name, l.op, shape, l.weights, l.macs, l.macs_nonzero);
        json_object_set_new(o, "kernel", json_string(l.kernel));
        json_object_set_new(o, "bytes", json_integer((json_int_t)l.bytes));
        json_object_set_new(o, "sparse", json_boolean(l.sparse));
        if (l.scale > 0) {
            json_object_set_new(o, "scale", json_real(l.scale));
            json_object_set_new(o, "zero", json_integer(l.zero));
        }
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *describe(const struct cli_model *m)
{
    json_t *labels = json_array(), *widths = json_array();
    for (int i = 0; i < m->labels; i++) json_array_append_new(labels, json_string(m->label[i]));
    json_t *doc = json_pack("{s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:[i, i], s:o, s:o}", "file",
                            cli_json_text(m->path), "net", m->name, "kind", m->kind, "params",
                            (json_int_t)m->params, "macs", (json_int_t)m->macs, "macs_nonzero",
                            (json_int_t)m->macs_nonzero, "bytes", (json_int_t)m->bytes, "input",
                            m->leads, m->samples, "labels", labels, "layers",
                            m->rt ? artifact_layers(m->rt) : checkpoint_layers(m->net));
    if (m->rt) {
        json_object_set_new(doc, "isa", json_string(cinchrt_isa_name(cinchrt_info(m->rt)->isa)));
        json_decref(widths);
        return doc;
    }
    for (int i = 0; i < m->net->net->n_widths; i++)
        json_array_append_new(widths, json_integer(m->net->net->width[i]));
    json_object_set_new(doc, "widths", widths);
    return doc;
}

static long long integer(const json_t *layer, const char *key)
{
    return (long long)json_integer_value(json_object_get(layer, key));
}

static void print_layers(const json_t *list, bool artifact)
{
    struct cli_table *t = cli_table_create(
        artifact ? "LAYER\tKIND\tOUTPUT\tPARAMS\tMACS\tNONZERO\tBYTES\tSTORED\tKERNEL"
                 : "LAYER\tKIND\tOUTPUT\tPARAMS\tMACS\tNONZERO",
        artifact ? "llrrrrrll" : "llrrrr");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *l = json_array_get(list, i), *shape = json_object_get(l, "shape");
        char stored[200] = "";
        if (artifact)
            snprintf(stored, sizeof stored, "\t%lld\t%s\t%s", integer(l, "bytes"),
                     json_is_true(json_object_get(l, "sparse")) ? "sparse" : "dense",
                     json_string_value(json_object_get(l, "kernel")));
        cli_table_add(t, "%s\t%s\t%lldx%lld\t%lld\t%lld\t%lld%s",
                      json_string_value(json_object_get(l, "name")),
                      json_string_value(json_object_get(l, "kind")),
                      (long long)json_integer_value(json_array_get(shape, 0)),
                      (long long)json_integer_value(json_array_get(shape, 1)), integer(l, "params"),
                      integer(l, "macs"), integer(l, "macs_nonzero"), stored);
    }
    cli_table_print(t, stdout);
    cli_table_destroy(t);
}

static void print(const struct cli_model *m, const json_t *doc)
{
    cli_print(stdout, "%s: %s, %s, %llu parameters, %.3f M multiply-accumulates, %zu bytes\n",
              m->path, m->name, m->kind, (unsigned long long)m->params, (double)m->macs / 1e6,
              m->bytes);
    if (m->macs_nonzero < m->macs)
        cli_print(stdout, "%.3f M of them with a weight that is not zero: %.1f %%\n",
                  (double)m->macs_nonzero / 1e6, 100 * (double)m->macs_nonzero / (double)m->macs);
    cli_print(stdout, "input %d leads x %d samples at %g Hz, labels", m->leads, m->samples, m->hz);
    for (int i = 0; i < m->labels; i++) cli_print(stdout, " %s", m->label[i]);
    cli_print(stdout, "\n\n");
    print_layers(json_object_get(doc, "layers"), m->rt != NULL);
}

int cmd_inspect(struct cli *c, int argc, char **argv)
{
    struct cli_use use = {"FILE", "Shows the net, its size and its layers.", NULL, 1, 1, 0, NULL};
    struct cli_model m = {0};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    rc = cli_model_open(c, use.word[0], &m);
    if (rc) return rc;
    json_t *doc = describe(&m);
    if (c->json) {
        rc = cli_answer_json(c, doc);
    } else {
        print(&m, doc);
        json_decref(doc);
    }
    cli_model_close(&m);
    return rc;
}
