/* coordinator/core.h - the coordinator's inside: the shell around the scheduler. Private to the
 * room.
 *
 * One thread runs the loop (coordinator.c): take messages (net.c) → handlers change the scheduler's
 * tables and note operations (service.c, client.c) → effects become operations and messages
 * (effects.c) → commit → what waited for the commit is sent.
 */
#ifndef CINCH_COORDINATOR_CORE_H
#define CINCH_COORDINATOR_CORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "coordinator/account.h"
#include "coordinator/aside.h"
#include "coordinator/blobs.h"
#include "coordinator/buf.h"
#include "coordinator/coordinator.h"
#include "coordinator/door.h"
#include "coordinator/mend.h"
#include "coordinator/sched.h"
#include "coordinator/store.h"
#include "proto/wire.h"

/* Where a peer is reached. */
enum co_place {
    CO_INPROC, /* ZeroMQ's ROUTER, for `cinch run` */
    CO_DOOR,   /* ipc and tcp: door.h */
};

/* One connection that has said hello. */
struct peer {
    struct peer *next; /* in its bucket */
    int socket;        /* enum co_place */
    struct conn *conn; /* NULL: inproc */
    struct account *account;
    uint8_t identity[BL_IDENTITY];
    int n_identity;
    char public_key[PR_Z85]; /* "" without CURVE */
    char user[PR_MAX_NAME + 1];
    unsigned roles;
    uint32_t worker; /* 0: a client */
    bool watched;    /* there may be watchers of it */
    bool results;    /* a worker's connection for blobs */
    int64_t last_seen;
};

#define CO_PEER_BUCKETS 4096

struct outgoing {
    int socket;
    uint8_t identity[BL_IDENTITY];
    int n_identity;
    struct pr_header h;
    zmq_msg_t body, data;
    bool durable; /* may only leave after a commit */
};

/* What a message costs, beside its handler; net.c lets it begin accordingly. */
enum cost {
    COST_ONE,    /* little work, a short answer */
    COST_VIEW,   /* a document, perhaps a long one */
    COST_UPLOAD, /* a chunk that waits for the disk */
    COST_CHUNK,  /* an answer of 1 MiB */
    COST_GRID,   /* up to a million jobs, expanded aside */
};

/* A handler's answer beside 0 and errors. */
enum {
    NET_LATER = 1, /* not now: the same message comes again */
    NET_TASK = 2,  /* r->task goes on with it */
};

/* A message being handled. */
struct request {
    struct peer *peer;
    struct task *task;
    struct pr_header h;
    const ProtobufCMessage *body;
    zmq_msg_t *data;
    struct cn_error error; /* what a handler that returns non-zero answers */
};

/* A message that takes several turns. Its body stays; one runs on a connection at a time. */
struct task {
    struct pr_message m;
    struct request r;
    bool parked; /* has no turns until door_turn */
    /* One turn, a few ms at most. 1: go on, 0: answered, negative: r.error is the answer. */
    int (*step)(struct coordinator *c, struct task *t);
    void (*end)(struct coordinator *c, struct task *t); /* frees `state` */
    void *state;
};

struct watcher {
    struct watcher *next;
    struct peer peer; /* a copy: the connection may go */
    uint64_t id;      /* of the request */
    uint64_t after;
    uint64_t seen; /* nothing for it below */
    uint32_t run;
    int64_t deadline; /* monotonic ms */
};

/* What happened lately, for watchers and /events. */
struct happening {
    int64_t time;
    uint32_t run, job, attempt;
    uint8_t why, state;
    bool progress;
    uint32_t worker_id; /* 0: none, then worker is "" */
    char worker[48];
    char text[160]; /* a sentence; progress: JSON members */
};

#define CO_RING 8192

/* A live lease's last progress. */
struct live {
    uint32_t job, attempt;
    Cinch__Progress p; /* strings not kept */
    char stage[32];
    int64_t time;
};

struct question; /* of an HTTP thread, http.c */

struct coordinator {
    char *state_dir;
    struct co_options o;
    int lock_fd;
    void *zmq;
    bool own_zmq;
    void *inproc; /* NULL: no such endpoint */
    struct door *door;
    struct accounts accounts;
    struct aside *aside;
    struct task *expanding; /* what the aside works for */
    struct task *filing;    /* whose grid enters the queue; nothing is committed meanwhile */
    struct task *abandoned; /* it does, but the asker has gone */
    uint64_t end_after;     /* a connection that ends once its reply is out */
    char *endpoint[CO_MAX_LISTEN];
    struct pr_key server_key;
    bool has_server_key;
    int wake_fd; /* eventfd: stop, blob replies, HTTP questions */
    atomic_int stopping;
    pthread_t thread;
    bool threaded;
    int run_result;
    struct cn_error run_error;

    struct sched *s;
    struct store *st;
    struct st_state state;
    struct blobs *blobs;
    struct room *room;
    struct scrub scrub;
    int64_t next_orphans;
    struct peer *peer[CO_PEER_BUCKETS];
    uint32_t n_peers;
    struct outgoing **out;
    uint32_t n_out, cap_out;
    struct peer **peer_of; /* by worker id; NULL: not connected */
    uint32_t cap_peer_of;
    uint32_t next_effect;    /* of the scheduler's, to be applied in the next round */
    struct sc_effect *grant; /* to be sent after the commit */
    uint32_t n_grants, cap_grants;
    struct cn_hash *stale; /* blobs that may have become needless */
    uint32_t n_stale, cap_stale;
    struct watcher *watchers;
    struct happening *ring; /* [CO_RING] by sequence number */
    uint64_t next_seq;
    struct live *live; /* open addressing by job */
    uint32_t n_live, cap_live;
    uint8_t instance[PR_INSTANCE_BYTES];
    int64_t started; /* wall */
    int broken;      /* 0, or why the last commit failed */
    int64_t broken_next, last_tick, last_space;
    bool low_space;
    bool writing;        /* a transaction goes on in the next round */
    bool cores_reserved; /* some worker has reserved a core since the start */
    uint64_t n_messages, n_refused, n_commits, n_results;
    struct http *http;
    pthread_mutex_t question_lock;
    struct question *questions;
};

/* ---- coordinator.c: one turn of co_run's loop. It waits for work unless *busy, which becomes whether there is more. */
int co_step(struct coordinator *c, bool *busy, struct cn_error *err);

/* ---- net.c */
int net_open(struct coordinator *c, struct cn_error *err);
void net_close(struct coordinator *c);
/* Handles messages of all who have some, in turns: up to `most`, for some ms. True: there are more. */
bool net_turns(struct coordinator *c, int most);
/* Queues a message. durable: only after the next successful commit. */
void net_send(struct coordinator *c, const struct peer *to, struct pr_header h,
              const ProtobufCMessage *body, zmq_msg_t *data, bool durable);
void net_send_packed(struct coordinator *c, const struct peer *to, struct pr_header h,
                     zmq_msg_t *body, bool durable); /* takes the body over */
void net_reply(struct coordinator *c, const struct request *r, int type,
               const ProtobufCMessage *body);
void net_error(struct coordinator *c, const struct peer *to, uint64_t id, int type,
               const struct cn_error *e);
/* It has left so much unread that nothing is pushed to it. */
bool net_unread(const struct coordinator *c, const struct peer *p);
bool net_must_wait(const struct coordinator
                       *c); /* something is noted, or about to be, that an answer may rest on */
void net_flush(struct coordinator *c, bool committed);
struct peer *net_find_peer(struct coordinator *c, int socket, const void *identity, size_t n,
                           bool make);
/* Whether that connection is a guest's (guest.h), and whose. */
bool net_guest(const struct coordinator *c, int socket, const void *identity, size_t n,
               char name[PR_MAX_NAME + 1]);
/* It said hello: its account, its place. */
void net_known(struct coordinator *c, struct peer *p);
/* A key was revoked: its connections, watches and leases end; that of `r` once it is answered. */
void net_end_key(struct coordinator *c, const char *key, const struct request *r);
struct peer *net_peer_of_worker(const struct coordinator *c, uint32_t worker);
int net_bind_worker(struct coordinator *c, struct peer *p,
                    uint32_t worker); /* p is where this worker is reached */
void net_forget_idle(struct coordinator *c, int64_t now);

/* ---- service.c: one handler a message; 0 answered (or needs none), else r->error goes back */
int service_handle(struct coordinator *c, struct request *r);
enum cost service_cost(int type);
void service_hello(struct coordinator *c, int socket, const void *identity, size_t n,
                   const char *public_key, const struct pr_message *m);
void service_blob_replies(struct coordinator *c);
uint32_t service_reserved(const struct coordinator *c, const char *host, uint32_t *cores,
                          uint32_t cap);

/* ---- effects.c */
/* The scheduler's effects → operations, messages; some thousand at once. False: there are more. */
bool effects_apply(struct coordinator *c);
void effects_after_commit(struct coordinator *c); /* leases out, needless blobs away */
void note(struct coordinator *c, struct st_op op);
void note_event(struct coordinator *c, struct happening h);
void name_worker(const struct coordinator *c, struct happening *h, uint32_t worker);
void note_run_event(struct coordinator *c, uint32_t run, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
struct live *live_of(struct coordinator *c, uint32_t job, bool make);
void live_drop(struct coordinator *c, uint32_t job);
const char *why_text(int why);

/* ---- client.c: what people ask for */
int client_submit(struct coordinator *c, struct request *r);
int client_query(struct coordinator *c, struct request *r);
int client_watch(struct coordinator *c, struct request *r);
int client_control(struct coordinator *c, struct request *r);

/* ---- registry.c: datasets and keys */
const struct st_dataset *dataset_named(const struct coordinator *c, const char *name); /* NULL */
/* Tells the scheduler whether the bytes of a fingerprint are here. */
void dataset_tell(struct coordinator *c, const struct cn_hash *fingerprint);
int client_data_add(struct coordinator *c, struct request *r);
int client_data_get(struct coordinator *c, struct request *r);
int client_key_create(struct coordinator *c, struct request *r);
int client_key_revoke(struct coordinator *c, struct request *r);
/* The roles of a live key, and its name; 0: unknown or revoked. */
unsigned key_roles(const struct coordinator *c, const char *public_key, char name[PR_MAX_NAME + 1]);

/* ---- entries.c: how much one user may keep here. 0, or CN_ELIMIT with what to do. */
/* A run of `jobs` more; text: bytes of its grid's text and recipes. */
int entries_run(const struct coordinator *c, const struct peer *p, uint32_t jobs, uint32_t bases,
                uint64_t text, struct cn_error *err);
/* An order to a run of so many jobs. */
int entries_order(struct coordinator *c, const struct peer *p, uint32_t jobs, struct cn_error *err);
/* ... to a job, which turned out to move so many. */
void entries_touched(struct coordinator *c, const struct peer *p, uint32_t jobs);
int entries_dataset(const struct coordinator *c, const struct peer *p, struct cn_error *err);
int entries_key(const struct coordinator *c, struct cn_error *err);
int entries_watcher(const struct coordinator *c, const struct peer *p, struct cn_error *err);
int entries_worker(const struct coordinator *c, const struct peer *p, struct cn_error *err);

/* ---- given.c: JSON inside messages. 0, or CN_EINVALID. */
enum { GIVEN_DEPTH = 32, GIVEN_ENGINES = 512 };
int given_object(const char *what, const char *text, struct cn_error *err); /* "" passes */
/* Text for people that may be JSON: if so, with clean strings. */
int given_text(const char *what, const char *text, struct cn_error *err);
int given_submit(const Cinch__Submit *s, struct cn_error *err); /* recipes and options */
/* The kernel choices of a worker, only what is known of them; malloc'ed, NULL: none that make sense. */
char *given_engines(const char *text);

/* The blob of some dataset is not whole any more. */
void registry_lost(struct coordinator *c, const struct cn_hash *hash, bool damaged);

/* ---- transfers.c: blobs, and what they mean for everything else */
int transfer_open(struct coordinator *c, struct cn_error *err);
void transfer_look(struct coordinator *c); /* once, at the start: is everything there? */
/* Before the blobs' thread gets q, whose fields of the message are filled: CN_ENOSPACE, CN_ELIMIT. */
int transfer_begin(struct coordinator *c, const struct peer *p, struct bl_request *q,
                   struct cn_error *err);
void transfer_end(struct coordinator *c, struct bl_request *q); /* ... and when it is done with q */
void transfer_tick(struct coordinator *c, int64_t now);
/* A blob is removed that nothing refers to. */
void transfer_unhold(struct coordinator *c, const struct cn_hash *hash);
/* 0: the user's quota has room for `more` bytes; CN_ELIMIT. */
int transfer_quota(const struct coordinator *c, const char *user, uint64_t more,
                   struct cn_error *err);
/* The user whom a job's bytes count for. */
const char *user_of_job(const struct coordinator *c, uint32_t job);

/* ---- client.c again */
void client_forget_watches(struct coordinator *c, const struct peer *p);
/* ---- filing.c */
/* The connection of a task ends: true when the task goes on without it, or is freed later. */
bool client_keeps(struct coordinator *c, struct task *t);
/* The grid that was expanded aside goes on. */
void client_expanded(struct coordinator *c);
void client_wake_watchers(struct coordinator *c, int64_t now);
int json_reply(struct coordinator *c, struct request *r, struct buf *b); /* takes the text */
/* "r12", "j345" (or the latest run of that name): fills one of them. */
int parse_id(const struct coordinator *c, const char *id, uint32_t *run, uint32_t *job,
             struct cn_error *err);

/* ---- views.c, report.c: JSON documents, the same for messages and HTTP. CN_ENOTFOUND,
 * CN_EINVALID. */
struct viewing { /* a document in the making */
    int what;    /* Cinch__Query__What */
    char id[PR_MAX_NAME + 1];
    uint32_t run, job, at; /* at: where the next part begins */
    bool begun;
    struct reporting *report;
    struct buf b;
    int code; /* not 0: there is none, error says why */
    struct cn_error error;
};
/* Makes a part of it, in a few ms; true: it is complete, or code is set. */
bool view_part(struct coordinator *c, struct viewing *v);
void view_clear(struct viewing *v);
void view_happening(const struct coordinator *c, uint64_t seq, const struct happening *h,
                    struct buf *b);
bool happening_in_run(const struct coordinator *c, const struct happening *h, uint32_t run);
void view_metrics(struct coordinator *c, struct buf *b); /* Prometheus text */
/* The report of v->run, in parts like the rest. */
bool report_part(struct coordinator *c, struct viewing *v);
void report_clear(struct reporting *p);

/* ---- http.c */
int http_open(struct coordinator *c, struct cn_error *err);
void http_close(struct coordinator *c);
/* Questions that HTTP threads have put; called in the loop. True: there are more. */
bool http_answer(struct coordinator *c);
void http_tick(struct coordinator *c, int64_t now);
const char *http_url(const struct coordinator *c);
const char *http_link(const struct coordinator *c);

#endif
