/* Fuzz target of the CSV reader and of PTB-XL's table: the input is read as plain rows, then as
 * ptbxl_database.csv. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ecg/csv.h"
#include "ecg/ptbxl.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* A field as it is written reads back as itself. */
static void write_and_read(const char *field)
{
    char *row = NULL;
    size_t n = 0;
    struct ecg_csv c;
    struct cn_error err = {0};
    FILE *f = open_memstream(&row, &n);
    fputs("a,b,c\n1,", f);
    ecg_csv_put(f, field);
    fputs(",3\n", f);
    fclose(f);
    if (ecg_csv_start(&c, "own.csv", row, n, &err) || ecg_csv_row(&c, &err) != 1 ||
        strcmp(c.field[1], field) != 0 || strcmp(c.field[2], "3") != 0)
        __builtin_trap();
    free(row);
}

static void rows(const uint8_t *data, size_t n)
{
    struct ecg_csv c;
    struct cn_error err = {0};
    char *text = malloc(n + 1);
    memcpy(text, data, n);
    text[n] = 0;
    int rc = ecg_csv_start(&c, "fuzz.csv", text, n, &err);
    for (int i = 0; !rc && i < c.n_columns && i < 4; i++) write_and_read(c.column[i]);
    while (!rc && (rc = ecg_csv_row(&c, &err)) > 0) {
        for (int i = 0; i < c.n_columns; i++)
            if (c.field[i] < text || c.field[i] + strlen(c.field[i]) > text + n) __builtin_trap();
        rc = 0;
    }
    if (rc && (err.code != rc || !err.text[0])) __builtin_trap();
    free(text);
}

static void table(const uint8_t *data, size_t n)
{
    char scp[] = ",diagnostic,diagnostic_class\nNORM,1.0,NORM\nIMI,1.0,MI\nNDT,1.0,STTC\nSR,,\n";
    char *text = malloc(n + 1);
    memcpy(text, data, n);
    struct ecg_table statements = {"scp.csv", scp, sizeof scp - 1}, database = {"db.csv", text, n};
    struct ecg_ptbxl *p;
    struct cn_error err = {0};
    int rc = ecg_ptbxl_parse(&p, &statements, &database, n % 2, &err);
    if (rc && (p || err.code != rc || !err.text[0])) __builtin_trap();
    for (int i = 0; !rc && i < p->n; i++)
        if (p->row[i].fold < 1 || p->row[i].fold > 10 || strstr(p->row[i].file, ".."))
            __builtin_trap();
    ecg_ptbxl_destroy(p);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    rows(data, n);
    table(data, n);
    return 0;
}
