"""Where cinchd listens: the local socket beside TCP, so that the first key can be made; for other accounts by group."""
import grp
import json
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from harness import BIN, environment  # noqa: E402


class Local(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="cinch-local-")
        os.chmod(self.dir, 0o711)
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.sock = self.dir + "/cinch.sock"

    def start(self, *args, state="state", **env):
        """Returns the process and its endpoints once it is ready."""
        log = open(os.path.join(self.dir, state + ".log"), "w+", encoding="utf-8")
        self.addCleanup(log.close)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(f"{self.dir}/{state}.ready")
            ready.settimeout(0.1)
            p = subprocess.Popen([BIN + "/cinchd", "--state", f"{self.dir}/{state}", *args], stderr=log, stdout=log,
                                 stdin=subprocess.DEVNULL,
                                 env=environment(XDG_RUNTIME_DIR=self.dir, NOTIFY_SOCKET=f"{self.dir}/{state}.ready", **env))
            self.addCleanup(p.wait)
            self.addCleanup(p.kill)
            while p.poll() is None:
                try:
                    if ready.recv(100) == b"READY=1":
                        break
                except TimeoutError:
                    pass
        log.seek(0)
        text = log.read()
        return p, re.findall(r"listening on (\S+)", text), text

    def cinch(self, *args, code=0, **env):
        done = subprocess.run([BIN + "/cinch", *args], capture_output=True, text=True, cwd=self.dir, check=False,
                              env=environment(XDG_RUNTIME_DIR=self.dir, **env))
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def test_tcp_and_the_local_socket(self):
        _, _, text = self.start("--listen", "tcp://127.0.0.1:*")
        tcp = re.search(r"listening on (tcp://\S+)", text).group(1)
        self.assertIn(f"listening on ipc://{self.sock}", text)
        self.cinch("keys", "create", "anna", "--role", "submit", "-o", self.dir + "/anna.key")
        self.cinch("ls", "--connect", tcp, "--key", self.dir + "/anna.key")

    def test_no_local(self):
        _, found, _ = self.start("--listen", "tcp://127.0.0.1:*", "--no-local")
        self.assertEqual([e[:6] for e in found], ["tcp://"])
        self.assertFalse(os.path.exists(self.sock))

    def test_a_named_socket_stays_the_only_one(self):
        _, found, _ = self.start("--listen", "tcp://127.0.0.1:*", "--listen", f"ipc://{self.dir}/mine")
        self.assertEqual(sorted(e[:6] for e in found), ["ipc://", "tcp://"])
        self.assertFalse(os.path.exists(self.sock))

    def test_another_coordinators_socket_is_left_to_it(self):
        self.start()
        _, found, text = self.start("--listen", "tcp://127.0.0.1:*", state="second")
        self.assertEqual([e[:6] for e in found], ["tcp://"])
        self.assertIn("another coordinator's", text)
        third, _, text = self.start(state="third")
        self.assertEqual(third.wait(60), 1)
        self.assertIn("another coordinator listens there", text)
        self.cinch("ls")  # the first one still has it

    def test_a_socket_left_by_a_killed_one_is_replaced(self):
        p, _, _ = self.start()
        p.send_signal(signal.SIGKILL)
        p.wait()
        self.assertTrue(os.path.exists(self.sock))
        self.start(state="again")
        self.cinch("ls")

    def test_bad_groups(self):
        for n, (args, part) in enumerate(((("--socket-group", "no-such-group"), "there is no such group"),
                           (("--socket-group", grp.getgrgid(os.getegid()).gr_name, "--listen", f"ipc://@{self.dir}"), "is no file"))):
            p, _, text = self.start(*args, state=f"bad{n}")
            self.assertEqual(p.wait(60), 2, text)
            self.assertIn(part, text)
            self.assertFalse(os.path.exists(self.sock))

    def guest(self, group, *args):
        """cinch as the account nobody with one group; (exit code, output)."""
        shutil.copy(BIN + "/cinch", self.dir + "/cinch")
        os.chmod(self.dir + "/cinch", 0o755)

        def become():
            os.setgroups([])
            os.setgid(group)
            os.setuid(pwd.getpwnam("nobody").pw_uid)
        done = subprocess.run([self.dir + "/cinch", *args], capture_output=True, text=True, cwd="/", preexec_fn=become, check=False,
                              env=environment(CINCH_COORDINATOR=f"ipc://{self.sock}", HOME="/nonexistent", USER="root", LOGNAME="root"))
        return done.returncode, done.stdout + done.stderr

    @unittest.skipIf(os.geteuid() != 0, "only root can become another account")
    def test_guests(self):
        group = grp.getgrnam("daemon")
        self.start("--socket-group", "daemon")
        self.assertEqual(stat.S_IMODE(os.stat(self.sock).st_mode), 0o660)
        self.assertEqual(os.stat(self.sock).st_gid, group.gr_gid)
        self.assertEqual(self.guest(group.gr_gid, "ls")[0], 0)
        code, text = self.guest(group.gr_gid, "keys", "create", "eve", "--role", "admin", "-o", "/tmp/never.key")
        self.assertEqual(code, 4, text)
        self.assertNotEqual(self.guest(grp.getgrnam("games").gr_gid, "ls")[0], 0)
        self.assertEqual(json.loads(self.cinch("keys", "list", "--json").stdout).get("keys", []), [])

    @unittest.skipIf(os.geteuid() != 0, "only root can become another account")
    def test_without_a_group_no_other_account(self):
        self.start()
        os.chmod(self.sock, 0o666)
        self.assertNotEqual(self.guest(grp.getgrnam("daemon").gr_gid, "ls")[0], 0)
        self.cinch("ls")


if __name__ == "__main__":
    unittest.main(verbosity=2)
