"""What the tests of `cinch` share: running it, reading its one JSON document, and small folders of real records."""
import csv
import json
import os
import shutil
import subprocess
import tempfile
import unittest

BIN = os.environ["CINCH_BIN"]
SOURCE = os.environ["CINCH_SOURCE_DIR"]
BUILD = os.path.dirname(BIN)
PTBXL = os.path.join(BUILD, "samples", "ptbxl")
MITDB = os.path.join(BUILD, "samples", "mitdb")
CODES = {0: "fine", 1: "the work failed", 2: "usage or bad input", 3: "cannot connect", 4: "refused"}


def environment(**extra):
    """The user's environment without their coordinator, data and terminal; the dataset cache is shared by all tests."""
    env = {k: v for k, v in os.environ.items() if k == "CINCH_GPU_ENGINE" or not k.startswith(("CINCH_", "XDG_"))}
    env.update(CINCH_CACHE=os.path.join(BUILD, "test-cache"), XDG_CONFIG_HOME="/nonexistent", CINCH_DATA=os.path.join(BUILD, "test-data"), NO_COLOR="1")
    env["XDG_RUNTIME_DIR"] = os.path.join(BUILD, "test-run") # no coordinator listens there
    os.makedirs(env["XDG_RUNTIME_DIR"], exist_ok=True)
    env.update(extra)
    return env


def latency():
    """The grids' latency line: a few runs under glibc, or none where its malloc is not the live one (sanitizers)."""
    done = subprocess.run([os.path.join(BIN, "cinch"), "doctor", "--json"], capture_output=True, env=environment(), check=True)
    states = {c["check"]: c["state"] for c in json.loads(done.stdout)["checks"]}
    return "latency: {runs: 20, allocator: glibc}\n" if states["glibc"] == "ok" else "latency: none\n"


class Case(unittest.TestCase):
    """A test with a folder of its own, `self.dir`."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="cinch-test-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        return self.path(name)

    def cinch(self, *args, code=0, env=None, cwd=None, timeout=600):
        """Runs cinch, demands the exit code, and returns (stdout, stderr)."""
        done = subprocess.run([os.path.join(BIN, "cinch"), *map(str, args)], capture_output=True, text=True,
                              env=env or environment(), cwd=cwd or self.dir, timeout=timeout, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, code,
                         f"cinch {' '.join(map(str, args))}: expected {code} ({CODES[code]})\n{done.stdout}\n{done.stderr}")
        return done.stdout, done.stderr

    def json(self, *args, **kw):
        """The one document of --json."""
        out, _ = self.cinch(*args, "--json", **kw)
        return json.loads(out)

    def refuses(self, *args, part, code=2, **kw):
        """An error: this exit code, nothing but the error document on stdout, and a message with every one of `part`."""
        out, err = self.cinch(*args, "--json", code=code, **kw)
        doc = json.loads(out)
        self.assertEqual(set(doc), {"error"})
        for p in [part] if isinstance(part, str) else part:
            self.assertIn(p, doc["error"]["text"])
            self.assertIn(p, err)
        self.assertEqual(os.listdir(self.dir) if kw.get("clean") else [], [])
        return doc["error"]

    def keys(self, doc, *names):
        for n in names:
            self.assertIn(n, doc)


def small_ptbxl(folder, per_fold=6):
    """A PTB-XL folder with the first records of every fold; signals are links to the sample's."""
    os.makedirs(folder)
    shutil.copy(os.path.join(PTBXL, "scp_statements.csv"), folder)
    seen, rows = {}, []
    with open(os.path.join(PTBXL, "ptbxl_database.csv"), newline="", encoding="utf-8") as f:
        reader = csv.DictReader(f)
        for row in reader:
            fold = row["strat_fold"]
            seen[fold] = seen.get(fold, 0) + 1
            if seen[fold] <= per_fold:
                rows.append(row)
        names = reader.fieldnames
    with open(os.path.join(folder, "ptbxl_database.csv"), "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, names)
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        for ending in (".hea", ".dat"):
            at = os.path.join(folder, row["filename_lr"] + ending)
            os.makedirs(os.path.dirname(at), exist_ok=True)
            os.symlink(os.path.join(PTBXL, row["filename_lr"] + ending), at)
    return rows


def replace_link(path, data):
    """Puts bytes of our own where small_ptbxl left a link."""
    os.unlink(path)
    with open(path, "wb") as f:
        f.write(data)


def read(path):
    with open(path, "rb") as f:
        return f.read()
