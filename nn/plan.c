/* nn/plan.c - see plan.h. Greedy by size: the largest buffer first, each at the lowest offset where
 * it meets no buffer that is alive at the same time (Pisarchyk & Lee, "Efficient memory management
 * for deep neural net inference", 2020). */
#include "nn/plan.h"

int nn_plan_add(struct nn_plan *p, size_t bytes, int from, int to)
{
    if (p->n < NN_PLAN_MAX)
        p->buffer[p->n] = (struct nn_plan_buffer){(bytes + 255) / 256 * 256, 0, from, to};
    return p->n++;
}

void nn_plan_use(struct nn_plan *p, int number, int time)
{
    if (number < 0 || number >= NN_PLAN_MAX) return;
    struct nn_plan_buffer *b = &p->buffer[number];
    if (time < b->from) b->from = time;
    if (time > b->to) b->to = time;
}

static int meet(const struct nn_plan_buffer *a, const struct nn_plan_buffer *b)
{
    int alive = a->from <= b->to && b->from <= a->to;
    return alive && a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
}

/* Moves b up past whatever it meets among the placed until it meets nothing. */
static void settle(struct nn_plan *p, const char *placed, struct nn_plan_buffer *b)
{
    b->offset = 0;
    for (int again = 1; again;) {
        again = 0;
        /* the lowest free place: step past the buffer that ends first among those in the way */
        size_t next = (size_t)-1;
        for (int i = 0; i < p->n; i++) {
            size_t end = p->buffer[i].offset + p->buffer[i].bytes;
            if (placed[i] && meet(b, &p->buffer[i]) && end < next) next = end;
        }
        if (next != (size_t)-1) {
            b->offset = next;
            again = 1;
        }
    }
}

int nn_plan_place(struct nn_plan *p, size_t *bytes, struct cn_error *err)
{
    char placed[NN_PLAN_MAX] = {0};
    if (p->n > NN_PLAN_MAX)
        return cn_fail(err, CN_ELIMIT, "a net needs more than %d buffers", NN_PLAN_MAX);
    *bytes = 0;
    for (int done = 0; done < p->n; done++) {
        int largest = -1;
        for (int i = 0; i < p->n; i++)
            if (!placed[i] && (largest < 0 || p->buffer[i].bytes > p->buffer[largest].bytes))
                largest = i;
        struct nn_plan_buffer *b = &p->buffer[largest];
        settle(p, placed, b);
        placed[largest] = 1;
        if (b->offset + b->bytes > *bytes) *bytes = b->offset + b->bytes;
    }
    return 0;
}

size_t nn_plan_offset(const struct nn_plan *p, int number)
{
    return p->buffer[number].offset;
}
