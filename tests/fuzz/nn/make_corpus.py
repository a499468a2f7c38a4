#!/usr/bin/env python3
"""Makes the seed files of tests/fuzz/nn/corpus: a small valid model and checkpoint, and hostile headers.

    python3 make_corpus.py OUT
"""
import json
import os
import struct
import sys

WIDTHS = [2, 1, 2, 1]


def file(tensors, meta):
    header, at, body = {}, 0, b""
    if meta is not None:
        header["__metadata__"] = meta
    for name, shape in tensors:
        n = 4
        for d in shape:
            n *= d
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + n]}
        body += struct.pack("<f", 0.25) * (n // 4)
        at += n
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def cnn_tensors():
    out, c = [], 12
    for i, w in enumerate(WIDTHS, 1):
        out.append((f"conv{i}.weight", [w, c, 3]))
        out += [(f"bn{i}.{k}", [w]) for k in ("weight", "bias", "running_mean", "running_var")]
        c = w
    return out + [("fc.weight", [5, 11 * c]), ("fc.bias", [5])]


def main():
    where = sys.argv[1]
    about = {"net": "cnn", "shape": [12, 1000, 5], "widths": WIDTHS, "full_widths": [32, 64, 96, 32],
             "labels": ["NORM", "MI", "CD", "HYP", "STTC"], "mean": [0] * 12, "std": [1] * 12, "hz": 100}
    tensors = cnn_tensors()
    floats = sum(map(lambda t: eval("*".join(map(str, t[1]))), tensors))
    params = floats - 2 * sum(WIDTHS)
    point = {"epoch": 1, "train_loss": 1.5, "val_loss": 1.25, "val_score": None, "lr": 1e-3}
    state = {"version": 1, "net": "cnn", "widths": WIDTHS, "recipe": "{}", "seed": "7", "data": "0" * 64, "records": 10,
             "epoch": 1, "batch": 2, "step": 9, "loss_sum": 3.5, "plateau": {"lr": 1e-3, "best": None, "bad": 0},
             "best_epoch": 1, "best_score": 0.75, "best_loss": 1.25, "history": [point]}
    vectors = [(n, [floats if n in ("params", "average", "best") else params])
               for n in ("params", "average", "moment1", "moment2", "best")]
    files = {
        "model": file(tensors, {"cinch": json.dumps(about), "cinch.meta": "{\"seed\":\"1\"}"}),
        "checkpoint": file(vectors, {"cinch.checkpoint": json.dumps(state)}),
        "foreign": file([("a", [2, 2])], None),
        "empty": struct.pack("<Q", 2) + b"{}",
        "huge-header": struct.pack("<Q", 2**63) + b"{}",
        "deep": struct.pack("<Q", 4000) + b"[" * 4000,
        "overflow": struct.pack("<Q", 76) + b'{"a":{"dtype":"F32","shape":[2147483647,2147483647],"data_offsets":[0,4]}}  ',
        "wide": file(tensors, {"cinch": json.dumps(about | {"widths": [4096] * 4, "full_widths": [4096] * 4})}),
    }
    for name, data in files.items():
        with open(os.path.join(where, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
