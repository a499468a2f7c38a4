/* cli/args.c - option tables: parsing, --help, and answers to misspelt names.
 *
 * Long options take their value as `--name VALUE` or `--name=VALUE`, short ones as `-o VALUE` or
 * `-oVALUE`; options and operands may stand in any order; `--` ends the options. getopt_long is not
 * used because its tables cannot hold types, ranges and help, and its messages cannot suggest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml.h"
#include "cli/cli.h"

#define MAX_OPTIONS 64

/* The options that every command has. */
struct common {
    bool help;
};

static const struct cli_option *find(const struct cli_option *table, const char *name, size_t n)
{
    for (; table->name; table++)
        if (strlen(table->name) == n && !memcmp(table->name, name, n)) return table;
    return NULL;
}

static const struct cli_option *find_letter(const struct cli_option *table, char letter)
{
    for (; table->name; table++)
        if (table->letter == letter) return table;
    return NULL;
}

/* What the user typed for this option, for messages: "--epochs", "-o". */
static const char *shown(const struct cli_option *o, char buf[32])
{
    if (o->letter && strlen(o->name) == 1)
        snprintf(buf, 32, "-%c", o->letter);
    else
        snprintf(buf, 32, "--%s", o->name);
    return buf;
}

static int set_number(struct cli *c, const struct cli_option *o, const char *text)
{
    char *end, name[32];
    errno = 0;
    double v = strtod(text, &end);
    bool whole = o->kind == CLI_REAL || !strpbrk(text, ".eExXnN");
    if (end == text || *end || errno || !whole || v != v)
        return cn_fail(&c->err, CN_EINVALID, "%s: '%s' is not %s", shown(o, name), text,
                       o->kind == CLI_REAL ? "a number" : "a whole number");
    if ((o->lo != 0 || o->hi != 0) && !(v >= o->lo && v <= o->hi))
        return cn_fail(&c->err, CN_EINVALID, "%s: %s is outside %g .. %g", shown(o, name), text,
                       o->lo, o->hi);
    if (o->kind == CLI_INT && (v < -2147483648.0 || v > 2147483647.0))
        return cn_fail(&c->err, CN_EINVALID, "%s: %s is too large", shown(o, name), text);
    if (o->kind == CLI_U64 && (v < 0 || v > 9007199254740992.0)) /* what JSON carries exactly */
        return cn_fail(&c->err, CN_EINVALID, "%s: %s is outside 0 .. 2^53", shown(o, name), text);
    if (o->kind == CLI_INT)
        *(int *)o->out = (int)v;
    else if (o->kind == CLI_U64)
        *(uint64_t *)o->out = (uint64_t)v;
    else
        *(double *)o->out = v;
    return 0;
}

static int set_choice(struct cli *c, const struct cli_option *o, const char *text)
{
    char all[200] = "", name[32];
    for (int i = 0; o->choices[i]; i++) {
        if (!strcmp(o->choices[i], text)) {
            *(int *)o->out = i;
            return 0;
        }
        size_t n = strlen(all);
        snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", o->choices[i]);
    }
    const char *near = cn_nearest(text, o->choices);
    return cn_fail(&c->err, CN_EINVALID, "%s: '%s' is none of %s%s%s%s", shown(o, name), text, all,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int set_value(struct cli *c, const struct cli_option *o, const char *text)
{
    char name[32];
    switch (o->kind) {
    case CLI_FLAG:
        *(bool *)o->out = true;
        return 0;
    case CLI_TEXT:
        if (!*text) return cn_fail(&c->err, CN_EINVALID, "%s is empty", shown(o, name));
        *(const char **)o->out = text;
        return 0;
    case CLI_CHOICE:
        return set_choice(c, o, text);
    default:
        return set_number(c, o, text);
    }
}

static int unknown(struct cli *c, const struct cli_option *table, const char *arg)
{
    const char *names[MAX_OPTIONS + 1];
    char word[64];
    int n = 0;
    for (; table[n].name && n < MAX_OPTIONS; n++) names[n] = table[n].name;
    names[n] = NULL;
    snprintf(word, sizeof word, "%s", arg + strspn(arg, "-"));
    word[strcspn(word, "=")] = 0;
    const char *near = strlen(word) > 1 ? cn_nearest(word, names) : NULL;
    if (near)
        return cn_fail(&c->err, CN_EINVALID,
                       "unknown option '%s'; did you mean '--%s'? (cinch %s --help lists them)",
                       arg, near, c->command);
    return cn_fail(&c->err, CN_EINVALID, "unknown option '%s' (cinch %s --help lists them)", arg,
                   c->command);
}

/* One argument that starts with a dash; *used counts a second argument taken as its value. */
static int parse_option(struct cli *c, const struct cli_option *table, char *arg, char *next,
                        int *used)
{
    const struct cli_option *o;
    const char *value = NULL;
    char name[32];
    if (arg[1] == '-') {
        size_t n = strcspn(arg + 2, "=");
        o = find(table, arg + 2, n);
        if (o && arg[2 + n] == '=') value = arg + 2 + n + 1;
    } else {
        o = find_letter(table, arg[1]);
        if (o && arg[2]) value = arg + 2;
    }
    if (!o) return unknown(c, table, arg);
    if (o->kind == CLI_FLAG && value)
        return cn_fail(&c->err, CN_EINVALID, "%s takes no value", shown(o, name));
    if (o->kind != CLI_FLAG && !value) {
        if (!next)
            return cn_fail(&c->err, CN_EINVALID, "%s needs a value: %s %s", shown(o, name),
                           shown(o, name), o->value);
        value = next;
        *used = 1;
    }
    return set_value(c, o, value ? value : "");
}

static void print_help(const struct cli *c, const struct cli_use *use,
                       const struct cli_option *table)
{
    printf("usage: cinch %s%s%s\n\n%s\n\n", c->command, *use->operands ? " " : "", use->operands,
           use->about);
    for (; table->name; table++) {
        char left[64];
        bool short_only = table->letter && strlen(table->name) == 1; /* --c has no letter */
        snprintf(left, sizeof left, "%s%s%s%s%s",
                 table->letter ? (char[]){'-', table->letter, 0} : "",
                 table->letter && !short_only ? ", " : "", short_only ? "" : "--",
                 short_only ? "" : table->name, table->value ? " " : "");
        printf("  %s%-*s  %s\n", left, (int)(26 - strlen(left)), table->value ? table->value : "",
               table->help);
    }
}

static int check_words(struct cli *c, const struct cli_use *use)
{
    if (use->n_words < use->min_words)
        return cn_fail(&c->err, CN_EINVALID,
                       "something is missing; usage: cinch %s %s (--help says more)", c->command,
                       use->operands);
    if (use->max_words >= 0 && use->n_words > use->max_words)
        return cn_fail(&c->err, CN_EINVALID, "'%s' is one operand too many; usage: cinch %s %s",
                       use->word[use->max_words], c->command, use->operands);
    return 0;
}

int cli_parse(struct cli *c, struct cli_use *use, int argc, char **argv)
{
    struct cli_option table[MAX_OPTIONS + 1];
    struct common common = {false};
    int n = 0;
    for (; use->options && use->options[n].name && n < MAX_OPTIONS - 3; n++)
        table[n] = use->options[n];
    table[n++] = (struct cli_option){
        "json", 0, CLI_FLAG, &c->json, NULL, "one JSON document on stdout", 0, 0, NULL};
    table[n++] = (struct cli_option){
        "quiet", 'q', CLI_FLAG, &c->quiet, NULL, "no progress, no remarks", 0, 0, NULL};
    table[n++] =
        (struct cli_option){"help", 'h', CLI_FLAG, &common.help, NULL, "this page", 0, 0, NULL};
    table[n] = (struct cli_option){0};

    use->word = argv;
    use->n_words = 0;
    bool options = true;
    for (int i = 0; i < argc; i++) {
        if (options && !strcmp(argv[i], "--")) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            int used = 0;
            int rc = parse_option(c, table, argv[i], i + 1 < argc ? argv[i + 1] : NULL, &used);
            if (rc) return rc;
            i += used;
        } else {
            argv[use->n_words++] = argv[i];
        }
    }
    if (common.help) {
        print_help(c, use, table);
        return CLI_HELP_SHOWN;
    }
    return check_words(c, use);
}

int cli_need(struct cli *c, const void *value, const char *name)
{
    if (value) return 0;
    return cn_fail(&c->err, CN_EINVALID, "%s is missing (cinch %s --help shows the usage)", name,
                   c->command);
}

int cli_int_list(struct cli *c, const char *text, const char *name, int most, int *out, int cap,
                 int *n)
{
    *n = 0;
    for (const char *p = text;; p++) {
        char *end;
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || errno || (*end && *end != ','))
            return cn_fail(&c->err, CN_EINVALID,
                           "%s: '%s' is not a list of whole numbers such as 16,32,48", name, text);
        if (v < 1 || v > most)
            return cn_fail(&c->err, CN_EINVALID, "%s: %ld is outside 1 .. %d", name, v, most);
        if (*n == cap) return cn_fail(&c->err, CN_EINVALID, "%s: more than %d numbers", name, cap);
        out[(*n)++] = (int)v;
        if (!*end) return 0;
        p = end;
    }
}
