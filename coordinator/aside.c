/* coordinator/aside.c - see aside.h. */
#include "coordinator/aside.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct aside {
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t begun;
    enum { FREE, ASKED, READY, TAKEN } state; /* under the lock */
    bool closing;                             /* under the lock */
    atomic_bool stop;
    const Cinch__Submit *submit;
    uint32_t nonce;
    int wake_fd, rc;
    struct ex_grid grid;
    struct cn_error error;
};

static void *work(void *arg)
{
    struct aside *a = arg;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        while (a->state != ASKED && !a->closing) pthread_cond_wait(&a->begun, &a->lock);
        if (a->closing) break;
        pthread_mutex_unlock(&a->lock);
        a->rc = ex_expand_until(&a->grid, a->submit, a->nonce, &a->stop, &a->error);
        pthread_mutex_lock(&a->lock);
        a->state = READY;
        uint64_t one = 1;
        if (write(a->wake_fd, &one, sizeof one) < 0) continue; /* it is looked at anyway */
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

int as_open(struct aside **out, int wake_fd, struct cn_error *err)
{
    struct aside *a = calloc(1, sizeof *a);
    *out = a;
    if (!a) return cn_fail(err, CN_ENOMEM, "out of memory");
    a->wake_fd = wake_fd;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->begun, NULL);
    sigset_t all, old; /* signals belong to the program's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    a->running = !pthread_create(&a->thread, NULL, work, a);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return a->running ? 0 : cn_fail(err, CN_ENOMEM, "coordinator: no thread");
}

void as_close(struct aside *a)
{
    if (!a) return;
    atomic_store(&a->stop, true);
    pthread_mutex_lock(&a->lock);
    a->closing = true;
    pthread_cond_signal(&a->begun);
    pthread_mutex_unlock(&a->lock);
    if (a->running) pthread_join(a->thread, NULL);
    if (a->state == READY && !a->rc) ex_clear(&a->grid);
    pthread_cond_destroy(&a->begun);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static int state_of(struct aside *a)
{
    pthread_mutex_lock(&a->lock);
    int state = (int)a->state;
    pthread_mutex_unlock(&a->lock);
    return state;
}

bool as_free(struct aside *a)
{
    return state_of(a) == FREE;
}

void as_start(struct aside *a, const Cinch__Submit *s, uint32_t nonce)
{
    pthread_mutex_lock(&a->lock);
    a->submit = s;
    a->nonce = nonce;
    a->state = ASKED;
    atomic_store(&a->stop, false);
    pthread_cond_signal(&a->begun);
    pthread_mutex_unlock(&a->lock);
}

bool as_ready(struct aside *a)
{
    return state_of(a) == READY;
}

int as_take(struct aside *a, struct ex_grid *g, struct cn_error *err)
{
    pthread_mutex_lock(&a->lock);
    a->state = TAKEN;
    *g = a->grid;
    if (a->rc && err) *err = a->error;
    memset(&a->grid, 0, sizeof a->grid);
    int rc = a->rc;
    pthread_mutex_unlock(&a->lock);
    return rc;
}

void as_stop(struct aside *a)
{
    atomic_store(&a->stop, true);
}

void as_release(struct aside *a)
{
    pthread_mutex_lock(&a->lock);
    a->state = FREE;
    a->submit = NULL;
    pthread_mutex_unlock(&a->lock);
}
