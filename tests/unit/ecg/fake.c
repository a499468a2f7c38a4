/* tests/unit/ecg/fake.c - see fake.h. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define LEADS 12
#define SAMPLES 1000

void must(int rc, const struct cn_error *err)
{
    if (rc < 0) fail_msg("%s", err->text);
}

void must_fail(int rc, int code, const struct cn_error *err, const char *part)
{
    if (rc != code)
        fail_msg("code %d where %d was due (%s)", rc, code, rc < 0 ? err->text : "fine");
    assert_int_equal(err->code, code);
    if (!strstr(err->text, part)) fail_msg("'%s' does not say '%s'", err->text, part);
}

static void folder_root(char out[128])
{
    snprintf(out, 128, CINCH_BINARY_DIR "/tests/ecg-%d", (int)getpid());
}

void fake_folder(char out[256], const char *name)
{
    char root[128];
    struct cn_error err;
    folder_root(root);
    snprintf(out, 256, "%s/%s", root, name);
    must(cn_rmtree(out, &err), &err);
    must(cn_mkdirs(out, &err), &err);
}

void fake_clear(void)
{
    char root[128];
    folder_root(root);
    cn_rmtree(root, NULL);
}

void fake_write(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

void fake_text(const char *dir, const char *file, const char *text)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    fake_write(path, text, strlen(text));
}

void fake_replace(const char *path, const char *from, const char *to)
{
    char *old;
    struct cn_error err;
    must(cn_file_read(path, 1 << 24, &old, NULL, &err), &err);
    char *at = strstr(old, from);
    assert_non_null(at);
    char *text = malloc(strlen(old) + strlen(to) + 1);
    sprintf(text, "%.*s%s%s", (int)(at - old), old, to, at + strlen(from));
    fake_write(path, text, strlen(text));
    free(text);
    free(old);
}

void fake_flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(c ^ 1, f), c ^ 1);
    assert_int_equal(fclose(f), 0);
}

/* --- PTB-XL ---------------------------------------------------------------------------------- */

int16_t fake_sample(int record, int lead, int t)
{
    return (int16_t)((t * 37 + lead * 101 + record * 1009 + t * t % 211) % 2000 - 1000);
}

static void fake_record(const char *dir, int i)
{
    static const char *const name[LEADS] = {"I",  "II", "III", "AVR", "AVL", "AVF",
                                            "V1", "V2", "V3",  "V4",  "V5",  "V6"};
    static uint8_t dat[LEADS * SAMPLES * 2];
    char hea[2048], path[512];
    const char *end = i % 2 ? "\r\n" : "\n";
    int n = sprintf(hea, "%05d_lr 12 100 1000%s", i, end);
    for (int l = 0; l < LEADS; l++) {
        uint16_t sum = 0;
        for (int t = 0; t < SAMPLES; t++) {
            uint16_t v = (uint16_t)fake_sample(i, l, t);
            dat[(t * LEADS + l) * 2] = (uint8_t)v;
            dat[(t * LEADS + l) * 2 + 1] = (uint8_t)(v >> 8);
            sum = (uint16_t)(sum + v);
        }
        n += sprintf(hea + n, "%05d_lr.dat 16 1000.0(0)/mV 16 0 %d %d 0 %s%s", i,
                     fake_sample(i, l, 0), (int16_t)sum, name[l], end);
    }
    snprintf(path, sizeof path, "%s/records100/00000/%05d_lr.hea", dir, i);
    fake_write(path, hea, (size_t)n);
    snprintf(path, sizeof path, "%s/records100/00000/%05d_lr.dat", dir, i);
    fake_write(path, dat, sizeof dat);
}

void fake_ptbxl(const char *dir, int n)
{
    static const char *const code[6] = {"NORM", "IMI", "IRBBB", "LVH", "NDT", "SR"};
    char path[512];
    struct cn_error err;
    snprintf(path, sizeof path, "%s/records100/00000", dir);
    must(cn_mkdirs(path, &err), &err);
    fake_text(dir, "scp_statements.csv",
              ",description,diagnostic,diagnostic_class\nNORM,normal ECG,1.0,NORM\n"
              "IMI,\"infarction, inferior\",1.0,MI\nIRBBB,block,1.0,CD\nLVH,hypertrophy,1.0,HYP\n"
              "NDT,T waves,1.0,STTC\nSR,sinus rhythm,,\n");
    char *csv = malloc((size_t)n * 160 + 200);
    int at = sprintf(csv, "ecg_id,report,scp_codes,strat_fold,filename_lr\n");
    for (int i = 1; i <= n; i++) {
        at += sprintf(csv + at,
                      "%d,\"a report, with \"\"quotes\"\"\n and a line\",\"{'%s': 100.0, 'SR': "
                      "0.0}\",%d,records100/00000/%05d_lr\n",
                      i, code[i % 6], (i - 1) % 10 + 1, i);
        fake_record(dir, i);
    }
    fake_text(dir, "ptbxl_database.csv", csv);
    free(csv);
}

/* --- MIT-BIH --------------------------------------------------------------------------------- */

int16_t fake_beat_sample(int lead, int t)
{
    return (int16_t)((t * 13 + lead * 500 + (t % 97) * (t % 97)) % 4000 - 1999);
}

static uint8_t *put_word(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}

static void fake_annotations(const char *dir, const char *record, int n, const char *codes)
{
    char path[512];
    uint8_t *atr = malloc((size_t)n), *p = atr;
    size_t k = 0;
    for (int t = 200, last = 0; t < n; last = t, t += 300, k++)
        p = put_word(p, (unsigned)(codes[k % strlen(codes)] << 10 | (t - last)));
    p = put_word(p, 0);
    snprintf(path, sizeof path, "%s/%s.atr", dir, record);
    fake_write(path, atr, (size_t)(p - atr));
    free(atr);
}

void fake_beats(const char *dir, const char *record, int n, const char *a, const char *b,
                const char *codes)
{
    char hea[512], path[512], file[64];
    uint8_t *dat = malloc((size_t)n * 3), *p = dat;
    uint16_t sum[2] = {0, 0};
    for (int t = 0; t < n; t++, p += 3) {
        unsigned x = (unsigned)fake_beat_sample(0, t), y = (unsigned)fake_beat_sample(1, t);
        p[0] = (uint8_t)x;
        p[1] = (uint8_t)((x >> 8 & 15) | (y >> 8 & 15) << 4);
        p[2] = (uint8_t)y;
        sum[0] = (uint16_t)(sum[0] + x);
        sum[1] = (uint16_t)(sum[1] + y);
    }
    snprintf(path, sizeof path, "%s/%s.dat", dir, record);
    fake_write(path, dat, (size_t)n * 3);
    free(dat);
    snprintf(hea, sizeof hea,
             "%s 2 360 %d\r\n%s.dat 212 200 11 1024 %d %d 0 %s\r\n%s.dat 212 200 11 1024 %d %d 0 "
             "%s\r\n# a comment\r\n",
             record, n, record, fake_beat_sample(0, 0), (int16_t)sum[0], a, record,
             fake_beat_sample(1, 0), (int16_t)sum[1], b);
    snprintf(file, sizeof file, "%s.hea", record);
    fake_text(dir, file, hea);
    fake_annotations(dir, record, n, codes);
}
