"""`cinch run`: a small grid of real records, end to end inside one process; its report, its artifacts, and doing it again."""
import json
import os
import signal
import subprocess
import time
import unittest

import harness
from harness import PTBXL

GRID = """\
name: small
nets: [{net: cnn, widths: [8, 8, 8, 8]}]
seeds: 2
epochs: 2
distill: [false, true]
prune: {keep: [0.5], epochs: 1}
""" + harness.latency()


class Run(harness.Case):
    def grid(self, text=GRID):
        return self.write("g.yaml", text)

    def test_end_to_end(self):
        doc = self.json("run", self.grid(), "--data", PTBXL, "-o", self.path("out"), timeout=1200)
        self.assertEqual(doc["failed"], [])
        cells = {(a["seed"], a["distilled"], a["rounds"]) for a in doc["artifacts"]}
        self.assertEqual(cells, {(s, d, r) for s in (0, 1) for d in (False, True) for r in (0, 1)})
        for a in doc["artifacts"]:
            self.artifact(a)
        self.report(doc)
        self.again(doc)

    def artifact(self, a):
        self.keys(a, "net", "seed", "distilled", "rounds", "norm", "kept", "params", "auroc_float", "auroc_int8", "auroc_per_label",
                  "bytes_float", "bytes_int8", "latency_float", "latency_int8", "path_float", "path_int8")
        self.assertEqual(a["norm"], "L1" if a["rounds"] else None)
        self.assertEqual(a["kept"] == 1, a["rounds"] == 0)
        for kind in ("float", "int8"):
            self.assertEqual(os.path.getsize(a["path_" + kind]), a["bytes_" + kind])
            self.assertGreater(a["auroc_" + kind], 0.5)
            if "none" not in GRID:
                (timed,) = a["latency_" + kind].values()
                self.assertEqual((timed["n"], timed["allocator"]), (20, "glibc"))
        if a["seed"] == 0 and a["distilled"]:
            measured = self.json("eval", a["path_int8"], "--data", PTBXL)
            self.assertAlmostEqual(measured["auroc"]["macro"], a["auroc_int8"], delta=1e-9)

    def report(self, doc):
        with open(self.path("out/report.json"), encoding="utf-8") as f:
            self.assertEqual(json.load(f), doc)
        lines = harness.read(self.path("out/report.csv")).decode().splitlines()
        self.assertEqual(len(lines), 1 + len(doc["artifacts"]))
        table = harness.read(self.path("out/report.txt")).decode()
        for row in ("F ", "Q ", "FKD ", "QKD "):
            self.assertIn("\n" + row, table)
        self.assertIn("cnn", table)
        self.assertTrue(os.path.exists(self.path("out/cnn-size.dat")))

    def again(self, doc):
        """The same grid in the same folder costs nothing, and gives the same."""
        out, err = self.cinch("run", self.grid(), "--data", PTBXL, "-o", self.path("out"), "--json")
        second = json.loads(out)
        key = [(a["job"], a["auroc_float"], a["auroc_int8"], a["path_int8"]) for a in doc["artifacts"]]
        self.assertEqual(key, [(a["job"], a["auroc_float"], a["auroc_int8"], a["path_int8"]) for a in second["artifacts"]])
        self.assertIn("known already", err)

    def weights(self, path):
        """The tensors of a safetensors file that only training changes."""
        data = harness.read(path)
        n = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + n])
        return {k: data[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]] for k, v in header.items() if k.endswith(".weight") and "bn" not in k}

    def test_a_student_starts_from_its_own_seed(self):
        """Steps too small to move a weight: what comes out is what it began with."""
        text = ("nets: [{net: cnn, widths: [4, 4, 4, 4]}]\nseeds: [3]\nepochs: 1\ndistill: [true]\nmeasure: none\nlatency: none\n"
                "recipe: {base: paper, lr: 1.0e-30, lr_min: 1.0e-31}\n")
        self.cinch("run", self.grid(text), "--data", PTBXL, "-o", self.path("out"), "--models")
        fresh = {}
        for seed in (3, 3 + 2 ** 32):
            self.cinch("train", "--net", "cnn", "--widths", "4,4,4,4", "--data", PTBXL, "--seed", seed, "--epochs", 0, "-o", self.path(f"{seed}.safetensors"))
            fresh[seed] = self.weights(self.path(f"{seed}.safetensors"))
        models = {("kd" in f): self.weights(self.path(os.path.join("out", f))) for f in os.listdir(self.path("out")) if f.endswith(".safetensors")}
        self.assertEqual(models, {False: fresh[3], True: fresh[3 + 2 ** 32]})
        self.assertNotEqual(models[False], models[True])

    def test_stopped_and_continued(self):
        """Ctrl-C in mid-training; the same command goes on, and ends with the bits of an undisturbed run."""
        text = "nets: [{net: cnn, widths: [8, 8, 8, 8]}]\nepochs: 12\nlatency: none\n"
        argv = ["run", self.grid(text), "--data", PTBXL, "--json", "-o"]
        child = subprocess.Popen([os.path.join(harness.BIN, "cinch"), *argv, self.path("out")], env=harness.environment(),
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1.5)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=600)
        if child.returncode == 0:
            self.skipTest("the run ended before the signal came")
        self.assertEqual(child.returncode, 1)
        self.assertIn("again to go on", err)
        self.assertEqual(set(json.loads(out)), {"error"})
        stopped = self.json(*argv[:-2], "-o", self.path("out"))
        whole = self.json(*argv[:-2], "-o", self.path("undisturbed"))
        for a, b in zip(stopped["artifacts"], whole["artifacts"]):
            self.assertEqual(harness.read(a["path_float"]), harness.read(b["path_float"]))
            self.assertEqual(harness.read(a["path_int8"]), harness.read(b["path_int8"]))

    def test_a_failed_job_is_named(self):
        """A learning rate that makes the loss infinite: exit 1, and the report says which job and why."""
        grid = self.grid("nets: [{net: cnn, widths: [8, 8, 8, 8]}]\nepochs: 1\nlatency: none\nrecipe: {base: paper, lr: 100}\n")
        out, err = self.cinch("run", grid, "--data", PTBXL, "-o", self.path("out"), "--json", code=1)
        doc = json.loads(out)
        self.assertEqual(doc["artifacts"], [])
        self.assertEqual(len(doc["failed"]), 1)
        self.keys(doc["failed"][0], "job", "reason")
        self.assertIn("finite", doc["failed"][0]["reason"])
        self.assertIn("failed", err)


if __name__ == "__main__":
    unittest.main()
