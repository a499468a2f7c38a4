/* Feeds an exported net with records.h and prints logits and probabilities as bits: a line a record. -DHOST: with
 * printf on this machine; else by semihosting. -DBARE: what a product would hold, for its size: the net, fed with zeros. */
#include <stdint.h>
#include <string.h>

#include "model.h"

#ifdef HOST
#include <stdio.h>
static void put(const char *text)
{
    fputs(text, stdout);
}
#else
void put(const char *text); /* start.c */
#endif

#ifdef BARE
volatile float result[MODEL_LABELS];

int main(void)
{
    float p[MODEL_LABELS];
    int i, t;
    for (i = 0; i < MODEL_LEADS; i++)
        for (t = 0; t < MODEL_SAMPLES; t++) model_put(i, t, 0);
    model_infer(0, p);
    for (i = 0; i < MODEL_LABELS; i++) result[i] = p[i];
    return 0;
}
#else
#include "records.h"

static void put_bits(float value)
{
    char text[10];
    uint32_t bits;
    int i;
    memcpy(&bits, &value, sizeof bits);
    for (i = 0; i < 8; i++) text[i] = "0123456789abcdef"[bits >> (28 - 4 * i) & 15];
    text[8] = ' ', text[9] = 0;
    put(text);
}

int main(void)
{
    const uint32_t *x = records;
    float mv, z[MODEL_LABELS], p[MODEL_LABELS];
    int r, i, t;
    for (r = 0; r < RECORDS; r++) {
        for (i = 0; i < MODEL_LEADS; i++)
            for (t = 0; t < MODEL_SAMPLES; t++, x++) {
                memcpy(&mv, x, sizeof mv);
                model_put(i, t, mv);
            }
        if (model_put(MODEL_LEADS, 0, 0) != -1 || model_put(0, -1, 0) != -1) put("no refusal\n");
        model_infer(z, p);
        for (i = 0; i < MODEL_LABELS; i++) put_bits(z[i]), put_bits(p[i]);
        put("\n");
    }
    return 0;
}
#endif
