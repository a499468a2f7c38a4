"""What commands write: proven before the work, kept unless --force, never an input; links and devices stay; checkpoints
of trainings belong to one training each."""
import csv
import json
import os
import signal
import stat
import subprocess
import threading
import time
import unittest

import harness
from harness import PTBXL

NET = ["--net", "cnn", "--widths", "4,8,12,4", "--data", PTBXL]
TINY = """name: tiny
nets: [{net: cnn, widths: [4, 8, 12, 4]}]
seeds: %d
epochs: 1
measure: none
"""


class Out(harness.Case):
    def model(self, name="m.safetensors", *more):
        self.cinch("train", *NET, "--epochs", "0", "-o", name, *more)
        return harness.read(self.path(name))

    def commands(self, target):
        """Every command that writes one file, to `target`; each takes minutes where it works first."""
        yield ["train", *NET, "--epochs", "100000", "-o", target]
        yield ["prune", "m.safetensors", "--data", PTBXL, "--keep", "0.5", "--epochs", "100000", "-o", target]
        yield ["quantize", "m.safetensors", "--data", PTBXL, "-o", target]
        yield ["export", "m.safetensors", "--c", "-o", target]
        yield ["export", "m.safetensors", "--onnx", "-o", target]
        yield ["data", "show", "9", "--data", PTBXL, "--csv", target]
        yield ["data", "show", "9", "--data", PTBXL, "--svg", target]
        yield ["selftest", "-o", target]
        yield ["keys", "create", "anna", "-o", target]

    def test_target_is_proven_before_the_work(self):
        self.model()
        self.write("file", "text")
        os.makedirs(self.path("folder"))
        for target in ("absent/x", "file/x", "folder"):
            for command in self.commands(target):
                if "--c" in command: # takes a folder, and makes one
                    continue
                with self.subTest(command=command):
                    code = 1 if target == "file/x" else 2
                    self.refuses(*command, part=target.split("/", maxsplit=1)[0], code=code, timeout=20)
        self.assertEqual(sorted(os.listdir(self.dir)), ["file", "folder", "m.safetensors"])

    def test_what_exists_is_kept(self):
        self.model()
        self.write("x", "a night's work")
        for command in self.commands("x"):
            with self.subTest(command=command):
                self.refuses(*command, part="x exists", timeout=20)
                self.assertEqual(harness.read(self.path("x")), b"a night's work")
        self.cinch("train", *NET, "--epochs", "0", "-o", "x", "--force")
        self.assertEqual(harness.read(self.path("x")), harness.read(self.path("m.safetensors")))

    def test_inputs_are_not_outputs(self):
        before = self.model("m")
        os.link(self.path("m"), self.path("hard"))
        os.symlink("m", self.path("soft"))
        for target in ("m", "./m", self.path("m"), "hard", "soft"):
            for command in (["quantize", "m", "--mode", "float"], ["export", "m", "--c"],
                            ["prune", "m", "--data", PTBXL, "--keep", "0.5", "--epochs", "0"],
                            ["train", *NET, "--epochs", "1", "--teacher", "m"]):
                with self.subTest(target=target, command=command[0]):
                    self.refuses(*command, "-o", target, "--force", part="reads")
                    self.assertEqual(harness.read(self.path("m")), before)

    def test_endings_of_other_formats(self):
        self.model()
        for ending in ("pt", "PTH", "onnx", "h5", "npz", "cinch", "csv"):
            self.refuses("train", *NET, "--epochs", "0", "-o", f"x.{ending}", part="safetensors")
        for ending in ("safetensors", "pt", "onnx", "tflite"):
            self.refuses("quantize", "m.safetensors", "--mode", "float", "-o", f"x.{ending}", part="artifact")
        self.refuses("export", "m.safetensors", "--onnx", "-o", "x.pt", part="ONNX")
        self.refuses("export", "m.safetensors", "--c", "-o", "x.h", part="C source")
        self.refuses("data", "show", "9", "--data", PTBXL, "--svg", "x.png", part="SVG")
        self.refuses("data", "show", "9", "--data", PTBXL, "--csv", "x.dat", part="CSV")
        for name in ("x", "x.v2", "net-0.5", ".hidden"):
            self.model(name)

    def test_links_stay_links(self):
        os.makedirs(self.path("disk"))
        os.symlink("disk/new", self.path("new"))
        os.symlink("new", self.path("twice"))
        whole = self.model("twice")
        self.assertTrue(os.path.islink(self.path("twice")) and os.path.islink(self.path("new")))
        self.assertEqual(harness.read(self.path("disk/new")), whole)
        self.refuses("train", *NET, "--epochs", "0", "-o", "new", part="exists")
        self.model("new", "--seed", "1", "--force")
        self.assertTrue(os.path.islink(self.path("new")))
        self.assertNotEqual(harness.read(self.path("disk/new")), whole)
        self.assertEqual(os.listdir(self.path("disk")), ["new"])
        os.symlink("circle", self.path("circle"))
        self.cinch("train", *NET, "--epochs", "0", "-o", "circle", code=1)

    def test_devices_and_pipes_are_written_into(self):
        whole = self.model()
        os.mkfifo(self.path("pipe"))
        got = []
        reader = threading.Thread(target=lambda: got.append(harness.read(self.path("pipe"))))
        reader.start()
        self.cinch("train", *NET, "--epochs", "0", "-o", "pipe")
        reader.join()
        self.assertEqual(got, [whole])
        self.assertTrue(stat.S_ISFIFO(os.stat(self.path("pipe")).st_mode))
        self.cinch("train", *NET, "--epochs", "0", "-o", "/dev/null")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))
        self.cinch("train", *NET, "--epochs", "0", "-o", "/dev/full", code=1)

    def test_dash_is_stdout(self):
        whole = self.model()
        done = subprocess.run([os.path.join(harness.BIN, "cinch"), "train", *NET, "--epochs", "0", "-o", "-"], cwd=self.dir,
                              env=harness.environment(), capture_output=True, check=True)
        self.assertEqual(done.stdout, whole)
        self.assertIn(b"initialised", done.stderr)
        self.refuses("train", *NET, "--epochs", "0", "-o", "-", part="standard output")
        self.assertEqual(os.listdir(self.dir), ["m.safetensors"])

    def test_stdout_that_cannot_be_written(self):
        self.model()
        for command in (["inspect", "m.safetensors"], ["version"], ["--help"], ["train", "--help"], ["data", "--help"], ["help", "prune"],
                        ["data", "show", "9", "--data", PTBXL], ["data", "list"], ["eval", "m.safetensors", "--data", PTBXL],
                        ["infer", "m.safetensors", os.path.join(PTBXL, "records100", "00000", "00009_lr")]):
            for form in ([], ["--json"]) if "help" not in command[-1] + command[0] else ([],):
                with self.subTest(command=command, form=form), open("/dev/full", "w", encoding="utf-8") as full:
                    done = subprocess.run([os.path.join(harness.BIN, "cinch"), *command, *form], cwd=self.dir,
                                          env=harness.environment(), stdout=full, stderr=subprocess.PIPE)
                    self.assertEqual(done.returncode, 1, done.stderr)
                    self.assertIn(b"stdout", done.stderr)


class Scores(harness.Case):
    def test_none_without_validation(self):
        """No record to judge by: said in words, null in JSON, and the last epoch's weights."""
        os.makedirs(self.path("data"))
        for name in os.listdir(PTBXL):
            if name != "ptbxl_database.csv":
                os.symlink(os.path.join(PTBXL, name), self.path("data/" + name))
        with open(os.path.join(PTBXL, "ptbxl_database.csv"), encoding="utf-8", newline="") as f:
            head, *rows = csv.reader(f)
        with open(self.path("data/ptbxl_database.csv"), "w", encoding="utf-8", newline="") as f:
            fold = head.index("strat_fold")
            csv.writer(f).writerows([head] + [row for row in rows[:200] if row[fold] != "9"])
        train = ["train", "--net", "cnn", "--widths", "4,8,12,4", "--data", "data", "--epochs", "2"]
        out, err = self.cinch(*train, "-o", "m.safetensors")
        self.assertIn("validation part (fold 9) is empty", err)
        self.assertIn("of 2 epochs the weights after 2: no validation score", out)
        self.assertNotIn("nan", out)
        self.assertIsNone(self.json(*train, "-o", "n.safetensors")["best_score"])
        out, _ = self.cinch("prune", "m.safetensors", "--data", "data", "--keep", "0.5", "--epochs", "1", "-o", "p.safetensors")
        self.assertIn("no validation score", out)


class Checkpoints(harness.Case):
    def start(self, *args):
        return subprocess.Popen([os.path.join(harness.BIN, "cinch"), "train", *NET, "--threads", "1", "--epochs", "200", *args],
                                cwd=self.dir, env=harness.environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def stopped(self, *args, sig=signal.SIGINT):
        """Runs a training until it has begun and stops it; what it said."""
        for wait in (1, 2, 4, 8, 16, 32):
            child = self.start(*args)
            time.sleep(wait)
            child.send_signal(sig)
            _, err = child.communicate(timeout=300)
            if "the checkpoint is in" in err:
                self.assertEqual(child.returncode, 1, err)
                return err
            self.assertNotIn(child.returncode, (0, 2), err)
        raise AssertionError("the training never began: " + err)

    def interrupt(self, *args, sig=signal.SIGINT):
        """What is in the folder after a training was stopped."""
        self.stopped(*args, sig=sig)
        return sorted(os.listdir(self.dir))

    def goes_on(self, checkpoint, *args):
        self.stopped("--resume", checkpoint, *args, "-o", "again.safetensors")

    def test_of_another_training_stays(self):
        self.assertEqual(self.interrupt("--seed", "1", "-o", "m.safetensors"), ["m.checkpoint.safetensors"])
        first = harness.read(self.path("m.checkpoint.safetensors"))
        _, err = self.cinch("train", *NET, "--seed", "2", "--epochs", "1", "-o", "m.safetensors")
        self.assertIn("m.checkpoint.safetensors", err)
        self.assertEqual(harness.read(self.path("m.checkpoint.safetensors")), first)
        os.unlink(self.path("m.safetensors"))
        self.assertEqual(self.interrupt("--seed", "3", "-o", "m.safetensors"), ["m.checkpoint-2.safetensors", "m.checkpoint.safetensors"])
        self.assertEqual(harness.read(self.path("m.checkpoint.safetensors")), first)
        self.goes_on("m.checkpoint.safetensors", "--seed", "1")
        self.goes_on("m.checkpoint-2.safetensors", "--seed", "3")
        self.refuses("inspect", "m.checkpoint.safetensors", part="--resume")

    def test_a_model_of_that_name_stays(self):
        self.cinch("train", *NET, "--epochs", "0", "-o", "m.checkpoint.safetensors")
        kept = harness.read(self.path("m.checkpoint.safetensors"))
        self.cinch("train", *NET, "--epochs", "2", "--seed", "2", "-o", "m.safetensors")
        self.assertEqual(harness.read(self.path("m.checkpoint.safetensors")), kept)

    def test_belongs_to_all_that_changes_the_result(self):
        for seed in (7, 8):
            self.cinch("train", "--net", "cnn", "--data", PTBXL, "--epochs", "0", "--seed", seed, "-o", f"t{seed}.safetensors")
        half = self.write("half.yaml", "base: paper\nalpha: 0.5\n")
        self.assertIn("m.checkpoint.safetensors", self.interrupt("--teacher", "t7.safetensors", "-o", "m.safetensors"))
        ck = "m.checkpoint.safetensors"
        self.goes_on(ck, "--teacher", "t7.safetensors")
        os.link(self.path("t7.safetensors"), self.path("same.safetensors"))
        self.goes_on(ck, "--teacher", "same.safetensors")
        for other in ([], ["--teacher", "t8.safetensors"], ["--teacher", "t7.safetensors", "--seed", "1"],
                      ["--teacher", "t7.safetensors", "--epochs", "201"], ["--teacher", "t7.safetensors", "--recipe", half],
                      ["--teacher", "t7.safetensors", "--widths", "4,8,12,5"]):
            with self.subTest(other=other):
                widths = [] if "--epochs" in other else ["--epochs", "200"]
                self.refuses("train", *NET, *widths, "--resume", ck, *other, "-o", "again.safetensors", part="another training")

    def test_goes_only_when_the_model_is_safe(self):
        """A folder takes the target's place while the training runs: its model has another name, and the checkpoint is there."""
        self.interrupt("--epochs", "80", "-o", "m.safetensors")
        for wait in (1, 2, 4, 8):
            child = self.start("--epochs", "80", "--resume", "m.checkpoint.safetensors", "-o", "m.safetensors")
            time.sleep(wait)
            os.makedirs(self.path("m.safetensors/x"))
            _, err = child.communicate(timeout=300)
            if child.returncode != 2: # else it came too early, before the target was looked at
                break
            os.removedirs(self.path("m.safetensors/x"))
        self.assertEqual(child.returncode, 1, err)
        self.assertIn("m.safetensors.1", err)
        self.assertTrue(os.path.exists(self.path("m.checkpoint.safetensors")))
        self.cinch("inspect", "m.safetensors.1")

    def test_folder_that_vanishes(self):
        """The result of the work goes where there is a place for it."""
        for wait in (1, 2, 4, 8):
            os.makedirs(self.path("gone"))
            child = self.start("--epochs", "60", "-o", "gone/m.safetensors")
            time.sleep(wait)
            os.rmdir(self.path("gone"))
            _, err = child.communicate(timeout=300)
            if child.returncode != 2: # else it came too early, before the target was looked at
                break
        self.assertEqual(child.returncode, 1, err)
        self.assertIn("in m.safetensors.1 instead", err)
        self.cinch("inspect", "m.safetensors.1")

    def test_nothing_to_resume(self):
        self.write("c.safetensors", "x")
        self.refuses("train", *NET, "--epochs", "0", "--resume", "c.safetensors", "-o", "m.safetensors", part="--epochs 0")

    def test_closed_terminal_is_a_stop(self):
        self.assertEqual(self.interrupt("-o", "m.safetensors", sig=signal.SIGHUP), ["m.checkpoint.safetensors"])


class Rounds(harness.Case):
    PRUNE = ["prune", "m.safetensors", "--data", PTBXL, "--keep", "0.5", "--rounds", "3", "--epochs", "25", "--threads", "1"]
    KEPT = "p.checkpoint.safetensors"

    def setUp(self):
        super().setUp()
        self.cinch("train", *NET, "--epochs", "0", "-o", "m.safetensors")
        self.cinch(*self.PRUNE, "-o", "whole.safetensors")

    def start(self):
        return subprocess.Popen([os.path.join(harness.BIN, "cinch"), *self.PRUNE, "-o", "p.safetensors"], cwd=self.dir,
                                env=harness.environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def goes_on(self):
        self.cinch(*self.PRUNE, "--resume", self.KEPT, "-o", "p.safetensors")
        self.assertEqual(harness.read(self.path("p.safetensors")), harness.read(self.path("whole.safetensors")))
        self.assertEqual(sorted(os.listdir(self.dir)), ["m.safetensors", "p.safetensors", "whole.safetensors"])

    def test_stopped(self):
        """Ctrl-C within a round: the same bits in the end; another pruning does not go on from there."""
        for wait in (0.7, 1.4, 3, 6):
            child = self.start()
            time.sleep(wait)
            child.send_signal(signal.SIGINT)
            _, err = child.communicate(timeout=300)
            if os.path.exists(self.path(self.KEPT)):
                break
            if child.returncode == 0:
                os.unlink(self.path("p.safetensors"))
        self.assertEqual(child.returncode, 1, err)
        self.assertIn(f"--resume {self.KEPT}", err)
        self.cinch("inspect", self.KEPT)
        self.cinch("eval", self.KEPT, "--data", PTBXL)
        for other in (["--seed", "1"], ["--norm", "L2"], ["--keep", "0.6"], ["--rounds", "4"], ["--epochs", "26"], ["--recipe", "cinch"],
                      ["--teacher", "whole.safetensors"], ["--schedule", "linear"]):
            with self.subTest(other=other):
                self.refuses(*self.PRUNE, *other, "--resume", self.KEPT, "-o", "q.safetensors", part="another pruning")
        self.refuses(*self.PRUNE, "--resume", "whole.safetensors", "-o", "q.safetensors", part="not the checkpoint")
        self.goes_on()

    def test_killed(self):
        """A finished round is on the disk when the next one begins."""
        child = self.start()
        while child.poll() is None and not os.path.exists(self.path(self.KEPT)):
            time.sleep(0.01)
        child.kill()
        child.communicate()
        self.assertEqual(child.returncode, -signal.SIGKILL)
        for name in os.listdir(self.dir): # a checkpoint that was being written
            if ".tmp-" in name:
                os.unlink(self.path(name))
        self.goes_on()


class Folders(harness.Case):
    def run_grid(self, seeds, *more, **kw):
        return self.cinch("run", self.write("grid.yaml", TINY % seeds), "--data", PTBXL, "-o", "out", *more, **kw)

    def test_models_without_measurement(self):
        doc = json.loads(self.run_grid(2, "--models", "--json")[0])
        self.assertEqual(doc["artifacts"], [])
        self.assertEqual([m["seed"] for m in doc["models"]], [0, 1])
        for m in doc["models"]:
            self.assertEqual(self.json("inspect", m["path_model"])["net"], "cnn")

    def test_only_what_cinch_wrote_is_replaced(self):
        self.run_grid(1)
        self.run_grid(2, "--models")
        models = [os.path.join("out", n) for n in os.listdir(self.path("out")) if n.endswith(".safetensors")]
        self.assertEqual(len(models), 2)
        self.write(models[0], "mine")
        self.refuses("run", "grid.yaml", "--data", PTBXL, "-o", "out", "--models", part=models[0])
        self.assertEqual(harness.read(self.path(models[0])), b"mine")
        self.run_grid(2, "--models", "--force")
        self.cinch("inspect", models[0])
        self.write("out/report.csv", "my notes")
        self.refuses("run", "grid.yaml", "--data", PTBXL, "-o", "out", part="report.csv")
        self.assertEqual(harness.read(self.path("out/report.csv")), b"my notes")

    def test_replaced_results_are_told(self):
        """The same names from another grid: what was there made way, and that is said; the same bytes are left alone."""
        self.run_grid(1, "--models")
        _, err = self.run_grid(1, "--models")
        self.assertNotIn("earlier results", err)
        before = harness.read(self.path("out/cnn-s0-model.safetensors"))
        self.write("other.yaml", TINY.replace("epochs: 1", "epochs: 2") % 1)
        _, err = self.cinch("run", "other.yaml", "--data", PTBXL, "-o", "out", "--models")
        self.assertIn("out: 1 files of earlier results", err)
        self.assertNotEqual(harness.read(self.path("out/cnn-s0-model.safetensors")), before)

    def test_dash_is_no_folder(self):
        self.refuses("run", self.write("grid.yaml", TINY % 1), "--data", PTBXL, "-o", "-", part="./-")

    def test_grid_from_stdin(self):
        done = subprocess.run([os.path.join(harness.BIN, "cinch"), "submit", "-", "--dry-run"], input=TINY % 3, text=True, check=True,
                              env=harness.environment(), capture_output=True)
        self.assertIn("tiny: 3 jobs", done.stdout)
        self.write("-", TINY % 1)
        done = subprocess.run([os.path.join(harness.BIN, "cinch"), "submit", "-", "--dry-run"], input="nets: [rnm]", text=True,
                              env=harness.environment(), capture_output=True, cwd=self.dir)
        self.assertEqual(done.returncode, 2)
        self.assertIn("stdin:1:8:", done.stderr)

    def test_folder_is_proven_before_the_work(self):
        self.write("file", "text")
        self.write("grid.yaml", TINY % 1)
        for out in ("file", "file/out"):
            self.refuses("run", "grid.yaml", "--data", PTBXL, "-o", out, part="file is not a folder")
            self.refuses("get", "r1", "-o", out, part="file is not a folder")
            self.refuses("report", "r1", "-o", out, part="file is not a folder")


if __name__ == "__main__":
    unittest.main()
