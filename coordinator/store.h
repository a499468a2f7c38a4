/* coordinator/store.h - the queue on disk: SQLite, WAL, synchronous FULL, one writer, group commit.
 *
 * What the state of the scheduler becomes is noted as operations, which lie in memory until
 * st_commit writes all of them in one transaction with one fsync. When that fails (disk full,
 * database locked) they stay, and the next st_commit tries again: memory runs ahead of the disk,
 * but no answer does, because the shell sends answers only after a commit that succeeded.
 *
 * Checkpoints of the write-ahead log run in a thread with a connection of its own, so the loop
 * never waits for them.
 */
#ifndef CINCH_COORDINATOR_STORE_H
#define CINCH_COORDINATOR_STORE_H

#include "coordinator/sched.h"
#include "proto/cinch.pb-c.h"

#define ST_SCHEMA 4 /* migrations from every older one are in migrate.c */

struct store;
struct sqlite3;

enum st_kind {
    ST_JOBS,          /* jobs first..last are new: a from the scheduler's tables */
    ST_JOB,           /* job: its state, attempt, counts, worker */
    ST_RUN_NEW,       /* run */
    ST_RUN,           /* run: priority, paused, cancelled */
    ST_WANT,          /* run wants jobs first..last */
    ST_BASE,          /* base `first` is new */
    ST_WORKER,        /* worker: who it is */
    ST_EVENT,         /* run, job, attempt, worker, why, state, text */
    ST_OUTPUT,        /* job: text = role, hash, size */
    ST_METRICS,       /* job: text = JSON, size = wall ms, worker */
    ST_CHECKPOINT,    /* job: hash, size, first = epoch */
    ST_NO_CHECKPOINT, /* job */
    ST_CURVE,         /* job, attempt, first = epoch, f = figures */
    ST_DATASET, /* text = name, text2 = info, text3 = owner, hash = fingerprint, hash2 = blob, size */
    ST_KEY,     /* text = name, text2 = role, text3 = public key */
    ST_KEY_REVOKE, /* text3 = public key */
    ST_HOLD,       /* text = the user who sent blob `hash` of `size` */
    ST_UNHOLD,     /* hash */
    ST_NO_OUTPUT,  /* job: hash is not its output any more */
    ST_KINDS,
};

struct st_op {
    uint8_t kind, why, state;
    uint32_t run, job, attempt, worker, first, last;
    int64_t time; /* wall, ms */
    uint64_t size;
    struct cn_hash hash, hash2;
    double f[6];                /* train_loss, val_loss, val_score, lr, records_per_s */
    char *text, *text2, *text3; /* owned by the store once noted */
};

/* A run as people know it; the scheduler's sc_run of the same id is what it does. */
struct st_run {
    char *name, *dataset;
    uint8_t nonce[PR_INSTANCE_BYTES];
    struct cn_hash fingerprint;
    int64_t created;
    uint32_t cells;
    bool fresh;
};

/* What is loaded beside the scheduler's tables, and kept in memory. */
struct st_state {
    struct st_run *run; /* by id */
    uint32_t n_runs, cap_runs;
    struct st_dataset {
        char *name, *info;
        char *owner; /* the user who added it; "": from a version that did not keep that */
        struct cn_hash fingerprint, blob;
        uint64_t size; /* 0: no copy */
    } * dataset;
    uint32_t n_datasets, cap_datasets;
    struct st_key {
        char name[PR_MAX_NAME + 1], role[16], public_key[41];
        int64_t created, revoked; /* 0: live */
    } * key;
    uint32_t n_keys, cap_keys;
    uint64_t last_event;
    uint32_t set_aside; /* rows that make no sense */
};

/* Opens (and creates or migrates) STATE/queue.db and loads everything into *s and *state. doubt: the
 * last coordinator did not end in order, so the file is checked first. CN_EVERSION: made by a newer
 * cinch; CN_ECORRUPT. */
int st_open(struct store **st, const char *state_dir, bool doubt, struct sched *s,
            struct st_state *state, struct cn_error *err);
void st_close(struct store *st); /* accepts NULL; uncommitted operations are lost */
void st_state_clear(struct st_state *state);

/* Notes an operation (texts are taken over, freed by the store). CN_ENOMEM. */
int st_note(struct store *st, struct st_op op);
bool st_pending(const struct store *st);
/* Writes what was noted. On failure everything stays noted: CN_ENOSPACE, CN_EBUSY; or st_final. */
enum { ST_PART = 1 };
/* Writes some thousand rows. ST_PART: there are more, call again; only then is anything on the disk.
 * What is noted meanwhile joins them. */
int st_commit(struct store *st, struct cn_error *err);
/* CN_EIO or CN_ECORRUPT once the disk has failed, in writing, reading or moving the log: what is noted
 * will never be written, and nothing that is read can be relied on. 0: all is well. */
int st_final(struct store *st, struct cn_error *err);
uint64_t st_next_event(const struct store *st); /* sequence number that the next noted event gets */

/* ---- questions; they see what is committed */
struct st_blob {
    char role[32];
    struct cn_hash hash;
    uint64_t size;
};
/* Up to cap outputs of a job; returns how many, or negative. */
int st_outputs(struct store *st, uint32_t job, struct st_blob *out, int cap);
/* 1: *out and *epoch filled; 0: none. */
int st_checkpoint(struct store *st, uint32_t job, struct st_blob *out, uint32_t *epoch);
/* malloc'ed JSON text, or NULL. */
char *st_metrics(struct store *st, uint32_t job, int64_t *wall_ms);
char *st_grid(struct store *st, uint32_t run);
/* Whether any output, checkpoint or dataset needs the blob. */
bool st_blob_needed(struct store *st, const struct cn_hash *hash);

struct st_event {
    uint64_t seq;
    int64_t time;
    int why, state;
    uint32_t run, job, attempt;
    const char *worker, *text; /* valid during the call */
};
/* Events of a job (job != 0) or of a run and its jobs, oldest first, at most `limit` (the newest
 * ones). */
int st_events(struct store *st, uint32_t run, uint32_t job, int limit,
              int (*each)(void *arg, const struct st_event *e), void *arg);
struct st_point {
    uint32_t attempt, epoch;
    double f[6];
};
int st_curve(struct store *st, uint32_t job, int (*each)(void *arg, const struct st_point *p),
             void *arg);
/* The next blobs after `after`, in the order of their hashes, at most cap; returns how many. */
int st_next_blobs(struct store *st, const struct cn_hash *after, struct st_blob *out, int cap);
/* Calls `each` for every job that has the blob as an output, or as its last checkpoint. */
int st_jobs_of_blob(struct store *st, const struct cn_hash *hash,
                    int (*each)(void *arg, uint32_t job, bool checkpoint, uint64_t size),
                    void *arg);
/* Who sent a blob: true, user and *size filled. */
bool st_held(struct store *st, const struct cn_hash *hash, char user[PR_MAX_NAME + 1],
             uint64_t *size);
/* Blobs sent before `before` (wall, ms) that nothing refers to; as st_next_blobs. */
int st_orphans(struct store *st, int64_t before, struct st_blob *out, int cap);
/* Bytes by user (of what they sent), then by job (of outputs and checkpoints; user NULL). */
int st_each_size(struct store *st,
                 int (*each)(void *arg, const char *user, uint32_t job, uint64_t size), void *arg);

/* migrate.c: brings an open database to ST_SCHEMA. */
int st_migrate(struct sqlite3 *db, const char *path, struct cn_error *err);
/* load.c */
int st_load(struct sqlite3 *db, struct sched *s, struct st_state *state, struct cn_error *err);
/* CN_ECORRUPT with what is wrong. */
int st_quick_check(struct sqlite3 *db, const char *path, struct cn_error *err);
int st_fail(struct sqlite3 *db, struct cn_error *err, const char *what);

#endif
