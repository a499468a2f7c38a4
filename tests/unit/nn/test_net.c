/* Tests of the zoo and of model files: parameter counts, the nine percentages of study A, and files
 * from hostile hands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "nn/model.h"

static struct nn_net *build(const char *name, const int *widths, int n)
{
    struct nn_net *net;
    struct cn_error err;
    assert_int_equal(nn_net_build(&net, name, widths, n, (struct nn_shape){0}, &err), 0);
    return net;
}

static void parameter_counts(void **state)
{
    static const struct {
        const char *name;
        size_t params;
        uint64_t macs;
    } want[] = {
        {"rnn", 22661, 19458560},
        {"cnn", 37157, 5482976},
        {"resnet", 500869, 497664640},
        {"beat", 19805, 95770},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct nn_net *net = build(want[i].name, NULL, 0);
        assert_int_equal(net->n_params, want[i].params);
        assert_int_equal(nn_net_macs(net, NULL), want[i].macs);
        nn_net_destroy(net);
    }
}

/* Run-time complexity: weights at zero are left out, each as often as it would have been used;
 * biases, normalisation and zeros removed as structures do not enter. */
static void macs_without_zeros(void **state)
{
    static const char *const names[] = {"rnn", "cnn", "resnet", "beat"};
    static const struct {
        const char *net, *tensor;
        int zeros;       /* its first elements */
        uint64_t saving; /* multiply-accumulates */
    } want[] = {
        {"beat", "conv2.weight", 7, 7 * 126},
        {"beat", "fc1.weight", 100, 100},
        {"beat", "conv1.bias", 5, 0},
        {"cnn", "conv1.weight", 3, 3 * 998},
        {"cnn", "bn1.weight", 3, 0},
        {"rnn", "lstm.weight_ih_l0", 2, 2 * 1000},
        {"rnn", "lstm.weight_hh_l0", 5, 5000},
        {"rnn", "lstm.bias_hh_l0", 5, 0},
        {"resnet", "block3.convs.weight", 1, 1000},
    };
    struct cn_error err;
    for (int i = 0; i < 4; i++) {
        uint64_t all[NN_MAX_LAYERS], nonzero[NN_MAX_LAYERS], sum = 0;
        struct nn_model *m;
        assert_int_equal(nn_model_create(&m, build(names[i], NULL, 0), 3, NULL, &err), 0);
        const uint64_t full = nn_net_macs(m->net, all);
        assert_int_equal(nn_model_macs_nonzero(m, nonzero), full);
        assert_memory_equal(all, nonzero, sizeof *all * (size_t)m->net->n_layers);
        for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
            if (strcmp(want[k].net, names[i]) != 0) continue;
            const struct nn_tensor *t = m->net->tensor;
            while (strcmp(t->name, want[k].tensor) != 0) t++;
            for (int z = 0; z < want[k].zeros; z++)
                m->params[t->offset + (size_t)z] = z % 2 ? -0.0f : 0;
            sum += want[k].saving;
            assert_int_equal(nn_model_macs_nonzero(m, nonzero), full - sum);
            assert_int_equal(nonzero[t->layer], all[t->layer] - want[k].saving);
            all[t->layer] -= want[k].saving;
        }
        nn_model_destroy(m);
    }
}

/* The lengths that the studies name. */
static void layer_lengths(void **state)
{
    static const int cnn[] = {998, 332, 330, 110, 108, 36, 34, 11};
    static const int beat[] = {258, 129, 126, 63, 60, 30};
    struct nn_net *net = build("cnn", NULL, 0);
    for (int i = 0, k = 0; i < net->n_layers; i++)
        if (net->layer[i].op == NN_CONV1D || net->layer[i].op == NN_MAXPOOL)
            assert_int_equal(net->layer[i].tout, cnn[k++]);
    nn_net_destroy(net);
    net = build("beat", NULL, 0);
    for (int i = 0, k = 0; i < net->n_layers; i++)
        if (net->layer[i].op == NN_CONV1D || net->layer[i].op == NN_MAXPOOL)
            assert_int_equal(net->layer[i].tout, beat[k++]);
    nn_net_destroy(net);
}

/* Study A's fraction of parameters left at 75, 50 and 12.5 % of the structures. */
static void nine_percentages(void **state)
{
    static const struct {
        const char *name;
        double percent[3];
    } want[] = {{"rnn", {61.45, 31.94, 4.61}},
                {"cnn", {57.95, 27.27, 2.56}},
                {"resnet", {56.60, 25.47, 1.77}}};
    static const double fraction[] = {0.75, 0.5, 0.125};
    for (int i = 0; i < 3; i++) {
        struct nn_net *full = build(want[i].name, NULL, 0);
        for (int f = 0; f < 3; f++) {
            int width[NN_MAX_WIDTHS];
            for (int w = 0; w < full->n_widths; w++)
                width[w] = (int)lround(full->full_width[w] * fraction[f]);
            struct nn_net *small = build(want[i].name, width, full->n_widths);
            double percent = 100.0 * (double)small->n_params / (double)full->n_params;
            assert_true(fabs(percent - want[i].percent[f]) < 0.00501);
            nn_net_destroy(small);
        }
        nn_net_destroy(full);
    }
}

static void bad_nets(void **state)
{
    struct nn_net *net;
    struct cn_error err;
    struct nn_shape own = {0}, brief = {12, 50, 5};
    assert_int_equal(nn_net_build(&net, "resent", NULL, 0, own, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "did you mean 'resnet'"));
    const int widths[] = {32, 0, 96, 32};
    assert_int_equal(nn_net_build(&net, "cnn", widths, 3, own, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "takes 4 widths, not 3"));
    assert_int_equal(nn_net_build(&net, "cnn", widths, 4, own, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "width 2 is 0"));
    assert_int_equal(nn_net_build(&net, "cnn", NULL, 0, brief, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "too few"));
    assert_null(net);
}

static struct nn_model *small_model(void)
{
    struct nn_model *m;
    struct cn_error err;
    const int widths[] = {3, 2, 5, 4};
    assert_int_equal(nn_model_create(&m, build("cnn", widths, 4), 42, NULL, &err), 0);
    m->net->full_width[0] = 32;
    m->mean[3] = 0.1f;
    m->hz = 100;
    strcpy(m->label[0], "NORM");
    m->meta = strdup("{\"history\":[]}");
    return m;
}

static void model_round_trip(void **state)
{
    struct nn_model *m = small_model(), *back;
    struct cn_error err;
    void *a, *b;
    size_t na, nb;
    assert_int_equal(nn_model_bytes(m, &a, &na, &err), 0);
    assert_int_equal(nn_model_parse(&back, "a", a, na, &err), 0);
    assert_memory_equal(m->net, back->net, sizeof *m->net);
    assert_memory_equal(m->params, back->params, m->net->n_floats * sizeof(float));
    assert_true(back->mean[3] == 0.1f && back->std[0] == 1 && back->hz == 100);
    assert_string_equal(back->label[0], "NORM");
    assert_string_equal(back->meta, m->meta);
    assert_int_equal(nn_model_bytes(back, &b, &nb, &err), 0);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    free(a);
    free(b);
    nn_model_destroy(m);
    nn_model_destroy(back);
}

static void initialisation(void **state)
{
    struct nn_model *m;
    struct cn_error err;
    assert_int_equal(nn_model_create(&m, build("cnn", NULL, 0), 1, NULL, &err), 0);
    const struct nn_tensor *t = &m->net->tensor[0];
    double bound = 1 / sqrt(36), low = 0, high = 0, sum = 0;
    for (size_t i = t->offset; i < t->offset + t->count; i++) {
        low = fmin(low, m->params[i]);
        high = fmax(high, m->params[i]);
        sum += m->params[i];
    }
    assert_true(low >= -bound && low < -0.95 * bound && high <= bound && high > 0.95 * bound);
    assert_true(fabs(sum / (double)t->count) < 0.1 * bound);
    const char *const one[] = {"bn1.weight", "bn1.running_var"};
    for (int i = 0; i < m->net->n_tensors; i++)
        for (int k = 0; k < 2; k++)
            if (!strcmp(m->net->tensor[i].name, one[k]))
                assert_true(m->params[m->net->tensor[i].offset] == 1);
    nn_model_destroy(m);
}

/* Every truncation and every damaged header byte is either refused or still a valid model; under
 * the sanitizers this also shows that nothing is read outside. */
static void damaged_files(void **state)
{
    struct nn_model *m = small_model(), *back;
    struct cn_error err;
    void *data;
    size_t n;
    assert_int_equal(nn_model_bytes(m, &data, &n, &err), 0);
    for (size_t cut = 0; cut < n; cut += cut < 2200 ? 1 : 97) {
        uint8_t *part = malloc(cut ? cut : 1);
        memcpy(part, data, cut);
        assert_true(nn_model_parse(&back, "cut", part, cut, &err) < 0);
        assert_null(back);
        free(part);
    }
    uint8_t *bytes = data;
    size_t header = bytes[0] + 256u * bytes[1];
    for (size_t i = 0; i < 8 + header; i++)
        for (int bit = 0; bit < 8; bit += 3) {
            bytes[i] ^= (uint8_t)(1 << bit);
            nn_model_parse(&back, "flip", bytes, n, &err);
            nn_model_destroy(back);
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    free(data);
    nn_model_destroy(m);
}

/* A checkpoint by the specification of safetensors alone, as other tools read it: 8 bytes of length, a
 * JSON header that ends on a multiple of 8, float32 tensors in the order of the header and of their
 * offsets, without a gap from the first byte to the last; and every number where the net has it. */
static void file_is_safetensors(void **state)
{
    static const char *const names[] = {"rnn", "cnn", "resnet", "beat"};
    for (int k = 0; k < 4; k++) {
        struct nn_model *m;
        struct cn_error err;
        void *data;
        size_t n, length = 0, at = 0;
        const char *key;
        json_t *v;
        assert_int_equal(nn_model_create(&m, build(names[k], NULL, 0), 3, NULL, &err), 0);
        m->meta = strdup("{\"seed\": \"3\"}");
        assert_int_equal(nn_model_bytes(m, &data, &n, &err), 0);
        const uint8_t *b = data;
        for (int i = 7; i >= 0; i--) length = length << 8 | b[i];
        assert_true(length % 8 == 0 && length + 8 < n && b[8] == '{');
        json_t *header = json_loadb((const char *)b + 8, length, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(header);
        const struct nn_tensor *t = m->net->tensor;
        json_object_foreach(header, key, v)
        {
            if (!strcmp(key, "__metadata__")) {
                const char *text = json_string_value(json_object_get(v, "cinch.meta"));
                assert_string_equal(text, m->meta);
                continue;
            }
            const json_t *shape = json_object_get(v, "shape"),
                         *to = json_object_get(v, "data_offsets");
            assert_string_equal(key, t->name);
            assert_string_equal(json_string_value(json_object_get(v, "dtype")), "F32");
            assert_int_equal(json_array_size(shape), t->ndim);
            for (int d = 0; d < t->ndim; d++)
                assert_int_equal(json_integer_value(json_array_get(shape, (size_t)d)), t->dim[d]);
            assert_int_equal(json_array_size(to), 2);
            assert_int_equal(json_integer_value(json_array_get(to, 0)), at);
            assert_memory_equal(b + 8 + length + at, m->params + t->offset,
                                t->count * sizeof(float));
            at += t->count * sizeof(float);
            assert_int_equal(json_integer_value(json_array_get(to, 1)), at);
            t++;
        }
        assert_int_equal(t - m->net->tensor, m->net->n_tensors);
        assert_int_equal(8 + length + at, n);
        json_decref(header);
        free(data);
        nn_model_destroy(m);
    }
}

/* What is missing at the end is told in bytes of the file. */
static void truncated_files(void **state)
{
    struct nn_model *m = small_model(), *back;
    struct cn_error err;
    void *data;
    size_t n;
    char part[80];
    assert_int_equal(nn_model_bytes(m, &data, &n, &err), 0);
    size_t header = 8 + ((uint8_t *)data)[0] + 256u * ((uint8_t *)data)[1];
    for (size_t cut = 8; cut < n; cut += 1 + cut / 8) {
        assert_int_equal(nn_model_parse(&back, "m.safetensors", data, cut, &err), CN_ECORRUPT);
        assert_null(back);
        if (cut < 10) continue;
        snprintf(part, sizeof part, "end%s at byte %zu, but the file has only %zu; copy",
                 cut < header ? "s" : "", cut < header ? header : n, cut);
        if (!strstr(err.text, part) || strncmp(err.text, "m.safetensors: truncated", 24) != 0)
            fail_msg("'%s' does not say '%s'", err.text, part);
    }
    free(data);
    nn_model_destroy(m);
}

/* A file of `header` and `n` bytes of zeros after it. */
static int parse_header(const char *header, size_t n, struct cn_error *err)
{
    size_t length = strlen(header);
    uint8_t *file = calloc(1, 8 + length + n);
    struct nn_model *m;
    file[0] = (uint8_t)length;
    file[1] = (uint8_t)(length >> 8);
    memcpy(file + 8, header, length);
    int rc = nn_model_parse(&m, "f", file, 8 + length + n, err);
    assert_null(m);
    free(file);
    return rc;
}

static void hostile_headers(void **state)
{
    static const struct {
        const char *header;
        int code;
        const char *says;
    } bad[] = {
        {"[1, 2]", CN_ECORRUPT, "not JSON"},
        {"{\"a\": 1, \"a\": 2}", CN_ECORRUPT, "'{' is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
         CN_ECORRUPT, "two tensors are called 'a'"},
        {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", CN_EUNSUPPORTED,
         "is F8_E4M3"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},}", CN_ECORRUPT,
         "a string is missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}} x", CN_ECORRUPT,
         "behind its end"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"data_offsets\":[0,16]}}", CN_ECORRUPT,
         "twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", CN_ECORRUPT, "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[[[[4]]]],\"data_offsets\":[0,16]}}", CN_ECORRUPT,
         "not whole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4.0],\"data_offsets\":[0,16]}}", CN_ECORRUPT,
         "not whole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,16]}}",
         CN_ECORRUPT, "8 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[16,16]}}", CN_ECORRUPT, "gap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[18446744073709551600,16]}}",
         CN_ECORRUPT, "too large"},
        {"{\"\\u0000\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", CN_ECORRUPT,
         "escape"},
        {"{\"\xff\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", CN_ECORRUPT,
         "UTF-8"},
        {"{\"a", CN_ECORRUPT, "no end"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,20]}}", CN_ECORRUPT, "fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[5],\"data_offsets\":[0,20]}}", CN_ECORRUPT,
         "truncated"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,16]}}", CN_ECORRUPT, "fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", CN_ECORRUPT,
         "below 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2147483647,2147483647,2147483647,8],"
         "\"data_offsets\":[0,16]}}",
         CN_ECORRUPT, "shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
         CN_ECORRUPT, "overlap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", CN_ECORRUPT, "gap"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", CN_ECORRUPT,
         "without 'cinch' metadata"},
        {"{\"__metadata__\":{\"cinch\":7}}", CN_ECORRUPT, "a string is missing"},
        {"{\"__metadata__\":{\"format\":\"pt\",\"format\":\"pt\"},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}",
         CN_ECORRUPT, "without 'cinch' metadata"},
        {"{\"__metadata__\":{\"cinch\":\"{}\",\"cinch\":\"{}\"}}", CN_ECORRUPT, "twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cn_error err;
        assert_int_equal(parse_header(bad[i].header, 16, &err), bad[i].code);
        if (!strstr(err.text, bad[i].says))
            fail_msg("'%s' does not say '%s'", err.text, bad[i].says);
    }
}

static void save_and_load(void **state)
{
    char dir[] = "/tmp/cinch-test-XXXXXX", path[64];
    struct nn_model *m = small_model(), *back;
    struct cn_error err;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/m.safetensors", dir);
    assert_int_equal(nn_model_save(m, path, &err), 0);
    assert_int_equal(nn_model_load(&back, path, &err), 0);
    nn_model_destroy(back);
    assert_int_equal(nn_model_load(&back, "/nonexistent/m", &err), CN_ENOTFOUND);
    m->params[5] = NAN;
    assert_int_equal(nn_model_save(m, path, &err), CN_ECORRUPT); /* and leaves the old one */
    assert_non_null(strstr(err.text, "tensor 'conv1.weight': value 5 of"));
    assert_non_null(strstr(err.text, "finite"));
    assert_int_equal(nn_model_load(&back, path, &err), 0);
    nn_model_destroy(back);
    nn_model_destroy(m);
    assert_int_equal(cn_rmtree(dir, &err), 0);
}

/* small_model with one number changed, as a file. */
static int parse_with(const char *tensor, size_t at, float v, struct cn_error *err)
{
    struct nn_model *m = small_model(), *back;
    void *data;
    size_t n, offset = 0;
    for (int i = 0; i < m->net->n_tensors; i++) {
        const struct nn_tensor *t = &m->net->tensor[i];
        size_t end = 0; /* in the file tensors stand in the net's order */
        for (int k = 0; k <= i; k++) end += m->net->tensor[k].count;
        if (!strcmp(t->name, tensor)) offset = end - t->count + at;
    }
    size_t floats = m->net->n_floats;
    assert_int_equal(nn_model_bytes(m, &data, &n, err), 0);
    memcpy((char *)data + n - 4 * (floats - offset), &v, 4);
    int rc = nn_model_parse(&back, "m.safetensors", data, n, err);
    nn_model_destroy(rc ? NULL : back);
    nn_model_destroy(m);
    free(data);
    return rc;
}

/* Numbers that are not finite, or from which no finite ones come, are named with file, tensor and place. */
static void numbers_at_the_door(void **state)
{
    static const struct {
        const char *tensor;
        size_t at;
        float v;
        const char *says;
    } bad[] = {
        {"conv1.weight", 7, NAN, "m.safetensors: tensor 'conv1.weight': value 7 of"},
        {"conv2.weight", 0, INFINITY, "'conv2.weight': value 0 of"},
        {"bn1.running_var", 1, -1, "'bn1.running_var': value 1 of"},
        {"bn3.running_mean", 0, -INFINITY, "finite"},
        {"conv1.weight", 0, 3e38f, "layer 'conv1'"},
        {"bn2.weight", 1, -1e35f, "layer 'bn2'"},
        {"bn4.bias", 0, 1e37f, "layer 'bn4'"},
        {"fc.weight", 3, 3e38f, "layer 'fc'"},
    };
    struct cn_error err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse_with(bad[i].tensor, bad[i].at, bad[i].v, &err), CN_ECORRUPT);
        if (!strstr(err.text, bad[i].says))
            fail_msg("'%s' does not say '%s'", err.text, bad[i].says);
        assert_non_null(strstr(err.text, i == 2 ? "variance" : "finite"));
    }
    assert_int_equal(parse_with("conv1.weight", 0, 1e6f, &err), 0);
    assert_int_equal(parse_with("bn1.running_var", 0, 0, &err), 0);
}

/* The fuzzer's seed must be a valid model, or it would only ever test the first lines. */
static void fuzz_seed_is_valid(void **state)
{
    struct nn_model *m;
    struct cn_error err;
    assert_int_equal(nn_model_load(&m, CINCH_SOURCE_DIR "/tests/fuzz/nn/corpus/model", &err), 0);
    nn_model_destroy(m);
    assert_int_equal(nn_model_load(&m, CINCH_SOURCE_DIR "/tests/fuzz/nn/corpus/wide", &err),
                     CN_ECORRUPT);
    assert_non_null(strstr(err.text, "another shape"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameter_counts),
        cmocka_unit_test(layer_lengths),
        cmocka_unit_test(macs_without_zeros),
        cmocka_unit_test(nine_percentages),
        cmocka_unit_test(bad_nets),
        cmocka_unit_test(file_is_safetensors),
        cmocka_unit_test(model_round_trip),
        cmocka_unit_test(initialisation),
        cmocka_unit_test(damaged_files),
        cmocka_unit_test(truncated_files),
        cmocka_unit_test(hostile_headers),
        cmocka_unit_test(save_and_load),
        cmocka_unit_test(numbers_at_the_door),
        cmocka_unit_test(fuzz_seed_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
