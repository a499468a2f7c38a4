"""Bad input gets a clear error with its place, exit code 1 or 2, and nothing half-written."""
import json
import os
import resource
import struct
import subprocess
import unittest

import harness


class Data(harness.Case):
    """Damaged PTB-XL folders."""

    def setUp(self):
        super().setUp()
        self.rows = harness.small_ptbxl(self.path("set"), per_fold=2)
        self.env = harness.environment(CINCH_CACHE=self.path("cache"))
        self.first = os.path.join(self.path("set"), self.rows[0]["filename_lr"])

    def train(self, part, data=None):
        self.refuses("train", "--net", "cnn", "--data", data or self.path("set"), "--epochs", "0", "-o", self.path("m"), part=part,
                     env=self.env)
        self.assertFalse(os.path.exists(self.path("m")))
        left = os.listdir(self.path("cache")) if os.path.exists(self.path("cache")) else []
        self.assertEqual([f for f in left if not f.startswith(".") and os.path.getsize(os.path.join(self.path("cache"), f)) > 4096], [])

    def test_sound(self):
        self.cinch("train", "--net", "cnn", "--data", self.path("set"), "--epochs", "0", "-o", self.path("m"), env=self.env)

    def test_missing_folder(self):
        self.train("/nonexistent/folder", data="/nonexistent/folder")

    def test_folder_without_a_dataset(self):
        os.makedirs(self.path("empty"))
        self.train(self.path("empty"), data=self.path("empty"))

    def test_truncated_dat(self):
        harness.replace_link(self.first + ".dat", harness.read(self.first + ".dat")[:-100])
        self.train([os.path.basename(self.first), "truncated"])

    def test_missing_dat(self):
        os.unlink(self.first + ".dat")
        self.train(os.path.basename(self.first))

    def test_wrong_checksum(self):
        data = bytearray(harness.read(self.first + ".dat"))
        data[500] ^= 0x40
        harness.replace_link(self.first + ".dat", bytes(data))
        self.train([os.path.basename(self.first), "checksum"])

    def test_malformed_header(self):
        text = harness.read(self.first + ".hea").replace(b" 16 ", b" 99 ", 1)
        harness.replace_link(self.first + ".hea", text)
        self.train([os.path.basename(self.first) + ".hea:2"])

    def test_malformed_csv_row(self):
        table = self.path("set/ptbxl_database.csv")
        lines = harness.read(table).decode().splitlines(keepends=True)
        lines[3] = "12345,only,three\n"
        self.write("set/ptbxl_database.csv", "".join(lines))
        self.train("ptbxl_database.csv:4")

    def test_csv_without_a_column(self):
        table = self.path("set/ptbxl_database.csv")
        text = harness.read(table).decode().replace("strat_fold", "strat_fould", 1)
        self.write("set/ptbxl_database.csv", text)
        self.train(["ptbxl_database.csv", "strat_fold"])


class Grid(harness.Case):
    """Grid files: file:line:column, and the nearest right name."""

    def grid(self, text, part):
        grid = self.write("g.yaml", text)
        self.refuses("submit", grid, "--dry-run", part=part)
        self.refuses("run", grid, "--data", harness.PTBXL, "-o", self.path("out"), part=part)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_unknown_net(self):
        self.grid("nets: [cnn, resnt]\n", ["g.yaml:1:13", "did you mean 'resnet'?"])

    def test_unknown_key(self):
        self.grid("nets: [cnn]\nzebra: 1\n", "g.yaml:2:1: unknown key 'zebra'")

    def test_misspelt_key(self):
        self.grid("nets: [cnn]\nepoch: 3\n", ["g.yaml:2:1", "did you mean 'epochs'?"])
        self.grid("nets: [cnn]\nprune:\n  kep: 0.5\n", ["g.yaml:3:3", "did you mean 'keep'?"])

    def test_fraction_outside(self):
        self.grid("nets: [cnn]\nprune: {keep: [0.5, 1.5]}\n", ["g.yaml:2:21", "(0, 1]"])
        self.grid("nets: [cnn]\nprune: {keep: 0}\n", ["g.yaml:2:15", "(0, 1]"])

    def test_wrong_type(self):
        self.grid("nets: [cnn]\nepochs: many\n", "g.yaml:2:9")

    def test_not_yaml(self):
        self.grid("nets: [cnn\n", "g.yaml:")

    def test_missing_file(self):
        self.refuses("submit", self.path("none.yaml"), "--dry-run", part="none.yaml")

    def test_dry_run_counts(self):
        grid = self.write("g.yaml", "nets: [cnn, rnn]\nseeds: 3\ndistill: [false, true]\n"
                                    "prune: {rounds: [1, 5], keep: [0.5, 0.125], norm: [L1, L2]}\n")
        doc = self.json("submit", grid, "--dry-run")
        # per net and seed: train and distill; per (plain, distilled) x 4 variants of 1 and 4 of 5 rounds; an evaluation each
        self.assertEqual(doc["artifacts"], 2 * 3 * 2 * (1 + 8))
        self.assertEqual(doc["jobs"], 2 * 3 * (2 + 2 * (4 * 1 + 4 * 5)) + doc["artifacts"])
        self.assertIsNone(doc["run"])


class Files(harness.Case):
    """Damaged checkpoints and artifacts, wrong arguments, and disks that are full."""

    @classmethod
    def setUpClass(cls):
        cls.model = os.path.join(harness.BUILD, "test-cache", "bad-input.safetensors")
        os.makedirs(os.path.dirname(cls.model), exist_ok=True)
        subprocess.run([os.path.join(harness.BIN, "cinch"), "train", "--net", "cnn", "--data", harness.PTBXL, "--epochs", "0", "-o",
                        cls.model, "--force"], env=harness.environment(), check=True, capture_output=True)

    def damaged(self, name, data, part):
        with open(self.path(name), "wb") as f:
            f.write(data)
        for command in (["inspect", name], ["eval", name, "--data", harness.PTBXL], ["infer", name, "x"]):
            self.refuses(*command, part=part)

    def test_unknown_net(self):
        self.refuses("train", "--net", "cn", "--data", harness.PTBXL, "-o", "m", part="did you mean 'cnn'?")

    def test_unknown_recipe(self):
        self.refuses("train", "--net", "cnn", "--recipe", "papper", "--data", harness.PTBXL, "-o", "m", part="did you mean 'paper'?")
        recipe = self.write("r.yaml", "base: paper\nlr: fast\n")
        self.refuses("train", "--net", "cnn", "--recipe", recipe, "--data", harness.PTBXL, "-o", "m", part="r.yaml:2:5")

    def test_wrong_widths(self):
        self.refuses("train", "--net", "cnn", "--widths", "1,2,3", "--data", harness.PTBXL, "-o", "m", part="width")
        self.refuses("train", "--net", "cnn", "--widths", "1,2,3,0", "--data", harness.PTBXL, "-o", "m", part="--widths")

    def test_fraction_outside(self):
        for keep in ("0", "1.5", "-1"):
            self.refuses("prune", self.model, "--data", harness.PTBXL, "--keep", keep, "-o", "m", part="(0, 1]")

    def test_corrupt_safetensors(self):
        sound = harness.read(self.model)
        self.damaged("cut", sound[:-1000], [f"cut: truncated: its tensors end at byte {len(sound)}, but the file has only {len(sound) - 1000}",
                                            "again"])
        self.damaged("head", sound[:100], ["head: truncated within its header", "only 100", "again"])
        self.damaged("length", struct.pack("<Q", 1 << 60) + sound[8:], "length")
        self.damaged("neither", b"not a model of any kind", "neither")
        header = sound.replace(b'"F32"', b'"F64"', 1)
        self.damaged("type", header, "type")

    def test_corrupt_cinch(self):
        art = self.path("m.cinch")
        self.cinch("quantize", self.model, "--data", harness.PTBXL, "-o", art)
        sound = harness.read(art)
        self.json("inspect", art)
        self.damaged("cut.cinch", sound[:-10], "cut.cinch")
        self.damaged("tail.cinch", sound + b"x", "tail.cinch")
        self.damaged("start.cinch", sound[:20], "start.cinch")
        flipped = bytearray(sound)
        flipped[len(sound) // 2] ^= 1
        self.damaged("flipped.cinch", bytes(flipped), "CRC")

    def test_no_record(self):
        self.refuses("infer", self.model, "no-such-record", "--data", harness.PTBXL, part="no-such-record")

    def test_empty_and_missing_files(self):
        self.write("empty", "")
        self.refuses("inspect", "empty", part="empty")
        self.refuses("inspect", "missing", part="missing")

    def test_folder_that_is_not_there(self):
        self.refuses("train", "--net", "cnn", "--data", harness.PTBXL, "--epochs", "0", "-o", "no/such/m", part="no/such")

    def test_full_disk(self):
        """A file may not grow beyond 64 KiB, as on a full disk: an error, and neither the file nor a piece of it is left."""
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        done = subprocess.run([os.path.join(harness.BIN, "cinch"), "train", "--net", "cnn", "--data", harness.PTBXL, "--epochs", "0",
                               "-o", self.path("m.safetensors")], env=harness.environment(), capture_output=True, text=True,
                              preexec_fn=limit)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("m.safetensors", done.stderr)
        self.assertEqual(os.listdir(self.dir), [])

    def test_full_stdout(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([os.path.join(harness.BIN, "cinch"), "version", "--json"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"stdout", done.stderr)

    def test_core_that_is_not_there(self):
        """Neither one that the machine lacks nor one that this process may not use is quietly replaced by another."""
        there = sorted(os.sched_getaffinity(0))
        self.refuses("bench", self.model, "--runs", "10", "--core", "4000", part=["4000", str(there[0])])
        if len(there) > 1:
            command = [os.path.join(harness.BIN, "cinch"), "bench", self.model, "--core", str(there[1])]
            done = subprocess.run(command, env=harness.environment(), capture_output=True, text=True,
                                  preexec_fn=lambda: os.sched_setaffinity(0, {there[0]}))
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"--core {there[1]}", done.stderr)
        done = subprocess.run([os.path.join(harness.BIN, "cinch-eval"), "--core", "1000"], env=harness.environment(), capture_output=True,
                              text=True)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("1000", done.stderr)

    def test_path_longer_than_a_socket_has(self):
        where = "ipc://" + self.path("d" * 100)
        for program, *args in (["cinchd", "--state", self.path("state"), "--listen", where], ["cinch", "ls", "--connect", where],
                               ["cinch-train", "--connect", where], ["cinch-eval", "--connect", where]):
            for there in (False, True):
                if there:
                    self.write("d" * 100, "")
                done = subprocess.run([os.path.join(harness.BIN, program), *args], env=harness.environment(), capture_output=True,
                                      text=True, timeout=60)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn("at most 107", done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1)
                if there:
                    os.unlink(self.path("d" * 100))

    def test_help_to_full_disk(self):
        for program in ("cinch", "cinchd", "cinch-train", "cinch-eval", "cinch-lat"):
            with open("/dev/full", "w", encoding="utf-8") as full:
                done = subprocess.run([os.path.join(harness.BIN, program), "--help"], stdout=full, stderr=subprocess.PIPE)
            self.assertEqual(done.returncode, 1, program)

    def test_control_characters_in_files(self):
        """Nothing that is shown of a file moves a terminal's cursor."""
        evil = "\\e]0;x\\a\\e[2J\\x9b2J"
        for grid in (f'nets: ["{evil}"]', f'nets: [cnn]\n"{evil}": 1', f'nets: [cnn]\nrecipe: "{evil}"', f'nets: [cnn]\nmeasure: "{evil}"',
                     f'nets: [{{net: cnn, widths: "{evil}"}}]', f'nets: [cnn]\nname: "{evil}"', f'nets: [cnn]\nprune: {{keep: "{evil}"}}'):
            for form in ([], ["--json"]):
                out, err = self.cinch("submit", self.write("g.yaml", grid + "\n"), "--dry-run", "--connect", "ipc:///nowhere", *form, code=2)
                self.assertNotRegex(out + err, "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]")

    def test_labels_stay_in_the_comment_of_c_source(self):
        """What a stranger's checkpoint calls a label is no code of those who export and compile it."""
        data = harness.read(self.model)
        n = int.from_bytes(data[:8], "little")
        head = json.loads(data[8:8 + n])
        about = json.loads(head["__metadata__"]["cinch"])
        about["labels"][0] = "*/x;/*"
        head["__metadata__"]["cinch"] = json.dumps(about)
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        with open(self.path("evil.safetensors"), "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text + data[8 + n:])
        self.cinch("export", "evil.safetensors", "--c", "-o", "evil.c")
        subprocess.run(["cc", "-std=c99", "-Wall", "-Werror", "-c", self.path("evil.c"), "-o", self.path("evil.o")], check=True)

    def test_unknown_isa(self):
        art = self.path("m.cinch")
        self.cinch("quantize", self.model, "--data", harness.PTBXL, "-o", art)
        self.refuses("inspect", art, part="CINCH_ISA", env=harness.environment(CINCH_ISA="sse9"))


if __name__ == "__main__":
    unittest.main()
