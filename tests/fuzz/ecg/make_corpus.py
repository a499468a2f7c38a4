#!/usr/bin/env python3
"""Writes corpus/cache/*.bin: small cache files, made from the format's specification in ecg/cache.c and
from nothing else, with the zeros that fill the header left out. Standard library only."""
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


def main():
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
