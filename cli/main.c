/* cli/main.c - `cinch`: the table of commands, and how a command's end becomes an exit code. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/commands.h"

static const struct cli_command commands[] = {
    {"train", "one net, from initialisation to its best weights", cmd_train, "Files"},
    {"prune", "remove structures in rounds, fine-tune after each", cmd_prune, NULL},
    {"quantize", "a checkpoint becomes an int8 artifact", cmd_quantize, NULL},
    {"eval", "AUROC of a checkpoint or an artifact", cmd_eval, NULL},
    {"bench", "how long one inference takes", cmd_bench, NULL},
    {"infer", "classify raw records", cmd_infer, NULL},
    {"inspect", "what is inside a checkpoint or an artifact", cmd_inspect, NULL},
    {"export", "a checkpoint or an artifact as ONNX or C source", cmd_export, NULL},
    {"data", "add, list, verify and show datasets", cmd_data, NULL},
    {"run", "a whole grid in this process, to artifacts and a report", cmd_run, "Grids"},
    {"submit", "file a grid with a coordinator", cmd_submit, NULL},
    {"ls", "the runs", cmd_ls, NULL},
    {"watch", "follow a run until it ends", cmd_watch, NULL},
    {"show", "everything about a run or a job", cmd_show, NULL},
    {"log", "what happened to a run or a job", cmd_log, NULL},
    {"explain", "why a job waits or failed", cmd_explain, NULL},
    {"cancel", "stop runs or jobs", cmd_cancel, NULL},
    {"retry", "run failed jobs again", cmd_retry, NULL},
    {"get", "download the artifacts of a run", cmd_get, NULL},
    {"report", "quality, size and latency of a run", cmd_report, NULL},
    {"pause", "start no more jobs of a run", cmd_pause, NULL},
    {"resume", "let a paused run go on", cmd_resume, NULL},
    {"workers", "who trains and measures", cmd_workers, "Service and machine"},
    {"keys", "create, list and revoke keys", cmd_keys, NULL},
    {"doctor", "what this machine has, what is missing", cmd_doctor, NULL},
    {"selftest", "does this machine compute what it should", cmd_selftest, NULL},
    {"version", "which cinch this is", cmd_version, NULL},
    {NULL, NULL, NULL, NULL},
};

static void help(void)
{
    printf("usage: cinch COMMAND [options]\n"
           "Trains, distils, prunes and int8-quantises small ECG networks.\n");
    cli_list_commands(commands, "");
    printf("\nEvery command takes --json (one document on stdout), --quiet and --help.\n"
           "Exit codes: 0 fine, 1 the work failed, 2 usage or bad input, 3 cannot connect or no "
           "device, 4 refused.\n");
}

/* The error goes to people on stderr and, under --json, to programs as the one document. */
static int report(struct cli *c, int code)
{
    int fd = 2;
    fprintf(stderr, "%scinch%s%s: %s%s\n", cli_colour(fd, CLI_RED), *c->command ? " " : "",
            c->command, cli_colour(fd, CLI_PLAIN), c->err.text);
    if (c->json && !c->answered)
        cli_answer_json(c, json_pack("{s:{s:s, s:s}}", "error", "code", cn_code_name(code), "text",
                                     c->err.text));
    return cli_exit_code(code);
}

static int run(struct cli *c, int argc, char **argv)
{
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        (argc == 2 && !strcmp(argv[1], "help"))) {
        help();
        return 0;
    }
    if (!strcmp(argv[1], "help")) {
        char *forward[] = {argv[2], "--help"};
        return cli_dispatch(c, commands, "command", 2, forward);
    }
    if (!strcmp(argv[1], "--version")) argv[1] = "version";
    return cli_dispatch(c, commands, "command", argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    struct cli c = {.json = false};
    if (cn_std_open()) return 1;
    signal(SIGPIPE,
           SIG_IGN); /* a closed pipe, and a file over its limit, are errors of the write */
    signal(SIGXFSZ, SIG_IGN);
    for (int i = 1; i < argc; i++) /* before parsing: an error in parsing is answered in JSON too */
        if (!strcmp(argv[i], "--json")) c.json = true;
    int rc = run(&c, argc, argv), code = argc < 2 ? 2 : 0;
    if (rc < 0) code = report(&c, rc);
    struct cn_error lost;
    if (cn_stdout_end(&lost) && rc >= 0) {
        fprintf(stderr, "cinch%s%s: %s\n", *c.command ? " " : "", c.command, lost.text);
        code = 1;
    }
    return code;
}
