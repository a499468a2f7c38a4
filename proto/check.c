/* proto/check.c - see check.h. One function per message that has bounds, found through a table. */
#include "proto/check.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/hash.h"
#include "base/text.h"
#include "proto/keys.h"
#include "proto/spec.h"
#include "proto/words.h"

int pr_name_valid(const char *name)
{
    size_t n = strlen(name);
    if (!n || n > PR_MAX_NAME || *name == '.' || *name == '-') return 0;
    for (const unsigned char *c = (const unsigned char *)name; *c; c++)
        if (!(*c < 128 && isalnum(*c)) && !strchr("._-+@:", *c)) return 0;
    return 1;
}

int pr_text_valid(const char *text, size_t limit)
{
    return cn_text_clean(text, limit);
}

#define NEED(cond, ...)                                                                            \
    do {                                                                                           \
        if (!(cond)) return cn_fail(err, CN_EINVALID, __VA_ARGS__);                                \
    } while (0)

/* `word` belongs to a closed vocabulary. */
static int word_ok(const char *what, enum pr_words kind, const char *word, struct cn_error *err)
{
    if (pr_word(kind, word) >= 0) return 0;
    return cn_fail(err, CN_EINVALID, "%s '%.60s' is not known here; it must be one of %s", what,
                   word, pr_words_text(kind));
}

static int words_ok(const char *what, enum pr_words kind, char *const *word, size_t n,
                    struct cn_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) rc = word_ok(what, kind, word[i], err);
    return rc;
}

/* "" leaves the choice to the default. */
static int optional_ok(const char *what, enum pr_words kind, char *const *word, size_t n,
                       struct cn_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) rc = *word[i] ? word_ok(what, kind, word[i], err) : 0;
    return rc;
}

static int hash_ok(const ProtobufCBinaryData *f)
{
    return f->len == CN_HASH_BYTES;
}

static int blob_ok(const Cinch__Blob *b, struct cn_error *err)
{
    NEED(b && hash_ok(&b->hash), "blob: its hash is not %d bytes", CN_HASH_BYTES);
    NEED(b->size <= PR_MAX_BLOB, "blob: larger than the limit of %llu bytes",
         (unsigned long long)PR_MAX_BLOB);
    NEED(!*b->role || pr_name_valid(b->role), "blob: impossible role");
    return 0;
}

static int check_worker(const Cinch__WorkerInfo *w, struct cn_error *err)
{
    NEED(w->instance.len == PR_INSTANCE_BYTES, "hello: worker.instance must be %d bytes",
         PR_INSTANCE_BYTES);
    NEED(pr_name_valid(w->name), "hello: impossible worker name");
    NEED(pr_name_valid(w->host), "hello: impossible host name");
    NEED(w->slots >= 1 && w->slots <= PR_MAX_SLOTS, "hello: worker.slots must be 1..%d",
         PR_MAX_SLOTS);
    NEED(w->prefetch <= PR_MAX_CAPACITY, "hello: worker.prefetch too large");
    NEED(w->max_gang <= PR_MAX_CAPACITY, "hello: worker.max_gang too large");
    NEED(w->n_kinds >= 1 && w->n_kinds <= 16, "hello: worker.kinds must name 1..16 kinds of jobs");
    NEED(w->n_allocators <= 16, "hello: too many allocators");
    for (size_t i = 0; i < w->n_allocators; i++)
        NEED(pr_name_valid(w->allocators[i]), "hello: impossible allocator");
    NEED(!*w->isa || pr_name_valid(w->isa), "hello: impossible isa");
    NEED(w->core >= 0 && w->core <= 4096, "hello: worker.core out of range");
    NEED(w->n_datasets <= PR_MAX_DATASETS, "hello: too many datasets");
    NEED(w->gpus <= PR_MAX_GPUS, "hello: worker.gpus must be 0..%d", PR_MAX_GPUS);
    NEED(pr_text_valid(w->device, PR_MAX_NAME), "hello: impossible device");
    for (size_t i = 0; i < w->n_datasets; i++)
        NEED(hash_ok(&w->datasets[i]), "hello: a dataset is not a fingerprint");
    return 0;
}

static int check_hello(const void *body, struct cn_error *err)
{
    const Cinch__Hello *h = body;
    NEED(pr_text_valid(h->software, PR_MAX_NAME), "hello: impossible software name");
    NEED(!*h->user || pr_name_valid(h->user), "hello: impossible user name");
    NEED(h->n_held <= PR_MAX_HELD, "hello: more than %d leases", PR_MAX_HELD);
    return h->worker ? check_worker(h->worker, err) : 0;
}

static int check_lease_request(const void *body, struct cn_error *err)
{
    const Cinch__LeaseRequest *r = body;
    NEED(r->capacity <= PR_MAX_CAPACITY, "lease request: capacity above %d", PR_MAX_CAPACITY);
    return 0;
}

static int check_heartbeat(const void *body, struct cn_error *err)
{
    const Cinch__Heartbeat *h = body;
    NEED(h->n_held <= PR_MAX_HELD, "heartbeat: more than %d leases", PR_MAX_HELD);
    NEED(pr_text_valid(h->engines, PR_MAX_JSON), "heartbeat: engines too long");
    return 0;
}

static int check_progress(const void *body, struct cn_error *err)
{
    const Cinch__Progress *p = body;
    NEED(pr_text_valid(p->stage, PR_MAX_NAME), "progress: impossible stage");
    NEED(p->epoch <= 1000000 && p->epochs <= 1000000, "progress: epoch out of range");
    return 0;
}

static int check_checkpoint(const void *body, struct cn_error *err)
{
    const Cinch__Checkpoint *c = body;
    return blob_ok(c->blob, err);
}

static int check_result(const void *body, struct cn_error *err)
{
    const Cinch__Result *r = body;
    NEED(pr_text_valid(r->reason, PR_MAX_TEXT), "result: reason is too long or not text");
    NEED(pr_text_valid(r->metrics, PR_MAX_JSON), "result: metrics are too long or not text");
    NEED(r->n_outputs <= PR_MAX_OUTPUTS, "result: more than %d outputs", PR_MAX_OUTPUTS);
    NEED(r->code <= 0 && r->code > -1000, "result: impossible code");
    for (size_t i = 0; i < r->n_outputs; i++) {
        int rc = blob_ok(r->outputs[i], err);
        if (rc) return rc;
        rc = word_ok("result: the output", PR_WORDS_ROLE, r->outputs[i]->role, err);
        if (rc) return rc;
    }
    return 0;
}

static int check_release(const void *body, struct cn_error *err)
{
    const Cinch__Release *r = body;
    NEED(pr_text_valid(r->reason, PR_MAX_TEXT), "release: reason is too long or not text");
    return 0;
}

static int check_blob_have(const void *body, struct cn_error *err)
{
    NEED(hash_ok(&((const Cinch__BlobHave *)body)->hash), "blob_have: hash");
    return 0;
}

static int check_blob_put(const void *body, struct cn_error *err)
{
    const Cinch__BlobPut *b = body;
    NEED(hash_ok(&b->hash), "blob_put: its hash is not %d bytes", CN_HASH_BYTES);
    NEED(b->size <= PR_MAX_BLOB && b->offset <= b->size, "blob_put: size or offset out of range");
    NEED(!b->final.len || hash_ok(&b->final), "blob_put: its final hash is not %d bytes",
         CN_HASH_BYTES);
    return 0;
}

static int check_blob_get(const void *body, struct cn_error *err)
{
    const Cinch__BlobGet *b = body;
    NEED(hash_ok(&b->hash), "blob_get: its hash is not %d bytes", CN_HASH_BYTES);
    NEED(b->length >= 1 && b->length <= PR_CHUNK, "blob_get: length must be 1..%u", PR_CHUNK);
    return 0;
}

static int check_net(const Cinch__Net *n, struct cn_error *err)
{
    int rc = word_ok("submit: the net", PR_WORDS_NET, n->name, err);
    if (rc) return rc;
    NEED(n->n_widths <= PR_MAX_WIDTHS, "submit: net %s: more than %d widths", n->name,
         PR_MAX_WIDTHS);
    for (size_t i = 0; i < n->n_widths; i++)
        NEED(n->widths[i] >= 1 && n->widths[i] <= 65536, "submit: net %s: width %u", n->name,
             n->widths[i]);
    NEED(pr_text_valid(n->recipe, PR_MAX_JSON) && pr_text_valid(n->finetune, PR_MAX_JSON),
         "submit: net %s: recipe is too long or not text", n->name);
    NEED(n->n_finetunes <= PR_MAX_ROUNDS, "submit: net %s: too many fine-tuning recipes", n->name);
    for (size_t i = 0; i < n->n_finetunes; i++)
        NEED(pr_text_valid(n->finetunes[i]->recipe, PR_MAX_JSON),
             "submit: net %s: recipe is too long or not text", n->name);
    NEED(n->n_allocators <= 16, "submit: net %s: too many allocators", n->name);
    NEED(n->latency_runs <= 10000000, "submit: net %s: too many latency runs", n->name);
    NEED(n->gpus <= PR_MAX_GPUS, "submit: a job has at most %d GPUs", PR_MAX_GPUS);
    return words_ok("submit: the allocator", PR_WORDS_ALLOCATOR, n->allocators, n->n_allocators,
                    err);
}

static int check_prune(const Cinch__Prune *p, struct cn_error *err)
{
    NEED(p->n_rounds <= PR_MAX_AXIS && p->n_keep <= PR_MAX_AXIS && p->n_norms <= PR_MAX_AXIS,
         "submit: more than %d values in prune.rounds, keep or norm", PR_MAX_AXIS);
    for (size_t i = 0; i < p->n_rounds; i++)
        NEED(p->rounds[i] >= 1 && p->rounds[i] <= PR_MAX_ROUNDS,
             "submit: prune.rounds must be 1..%d", PR_MAX_ROUNDS);
    for (size_t i = 0; i < p->n_keep; i++)
        NEED(p->keep[i] > 0 && p->keep[i] <= 1, "submit: prune.keep must lie in (0, 1]");
    NEED(p->n_schedules <= PR_MAX_AXIS && p->n_units <= PR_MAX_AXIS,
         "submit: more than %d values in prune.schedule or unit", PR_MAX_AXIS);
    NEED(p->total_epochs <= 10000000, "submit: too many prune.total_epochs");
    for (size_t i = 0; p->total_epochs && i < p->n_rounds; i++)
        NEED(p->rounds[i] <= p->total_epochs,
             "submit: %u rounds of pruning cannot share %u epochs of fine-tuning", p->rounds[i],
             p->total_epochs);
    NEED(pr_text_valid(p->options, PR_MAX_JSON), "submit: prune.options is too long or not text");
    int rc = words_ok("submit: the norm", PR_WORDS_NORM, p->norms, p->n_norms, err);
    if (!rc)
        rc = optional_ok("submit: the schedule", PR_WORDS_SCHEDULE, p->schedules, p->n_schedules,
                         err);
    return rc ? rc : optional_ok("submit: the unit", PR_WORDS_UNIT, p->units, p->n_units, err);
}

/* For every number of epochs that a round may get there is a recipe. */
static int check_finetunes(const Cinch__Submit *s, struct cn_error *err)
{
    uint32_t total = s->prune ? s->prune->total_epochs : 0;
    for (size_t i = 0; total && i < s->n_nets; i++)
        for (size_t r = 0; r < s->prune->n_rounds; r++)
            for (uint32_t more = 0; more < 2; more++) {
                uint32_t rounds = s->prune->rounds[r];
                uint32_t epochs = pr_round_epochs(total, rounds, more ? 1 : rounds);
                NEED(pr_finetune(s->nets[i], epochs),
                     "submit: net %s: no recipe for %u epochs of fine-tuning", s->nets[i]->name,
                     epochs);
            }
    return 0;
}

static int check_splits(const Cinch__Submit *s, struct cn_error *err)
{
    NEED(s->n_splits <= PR_MAX_AXIS, "submit: more than %d splits", PR_MAX_AXIS);
    for (size_t i = 0; i < s->n_splits; i++) {
        int rc = word_ok("submit: the split", PR_WORDS_SPLIT, s->splits[i]->name, err);
        if (rc) return rc;
        NEED(hash_ok(&s->splits[i]->fingerprint), "submit: fingerprint must be %d bytes",
             CN_HASH_BYTES);
    }
    NEED(!s->n_splits ||
             (s->fingerprint.len &&
              !memcmp(s->fingerprint.data, s->splits[0]->fingerprint.data, CN_HASH_BYTES)),
         "submit: fingerprint is not the first split's");
    return 0;
}

static int check_quantize(const Cinch__Quantize *q, struct cn_error *err)
{
    NEED(q->calibration <= 1000000, "submit: quantize.calibration too large");
    NEED(pr_text_valid(q->options, PR_MAX_JSON),
         "submit: quantize.options is too long or not text");
    return optional_ok("submit: the mode", PR_WORDS_MODE, &q->mode, 1, err);
}

static int check_submit(const void *body, struct cn_error *err)
{
    const Cinch__Submit *s = body;
    NEED(s->nonce.len == PR_INSTANCE_BYTES, "submit: nonce must be %d bytes", PR_INSTANCE_BYTES);
    NEED(pr_name_valid(s->name),
         "submit: '%.60s' cannot be a run's name: use letters, digits, . _ -", s->name);
    NEED(s->priority >= -1000 && s->priority <= 1000, "submit: priority must be -1000..1000");
    NEED(!*s->dataset || pr_name_valid(s->dataset), "submit: impossible dataset name");
    NEED(s->fingerprint.len == 0 || hash_ok(&s->fingerprint),
         "submit: fingerprint must be %d bytes", CN_HASH_BYTES);
    NEED(s->fingerprint.len || *s->dataset, "submit: no dataset");
    NEED(s->n_nets >= 1 && s->n_nets <= PR_MAX_NETS, "submit: nets: 1..%d", PR_MAX_NETS);
    NEED(s->n_seeds >= 1 && s->n_seeds <= PR_MAX_SEEDS, "submit: seeds: 1..%d", PR_MAX_SEEDS);
    NEED(s->n_distill <= PR_MAX_AXIS, "submit: distill: at most %d", PR_MAX_AXIS);
    NEED(pr_text_valid(s->grid, PR_MAX_JSON), "submit: the grid's text is too long or not text");
    NEED((unsigned)s->measure <= 2, "submit: unknown measure");
    NEED(s->time_limit_s <= 30 * 86400, "submit: time limit above 30 days");
    for (size_t i = 0; i < s->n_nets; i++) {
        int rc = check_net(s->nets[i], err);
        if (rc) return rc;
    }
    int rc = s->quantize ? check_quantize(s->quantize, err) : 0;
    if (!rc) rc = check_splits(s, err);
    if (!rc && s->prune) rc = check_prune(s->prune, err);
    return rc ? rc : check_finetunes(s, err);
}

int pr_check_base(const Cinch__JobBase *b, struct cn_error *err)
{
    NEED(hash_ok(&b->fingerprint), "job: its fingerprint is not %d bytes", CN_HASH_BYTES);
    NEED(b->n_widths <= PR_MAX_WIDTHS, "job: more than %d widths", PR_MAX_WIDTHS);
    NEED(b->gpus <= PR_MAX_GPUS, "job: more than %d GPUs", PR_MAX_GPUS);
    NEED(pr_text_valid(b->recipe, PR_MAX_JSON) && pr_text_valid(b->prune_options, PR_MAX_JSON) &&
             pr_text_valid(b->quantize_options, PR_MAX_JSON),
         "job: its recipe or options are too long or not text");
    const struct {
        const char *what;
        enum pr_words kind;
        char *const *word;
    } optional[] = {{"job: the schedule", PR_WORDS_SCHEDULE, &b->prune_schedule},
                    {"job: the unit", PR_WORDS_UNIT, &b->prune_unit},
                    {"job: the mode", PR_WORDS_MODE, &b->quantize_mode},
                    {"job: the split", PR_WORDS_SPLIT, &b->split}};
    int rc = word_ok("job: the net", PR_WORDS_NET, b->net, err);
    for (size_t i = 0; i < sizeof optional / sizeof *optional && !rc; i++)
        rc = optional_ok(optional[i].what, optional[i].kind, optional[i].word, 1, err);
    if (rc) return rc;
    return words_ok("job: the allocator", PR_WORDS_ALLOCATOR, b->allocators, b->n_allocators, err);
}

static int check_query(const void *body, struct cn_error *err)
{
    const Cinch__Query *q = body;
    NEED((unsigned)q->what <= CINCH__QUERY__WHAT__KEYS, "query: unknown question");
    NEED(!*q->id || pr_name_valid(q->id), "query: impossible id");
    return 0;
}

static int check_watch(const void *body, struct cn_error *err)
{
    const Cinch__Watch *w = body;
    NEED(w->timeout_ms <= 30000, "watch: timeout above 30 s");
    NEED(!*w->id || pr_name_valid(w->id), "watch: impossible id");
    return 0;
}

static int check_control(const void *body, struct cn_error *err)
{
    const Cinch__Control *c = body;
    NEED(c->what >= 1 && c->what <= CINCH__CONTROL__WHAT__PRIORITY, "control: unknown order");
    NEED(!*c->id || pr_name_valid(c->id), "control: impossible id");
    NEED(c->value >= -1000 && c->value <= 1000, "control: value must be -1000..1000");
    return 0;
}

static int check_data_add(const void *body, struct cn_error *err)
{
    const Cinch__DataAdd *d = body;
    NEED(pr_name_valid(d->name),
         "data_add: '%.60s' cannot be a dataset's name: use letters, digits, . _ -", d->name);
    NEED(hash_ok(&d->fingerprint), "data_add: fingerprint must be %d bytes", CN_HASH_BYTES);
    NEED(pr_text_valid(d->info, PR_MAX_JSON), "data_add: info is too long or not text");
    return d->blob ? blob_ok(d->blob, err) : 0;
}

static int check_data_get(const void *body, struct cn_error *err)
{
    const Cinch__DataGet *d = body;
    NEED(!*d->name || pr_name_valid(d->name), "data_get: impossible name");
    NEED(d->fingerprint.len == 0 || hash_ok(&d->fingerprint),
         "data_get: fingerprint must be %d bytes", CN_HASH_BYTES);
    NEED(*d->name || d->fingerprint.len, "data_get: neither name nor fingerprint");
    return 0;
}

static int check_key_create(const void *body, struct cn_error *err)
{
    const Cinch__KeyCreate *k = body;
    NEED(pr_name_valid(k->name),
         "key_create: '%.60s' cannot be a key's name: use letters, digits, . _ -", k->name);
    NEED(pr_role_parse(k->role),
         "key_create: no role '%.20s'; the roles are read, submit, worker, admin", k->role);
    NEED(pr_z85_valid(k->public_), "key_create: not a public key");
    return 0;
}

static int check_key_revoke(const void *body, struct cn_error *err)
{
    const Cinch__KeyRevoke *k = body;
    NEED(pr_name_valid(k->key) || pr_z85_valid(k->key),
         "key_revoke: neither a name nor a public key");
    return 0;
}

static const struct {
    int type;
    int (*fn)(const void *body, struct cn_error *err);
} check[] = {
    {PR_HELLO, check_hello},           {PR_LEASE_REQUEST, check_lease_request},
    {PR_HEARTBEAT, check_heartbeat},   {PR_PROGRESS, check_progress},
    {PR_CHECKPOINT, check_checkpoint}, {PR_RESULT, check_result},
    {PR_RELEASE, check_release},       {PR_BLOB_HAVE, check_blob_have},
    {PR_BLOB_PUT, check_blob_put},     {PR_BLOB_GET, check_blob_get},
    {PR_SUBMIT, check_submit},         {PR_QUERY, check_query},
    {PR_WATCH, check_watch},           {PR_CONTROL, check_control},
    {PR_DATA_ADD, check_data_add},     {PR_DATA_GET, check_data_get},
    {PR_KEY_CREATE, check_key_create}, {PR_KEY_REVOKE, check_key_revoke},
};

int pr_check(int type, const ProtobufCMessage *body, struct cn_error *err)
{
    for (size_t i = 0; i < sizeof check / sizeof *check; i++)
        if (check[i].type == type) return check[i].fn(body, err);
    return 0;
}
