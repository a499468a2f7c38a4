"""Study B in short: samples/grids/study-b.yaml with one seed and few epochs on the five records of samples/, to the last table."""
import os
import re
import shutil
import subprocess
import time
import unittest

import harness
from harness import MITDB

GRID = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "samples", "grids", "study-b.yaml")
SHORT = {"seeds": "1", "epochs": "2", "unit": "[weight, structure]", "keep": "0.39", "rounds": "[1, 2]",
         "schedule": "[geometric, sensitivity]", "total_epochs": "3"}


def short():
    with open(GRID, encoding="utf-8") as f:
        text = f.read()
    for key, value in SHORT.items():
        text, n = re.subn(rf"(?m)^( *){key}: [^#\n]*$", rf"\g<1>{key}: {value}", text)
        if n != 1:
            raise AssertionError(f"study-b.yaml has no line of its own for {key}")
    return text


class StudyB(harness.Case):
    def test_short_form(self):
        doc = self.json("run", self.write("study-b.yaml", short()), "--data", MITDB, "-o", self.path("out"), timeout=1200)
        self.assertEqual(doc["failed"], [])
        ways = {(a["split"], a["unit"], a["schedule"], a["keep"], a["rounds"]) for a in doc["artifacts"]}
        pruned = {(s, u, how, k, r) for s in ("random", "patient") for u in ("weight", "structure")
                  for how in ("geometric", "sensitivity") for k in (0.39,) for r in (1, 2)}
        self.assertEqual(ways, pruned | {(s, None, None, 1, 0) for s in ("random", "patient")})
        self.assertEqual(len(doc["artifacts"]), len(ways))
        for a in doc["artifacts"]:
            self.artifact(a)
        self.text()
        self.patients(next(a for a in doc["artifacts"] if a["split"] == "patient" and a["unit"] == "weight"))

    def artifact(self, a):
        self.assertEqual(a["finetune_epochs"], 3 if a["rounds"] else 0)
        self.assertEqual(a["macs"] == 95770, a["unit"] != "structure")
        if a["unit"] == "weight":
            # of 19,715 weights the share asked for stays, to the last one; 90 biases all do
            left = round(19715 * a["keep"])
            self.assertLessEqual(abs(a["kept"] * 19805 - 90 - left), 3)  # each layer rounds
            self.assertLess(a["macs_nonzero_float"], 0.75 * a["macs"])
            if a["schedule"] == "geometric":
                self.assertLessEqual(a["macs_nonzero_float"], (a["keep"] + 0.005) * a["macs"])
        for kind in ("float", "int8"):
            classes = a["classes_" + kind]
            matrix = classes["confusion"]
            hits, n = sum(matrix[i][i] for i in range(5)), sum(map(sum, matrix))
            self.assertAlmostEqual(a["accuracy_" + kind], hits / n, places=6)
            f1 = [c["f1"] for c in classes["per_class"].values()]
            self.assertAlmostEqual(a["macro_f1_" + kind], sum(f1) / 5, places=6)
            self.assertEqual(list(classes["per_class"]), ["N", "S", "V", "F", "Q"])
            empty = [name for name, row in zip("NSVFQ", matrix) if not sum(row)]
            self.assertEqual(classes["absent"], empty)
            self.assertEqual(os.path.getsize(a["path_" + kind]), a["bytes_" + kind])

    def text(self):
        for name in ("stages.md", "stages.dat", "stages.gp", "report.csv"):
            self.assertTrue(os.path.exists(self.path("out/" + name)), name)
        self.assertEqual(os.path.exists(self.path("out/stages.png")), bool(shutil.which("gnuplot")))
        stages = harness.read(self.path("out/stages.md")).decode()
        for split in ("random", "patient"):
            self.assertIn("### beat, split " + split, stages)
        self.assertEqual(stages.count("| 2 × 1.5 epochs |"), 2 * 2 * 2)  # splits, units, schedules
        self.assertEqual(stages.count("| at once | 1 × 3 epochs |") + stages.count("| at once, sensitivity | 1 × 3 epochs |"), 2 * 2 * 2)
        self.assertEqual(stages.count("| unit | removed | how | N ("), 2)
        self.assertIn("acc Q", harness.read(self.path("out/report.txt")).decode())

    def patients(self, a):
        """`eval` on the same split agrees with the report; on the other one it reads other beats."""
        for kind in ("float", "int8"):
            doc = self.json("eval", a["path_" + kind], "--data", MITDB, "--split", "patient")
            self.assertAlmostEqual(doc["classes"]["macro_f1"], a["macro_f1_" + kind], delta=1e-9)
            self.assertEqual(doc["classes"]["confusion"], a["classes_" + kind]["confusion"])
        other = self.json("eval", a["path_int8"], "--data", MITDB)
        self.assertNotEqual(other["n"], doc["n"])
        out, _ = self.cinch("eval", a["path_int8"], "--data", MITDB, "--split", "patient")
        self.assertIn("macro-F1", out)
        self.assertIn("as S", out)

    def test_what_does_not_fit(self):
        """A split of PTB-XL and labels of MIT-BIH are refused before anything runs."""
        _, err = self.cinch("eval", self.path("none.cinch"), "--data", MITDB, "--split", "patients", code=2)
        self.assertIn("patient", err)
        _, err = self.cinch("train", "--net", "cnn", "--data", harness.PTBXL, "--split", "patient", "-o", self.path("m"), code=2)
        self.assertIn("folds are fixed", err)


class Submitted(harness.Case):
    """A run that asks for two splits gets both from a coordinator, by folder and later by name."""

    def test_two_splits(self):
        grid = self.write("g.yaml", "nets: [beat]\ndata: beats\nsplit: [random, patient]\nepochs: 1\nlatency: none\n")
        where = "ipc://" + self.path("socket")
        env = harness.environment(CINCH_COORDINATOR=where)
        child = subprocess.Popen([os.path.join(harness.BIN, "cinchd"), "--state", self.path("state"), "--listen", where],
                                 env=env, stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                if os.path.exists(self.path("socket")):
                    break
                time.sleep(0.05)
            _, err = self.cinch("submit", grid, env=env, code=2)
            self.assertIn("no dataset 'beats'", err)
            run = self.json("submit", grid, "--data", MITDB, env=env)
            self.assertEqual((run["jobs"], run["artifacts"], run["reused"]), (4, 2, 0))
            again = self.json("submit", grid, env=env)
            self.assertEqual(again["reused"], 4)
            names = {d["name"] for d in self.json("data", "list", env=env)["coordinator"]}
            self.assertLessEqual({"beats", "beats@patient"}, names)
        finally:
            child.terminate()
            child.wait(timeout=200)


if __name__ == "__main__":
    unittest.main()
