#!/usr/bin/env python3
"""ONNX Runtime's answers for the exported models, written to onnxruntime.tsv beside the artifacts.

usage: make_export.py TEST_PROGRAM OUT_FOLDER     (needs onnx and onnxruntime; the test itself needs neither)

TEST_PROGRAM is the built test_export_golden: it writes the artifacts and their ONNX files first.
"""
import pathlib
import subprocess
import sys
import tempfile
import zlib

import numpy as np
import onnxruntime


def draw(n):
    """n floats, as draw() in test_export_golden.c."""
    with np.errstate(over="ignore"):
        z = np.arange(1, 4 * n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(77)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u = (z >> np.uint64(40)).astype(np.float64).reshape(n, 4) / 16777216.0
    return (((u[:, 0] + u[:, 1] + u[:, 2] + u[:, 3]) - 2.0) * 2.0).astype(np.float32)


def main():
    program, out = sys.argv[1], pathlib.Path(sys.argv[2])
    rows = [f"# ONNX Runtime {onnxruntime.__version__}; made by make_export.py. Floats are hexadecimal.",
            "# name crc32 tolerance 5 logits 5 probabilities"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program, "--make", folder], check=True)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        for onnx in sorted(pathlib.Path(folder).glob("*.onnx")):
            session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
            shape = session.get_inputs()[0].shape
            x = draw(shape[1] * shape[2]).reshape(1, shape[1], shape[2])
            two = session.run(["logits", "probability"], {"x": np.concatenate([x, 0 * x])})  # a batch works too
            logits, probability = session.run(["logits", "probability"], {"x": x})
            assert np.allclose(two[0][:1], logits, atol=1e-5), onnx
            # Float: rounding only. Int8: single steps of 8 bits (7 in mode paper) fall the other way, and LSTM
            # and LayerNorm compute in float here.
            kind = onnx.stem.split("_")[1]
            tolerance = {"float": 2e-5, "full": 0.02, "paper": 0.04}[kind]
            values = list(logits[0]) + list(probability[0])
            rows.append(" ".join([onnx.stem, f"{zlib.crc32(onnx.read_bytes()):08x}", float(tolerance).hex()]
                                 + [float(v).hex() for v in values]))
            (out / (onnx.stem + ".cinch")).write_bytes(onnx.with_suffix(".cinch").read_bytes())
    (out / "onnxruntime.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(len(rows) - 2, "models")


if __name__ == "__main__":
    main()
