#!/usr/bin/env python3
"""Makes the seed files of tests/fuzz/proto/corpus: one valid message of each kind that the coordinator takes, and some hostile ones.

    python3 make_corpus.py OUT

Writes protobuf by hand (proto/cinch.proto), so that no package is needed.
"""
import os
import struct
import sys


def varint(v):
    out = b""
    while v > 127:
        out += bytes([v & 127 | 128])
        v >>= 7
    return out + bytes([v])


def num(field, v):
    return varint(field << 3) + varint(v)


def put(field, v):
    v = v.encode() if isinstance(v, str) else v
    return varint(field << 3 | 2) + varint(len(v)) + v


def real(field, *v):
    return put(field, struct.pack("<%dd" % len(v), *v))


HASH, NONCE = bytes(range(32)), bytes(range(16))
BLOB = put(1, "model") + put(2, HASH) + num(3, 1000)
HELD = num(1, 7) + num(2, 3) + num(3, 1)
WORKER = (put(1, NONCE) + put(2, "train-1@box") + put(3, "box") + num(4, 1) + put(5, bytes([1, 2, 3])) + num(6, 2) + num(8, 4)
          + put(11, "avx2") + put(12, "glibc") + put(12, "jemalloc") + num(13, 4) + put(14, HASH))
NET = (put(1, "cnn") + put(2, bytes([16, 32, 48, 16])) + put(3, '{"epochs":3}') + put(4, '{"epochs":1}') + put(5, "jemalloc")
       + num(6, 100))
PRUNE = put(1, bytes([1, 5])) + real(2, 0.5, 0.125) + put(3, "L1") + put(3, "L2")
SUBMIT = (put(1, NONCE) + put(2, "study") + num(3, 4) + put(4, "ptbxl") + put(5, HASH) + put(6, NET) + put(7, bytes([1, 2]))
          + put(8, bytes([0, 1])) + put(9, PRUNE) + put(11, put(1, "paper") + num(2, 128)) + put(14, "nets: [cnn]\n"))

SEEDS = {
    "hello": (1, num(1, 1) + put(2, "cinch") + put(3, "anna") + put(4, WORKER) + put(5, HELD)),
    "lease_request": (10, num(1, 8)),
    "lease_grant": (11, put(1, num(1, 7) + num(2, 1) + put(3, HASH) + put(5, BLOB))),
    "heartbeat": (12, put(1, HELD) * 3 + num(3, 1 << 34)),
    "progress": (14, num(1, 7) + num(2, 1) + num(3, 4) + num(4, 60) + num(7, 1) + b"\x41" + struct.pack("<d", 0.3) + put(13, "train")),
    "checkpoint": (15, num(1, 7) + num(2, 1) + put(3, BLOB) + num(4, 9)),
    "result": (16, num(1, 7) + num(2, 1) + put(5, BLOB) + put(6, '{"params":37157}') + num(7, 1234)),
    "result_failed": (16, num(1, 7) + num(2, 1) + num(3, 23) + put(4, "loss is not finite") + num(8, 1)),
    "release": (17, num(1, 7) + num(2, 1) + put(3, "stopped")),
    "blob_have": (20, put(1, HASH)),
    "blob_put": (22, put(1, HASH) + num(2, 1 << 21) + num(3, 1 << 20)),
    "blob_get": (23, put(1, HASH) + num(2, 5) + num(3, 1 << 20)),
    "submit": (30, SUBMIT),
    "query": (32, num(1, 2) + put(2, "r12")),
    "watch": (33, num(1, 99) + num(2, 30000) + put(3, "r1")),
    "control": (34, num(1, 7) + put(2, "r1") + num(3, 6)),
    "data_add": (35, put(1, "ptbxl") + put(2, HASH) + put(3, BLOB) + put(4, "{}")),
    "data_get": (36, put(2, HASH)),
    "key_create": (38, put(1, "anna") + put(2, "submit") + put(3, "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")),
    "key_revoke": (40, put(1, "anna")),
    "bomb": (11, put(1, b"") * 5000),
    "deep": (30, put(6, put(6, put(6, put(6, b""))))),
    "long_varint": (16, b"\x08" + b"\xff" * 12),
    "not_utf8": (30, SUBMIT + put(2, b"\xff\xfe")),
    "nan_keep": (30, SUBMIT + put(9, real(2, float("nan")))),
    "huge_length": (30, b"\x12\xff\xff\xff\xff\x0f"),
}

if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, (kind, body) in SEEDS.items():
        with open(os.path.join(sys.argv[1], name), "wb") as f:
            f.write(struct.pack("<H", kind) + body)
