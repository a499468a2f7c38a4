/* cli/progress.c - see progress.h. The time left is what remains over the mean rate so far. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define FIRST_MS 1500
#define TERMINAL_EVERY_MS 100
#define LINE_EVERY_MS 10000
#define BAR 24

void cli_duration(double seconds, char out[24])
{
    if (!(seconds >= 0) || seconds > 1e7) {
        snprintf(out, 24, "?");
        return;
    }
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, 24, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 24, "%ld:%02ld", s / 60, s % 60);
}

void cli_progress_start(struct cli_progress *p, const struct cli *c, const char *label,
                        const char *unit)
{
    memset(p, 0, sizeof *p);
    p->quiet = c->quiet;
    p->terminal = isatty(STDERR_FILENO);
    snprintf(p->label, sizeof p->label, "%s", label);
    p->unit = unit;
    p->start_ms = cn_mono_ms();
}

static void print_line(struct cli_progress *p, double done, double total, const char *note,
                       double seconds)
{
    double share = total > 0 ? done / total : 0,
           rate = seconds > 0 ? (done - p->first) / seconds : 0;
    char left[24], bar[BAR * 3 + 1] = "";
    cli_duration(rate > 0 ? (total - done) / rate : -1, left);
    int full = (int)(share * BAR + 0.5);
    for (int i = 0; i < BAR; i++) strcat(bar, i < full ? "█" : "·");
    const char *unit = p->unit ? p->unit : "";
    if (p->terminal)
        fprintf(stderr, "\r\033[K\033[?7l%s %s %3.0f %%  %.*f %s/s  %s left%s%s\033[?7h", p->label,
                bar, share * 100, rate < 10 ? 1 : 0, rate, unit, left, note ? "  " : "",
                note ? note : "");
    else
        fprintf(stderr, "%s %.0f %%, %.*f %s/s, %s left%s%s\n", p->label, share * 100,
                rate < 10 ? 1 : 0, rate, unit, left, note ? ", " : "", note ? note : "");
    fflush(stderr);
}

void cli_progress_update(struct cli_progress *p, double done, double total, const char *note)
{
    if (p->quiet) return;
    int64_t now = cn_mono_ms();
    if (!p->started) {
        p->started = true;
        p->first = done;
        p->first_ms = now;
    }
    int64_t every = p->terminal ? TERMINAL_EVERY_MS : LINE_EVERY_MS;
    if (now - p->start_ms < FIRST_MS || (p->shown && now - p->last_ms < every)) return;
    p->shown = true;
    p->last_ms = now;
    print_line(p, done, total, note, (double)(now - p->first_ms) / 1000);
}

void cli_progress_end(struct cli_progress *p)
{
    if (p->shown && p->terminal) fputs("\r\033[K", stderr);
    p->shown = false;
    p->quiet = true;
}
