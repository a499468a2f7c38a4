/* engines.c - see engines.h. Slots learn the same choices from the same file, or each its own shapes': the
 * union is kept, by op and shape. */
#include "workers/engines.h"

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MOST 1000 /* ops and shapes told; a study has about a hundred */

struct engines {
    pthread_mutex_t lock;
    json_t *by_op; /* op and shape -> its object */
    bool news;
};

struct engines *engines_create(void)
{
    struct engines *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    pthread_mutex_init(&e->lock, NULL);
    e->by_op = json_object();
    return e;
}

void engines_destroy(struct engines *e)
{
    if (!e) return;
    json_decref(e->by_op);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

void engines_learn(struct engines *e, struct device *d, struct nn_backend *be)
{
    int n = 0;
    char *text = e ? device_engines(d, be, &n) : NULL;
    json_t *list = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (!list) return;
    pthread_mutex_lock(&e->lock);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *o = json_array_get(list, i);
        const char *op = json_string_value(json_object_get(o, "op"));
        json_t *known = op ? json_object_get(e->by_op, op) : o;
        if (json_equal(known, o) || (!known && json_object_size(e->by_op) >= MOST)) continue;
        e->news |= json_object_set(e->by_op, op, o) == 0;
    }
    pthread_mutex_unlock(&e->lock);
    json_decref(list);
}

char *engines_news(struct engines *e)
{
    char *text = NULL;
    const char *op;
    json_t *o;
    if (!e) return NULL;
    pthread_mutex_lock(&e->lock);
    json_t *list = e->news ? json_array() : NULL;
    e->news = false;
    if (list) json_object_foreach(e->by_op, op, o) json_array_append(list, o);
    if (list) text = json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(4));
    json_decref(list);
    pthread_mutex_unlock(&e->lock);
    return text;
}

void engines_again(struct engines *e)
{
    if (!e) return;
    pthread_mutex_lock(&e->lock);
    e->news = json_object_size(e->by_op) > 0;
    pthread_mutex_unlock(&e->lock);
}
