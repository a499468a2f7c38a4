/* cli/cli.h - what every command of `cinch` shares: the context, option tables, and the way an
 * answer or an error leaves the program.
 *
 * A command is a handler in the table of main.c. It declares its options as a table, calls
 * cli_parse, works, and answers once: with cli_answer_json under --json, else with tables and
 * sentences on stdout. Progress and messages go to stderr. It returns 0 or a negative CN_E code
 * with c->err filled; main.c prints that and chooses the exit code.
 */
#ifndef CINCH_CLI_CLI_H
#define CINCH_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

struct cli {
    char command[64];    /* "train", "data add": stands in usage lines and messages */
    bool json;           /* one document on stdout and nothing else there */
    bool quiet;          /* no progress, no remarks */
    const char *gaps;    /* --gaps as given: how missing samples are met; NULL: refused */
    bool answered;       /* the document has been written */
    struct cn_error err; /* of the handler that failed */
    /* NULL, or asked while a run is watched: 0, or a code with why it cannot end any more */
    int (*alive)(void *arg, struct cn_error *err);
    void *alive_arg;
};

/* ------------------------------------------------------------------------------------- options */

enum cli_kind {
    CLI_FLAG,   /* bool *: no value */
    CLI_TEXT,   /* const char **: borrowed from argv */
    CLI_INT,    /* int *: in [lo, hi] */
    CLI_U64,    /* uint64_t * */
    CLI_REAL,   /* double *: in [lo, hi] */
    CLI_CHOICE, /* int *: index into `choices` */
};

struct cli_option {
    const char *name;           /* long name without the dashes; NULL ends a table */
    char letter;                /* 0, or the short form */
    enum cli_kind kind;         /* says what `out` points to */
    void *out;                  /* holds the default before, the value after */
    const char *value;          /* what stands for the value in --help: "DIR"; NULL for flags */
    const char *help;           /* a few words */
    double lo, hi;              /* CLI_INT, CLI_REAL: inclusive; both 0: unbounded */
    const char *const *choices; /* CLI_CHOICE: NULL-terminated */
};

/* Rows of such a table. */
#define OPT_FLAG(name, letter, out, help)                                                          \
    {                                                                                              \
        name, letter, CLI_FLAG, out, NULL, help, 0, 0, NULL                                        \
    }
#define OPT_TEXT(name, letter, out, value, help)                                                   \
    {                                                                                              \
        name, letter, CLI_TEXT, out, value, help, 0, 0, NULL                                       \
    }
#define OPT_INT(name, out, value, lo, hi, help)                                                    \
    {                                                                                              \
        name, 0, CLI_INT, out, value, help, lo, hi, NULL                                           \
    }
#define OPT_U64(name, out, value, help)                                                            \
    {                                                                                              \
        name, 0, CLI_U64, out, value, help, 0, 0, NULL                                             \
    }
#define OPT_REAL(name, out, value, help)                                                           \
    {                                                                                              \
        name, 0, CLI_REAL, out, value, help, 0, 0, NULL                                            \
    }
#define OPT_CHOICE(name, out, value, names, help)                                                  \
    {                                                                                              \
        name, 0, CLI_CHOICE, out, value, help, 0, 0, names                                         \
    }
#define OPT_END                                                                                    \
    {                                                                                              \
        NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL                                            \
    }

struct cli_use {
    const char *operands; /* "MODEL --data DIR -o MODEL": the usage line after the command */
    const char *about;    /* a sentence or two */
    const struct cli_option *options;
    int min_words, max_words; /* operands allowed; max < 0: any number */
    int n_words;              /* out */
    char **word;              /* out: borrowed from argv, which is permuted */
};

#define CLI_HELP_SHOWN 1

/* Parses argv[0..argc) (without the command's name). 0; CLI_HELP_SHOWN after --help (the handler
 * returns it); or CN_EINVALID. An unknown option is answered with the nearest one. */
int cli_parse(struct cli *c, struct cli_use *use, int argc, char **argv);

/* CN_EINVALID "--name is missing" unless `value` is set. */
int cli_need(struct cli *c, const void *value, const char *name);

/* "16,32,48" into out[cap]; *n of them. Each in [1, most]. */
int cli_int_list(struct cli *c, const char *text, const char *name, int most, int *out, int cap,
                 int *n);

/* ------------------------------------------------------------------------------------ commands */

struct cli_command {
    const char *name, *help; /* name NULL ends a table; help NULL: not listed */
    int (*run)(struct cli *c, int argc, char **argv);
    const char *group; /* a heading above this command in --help, or NULL */
};

/* Finds argv[0] in `table` and runs it with the rest. `what` names the level in messages
 * ("command", "data command"). */
int cli_dispatch(struct cli *c, const struct cli_command *table, const char *what, int argc,
                 char **argv);
/* The handler of a command that has commands of its own (`cinch keys`): lists them on --help and
 * when none is given. */
int cli_subcommands(struct cli *c, const struct cli_command *table, const char *what,
                    const char *about, int argc, char **argv);
void cli_list_commands(const struct cli_command *table, const char *prefix);

/* -------------------------------------------------------------------------------------- answers */

/* Prints `doc` (taken) as the one document on stdout. CN_EIO when stdout cannot be written. */
int cli_answer_json(struct cli *c, json_t *doc);
/* A text for JSON, whatever it holds: bytes that are no UTF-8, and control characters, are shown as
 * cn_text_show shows them. Names of files and all that comes out of them go through here. */
json_t *cli_json_text(const char *s);
/* A document as text on `to`: what no terminal should get (DEL, C1, bidirectional controls) as \u009b,
 * which says the same. jansson's flags. 0, or -1 when it cannot be written. */
int cli_put_json(FILE *to, const json_t *doc, size_t flags);
/* Prints for people. All that is said to them with words out of files and messages goes through here
 * or through a table: their control characters are shown (base/text.h); tabs and line ends stay. */
void cli_print(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Reads a text that a user names, whole (as cn_file_read); `-` is standard input. */
int cli_read_text(struct cli *c, const char *path, size_t limit, char **text, size_t *n);
/* A number for JSON: null when it is not finite. */
json_t *cli_json_real(double v);
/* A remark for people on stderr; nothing under --quiet. */
void cli_say(const struct cli *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The exit code of a CN_E code: 0 fine, 1 the work failed, 2 usage or bad input, 3 cannot connect
 * or no device, 4 refused. */
int cli_exit_code(int code);

/* Terminal colours: the escape sequence when `stream` is a terminal and NO_COLOR is unset, else "".
 */
enum cli_colour { CLI_PLAIN, CLI_BOLD, CLI_DIM, CLI_RED, CLI_GREEN, CLI_YELLOW };
const char *cli_colour(int fd, enum cli_colour c);

/* Ctrl-C, SIGTERM and a terminal that is closed (SIGHUP) from here on only raise a flag; a second one ends the process at once. */
void cli_catch_signals(void);
int cli_signalled(void); /* how many came */

#endif
