/* cli/cmd_selftest.c - `cinch selftest`: does this machine compute what it should? One page of text,
 * made to be sent along with a question. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/out.h"
#include "cli/selftest.h"
#include "cli/service.h"
#include "cli/table.h"
#include "cpu/measure/measure.h"
#include "cpu/rt/cinchrt.h"
#include "workers/device.h"

struct args {
    bool gpu, quick;
    const char *device;
    struct cli_out out;
};

void selftest_note(struct selftest *s, const char *group, const char *name, bool ok,
                   json_t *figures, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_t *o =
        json_pack("{s:s, s:s, s:b, s:s}", "group", group, "name", name, "ok", ok, "detail", text);
    if (figures) json_object_update(o, figures);
    json_decref(figures);
    json_array_append_new(s->checks, o);
    s->failed += !ok;
    if (s->talk || !ok) cli_say(s->c, "%s %s, %s: %s", ok ? "ok    " : "FAILED", group, name, text);
}

/* ---- the page ---- */

static void print_head(FILE *to, const json_t *machine)
{
    char date[40];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", &utc);
    cli_print(to, "cinch %s selftest, %s\n%s, kernels up to %s\n\n", CINCH_VERSION, date,
              cli_text(machine, "cpu"), cinchrt_isa_name(cinchrt_isa_best()));
}

static void print_page(const struct selftest *s, const json_t *machine, FILE *to)
{
    const char *group = "";
    struct cli_table *t = NULL;
    print_head(to, machine);
    for (size_t i = 0; i < json_array_size(s->checks); i++) {
        const json_t *o = json_array_get(s->checks, i);
        if (strcmp(group, cli_text(o, "group"))) {
            cli_table_print(t, to);
            cli_table_destroy(t);
            group = cli_text(o, "group");
            cli_print(to, "%s%s\n", i ? "\n" : "", group);
            t = cli_table_create("\tCHECK\tFOUND", "lll");
        }
        cli_table_add(t, "%s\t%s\t%s", json_is_true(json_object_get(o, "ok")) ? "ok" : "FAILED",
                      cli_text(o, "name"), cli_text(o, "detail"));
    }
    cli_table_print(t, to);
    cli_table_destroy(t);
    size_t n = json_array_size(s->checks);
    if (s->failed)
        cli_print(to, "\n%d of %zu checks FAILED\n", s->failed, n);
    else
        cli_print(to, "\nall %zu checks passed\n", n);
}

static int write_page(struct cli *c, const struct selftest *s, const json_t *machine,
                      const struct cli_out *out)
{
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    if (!to) return cn_fail(&c->err, CN_ENOMEM, "out of memory");
    print_page(s, machine, to);
    int rc =
        fclose(to) ? cn_fail(&c->err, CN_ENOMEM, "out of memory") : cli_out_write(c, out, text, n);
    free(text);
    return rc;
}

static int answer(struct cli *c, const struct args *a, const struct selftest *s, json_t *machine)
{
    int rc = a->out.path ? write_page(c, s, machine, &a->out) : 0;
    if (rc) return rc;
    if (c->json)
        rc = cli_answer_json(c, json_pack("{s:s, s:b, s:i, s:O, s:O}", "version", CINCH_VERSION,
                                          "ok", s->failed == 0, "failed", s->failed, "checks",
                                          s->checks, "machine", machine));
    else if (!a->out.path)
        print_page(s, machine, stdout);
    if (rc || !s->failed) return rc;
    return cn_fail(&c->err, CN_EINTERNAL, "%d of %zu checks failed: this machine computes wrong",
                   s->failed, json_array_size(s->checks));
}

static int parse(struct cli *c, struct args *a, struct device_spec *spec, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_FLAG("gpu", 0, &a->gpu, "check the GPU: op by op native, by cuDNN and on the CPU"),
        OPT_TEXT("device", 0, &a->device, "D", "with --gpu: gpu:N; gpu:0"),
        OPT_FLAG("quick", 0, &a->quick, "with --gpu: small shapes, no step times"),
        OPT_TEXT("output", 'o', &a->out.path, "FILE", "write the page there"),
        OPT_FORCE(&a->out),
        OPT_END};
    struct cli_use use = {"[--gpu] [-o FILE]",
                          "Checks that this machine computes what it should; exit code 1 when not.",
                          options,
                          0,
                          0,
                          0,
                          NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc) rc = device_parse(a->device, spec, &c->err);
    if (!rc && a->gpu && spec->kind != DEVICE_GPU)
        rc = cn_fail(&c->err, CN_EINVALID, "--device '%s' is no GPU", a->device);
    a->out.form = CLI_FORM_TEXT;
    return rc ? rc : cli_out_check(c, &a->out);
}

int cmd_selftest(struct cli *c, int argc, char **argv)
{
    struct args a = {.device = "gpu"};
    struct device_spec spec;
    int rc = parse(c, &a, &spec, argc, argv);
    if (rc) return rc;
    char *text = measure_machine_json(-1);
    json_t *machine = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (!machine) machine = json_object();
    struct selftest s = {
        .c = c, .quick = a.quick, .talk = c->json || a.out.path, .checks = json_array()};
    rc = a.gpu ? selftest_gpu(&s, &spec) : selftest_cpu(&s);
    if (!rc) rc = answer(c, &a, &s, machine);
    json_decref(s.checks);
    json_decref(machine);
    return rc;
}
