/* export/onnx_proto.h - as much of ONNX's protobuf as a graph of plain operators needs: written by hand, since
 * the messages are few and flat. Field numbers: onnx.proto3, IR version 8. Strings are copied. */
#ifndef CINCH_EXPORT_ONNX_PROTO_H
#define CINCH_EXPORT_ONNX_PROTO_H

#include "export/text.h"

enum onnx_type { ONNX_FLOAT = 1, ONNX_UINT8 = 2, ONNX_INT8 = 3, ONNX_INT32 = 6, ONNX_INT64 = 7 };

/* Appends to a node's attributes. */
void onnx_attr_int(struct export_text *attrs, const char *name, int64_t v);
void onnx_attr_float(struct export_text *attrs, const char *name, float v);
void onnx_attr_ints(struct export_text *attrs, const char *name, const int64_t *v, int n);

struct onnx_node {
    const char *op;
    const char *input[8]; /* up to the first NULL; "" is an absent optional input */
    const char *output;
    struct export_text attrs; /* taken: released by onnx_add_node */
};
void onnx_add_node(struct export_text *graph, struct onnx_node *node);

struct onnx_tensor {
    const char *name;
    enum onnx_type type;
    int64_t dim[4];
    int n_dims;       /* 0: scalar */
    const void *data; /* little-endian, dense */
};
void onnx_add_initializer(struct export_text *graph, const struct onnx_tensor *t);

/* A float input or output [N, dim[1], ..]; dim[0] is called "N" and free. */
void onnx_add_value(struct export_text *graph, int is_output, const char *name, const int64_t *dim,
                    int n_dims);

/* Wraps a finished graph as a model of opset 17. metadata: key, value, .., NULL. */
void onnx_model(struct export_text *model, const struct export_text *graph, const char *name,
                const char *const *metadata);

#endif
