/* What a hostile or broken peer may try, against a real coordinator over TCP with CURVE, ipc and HTTP. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <netinet/in.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "harness.h"
#include "proto/wire.h"

struct secure {
    struct fixture f;
    char tcp[96], http[128];
    struct pr_key key[5]; /* read, submit, worker, admin, and another submitter */
    char file[5][128];
};

static const char *const role_name[5] = {"read", "submit", "worker", "admin", "submit"};

static void make_key(struct secure *s, int i)
{
    char name[16];
    Cinch__KeyCreate q = CINCH__KEY_CREATE__INIT;
    Cinch__KeyCreated *made;
    snprintf(name, sizeof name, "%s%d", role_name[i], i);
    assert_int_equal(pr_key_make(&s->key[i], name, role_name[i], &s->f.err), 0);
    q.name = name;
    q.role = (char *)role_name[i];
    q.public_ = s->key[i].public_key;
    if (pr_call(s->f.client, PR_KEY_CREATE, &q, PR_KEY_CREATED, &made, &s->f.err))
        fail_msg("%s", s->f.err.text);
    strcpy(s->key[i].server, made->server);
    pr_free(made);
    snprintf(s->file[i], sizeof s->file[i], "%s/%s.key", s->f.dir, name);
    assert_int_equal(pr_key_save(&s->key[i], s->file[i], &s->f.err), 0);
}

static void secure_open(struct secure *s, const char *http)
{
    struct co_options o = {
        .listen = {"tcp://127.0.0.1:*"}, .n_listen = 1, .http = http, .http_patience_ms = 1500};
    memset(s, 0, sizeof *s);
    fixture_open(&s->f, &o);
    snprintf(s->tcp, sizeof s->tcp, "%s", co_endpoint(s->f.c, 0));
    if (http) snprintf(s->http, sizeof s->http, "%s", co_http(s->f.c));
    for (int i = 0; i < 5; i++) make_key(s, i);
}

static int open_client(struct secure *s, int i, struct pr_client **c, struct cn_error *err)
{
    struct pr_connect how = {.endpoint = s->tcp, .key_file = s->file[i], .timeout_ms = 3000};
    return pr_client_open(c, &how, err);
}

/* One message, one answer: its code, or 1 when none came within `ms`. */
static int talk(void *socket, int type, const ProtobufCMessage *body, int *reply_type, int ms)
{
    static uint64_t id = 100;
    struct pr_header h = {.type = (uint16_t)type, .id = ++id};
    assert_int_equal(pr_send(socket, &h, body, NULL, 0, NULL), 0);
    int64_t deadline = cn_mono_ms() + ms;
    while (cn_mono_ms() < deadline) {
        zmq_pollitem_t item = {socket, 0, ZMQ_POLLIN, 0};
        zmq_poll(&item, 1, 50);
        struct pr_message m;
        while (pr_recv(socket, &m, NULL) == 1) {
            int mine = m.h.id == id, code = m.h.code;
            if (reply_type) *reply_type = m.h.type;
            pr_message_clear(&m);
            if (mine) return code;
        }
    }
    return 1;
}

static void hello_on(void *socket, int expect)
{
    Cinch__Hello h = CINCH__HELLO__INIT;
    h.version = PR_VERSION;
    h.software = (char *)"test";
    assert_int_equal(talk(socket, PR_HELLO, &h.base, NULL, 3000), expect);
}

/* ---- message x role */

/* Who may send what, spelled out a second time: read, submit, worker, admin. */
static const struct {
    int type;
    char may[5];
} matrix[] = {
    {PR_LEASE_REQUEST, "--ww"}, {PR_HEARTBEAT, "--ww"},   {PR_PROGRESS, "--ww"},
    {PR_CHECKPOINT, "--ww"},    {PR_RESULT, "--ww"},      {PR_RELEASE, "--ww"},
    {PR_BYE, "--ww"},           {PR_BLOB_HAVE, "rrrr"},   {PR_BLOB_PUT, "-sss"},
    {PR_BLOB_GET, "rrrr"},      {PR_SUBMIT, "-s-s"},      {PR_QUERY, "rr-r"},
    {PR_WATCH, "rr-r"},         {PR_CONTROL, "-s-s"},     {PR_DATA_ADD, "-s-s"},
    {PR_DATA_GET, "rrrr"},      {PR_KEY_CREATE, "---a"},  {PR_KEY_REVOKE, "---a"},
    {PR_WELCOME, "----"},       {PR_EMPTY, "----"},       {PR_ERROR, "----"},
    {PR_JSON, "----"},          {PR_LEASE_GRANT, "----"}, {PR_HEARTBEAT_REPLY, "----"},
    {PR_DROP, "----"},          {PR_BLOB_STATE, "----"},  {PR_BLOB_CHUNK, "----"},
    {PR_SUBMITTED, "----"},     {PR_DATASET, "----"},     {PR_KEY_CREATED, "----"},
};

static void every_message_from_every_role(void **state)
{
    struct secure s;
    secure_open(&s, NULL);
    void *zmq = zmq_ctx_new();
    int types = 0;
    for (const struct pr_message_info *m = pr_message_table(); m->name; m++)
        types += m->type != PR_HELLO;
    assert_int_equal(types,
                     sizeof matrix / sizeof *matrix); /* a new message must be entered here */
    for (int role = 0; role < 4; role++) {
        void *socket;
        assert_int_equal(pr_dealer(&socket, zmq, s.tcp, &s.key[role], &s.f.err), 0);
        hello_on(socket, 0);
        for (size_t i = 0; i < sizeof matrix / sizeof *matrix; i++) {
            const struct pr_message_info *info = pr_message_info(matrix[i].type);
            ProtobufCMessage *body;
            assert_int_equal(pr_unpack(&body, matrix[i].type, "", 0, NULL), 0);
            int code = talk(socket, matrix[i].type, body, NULL, 3000);
            bool may = matrix[i].may[role] != '-', own = info->roles == 0xff;
            /* an empty body is refused too, but for what it says, after the role was checked */
            if (own && code != CN_EUNSUPPORTED)
                fail_msg("%s from %s: %d", info->name, role_name[role], code);
            if (!own && may == (code == CN_EREFUSED))
                fail_msg("%s from %s: %d", info->name, role_name[role], code);
            pr_free(body);
        }
        zmq_close(socket);
    }
    zmq_ctx_term(zmq);
    fixture_close(&s.f);
}

static void workers_need_the_role_and_their_own_instance(void **state)
{
    struct secure s;
    secure_open(&s, NULL);
    void *zmq = zmq_ctx_new(), *socket[2];
    uint8_t instance[PR_INSTANCE_BYTES] = {1, 2, 3};
    Cinch__JobKind kinds[] = {CINCH__JOB_KIND__TRAIN};
    Cinch__WorkerInfo w = CINCH__WORKER_INFO__INIT;
    Cinch__Hello h = CINCH__HELLO__INIT;
    w.instance = (ProtobufCBinaryData){sizeof instance, instance};
    w.name = w.host = (char *)"w";
    w.slots = 1;
    w.engine = PR_ENGINE;
    w.n_kinds = 1;
    w.kinds = kinds;
    h.version = PR_VERSION;
    h.worker = &w;
    static const int who[] = {1, 2};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pr_dealer(&socket[i], zmq, s.tcp, &s.key[who[i]], &s.f.err), 0);
    assert_int_equal(talk(socket[0], PR_HELLO, &h.base, NULL, 3000),
                     CN_EREFUSED); /* submit is not worker */
    assert_int_equal(talk(socket[1], PR_HELLO, &h.base, NULL, 3000), 0);
    assert_int_equal(talk(socket[1], PR_HELLO, &h.base, NULL, 3000),
                     0); /* said again: the same worker */
    char *json = ask(&s.f, CINCH__QUERY__WHAT__STATUS, NULL);
    assert_non_null(strstr(json, "\"workers\":1,"));
    free(json);
    void *thief;
    assert_int_equal(pr_dealer(&thief, zmq, s.tcp, &s.key[3], &s.f.err), 0);
    assert_int_equal(talk(thief, PR_HELLO, &h.base, NULL, 3000),
                     CN_EREFUSED); /* replayed under another key */
    w.engine++;
    assert_int_equal(talk(socket[1], PR_HELLO, &h.base, NULL, 3000), CN_EVERSION);
    h.version++;
    assert_int_equal(talk(socket[1], PR_HELLO, &h.base, NULL, 3000), CN_EVERSION);
    zmq_close(thief);
    for (int i = 0; i < 2; i++) zmq_close(socket[i]);
    zmq_ctx_term(zmq);
    fixture_close(&s.f);
}

/* ---- keys */

static void keys_open_doors_and_nothing_else_does(void **state)
{
    struct secure s;
    struct pr_client *c;
    struct cn_error err;
    secure_open(&s, NULL);
    struct pr_connect none = {.endpoint = s.tcp, .timeout_ms = 1500};
    assert_int_equal(pr_client_open(&c, &none, &err), CN_EREFUSED);
    assert_non_null(strstr(err.text, "keys create"));

    struct pr_key stranger;
    char path[128];
    snprintf(path, sizeof path, "%s/stranger.key", s.f.dir);
    assert_int_equal(pr_key_make(&stranger, "stranger", "admin", &err), 0);
    strcpy(stranger.server, s.key[0].server);
    assert_int_equal(pr_key_save(&stranger, path, &err), 0);
    struct pr_connect unknown = {.endpoint = s.tcp, .key_file = path, .timeout_ms = 3000};
    assert_int_equal(pr_client_open(&c, &unknown, &err), CN_EREFUSED);

    struct pr_key misled = s.key[1]; /* a good key, but it expects another coordinator */
    strcpy(misled.server, stranger.public_key);
    unlink(path);
    assert_int_equal(pr_key_save(&misled, path, &err), 0);
    int rc = pr_client_open(&c, &unknown, &err);
    assert_true(rc == CN_EREFUSED || rc == CN_ECONNECT);

    void *zmq = zmq_ctx_new(), *plain = zmq_socket(zmq, ZMQ_DEALER); /* no CURVE at all */
    int zero = 0, reply;
    zmq_setsockopt(plain, ZMQ_LINGER, &zero, sizeof zero);
    assert_int_equal(zmq_connect(plain, s.tcp), 0);
    Cinch__Hello h = CINCH__HELLO__INIT;
    h.version = PR_VERSION;
    assert_int_equal(talk(plain, PR_HELLO, &h.base, &reply, 1500), 1);
    zmq_close(plain);
    zmq_ctx_term(zmq);
    fixture_close(&s.f);
}

static void revoking_acts_on_live_connections(void **state)
{
    struct secure s;
    struct pr_client *c, *admin;
    struct cn_error err;
    char *json;
    secure_open(&s, NULL);
    assert_int_equal(open_client(&s, 1, &c, &err), 0);
    assert_int_equal(open_client(&s, 3, &admin, &err), 0);
    assert_string_equal(pr_client_welcome(c)->role, "submit");
    assert_string_equal(pr_client_welcome(c)->user, "submit1");
    assert_int_equal(pr_query(c, CINCH__QUERY__WHAT__LIST, NULL, &json, &err), 0);
    free(json);
    assert_int_equal(pr_query(c, CINCH__QUERY__WHAT__KEYS, NULL, &json, &err),
                     CN_EREFUSED); /* not for everyone */
    Cinch__KeyRevoke q = CINCH__KEY_REVOKE__INIT;
    q.key = (char *)"submit1";
    assert_int_equal(pr_call(admin, PR_KEY_REVOKE, &q, PR_JSON, NULL, &err), 0);
    assert_int_equal(pr_query(c, CINCH__QUERY__WHAT__LIST, NULL, &json, &err),
                     CN_EREFUSED); /* at once */
    pr_client_close(c);
    assert_int_equal(open_client(&s, 1, &c, &err), CN_EREFUSED); /* and for good */
    assert_int_equal(pr_query(admin, CINCH__QUERY__WHAT__KEYS, NULL, &json, &err), 0);
    assert_int_equal(count(json, "\"revoked\":true"), 1);
    free(json);
    pr_client_close(admin);
    fixture_stop(&s.f); /* also after a restart */
    struct co_options o = {.listen = {s.tcp}, .n_listen = 1};
    fixture_start(&s.f, &o);
    assert_int_equal(open_client(&s, 1, &c, &err), CN_EREFUSED);
    assert_int_equal(open_client(&s, 0, &c, &err), 0);
    pr_client_close(c);
    fixture_close(&s.f);
}

/* Says hello as a worker that can take any job of the test's grids. */
static void hello_worker(void *socket)
{
    uint8_t instance[PR_INSTANCE_BYTES] = {9}, fp[CN_HASH_BYTES] = {7};
    ProtobufCBinaryData have = {sizeof fp, fp};
    Cinch__JobKind kinds[] = {CINCH__JOB_KIND__TRAIN};
    Cinch__WorkerInfo w = CINCH__WORKER_INFO__INIT;
    Cinch__Hello h = CINCH__HELLO__INIT;
    w.instance = (ProtobufCBinaryData){sizeof instance, instance};
    w.name = w.host = (char *)"w";
    w.slots = w.prefetch = 1;
    w.engine = PR_ENGINE;
    w.n_kinds = w.n_datasets = 1;
    w.kinds = kinds;
    w.datasets = &have;
    h.version = PR_VERSION;
    h.worker = &w;
    assert_int_equal(talk(socket, PR_HELLO, &h.base, NULL, 3000), 0);
}

static bool shows(struct secure *s, Cinch__Query__What what, const char *id, const char *part,
                  int ms)
{
    bool found = false;
    for (int64_t until = cn_mono_ms() + ms; !found && cn_mono_ms() < until; cn_sleep_ms(20)) {
        char *json = ask(&s->f, what, id);
        found = strstr(json, part) != NULL;
        free(json);
    }
    return found;
}

static void revoking_ends_leases_and_watches(void **state)
{
    struct secure s;
    void *zmq = zmq_ctx_new(), *worker, *watcher;
    secure_open(&s, NULL); /* a lost worker keeps its leases for 3 s here */
    assert_int_equal(pr_dealer(&worker, zmq, s.tcp, &s.key[2], &s.f.err), 0);
    assert_int_equal(pr_dealer(&watcher, zmq, s.tcp, &s.key[0], &s.f.err), 0);
    hello_worker(worker);
    hello_on(watcher, 0);
    struct grid g = {.seeds = 1, .never = true};
    pr_free(fixture_submit(&s.f, &g));
    assert_true(shows(&s, CINCH__QUERY__WHAT__SHOW, "j1", "\"state\":\"leased\"", 10000));
    Cinch__Watch q = CINCH__WATCH__INIT;
    q.timeout_ms = 30000;
    assert_int_equal(talk(watcher, PR_WATCH, &q.base, NULL, 200), 1); /* waits */
    Cinch__KeyRevoke r = CINCH__KEY_REVOKE__INIT;
    r.key = (char *)"read0";
    assert_int_equal(pr_call(s.f.client, PR_KEY_REVOKE, &r, PR_JSON, NULL, &s.f.err), 0);
    r.key = (char *)"worker2";
    assert_int_equal(pr_call(s.f.client, PR_KEY_REVOKE, &r, PR_JSON, NULL, &s.f.err), 0);
    char *json = ask(&s.f, CINCH__QUERY__WHAT__SHOW, "j1"); /* at once */
    assert_non_null(strstr(json, "\"state\":\"ready\""));
    free(json);
    assert_true(shows(&s, CINCH__QUERY__WHAT__STATUS, NULL, "\"connections\":1,", 5000));
    struct pr_message m;
    cn_sleep_ms(100);
    assert_int_equal(pr_recv(watcher, &m, NULL), 0); /* what happened was not told */
    zmq_close(worker);
    zmq_close(watcher);
    zmq_ctx_term(zmq);
    fixture_close(&s.f);
}

static void who_revokes_its_own_key_is_answered(void **state)
{
    struct secure s;
    struct pr_client *admin;
    struct cn_error err;
    secure_open(&s, NULL);
    assert_int_equal(open_client(&s, 3, &admin, &err), 0);
    Cinch__KeyRevoke q = CINCH__KEY_REVOKE__INIT;
    q.key = (char *)"admin3";
    assert_int_equal(pr_call(admin, PR_KEY_REVOKE, &q, PR_JSON, NULL, &err), 0);
    assert_int_equal(pr_query(admin, CINCH__QUERY__WHAT__LIST, NULL, NULL, &err), CN_EREFUSED);
    pr_client_close(admin);
    fixture_close(&s.f);
}

static void runs_belong_to_their_owner(void **state)
{
    struct secure s;
    struct pr_client *anna, *bert, *admin;
    struct cn_error err;
    secure_open(&s, NULL);
    assert_int_equal(open_client(&s, 1, &anna, &err), 0);
    assert_int_equal(open_client(&s, 4, &bert, &err), 0);
    assert_int_equal(open_client(&s, 3, &admin, &err), 0);
    struct grid g = {.seeds = 2};
    Cinch__Submitted *run;
    assert_int_equal(submit_grid(anna, &g, &run, &err), 0);
    assert_int_equal(pr_control(bert, CINCH__CONTROL__WHAT__CANCEL, run->run, 0, NULL, &err),
                     CN_EREFUSED);
    assert_int_equal(pr_control(bert, CINCH__CONTROL__WHAT__CANCEL, "j1", 0, NULL, &err),
                     CN_EREFUSED);
    assert_int_equal(pr_control(bert, CINCH__CONTROL__WHAT__PRIORITY, run->run, 9, NULL, &err),
                     CN_EREFUSED);
    assert_int_equal(pr_control(anna, CINCH__CONTROL__WHAT__DRAIN, "", 0, NULL, &err), CN_EREFUSED);
    assert_int_equal(pr_control(anna, CINCH__CONTROL__WHAT__PAUSE, run->run, 0, NULL, &err), 0);
    assert_int_equal(pr_control(admin, CINCH__CONTROL__WHAT__CANCEL, run->run, 0, NULL, &err), 0);
    pr_free(run);
    pr_client_close(anna);
    pr_client_close(bert);
    pr_client_close(admin);
    fixture_close(&s.f);
}

/* ---- frames */

static bool alive(struct secure *s)
{
    char *json = ask(&s->f, CINCH__QUERY__WHAT__STATUS, NULL);
    bool ok = strstr(json, "uptime_s") != NULL;
    free(json);
    return ok;
}

static void *raw_socket(struct secure *s, void *zmq)
{
    void *socket;
    assert_int_equal(pr_dealer(&socket, zmq, s->tcp, &s->key[3], &s->f.err), 0);
    hello_on(socket, 0);
    return socket;
}

static void oversized_frames_cost_the_sender_its_connection(void **state)
{
    struct secure s;
    secure_open(&s, NULL);
    void *zmq = zmq_ctx_new(), *socket = raw_socket(&s, zmq);
    size_t n = PR_MAX_BODY + 100;
    char *big = calloc(1, n);
    for (int i = 0; i < 5; i++) zmq_send(socket, big, n, ZMQ_DONTWAIT);
    cn_sleep_ms(300);
    assert_true(alive(&s));
    free(big);
    zmq_close(socket);
    zmq_ctx_term(zmq);
    fixture_close(&s.f);
}

static void malformed_frames_are_answered_or_dropped(void **state)
{
    struct secure s;
    secure_open(&s, NULL);
    void *zmq = zmq_ctx_new(), *socket = raw_socket(&s, zmq);
    uint8_t noise[4096], head[32] = {0};
    for (int i = 0; i < 3000; i++) {
        randombytes_buf_deterministic(noise, sizeof noise,
                                      (const uint8_t[32]){(uint8_t)i, (uint8_t)(i >> 8)});
        struct pr_header h = {.type = noise[0] % 45, .id = (uint64_t)i};
        pr_header_put(head, &h);
        if (noise[1] % 4 == 0) head[noise[2] % 16] ^= noise[3];
        int frames = noise[4] % 5;
        if (!frames) zmq_send(socket, noise, noise[5], 0);
        for (int f = 0; f < frames; f++) {
            const void *data = f ? noise + 16 : head;
            size_t len = f              ? (size_t)noise[6] * (noise[7] % 16)
                         : noise[8] % 8 ? PR_HEADER_BYTES
                                        : noise[9] % 20;
            zmq_send(socket, data, len, f + 1 < frames ? ZMQ_SNDMORE : 0);
        }
        if (i % 100 == 0) assert_true(alive(&s));
    }
    int type;
    Cinch__Query q = CINCH__QUERY__INIT; /* the same connection still works */
    assert_int_equal(talk(socket, PR_QUERY, &q.base, &type, 3000), 0);
    assert_int_equal(type, PR_JSON);
    zmq_close(socket);
    zmq_ctx_term(zmq);
    fixture_close(&s.f);
}

static void a_flood_is_slowed_and_others_are_served(void **state)
{
    struct secure s;
    secure_open(&s, NULL);
    void *zmq = zmq_ctx_new(), *socket = raw_socket(&s, zmq);
    Cinch__DataGet q = CINCH__DATA_GET__INIT;
    q.name = (char *)"nothing";
    int limited = 0, answered = 0, hwm = 0;
    for (uint64_t id = 1000000; id < 1040000; id++) {
        struct pr_header h = {.type = PR_DATA_GET, .id = id};
        while (pr_send(socket, &h, &q.base, NULL, 0, NULL) == CN_EBUSY && hwm++ < 10000)
            cn_sleep_ms(1);
        struct pr_message m;
        while (pr_recv(socket, &m, NULL) == 1) {
            answered++;
            limited += m.h.code == CN_ELIMIT;
            pr_message_clear(&m);
        }
    }
    assert_true(alive(&s));
    for (int i = 0; i < 100 && !limited; i++) {
        struct pr_message m;
        while (pr_recv(socket, &m, NULL) == 1) {
            limited += m.h.code == CN_ELIMIT;
            pr_message_clear(&m);
        }
        cn_sleep_ms(10);
    }
    assert_true(limited > 0);
    zmq_close(socket);
    zmq_ctx_term(zmq);
    fixture_close(&s.f);
}

static void quotas_hold(void **state)
{
    struct secure s;
    struct pr_client *c;
    struct cn_error err;
    secure_open(&s, NULL);
    assert_int_equal(open_client(&s, 1, &c, &err), 0);
    pr_client_timeout(c, 900000);
    struct grid g = {.seeds = 400000, .never = true};
    Cinch__Submitted *run;
    assert_int_equal(submit_grid(c, &g, &run, &err), 0);
    pr_free(run);
    g.first_seed = 400000;
    g.seeds = 700000;
    assert_int_equal(submit_grid(c, &g, &run, &err), CN_ELIMIT);
    assert_non_null(strstr(err.text, "jobs that have not succeeded"));
    assert_int_equal(pr_control(c, CINCH__CONTROL__WHAT__CANCEL, "r1", 0, NULL, &err), 0);
    g.seeds = 1000;
    assert_int_equal(submit_grid(c, &g, &run, &err), 0);
    pr_free(run);
    pr_client_close(c);
    fixture_close(&s.f);
}

/* ---- names */

static void names_with_tricks_are_refused(void **state)
{
    static const char *const bad[] = {"../../etc/passwd", "a/b", "..", "", "x\ny", "-rf", "a b",
                                      "\xff\xfe"};
    struct secure s;
    struct cn_error err;
    secure_open(&s, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct grid g = {.name = bad[i], .seeds = 1};
        if (*bad[i]) assert_int_equal(submit_grid(s.f.client, &g, NULL, &err), CN_EINVALID);
        uint8_t fp[32] = {1};
        Cinch__DataAdd d = CINCH__DATA_ADD__INIT;
        d.name = (char *)bad[i];
        d.fingerprint = (ProtobufCBinaryData){32, fp};
        assert_int_equal(pr_call(s.f.client, PR_DATA_ADD, &d, PR_EMPTY, NULL, &err), CN_EINVALID);
        Cinch__KeyCreate k = CINCH__KEY_CREATE__INIT;
        k.name = (char *)bad[i];
        k.role = (char *)"read";
        k.public_ = s.key[0].public_key;
        assert_int_equal(pr_call(s.f.client, PR_KEY_CREATE, &k, PR_KEY_CREATED, NULL, &err),
                         CN_EINVALID);
        if (*bad[i])
            assert_int_equal(pr_query(s.f.client, CINCH__QUERY__WHAT__SHOW, bad[i], NULL, &err),
                             CN_EINVALID);
    }
    fixture_close(&s.f);
}

/* ---- HTTP */

static int http_connect(const char *url)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    at.sin_port = htons((uint16_t)atoi(strrchr(url, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval tv = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    assert_int_equal(connect(fd, (void *)&at, sizeof at), 0);
    return fd;
}

/* The status of one request; the body's start goes to out. */
static int http_get(const char *url, const char *path, const char *headers, char *out, size_t cap)
{
    char text[8192];
    int fd = http_connect(url),
        n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\n%s\r\n\r\n", path, headers);
    if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n) n = 0;
    size_t len = 0;
    ssize_t got;
    while (len < cap - 1 && (got = recv(fd, out + len, cap - 1 - len, 0)) > 0) len += (size_t)got;
    out[len] = 0;
    close(fd);
    return len > 12 ? atoi(out + 9) : 0;
}

#define LOCAL "Host: localhost\r\nConnection: close"

static void http_shows_and_never_gives_away_files(void **state)
{
    struct secure s;
    char out[65536], web[128], page[160];
    secure_open(&s, NULL);
    fixture_stop(&s.f);
    snprintf(web, sizeof web, "%s/web", s.f.dir);
    snprintf(page, sizeof page, "%s/index.html", web);
    cn_mkdirs(web, NULL);
    cn_file_write(page, "<p>hello", 8, NULL);
    struct co_options o = {.http = "0", .web = web, .http_open = 1};
    fixture_start(&s.f, &o);
    strcpy(s.http, co_http(s.f.c));
    assert_int_equal(http_get(s.http, "/", LOCAL, out, sizeof out), 200);
    assert_non_null(strstr(out, "<p>hello"));
    assert_int_equal(http_get(s.http, "/metrics", LOCAL, out, sizeof out), 200);
    assert_non_null(strstr(out, "cinch_jobs{state=\"ready\"} 0"));
    assert_int_equal(http_get(s.http, "/api/v1/status", LOCAL, out, sizeof out), 200);
    struct grid g = {.seeds = 1};
    pr_free(fixture_submit(&s.f, &g));
    static const char *const good[] = {
        "/api/v1/runs",           "/api/v1/runs/r1",         "/api/v1/runs/r1/jobs",
        "/api/v1/runs/r1/report", "/api/v1/runs/r1/log",     "/api/v1/runs/r1/explain",
        "/api/v1/jobs/j1",        "/api/v1/jobs/j1/explain", "/api/v1/workers"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(http_get(s.http, good[i], LOCAL, out, sizeof out), 200);
    static const char *const bad[] = {"/../state/server.key", "/%2e%2e/state/server.key",
                                      "//etc/passwd",         "/..%2fstate%2fserver.key",
                                      "/api/v1/runs/../../x", "/api/v1/runs/r99",
                                      "/api/v1/runs/r1/keys", "/.hidden",
                                      "/api/v1/keys"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(http_get(s.http, bad[i], LOCAL, out, sizeof out), 404);
        assert_null(strstr(out, "secret"));
    }
    int fd = http_connect(s.http); /* nothing changes anything */
    static const char post[] =
        "POST /api/v1/runs/r1/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_true(send(fd, post, sizeof post - 1, MSG_NOSIGNAL) > 0);
    assert_true(recv(fd, out, sizeof out, 0) > 12);
    assert_int_equal(atoi(out + 9), 405);
    close(fd);
    /* a page elsewhere that resolves its own name to us */
    assert_int_equal(http_get(s.http, "/api/v1/runs", "Host: evil.example\r\nConnection: close",
                              out, sizeof out),
                     401);
    fixture_close(&s.f);
}

static void http_needs_the_token(void **state)
{
    static const char *const address[] = {"0", "0.0.0.0:0"};
    static const char *const page[] = {"/", "/metrics", "/api/v1/status", "/events"};
    for (size_t a = 0; a < 2; a++) {
        struct secure s;
        char out[65536], path[128], *token, text[256];
        size_t n;
        secure_open(&s, address[a]);
        for (size_t i = 0; i < sizeof page / sizeof *page; i++)
            assert_int_equal(http_get(s.http, page[i], LOCAL, out, sizeof out), 401);
        assert_int_equal(
            http_get(s.http, "/", LOCAL "\r\nAuthorization: Bearer wrong", out, sizeof out), 401);
        assert_int_equal(http_get(s.http, "/?token=", LOCAL, out, sizeof out), 401);
        snprintf(path, sizeof path, "%s/http.token", s.f.state);
        assert_int_equal(cn_file_read(path, 1000, &token, &n, NULL), 0);
        snprintf(text, sizeof text, LOCAL "\r\nAuthorization: Bearer %s", token);
        assert_int_equal(http_get(s.http, "/api/v1/status", text, out, sizeof out), 200);
        assert_non_null(strstr(co_http_link(s.f.c), token));
        assert_null(strstr(co_http(s.f.c), token));
        snprintf(text, sizeof text, "/api/v1/status?token=%s", token);
        assert_int_equal(http_get(s.http, text, LOCAL, out, sizeof out), 200);
        assert_null(strstr(out, "Set-Cookie")); /* only pages set it */
        snprintf(text, sizeof text, LOCAL "\r\nCookie: cinch-%d=%s", atoi(strrchr(s.http, ':') + 1),
                 token); /* the cookie is another secret */
        assert_int_equal(http_get(s.http, "/api/v1/status", text, out, sizeof out), 401);
        free(token);
        fixture_close(&s.f);
    }
}

static void an_open_http_is_loopback(void **state)
{
    struct secure s;
    struct coordinator *c;
    char out[4096];
    secure_open(&s, NULL);
    fixture_stop(&s.f);
    struct co_options o = {.state = s.f.state, .http = "0.0.0.0:0", .http_open = 1};
    assert_int_equal(co_create(&c, &o, &s.f.err), CN_EINVALID);
    struct co_options local = {.http = "0", .http_open = 1};
    fixture_start(&s.f, &local);
    assert_int_equal(http_get(co_http(s.f.c), "/api/v1/status", LOCAL, out, sizeof out), 200);
    assert_int_equal(
        http_get(co_http(s.f.c), "/api/v1/status", "Host: evil.example", out, sizeof out), 401);
    fixture_close(&s.f);
}

static void slow_loris_is_cut(void **state)
{
    struct secure s;
    char out[65536];
    int fd[30];
    secure_open(&s, "0");
    for (int i = 0; i < 30; i++) {
        fd[i] = http_connect(s.http);
        assert_true(send(fd[i], "GET / HT", 8, MSG_NOSIGNAL) == 8);
    }
    int cut = 0;
    int64_t deadline = cn_mono_ms() + 20000;
    while (cut < 30 && cn_mono_ms() < deadline) { /* each drips on, never idle */
        cn_sleep_ms(200);
        assert_true(alive(&s));
        for (int i = 0; i < 30; i++) {
            char c;
            if (fd[i] < 0) continue;
            if (send(fd[i], "x", 1, MSG_NOSIGNAL) == 1 && recv(fd[i], &c, 1, MSG_DONTWAIT) != 0)
                continue;
            close(fd[i]);
            fd[i] = -1;
            cut++;
        }
    }
    assert_int_equal(cut, 30);
    assert_int_equal(http_get(s.http, "/api/v1/status", LOCAL, out, sizeof out), 401);
    fixture_close(&s.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_message_from_every_role),
        cmocka_unit_test(workers_need_the_role_and_their_own_instance),
        cmocka_unit_test(keys_open_doors_and_nothing_else_does),
        cmocka_unit_test(revoking_acts_on_live_connections),
        cmocka_unit_test(revoking_ends_leases_and_watches),
        cmocka_unit_test(who_revokes_its_own_key_is_answered),
        cmocka_unit_test(runs_belong_to_their_owner),
        cmocka_unit_test(oversized_frames_cost_the_sender_its_connection),
        cmocka_unit_test(malformed_frames_are_answered_or_dropped),
        cmocka_unit_test(a_flood_is_slowed_and_others_are_served),
        cmocka_unit_test(quotas_hold),
        cmocka_unit_test(names_with_tricks_are_refused),
        cmocka_unit_test(http_shows_and_never_gives_away_files),
        cmocka_unit_test(http_needs_the_token),
        cmocka_unit_test(an_open_http_is_loopback),
        cmocka_unit_test(slow_loris_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
