#!/usr/bin/env python3
"""Makes tests/golden/nn/foreign/*.safetensors with the Python package safetensors: the zoo's nets as other tools
write them, in several types of numbers and under several names.

    python3 gen_foreign.py OUT

Element j of a net's tensor i (in nn_net's order) is ((31 * i + 7 * j) % 61 - 30) / 32, variances their absolute
value: numbers that every float type holds, so the test (test_golden_foreign.c) knows each of them without the
generator.
"""
import os
import sys

import numpy as np
import safetensors

BN = ["weight", "bias", "running_mean", "running_var"]
LSTM = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]


def conv_bn(conv, bn, cout, cin, k):
    return [(f"{conv}.weight", [cout, cin, k])] + [(f"{bn}.{p}", [cout]) for p in BN]


def cnn(names, w, labels=5):
    out, cin = [], 12
    for i in range(4):
        conv, bn = names(i)
        out += conv_bn(conv, bn, w[i], cin, 3)
        cin = w[i]
    return out, [("weight", [labels, w[3] * 11]), ("bias", [labels])]


def resnet(block, conv, shortcut, w):
    out, cin = [], 12
    for b in range(3):
        c = cin
        for i, k in enumerate([7, 5, 3]):
            out += conv_bn(f"{block(b)}.conv{i + 1}", f"{block(b)}.bn{i + 1}", w[3 * b + i], c, k)
            c = w[3 * b + i]
        out += conv_bn(f"{block(b)}.{shortcut[0]}", f"{block(b)}.{shortcut[1]}", w[3 * b + 2], cin, 1)
        cin = w[3 * b + 2]
    return out


def value(i, n, name):
    v = ((31 * i + 7 * np.arange(n)) % 61 - 30) / 32
    return np.abs(v) if name.endswith("running_var") else v


def array(v, dtype):
    if dtype == "bfloat16":
        return (v.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return v.astype(dtype)


def write(path, tensors, dtype, prefix="", counters=False, metadata=None):
    items, kept = {}, []

    def add(name, v, dtype, shape):
        kept.append(v)  # a spec is only an address
        items[prefix + name] = safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=v.ctypes.data,
                                                      data_len=v.nbytes)

    for i, (name, shape) in enumerate(tensors):
        add(name, array(value(i, int(np.prod(shape)), name), dtype), dtype, shape)
        if counters and name.endswith("running_var"):
            add(name.replace("running_var", "num_batches_tracked"), np.array(47, np.int64), "int64", [])
    with open(path, "wb") as f:
        f.write(safetensors.serialize(items, metadata))


def main():
    out = sys.argv[1]
    pt = {"format": "pt"}
    own, fc = cnn(lambda i: (f"conv{i + 1}", f"bn{i + 1}"), [3, 2, 4, 2])
    own += [(f"fc.{n}", s) for n, s in fc]
    write(os.path.join(out, "cnn_f16.safetensors"), own, "float16", counters=True, metadata=pt)
    seq, fc = cnn(lambda i: (f"features.{4 * i}", f"features.{4 * i + 1}"), [3, 2, 4, 2], 16)
    seq += [(f"classifier.1.{n}", s) for n, s in fc]
    labels = {"labels": ",".join(f"L{i}" for i in range(16)), "hz": "100",
              "mean_mV": ",".join(str(i / 64) for i in range(12)), "std_mV": ",".join(["0.25"] * 12)}
    write(os.path.join(out, "cnn_sequential_bf16.safetensors"), seq, "bfloat16", "module.", True, pt | labels)
    h = 3
    rnn = [(f"rnn.{n}", s) for n, s in zip(LSTM, [[4 * h, 12], [4 * h, h], [4 * h], [4 * h]])]
    rnn += [("layer_norm.weight", [h]), ("layer_norm.bias", [h]), ("head.weight", [5, 8 * h]), ("head.bias", [5])]
    write(os.path.join(out, "rnn_f64.safetensors"), rnn, "float64", "_orig_mod.")
    res = resnet(lambda b: f"blocks.{b}", "conv", ("shortcut.0", "shortcut.1"), [1, 2, 3, 2, 1, 2, 3, 1, 2])
    res += [("fc.weight", [5, 2]), ("fc.bias", [5])]
    write(os.path.join(out, "resnet_f32.safetensors"), res, "float32", "model.net.", True, pt)
    beat, cin = [], 1
    for i, (c, k) in enumerate([(2, 3), (3, 4), (2, 4)]):
        beat += [(f"features.{3 * i}.weight", [c, cin, k]), (f"features.{3 * i}.bias", [c])]
        cin = c
    for i, (o, n) in enumerate([(4, 2 * 30), (3, 4), (5, 3)]):
        beat += [(f"classifier.{2 * i}.weight", [o, n]), (f"classifier.{2 * i}.bias", [o])]
    write(os.path.join(out, "beat_f16.safetensors"), beat, "float16", metadata=pt)


main()
