"""The beat net through every file command, on real MIT-BIH records: whole, structurally pruned and masked; and which records
each kind of net takes."""
import json
import math
import os
import shutil
import struct
import subprocess
import unittest

import harness

MITDB = os.path.join(harness.BUILD, "samples", "mitdb")
CLASSES = ["N", "S", "V", "F", "Q"]
BEFORE, WINDOW = 99, 260


def open_model(path):
    """A safetensors file by its specification alone: (metadata, {name: [shape, list of floats]}, header, bytes)."""
    data = harness.read(path)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, about in header.items():
        if name != "__metadata__":
            begin, end = about["data_offsets"]
            tensors[name] = [about["shape"], list(struct.unpack(f"<{(end - begin) // 4}f", data[8 + length + begin:8 + length + end]))]
    return header["__metadata__"], tensors, header, data


def mask(path, out, sparsity):
    """Copies a model with the smallest weights of every matrix at zero; returns how many are left in each."""
    _, tensors, header, data = open_model(path)
    data = bytearray(data)
    (length,) = struct.unpack("<Q", data[:8])
    left = {}
    for name, (shape, values) in tensors.items():
        if len(shape) < 2:
            continue
        order = sorted(range(len(values)), key=lambda i, v=values: abs(v[i]))
        drop = round(sparsity * len(values))
        for i in order[:drop]:
            struct.pack_into("<f", data, 8 + length + header[name]["data_offsets"][0] + 4 * i, 0.0)
        left[name] = len(values) - drop
    with open(out, "wb") as f:
        f.write(data)
    return left


def beats(record, count):
    """The first beats of an MIT-BIH record, cut and z-scored from its files: [(sample, [260 floats])]."""
    header = harness.read(os.path.join(MITDB, record + ".hea")).decode().splitlines()
    names = [line.split()[-1] for line in header[1:3]]
    lead = names.index("MLII")
    gain, baseline = float(header[1 + lead].split()[2].split("/")[0].split("(")[0]), int(header[1 + lead].split()[4])
    dat = harness.read(os.path.join(MITDB, record + ".dat"))
    atr = harness.read(os.path.join(MITDB, record + ".atr"))
    found, at, time = [], 0, 0
    while len(found) < count:
        (word,) = struct.unpack("<H", atr[at:at + 2])
        at += 2
        code, value = word >> 10, word & 1023
        if code == 59:
            time += struct.unpack("<H", atr[at:at + 2])[0] << 16 | struct.unpack("<H", atr[at + 2:at + 4])[0]
            at += 4
        elif code == 63:
            at += (value + 1) // 2 * 2
        elif code < 50:
            time += value
            if 1 <= code <= 13 and time >= BEFORE: # every beat code of these records
                found.append(time)
    out = []
    for r in found:
        mv = []
        for t in range(r - BEFORE, r - BEFORE + WINDOW):
            low, nibbles, high = dat[3 * t:3 * t + 3]
            v = low | (nibbles & 15) << 8 if lead == 0 else high | (nibbles >> 4) << 8
            mv.append(((v - 4096 if v > 2047 else v) - baseline) / gain)
        mean = sum(mv) / WINDOW
        std = math.sqrt(sum((v - mean) ** 2 for v in mv) / WINDOW)
        out.append((r, [(v - mean) / std for v in mv]))
    return out


def as_float32(v):
    return struct.unpack("<f", struct.pack("<f", v))[0]


class Beat(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.model = os.path.join(harness.BUILD, "test-cache", "beat.safetensors")
        os.makedirs(os.path.dirname(cls.model), exist_ok=True)
        subprocess.run([os.path.join(harness.BIN, "cinch"), "train", "--net", "beat", "--data", MITDB, "--epochs", "6", "--seed", "1", "-o",
                        cls.model, "--force"], env=harness.environment(), check=True, capture_output=True)

    def score(self, file, n=2548):
        doc = self.json("eval", file, "--data", MITDB)
        self.assertEqual(doc["n"], n)
        classes = doc["classes"]
        self.assertEqual(list(classes["per_class"]), CLASSES)
        self.assertEqual(sum(map(sum, classes["confusion"])), n)
        right = sum(classes["confusion"][i][i] for i in range(5))
        self.assertAlmostEqual(classes["accuracy"], right / n, places=8)
        self.assertAlmostEqual(classes["macro_f1"], sum(c["f1"] for c in classes["per_class"].values()) / 5, places=8)
        return classes

    def program(self, artifact):
        """The artifact as C source, compiled: its answers for standard input."""
        source = self.json("export", artifact, "--c", "-o", "net.c", "--force")
        self.assertEqual((source["form"], source["net"]), ("c", "beat"))
        built = subprocess.run(["cc", "-std=c99", "-O1", "-Wall", "-Werror", "-Dnet_MAIN", self.path("net.c"), "-o", self.path("net")],
                               capture_output=True, text=True)
        self.assertEqual(built.returncode, 0, built.stderr)

    def same_answers(self, artifact):
        """From a record's files to probabilities: the exported program, fed by this test's own reader, and `infer`."""
        some = beats("208", 40)
        text = "\n".join(f"{v:.9g}" for _, x in some for v in x)
        out = subprocess.run([self.path("net")], input=text, capture_output=True, text=True, check=True).stdout.split()
        said = self.json("infer", artifact, "208", "--data", MITDB)[0]["beats"][:len(some)]
        self.assertEqual([b["sample"] for b in said], [r for r, _ in some])
        for i, beat in enumerate(said):
            want = [float(out[2 * (5 * i + l) + 1]) for l in range(5)]
            self.assertEqual([as_float32(beat["probability"][c]) for c in CLASSES], [as_float32(p) for p in want])

    def deploy(self, model, drop):
        """Float and int8 artifacts of a model: int8 loses at most `drop` of the accuracy; the int8 one everywhere it can go."""
        whole = self.score(model)
        self.json("quantize", model, "--mode", "float", "-o", "f.cinch", "--force")
        as_float = self.score("f.cinch")
        self.assertAlmostEqual(as_float["accuracy"], whole["accuracy"], delta=0.001)
        self.assertAlmostEqual(as_float["macro_f1"], whole["macro_f1"], delta=0.01)
        for mode in ("paper", "best", "full"):
            made = self.json("quantize", model, "--data", MITDB, "--mode", mode, "-o", "a.cinch", "--force")
            self.assertEqual(made["bytes"], os.path.getsize(self.path("a.cinch")))
            self.assertGreater(self.score("a.cinch")["accuracy"], whole["accuracy"] - drop)
        inside = self.json("inspect", "a.cinch")
        self.assertEqual((inside["net"], inside["kind"], inside["input"], inside["labels"]), ("beat", "int8", [1, 260], CLASSES))
        self.assertEqual([l["kind"] for l in inside["layers"]], ["conv_i8"] * 3 + ["linear_i8"] * 3)
        onnx = self.json("export", "a.cinch", "--onnx", "-o", "net.onnx", "--force")
        self.assertEqual(onnx["bytes"], os.path.getsize(self.path("net.onnx")))
        self.program("a.cinch")
        self.same_answers("a.cinch")
        return self.json("inspect", model), inside

    def test_whole(self):
        checkpoint, inside = self.deploy(self.model, 0.005)
        self.assertEqual((checkpoint["params"], checkpoint["macs"], checkpoint["macs_nonzero"]), (19805, 95770, 95770))
        self.assertEqual((inside["params"], inside["macs"]), (19715, 95770))
        self.assertFalse(any(layer["sparse"] for layer in inside["layers"]))
        self.assertGreater(self.score(self.model)["accuracy"], 0.95)
        timed = self.json("bench", "a.cinch", "f.cinch", "--runs", "50", "--allocator", "glibc") if "glibc" in harness.latency() else None
        self.assertTrue(timed is None or (len(timed) == 2 and timed[0]["n"] == 50 and timed[0]["mean_us"] > 0))

    def test_structurally_pruned(self):
        pruned = self.json("prune", self.model, "--data", MITDB, "--keep", "0.5", "--epochs", "2", "-o", "p.safetensors")
        self.assertEqual(pruned["widths"], [3, 5, 10, 15, 10])
        checkpoint, inside = self.deploy("p.safetensors", 0.01)
        self.assertEqual(checkpoint["macs"], inside["macs"])
        self.assertLess(inside["macs"], 30000)

    def test_masked(self):
        left = mask(self.model, self.path("z.safetensors"), 0.6)
        checkpoint, inside = self.deploy("z.safetensors", 0.01)
        steps = {"conv1": 258, "conv2": 126, "conv3": 60}
        want = sum(n * steps.get(name.split(".")[0], 1) for name, n in left.items())
        self.assertEqual(checkpoint["macs"], 95770)
        self.assertEqual(checkpoint["macs_nonzero"], want)
        self.assertEqual(want, sum(layer["macs_nonzero"] for layer in checkpoint["layers"]))
        self.assertLess(want, 0.401 * 95770)
        self.assertEqual(inside["macs"], 95770)
        self.assertLessEqual(inside["macs_nonzero"], want) # rounding to 8 bits makes some more
        self.assertGreater(inside["macs_nonzero"], 0.95 * want)
        self.assertTrue(all(layer["sparse"] for layer in inside["layers"] if layer["params"] > 15))
        self.assertEqual(inside["bytes"], os.path.getsize(self.path("a.cinch")))
        kept = inside["params"] / 8 + inside["macs_nonzero"] # rather more than the weights left and a bit for each
        self.assertLess(inside["bytes"], min(0.6 * 20812, kept))
        self.assertLess(sum(layer["bytes"] for layer in inside["layers"]), inside["bytes"])
        as_float = self.json("inspect", "f.cinch")
        self.assertLess(as_float["bytes"], 0.45 * 79716) # of the dense file
        self.assertEqual(as_float["macs_nonzero"], want)
        self.assertIn("sparse", self.cinch("inspect", "a.cinch")[0])
        out, _ = self.cinch("inspect", "z.safetensors")
        self.assertIn(f"0.0{want // 100 / 10:.0f} M of them with a weight that is not zero: 40.", out)

    def test_weights_pruned_in_rounds(self):
        pruned = self.json("prune", self.model, "--data", MITDB, "--unit", "weight", "--keep", "0.4", "--rounds", "2", "--schedule", "linear",
                           "--epochs", "1", "-o", "w.safetensors")
        self.assertEqual((pruned["unit"], pruned["schedule"], pruned["norm"]), ("weight", "linear", None))
        self.assertEqual((pruned["params"], pruned["widths"]), (19805, [5, 10, 20, 30, 20]))
        _, tensors, _, _ = open_model(self.path("w.safetensors"))
        left = 0
        for name, (shape, values) in tensors.items():
            zeros = values.count(0)
            left += len(values) - zeros
            if len(shape) > 1:
                self.assertEqual(zeros, round(0.6 * len(values)), name)
        self.assertAlmostEqual(pruned["kept"], left / 19805, places=3)
        inside = self.json("inspect", "w.safetensors")
        self.assertLess(inside["macs_nonzero"], 0.401 * inside["macs"])
        self.assertGreater(self.score("w.safetensors")["accuracy"], self.score(self.model)["accuracy"] - 0.01)
        self.json("quantize", "w.safetensors", "--data", MITDB, "-o", "w.cinch")
        self.assertGreater(self.score("w.cinch")["accuracy"], self.score("w.safetensors")["accuracy"] - 0.01)
        self.assertLess(os.path.getsize(self.path("w.cinch")), 0.6 * 20812)
        self.cinch("prune", self.model, "--data", MITDB, "--unit", "weight", "--keep", "0.4", "--epochs", "0", "-o", "at-once.safetensors")
        at_once = self.json("inspect", "at-once.safetensors")
        self.assertEqual(at_once["macs_nonzero"], inside["macs_nonzero"])
        self.refuses("prune", self.model, "--data", MITDB, "--unit", "weight", "--norm", "L2", "--keep", "0.4", "-o", "x", part="--norm ranks")

    def test_checkpoint_is_safetensors(self):
        """What other tools rely on: length, JSON, tensors one after another without gaps; and the very numbers."""
        meta, tensors, header, data = open_model(self.model)
        (length,) = struct.unpack("<Q", data[:8])
        self.assertEqual(length % 8, 0)
        at = 0
        for name, about in header.items():
            if name == "__metadata__":
                continue
            self.assertEqual(about["dtype"], "F32")
            self.assertEqual(about["data_offsets"][0], at)
            at += 4 * math.prod(about["shape"])
            self.assertEqual(about["data_offsets"][1], at)
        self.assertEqual(8 + length + at, len(data))
        self.assertEqual(sum(len(v) for _, v in tensors.values()), 19805)
        self.assertEqual(json.loads(meta["cinch"])["net"], "beat")
        self.cinch("export", self.model, "--c", "-o", "f.c")
        source = harness.read(self.path("f.c")).decode()
        for layer, name in enumerate(("conv1", "conv2", "conv3", "fc1", "fc2", "fc3")): # no BatchNorm: nothing is folded in
            text = source.split(f"static const float l{layer}_w[] = {{")[1].split("}")[0]
            self.assertEqual([as_float32(float(v.strip().rstrip("f"))) for v in text.split(",") if v.strip()], tensors[name + ".weight"][1])


class Records(harness.Case):
    """`infer`: which record fits which net, and what is said where it does not."""

    @classmethod
    def setUpClass(cls):
        Beat.setUpClass.__func__(cls)
        cls.twelve = os.path.join(harness.BUILD, "test-cache", "infer-cnn.safetensors")
        subprocess.run([os.path.join(harness.BIN, "cinch"), "train", "--net", "cnn", "--data", harness.PTBXL, "--epochs", "0", "-o",
                        cls.twelve, "--force"], env=harness.environment(), check=True, capture_output=True)

    def test_beats(self):
        doc, = self.json("infer", self.model, "223", "--data", MITDB)
        self.assertEqual((doc["record"], doc["lead"], doc["lead_missing"]), ("223", "MLII", False))
        self.assertEqual(doc["n"], len(doc["beats"]))
        self.assertEqual(doc["n"] + doc["left_out"], 2605)
        for c in CLASSES:
            self.assertEqual(doc["counts"][c], sum(b["class"] == c for b in doc["beats"]))
        for b in doc["beats"]:
            self.assertAlmostEqual(sum(b["probability"].values()), 1, places=5)
            self.assertEqual(b["class"], max(CLASSES, key=b["probability"].get))
            self.assertAlmostEqual(b["time"], b["sample"] / 360, places=4)
        agree = sum((b["class"] == "V") == (b["annotation"] in "VE") for b in doc["beats"])
        self.assertGreater(agree, 0.9 * doc["n"])
        out, _ = self.cinch("infer", self.model, "223", os.path.join(MITDB, "208"), "--data", MITDB)
        self.assertEqual(out.split()[:4], ["RECORD", "LEAD", "BEATS", "LEFT"])
        self.assertEqual(len(out.splitlines()), 3)

    def test_annotations_of_ones_own(self):
        record = self.path("mine")
        for end in ("hea", "dat"):
            text = harness.read(os.path.join(MITDB, f"208.{end}"))
            with open(f"{record}.{end}", "wb") as f:
                f.write(text.replace(b"208", b"mine") if end == "hea" else text)
        peaks = [500, 900, 1300] # all normal, as a detector writes them
        with open(self.path("found.qrs"), "wb") as f:
            f.write(b"".join(struct.pack("<H", 1 << 10 | step) for step in (500, 400, 400)) + b"\0\0")
        self.refuses("infer", self.model, record, part=["mine.atr", "--annotations FILE"])
        doc, = self.json("infer", self.model, record, "--annotations", "found.qrs")
        self.assertEqual([b["sample"] for b in doc["beats"]], peaks)
        self.assertEqual({b["annotation"] for b in doc["beats"]}, {"N"})
        self.refuses("infer", self.model, record, record, "--annotations", "found.qrs", part="belongs to one record")
        with open(self.path("cut.qrs"), "wb") as f:
            f.write(struct.pack("<H", 1 << 10 | 500))
        self.refuses("infer", self.model, record, "--annotations", "cut.qrs", part=["cut.qrs", "truncated"])
        with open(self.path("late.qrs"), "wb") as f:
            f.write(struct.pack("<HHH", 59 << 10, 20, 0) + struct.pack("<H", 1 << 10 | 1) + b"\0\0")
        self.refuses("infer", self.model, record, "--annotations", "late.qrs", part=["late.qrs", "650000 samples"])

    def test_missing_lead(self):
        doc, = self.json("infer", self.model, "104", "--data", MITDB)
        self.assertEqual((doc["lead"], doc["lead_missing"]), ("V5", True))
        _, err = self.cinch("infer", self.model, "104", "--data", MITDB)
        self.assertIn("no lead MLII; taking its first, V5", err)

    def test_wrong_kind_of_record(self):
        self.refuses("infer", self.model, "9", "--data", harness.PTBXL, part=["100 Hz", "360 Hz", "annotations"])
        self.refuses("infer", self.twelve, "208", "--data", MITDB, part=["360 Hz", "1000 samples at 100 Hz"])
        self.refuses("infer", self.twelve, "9", "--data", harness.PTBXL, "--annotations", "x", part="--annotations is for nets")
        self.refuses("infer", self.model, "999", "--data", MITDB, part="no record '999'")
        shutil.copy(os.path.join(MITDB, "208.hea"), self.path("208.hea"))
        self.refuses("infer", self.model, self.path("208"), part="208.dat")


if __name__ == "__main__":
    unittest.main()
