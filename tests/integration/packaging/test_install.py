"""`make install`: an installed tree works from a folder of its own, also after it was moved; `make uninstall` leaves
nothing of it and keeps what others put there."""
import json
import os
import subprocess
import sys
import tempfile
import shutil
import unittest
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import harness  # noqa: E402
from harness import BUILD, SOURCE, environment, small_ptbxl  # noqa: E402

GRID = """\
name: installed
nets: [{net: cnn, widths: [4, 4, 4, 4]}]
seeds: 1
epochs: 1
""" + harness.latency()


def make(*args):
    done = subprocess.run(["make", "-C", SOURCE, "--no-print-directory", f"BUILD={BUILD}", *args], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tree(folder):
    return {os.path.relpath(os.path.join(d, n), folder) for d, _, names in os.walk(folder) for n in names}


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="cinch-root-")
        cls.addClassCleanup(shutil.rmtree, cls.root, ignore_errors=True)
        make("install", f"DESTDIR={cls.root}", "prefix=/opt/lab")
        cls.files = tree(cls.root)
        cls.home = os.path.join(cls.root, "moved")
        shutil.copytree(os.path.join(cls.root, "opt/lab"), cls.home, symlinks=True)
        cls.data = os.path.join(cls.root, "data")
        small_ptbxl(cls.data, per_fold=3)

    def program(self, name):
        return os.path.join(self.home, "bin", name)

    def env(self, **more):
        return environment(PATH="/usr/bin:/bin", TMPDIR="/tmp", HOME=self.root, **more)

    def start(self, *command, env):
        p = subprocess.Popen(command, env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)

        def end():
            p.terminate()
            p.stdout.close()
            p.wait()
        self.addCleanup(end)
        return p

    def cinch(self, *args, env=None):
        done = subprocess.run([self.program("cinch"), *args], capture_output=True, text=True, env=env or self.env(), cwd="/",
                              stdin=subprocess.DEVNULL, timeout=600, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def write_grid(self):
        path = os.path.join(self.root, "g.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(GRID)
        return path

    def test_what_is_there(self):
        for name in ("bin/cinch", "bin/cinchd", "bin/cinch-train", "bin/cinch-eval", "libexec/cinch/cinch-lat",
                     "libexec/cinch/cinch-rank", "share/cinch/web/index.html", "share/man/man1/cinchd.1",
                     "share/man/man5/cinch-grid.5", "share/cinch/samples/grids/demo.yaml", "share/doc/cinch/security.md",
                     "share/bash-completion/completions/cinch"):
            self.assertIn("opt/lab/" + name, self.files)

    def test_a_grid_in_one_process(self):
        """Measuring needs cinch-lat, which lies in libexec."""
        out = os.path.join(self.root, "out")
        doc = json.loads(self.cinch("run", self.write_grid(), "--data", self.data, "-o", out, "--json"))
        self.assertEqual(doc["failed"], [])
        self.assertEqual(len(doc["artifacts"]), 1)
        if "none" not in GRID:
            self.assertTrue(doc["artifacts"][0]["latency_int8"])

    def test_a_grid_through_the_service_and_its_page(self):
        run = tempfile.mkdtemp(dir=self.root)
        env = self.env(CINCH_COORDINATOR=f"ipc://{run}/sock")
        daemon = self.start(self.program("cinchd"), "--state", run + "/state", "--listen", f"ipc://{run}/sock", "--http", "0", env=env)
        link = daemon.stdout.readline().split()[-1]
        with urllib.request.urlopen(link, timeout=60) as page:
            self.assertIn(b"<html", page.read().lower())
        self.start(self.program("cinch-train"), "--cpu", env=env)
        self.start(self.program("cinch-eval"), env=env)
        name = json.loads(self.cinch("submit", self.write_grid(), "--data", self.data, "--json", env=env))["run"]
        self.cinch("watch", name, "--json", env=env)
        self.assertEqual(json.loads(self.cinch("show", name, "--json", env=env))["state"], "done")

    def test_the_plugin_is_looked_for_in_the_installation(self):
        plugin = os.path.join(self.home, "lib", "cinch", "cinch-gpu.so")
        if os.path.exists(plugin):
            os.unlink(plugin)
        os.makedirs(os.path.dirname(plugin), exist_ok=True)
        with open(plugin, "wb") as f:
            f.write(b"no library")
        done = subprocess.run([self.program("cinch-train"), "--gpu", "0"], capture_output=True, text=True, env=self.env(), check=False)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("/moved/", done.stderr)
        self.assertIn("cinch-gpu.so", done.stderr)

    def test_completion(self):
        if not shutil.which("bash"):
            self.skipTest("no bash")
        script = f'. "{self.home}/share/bash-completion/completions/cinch"; COMP_WORDS=("$0" {{}}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); ' \
                 '_cinch "$0"; echo ${{COMPREPLY[*]}}'

        def complete(words):
            return subprocess.run(["bash", "-c", script.replace("{}", words, 1).replace("{{", "{").replace("}}", "}"), self.program("cinch")],
                                  capture_output=True, text=True, env=self.env(), check=True).stdout.split()
        self.assertEqual(complete("qu"), ["quantize"])
        self.assertIn("--teacher", complete("train --"))

    def test_uninstall(self):
        root = tempfile.mkdtemp(dir=self.root)
        make("install", f"DESTDIR={root}", "prefix=/usr/local")
        other = os.path.join(root, "usr/local/bin/other")
        with open(other, "w", encoding="utf-8") as f:
            f.write("somebody's")
        make("uninstall", f"DESTDIR={root}", "prefix=/usr/local")
        self.assertEqual(tree(root), {"usr/local/bin/other"})
        make("uninstall", f"DESTDIR={root}", "prefix=/usr/local")  # again does no harm


if __name__ == "__main__":
    unittest.main(verbosity=2)
