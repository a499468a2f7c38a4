#!/usr/bin/env python3
"""Writes corpus/cache/*.bin: small cache files, made from the format's specification in ecg/cache.c and
from nothing else, with the zeros that fill the header left out; corpus/record/*: whole records with
annotations, as fuzz_record.c takes them; corpus/header/all-*.hea and corpus/atr/notes.atr. Standard
library only."""
import hashlib
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def blake(data):
    return hashlib.blake2b(data, digest_size=32).digest()


def padded(data, size=64):
    return data + bytes(-len(data) % size)


def cache(task, leads, samples, labels, rows):
    """rows: (label bits, fold, part, id) each."""
    n = len(rows)
    x = [struct.pack(f"<{leads * samples}f", *((i * 31 + k) % 7 - 3 for k in range(leads * samples)))
         for i in range(n)]
    y = b"".join(bytes(bits) for bits, _, _, _ in rows)
    tables = padded(y) + padded(bytes(f for _, f, _, _ in rows)) + padded(bytes(p for _, _, p, _ in rows))
    tables += b"".join(i.encode().ljust(24, b"\0") for _, _, _, i in rows)
    tail = struct.pack("<5If", task, n, leads, samples, len(labels), 100.0) + b"fuzz".ljust(64, b"\0")
    tail += b"".join(label.encode().ljust(8, b"\0") for label in labels).ljust(64, b"\0")
    tail += struct.pack("<12f", *([0.5] * leads + [0] * (12 - leads)))
    tail += struct.pack("<12f", *([2.0] * leads + [0] * (12 - leads)))
    head = b"CINCHECG" + struct.pack("<2I", 1, 4096)
    rest = bytes(range(32)) + blake(tables) + blake(b"".join(blake(row) for row in x)) + tail
    hashed = head + blake((head + bytes(32) + rest).ljust(4096, b"\0")) + rest
    assert len(hashed) == 392
    return hashed + padded(b"".join(x)) + tables


def word(code, interval):
    return struct.pack("<H", code << 10 | interval)


def note(text):
    return word(22, 0) + word(63, len(text)) + text + bytes(len(text) % 2)


NOTES = (note(b"## time resolution: 250") + note(b"## annotation type definitions") + note(b"42 TP peak of T") +
         note(b"## end of definitions"))


def record(fmt, body, length=True, resolution=True):
    header = f"r 1 360{' 400' if length else ''}\nr.dat {fmt} 200(3)/mV 12 0 0\n".encode()
    atr = (NOTES if resolution else b"") + word(1, 100) + word(42, 5) + word(59, 0) + b"\0\0\x14\0" + word(5, 1) + bytes(2)
    return header + b"\0" + struct.pack("<H", len(body)) + body + atr


def records():
    wave = [(t * 37) % 1000 - 500 for t in range(400)]
    gap = [-32768 if 100 <= t < 120 else v for t, v in enumerate(wave)]
    pairs = b"".join(bytes([a & 255, (a >> 8 & 15) | (b >> 4 & 0xf0), b & 255]) for a, b in zip(wave[::2], wave[1::2]))
    return {
        "16": record("16", struct.pack("<400h", *wave)),
        "gap": record("16:2+0", struct.pack("<400h", *gap), resolution=False),
        "212": record("212", pairs, length=False),
        "8": record("8", bytes(t % 256 for t in range(400)), resolution=False),
    }


def headers():
    lines = [f"a{i}.dat {fmt} 200(-3)/{unit} 12 5 7 9 0 {name}" for i, (fmt, unit, name) in enumerate([
        ("8", "mV", "I"), ("16x1:2+24", "uV", "II"), ("24", "V", "II"), ("32", "nV", "II (2)"), ("61", "kV", "D\xe9"),
        ("80", "\xb5V", ""), ("160", "mV", "a,b"), ("310", "mV", 'c"d'), ("311", "mV", "e\tf")])]
    head = "\xef\xbb\xbf \t# indented\r\nall/x 9\nall 9 360/72.5(-1) 0 10:11:12 1/2/2003\r\n"
    text = head.replace("all/x 9\n", "") + "\r\n".join(lines) + "\n"
    return {"all-formats.hea": text.encode("latin-1"), "all-segments.hea": head.encode("latin-1")}


def main():
    for folder, files in (("record", records()), ("header", headers()),
                          ("atr", {"notes.atr": NOTES + word(1, 500) + word(0, 3) + word(50, 1) + bytes(2)})):
        os.makedirs(os.path.join(HERE, "corpus", folder), exist_ok=True)
        for name, data in files.items():
            with open(os.path.join(HERE, "corpus", folder, name), "wb") as f:
                f.write(data)
    folder = os.path.join(HERE, "corpus", "cache")
    os.makedirs(folder, exist_ok=True)
    files = {
        "multi.bin": cache(1, 2, 3, ["A", "B"], [((0, 1), 1, 0, "r1"), ((0, 0), 9, 1, "r2"), ((1, 1), 10, 2, "r3")]),
        "single.bin": cache(2, 1, 16, ["N", "S", "V"], [((1, 0, 0), 1, 0, "a:1"), ((0, 0, 1), 0, 3, "b:2")]),
    }
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    main()
