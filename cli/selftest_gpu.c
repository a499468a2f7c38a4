/* cli/selftest_gpu.c - the GPU's part of `cinch selftest`: each op natively, by cuDNN and on the CPU; a
 * short training of each net on both; and how long a training step takes at full width. */
#include <math.h>
#include <string.h>

#include "cli/data.h"
#include "cli/selftest.h"
#include "cpu/train/backend.h"
#include "gpu/gpu.h"
#include "nn/train.h"
#include "workers/device.h"

static const char *const nets[] = {"cnn", "rnn", "resnet"};

/* ---- the card ---- */

static void note_card(struct selftest *s, const struct cinch_gpu_info *i)
{
    selftest_note(
        s, "card", i->name, true, NULL,
        "compute %d.%d, %d SMs, %.1f of %.1f GB free, ECC %s, PCI %s, runtime %d.%d, driver "
        "for %d.%d",
        i->major, i->minor, i->sms, (double)i->memory_free / 1e9, (double)i->memory / 1e9,
        i->ecc ? "on" : "off", i->pci, i->runtime / 1000, i->runtime % 1000 / 10, i->driver / 1000,
        i->driver % 1000 / 10);
    selftest_note(s, "card", "libraries", true, NULL, "cuBLAS %d, cuDNN %d, NCCL %d%s%s", i->cublas,
                  i->cudnn, i->nccl, *i->missing ? "; missing: " : "", i->missing);
}

/* ---- training ---- */

static void check_net(struct selftest *s, const char *net, struct device *d, struct nn_backend *cpu,
                      const struct ecg_dataset *data)
{
    struct nn_backend *gpu = NULL;
    struct cn_error err = {0};
    double expected, loss;
    int rc = device_backend(d, 1, &gpu, &err);
    if (!rc) rc = selftest_train(cpu, net, data, &expected, NULL, &err);
    if (!rc) rc = selftest_train(gpu, net, data, &loss, NULL, &err);
    if (gpu) gpu->ops->destroy(gpu);
    if (rc)
        selftest_note(s, "training", net, false, NULL, "%s", err.text);
    else
        selftest_note(s, "training", net, fabs(loss - expected) <= 1e-3 * fabs(expected), NULL,
                      "loss %.6f, on the CPU %.6f", loss, expected);
}

static void last_rate(void *arg, int member, const struct nn_epoch *e)
{
    if (e->epoch_done) *(double *)arg = e->records_per_s;
}

/* Time of a step of the full net, as a whole graph, from the last of three epochs. */
static void time_net(struct selftest *s, const char *net, struct device *d,
                     const struct ecg_dataset *data)
{
    struct nn_backend *gpu = NULL;
    struct cn_error err = {0};
    struct nn_recipe r;
    struct nn_net *built = NULL;
    struct nn_train_member m = {.seed = 1};
    double rate = 0;
    int rc = nn_recipe_named(&r, "paper", net, &err);
    r.epochs = 3;
    struct nn_shape shape = {data->n_leads, data->n_samples, data->n_labels};
    if (!rc) rc = nn_net_build(&built, net, NULL, 0, shape, &err);
    if (!rc) rc = nn_model_create(&m.model, built, 1, data, &err);
    if (!rc) rc = device_backend(d, 1, &gpu, &err);
    struct nn_train t = {.backend = gpu, .data = data, .recipe = &r, .m = 1, .member = &m};
    t.events.arg = &rate;
    t.events.progress = last_rate;
    if (!rc) rc = nn_train_run(&t, &err);
    if (gpu) gpu->ops->destroy(gpu);
    nn_model_destroy(m.model);
    double ms = rate > 0 ? r.batch / rate * 1000 : NAN;
    if (rc)
        selftest_note(s, "step", net, false, NULL, "%s", err.text);
    else
        selftest_note(s, "step", net, rate > 0, json_pack("{s:f}", "ms", ms),
                      "batch %d: %.3f ms, %.0f records/s", r.batch, ms, rate);
}

/* ---- */

static void check_ops(struct selftest *s, struct device *d, struct nn_backend *cpu, bool dnn)
{
    struct selftest_side side[3] = {{"cpu", cpu, 0}, {"native", NULL, 0}, {"cudnn", NULL, 1}};
    struct cn_error err = {0};
    int n = dnn ? 3 : 2, rc = device_backend_by(d, CINCH_ENGINE_NATIVE, &side[1].be, &err);
    if (!rc && dnn) rc = device_backend_by(d, CINCH_ENGINE_CUDNN, &side[2].be, &err);
    if (!rc)
        selftest_ops(s, "ops", side, n);
    else
        selftest_note(s, "ops", "backends", false, NULL, "%s", err.text);
    for (int i = 1; i < 3; i++)
        if (side[i].be) side[i].be->ops->destroy(side[i].be);
}

int selftest_gpu(struct selftest *s, const struct device_spec *spec)
{
    struct cinch_gpu_info info;
    struct ecg_dataset *data = NULL, *large = NULL;
    struct device *d = NULL;
    struct nn_backend *cpu = NULL;
    struct cpu_train_options opt = {.threads = cli_cores()};
    int count, rc = device_gpu_info(spec->gpu[0], &count, &info, &s->c->err);
    if (!rc) rc = device_open(&d, *spec, &s->c->err);
    if (!rc) rc = cpu_train_create(&cpu, &opt, &s->c->err);
    if (!rc) rc = selftest_data(&data, s->quick ? 20 : 200, 12, s->quick ? 170 : 1000, &s->c->err);
    if (!rc && !s->quick) rc = selftest_data(&large, 1500, 12, 1000, &s->c->err);
    if (!rc) {
        note_card(s, &info);
        check_ops(s, d, cpu, info.cublas && info.cudnn);
        for (int k = 0; k < (s->quick ? 2 : 3); k++) check_net(s, nets[k], d, cpu, data);
        for (int k = 0; k < 3 && large; k++) time_net(s, nets[k], d, large);
    }
    if (cpu) cpu->ops->destroy(cpu);
    selftest_data_free(data);
    selftest_data_free(large);
    device_close(d);
    return rc;
}
