#!/usr/bin/env python3
"""Small records and annotation files of every feature of WFDB that cinch reads, and how wfdb reads them.

usage: generate_wfdb.py   (numpy, wfdb)

Half of the records are written by wfdb, half byte by byte from signal(5), header(5) and annot(5) (struct
below): formats that wfdb does not write, skew, byte offsets, odd packs, headers as other programs write them.
Writes beside itself:
  wfdb_files.txt  every file: its name and its bytes in hexadecimal
  wfdb.txt   per record, as wfdb reads it: record NAME HZ SIGNALS SAMPLES, then a line per signal,
             signal NAME and its samples in mV, - where one is missing; the name is in hexadecimal
  wfdb_ann.txt  per annotation file: file NAME HZ COUNT RESOLUTION, then ann SAMPLE CODE SUBTYPE CHANNEL NUM AUX
"""
import os
import shutil
import struct
import tempfile

import numpy as np
import wfdb

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = tempfile.mkdtemp()
MV = {"mV": 1, "uV": 1e-3, "V": 1e3, "nV": 1e-6, "\u00b5V": 1e-3, "\u03bcV": 1e-3}
SPAN = {"8": 90, "16": 30000, "24": 8000000, "32": 100000000, "61": 30000, "80": 120, "160": 30000, "212": 2000,
        "310": 500, "311": 500}
UNITS = ["\u00b5V", "V", "nV", "\u03bcV"]
MISSING = {"16": -32768, "24": -(1 << 23), "32": -(1 << 31), "61": -32768, "80": -128, "160": -32768, "212": -2048,
           "310": -512, "311": -512}


def put(name, data):
    with open(os.path.join(OUT, name), "wb") as f:
        f.write(data)


def samples(fmt, signals, n):
    """[n, signals], over the whole range of the format; format 8 cannot leap."""
    rng = np.random.default_rng(int(fmt) * 100 + n)
    if fmt == "8":
        return np.cumsum(rng.integers(-100, 100, (n, signals)), axis=0)
    return rng.integers(-SPAN[fmt], SPAN[fmt], (n, signals))


def pack(fmt, values, initial=0):
    """The bytes of interleaved samples, by signal(5)."""
    flat = [int(v) for v in np.asarray(values).reshape(-1)]
    if fmt == "8":
        last = np.vstack([np.full((1, values.shape[1]), initial), values[:-1]])
        return (values - last).astype(np.int8).tobytes()
    if fmt == "24":
        return b"".join(struct.pack("<i", v)[:3] for v in flat)
    simple = {"16": "<h", "32": "<i", "61": ">h"}
    if fmt in simple:
        return b"".join(struct.pack(simple[fmt], v) for v in flat)
    if fmt == "80":
        return bytes(v + 128 for v in flat)
    if fmt == "160":
        return b"".join(struct.pack("<H", v + 32768) for v in flat)
    out = b""
    if fmt == "212":
        for i in range(0, len(flat), 2):
            a = flat[i] & 0xfff
            out += bytes([a & 255, a >> 8]) if i + 1 == len(flat) else bytes(
                [a & 255, a >> 8 | (flat[i + 1] & 0xf00) >> 4, flat[i + 1] & 255])
        return out
    for i in range(0, len(flat), 3):
        s = [v & 0x3ff for v in flat[i:i + 3]] + [0, 0]
        if fmt == "310":
            words = struct.pack("<HH", s[0] << 1 | (s[2] & 31) << 11, s[1] << 1 | (s[2] >> 5) << 11)
            keep = {1: 2, 2: 4}
        else:
            words = struct.pack("<I", s[0] | s[1] << 10 | s[2] << 20)
            keep = {1: 2, 2: 3}
        out += words[:keep.get(len(flat) - i, 4)]
    return out


def checksum(column):
    return int(np.sum(column.astype(np.int64)) & 0xffff)


def by_hand(name, fmt, values, *, spec=None, gains=("200(0)/mV", "200(0)/mV"), lead=b"", initial=0, length=True):
    """A record of one file; lead bytes stand before the samples."""
    n, signals = values.shape
    put(name + ".dat", lead + pack(fmt, values, initial))
    lines = [f"{name} {signals} 100" + (f" {n}" if length else "")]
    for s in range(signals):
        lines.append(f"{name}.dat {spec or fmt} {gains[s % len(gains)]} 12 0 {initial if fmt == '8' else int(values[0, s])} "
                     f"{checksum(values[:, s])} 0 lead {s}")
    put(name + ".hea", ("\n".join(lines) + "\n").encode())


def by_wfdb(name, fmt, values, **more):
    _, signals = values.shape
    wfdb.wrsamp(name, fs=100, units=more.pop("units", ["mV"] * signals), sig_name=[f"lead {s}" for s in range(signals)],
                d_signal=values, fmt=[fmt] * signals, adc_gain=more.pop("gain", [200.0] * signals),
                baseline=more.pop("baseline", [0] * signals), write_dir=OUT, **more)


def formats():
    names = []
    for fmt in SPAN:
        for signals, n in ((1, 7), (2, 9), (3, 11), (1, 8)):
            name = f"f{fmt}_{signals}_{n}"
            values = samples(fmt, signals, n)
            if fmt in MISSING:
                values[2, 0] = values[n - 1, signals - 1] = MISSING[fmt]
            by_hand(name, fmt, values, initial=5)
            names.append(name)
        if fmt in ("16", "24", "32", "80", "212"):
            values = samples(fmt, 2, 13)
            values[4, 1] = MISSING[fmt]
            by_wfdb(f"w{fmt}", fmt, values, gain=[1000.0, 0.25], baseline=[12, -3], units=["mV", "uV"])
            names.append(f"w{fmt}")
    return names


def layouts():
    by_hand("skewed", "16", samples("16", 2, 20), spec="16:3")
    by_hand("offset", "16", samples("16", 2, 20), spec="16+24", lead=bytes(range(24)))
    by_hand("both", "212", samples("212", 2, 15), spec="212x1:2+6", lead=b"header")
    by_hand("units", "16", samples("16", 4, 6), gains=("0.2(3)/\u00b5V", "200000(-7)/V", "0.0002/nV", "0.2/\u03bcV"))
    by_hand("silent", "212", samples("212", 1, 21), length=False)
    a, b = samples("16", 2, 12), samples("212", 1, 12)
    put("one.dat", pack("16", a))
    put("two.dat", pack("212", b))
    put("several.hea", (
        "\r\n# comment\r\nseveral 3 360/72(0.5) 12 10:11:12.5 01/02/2003\r\n"
        f"one.dat 16 200.5(-3)/uV 12 1024 {a[0, 0]} {checksum(a[:, 0])} 0 I\r\n"
        f"one.dat 16 1e3 12 7 {a[0, 1]} {checksum(a[:, 1])} 0 II, with a comma\r\n"
        f"two.dat 212 0 12 -7 {b[0, 0]} {checksum(b[:, 0])} 0 V1\r\n# <age>: 63\r\n").encode())
    put("bare.dat", pack("16", samples("16", 1, 5)))
    put("bare.hea", b"bare 1\nbare.dat 16\n")
    return ["skewed", "offset", "both", "units", "silent", "several", "bare"]


def tell_records(names, f):
    for name in names:
        r = wfdb.rdrecord(os.path.join(OUT, name))
        f.write(f"record {name} {r.fs:g} {r.n_sig} {r.sig_len}\n")
        for s in range(r.n_sig):
            # wfdb drops what is not ASCII, so that it takes a micro sign's unit for volts
            mv = r.p_signal[:, s] * (MV[UNITS[s]] if name == "units" else MV[r.units[s]])
            label = (r.sig_name[s] or "").encode().hex() or "-"
            f.write("signal " + label + " " + " ".join("-" if np.isnan(v) else f"{v:.12g}" for v in mv) + "\n")


def word(code, interval):
    return struct.pack("<H", code << 10 | interval)


def skip(by):
    return word(59, 0) + struct.pack("<HH", (by >> 16) & 0xffff, by & 0xffff)


def note(text):
    return word(22, 0) + word(63, len(text)) + text + bytes(len(text) % 2)


def annotations():
    put("fine.atr", note(b"## time resolution: 250") + b"".join(word(1 + i, 250 + i) for i in range(9)) + bytes(2))
    put("coarse.atr", note(b"## time resolution: 12.5") + word(1, 3) + word(5, 7) + skip(1000) + word(8, 1) + bytes(2))
    put("back.atr", word(1, 500) + skip(-400) + word(5, 0) + word(60, 3) + word(62, 2) + skip(70000) + word(8, 1023) +
        word(61, 255) + skip(-65536) + skip(-7) + word(1, 0) + word(63, 3) + b"abc\0" + bytes(2))
    put("all.atr", b"".join(word(c, 10) + (word(61, c) if c % 3 == 0 else b"") for c in range(50)) + bytes(2))
    wfdb.wrann("custom", "atr", np.array([10, 20, 3000, 4000]), symbol=["N", "y", "V", "z"], fs=250, write_dir=OUT,
               custom_labels=[("y", "peak of T"), ("z", "another")], aux_note=["", "(AFIB", "", "x"],
               chan=np.array([0, 1, 1, 0]), num=np.array([0, 0, 5, 5]), subtype=np.array([0, 1, 0, 2]))
    wfdb.wrann("same", "atr", np.array([10, 20, 3000, 70000, 70001]), symbol=["N", "A", "V", "+", "N"], fs=360,
               write_dir=OUT)
    return [("fine", 360), ("coarse", 360), ("back", 360), ("all", 360), ("custom", 360), ("same", 360)]


def tell_annotations(names, f):
    for name, hz in names:
        a = wfdb.rdann(os.path.join(OUT, name), "atr", return_label_elements=["label_store"])
        fs = a.fs if open(os.path.join(OUT, name + ".atr"), "rb").read().find(b"## time resolution") >= 0 else 0
        f.write(f"file {name} {hz} {len(a.sample)} {fs or 0:g}\n")
        for i, t in enumerate(a.sample):
            sample = int(np.floor(t * hz / fs + 0.5)) if fs else int(t)
            aux = a.aux_note[i].rstrip("\0").encode("latin-1").hex() or "-"
            f.write(f"ann {sample} {a.label_store[i]} {a.subtype[i]} {a.chan[i]} {a.num[i]} {aux}\n")


def main():
    names = formats() + layouts()
    with open(os.path.join(HERE, "wfdb.txt"), "w", encoding="ascii") as f:
        tell_records(names, f)
    with open(os.path.join(HERE, "wfdb_ann.txt"), "w", encoding="ascii") as f:
        tell_annotations(annotations(), f)
    with open(os.path.join(HERE, "wfdb_files.txt"), "w", encoding="ascii") as f:
        for name in sorted(os.listdir(OUT)):
            with open(os.path.join(OUT, name), "rb") as data:
                f.write(f"{name} {data.read().hex()}\n")
    shutil.rmtree(OUT)


if __name__ == "__main__":
    main()
