#!/usr/bin/env python3
"""What a training step costs on paper: bytes, FLOP, launches and microseconds of each kernel on an A100, an H100 and an RTX 4090, from
the nets' shapes alone, against the targets. The model: a kernel takes the longest of a launch inside a graph, its arithmetic at a share
of the card's fp32 peak, and its bytes at a share of the bandwidth (of L2, where they fit); an LSTM takes its dependent steps, for each
wave of blocks. Nothing here was measured.

usage: roofline.py [--members M] [--kernels]    the sums; with --kernels every kernel
"""
import argparse
from collections import namedtuple

Card = namedtuple("Card", "name sms clock tflops gbs l2_mb l2_gbs launch_us")
CARDS = [Card("A100", 108, 1.41e9, 19.5, 1555, 40, 4000, 2.2), Card("H100", 132, 1.75e9, 59.0, 3350, 50, 5500, 2.0),
         Card("RTX 4090", 128, 2.5e9, 80.0, 1008, 72, 4500, 2.0)]
Kernel = namedtuple("Kernel", "name flop bytes share steps cycles rows", defaults=(0, 0, 0))
CONV, DW, MEMORY = 0.55, 0.45, 0.8  # shares of the peak that our kernels reach, by their inner loops
FORWARD_CYCLES, BACKWARD_CYCLES, LSTM_PER_SM = 350, 450, 1  # f32_lstm<64>, f32_lstm_grad<64>: a step; blocks on an SM (registers)
TARGET_US = {"rnn": 800, "cnn": 300, "resnet": 9000}


def moved(name, *elements):
    """A kernel that moves floats and computes next to nothing."""
    return Kernel(name, sum(elements), 4 * sum(elements), MEMORY)


def conv(out, rows, cin, cout, tin, k, pad, first):
    tout = tin + 2 * pad - k + 1
    flop, x, y, w = 2 * rows * cout * cin * k * tout, rows * cin * tin, rows * cout * tout, cout * cin * k
    out.append(Kernel(f"conv {cin}>{cout} k{k}", flop, 4 * (x + y + w), CONV))
    if not first:
        out.append(Kernel(f"conv {cin}>{cout} k{k} data", flop, 4 * (x + y + w), CONV))
    out.append(Kernel(f"conv {cin}>{cout} k{k} weights", flop, 4 * (x + y + w), DW))
    out.append(moved(f"conv {cin}>{cout} k{k} shares", 8 * w))
    return tout


def batchnorm(out, n, c):
    for name, floats in (("moments", 2 * n), ("combine", 4 * c), ("apply", 2 * n), ("gradient sums", 2 * n), ("gradient combine", 4 * c),
                         ("gradient apply", 3 * n)):
        out.append(moved(f"batchnorm {c} {name}", floats))


def relu(out, n):
    out.append(moved("relu", 2 * n))
    out.append(moved("relu gradient", 3 * n))


def around(out, rows, record, params):
    out.append(moved("gather", 2 * rows * record))
    out.extend([moved("mixup", 1), moved("loss", rows * 20), moved("linear", rows * 512), moved("linear gradient", rows * 1024),
                moved("update", 7 * params), moved("average", 3 * params)])


def cnn(rows):
    out, t, cin, params = [], 1000, 12, 0
    for i, cout in enumerate((32, 64, 96, 32)):
        t = conv(out, rows, cin, cout, t, 3, 0, i == 0)
        n = rows * cout * t
        batchnorm(out, n, cout)
        relu(out, n)
        out.append(moved("maxpool", n * 4 // 3))
        out.append(moved("maxpool gradient", n * 4 // 3))
        params, cin, t = params + 3 * cin * cout, cout, t // 3
    around(out, rows, 12000, params)
    return out


def resnet(rows):
    out, params, t = [], 0, 1000
    for i, (cin, cout) in enumerate(((12, 64), (64, 128), (128, 128))):
        n = rows * cout * t
        for source, k in ((cin, 7), (cout, 5), (cout, 3), (cin, 1)):
            conv(out, rows, source, cout, t, k, k // 2, i == 0 and source == 12)
            batchnorm(out, n, cout)
            params += source * cout * k
        for _ in range(3):
            relu(out, n)
        out.extend([moved("add", 3 * n), moved("add gradient", 2 * n)])
    out.extend([moved("mean", n), moved("mean gradient", n)])
    around(out, rows, 12000, params)
    return out


def rnn(rows):
    h, c, t = 64, 12, 1000
    step, y = 2 * rows * 4 * h * (h + c), rows * h * t
    out = [Kernel("lstm", step * t, 4 * (rows * c * t + 6 * y), 1, t, FORWARD_CYCLES, rows),
           Kernel("lstm gradient", step * t, 4 * 7 * y, 1, t, BACKWARD_CYCLES, rows),
           Kernel("lstm weights", step * t, 4 * (rows * c * t + 5 * y), 0.4), moved("lstm shares", 32 * 4 * h * (h + c + 1))]
    for name, floats in (("layernorm", 2 * y), ("layernorm weights", 2 * y), ("layernorm gradient", 3 * y), ("maxpool", y), ("maxpool gradient", y),
                         ("dropout", rows * 1024), ("dropout gradient", rows * 1024)):
        out.append(moved(name, floats))
    around(out, rows, 12000, 4 * h * (h + c + 2))
    return out


NETS = {"rnn": (rnn, 64), "cnn": (cnn, 64), "resnet": (resnet, 128)}


def microseconds(k, card):
    arithmetic = k.flop / (card.tflops * 1e6 * k.share)
    bandwidth = card.l2_gbs if k.bytes < card.l2_mb * 1e6 * 0.6 else card.gbs
    memory = k.bytes / (bandwidth * 1e3 * MEMORY)
    waves = -(-k.rows // (card.sms * LSTM_PER_SM)) if k.steps else 0
    return max(card.launch_us, arithmetic, memory, waves * k.steps * k.cycles / card.clock * 1e6)


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--members", type=int, default=1)
    ask.add_argument("--kernels", action="store_true")
    a = ask.parse_args()
    heads = ["step", "launches", "GFLOP", "GB"] + [f"{c.name}, µs" for c in CARDS] + ["target, µs (H100)"]
    if not a.kernels:
        print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for net, (make, batch) in NETS.items():
        kernels = make(batch * a.members)
        if a.kernels:
            print(f"\n| {net}, batch {batch}, {a.members} at once | MFLOP | MB | " + " | ".join(f"{c.name}, µs" for c in CARDS) + " |")
            print("|---|---|---|" + "---|" * len(CARDS))
            for k in kernels:
                print(f"| {k.name} | {k.flop / 1e6:.1f} | {k.bytes / 1e6:.2f} | " + " | ".join(f"{microseconds(k, c):.1f}" for c in CARDS) + " |")
        else:
            sums = [sum(microseconds(k, c) for k in kernels) for c in CARDS]
            row = [f"`{net}`, batch {batch} × {a.members}", str(len(kernels)), f"{sum(k.flop for k in kernels) / 1e9:.1f}",
                   f"{sum(k.bytes for k in kernels) / 1e9:.2f}"] + [f"{s:.0f}" for s in sums]
            print("| " + " | ".join(row + [str(TARGET_US[net]) if a.members == 1 else ""]) + " |")


if __name__ == "__main__":
    main()
