/* worker_main.c - the main of both workers, cinch-train and cinch-eval: options and signals. Which of
 * them this is says `program_role`, in a file of its own for each. A signal once: hand the leases
 * back and leave. Twice: leave at once.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "proto/client.h"
#include "workers/program.h"

static const char train_help[] =
    "usage: cinch-train [--connect WHERE] [--gpu N,..|auto | --cpu] [options]\n"
    "Trains, distils and prunes for a coordinator (cinchd).\n"
    "  --connect WHERE     ipc://PATH or tcp://HOST:PORT (needs --key); CINCH_COORDINATOR, else "
    "the\n"
    "                      local default socket\n"
    "  --key FILE          key file of role worker (`cinch keys create`)\n"
    "  --gpu N,..|auto     train on GPU N (several: for jobs with `gpus: n`, the first for "
    "others); auto:\n"
    "                      on GPU 0 where there is one, else on the CPU\n"
    "  --cpu               train on the CPU (the default)\n"
    "  --slots N|auto      jobs at once; auto: one per core and --threads, on a GPU as many as "
    "pay\n"
    "  --threads N         CPU threads of one job; 1\n"
    "  --gang N            equal jobs trained as one array, at most 32; 8 on a GPU, 1 on the CPU\n";
static const char eval_help[] =
    "usage: cinch-eval [--connect WHERE] [--core N] [options]\n"
    "Quantises and measures for a coordinator (cinchd).\n"
    "  --connect WHERE     ipc://PATH or tcp://HOST:PORT (needs --key); CINCH_COORDINATOR, else "
    "the\n"
    "                      local default socket\n"
    "  --key FILE          key file of role worker (`cinch keys create`)\n"
    "  --core N            keep core N for latency: nothing of cinch computes there. Without it "
    "the\n"
    "                      last core is cleared for each measurement\n"
    "  --slots N           evaluations at once; measuring still takes turns; 1\n";
static const char common_help[] =
    "  --name TEXT         what people see in `cinch workers`\n"
    "  --cache DIR         where datasets lie; CINCH_CACHE\n"
    "  --cache-limit SIZE  of that folder, as 500M or 20G: fetched datasets that nothing uses make "
    "room\n"
    "  --checkpoint-every S  seconds between checkpoints of a running job; 30\n"
    "  --wait              wait for the coordinator for ever, not only half a minute\n"
    "  --quiet             only warnings\n"
    "SIGINT or SIGTERM once: finish the batch, checkpoint, hand the leases back. Twice: leave at "
    "once.\n";

static struct worker *the_worker; /* for the signal handler */
static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    if (++signals > 1) _exit(128 + number);
    if (the_worker) worker_stop(the_worker);
}

static int number(const char *option, const char *text, int lo, int hi, int *out,
                  struct cn_error *err)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (*text == 0 || *end || v < lo || v > hi)
        return cn_fail(err, CN_EINVALID, "--%s: '%s' is not a number from %d to %d", option, text,
                       lo, hi);
    *out = (int)v;
    return 0;
}

static int size(const char *option, const char *text, uint64_t *out, struct cn_error *err)
{
    char *end;
    double v = strtod(text, &end);
    double unit = *end == 'M' ? 1e6 : *end == 'G' ? 1e9 : *end == 'T' ? 1e12 : 0;
    if (end == text || !unit || end[1] || !(v * unit >= 1e6 && v * unit <= 1e18))
        return cn_fail(err, CN_EINVALID, "--%s: '%s' is not a size like 500M or 20G", option, text);
    *out = (uint64_t)(v * unit);
    return 0;
}

static int gpu(const char *text, struct device_spec *d, struct cn_error *err)
{
    d->kind = strcmp(text, "auto") == 0 ? DEVICE_AUTO : DEVICE_GPU;
    return d->kind == DEVICE_AUTO ? 0 : device_parse_gpus(text, d, err);
}

static const struct option long_options[] = {{"connect", required_argument, NULL, 'c'},
                                             {"key", required_argument, NULL, 'k'},
                                             {"gpu", required_argument, NULL, 'g'},
                                             {"cpu", no_argument, NULL, 'C'},
                                             {"slots", required_argument, NULL, 's'},
                                             {"threads", required_argument, NULL, 't'},
                                             {"gang", required_argument, NULL, 'G'},
                                             {"core", required_argument, NULL, 'o'},
                                             {"name", required_argument, NULL, 'n'},
                                             {"cache", required_argument, NULL, 'd'},
                                             {"cache-limit", required_argument, NULL, 'L'},
                                             {"checkpoint-every", required_argument, NULL, 'e'},
                                             {"wait", no_argument, NULL, 'w'},
                                             {"quiet", no_argument, NULL, 'q'},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

/* One option; CN_EINVALID with the reason. */
static int take(int c, struct worker_options *o, struct cn_error *err)
{
    int seconds = 0, rc = 0;
    switch (c) {
    case 'c':
        o->endpoint = optarg;
        return 0;
    case 'k':
        o->key_file = optarg;
        return 0;
    case 'g':
        return gpu(optarg, &o->device, err);
    case 'C':
        o->device.kind = DEVICE_CPU;
        return 0;
    case 's':
        if (strcmp(optarg, "auto") == 0) o->slots = 0;
        return strcmp(optarg, "auto") == 0 ? 0 : number("slots", optarg, 1, 64, &o->slots, err);
    case 't':
        return number("threads", optarg, 1, 1024, &o->threads, err);
    case 'G':
        return number("gang", optarg, 1, NN_MAX_GANG, &o->max_gang, err);
    case 'o':
        o->keep_core = true;
        return number("core", optarg, 0, 1023, &o->core, err);
    case 'n':
        o->name = optarg;
        return 0;
    case 'd':
        o->cache_dir = optarg;
        return 0;
    case 'L':
        return size("cache-limit", optarg, &o->cache_limit, err);
    case 'e':
        rc = number("checkpoint-every", optarg, 1, 86400, &seconds, err);
        o->checkpoint_every_s = seconds;
        return rc;
    case 'w':
        o->first_wait_ms = -1;
        return 0;
    case 'q':
        cn_log_level(CN_WARN);
        return 0;
    default:
        return cn_fail(err, CN_EINVALID, "see --help");
    }
}

static bool fits(int c, enum worker_role role)
{
    return role == WORKER_TRAIN ? c != 'o' : !strchr("gCtG", c);
}

/* 0; 1 after --help; or CN_EINVALID. */
static int parse(int argc, char **argv, struct worker_options *o, struct cn_error *err)
{
    for (int c; (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
        if (c == 'h') {
            printf("%s%s", o->role == WORKER_TRAIN ? train_help : eval_help, common_help);
            return 1;
        }
        if (c == '?') return cn_fail(err, CN_EINVALID, "see %s --help", argv[0]);
        if (!fits(c, o->role))
            return cn_fail(err, CN_EINVALID, "this option is not one of %s: see --help", argv[0]);
        int rc = take(c, o, err);
        if (rc) return rc;
    }
    if (optind < argc)
        return cn_fail(err, CN_EINVALID, "'%s' is not understood: see %s --help", argv[optind],
                       argv[0]);
    return 0;
}

static int exit_code(int code)
{
    switch (code) {
    case 0:
        return 0;
    case CN_EINVALID:
        return 2;
    case CN_ECONNECT:
    case CN_ENODEVICE:
        return 3;
    case CN_EREFUSED:
        return 4;
    default:
        return 1;
    }
}

static int fail(const char *program, const struct cn_error *err)
{
    fprintf(stderr, "%s: %s\n", program, err->text);
    return exit_code(err->code);
}

int main(int argc, char **argv)
{
    struct cn_error err = {0};
    struct worker_options o = {.role = program_role, .core = -1};
    char local[512];
    if (cn_std_open()) return 1;
    int rc = parse(argc, argv, &o, &err);
    if (rc == 1) return cn_stdout_end(&err) ? fail(argv[0], &err) : 0;
    pr_default_endpoint(local, sizeof local);
    if (!o.endpoint) o.endpoint = local;
    if (rc == 0) rc = worker_create(&the_worker, &o, &err);
    if (rc == 0) {
        struct sigaction act = {.sa_handler = on_signal};
        sigaction(SIGINT, &act, NULL);
        sigaction(SIGTERM, &act, NULL);
        signal(SIGPIPE, SIG_IGN);
        cn_notify("READY=1");
        rc = worker_run(the_worker, &err);
        cn_notify("STOPPING=1");
    }
    if (rc) fprintf(stderr, "%s: %s\n", argv[0], err.text);
    worker_destroy(the_worker);
    return exit_code(rc);
}
