/* cli/training.c - see training.h. */
#include "cli/training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/data.h"
#include "cli/progress.h"

#define CHECKPOINT_S 60

struct watch {
    struct cli *c;
    struct cli_training *t;
    struct cli_progress bar;
    double best;
};

static void on_progress(void *arg, int member, const struct nn_epoch *e)
{
    struct watch *w = arg;
    char note[96] = "";
    if (e->epoch_done) {
        w->t->epochs = e->epoch;
        w->t->records_per_s = e->records_per_s;
        if (e->best) w->best = e->val_score;
    }
    if (isfinite(w->best))
        snprintf(note, sizeof note, "epoch %d/%d, best validation %.4f", e->epoch, e->epochs,
                 w->best);
    else
        snprintf(note, sizeof note, "epoch %d/%d", e->epoch, e->epochs);
    double done = e->epoch_done ? e->epoch : e->epoch - 1 + (double)e->batch / e->batches;
    cli_progress_update(&w->bar, done, e->epochs, note);
}

static int on_checkpoint(void *arg, int member, const void *data, size_t n)
{
    struct watch *w = arg;
    struct cli_checkpoint *ck = w->t->checkpoint;
    void *wrapped = NULL;
    int rc = 0;
    if (!ck) return 0;
    if (w->t->wrap) {
        rc = w->t->wrap(w->t->wrap_arg, data, n, &wrapped, &n, &ck->err);
        data = wrapped;
    }
    if (rc || cli_checkpoint_write(ck, data, n))
        cli_say(w->c, "checkpoint not written: %s", ck->err.text);
    free(wrapped);
    return 0; /* training goes on: the next one may succeed */
}

static int on_poll(void *arg, int member)
{
    return cli_signalled() ? 1 : 0;
}

static int interrupted(struct cli *c, const struct watch *w)
{
    const struct cli_checkpoint *ck = w->t->checkpoint;
    if (ck && ck->err.code)
        return cn_fail(&c->err, CN_EINTERRUPTED, "stopped, and the checkpoint was not written: %s",
                       ck->err.text);
    if (!ck || !ck->written)
        return cn_fail(&c->err, CN_EINTERRUPTED, "stopped; nothing was written");
    return cn_fail(&c->err, CN_EINTERRUPTED,
                   "stopped after %d epochs; the checkpoint is in %s. Give the same command with "
                   "`--resume %s` to go on",
                   w->t->epochs, ck->path, ck->path);
}

int cli_train(struct cli *c, struct cli_training *t)
{
    struct watch w = {.c = c, .t = t, .best = NAN};
    struct nn_train_member member = {.model = t->model,
                                     .seed = t->seed,
                                     .teacher = t->teacher,
                                     .mask = t->mask,
                                     .resume = t->resume,
                                     .resume_n = t->resume_n};
    struct nn_train run = {.backend = t->backend,
                           .data = t->data,
                           .recipe = t->recipe,
                           .m = 1,
                           .member = &member,
                           .events = {.arg = &w,
                                      .progress = on_progress,
                                      .checkpoint = on_checkpoint,
                                      .checkpoint_every_s = t->checkpoint ? CHECKPOINT_S : 0,
                                      .poll = on_poll}};
    cli_catch_signals();
    cli_progress_start(&w.bar, c, t->label, "epochs");
    int64_t start = cn_mono_ms();
    int rc = nn_train_run(&run, &c->err);
    cli_progress_end(&w.bar);
    t->seconds = (double)(cn_mono_ms() - start) / 1000;
    t->best_score = member.best_score;
    t->best_epoch = member.best_epoch;
    if (rc == CN_EINTERRUPTED) return interrupted(c, &w);
    return rc;
}

const char *cli_score_text(double score, char out[CLI_SCORE_TEXT])
{
    if (isfinite(score))
        snprintf(out, CLI_SCORE_TEXT, "validation %.4f", score);
    else
        snprintf(out, CLI_SCORE_TEXT, "no validation score: its records are none, or of one kind");
    return out;
}

int cli_save_model(struct cli *c, const struct cli_out *out, const struct nn_model *m)
{
    void *data;
    size_t n;
    int rc = nn_model_bytes(m, &data, &n, &c->err);
    if (rc) return rc;
    rc = cli_out_write(c, out, data, n);
    free(data);
    return rc;
}

int cli_device_open(struct cli *c, const char *name, int threads, struct cli_device *out)
{
    struct device_spec spec;
    memset(out, 0, sizeof *out);
    int rc = device_parse(name, &spec, &c->err);
    if (!rc) rc = device_open(&out->device, spec, &c->err);
    if (!rc)
        rc = device_backend(out->device, threads > 0 ? threads : cli_cores(), &out->backend,
                            &c->err);
    if (rc) cli_device_close(out);
    return rc;
}

void cli_device_close(struct cli_device *d)
{
    if (d->backend) d->backend->ops->destroy(d->backend);
    device_close(d->device);
    memset(d, 0, sizeof *d);
}
