/* proto/message.c - the table of messages, header codec, and decoding under a memory cap; see
 * message.h. */
#include "proto/message.h"

#include <stdlib.h>
#include <string.h>

static const struct pr_message_info table[] = {
#define X(n, NAME, field, Type, roles, largest)                                                    \
    {PR_##NAME, #field, &cinch__##field##__descriptor, roles, largest},
    PR_MESSAGE_MAP(X)
#undef X
        {0, NULL, NULL, 0, 0},
};

const struct pr_message_info *pr_message_table(void)
{
    return table;
}

const struct pr_message_info *pr_message_info(int type)
{
    for (const struct pr_message_info *m = table; m->name; m++)
        if ((int)m->type == type) return m;
    return NULL;
}

static void put_le(uint8_t *out, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(v >> (8 * i));
}

static uint64_t get_le(const uint8_t *in, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)in[i] << (8 * i);
    return v;
}

void pr_header_put(uint8_t out[PR_HEADER_BYTES], const struct pr_header *h)
{
    memcpy(out, "CNH1", 4);
    put_le(out + 4, h->type, 2);
    put_le(out + 6, (uint16_t)h->code, 2);
    put_le(out + 8, h->id, 8);
}

int pr_header_get(struct pr_header *h, const void *data, size_t n, struct cn_error *err)
{
    const uint8_t *in = data;
    if (n != PR_HEADER_BYTES || memcmp(in, "CNH1", 4))
        return cn_fail(err, CN_ECORRUPT, "message header: not cinch's (%zu bytes)", n);
    h->type = (uint16_t)get_le(in + 4, 2);
    h->code = (int16_t)get_le(in + 6, 2);
    h->id = get_le(in + 8, 8);
    return 0;
}

/* protobuf-c takes memory in proportion to what the bytes announce (an empty submessage is two
 * bytes on the wire and a hundred in memory), so decoding runs on an allocator that stops at a cap.
 */
struct budget {
    size_t left;
    int spent; /* the cap was hit */
};

static void *budget_alloc(void *data, size_t n)
{
    struct budget *b = data;
    size_t cost = n + 32; /* the allocator's own part, more than that of a short text */
    if (cost > b->left) {
        b->spent = 1;
        return NULL;
    }
    b->left -= cost;
    return malloc(n);
}

static void budget_free(void *data, void *p)
{
    free(p);
}

int pr_unpack(ProtobufCMessage **out, int type, const void *data, size_t n, struct cn_error *err)
{
    *out = NULL;
    const struct pr_message_info *m = pr_message_info(type);
    if (!m) return cn_fail(err, CN_EUNSUPPORTED, "message type %d is not known here", type);
    if (n > PR_MAX_REPLY) return cn_fail(err, CN_ELIMIT, "%s: %zu bytes", m->name, n);
    struct budget b = {.left = PR_MAX_UNPACKED + n};
    ProtobufCAllocator a = {budget_alloc, budget_free, &b};
    *out = protobuf_c_message_unpack(m->descriptor, &a, n, data);
    if (*out) return 0;
    if (b.spent) return cn_fail(err, CN_ELIMIT, "%s: takes too much memory to decode", m->name);
    return cn_fail(err, CN_ECORRUPT, "%s: malformed body of %zu bytes", m->name, n);
}

void pr_free(void *message)
{
    if (message) protobuf_c_message_free_unpacked(message, NULL);
}

static const struct {
    const char *name;
    unsigned set;
} role[] = {
    {"read", PR_ROLE_READ},
    {"submit", PR_ROLE_READ | PR_ROLE_SUBMIT},
    {"worker", PR_ROLE_WORKER},
    {"admin", PR_ROLE_READ | PR_ROLE_SUBMIT | PR_ROLE_WORKER | PR_ROLE_ADMIN},
};

unsigned pr_role_parse(const char *name)
{
    for (size_t i = 0; i < sizeof role / sizeof *role; i++)
        if (!strcmp(role[i].name, name)) return role[i].set;
    return 0;
}

const char *pr_role_name(unsigned role_set)
{
    for (size_t i = 0; i < sizeof role / sizeof *role; i++)
        if (role[i].set == role_set) return role[i].name;
    return "?";
}
