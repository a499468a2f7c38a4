/* coordinator/account.h - who holds how much of the coordinator's memory, and whose turn it is.
 *
 * Every connection belongs to an account: that of its key, on ipc that of the user that it names;
 * whoever has not said hello yet shares the strangers' one. What a connection holds in messages not
 * finished or not handled (in) and in replies not read (out) is charged to its account and to the
 * whole, but for a small part that everybody may always hold, so that a short question passes
 * whatever others do. Who is over the budget waits; what makes no progress meanwhile is closed by
 * the door (door.h). Accounts take turns, and in an account its connections: a thousand connections
 * of one key weigh as much as the one of another.
 */
#ifndef CINCH_COORDINATOR_ACCOUNT_H
#define CINCH_COORDINATOR_ACCOUNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    AC_STRANGER = 64 << 10,      /* bytes that who has not said hello may hold ... */
    AC_STRANGER_IPC = 128 << 10, /* ... where file permissions have let it in */
    AC_FREE_IN = 16 << 10,       /* of a connection; not charged */
    AC_FREE_OUT = 32 << 10,
    AC_IN = 12 << 20, /* of an account */
    AC_OUT = 12 << 20,
    AC_ALL_IN = 48 << 20, /* of all accounts */
    AC_ALL_OUT = 40 << 20,
    AC_RATE = 2000,   /* messages a second that one account's clients may send for long ... */
    AC_BURST = 20000, /* ... and at once */
};

struct conn;

struct account {
    struct account *next;          /* in its bucket */
    char name[160];                /* "key" + public key, or "user" + name */
    uint32_t connections, charges; /* what refers to it */
    size_t in, out;
    double tokens;
    int64_t last;        /* ms, of the tokens and of the last use */
    uint64_t aside_turn; /* when it was last given the thread that expands grids */
    /* whose turn */
    struct conn *first, *last_conn;
    struct account *ring_next;
    bool in_ring;
};

#define AC_BUCKETS 256

struct accounts {
    struct account *bucket[AC_BUCKETS];
    uint32_t n;
    size_t in, out;
    struct account strangers;
    struct account *ring_first, *ring_last;
};

void ac_close(struct accounts *all);
/* The account of that name, made when it is new; the strangers' when there is no room. */
struct account *ac_of(struct accounts *all, const char *kind, const char *name, int64_t now);
/* Accounts that nothing refers to are forgotten once their rate has recovered. */
void ac_tick(struct accounts *all, int64_t now);

/* False: over the budget; nothing is charged then. */
bool ac_take_in(struct accounts *all, struct account *a, size_t n);
/* Charged elsewhere so far and given back there next: no budget is asked. */
void ac_move_in(struct accounts *all, struct account *a, size_t n);
void ac_give_in(struct accounts *all, struct account *a, size_t n);
/* Whether more may be begun that will be charged as out. */
bool ac_room_out(const struct accounts *all, const struct account *a);
void ac_take_out(struct accounts *all, struct account *a, size_t n);
void ac_give_out(struct accounts *all, struct account *a, size_t n);
/* One message: false when the account sends too many. */
bool ac_rate(struct account *a, double messages, int64_t now);

#endif
