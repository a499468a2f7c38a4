/* budget.c - see budget.h. Other slots take memory between this look and the training itself; who
 * loses that race meets CN_ENOMEM there and is tried again (slot.c). */
#include "workers/budget.h"

#include "base/log.h"

static int too_large(const struct nn_need *n, struct cn_error *err)
{
    const double mb = 1e-6;
    return cn_fail(
        err, CN_ENOMEM,
        "the job needs %.0f MB on the device (%.0f activations, %.0f state, %.0f dataset, %.0f "
        "working memory), and %.0f of %.0f MB are left; use a smaller batch or a larger card",
        (double)n->total * mb, (double)n->activations * mb, (double)n->state * mb,
        (double)n->data * mb, (double)n->working * mb, (double)n->left * mb,
        (double)n->device * mb);
}

int budget_members(const struct nn_train *run, int *members, struct cn_error *err)
{
    struct nn_need need = {0};
    for (*members = run->m; *members > 0; --*members) {
        int rc = nn_train_need(run, *members, &need, err);
        if (rc) return rc;
        if (need.total > need.left && need.device) continue;
        if (*members < run->m)
            cn_info("worker", "%d of a gang of %d fit into the %.0f MB that are left on the device",
                    *members, run->m, (double)need.left * 1e-6);
        return 0;
    }
    return too_large(&need, err);
}
