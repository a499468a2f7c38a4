/* coordinator/store_private.h - the store's inside, shared by store.c (writing), store_open.c and
 * questions.c (reading). */
#ifndef CINCH_COORDINATOR_STORE_PRIVATE_H
#define CINCH_COORDINATOR_STORE_PRIVATE_H

#include <pthread.h>
#include <sqlite3.h>

#include "coordinator/store.h"

/* Prepared statements; their text is in store.c. */
enum {
    Q_BEGIN,
    Q_COMMIT,
    Q_ROLLBACK,
    Q_JOB_NEW,
    Q_JOB,
    Q_RUN_NEW,
    Q_RUN,
    Q_WANT,
    Q_BASE,
    Q_WORKER,
    Q_EVENT,
    Q_OUTPUT,
    Q_METRICS,
    Q_CHECKPOINT,
    Q_NO_CHECKPOINT,
    Q_CURVE,
    Q_DATASET,
    Q_KEY,
    Q_KEY_REVOKE,
    Q_HOLD,
    Q_UNHOLD,
    Q_NO_OUTPUT,
    Q_HELD,
    Q_ORPHANS,
    Q_JOBS_OF_BLOB,
    Q_NEXT_BLOBS,
    Q_GET_OUTPUTS,
    Q_GET_CHECKPOINT,
    Q_GET_METRICS,
    Q_GET_GRID,
    Q_BLOB_NEEDED,
    Q_JOB_EVENTS,
    Q_RUN_EVENTS,
    Q_GET_CURVE,
    Q_COUNT,
};

struct store {
    sqlite3 *db;
    sqlite3_stmt *q[Q_COUNT];
    struct sched *s;
    struct st_state *state;
    struct st_op *op;
    uint32_t n_ops, cap_ops;
    bool begun;            /* a transaction is open: */
    uint32_t written, row; /* ... operations in it, rows of the next one */
    uint32_t left;         /* rows that this part may still write */
    uint64_t last_event;   /* noted */
    char path[4096];
    /* the thread that moves the write-ahead log into the database */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool threaded, stop;
    int wal_pages;         /* of the last commit */
    struct cn_error final; /* an error of the disk, from any thread */
};

/* One step; an error of the disk is noted as final. */
bool st__row(struct store *st, sqlite3_stmt *q);
void st__note_final(struct store *st, const struct cn_error *err);
int st__prepare(struct store *st, struct cn_error *err);
void st__free_ops(struct store *st);
void st__put_hash(sqlite3_stmt *q, int i, const struct cn_hash *h);

#endif
