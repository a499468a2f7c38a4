/* cli/cli.c - see cli.h: dispatch, answers, colours, signals. */
#define _GNU_SOURCE /* vasprintf */
#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "base/yaml.h"

#define MAX_COMMANDS 64

int cli_dispatch(struct cli *c, const struct cli_command *table, const char *what, int argc,
                 char **argv)
{
    const char *names[MAX_COMMANDS + 1];
    int n = 0;
    for (; table[n].name && n < MAX_COMMANDS; n++) {
        names[n] = table[n].name;
        if (strcmp(argv[0], table[n].name)) continue;
        size_t used = strlen(c->command);
        snprintf(c->command + used, sizeof c->command - used, "%s%s", used ? " " : "", argv[0]);
        return table[n].run(c, argc - 1, argv + 1);
    }
    names[n] = NULL;
    const char *near = cn_nearest(argv[0], names);
    return cn_fail(&c->err, CN_EINVALID, "unknown %s '%s'%s%s%s (cinch %s%s--help lists them)",
                   what, argv[0], near ? "; did you mean '" : "", near ? near : "",
                   near ? "'?" : "", c->command, *c->command ? " " : "");
}

void cli_list_commands(const struct cli_command *table, const char *prefix)
{
    for (; table->name; table++) {
        if (!table->help) continue;
        if (table->group) printf("\n%s\n", table->group);
        printf("  %s%s%-*s %s\n", prefix, *prefix ? " " : "", (int)(*prefix ? 8 : 10), table->name,
               table->help);
    }
}

int cli_subcommands(struct cli *c, const struct cli_command *table, const char *what,
                    const char *about, int argc, char **argv)
{
    char prefix[80];
    int i = 0; /* a leading --json or --quiet is common to all, and may stand before the command */
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--json"))
            c->json = true;
        else if (!strcmp(argv[i], "--quiet") || !strcmp(argv[i], "-q"))
            c->quiet = true;
        else
            break;
    }
    bool help = i < argc && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"));
    if (i < argc && !help) return cli_dispatch(c, table, what, argc - i, argv + i);
    if (!help)
        return cn_fail(&c->err, CN_EINVALID, "which %s? `cinch %s --help` lists them", what,
                       c->command);
    snprintf(prefix, sizeof prefix, "cinch %s", c->command);
    printf("%s\n\n", about);
    cli_list_commands(table, prefix);
    return CLI_HELP_SHOWN;
}

static int put_escaped(const char *s, size_t n, void *to)
{
    for (size_t i = 0; i < n;) {
        unsigned char b = (unsigned char)s[i], next = i + 1 < n ? (unsigned char)s[i + 1] : 0;
        unsigned char last = i + 2 < n ? (unsigned char)s[i + 2] : 0;
        bool c1 = b == 0xC2 && next < 0xA0;
        bool line = b == 0xE2 && next == 0x80 && last >= 0xA8 && last <= 0xAE;
        bool turn = b == 0xE2 && next == 0x81 && last >= 0xA6 && last <= 0xA9;
        size_t k = i;
        while (k < n && (unsigned char)s[k] < 0x7f) k++; /* most of it, at once */
        if (k > i) {
            if (fwrite(s + i, 1, k - i, to) != k - i) return -1;
            i = k;
        } else if (b == 0x7f || c1 || line || turn) {
            int c = b == 0x7f ? b : c1 ? next : 0x2000 | (next & 3) << 6 | (last & 0x3f);
            if (fprintf(to, "\\u%04x", (unsigned)c) < 0) return -1;
            i += b == 0x7f ? 1 : c1 ? 2 : 3;
        } else if (putc(b, to) == EOF) {
            return -1;
        } else {
            i++;
        }
    }
    return 0;
}

int cli_put_json(FILE *to, const json_t *doc, size_t flags)
{
    char *text = json_dumps(doc, flags);
    int bad = text ? put_escaped(text, strlen(text), to) : -1;
    free(text);
    return bad;
}

/* One line, without its end. */
static void print_line(FILE *to, const char *line)
{
    size_t room = strlen(line) * 4 + 8; /* no character's form has more than four times its bytes */
    char *shown = malloc(room);
    if (!shown) return;
    cn_text_show(shown, room, line);
    fputs(shown, to);
    free(shown);
}

static void print_lines(FILE *to, const char *fmt, va_list ap)
{
    char *text = NULL;
    if (vasprintf(&text, fmt, ap) < 0) return;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        print_line(to, line);
        if (!end) break;
        putc('\n', to);
        line = end + 1;
    }
    free(text);
}

void cli_print(FILE *to, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_lines(to, fmt, ap);
    va_end(ap);
}

static int read_stdin(struct cli *c, size_t limit, char **text, size_t *n)
{
    char *buf = malloc(limit + 2);
    *text = NULL;
    if (!buf) return cn_fail(&c->err, CN_ENOMEM, "out of memory");
    *n = fread(buf, 1, limit + 1, stdin);
    buf[*n] = 0;
    int rc = ferror(stdin) ? cn_fail_errno(&c->err, "standard input")
             : *n > limit
                 ? cn_fail(&c->err, CN_ELIMIT, "standard input: more than %zu bytes", limit)
                 : 0;
    if (rc)
        free(buf);
    else
        *text = buf;
    return rc;
}

int cli_read_text(struct cli *c, const char *path, size_t limit, char **text, size_t *n)
{
    return strcmp(path, "-") ? cn_file_read(path, limit, text, n, &c->err)
                             : read_stdin(c, limit, text, n);
}

int cli_answer_json(struct cli *c, json_t *doc)
{
    if (!doc)
        return cn_fail(&c->err, CN_EINTERNAL,
                       "no JSON: out of memory, or a name that is not UTF-8");
    int bad = cli_put_json(stdout, doc, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(doc);
    c->answered = true;
    if (bad || putchar('\n') == EOF || fflush(stdout))
        return cn_fail_errno(&c->err, "cannot write to stdout");
    return 0;
}

json_t *cli_json_text(const char *s)
{
    size_t room = 4 * strlen(s) + 1;
    char *shown = malloc(room);
    if (!shown) return NULL;
    cn_text_show(shown, room, s);
    json_t *text = json_string(shown);
    free(shown);
    return text;
}

json_t *cli_json_real(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

void cli_say(const struct cli *c, const char *fmt, ...)
{
    if (c->quiet) return;
    va_list ap;
    va_start(ap, fmt);
    print_lines(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

int cli_exit_code(int code)
{
    switch (code) {
    case 0:
        return 0;
    case CN_EINVALID:
    case CN_ENOTFOUND:
    case CN_ECORRUPT:
    case CN_EVERSION:
    case CN_EUNSUPPORTED:
    case CN_EEXISTS:
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

const char *cli_colour(int fd, enum cli_colour c)
{
    static const char *const escape[] = {"\033[0m",  "\033[1m",  "\033[2m",
                                         "\033[31m", "\033[32m", "\033[33m"};
    const char *off = getenv("NO_COLOR"), *term = getenv("TERM");
    if (!isatty(fd) || (off && *off) || (term && !strcmp(term, "dumb"))) return "";
    return escape[c];
}

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
    if (++signals < 2) return;
    signal(sig, SIG_DFL);
    raise(sig);
}

void cli_catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_signal}; /* no SA_RESTART: a waiting read wakes up */
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    struct sigaction was;
    if (!sigaction(SIGHUP, NULL, &was) && was.sa_handler != SIG_IGN) /* nohup stays nohup */
        sigaction(SIGHUP, &sa, NULL);
}

int cli_signalled(void)
{
    return signals;
}
