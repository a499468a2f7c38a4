/* cli/cmd_version.c - which cinch this is. */
#include <stdio.h>

#include "cli/commands.h"

int cmd_version(struct cli *c, int argc, char **argv)
{
    struct cli_use use = {"", "Prints the version.", NULL, 0, 0, 0, NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    if (c->json)
        return cli_answer_json(c,
                               json_pack("{s:s, s:s}", "name", "cinch", "version", CINCH_VERSION));
    printf("cinch %s\n", CINCH_VERSION);
    return 0;
}
