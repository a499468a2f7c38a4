/* ecg/signal.c - see signal.h. A gap is a stretch of missing samples. It is bridged by the straight line
 * between its neighbours, so that a gap at the start or the end, which has only one, never is. */
#include "ecg/signal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

int ecg_gaps_parse(struct ecg_gaps *g, const char *text, struct cn_error *err)
{
    static const char way[] = "interpolate";
    g->bridge = 0;
    if (!text || !strcmp(text, "refuse")) return 0;
    if (!strcmp(text, way)) {
        g->bridge = ECG_GAP_DEFAULT;
        return 0;
    }
    char *end = NULL;
    if (!strncmp(text, way, sizeof way - 1) && text[sizeof way - 1] == ':')
        g->bridge = strtod(text + sizeof way, &end);
    if (end && end != text + sizeof way && !*end && g->bridge > 0 && g->bridge <= ECG_GAP_MOST)
        return 0;
    g->bridge = 0;
    return cn_fail(err, CN_EINVALID,
                   "gaps: '%.40s' is none of refuse, interpolate, interpolate:SECONDS (at most %g)",
                   text, ECG_GAP_MOST);
}

/* --- units ----------------------------------------------------------------------------------- */

/* 0: not a voltage. Both micro signs of Unicode are in use: U+00B5 and the Greek letter U+03BC. */
static double millivolts_per(const char *unit)
{
    static const struct {
        const char *prefix;
        double mv;
    } known[] = {{"m", 1},  {"u", 1e-3}, {"\xc2\xb5", 1e-3}, {"\xce\xbc", 1e-3},
                 {"", 1e3}, {"n", 1e-6}, {"k", 1e6}};
    size_t n = strlen(unit);
    if (!n || (unit[n - 1] != 'V' && unit[n - 1] != 'v')) return 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].prefix) == n - 1 && !strncmp(unit, known[i].prefix, n - 1))
            return known[i].mv;
    return 0;
}

int64_t ecg_signal_mv(const struct ecg_record *r, int s, double *out, struct cn_error *err)
{
    const struct ecg_signal *sig = &r->header.signal[s];
    const int32_t *adc = r->adc + s * r->header.n_samples;
    double unit = millivolts_per(sig->units);
    int64_t missing = 0;
    if (unit == 0)
        return cn_fail(
            err, CN_EUNSUPPORTED,
            "%s:%d: record %s, signal %d (%s): unit '%s' is not a voltage (V, mV, uV, nV); "
            "leave the signal out or put the header right",
            r->path, sig->line, r->header.record, s, sig->name, sig->units);
    if (!sig->calibrated)
        cn_warn("ecg", "%s:%d: signal %s is not calibrated (gain 0 or none); %g units per %s taken",
                r->path, sig->line, sig->name, sig->gain, sig->units);
    for (int64_t t = 0; t < r->header.n_samples; t++) {
        if (adc[t] == ECG_MISSING) {
            out[t] = NAN;
            missing++;
            continue;
        }
        out[t] = ((double)adc[t] - sig->baseline) / sig->gain * unit;
        if (!(fabs(out[t]) <= ECG_MAX_MV))
            return cn_fail(
                err, CN_EINVALID,
                "%s:%d: record %s, signal %d (%s): sample %lld would be %g mV, which is no "
                "voltage of a body; put gain (%g), baseline (%d) and unit right",
                r->path, sig->line, r->header.record, s, sig->name, (long long)t, out[t], sig->gain,
                sig->baseline);
    }
    return missing;
}

/* --- gaps ------------------------------------------------------------------------------------ */

/* What was found missing in a signal. */
struct lack {
    int64_t gaps, bridged; /* how many gaps there are; samples in those that were bridged */
    int64_t first;         /* sample where the first gap that remains starts, or -1 */
    int64_t longest;       /* samples of the longest that remains */
};

/* A line from x[from - 1] to x[to]. */
static void draw_line(double *x, int64_t from, int64_t to)
{
    double step = (x[to] - x[from - 1]) / (double)(to - from + 1), start = x[from - 1];
    for (int64_t t = from; t < to; t++) x[t] = start + step * (double)(t - from + 1);
}

/* Bridges what is no longer than `most` samples. */
static struct lack bridge(double *x, int64_t n, int64_t most)
{
    struct lack l = {.first = -1};
    for (int64_t t = 0, end; t < n; t = end) {
        end = t + 1;
        if (!isnan(x[t])) continue;
        while (end < n && isnan(x[end])) end++;
        l.gaps++;
        if (t > 0 && end < n && end - t <= most) {
            draw_line(x, t, end);
            l.bridged += end - t;
            continue;
        }
        if (l.first < 0) l.first = t;
        if (end - t > l.longest) l.longest = end - t;
    }
    return l;
}

static int refuse(const struct ecg_record *r, int s, int64_t missing, const struct lack *l,
                  double seconds, struct cn_error *err)
{
    double hz = r->header.hz;
    char how[160] = "bridge short gaps with --gaps interpolate";
    if (seconds > 0)
        snprintf(how, sizeof how,
                 "only gaps of up to %g s inside a record are bridged (--gaps interpolate:SECONDS)",
                 seconds);
    return cn_fail(
        err, CN_EINVALID,
        "%s: lead %s: %lld samples are missing in %lld gap%s; the first%s is at %g s, the "
        "longest %g s: leave the record out; %s",
        r->path, r->header.signal[s].name, (long long)missing, (long long)l->gaps,
        l->gaps == 1 ? "" : "s", seconds > 0 ? " that stays" : "", (double)l->first / hz,
        (double)l->longest / hz, how);
}

int64_t ecg_signal_whole(const struct ecg_record *r, int s, const struct ecg_gaps *g, double *out,
                         struct cn_error *err)
{
    int64_t missing = ecg_signal_mv(r, s, out, err);
    if (missing <= 0) return missing;
    int64_t most = ecg_sample_at(g->bridge, r->header.hz);
    struct lack l = bridge(out, r->header.n_samples, most);
    if (l.first >= 0) return refuse(r, s, missing, &l, g->bridge, err);
    cn_warn("ecg", "%s: lead %s: %lld missing samples in %lld gap%s bridged", r->path,
            r->header.signal[s].name, (long long)l.bridged, (long long)l.gaps,
            l.gaps == 1 ? "" : "s");
    return l.bridged;
}
