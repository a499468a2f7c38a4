"""A model's way through the file commands: train, distil, prune, quantise, evaluate, classify, time, on real records."""
import os
import signal
import subprocess
import time
import unittest

import harness
from harness import PTBXL


class Way(harness.Case):
    def test_train_to_artifact(self):
        doc = self.json("train", "--net", "cnn", "--data", PTBXL, "--epochs", "4", "--seed", "1", "-o", "m.safetensors")
        self.keys(doc, "path", "net", "params", "epochs", "best_epoch", "best_score", "seconds")
        self.assertEqual(doc["params"], 37157)
        self.assertGreater(doc["best_score"], 0.8)

        whole = self.json("eval", "m.safetensors", "--data", PTBXL)
        self.assertEqual(whole["n"], 255)
        self.assertEqual(list(whole["auroc"]["per_label"]), ["NORM", "MI", "CD", "HYP", "STTC"])
        low, high = whole["auroc"]["ci95"]
        self.assertLess(low, whole["auroc"]["macro"])
        self.assertGreater(high, whole["auroc"]["macro"])
        self.assertGreater(whole["auroc"]["macro"], 0.8)
        both = self.json("eval", "m.safetensors", "--data", PTBXL, "--folds", "9,10")
        self.assertEqual(both["n"], 500)

        inside = self.json("inspect", "m.safetensors")
        self.assertEqual((inside["net"], inside["params"], inside["kind"]), ("cnn", 37157, "float"))
        self.assertEqual(sum(layer["params"] for layer in inside["layers"]), 37157)
        self.assertEqual(sum(layer["macs"] for layer in inside["layers"]), inside["macs"])
        self.assertEqual(inside["bytes"], os.path.getsize(self.path("m.safetensors")))
        self.keys(inside["layers"][0], "name", "kind", "shape", "params", "macs", "macs_nonzero")
        self.assertEqual(inside["macs_nonzero"], inside["macs"])

        pruned = self.json("prune", "m.safetensors", "--data", PTBXL, "--keep", "0.5", "--rounds", "2", "--norm", "L2", "--epochs", "1",
                           "--teacher", "m.safetensors", "-o", "p.safetensors")
        self.assertEqual(pruned["params"], 10133)
        self.assertEqual(pruned["widths"], [16, 32, 48, 16])

        self.artifact("m.safetensors", whole)

    def exported(self, artifact, kind):
        """The C source is a program with -DSYMBOL_MAIN: it must compile, and ONNX must be written."""
        source = self.json("export", artifact, "--c", "-o", "net.c", "--force")
        self.assertEqual((source["form"], source["kind"], source["net"]), ("c", kind, "cnn"))
        built = subprocess.run(["cc", "-std=c99", "-Wall", "-Werror", "-Dnet_MAIN", self.path("net.c"), "-o", self.path("net")],
                               capture_output=True, text=True)
        self.assertEqual(built.returncode, 0, built.stderr)
        model = self.json("export", artifact, "--onnx", "-o", "net.onnx", "--force")
        self.assertEqual(model["bytes"], os.path.getsize(self.path("net.onnx")))
        self.refuses("export", artifact, "-o", "net.x", part="--onnx or --c")
        self.exported_folder(artifact)
        self.assertFalse(os.path.exists(self.path("net.x")))

    def exported_folder(self, artifact):
        """DIR/model.c and model.h compile as strict C99; what the user changed there is kept."""
        made = self.json("export", artifact, "--c", "-o", "firmware", "--force")
        built = subprocess.run(["cc", "-std=c99", "-pedantic", "-Wall", "-Werror", "-c", "model.c", "-o", "model.o"],
                               cwd=self.path("firmware"), capture_output=True, text=True)
        self.assertEqual(built.returncode, 0, built.stderr)
        with open(self.path("firmware/model.h"), encoding="utf-8") as f:
            self.assertIn(f"#define MODEL_SCRATCH_BYTES {made['scratch_bytes']} ", f.read())
        self.json("export", artifact, "--c", "-o", "firmware")  # its own files are written again
        with open(self.path("firmware/model.h"), "a", encoding="utf-8") as f:
            f.write("/* mine */")
        self.refuses("export", artifact, "--c", "-o", "firmware", part="model.h exists already")
        self.refuses("export", artifact, "--c", "-o", "firmware.py", part=".py")
        self.assertFalse(os.path.exists(self.path("firmware.py")))

    def artifact(self, model, whole):
        made = self.json("quantize", model, "--data", PTBXL, "-o", "a.cinch")
        self.assertEqual(made["bytes"], os.path.getsize(self.path("a.cinch")))
        self.json("quantize", model, "--mode", "float", "-o", "f.cinch")
        self.assertLess(made["bytes"] * 3, os.path.getsize(self.path("f.cinch")))

        as_float = self.json("eval", "f.cinch", "--data", PTBXL)
        self.assertEqual(as_float["kind"], "float")
        self.assertAlmostEqual(as_float["auroc"]["macro"], whole["auroc"]["macro"], delta=0.0005)
        as_int8 = self.json("eval", "a.cinch", "--data", PTBXL)
        self.assertEqual(as_int8["kind"], "int8")
        self.assertAlmostEqual(as_int8["auroc"]["macro"], whole["auroc"]["macro"], delta=0.02)
        self.assertEqual(self.json("inspect", "a.cinch")["kind"], "int8")

        self.exported("a.cinch", "int8")
        self.exported(model, "float")
        eight, seven = (self.json("quantize", model, "--data", PTBXL, "--mode", "full", *flag, "-o", "b.cinch", "--force")
                        for flag in ([], ["--reduce-range"]))
        steps = seven["report"]["layers"][0]["scale"] / eight["report"]["layers"][0]["scale"]
        self.assertAlmostEqual(steps, 255 / 127, delta=0.01)

        record = os.path.join(PTBXL, "records100", "00000", "00009_lr")
        one = self.json("infer", "a.cinch", record)
        self.assertEqual(one[0]["record"], record)
        self.assertEqual(set(one[0]["probability"]), {"NORM", "MI", "CD", "HYP", "STTC"})
        self.assertTrue(all(0 <= p <= 1 for p in one[0]["probability"].values()))
        by_name = self.json("infer", "a.cinch", "00009_lr", "9", "--data", PTBXL)
        self.assertEqual(by_name[0]["probability"], one[0]["probability"])
        self.assertEqual(by_name[1]["probability"], one[0]["probability"])
        exact = self.json("infer", "f.cinch", record)[0]["probability"]
        checkpoint = self.json("infer", model, record)[0]["probability"]
        for label, p in exact.items():
            self.assertAlmostEqual(p, checkpoint[label], delta=1e-4)

    def test_distil_and_widths(self):
        self.cinch("train", "--net", "cnn", "--data", PTBXL, "--epochs", "1", "-o", "t.safetensors")
        doc = self.json("train", "--net", "cnn", "--widths", "8,7,9,5", "--teacher", "t.safetensors", "--data", PTBXL, "--epochs", "1",
                        "-o", "s.safetensors")
        self.assertTrue(doc["distilled"])
        self.assertEqual(self.json("inspect", "s.safetensors")["widths"], [8, 7, 9, 5])

    def test_same_seed_same_bytes(self):
        for name, threads in (("a", "1"), ("b", "2")):
            self.cinch("train", "--net", "cnn", "--data", PTBXL, "--epochs", "1", "--threads", threads, "-o", name)
        self.assertEqual(harness.read(self.path("a")), harness.read(self.path("b")))

    def test_interrupt_and_resume(self):
        """Ctrl-C leaves a checkpoint, and what goes on from it ends with the bits of an undisturbed training."""
        argv = ["train", "--net", "cnn", "--data", PTBXL, "--epochs", "6", "-o", "m.safetensors"]
        child = subprocess.Popen([os.path.join(harness.BIN, "cinch"), *argv], cwd=self.dir, env=harness.environment(),
                                 stderr=subprocess.PIPE, text=True)
        time.sleep(1.5)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=300)
        if child.returncode == 0:
            self.skipTest("the training ended before the signal came")
        self.assertEqual(child.returncode, 1)
        self.assertIn("--resume", err)
        self.assertEqual(os.listdir(self.dir), ["m.checkpoint.safetensors"])
        self.cinch(*argv, "--resume", "m.checkpoint.safetensors")
        self.assertEqual(os.listdir(self.dir), ["m.safetensors"])
        argv[-1] = "undisturbed.safetensors"
        self.cinch(*argv)
        self.assertEqual(harness.read(self.path("m.safetensors")), harness.read(self.path("undisturbed.safetensors")))

    def test_resume_of_another_training_is_refused(self):
        self.cinch("train", "--net", "cnn", "--data", PTBXL, "--epochs", "0", "-o", "m.safetensors")
        self.refuses("train", "--net", "cnn", "--data", PTBXL, "--epochs", "2", "--resume", "m.safetensors", "-o", "x", part="resume")


class Names(harness.Case):
    """`cinch data`."""

    def test_add_list_verify_show_remove(self):
        env = harness.environment(CINCH_DATA=self.path("registry"))
        harness.small_ptbxl(self.path("set"), per_fold=2)
        self.assertEqual(self.json("data", "list", env=env)["datasets"], [])
        self.assertEqual(self.json("data", "add", "small", self.path("set"), env=env)["kind"], "ptbxl")
        self.assertEqual([d["name"] for d in self.json("data", "list", env=env)["datasets"]], ["small"])
        health = self.json("data", "verify", "small", env=env)
        self.assertEqual((health["records"], health["damaged"]), (20, 0))
        self.assertEqual(len(health["folds"]), 10)
        self.refuses("data", "verify", "smal", part="did you mean 'small'?", env=env)
        self.refuses("data", "add", "bad/name", self.path("set"), part="bad/name", env=env)
        self.json("data", "remove", "small", env=env)
        self.assertEqual(self.json("data", "list", env=env)["datasets"], [])

    def test_verify_finds_damage(self):
        rows = harness.small_ptbxl(self.path("set"), per_fold=1)
        dat = os.path.join(self.path("set"), rows[0]["filename_lr"] + ".dat")
        harness.replace_link(dat, harness.read(dat)[:-2])
        out, err = self.cinch("data", "verify", self.path("set"), code=2)
        self.assertIn("1 damaged", out)
        self.assertIn(os.path.basename(rows[0]["filename_lr"]), err)

    def test_show(self):
        doc = self.json("data", "show", "9", "--data", PTBXL)
        self.assertEqual((doc["hz"], doc["samples"], len(doc["leads"])), (100, 1000, 12))
        out, _ = self.cinch("data", "show", "9", "--data", PTBXL)
        self.assertEqual(len(out.splitlines()), 1001)
        for stage in ("filtered", "normalised"):
            self.cinch("data", "show", "9", "--data", PTBXL, "--stage", stage, "--csv", f"{stage}.csv")
            self.assertEqual(len(harness.read(self.path(f"{stage}.csv")).splitlines()), 1001)
        self.cinch("data", "show", "9", "--data", PTBXL, "--svg", "x.svg")
        self.assertIn(b"<svg", harness.read(self.path("x.svg")))


if __name__ == "__main__":
    unittest.main()
