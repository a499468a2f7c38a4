/* export/onnx_proto.c - see onnx_proto.h. */
#include "export/onnx_proto.h"

#include <string.h>

enum wire { VARINT = 0, BYTES = 2, FIXED32 = 5 };

/* Field numbers, by message. */
enum {
    MODEL_IR = 1,
    MODEL_PRODUCER = 2,
    MODEL_GRAPH = 7,
    MODEL_OPSET = 8,
    MODEL_METADATA = 14,
    OPSET_VERSION = 2,
    GRAPH_NODE = 1,
    GRAPH_NAME = 2,
    GRAPH_INITIALIZER = 5,
    GRAPH_INPUT = 11,
    GRAPH_OUTPUT = 12,
    NODE_INPUT = 1,
    NODE_OUTPUT = 2,
    NODE_NAME = 3,
    NODE_OP = 4,
    NODE_ATTRIBUTE = 5,
    ATTR_NAME = 1,
    ATTR_F = 2,
    ATTR_I = 3,
    ATTR_INTS = 8,
    ATTR_TYPE = 20,
    TENSOR_DIMS = 1,
    TENSOR_TYPE = 2,
    TENSOR_NAME = 8,
    TENSOR_RAW = 9,
    VALUE_NAME = 1,
    VALUE_TYPE = 2,
    TYPE_TENSOR = 1,
    TENSOR_ELEM = 1,
    TENSOR_SHAPE = 2,
    SHAPE_DIM = 1,
    DIM_VALUE = 1,
    DIM_PARAM = 2,
    ENTRY_KEY = 1,
    ENTRY_VALUE = 2
};
enum { ATTR_TYPE_FLOAT = 1, ATTR_TYPE_INT = 2, ATTR_TYPE_INTS = 7 };

static void varint(struct export_text *t, uint64_t v)
{
    uint8_t byte[10];
    size_t n = 0;
    do {
        byte[n] = (uint8_t)((v & 127) | (v > 127 ? 128 : 0));
        v >>= 7;
        n++;
    } while (v);
    export_add(t, byte, n);
}

static void tag(struct export_text *t, int field, enum wire wire)
{
    varint(t, (uint64_t)field << 3 | wire);
}

static void put_int(struct export_text *t, int field, int64_t v)
{
    tag(t, field, VARINT);
    varint(t, (uint64_t)v);
}

static void put_bytes(struct export_text *t, int field, const void *data, size_t n)
{
    tag(t, field, BYTES);
    varint(t, n);
    export_add(t, data, n);
}

static void put_string(struct export_text *t, int field, const char *s)
{
    put_bytes(t, field, s, strlen(s));
}

/* Embeds and releases a finished message. */
static void put_message(struct export_text *t, int field, struct export_text *message)
{
    if (message->failed) t->failed = 1;
    put_bytes(t, field, message->data ? message->data : "", message->n);
    export_text_release(message);
}

void onnx_attr_int(struct export_text *attrs, const char *name, int64_t v)
{
    struct export_text a = {0};
    put_string(&a, ATTR_NAME, name);
    put_int(&a, ATTR_I, v);
    put_int(&a, ATTR_TYPE, ATTR_TYPE_INT);
    put_message(attrs, NODE_ATTRIBUTE, &a);
}

void onnx_attr_float(struct export_text *attrs, const char *name, float v)
{
    struct export_text a = {0};
    put_string(&a, ATTR_NAME, name);
    tag(&a, ATTR_F, FIXED32);
    export_add(&a, &v, sizeof v);
    put_int(&a, ATTR_TYPE, ATTR_TYPE_FLOAT);
    put_message(attrs, NODE_ATTRIBUTE, &a);
}

void onnx_attr_ints(struct export_text *attrs, const char *name, const int64_t *v, int n)
{
    struct export_text a = {0};
    put_string(&a, ATTR_NAME, name);
    for (int i = 0; i < n; i++) put_int(&a, ATTR_INTS, v[i]);
    put_int(&a, ATTR_TYPE, ATTR_TYPE_INTS);
    put_message(attrs, NODE_ATTRIBUTE, &a);
}

void onnx_add_node(struct export_text *graph, struct onnx_node *node)
{
    struct export_text n = {0};
    for (int i = 0; i < 8 && node->input[i]; i++) put_string(&n, NODE_INPUT, node->input[i]);
    put_string(&n, NODE_OUTPUT, node->output);
    put_string(&n, NODE_NAME, node->output);
    put_string(&n, NODE_OP, node->op);
    if (node->attrs.failed) n.failed = 1;
    export_add(&n, node->attrs.data, node->attrs.n);
    export_text_release(&node->attrs);
    put_message(graph, GRAPH_NODE, &n);
}

void onnx_add_initializer(struct export_text *graph, const struct onnx_tensor *t)
{
    struct export_text m = {0};
    size_t bytes = t->type == ONNX_INT64                           ? 8
                   : t->type == ONNX_UINT8 || t->type == ONNX_INT8 ? 1
                                                                   : 4;
    for (int i = 0; i < t->n_dims; i++) {
        put_int(&m, TENSOR_DIMS, t->dim[i]);
        bytes *= (size_t)t->dim[i];
    }
    put_int(&m, TENSOR_TYPE, t->type);
    put_string(&m, TENSOR_NAME, t->name);
    put_bytes(&m, TENSOR_RAW, t->data, bytes);
    put_message(graph, GRAPH_INITIALIZER, &m);
}

void onnx_add_value(struct export_text *graph, int is_output, const char *name, const int64_t *dim,
                    int n_dims)
{
    struct export_text shape = {0}, tensor = {0}, type = {0}, value = {0};
    for (int i = 0; i < n_dims; i++) {
        struct export_text d = {0};
        if (i == 0)
            put_string(&d, DIM_PARAM, "N");
        else
            put_int(&d, DIM_VALUE, dim[i]);
        put_message(&shape, SHAPE_DIM, &d);
    }
    put_int(&tensor, TENSOR_ELEM, ONNX_FLOAT);
    put_message(&tensor, TENSOR_SHAPE, &shape);
    put_message(&type, TYPE_TENSOR, &tensor);
    put_string(&value, VALUE_NAME, name);
    put_message(&value, VALUE_TYPE, &type);
    put_message(graph, is_output ? GRAPH_OUTPUT : GRAPH_INPUT, &value);
}

void onnx_model(struct export_text *model, const struct export_text *graph, const char *name,
                const char *const *metadata)
{
    struct export_text opset = {0}, g = {0};
    if (graph->failed) model->failed = 1;
    put_int(model, MODEL_IR, 8);
    put_string(model, MODEL_PRODUCER, "cinch");
    put_string(&g, GRAPH_NAME, name);
    export_add(&g, graph->data, graph->n);
    put_message(model, MODEL_GRAPH, &g);
    put_int(&opset, OPSET_VERSION, 17);
    put_message(model, MODEL_OPSET, &opset);
    for (int i = 0; metadata[i]; i += 2) {
        struct export_text entry = {0};
        put_string(&entry, ENTRY_KEY, metadata[i]);
        put_string(&entry, ENTRY_VALUE, metadata[i + 1]);
        put_message(model, MODEL_METADATA, &entry);
    }
}
