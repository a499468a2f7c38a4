/* cli/out.h - the one door through which a command's results reach a file.
 *
 * A command that writes a file names it in a cli_out, has it checked before any work, and hands the
 * bytes over at the end. The door keeps what is there: a file that exists is replaced only with
 * --force, what the command reads never, links stay links, devices and FIFOs stay what they are, and
 * a name whose ending stands for another format is refused. `-` is standard output. Folders of
 * results have a door of their own, cli/outdir.h. */
#ifndef CINCH_CLI_OUT_H
#define CINCH_CLI_OUT_H

#include <stdio.h>

#include "cli/cli.h"

enum cli_form { /* bits: what endings a name may have */
                CLI_FORM_MODEL = 1,
                CLI_FORM_ARTIFACT = 2,
                CLI_FORM_ONNX = 4,
                CLI_FORM_C = 8,
                CLI_FORM_CSV = 16,
                CLI_FORM_SVG = 32,
                CLI_FORM_TEXT = 64,
                CLI_FORM_KEY = 128,
};

#define CLI_OUT_INPUTS 5

struct cli_out {
    const char *path; /* as given; NULL: the command writes no file, and all below is silent */
    enum cli_form form;
    bool force;
    const char *input[CLI_OUT_INPUTS]; /* files that the command reads; NULL: none */
};

#define OPT_FORCE(out) OPT_FLAG("force", 0, &(out)->force, "replace a file that exists")

/* Before any work: whether the file can and may be written. CN_EINVALID for a wrong ending, an input
 * or something that is no file; CN_EEXISTS without --force; else as cn_file_probe. */
int cli_out_check(struct cli *c, const struct cli_out *out);

/* Writes the file, durably. Where that fails although the check had passed (something appeared
 * there, or the folder is gone), the bytes are kept under a free name: beside it, else in the folder
 * one is in, else where temporary files go; the error, CN_EIO, names it. */
int cli_out_write(struct cli *c, const struct cli_out *out, const void *data, size_t n);

/* Where the sentence about the result goes: stdout, or stderr when the bytes went to stdout. */
FILE *cli_out_words(const struct cli_out *out);

/* Whether two names stand for one file that exists, through links too. */
bool cli_same_file(const char *a, const char *b);

/* CN_EINVALID unless `path` may hold this form by its ending. */
int cli_out_ending(struct cli *c, const char *path, enum cli_form form);

#endif
