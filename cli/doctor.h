/* cli/doctor.h - the lines of `cinch doctor`, shared by its parts. */
#ifndef CINCH_CLI_DOCTOR_H
#define CINCH_CLI_DOCTOR_H

#include "cli/cli.h"

enum doctor_verdict {
    DOCTOR_OK,
    DOCTOR_WARN,   /* works, but worse */
    DOCTOR_MISSING /* some command will not work */
};

struct doctor {
    struct cli *c;
    json_t *list, *machine;
};

/* One line; fix: the step that mends it, or NULL. */
void doctor_note(struct doctor *d, const char *check, enum doctor_verdict v, const char *fix,
                 const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Lines about the GPUs; *cards is new also on failure. CN_ENODEVICE without card or driver. */
int doctor_gpus(struct doctor *d, json_t **cards);

#endif
