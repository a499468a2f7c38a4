/* cinch-lat - one latency measurement in a process of its own: a JSON request on stdin, one JSON
 * document on stdout. Started by cpu/measure under the allocator that is to be live; not meant to
 * be typed by people (`cinch bench` is). Dies with its parent.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "cpu/measure/engine.h"

static const struct measure_engine_ops *const engines[3] = {
    &measure_engine_rt,
    &measure_engine_openblas,
    &measure_engine_onednn,
};

int main(int argc, char **argv)
{
    if (argc > 1) {
        printf("usage: cinch-lat < request.json\n"
               "Times one model in this process; `cinch bench` starts it.\n");
        return strcmp(argv[1], "--help") != 0 ? 2 : fflush(stdout) ? 1 : 0;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char request[16384];
    size_t n = fread(request, 1, sizeof request - 1, stdin);
    request[n] = 0;
    char *answer = measure_child(request, engines);
    if (!answer) return 1;
    puts(answer);
    free(answer);
    return fflush(stdout) ? 1 : 0;
}
