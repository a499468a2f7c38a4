#!/usr/bin/env python3
"""Golden values for ecg/, from SciPy, pandas and wfdb; run again after a change of the samples.

usage: generate.py PTBXL_FOLDER MITDB_FOLDER   (numpy, scipy, pandas, wfdb; the zstd program)

Writes beside itself:
  filtered.zst  20 whole records filtered by SciPy: int32 little-endian [20, 12, 1000], in 1e-7 mV
  filtered.txt  their names, one a line
  labels.txt    per fold: records, then records with each label, then records with none
  stats.txt     per lead: mean and standard deviation of the filtered training folds, mV
  every.atr     an annotation file that wfdb wrote, with every code, long gaps, subtypes, channels, numbers and text
  every.txt     how wfdb reads it back: ann lines as below
  mitdb.txt     per record, as wfdb reads it:
                  record NAME LEADS SAMPLES ANNOTATIONS
                  lead NAME, the first and last 4 samples in mV, the sum of all samples in ADC units
                  count SYMBOL N
                  ann INDEX SAMPLE SYMBOL SUBTYPE CHANNEL NUM AUX (the first and last 3, and the first with text or
                      a subtype, up to 8 each; SYMBOL as its WFDB code, AUX in hexadecimal, - for none)
                  class N S V F Q beats whose window fits the record
                  beat SAMPLE and 260 z-scored values of the first, middle and last such beat (of the
                      records that are in samples/)
"""
import ast
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import wfdb
from scipy.signal import butter, filtfilt, sosfiltfilt

HERE = os.path.dirname(os.path.abspath(__file__))
LABELS = ["NORM", "MI", "CD", "HYP", "STTC"]
CLASSES = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
SHIPPED = ["104", "114", "208", "223", "233"]


def write(name, text):
    with open(os.path.join(HERE, name), "w", encoding="ascii") as f:
        f.write(text)


def filtered(folder, table):
    """float64 [n, 12, 1000] in mV."""
    sos = butter(5, 0.5, "highpass", fs=100, output="sos")
    out = np.empty((len(table), 12, 1000))
    for i, path in enumerate(table.filename_lr):
        signal, fields = wfdb.rdsamp(os.path.join(folder, path))
        assert fields["units"] == ["mV"] * 12
        out[i] = filtfilt(np.ones(2) / 2, 1, sosfiltfilt(sos, signal.T, axis=1), axis=1)
    return out


def labels(folder, table):
    scp = pd.read_csv(os.path.join(folder, "scp_statements.csv"), index_col=0)
    scp = scp[scp.diagnostic == 1]
    sets = [{scp.diagnostic_class[c] for c in ast.literal_eval(codes) if c in scp.index} for codes in table.scp_codes]
    lines = []
    for fold in range(1, 11):
        of = [s for s, f in zip(sets, table.strat_fold) if f == fold]
        counts = [sum(label in s for s in of) for label in LABELS]
        lines.append(" ".join(map(str, [fold, len(of), *counts, sum(not s for s in of)])))
    write("labels.txt", "\n".join(lines) + "\n")


def ptbxl(folder):
    table = pd.read_csv(os.path.join(folder, "ptbxl_database.csv"))
    labels(folder, table)
    signals = filtered(folder, table)
    train = signals[(table.strat_fold <= 8).values]
    mean, std = train.mean(axis=(0, 2)), train.std(axis=(0, 2))
    write("stats.txt", "".join(f"{m:.12e} {s:.12e}\n" for m, s in zip(mean, std)))
    # every hundredth record, but the one with the largest value, and the one with the largest jump, in the
    # place of the last two
    pick = list(range(7, len(table), 100))[:18]
    pick += [int(abs(signals).max(axis=(1, 2)).argmax()), int(abs(np.diff(signals)).max(axis=(1, 2)).argmax())]
    write("filtered.txt", "".join(os.path.basename(table.filename_lr[i]) + "\n" for i in pick))
    raw = np.round(signals[pick] * 1e7).astype("<i4").tobytes()
    with open(os.path.join(HERE, "filtered.zst"), "wb") as f:
        f.write(subprocess.run(["zstd", "-19", "-q"], input=raw, stdout=subprocess.PIPE, check=True).stdout)


def annotation_lines(ann, index):
    code = {label.symbol: label.label_store for label in wfdb.io.annotation.ann_labels}
    for i in index:
        aux = ann.aux_note[i].encode("latin-1").hex() or "-"
        yield f"ann {i} {ann.sample[i]} {code[ann.symbol[i]]} {ann.subtype[i]} {ann.chan[i]} {ann.num[i]} {aux}"


def telling(ann):
    n = len(ann.sample)
    with_aux = [i for i in range(n) if ann.aux_note[i]][:8]
    with_subtype = [i for i in range(n) if ann.subtype[i]][:8]
    return sorted({*range(3), *range(n - 3, n), *with_aux, *with_subtype})


def every_annotation():
    symbols = [label.symbol for label in wfdb.io.annotation.ann_labels if label.label_store > 0]
    n = len(symbols)
    gaps = [(1, 5, 1022, 1023, 1024, 70000, 3000000)[i % 7] for i in range(n)]
    aux = ["" if i % 3 else "(" + "x" * (i % 8) for i in range(n)]
    wfdb.wrann("every", "atr", np.cumsum(gaps), symbols, subtype=np.array([i % 5 for i in range(n)]),
               chan=np.array([i // 10 for i in range(n)]), num=np.array([i // 7 for i in range(n)]), aux_note=aux,
               write_dir=HERE)
    ann = wfdb.rdann(os.path.join(HERE, "every"), "atr")
    assert len(ann.sample) == n
    write("every.txt", "".join(line + "\n" for line in annotation_lines(ann, range(n))))


def beat_lines(mv, ann, shipped):
    fits = [(r, s) for r, s in zip(ann.sample, ann.symbol)
            if any(s in c for c in CLASSES.values()) and 99 <= r < len(mv) - 160]
    yield "class " + " ".join(str(sum(s in c for _, s in fits)) for c in CLASSES.values())
    for r, _ in [fits[0], fits[len(fits) // 2], fits[-1]] if shipped else []:
        x = mv[r - 99:r + 161]
        yield f"beat {r} " + " ".join(f"{v:.7g}" for v in (x - x.mean()) / x.std())


def mitdb_record(folder, name):
    path = os.path.join(folder, name)
    record, raw, ann = wfdb.rdrecord(path), wfdb.rdrecord(path, physical=False), wfdb.rdann(path, "atr")
    yield f"record {name} {record.n_sig} {record.sig_len} {len(ann.sample)}"
    for lead in range(record.n_sig):
        mv = record.p_signal[:, lead]
        ends = " ".join(f"{v:.9g}" for v in [*mv[:4], *mv[-4:]])
        yield f"lead {record.sig_name[lead]} {ends} {int(raw.d_signal[:, lead].sum())}"
    symbols, counts = np.unique(ann.symbol, return_counts=True)
    yield from (f"count {s} {n}" for s, n in zip(symbols, counts))  # symbols hold no blanks
    yield from annotation_lines(ann, telling(ann))
    lead = record.sig_name.index("MLII") if "MLII" in record.sig_name else 0
    yield from beat_lines(record.p_signal[:, lead], ann, name in SHIPPED)


def main():
    ptbxl(sys.argv[1])
    every_annotation()
    names = sorted(f[:-4] for f in os.listdir(sys.argv[2]) if f.endswith(".hea") and f[:-4].isdigit())
    write("mitdb.txt", "".join(line + "\n" for name in names for line in mitdb_record(sys.argv[2], name)))


if __name__ == "__main__":
    main()
