#!/usr/bin/env python3
"""Golden values of PyTorch's observers, written to observers.tsv.

usage: make_observers.py OUT.tsv     (needs torch 2.15 and numpy; the test itself needs neither)

Inputs are not stored: both sides draw them from splitmix64 with double arithmetic that has no library
call in it (see `draw` here and in test_quant_golden.c), so the same bits come out of C and Python.
"""
import sys
import warnings

import numpy as np
import torch
from torch.ao.quantization.observer import HistogramObserver, MinMaxObserver, PerChannelMinMaxObserver

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

M64 = (1 << 64) - 1
DISTS = ["uniform", "bell", "heavy", "relu", "negative", "constant", "sparse", "bimodal", "cubic", "outlier",
         "zero", "empty"]


def uniform(seed, first, n):
    """n doubles in [0, 1), draws first.. of the stream."""
    with np.errstate(over="ignore"):
        z = (np.arange(first + 1, first + n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
             + np.uint64(seed))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 16777216.0


def draw(dist, seed, n):
    """n doubles of a distribution of about unit width."""
    u = uniform(seed, 0, n * 12).reshape(n, 12)
    bell = u[:, 0].copy()
    for k in range(1, 12):
        bell = bell + u[:, k]
    bell = bell - 6.0
    v = u[:, 0] * 2.0 - 1.0
    if dist == "uniform":
        return v
    if dist == "bell":
        return bell
    if dist == "heavy":
        return v / (1.0001 - v * v)
    if dist == "relu":
        return np.where(bell > 0, bell, 0.0)
    if dist == "negative":
        return np.where(bell > 0, -bell, 0.0)
    if dist == "constant":
        return np.ones(n)
    if dist == "sparse":
        return np.where(u[:, 11] < 0.05, bell, 0.0)
    if dist == "bimodal":
        return np.where(u[:, 11] < 0.5, bell * 0.1 - 1.0, bell * 0.3 + 2.0)
    if dist == "cubic":
        return bell * bell * bell
    if dist == "outlier":
        return np.where(u[:, 11] < 0.001, bell * 50.0, bell)
    if dist == "zero":
        return np.zeros(n)
    return np.zeros(0)


def batch(case, b):
    """Batch b as float32; a dist list gives each batch its own distribution."""
    dists = case["dist"].split(",")
    dist = dists[b % len(dists)]
    scale = case["scale"]
    for _ in range(b):
        scale = scale * case["growth"]
    x = draw(dist, case["seed"] * 1000 + b, case["n"]) * scale
    return (x + case["shift"] if len(x) else x).astype(np.float32)


def observer(case):
    signed = case["dtype"] == "qint8"
    kind = {"histogram": HistogramObserver, "minmax": MinMaxObserver, "channel": PerChannelMinMaxObserver}[case["kind"]]
    per = "channel" if case["kind"] == "channel" else "tensor"
    keys = {"dtype": torch.qint8 if signed else torch.quint8,
            "qscheme": getattr(torch, f"per_{per}_{case['scheme']}"), "reduce_range": bool(case["reduce"])}
    if case["qmin"] is not None:
        keys.update(quant_min=case["qmin"], quant_max=case["qmax"])
    return kind(**keys)


def cases():
    seed = 0

    def case(kind, name, dist, scale=1.0, shift=0.0, growth=1.0, batches=1, n=2000, dtype="quint8",
             scheme="affine", reduce=0, grid=(None, None), channels=1):
        nonlocal seed
        seed += 1
        return {"kind": kind, "name": name, "seed": seed, "dist": dist, "scale": scale, "shift": shift,
                "growth": growth, "batches": batches, "n": n, "dtype": dtype, "scheme": scheme,
                "reduce": reduce, "qmin": grid[0], "qmax": grid[1], "channels": channels}

    for reduce in (0, 1):
        tag = "_reduced" if reduce else ""
        for dist in DISTS[:10]:
            yield case("histogram", dist + tag, dist, reduce=reduce)
        yield case("histogram", "tiny" + tag, "bell", scale=1e-9, reduce=reduce)
        yield case("histogram", "small" + tag, "bell", scale=1e-4, reduce=reduce)
        yield case("histogram", "huge" + tag, "bell", scale=1e30, reduce=reduce)
        yield case("histogram", "growing" + tag, "bell", growth=1.7, batches=6, reduce=reduce)
        yield case("histogram", "growing_relu" + tag, "relu", growth=1.3, batches=8, reduce=reduce)
        yield case("histogram", "shrinking" + tag, "heavy", growth=0.5, batches=5, reduce=reduce)
        yield case("histogram", "same_range" + tag, "uniform,uniform", batches=12, reduce=reduce)
        yield case("histogram", "zero_batch" + tag, "zero,bell,zero,cubic", batches=4, reduce=reduce)
        yield case("histogram", "all_zero" + tag, "zero", batches=3, reduce=reduce)
        yield case("histogram", "empty_batch" + tag, "bell,empty,bell", batches=3, growth=1.2, reduce=reduce)
        yield case("histogram", "constant_then_wide" + tag, "constant,bell", batches=2, scale=0.7, reduce=reduce)
        yield case("histogram", "wide_then_constant" + tag, "bell,constant", batches=2, scale=9.0, growth=2.0, reduce=reduce)
        yield case("histogram", "constants" + tag, "constant", batches=4, scale=0.3, growth=-1.5, reduce=reduce)
        yield case("histogram", "shifted_positive" + tag, "bell", shift=40.0, batches=3, growth=1.5, reduce=reduce)
        yield case("histogram", "shifted_negative" + tag, "bell", shift=-40.0, batches=3, growth=1.5, reduce=reduce)
        yield case("histogram", "activations" + tag, "relu,outlier,sparse", batches=16, n=20000, growth=1.05, reduce=reduce)
        yield case("histogram", "signed" + tag, "outlier", dtype="qint8", scheme="symmetric", batches=4, growth=1.2, reduce=reduce)
        yield case("histogram", "signed_affine" + tag, "cubic", dtype="qint8", batches=4, growth=1.2, reduce=reduce)
        for dist in ("bell", "relu", "negative", "constant", "zero", "heavy"):
            yield case("minmax", dist + tag, dist, batches=3, growth=1.1, scale=0.37, reduce=reduce)
        yield case("minmax", "tiny" + tag, "bell", scale=1e-9, reduce=reduce)
        yield case("minmax", "huge" + tag, "bell", scale=1e30, reduce=reduce)
        yield case("minmax", "signed" + tag, "bell", dtype="qint8", scheme="symmetric", reduce=reduce)
        yield case("channel", "weights" + tag, "bell", dtype="qint8", scheme="symmetric", channels=8, n=168, scale=0.1, reduce=reduce)
        yield case("channel", "affine" + tag, "cubic", channels=5, n=100, batches=3, growth=1.4, reduce=reduce)
    yield case("histogram", "never_seen", "empty")
    yield case("minmax", "never_seen", "empty")
    yield case("minmax", "unsigned_symmetric", "bell", scheme="symmetric")
    yield case("channel", "weights_127", "bell", dtype="qint8", scheme="symmetric", grid=(-127, 127), channels=8, n=168, scale=0.1)
    yield case("channel", "dead_channels", "zero,bell,zero", dtype="qint8", scheme="symmetric", grid=(-127, 127), channels=4, n=64)
    yield case("histogram", "seven_bits", "relu", grid=(0, 127), batches=4, growth=1.2)


def main():
    rows = ["# PyTorch " + torch.__version__.split("+")[0] + "; made by make_observers.py. Floats are hexadecimal.",
            "# kind name seed dist scale shift growth batches n channels signed symmetric qmin qmax min max scale:zero,.."]
    for case in cases():
        watch = observer(case)
        for b in range(case["batches"]):
            x = torch.from_numpy(batch(case, b))
            watch(x.reshape(case["channels"], -1) if case["channels"] > 1 else x)
        scale, zero = watch.calculate_qparams()
        pairs = ",".join(f"{float(s).hex()}:{int(z)}" for s, z in zip(scale.flatten(), zero.flatten()))
        ends = [float(v.min() if which == 0 else v.max()) for which, v in enumerate((watch.min_val, watch.max_val))]
        rows.append(" ".join(str(v) for v in (
            case["kind"], case["name"], case["seed"], case["dist"], float(case["scale"]).hex(),
            float(case["shift"]).hex(), float(case["growth"]).hex(), case["batches"], case["n"], case["channels"],
            int(case["dtype"] == "qint8"), int(case["scheme"] == "symmetric"), watch.quant_min, watch.quant_max,
            ends[0].hex(), ends[1].hex(), pairs)))
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        out.write("\n".join(rows) + "\n")
    print(len(rows) - 2, "cases")


if __name__ == "__main__":
    main()
