/* coordinator/hashing.c - see hashing.h. */
#include "coordinator/hashing.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct hashing {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct cn_hasher *into; /* NULL: nothing to do */
    const void *data;
    size_t n;
    bool stop;
};

static void *run(void *arg)
{
    struct hashing *h = arg;
    pthread_mutex_lock(&h->lock);
    while (!h->stop) {
        if (!h->into) {
            pthread_cond_wait(&h->work, &h->lock);
            continue;
        }
        pthread_mutex_unlock(&h->lock);
        cn_hasher_add(h->into, h->data, h->n);
        pthread_mutex_lock(&h->lock);
        h->into = NULL;
        pthread_cond_signal(&h->done);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

struct hashing *hashing_create(void)
{
    struct hashing *h = calloc(1, sizeof *h);
    if (!h) return NULL;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->work, NULL);
    pthread_cond_init(&h->done, NULL);
    if (!pthread_create(&h->thread, NULL, run, h)) return h;
    free(h);
    return NULL;
}

void hashing_destroy(struct hashing *h)
{
    if (!h) return;
    pthread_mutex_lock(&h->lock);
    h->stop = true;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    pthread_cond_destroy(&h->work);
    pthread_cond_destroy(&h->done);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

void hashing_begin(struct hashing *h, struct cn_hasher *into, const void *data, size_t n)
{
    pthread_mutex_lock(&h->lock);
    h->data = data;
    h->n = n;
    h->into = into;
    pthread_cond_signal(&h->work);
    pthread_mutex_unlock(&h->lock);
}

void hashing_wait(struct hashing *h)
{
    pthread_mutex_lock(&h->lock);
    while (h->into) pthread_cond_wait(&h->done, &h->lock);
    pthread_mutex_unlock(&h->lock);
}
