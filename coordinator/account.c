/* coordinator/account.c - see account.h. */
#include "coordinator/account.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 20000, KEPT_MS = 15000 };

static struct account **bucket_of(struct accounts *all, const char *name)
{
    uint64_t h = 14695981039346656037ull;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 1099511628211ull;
    return &all->bucket[(h ^ h >> 32) % AC_BUCKETS];
}

struct account *ac_of(struct accounts *all, const char *kind, const char *name, int64_t now)
{
    char full[sizeof all->strangers.name];
    snprintf(full, sizeof full, "%s %s", kind, name);
    struct account **bucket = bucket_of(all, full), *a;
    for (a = *bucket; a; a = a->next)
        if (!strcmp(a->name, full)) return a;
    a = all->n < MOST ? calloc(1, sizeof *a) : NULL;
    if (!a) return &all->strangers;
    strcpy(a->name, full);
    a->tokens = AC_BURST;
    a->last = now;
    a->next = *bucket;
    *bucket = a;
    all->n++;
    return a;
}

void ac_tick(struct accounts *all, int64_t now)
{
    for (int i = 0; i < AC_BUCKETS; i++)
        for (struct account **at = &all->bucket[i]; *at;) {
            struct account *a = *at;
            if (a->connections || a->charges || a->in_ring || now - a->last < KEPT_MS) {
                at = &a->next;
                continue;
            }
            *at = a->next;
            free(a);
            all->n--;
        }
}

void ac_close(struct accounts *all)
{
    for (int i = 0; i < AC_BUCKETS; i++)
        while (all->bucket[i]) {
            struct account *a = all->bucket[i];
            all->bucket[i] = a->next;
            free(a);
        }
}

bool ac_take_in(struct accounts *all, struct account *a, size_t n)
{
    if (a->in + n > AC_IN || all->in + n > AC_ALL_IN) return false;
    a->in += n;
    all->in += n;
    return true;
}

void ac_move_in(struct accounts *all, struct account *a, size_t n)
{
    a->in += n;
    all->in += n;
}

void ac_give_in(struct accounts *all, struct account *a, size_t n)
{
    assert(a->in >= n && all->in >= n);
    a->in -= n;
    all->in -= n;
}

bool ac_room_out(const struct accounts *all, const struct account *a)
{
    return a->out < AC_OUT && all->out < AC_ALL_OUT;
}

void ac_take_out(struct accounts *all, struct account *a, size_t n)
{
    a->out += n;
    all->out += n;
}

void ac_give_out(struct accounts *all, struct account *a, size_t n)
{
    assert(a->out >= n && all->out >= n);
    a->out -= n;
    all->out -= n;
}

bool ac_rate(struct account *a, double messages, int64_t now)
{
    a->tokens += (double)(now - a->last) * AC_RATE / 1000;
    if (a->tokens > AC_BURST) a->tokens = AC_BURST;
    a->last = now;
    if (a->tokens < messages) return false;
    a->tokens -= messages;
    return true;
}
