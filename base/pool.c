/* base/pool.c - see pool.h. Threads sleep on a condition between loops and take items from a shared
 * counter. */
#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

struct cn_pool {
    int threads;
    pthread_t *tid;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    unsigned long generation; /* counts loops; a thread that sees a new one joins it */
    int busy;                 /* helpers still inside the current loop */
    bool stop;
    cn_pool_f fn;
    void *arg;
    int n;
    atomic_int next;
};

struct member {
    struct cn_pool *pool;
    int thread;
};

static void take_items(struct cn_pool *p, int thread)
{
    for (;;) {
        int item = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (item >= p->n) return;
        p->fn(p->arg, item, thread);
    }
}

static void *helper(void *arg)
{
    struct member m = *(struct member *)arg;
    free(arg);
    struct cn_pool *p = m.pool;
    unsigned long seen = 0;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->stop && p->generation == seen) pthread_cond_wait(&p->wake, &p->lock);
        if (p->stop) break;
        seen = p->generation;
        pthread_mutex_unlock(&p->lock);
        take_items(p, m.thread);
        pthread_mutex_lock(&p->lock);
        if (--p->busy == 0) pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

struct cn_pool *cn_pool_create(int threads)
{
    if (threads < 1) threads = 1;
    struct cn_pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->tid = calloc((size_t)threads, sizeof *p->tid);
    if (!p->tid) {
        free(p);
        return NULL;
    }
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    p->threads = 1;
    for (int i = 1; i < threads; i++) {
        struct member *m = malloc(sizeof *m);
        if (m) *m = (struct member){p, i};
        if (!m || pthread_create(&p->tid[i], NULL, helper, m)) {
            free(m);
            break; /* fewer threads: slower, same results */
        }
        p->threads++;
    }
    return p;
}

void cn_pool_destroy(struct cn_pool *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i < p->threads; i++) pthread_join(p->tid[i], NULL);
    pthread_mutex_destroy(&p->lock);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->done);
    free(p->tid);
    free(p);
}

int cn_pool_threads(const struct cn_pool *p)
{
    return p ? p->threads : 1;
}

void cn_pool_run(struct cn_pool *p, int n, cn_pool_f fn, void *arg)
{
    if (!p || p->threads == 1 || n <= 1) {
        for (int i = 0; i < n; i++) fn(arg, i, 0);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->arg = arg;
    p->n = n;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    p->busy = p->threads - 1;
    p->generation++;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    take_items(p, 0);
    pthread_mutex_lock(&p->lock);
    while (p->busy) pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
