/* coordinator/sched.h - the scheduler: which job runs where, as pure functions over tables in
 * memory.
 *
 * Nothing here sees a socket, a file or a clock: events come in with the time, effects come out as
 * a list that the shell (service.c) carries out and makes durable. Ids are indexes into the tables,
 * from 1; 0 is none.
 *
 * Rules:
 *  - one attempt of a job is live at a time; attempt numbers only grow; whatever carries another
 * number is refused;
 *  - a job that several runs want stands in a queue of each: it runs when the first of them has its
 * turn, under that run's priority and for that run's user, so nobody's submit moves another's job back
 * or makes another pay; its time limit is the longest of its live runs;
 *  - choice: priority of the run, then the user with the fewest leases (ties: served longest ago),
 * then the older run, then the longest remaining chain, then the older job;
 *  - every slot of every worker is filled before anything is prefetched;
 *  - a lost worker's jobs go elsewhere at once and keep their crash count; if it comes back before
 * they were leased anew, it keeps them.
 */
#ifndef CINCH_COORDINATOR_SCHED_H
#define CINCH_COORDINATOR_SCHED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "proto/limits.h"

enum sc_state {
    SC_WAITING,   /* for parents */
    SC_READY,     /* could run */
    SC_LEASED,    /* at a worker */
    SC_SUCCEEDED, /* final */
    SC_FAILED,    /* until retried */
    SC_CANCELLED, /* until retried, or submitted again */
    SC_BLOCKED,   /* a parent failed or was cancelled; comes back with its retry */
    SC_STATES,
};

enum sc_event {
    SC_EV_READY,   /* all parents succeeded */
    SC_EV_WAIT,    /* parents are alive again */
    SC_EV_BLOCK,   /* a parent will not succeed */
    SC_EV_LEASE,   /* given to a worker */
    SC_EV_SUCCEED, /* result accepted */
    SC_EV_CRASH,   /* the attempt failed; another one is worth while */
    SC_EV_FAIL,    /* the attempt failed for good, or once too often */
    SC_EV_LOST,    /* the worker is gone, or handed the job back */
    SC_EV_ADOPT,   /* the worker came back before the job was leased anew */
    SC_EV_CANCEL,  /* */
    SC_EV_RETRY,   /* */
    SC_EV_DAMAGE,  /* what it had brought is gone */
    SC_EVENTS,
};

/* The state that `event` leads to from `state`, or -1: not possible there. */
int sc_next(enum sc_state state, enum sc_event event);
const char *sc_state_name(int state);

/* Why a job changed: goes into its event log. */
enum sc_why {
    SC_WHY_SUBMIT,
    SC_WHY_PARENTS,
    SC_WHY_GRANT,
    SC_WHY_RESULT,
    SC_WHY_CRASH,
    SC_WHY_FAIL,
    SC_WHY_LOST,
    SC_WHY_RELEASE,
    SC_WHY_ADOPT,
    SC_WHY_CANCEL,
    SC_WHY_RETRY,
    SC_WHY_TIME,
    SC_WHY_STEAL,
    SC_WHY_DAMAGE,
    SC_WHYS,
};

struct sc_job { /* 136 bytes: 100,000 of these are nothing */
    struct cn_hash key;
    uint64_t seed;
    double keep;
    int64_t since;      /* LEASED: when it was leased, or seen to have started; READY: since when */
    uint32_t base;      /* id in bases */
    uint32_t shape;     /* equal shapes can train as one gang */
    uint32_t parent[2]; /* jobs: of the roles that the kind's inputs name, in order */
    uint32_t child;     /* head in edges */
    uint32_t want;      /* head in wants: the runs that want it */
    uint32_t attempt;   /* of the live or last lease */
    uint32_t worker;    /* LEASED: at; READY: the lost one that may still come back with it, or 0 */
    uint32_t unit;      /* LEASED in a gang: its number; 0: alone */
    uint32_t next_lease, prev_lease; /* LEASED: of the same worker */
    uint32_t
        queued;     /* READY: in so many queues, one of each live run that wants it; 0: held back */
    uint32_t payer; /* LEASED: the user whom the lease counts for */
    uint32_t limit_s; /* LEASED: the time limit that the lease was given with; 0: none */
    uint32_t nonce;
    uint16_t rounds, round;
    uint16_t chain; /* jobs on the longest way from here to the end, itself included */
    uint8_t kind, distilled, state, norm; /* norm: id */
    uint8_t crashes, lost;
    uint8_t started; /* LEASED: the worker has said so */
    uint8_t broken;  /* its row in the store makes no sense: it is kept, and never runs */
};

struct sc_edge {
    uint32_t job, next;
};

struct sc_want {
    uint32_t run, job;
    uint32_t next_of_job, next_of_run;
    uint32_t queue, heap; /* READY: which queue of the run, place in its heap + 1; 0: in none */
};

struct sc_base { /* what thousands of jobs share; the body is opaque here */
    struct cn_hash hash;
    uint64_t gpu_bytes;  /* needs */
    uint32_t gpus;       /* needs: cards at once; 0: any worker. Such a job is not ganged */
    uint32_t allocators; /* needs: mask over the places of PR_WORDS_ALLOCATOR */
    uint32_t dataset;    /* needs: id */
    uint8_t *body;
    uint32_t n_body;
    uint32_t user; /* who brought it, once a run wants a job of it */
    bool broken;   /* as sc_job's: stands for no new job */
};

struct sc_shape {
    uint32_t base;
    uint16_t rounds, round;
    uint8_t training; /* train and distill share one */
    uint8_t kind;
    double keep;
};

struct sc_queue { /* ready jobs of one run and one shape: a heap, longest chain first */
    uint32_t run, shape;
    uint32_t *heap; /* wants */
    uint32_t n, cap;
};

struct sc_run {
    uint32_t user;
    int32_t priority;
    bool paused, cancelled;
    uint32_t time_limit_s;
    uint32_t want, last_want; /* list in wants, in order */
    uint32_t count[SC_STATES];
    uint32_t jobs;
    uint32_t *queue;
    uint32_t n_queues;
};

struct sc_user {
    char *name;
    uint32_t leased;
    uint64_t served; /* sequence number of the last grant */
    /* what is kept of theirs, whatever became of it (entries.c) */
    uint32_t runs, bases;
    uint64_t jobs; /* of all their runs */
    uint64_t text; /* bytes of recipes and grids */
    /* jobs that their orders touched lately, and until when that was reckoned (entries.c) */
    double touched;
    int64_t touched_at;
};

struct sc_dataset {
    struct cn_hash fingerprint;
    bool stored; /* the coordinator has the cache: any worker can fetch it */
};

struct sc_worker {
    bool used;      /* the slot of the table is taken */
    bool connected; /* false: known from the store or lost; its leases wait for it */
    bool draining;
    bool restored; /* known from the store, and has not called since the restart */
    bool
        served; /* has held a lease: jobs and views may name it. Else its place is free when it goes */
    uint8_t instance[PR_INSTANCE_BYTES];
    char name[PR_MAX_NAME + 1], host[PR_MAX_NAME + 1], isa[32];
    uint32_t kinds; /* mask of 1 << kind */
    uint32_t slots, capacity, max_gang;
    uint64_t gpu_bytes;
    uint32_t compute_capability, gpus;
    char device[PR_MAX_NAME + 1];
    char *engines;            /* JSON array of kernel choices, owned; NULL: none told */
    uint32_t allocators;      /* mask */
    int core;                 /* reserved core, -1 none */
    struct cn_hash *datasets; /* fingerprints; of no table, so that nobody can fill one */
    uint32_t n_datasets;
    uint32_t lease; /* head of its leases */
    uint32_t units, leases;
    int64_t last_seen, since;
    uint64_t done;
};

struct sc_held {
    uint32_t job, attempt;
    bool started;
    uint64_t unit; /* of the worker's own numbering: equal for the members of a gang; 0: alone */
};

enum sc_what { SC_DO_STATE, SC_DO_GRANT, SC_DO_DROP };

struct sc_effect {
    uint8_t what, state, why;
    uint32_t job, attempt, worker, unit; /* GRANT: jobs of one unit follow each other */
};

struct sc_limits {
    int64_t lost_ms;  /* silence after which a worker is lost */
    uint32_t crashes; /* a job fails with so many */
    uint32_t losses;  /* ... or when so many workers were lost with it */
    int64_t grace_ms; /* beyond a job's time limit before the coordinator itself takes it back */
    int64_t
        steal_ms; /* a prefetched job that waits so long while another worker idles goes there */
};

struct sched {
    struct sc_limits limits;
    struct sc_job *job;
    uint32_t n_jobs, cap_jobs;
    struct sc_edge *edge;
    uint32_t n_edges, cap_edges;
    struct sc_want *want;
    uint32_t n_wants, cap_wants;
    uint32_t *table; /* key → job, open addressing */
    uint32_t table_size;
    struct sc_base *base;
    uint32_t n_bases, cap_bases;
    struct sc_shape *shape;
    uint32_t n_shapes, cap_shapes;
    uint32_t *shape_table; /* shape by what it is, open addressing */
    uint32_t shape_table_size;
    struct sc_queue *queue;
    uint32_t n_queues, cap_queues;
    uint32_t *busy; /* queues that hold something: the choice looks at these only */
    uint32_t n_busy, cap_busy;
    struct sc_run *run;
    uint32_t n_runs, cap_runs;
    struct sc_user *user;
    uint32_t n_users, cap_users;
    struct sc_dataset *dataset;
    uint32_t n_datasets, cap_datasets;
    struct sc_worker *worker;
    uint32_t n_workers, cap_workers;
    uint32_t n_ready; /* in queues */
    uint32_t next_unit;
    uint64_t next_served;
    uint32_t total[SC_STATES];
    uint32_t damages; /* results that were lost since the start */
    struct sc_effect *effect;
    uint32_t n_effects, cap_effects;
    bool nomem; /* an effect could not be noted: the shell must stop */
};

struct sched *sc_create(const struct sc_limits *limits); /* NULL limits: the defaults */
void sc_destroy(struct sched *s);                        /* accepts NULL */

/* ---- tables (tables.c): each returns an id, or 0 when out of memory (find: when unknown) */
uint32_t sc_user(struct sched *s, const char *name);
uint32_t sc_find_user(const struct sched *s, const char *name);
uint32_t sc_dataset(struct sched *s, const struct cn_hash *fingerprint);
uint32_t sc_find_dataset(const struct sched *s, const struct cn_hash *fingerprint);
/* Names of closed vocabularies as numbers (proto/words.h). */
int sc_norm(const char *name);      /* "" is 0; -1: unknown */
const char *sc_norm_name(int norm); /* back; "?" */
/* The mask of those known; returns how many are not. */
size_t sc_allocators(char *const *name, size_t n, uint32_t *mask);
/* Takes a copy of body. */
uint32_t sc_base(struct sched *s, const struct sc_base *base);
uint32_t sc_find_base(const struct sched *s, const struct cn_hash *hash);
uint32_t sc_find_job(const struct sched *s, const struct cn_hash *key);
uint32_t sc_find_worker(const struct sched *s, const uint8_t instance[PR_INSTANCE_BYTES]);
/* Of the live runs that want it, the one of the highest priority, the oldest of equals; 0: none. */
uint32_t sc_find_run_of(const struct sched *s, uint32_t job);
/* Seconds that an attempt may take: the most generous of its runs that are not cancelled; 0: any. */
uint32_t sc_time_limit(const struct sched *s, uint32_t job);
struct sc_job *sc_job_of(const struct sched *s, uint64_t id); /* NULL: no such job */

/* ---- filling (submit and restart) */
/* Room for one more run that wants so many jobs, some of them new, so that adding it needs little
 * more: false, and nothing has changed, when there is not that much memory. */
bool sc_reserve(struct sched *s, uint32_t wanted, uint32_t jobs, uint32_t bases);
uint32_t sc_run_add(struct sched *s, uint32_t user, int priority, bool paused,
                    uint32_t time_limit_s);
/* A new job in state WAITING that no run wants yet; parents must exist. j->state etc. are taken as
 * given when `restored`. */
uint32_t sc_job_add(struct sched *s, const struct sc_job *j, bool restored);
int sc_want_add(struct sched *s, uint32_t run, uint32_t job);
/* After all jobs and wants of a submit: retries what had failed, settles states, fills queues. */
void sc_on_submit(struct sched *s, uint32_t run, int64_t now);
/* The same for n jobs of it, from *want on (at first the run's `want`); true: there are more. */
bool sc_on_submit_part(struct sched *s, uint32_t run, uint32_t *want, uint32_t n, int64_t now);
/* After everything was restored: waits, queues, and leases of workers that have not called yet. */
void sc_on_restart(struct sched *s, int64_t now);

/* ---- workers */
/* A worker says hello, the first time or again. `held`: what it works on; what is not its own any
 * more gets a DROP effect. Returns its id; 0: no room. */
uint32_t sc_on_worker(struct sched *s, const struct sc_worker *info, const struct sc_held *held,
                      uint32_t n, int64_t now);
void sc_on_capacity(struct sched *s, uint32_t worker, uint32_t capacity);
void sc_on_engines(struct sched *s, uint32_t worker, const char *json); /* copied; for people */
/* Leases held but not listed are granted again (same attempt) when older than the last heartbeat;
 * listed ones that are not its own get a DROP. */
void sc_on_heartbeat(struct sched *s, uint32_t worker, const struct sc_held *held, uint32_t n,
                     int64_t now);
void sc_on_alive(struct sched *s, uint32_t worker, int64_t now); /* any other message */
/* 0: it is this worker's live attempt. */
int sc_live(const struct sched *s, uint32_t worker, uint64_t job, uint32_t attempt);
void sc_on_started(struct sched *s, uint32_t job, int64_t now); /* first progress */

/* SC_MACHINE_FAILED: the worker says itself that it is lost, and will not come back with the job. */
enum sc_outcome { SC_OK, SC_CRASHED, SC_HOPELESS, SC_GIVEN_BACK, SC_MACHINE_FAILED };
/* 0; 1: the same success once more (nothing changed); CN_ESTALE: not the live attempt (nothing
 * changed). */
int sc_on_result(struct sched *s, uint32_t worker, uint64_t job, uint32_t attempt,
                 enum sc_outcome outcome, int64_t now);
/* What the job had brought is not there any more: it runs again, if a run that is not cancelled wants
 * it. What is ready and builds on it waits; what runs already may have fetched it, and goes on. */
void sc_on_damage(struct sched *s, uint32_t job, int64_t now);
void sc_on_bye(struct sched *s, uint32_t worker, int64_t now);
/* Lost workers, time limits, stealing. */
void sc_on_tick(struct sched *s, int64_t now);
/* Gives out whatever can run. Call after any event. */
void sc_assign(struct sched *s, int64_t now);

/* ---- control; each returns how many jobs changed. What it does to runs in each state stands in
 * control.c. */
uint32_t sc_cancel_job(struct sched *s, uint32_t job, int64_t now);
uint32_t sc_cancel_run(struct sched *s, uint32_t run, int64_t now);
/* With what it builds on, as far as that failed or was cancelled. `run`: a cancelled one that wants it
 * and is live again for it; 0: none need be. */
uint32_t sc_retry_job(struct sched *s, uint32_t job, uint32_t run, int64_t now);
uint32_t sc_retry_run(struct sched *s, uint32_t run, int64_t now);
/* These: whether that was any change. */
bool sc_pause(struct sched *s, uint32_t run, bool paused, int64_t now);
bool sc_priority(struct sched *s, uint32_t run, int priority, int64_t now);
void sc_drain(struct sched *s, uint32_t worker, bool drain);
void sc_dataset_stored(struct sched *s, uint32_t dataset, bool stored);

/* ---- questions */
bool sc_suits(const struct sched *s, const struct sc_worker *w, const struct sc_job *j);
/* What a run is, for everyone who asks: commands, page, API, metrics. */
enum sc_run_state { SC_RUN_WAITING, SC_RUN_RUNNING, SC_RUN_DONE, SC_RUN_FAILED, SC_RUN_CANCELLED };
enum sc_run_state sc_run_state(const struct sched *s, uint32_t run);
const char *sc_run_state_name(enum sc_run_state state);  /* "waiting" .. "cancelled" */
bool sc_run_over(const struct sched *s, uint32_t run);   /* done, failed or cancelled */
bool sc_run_paused(const struct sched *s, uint32_t run); /* and not over: something is held back */
/* Whether the job failed, was cancelled or is blocked, so that a retry means something. */
bool sc_may_retry(const struct sched *s, uint32_t job);
/* In words: why the job is where it is. */
void sc_explain(const struct sched *s, uint32_t job, int64_t now, char *out, size_t cap);
void sc_explain_run(const struct sched *s, uint32_t run, int64_t now, char *out, size_t cap);

/* ---- private to sched.c, control.c, queue.c, tables.c */
bool sc__move(struct sched *s, uint32_t job, enum sc_event event, enum sc_why why, int64_t now);
bool sc__revive(struct sched *s, uint32_t job, int64_t now);
void sc__settle_children(struct sched *s, uint32_t job, int64_t now);
bool sc__cancel(struct sched *s, uint32_t job, int64_t now);
bool sc__wanted(const struct sched *s, uint32_t job,
                uint32_t but); /* by a run that is not cancelled */
void sc__drop(struct sched *s, uint32_t worker, uint32_t job, uint32_t attempt, enum sc_why why);
void sc__effect(struct sched *s, struct sc_effect e);
void sc__enqueue(struct sched *s,
                 uint32_t job); /* READY job into a queue of each live run, out of any other */
void sc__dequeue(struct sched *s, uint32_t job);
void sc__chain_grew(struct sched *s, uint32_t job); /* its place in the heap may have risen */
void sc__link(struct sched *s, uint32_t job, uint32_t worker, uint32_t unit,
              uint32_t payer); /* onto its worker's leases */
uint32_t sc__shape(struct sched *s, const struct sc_job *j);
bool sc__grow(void *array, uint32_t *cap, uint32_t need, size_t size);

#endif
