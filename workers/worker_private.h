/* workers/worker_private.h - the worker's state, shared by worker.c (the talking thread), slot.c
 * (the computing ones) and held.c (what we hold).
 */
#ifndef CINCH_WORKERS_WORKER_PRIVATE_H
#define CINCH_WORKERS_WORKER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "cpu/measure/corelock.h"
#include "workers/datasets.h"
#include "workers/device.h"
#include "workers/engines.h"
#include "workers/exec.h"
#include "workers/link.h"
#include "workers/outbox.h"
#include "workers/tuner.h"
#include "workers/worker.h"

#define WORKER_MAX_SLOTS 64

enum stop { GO_ON = 0, HAND_BACK = 1, NOT_OURS = 2, OUT_OF_TIME = 3 };

/* One lease, from its grant until the coordinator has answered its last message. Freed by the talking
 * thread's lists only; a slot holds it while its job runs. */
struct held {
    struct held *next;
    uint64_t job;
    uint32_t attempt;
    uint64_t unit;       /* the first job of the gang that it is part of; 0: alone */
    atomic_bool started; /* else it waits in the queue and may be taken back */
    atomic_int stop;     /* enum stop; only ever grows */
    int64_t deadline_ms; /* 0: none; set when the job begins */
    atomic_uint epoch;   /* the last one seen, for checkpoints */
    int64_t told_ms;     /* last progress within an epoch; slot only */
    _Atomic double rate; /* records per second, for --slots auto */
};

/* What is leased together: a job, or a gang. */
struct unit {
    struct unit *next;
    Cinch__LeaseGrant *grant; /* owned */
    int n;
    struct held *held[NN_MAX_GANG]; /* borrowed from worker.held */
};

struct slot {
    struct worker *w;
    int index;
    pthread_t thread;
    bool started;
    struct nn_backend *backend; /* made at the first training job */
    struct pr_client *client;   /* for inputs and datasets; kept from unit to unit */
    struct unit *unit;          /* being run; NULL between two. This thread only */
    char scratch[64];           /* a folder of its own for what a child reads */
};

struct worker {
    struct worker_options o;
    char endpoint[512], name[160], host[80];
    struct pr_key key;
    bool has_key;
    void *zmq, *own_zmq;
    struct link *link;
    struct outbox *outbox;
    struct datasets *datasets;
    struct device *device;   /* trainers */
    struct engines *engines; /* of a GPU; NULL: CPU */
    struct corewatch *watch;
    struct corelock *kept_core;
    uint8_t instance[PR_INSTANCE_BYTES];
    int capacity; /* units asked for, prefetched ones included */

    pthread_mutex_t lock;
    pthread_cond_t work; /* a unit was queued, or the end has come */
    struct held *held;
    struct unit *queue;
    int n_slots, busy; /* slots that may take work; that have some */
    int waiting;       /* of the busy ones: for memory (short.c) */
    bool leaving;      /* slots: take nothing more */
    struct slot slot[WORKER_MAX_SLOTS];
    int started;     /* threads of `slot` */
    bool refused;    /* a job found no memory on the device: one slot fewer */
    bool auto_slots; /* talking thread: `tuner` decides n_slots */
    struct tuner tuner;
    int64_t told_ms; /* when the tuner was last told */

    atomic_int stop_asked;
    atomic_bool lost;       /* the machine failed: the worker leaves */
    struct cn_error lost_why; /* set before `lost` */
    bool draining, left;    /* talking thread */
    int64_t quiet_since_ms; /* nothing held any more since; 0: something is */
    pthread_t thread;       /* worker_start */
    bool threaded;
    int result;
    struct cn_error error;
};

/* held.c: the lists; all with w->lock held. */
struct held *held_find(struct worker *w, uint64_t job, uint32_t attempt);
void held_remove(struct worker *w, struct held *h); /* frees it */
void held_stop(struct held *h, enum stop why);
/* Makes a unit of a grant, without the leases that are held already or have nothing in them. The
 * grant is taken. NULL: nothing new, or out of memory. */
struct unit *unit_create(struct worker *w, Cinch__LeaseGrant *grant);
void unit_destroy(struct unit *u); /* not its leases; accepts NULL */
void queue_add(struct worker *w, struct unit *u);
/* Takes the queued units that have no lease left to run; the caller destroys the list. */
struct unit *queue_take_all(struct worker *w);

/* Everything a hello points to. */
struct introduction {
    Cinch__WorkerInfo info;
    Cinch__JobKind kind[3];
    char *allocator[3];
    ProtobufCBinaryData dataset[PR_MAX_DATASETS];
    struct cn_hash *hash; /* owned */
    Cinch__Held held[PR_MAX_HELD], *held_list[PR_MAX_HELD];
};

/* introduce.c */
int introduce(struct introduction *in, struct worker *w, struct cn_error *err);
/* Lists the leases held in in->held_list; how many. Takes w->lock. */
size_t introduction_held(struct introduction *in, struct worker *w);

/* slot.c */
void *slot_main(void *slot);
void slot_clear(struct slot *s); /* after its thread has ended */

#endif
