/* Every text of every message that a peer may send: an escape sequence in it is refused at the door. The
 * fields are found through protobuf's own descriptors, so a new one cannot be forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"

enum { FIELDS = 40 };

static const char *const bad[] = {"a\x1b[2J",
                                  "a\xc2\x9b"
                                  "2J",
                                  "a\x7f",
                                  "a\xe2\x80\xae"
                                  "b",
                                  "a\xff"};

/* Something that the check of this field takes. */
static const char *good_text(const ProtobufCMessageDescriptor *d, const char *field)
{
    static const struct {
        const char *field, *text;
    } good[] = {{"norms", "L1"},
                {"schedules", "linear"},
                {"units", "weight"},
                {"mode", "full"},
                {"allocators", "glibc"},
                {"isa", "avx2"},
                {"public", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"}};
    if (!strcmp(d->short_name, "Net") && !strcmp(field, "name")) return "cnn";
    if (!strcmp(d->short_name, "Split")) return "random";
    if (!strcmp(d->short_name, "KeyCreate") && !strcmp(field, "role")) return "read";
    if (!strcmp(d->short_name, "Blob")) return "model";
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (!strcmp(good[i].field, field)) return good[i].text;
    return "text";
}

static void *member_of(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    return (char *)m + f->offset;
}

static ProtobufCMessage *fill(const ProtobufCMessageDescriptor *d);

static void fill_bytes(ProtobufCBinaryData *b, const char *name)
{
    b->len = !strcmp(name, "instance") || !strcmp(name, "nonce") ? PR_INSTANCE_BYTES : 32;
    b->data = calloc(1, b->len);
}

/* One value of each field: 1, a text, the message within. */
static void fill_field(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    void *at = member_of(m, f), *value = at;
    bool many = f->label == PROTOBUF_C_LABEL_REPEATED;
    if (many) {
        value = calloc(1, sizeof(ProtobufCBinaryData));
        *(void **)at = value;
        *(size_t *)(void *)((char *)m + f->quantifier_offset) = 1;
    }
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        *(char **)value = (char *)good_text(m->descriptor, f->name);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        fill_bytes(value, f->name);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)value = fill(f->descriptor);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)value = 1;
        break;
    case PROTOBUF_C_TYPE_UINT64:
        *(uint64_t *)value = 1;
        break;
    default:
        *(uint32_t *)value = strcmp(f->name, "code") ? 1 : 0;
        break;
    }
}

static ProtobufCMessage *fill(const ProtobufCMessageDescriptor *d)
{
    ProtobufCMessage *m = calloc(1, d->sizeof_message);
    protobuf_c_message_init(d, m);
    for (unsigned i = 0; i < d->n_fields; i++) fill_field(m, &d->fields[i]);
    return m;
}

static void empty(ProtobufCMessage *m)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        void *at = member_of(m, f),
             *value = f->label == PROTOBUF_C_LABEL_REPEATED ? *(void **)at : at;
        if (f->type == PROTOBUF_C_TYPE_BYTES) free(((ProtobufCBinaryData *)value)->data);
        if (f->type == PROTOBUF_C_TYPE_MESSAGE) empty(*(ProtobufCMessage **)value);
        if (value != at) free(value);
    }
    free(m);
}

/* Puts each bad text into each text field of `m` in turn and asks the check of `whole`. */
static int spoil(int type, ProtobufCMessage *whole, ProtobufCMessage *m)
{
    struct cn_error err;
    int n = 0;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        void *at = member_of(m, f),
             *value = f->label == PROTOBUF_C_LABEL_REPEATED ? *(void **)at : at;
        if (f->type == PROTOBUF_C_TYPE_MESSAGE)
            n += spoil(type, whole, *(ProtobufCMessage **)value);
        if (f->type != PROTOBUF_C_TYPE_STRING) continue;
        char **text = value, *kept = *text;
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
            *text = (char *)bad[k];
            if (!pr_check(type, whole, &err))
                fail_msg("%s.%s takes the bad text %zu", m->descriptor->short_name, f->name, k);
            for (const char *c = err.text; *c; c++) assert_true((unsigned char)*c >= 32);
        }
        *text = kept;
        n++;
    }
    return n;
}

static void no_text_carries_control_characters(void **state)
{
    struct cn_error err;
    int fields = 0;
    for (const struct pr_message_info *info = pr_message_table(); info->name; info++) {
        if (info->roles == 0xff) continue; /* the coordinator's own */
        ProtobufCMessage *m = fill(info->descriptor);
        if (pr_check(info->type, m, &err)) fail_msg("%s: %s", info->name, err.text);
        fields += spoil(info->type, m, m);
        empty(m);
    }
    assert_int_equal(fields, FIELDS); /* a new one is found by itself, and counted here */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_text_carries_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
