"""Checkpoints and artifacts at the door: nets of up to 128 labels, files that other tools wrote, numbers that are not finite;
and a record's score, which is the same alone and in company."""
import json
import os
import struct
import subprocess
import unittest
import zlib

import harness
from harness import PTBXL

RECORDS = [os.path.join(PTBXL, "records100", "00000", f"{n:05}_lr") for n in range(1, 10)]


def read(path):
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack("<Q", data[:8])[0]
    head, body = json.loads(data[8:8 + n]), data[8 + n:]
    meta = head.pop("__metadata__", None)
    return meta, {k: (v["dtype"], v["shape"], body[v["data_offsets"][0]:v["data_offsets"][1]]) for k, v in head.items()}


def write(path, meta, tensors):
    head, at = ({"__metadata__": meta} if meta else {}), 0
    for name, (dtype, shape, raw) in tensors.items():
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = json.dumps(head).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(raw for _, _, raw in tensors.values()))


def with_labels(source, target, labels):
    """The same net with so many outputs, repeating those that are there."""
    meta, tensors = read(source)
    about = json.loads(meta["cinch"])
    about["shape"][2] = labels
    about["labels"] = [f"L{i}" for i in range(labels)]
    for name in ("fc.weight", "fc.bias"):
        dtype, shape, raw = tensors[name]
        row = len(raw) // shape[0]
        raw = b"".join(raw[row * (i % shape[0]):row * (i % shape[0] + 1)] for i in range(labels))
        tensors[name] = (dtype, [labels] + shape[1:], raw)
    write(target, {"cinch": json.dumps(about)}, tensors)


def with_value(source, target, tensor, index, value):
    meta, tensors = read(source)
    dtype, shape, raw = tensors[tensor]
    tensors[tensor] = (dtype, shape, raw[:4 * index] + struct.pack("<f", value) + raw[4 * index + 4:])
    write(target, meta, tensors)


class Models(harness.Case):
    def net(self, name="cnn", widths="4,8,12,4"):
        self.json("train", "--net", name, "--widths", widths, "--epochs", "1", "--data", PTBXL, "-o", "m.safetensors", "--force")

    def test_labels(self):
        self.net()
        five = self.json("infer", "m.safetensors", RECORDS[0])[0]["probability"]
        for n in (1, 5, 8, 9, 16, 128):
            file = f"l{n}.safetensors"
            with_labels(self.path("m.safetensors"), self.path(file), n)
            self.assertEqual(self.json("inspect", file)["labels"], [f"L{i}" for i in range(n)])
            self.json("quantize", file, "--mode", "float", "-o", "a.cinch", "--force")
            self.assertEqual(len(self.json("inspect", "a.cinch")["labels"]), n)
            for model, near in ((file, 0), ("a.cinch", 1e-6)):
                answer = self.json("infer", model, RECORDS[0])[0]["probability"]
                self.assertEqual(len(answer), n)
                for i, p in enumerate(answer.values()):
                    self.assertAlmostEqual(p, list(five.values())[i % 5], delta=near)
                self.assertIn(f"L{n - 1}", self.cinch("infer", model, *RECORDS[:2])[0])
                self.assertGreater(self.json("bench", model, "--runs", "20", "--allocator", "glibc")[0]["mean_us"], 0)
                self.exported(model, n)

    def exported(self, model, labels):
        self.json("export", model, "--onnx", "-o", "n.onnx", "--force")
        self.json("export", model, "--c", "-o", "n.c", "--force")
        built = subprocess.run(["cc", "-std=c99", "-Wall", "-Werror", "-Dn_MAIN", self.path("n.c"), "-o", self.path("n")],
                               capture_output=True, text=True)
        self.assertEqual(built.returncode, 0, built.stderr)
        ran = subprocess.run([self.path("n")], input="0.5 " * 12000, capture_output=True, text=True)
        self.assertEqual((ran.returncode, len(ran.stdout.splitlines())), (0, labels))
        with open(self.path("n.onnx"), "rb") as f:
            self.assertIn(f"L{labels - 1}".encode(), f.read())

    def test_too_many_labels(self):
        self.net()
        with_labels(self.path("m.safetensors"), self.path("l.safetensors"), 129)
        self.refuses("inspect", "l.safetensors", part="1-128")

    def test_equal_labels(self):
        self.net()
        meta, tensors = read(self.path("m.safetensors"))
        about = json.loads(meta["cinch"])
        about["labels"][1] = about["labels"][0]
        write(self.path("l.safetensors"), {"cinch": json.dumps(about)}, tensors)
        self.refuses("infer", "l.safetensors", RECORDS[0], part="two labels")

    def test_numbers(self):
        """A number that is not finite, or makes sums that are not, is refused by every command, with file and place."""
        self.net()
        bad = {"nan": ("conv1.weight", 5, float("nan")), "infinite": ("fc.bias", 2, float("inf")),
               "negative": ("bn2.running_var", 3, -1.0), "large": ("conv2.weight", 0, 3e38),
               "scaled": ("bn3.weight", 1, -2e38)}
        for name, (tensor, index, value) in bad.items():
            file = name + ".safetensors"
            with_value(self.path("m.safetensors"), self.path(file), tensor, index, value)
            layer = tensor.split(".")[0]
            for command in (["infer", file, RECORDS[0]], ["eval", file, "--data", PTBXL], ["inspect", file],
                            ["quantize", file, "--data", PTBXL, "-o", "x"], ["quantize", file, "--mode", "float", "-o", "x"],
                            ["prune", file, "--data", PTBXL, "--keep", "0.5", "--epochs", "0", "-o", "x"],
                            ["bench", file, "--runs", "10"], ["export", file, "--c", "-o", "x"],
                            ["export", file, "--onnx", "-o", "x"],
                            ["train", "--net", "cnn", "--data", PTBXL, "--epochs", "1", "--teacher", file, "-o", "x"]):
                self.refuses(*command, part=[file, f"'{layer}"])
            self.assertFalse(os.path.exists(self.path("x")))

    def test_large_artifact(self):
        """The same of an artifact whose checksum is right."""
        self.net()
        self.json("quantize", "m.safetensors", "--mode", "float", "-o", "a.cinch")
        with open(self.path("a.cinch"), "rb") as f:
            data = bytearray(f.read())
        leads, labels = struct.unpack_from("<H", data, 32)[0], data[36]
        at = struct.unpack_from("<I", data, 52 + 8 * leads + 8 * labels + 20)[0]
        for value in (3e38, float("nan"), float("-inf")):
            data[at:at + 4] = struct.pack("<f", value)
            struct.pack_into("<I", data, 12, zlib.crc32(bytes(data[16:])))
            with open(self.path("b.cinch"), "wb") as f:
                f.write(data)
            for command in (["infer", "b.cinch", RECORDS[0]], ["eval", "b.cinch", "--data", PTBXL], ["inspect", "b.cinch"],
                            ["bench", "b.cinch", "--runs", "10"], ["export", "b.cinch", "--c", "-o", "x"]):
                self.refuses(*command, part="b.cinch")

    def test_other_tools(self):
        """PyTorch's Sequential, half precision, counters: the same answers as the same numbers in cinch's own file."""
        self.net()
        meta, tensors = read(self.path("m.safetensors"))
        wide, half = {}, {}
        for name, (_, shape, raw) in tensors.items():
            values = struct.unpack(f"<{len(raw) // 4}f", raw)
            short = struct.pack(f"<{len(values)}e", *values)
            wide[name] = ("F32", shape, struct.pack(f"<{len(values)}f", *struct.unpack(f"<{len(values)}e", short)))
            layer, suffix = name.split(".")
            other = {"conv": lambda i: f"features.{4 * i - 4}", "bn": lambda i: f"features.{4 * i - 3}"}
            other = "classifier" if layer == "fc" else other[layer[:-1]](int(layer[-1]))
            half[f"module.{other}.{suffix}"] = ("F16", shape, short)
            if suffix == "running_var":
                half[f"module.{other}.num_batches_tracked"] = ("I64", [], struct.pack("<q", 7))
        about = json.loads(meta["cinch"])
        write(self.path("wide.safetensors"), meta, wide)
        write(self.path("own.safetensors"), meta, half)
        plain = {"format": "pt", "labels": ",".join(about["labels"]), "hz": "100",
                 "mean_mV": ",".join("%.9g" % v for v in about["mean"]), "std_mV": ",".join("%.9g" % v for v in about["std"])}
        write(self.path("plain.safetensors"), plain, half)
        write(self.path("bare.safetensors"), None, half)
        want = self.json("infer", "wide.safetensors", *RECORDS[:3])
        for file in ("own.safetensors", "plain.safetensors"):
            self.assertEqual(self.json("infer", file, *RECORDS[:3]), want)
        self.refuses("infer", "bare.safetensors", RECORDS[0], part="names no normalisation")
        self.refuses("export", "bare.safetensors", "--c", "-o", "x", part="names no normalisation")
        self.refuses("quantize", "bare.safetensors", "--mode", "float", "-o", "x", part="names no normalisation")
        score = self.json("eval", "wide.safetensors", "--data", PTBXL)["auroc"]
        self.assertEqual(self.json("eval", "bare.safetensors", "--data", PTBXL)["auroc"], score)
        self.json("quantize", "bare.safetensors", "--mode", "float", "--data", PTBXL, "-o", "bare.cinch")
        self.json("quantize", "wide.safetensors", "--mode", "float", "-o", "wide.cinch")
        self.assertEqual(self.json("infer", "bare.cinch", RECORDS[0]), self.json("infer", "wide.cinch", RECORDS[0]))
        self.json("prune", "bare.safetensors", "--data", PTBXL, "--keep", "0.5", "--epochs", "0", "-o", "half.safetensors")
        self.assertEqual(self.json("inspect", "half.safetensors")["labels"], about["labels"])

    def test_facts_about_the_input(self):
        """What a file says of its input and labels is right, is the data's, or is refused."""
        self.net()
        meta, tensors = read(self.path("m.safetensors"))
        about = json.loads(meta["cinch"])

        def with_facts(**facts):
            write(self.path("f.safetensors"), {"cinch": json.dumps({**about, **facts})}, tensors)

        for facts, part in (({"std": about["std"][:11]}, "'std'"), ({"mean": "none"}, "'mean'"), ({"mean": [1e30] * 12}, "mean"),
                            ({"std": [1e-30] * 12}, "std"), ({"hz": "100"}, "'hz'"), ({"labels": "NORM"}, "'labels'"),
                            ({"labels": ["a\nb", "b", "c", "d", "e"]}, "'labels'")):
            with_facts(**facts)
            for command in (["infer", "f.safetensors", RECORDS[0]], ["inspect", "f.safetensors"],
                            ["quantize", "f.safetensors", "--mode", "float", "-o", "x"]):
                self.refuses(*command, part=["f.safetensors", part])
        uses = (["eval", "f.safetensors", "--data", PTBXL], ["quantize", "f.safetensors", "--data", PTBXL, "-o", "x"],
                ["prune", "f.safetensors", "--data", PTBXL, "--keep", "0.5", "--epochs", "0", "-o", "x"],
                ["train", "--net", "cnn", "--data", PTBXL, "--epochs", "1", "--teacher", "f.safetensors", "-o", "x"])
        with_facts(hz=250)
        for command in (*uses, ["infer", "f.safetensors", RECORDS[0]]):
            self.refuses(*command, part=["f.safetensors", "250 Hz"])
        with_facts(labels=["MI", "NORM", "CD", "HYP", "STTC"])
        for command in uses:
            self.refuses(*command, part=["f.safetensors", "label 1"])

    def test_other_normalisation(self):
        """A net reads what its own normalisation gives, whatever the dataset's is."""
        self.net()
        meta, tensors = read(self.path("m.safetensors"))
        about = json.loads(meta["cinch"])
        other = {**about, "mean": [0.0] * 12, "std": [4 * v for v in about["std"]]}
        dtype, shape, raw = tensors["conv1.weight"]
        larger = struct.pack(f"<{len(raw) // 4}f", *(4 * v for v in struct.unpack(f"<{len(raw) // 4}f", raw)))
        write(self.path("n.safetensors"), {"cinch": json.dumps(other)}, {**tensors, "conv1.weight": (dtype, shape, larger)})
        scores = {}
        for file in ("m", "n"):
            self.json("quantize", file + ".safetensors", "--data", PTBXL, "-o", file + ".cinch")
            self.json("prune", file + ".safetensors", "--data", PTBXL, "--keep", "0.75", "--norm", "taylor", "--rounds", "1",
                      "--epochs", "1", "-o", file + "p.safetensors")
            scores[file] = [self.json("eval", f, "--data", PTBXL)["auroc"]["macro"]
                            for f in (file + ".safetensors", file + ".cinch", file + "p.safetensors")]
        for a, b in zip(scores["m"], scores["n"]):
            self.assertAlmostEqual(a, b, delta=0.05)
        _, err = self.cinch("train", "--net", "cnn", "--widths", "4,8,12,4", "--data", PTBXL, "--epochs", "1",
                            "--teacher", "n.safetensors", "-o", "t.safetensors")
        self.assertIn("another normalisation", err)

    def test_company(self):
        """A record's answer is the same alone, in any company and at any place."""
        for net, widths in (("cnn", "4,8,12,4"), ("rnn", "5")):
            self.net(net, widths)
            self.json("quantize", "m.safetensors", "--data", PTBXL, "-o", "a.cinch", "--force")
            for file in ("m.safetensors", "a.cinch"):
                alone = {r: self.json("infer", file, r)[0] for r in RECORDS}
                for company in (RECORDS, RECORDS[::-1], RECORDS[3:5] + RECORDS[:1]):
                    for row in self.json("infer", file, *company):
                        self.assertEqual(row, alone[row["record"]])


if __name__ == "__main__":
    unittest.main()
