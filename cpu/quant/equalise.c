/* cpu/quant/equalise.c - cross-layer equalisation.
 *
 * ReLU and max-pool commute with a positive factor per channel, so a channel may be scaled down where
 * it is written and up again where it is read (Nagel et al. 2019, arXiv 1906.04721, §4.1). Weights have
 * a scale per output channel here, so what limits precision is the activation, which has one scale for
 * all channels, against the columns of the next layer, which share each row's scale. The factor balances
 * those two: s = sqrt(activation range / column range), as SmoothQuant does (arXiv 2211.10438).
 */
#include <math.h>
#include <stdlib.h>

#include "cpu/quant/improve.h"

#define MOST_FACTOR 16.0 /* a channel is never scaled by more than this either way */

/* The one node that reads node i, through its first input; -1: none, several, or not a layer with
 * weights. */
static int only_reader(const struct quant_graph *g, int i)
{
    int reader = -1;
    for (int j = 0; j < g->n; j++) {
        if (g->node[j].input[0] != i && g->node[j].input[1] != i) continue;
        if (reader >= 0 || g->node[j].input[1] == i) return -1;
        reader = j;
    }
    if (reader < 0) return -1;
    enum quant_kind kind = g->node[reader].kind;
    return kind == QUANT_CONV || kind == QUANT_LINEAR ? reader : -1;
}

/* Weights of `node` that read one input channel stand together in each row: this many. */
static int per_channel(const struct quant_node *node)
{
    return node->kind == QUANT_CONV ? node->k : node->tin;
}

static float column_range(const struct quant_node *node, int c)
{
    int run = per_channel(node), columns = quant_node_columns(node);
    float most = 0;
    for (int r = 0; r < node->cout; r++)
        for (int k = 0; k < run; k++) most = fmaxf(most, fabsf(node->w[r * columns + c * run + k]));
    return most;
}

static void scale_channel(struct quant_node *from, struct quant_node *to, int c, float s)
{
    int columns = quant_node_columns(from), columns1 = quant_node_columns1(from);
    for (int j = 0; j < columns; j++) from->w[c * columns + j] /= s;
    for (int j = 0; j < columns1; j++) from->w1[c * columns1 + j] /= s;
    from->bias[c] /= s;
    int run = per_channel(to);
    columns = quant_node_columns(to);
    for (int r = 0; r < to->cout; r++)
        for (int k = 0; k < run; k++) to->w[r * columns + c * run + k] *= s;
}

static void equalise_pair(struct quant_node *from, struct quant_node *to, const float *most)
{
    double mean = 0;
    int alive = 0;
    for (int c = 0; c < from->cout; c++) {
        float column = column_range(to, c);
        if (most[c] <= 0 || column <= 0) continue;
        mean += 0.5 * log((double)most[c] / (double)column);
        alive++;
    }
    if (!alive) return;
    mean /= alive; /* the factors' geometric mean becomes 1 */
    for (int c = 0; c < from->cout; c++) {
        float column = column_range(to, c);
        if (most[c] <= 0 || column <= 0) continue;
        double s = exp(0.5 * log((double)most[c] / (double)column) - mean);
        scale_channel(from, to, c, (float)fmin(fmax(s, 1 / MOST_FACTOR), MOST_FACTOR));
    }
}

int quant_equalise(struct quant_graph *g, const struct quant_calibration *c,
                   int equalised[QUANT_MAX_NODES])
{
    int pairs = 0;
    for (int i = 0; i < g->n; i++) {
        int j = only_reader(g, i);
        equalised[i] = j >= 0 && (g->node[i].kind == QUANT_CONV || g->node[i].kind == QUANT_LINEAR);
        if (!equalised[i]) continue;
        equalise_pair(&g->node[i], &g->node[j], c->tensor[i + 1].most);
        pairs++;
    }
    return pairs;
}
