"""The service files of an installation: systemd reads them, finds them closed enough, and gets from the programs what it
waits for: readiness, signs of life, a goodbye, and log lines with a priority instead of a time."""
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from harness import BIN, BUILD, SOURCE, environment  # noqa: E402

UNITS = {"cinchd.service": "cinchd.service", "cinch-train@.service": "cinch-train@0.service",
         "cinch-eval@.service": "cinch-eval@3.service"}


def install(root, prefix):
    subprocess.run(["make", "-C", SOURCE, f"BUILD={BUILD}", f"DESTDIR={root}", f"prefix={prefix}", "install"], check=True,
                   stdout=subprocess.DEVNULL)


class Units(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="cinch-units-")
        cls.addClassCleanup(shutil.rmtree, cls.root, ignore_errors=True)
        install(cls.root, "/usr")
        cls.units = os.path.join(cls.root, "usr/lib/systemd/system")
        cls.named = os.path.join(cls.root, "named")  # templates under the name of an instance
        os.makedirs(cls.named)
        for unit, name in UNITS.items():
            with open(os.path.join(cls.units, unit), encoding="utf-8") as f:
                text = f.read()
            with open(os.path.join(cls.named, name), "w", encoding="utf-8") as f:
                f.write(text.replace("/usr/bin/", cls.root + "/usr/bin/"))

    def test_nothing_is_left_to_fill_in(self):
        for path in glob.glob(self.units + "/*") + [self.root + "/usr/lib/sysusers.d/cinch.conf", self.root + "/usr/lib/tmpfiles.d/cinch.conf"]:
            with open(path, encoding="utf-8") as f:
                text = f.read()
            self.assertNotRegex(text, r"@\w+@", path)
            for program in re.findall(r"^ExecStart=(\S+)", text, re.M):
                self.assertTrue(os.access(self.root + program, os.X_OK), program)
            for file in re.findall(r"^EnvironmentFile=-(/etc/[^%\s]+)$", text, re.M):
                self.assertTrue(os.path.exists(self.root + file), file)

    def test_systemd_reads_them(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze")
        for name in UNITS.values():
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", os.path.join(self.named, name)], capture_output=True,
                                  text=True, check=False)
            ours = [line for line in (done.stdout + done.stderr).splitlines() if "cinch" in line]
            self.assertEqual(ours, [])

    def test_exposure(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze")
        for name in UNITS.values():
            done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager",
                                   os.path.join(self.named, name)], capture_output=True, text=True, check=False)
            if "unrecognized option" in done.stderr:
                self.skipTest("this systemd-analyze does not know --offline")
            overall = [line for line in done.stdout.splitlines() if "Overall" in line]
            print(name, overall)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_users_and_folders(self):
        for tool, folder in (("systemd-sysusers", "sysusers.d"), ("systemd-tmpfiles", "tmpfiles.d")):
            if not shutil.which(tool):
                self.skipTest("no " + tool)
            root = tempfile.mkdtemp(dir=self.root)
            os.makedirs(root + "/etc")
            for file in ("passwd", "group"):
                with open(f"{root}/etc/{file}", "w", encoding="utf-8") as f:
                    f.write("cinch:x:971:971::/var/lib/cinch:/bin/false\n" if file == "passwd" else "cinch:x:971:\n")
            flags = ["--create"] if tool == "systemd-tmpfiles" else ["--dry-run"]
            if tool == "systemd-sysusers" and "--dry-run" not in subprocess.run([tool, "--help"], capture_output=True, text=True,
                                                                                check=False).stdout:
                flags = []
            done = subprocess.run([tool, f"--root={root}", *flags, os.path.join(self.root, "usr/lib", folder, "cinch.conf")],
                                  capture_output=True, text=True, check=False)
            if os.geteuid() == 0:
                self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn("Unknown", done.stderr)

    def test_what_an_administrator_changed_stays(self):
        root = tempfile.mkdtemp(dir=self.root)
        install(root, "/usr")
        changed = os.path.join(root, "etc/cinch/cinchd.conf")
        with open(changed, "w", encoding="utf-8") as f:
            f.write("CINCHD_OPTIONS=--http 1\n")
        install(root, "/usr")
        subprocess.run(["make", "-C", SOURCE, f"BUILD={BUILD}", f"DESTDIR={root}", "prefix=/usr", "uninstall"], check=True,
                       stdout=subprocess.DEVNULL)
        left = [os.path.join(d, n) for d, _, names in os.walk(root) for n in names]
        self.assertEqual(left, [changed])
        with open(changed, encoding="utf-8") as f:
            self.assertIn("--http 1", f.read())


class Told(unittest.TestCase):
    """What the programs tell a service manager."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="cinch-told-")
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(self.dir + "/notify")
        self.manager.settimeout(60)
        self.addCleanup(self.manager.close)

    def start(self, program, *args, **env):
        log = open(os.path.join(self.dir, program + ".log"), "w+", encoding="utf-8")
        self.addCleanup(log.close)
        at = os.fstat(log.fileno())
        told = {"NOTIFY_SOCKET": self.dir + "/notify", "WATCHDOG_USEC": "300000", "JOURNAL_STREAM": f"{at.st_dev}:{at.st_ino}",
                "XDG_RUNTIME_DIR": self.dir, "CINCH_COORDINATOR": f"ipc://{self.dir}/sock"}
        env = environment(**{**told, **env})
        p = subprocess.Popen([os.path.join(BIN, program), *args], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
        self.addCleanup(p.wait)
        self.addCleanup(p.kill)
        return p, log

    def told(self, what):
        seen = []
        while not seen or what not in seen[-1].split("\n"):
            seen.append(self.manager.recv(4096).decode())
        return seen

    def lines(self, log):
        log.seek(0)
        return log.read().splitlines()

    def leaves(self, p, log):
        p.send_signal(signal.SIGTERM)
        self.told("STOPPING=1")
        self.assertEqual(p.wait(60), 0)
        for line in self.lines(log):
            self.assertRegex(line, r"^<[3467]>[a-z]+: ")

    def test_the_coordinator_and_a_worker(self):
        daemon, log = self.start("cinchd", "--state", self.dir + "/state")
        self.assertNotIn("WATCHDOG=1", "".join(self.told("READY=1")))
        self.assertTrue(os.path.exists(self.dir + "/sock"))  # ready means: it can be connected to
        self.told("WATCHDOG=1")
        self.told("WATCHDOG=1")
        worker, worker_log = self.start("cinch-train", "--cpu", "--wait")
        self.told("READY=1")
        doc = subprocess.run([os.path.join(BIN, "cinch"), "ls", "--json"], capture_output=True, check=True,
                             env=environment(CINCH_COORDINATOR=f"ipc://{self.dir}/sock")).stdout
        json.loads(doc)
        self.leaves(worker, worker_log)
        self.leaves(daemon, log)
        self.assertTrue(any("listening on" in line for line in self.lines(log)))

    def test_a_watchdog_of_another_process_is_not_fed(self):
        daemon, _ = self.start("cinchd", "--state", self.dir + "/state", WATCHDOG_PID="1")
        self.told("READY=1")
        daemon.send_signal(signal.SIGTERM)
        self.assertNotIn("WATCHDOG=1", "".join(self.told("STOPPING=1")))

    def test_a_log_that_is_no_journal_has_times(self):
        daemon, log = self.start("cinchd", "--state", self.dir + "/state", JOURNAL_STREAM="1:1")
        self.told("READY=1")
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait(60), 0)
        self.assertTrue(self.lines(log))
        for line in self.lines(log):
            self.assertRegex(line, r"^\d\d:\d\d:\d\d\.\d{3} ")


if __name__ == "__main__":
    unittest.main(verbosity=2)
