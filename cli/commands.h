/* cli/commands.h - the handlers of main.c's table, one file each (or one for close relatives). */
#ifndef CINCH_CLI_COMMANDS_H
#define CINCH_CLI_COMMANDS_H

#include "cli/cli.h"

int cmd_train(struct cli *c, int argc, char **argv);
int cmd_prune(struct cli *c, int argc, char **argv);
int cmd_version(struct cli *c, int argc, char **argv);

#endif
