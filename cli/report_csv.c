/* cli/report_csv.c - a report for spreadsheets: one line a measured net, one more for each further
 * allocator or machine that it was timed under, and one for each that is asked for and missing. The
 * columns stand in the first line; new ones are added at the end. */
#include <math.h>

#include "base/text.h"
#include "cli/report.h"
#include "cli/report_rows.h"
#include "ecg/csv.h"

static const char *const heads =
    "net,split,seed,distilled,unit,schedule,rounds,norm,keep,finetune_epochs,kept,params,macs,"
    "macs_nonzero_float,macs_nonzero_int8,auroc_float,auroc_int8,accuracy_float,accuracy_int8,"
    "macro_f1_float,macro_f1_int8,bytes_float,bytes_int8,latency_float_us,latency_int8_us,"
    "state,group,round,widths,auroc_float_validation,auroc_int8_validation,"
    "accuracy_float_validation,accuracy_int8_validation,macro_f1_float_validation,"
    "macro_f1_int8_validation,allocator,isa,engine,cpu,"
    "latency_float_p50_us,latency_float_p50_low_us,latency_float_p50_high_us,"
    "latency_float_processes,latency_float_disturbed_by,"
    "latency_int8_p50_us,latency_int8_p50_low_us,latency_int8_p50_high_us,"
    "latency_int8_processes,latency_int8_disturbed_by";

/* Names and reasons come from files and messages of others: what would move a terminal is shown. */
static void put_text(FILE *to, const char *value)
{
    char shown[1024];
    cn_text_show(shown, sizeof shown, value);
    if (*shown) ecg_csv_put(to, shown); /* nothing told: nothing, not an empty text in quotes */
}

static void text(FILE *to, const char *value)
{
    fputc(',', to);
    put_text(to, value);
}

static void real(FILE *to, double v, const char *form)
{
    fputc(',', to);
    if (isfinite(v)) fprintf(to, form, v);
}

static void pair(FILE *to, const double v[2], const char *form)
{
    for (int k = 0; k < 2; k++) real(to, v[k], form);
}

/* "16 32 48 16" */
static void put_widths(FILE *to, const json_t *widths)
{
    fputc(',', to);
    for (size_t i = 0; i < json_array_size(widths); i++)
        fprintf(to, "%s%lld", i ? " " : "",
                (long long)json_integer_value(json_array_get(widths, i)));
}

static void put_timing(FILE *to, const struct timing *t)
{
    real(to, t ? t->p50 : NAN, "%.3f");
    real(to, t ? t->low : NAN, "%.3f");
    real(to, t ? t->high : NAN, "%.3f");
    real(to, t ? t->processes : NAN, "%.0f");
    text(to, t ? t->disturbed_by : "");
}

static void put_row(const struct report *r, const struct row *w, const struct timing *const t[2],
                    FILE *to)
{
    const struct timing *some = t[0] ? t[0] : t[1];
    const struct setup none = {"", "", "", "", ""}, *s = some ? &r->setup[some->setup] : &none;
    put_text(to, w->net);
    text(to, w->split);
    fprintf(to, ",%lld,%d", (long long)w->seed, w->distilled);
    text(to, w->unit);
    text(to, w->schedule);
    fprintf(to, ",%d", w->rounds);
    text(to, w->norm);
    fprintf(to, ",%g,%d", w->keep, w->epochs);
    real(to, w->kept, "%.6f");
    fprintf(to, ",%lld,%lld", (long long)w->params, (long long)w->macs);
    pair(to, w->nonzero, "%.0f");
    for (int m = 0; m < MEASURES; m++) pair(to, w->quality[m][TEST], "%.6f");
    pair(to, w->bytes, "%.0f");
    for (int k = 0; k < 2; k++) real(to, t[k] ? t[k]->mean : NAN, "%.3f");
    text(to, w->measured ? "measured" : "missing");
    text(to, r->group[w->group].label);
    fprintf(to, ",%d", w->round);
    put_widths(to, w->widths);
    for (int m = 0; m < MEASURES; m++) pair(to, w->quality[m][VALIDATION], "%.6f");
    text(to, s->allocator);
    text(to, s->isa);
    text(to, s->engine);
    text(to, s->cpu);
    for (int k = 0; k < 2; k++) put_timing(to, t[k]);
    fputc('\n', to);
}

void report_csv(const struct report *r, FILE *to)
{
    fprintf(to, "%s\n", heads);
    for (int i = 0, from = 0; i < r->n; i++) {
        int end = from, lines = 0;
        while (end < r->n_timings && r->timing[end].row == i) end++;
        for (int setup = 0; setup < r->n_setups; setup++) {
            const struct timing *t[2] = {NULL, NULL};
            for (int k = from; k < end; k++)
                if (r->timing[k].setup == setup) t[r->timing[k].kind] = &r->timing[k];
            if (!t[0] && !t[1]) continue;
            put_row(r, &r->row[i], t, to);
            lines++;
        }
        const struct timing *const untimed[2] = {NULL, NULL};
        if (!lines) put_row(r, &r->row[i], untimed, to);
        from = end;
    }
}
