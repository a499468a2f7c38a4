#!/usr/bin/env python3
"""Draws the training history that every model file carries.

    tools/curve.py MODEL.safetensors [MODEL.safetensors ..] OUT.png

Needs gnuplot. Above: training and validation loss by epoch; below: validation score (macro-AUROC, or macro-F1 for
exclusive classes). A dot marks the epoch whose weights the file holds.
"""
import json
import os
import struct
import subprocess
import sys


def read_meta(path):
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        if size > 100_000_000:
            raise ValueError("not a safetensors file")
        header = json.loads(f.read(size))
    meta = json.loads(header["__metadata__"]["cinch.meta"])
    if not meta.get("history"):
        raise ValueError("holds no training history")
    return json.loads(header["__metadata__"]["cinch"])["net"], meta


def block(name, rows):
    lines = [" ".join("nan" if v is None else repr(v) for v in row) for row in rows]
    return f"${name} << EOD\n" + "\n".join(lines) + "\nEOD\n"


def script(models, out):
    text, loss, score = "", [], []
    for i, (net, meta) in enumerate(models):
        title = f"{net}, recipe {meta['recipe']['name']}, seed {meta['seed']}"
        rows = [[p["epoch"], p["train_loss"], p["val_loss"], p["val_score"]] for p in meta["history"]]
        best = [r for r in rows if r[0] == meta["best_epoch"]]
        text += block(f"d{i}", rows) + block(f"b{i}", best or rows[-1:])
        colour = f"lc {i + 1} lw 2"
        loss += [f'$d{i} using 1:2 with lines {colour} dt 2 title "training"',
                 f'$d{i} using 1:3 with lines {colour} title "validation ({title})"']
        score += [f'$d{i} using 1:4 with lines {colour} title "{title}"',
                  f'$b{i} using 1:4 with points pt 7 ps 1.6 {colour} title "chosen: epoch {meta["best_epoch"]}"']
    return (f'set terminal pngcairo size 900,700 noenhanced font "sans,11"\nset output "{out}"\n{text}'
            'set multiplot layout 2,1\nset grid lc rgb "#dddddd"\nset key top right\nset ylabel "loss"\n'
            f'plot {", ".join(loss)}\n'
            'set key bottom right\nset xlabel "epoch"\nset ylabel "validation score"\n'
            f'plot {", ".join(score)}\nunset multiplot\n')


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    *paths, out = sys.argv[1:]
    models = []
    for path in paths:
        try:
            models.append(read_meta(path))
        except (OSError, ValueError, KeyError, struct.error) as e:
            sys.exit(f"curve: {path}: {e}")
    try:
        subprocess.run(["gnuplot"], input=script(models, out), text=True, check=True)
    except FileNotFoundError:
        sys.exit("curve: gnuplot is missing; run: make deps")
    except subprocess.CalledProcessError:
        sys.exit("curve: gnuplot failed")
    if not os.path.exists(out):
        sys.exit(f"curve: {out} was not written")


if __name__ == "__main__":
    main()
