/* nn/schedule.c - see schedule.h. The formulas are PyTorch's: CosineAnnealingWarmRestarts,
 * ReduceLROnPlateau and OneCycleLR (cosine both ways, division by 25 at the start, lr_min at the
 * end). A warm-up of the cosine schedule is a straight rise over the first share of all steps. */
#include "nn/schedule.h"

#include <math.h>

#define PI 3.14159265358979323846
#define ONE_CYCLE_DIVISION 25

void nn_plateau_start(struct nn_plateau *p, const struct nn_recipe *r)
{
    *p = (struct nn_plateau){.lr = r->lr, .best = INFINITY};
}

void nn_plateau_epoch(struct nn_plateau *p, const struct nn_recipe *r, double val_loss)
{
    if (r->schedule != NN_PLATEAU) return;
    if (val_loss < p->best * (1 - 1e-4)) {
        p->best = val_loss;
        p->bad = 0;
    } else if (++p->bad > r->period) {
        p->lr = fmax(p->lr * r->factor, r->lr_min);
        p->bad = 0;
    }
}

static double cosine(double from, double to, double share)
{
    return to + (from - to) * (1 + cos(PI * share)) / 2;
}

static double one_cycle(const struct nn_recipe *r, double step, double steps)
{
    double rise = r->warmup * steps - 1, low = r->lr / ONE_CYCLE_DIVISION;
    if (rise > 0 && step <= rise) return cosine(low, r->lr, step / rise);
    if (rise < 0) rise = 0;
    double fall = steps - 1 - rise;
    return cosine(r->lr, r->lr_min, fall > 0 ? (step - rise) / fall : 1);
}

double nn_schedule_lr(const struct nn_recipe *r, const struct nn_plateau *p, int epoch, int batch,
                      int batches)
{
    double at = epoch + (r->per_step ? (double)batch / batches : 0), lr = r->lr;
    double step = (double)epoch * batches + batch, steps = (double)r->epochs * batches;
    int period = r->period > 0 ? r->period : r->epochs;
    switch (r->schedule) {
    case NN_CONSTANT:
        break;
    case NN_COSINE:
        lr = cosine(r->lr, r->lr_min, fmod(at, period) / period);
        if (step + 1 < r->warmup * steps) lr *= (step + 1) / (r->warmup * steps);
        break;
    case NN_PLATEAU:
        lr = p->lr;
        break;
    case NN_ONE_CYCLE:
        lr = r->per_step ? one_cycle(r, step, steps) : one_cycle(r, epoch, r->epochs);
        break;
    }
    return lr;
}
