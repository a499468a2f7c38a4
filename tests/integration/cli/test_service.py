"""A coordinator and two workers as separate processes, and every service command against them; keys and refusals over TCP."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import harness
from harness import PTBXL

GRID = """\
name: service
nets: [{net: cnn, widths: [8, 8, 8, 8]}]
epochs: 1
prune: {keep: [0.5], epochs: 1}
""" + harness.latency()


class Service(harness.Case):
    """One coordinator with workers for all tests of the class."""

    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.mkdtemp(prefix="cinch-s-")
        cls.where = f"ipc://{cls.home}/socket"
        cls.env = harness.environment(CINCH_COORDINATOR=cls.where)
        cls.children = []
        cls.start("cinchd", "--state", cls.home + "/state", "--listen", cls.where, "--listen", "tcp://127.0.0.1:*", "--http", "0")
        cls.log = cls.await_log("dashboard at (http://\\S+)")
        cls.start("cinch-train", "--cpu", "--slots", "2")
        cls.start("cinch-eval")

    @classmethod
    def start(cls, name, *args):
        log = open(f"{cls.home}/{name}.log", "w", encoding="utf-8")
        cls.children.append(subprocess.Popen([os.path.join(harness.BIN, name), *args], env=cls.env, stdout=log, stderr=log))
        log.close()

    @classmethod
    def await_log(cls, pattern):
        for _ in range(200):
            text = harness.read(cls.home + "/cinchd.log").decode()
            if re.search(pattern, text):
                return text
            time.sleep(0.1)
        raise AssertionError("cinchd did not start:\n" + text)

    @classmethod
    def tearDownClass(cls):
        for child in reversed(cls.children):
            child.send_signal(signal.SIGTERM)
        for child in cls.children:
            try:
                child.wait(timeout=200)
            except subprocess.TimeoutExpired:
                child.kill()
        shutil.rmtree(cls.home, ignore_errors=True)

    def ask(self, *args, **kw):
        return self.json(*args, env=self.env, **kw)

    def say(self, *args, **kw):
        return self.cinch(*args, env=self.env, **kw)

    def submit(self, text=GRID, *more):
        return self.ask("submit", self.write("g.yaml", text), "--data", PTBXL, *more)

    def test_submit_to_report(self):
        filed = self.submit()
        self.assertEqual((filed["jobs"], filed["artifacts"]), (4, 2))
        run = filed["run"]
        shown = self.ask("watch", run, timeout=1200)
        self.assertEqual((shown["run"], shown["state"]), (run, "done"))
        self.assertEqual(shown["jobs"]["succeeded"], 4)
        for state in ("waiting", "ready", "leased", "succeeded", "failed", "cancelled"):
            self.assertIn(state, shown["jobs"])
        self.assertEqual(self.ask("show", run)["jobs"], shown["jobs"])
        self.assertIn("name: service", self.ask("show", run)["grid"])
        self.assertIn(run, [r["run"] for r in self.ask("ls")["runs"]])

        report = self.ask("report", run, "-o", self.path("report"))
        self.assertEqual((len(report["artifacts"]), report["failed"]), (2, []))
        self.assertTrue(os.path.exists(self.path("report/report.csv")))
        got = self.ask("get", run, "-o", self.path("out"), "--models")
        for a in got["artifacts"]:
            self.assertEqual(os.path.getsize(a["path_int8"]), a["bytes_int8"])
            self.assertEqual(self.ask("inspect", a["path_model"])["params"], a["params"])
        job = got["artifacts"][0]["job"]
        self.assertEqual(self.ask("show", job)["state"], "succeeded")
        self.assertGreater(len(self.ask("log", job)["events"]), 1)
        self.assertGreater(len(self.ask("log", run)["events"]), 4)
        self.keys(self.ask("explain", job), "id", "state", "text")

        again = self.submit()
        self.assertEqual(again["reused"], 4)
        self.assertEqual(self.ask("watch", again["run"])["state"], "done")
        for command in (["ls"], ["show", run], ["show", job], ["log", run], ["explain", job], ["workers"], ["report", run],
                        ["keys", "list"], ["data", "list"], ["watch", run], ["doctor"]):
            out, _ = self.say(*command)
            self.assertTrue(out.strip(), command)

    def test_pause_resume_cancel_retry(self):
        run = self.submit(GRID.replace("epochs: 1", "epochs: 3", 1) + "seeds: [77]\n", "--paused")["run"]
        self.assertEqual(self.ask("show", run)["state"], "waiting")
        self.assertTrue(self.ask("show", run)["paused"])
        self.assertIn("paused", self.ask("explain", run)["text"])
        self.ask("resume", run)
        self.ask("pause", run)
        self.ask("cancel", run)
        out, err = self.say("watch", run, "--json", code=1)
        self.assertEqual(json.loads(out)["state"], "cancelled")
        self.assertIn("cancelled", err)
        self.ask("retry", run)
        self.ask("resume", run)
        self.assertEqual(self.ask("watch", run, timeout=1200)["state"], "done")

    def test_what_is_no_id(self):
        for command in ("show", "log", "explain", "watch", "cancel", "retry", "pause", "resume"):
            for name in ("", "a run", "r1!"):
                doc, _ = self.say(command, name, "--json", code=2)
                self.assertIn("is no id", json.loads(doc)["error"]["text"])

    def test_jobs_of_two_runs(self):
        """Cancelling one run leaves the other its jobs, and the answer does not sound as if nothing had been done."""
        one, two = (self.submit(GRID + "seeds: [80]\n", "--paused")["run"] for _ in range(2))
        out, _ = self.say("cancel", one)
        self.assertIn(f"{one} is cancelled; its jobs go on", out)
        self.assertEqual(self.ask("show", one)["state"], "cancelled")
        self.assertEqual(self.ask("show", two)["state"], "waiting")
        out, _ = self.say("retry", one)
        self.assertIn(f"{one} is live again", out)
        self.assertNotEqual(self.ask("show", one)["state"], "cancelled")
        self.ask("cancel", one, two)

    def test_one_of_several_is_unknown(self):
        """What was done before it, and what was not asked for, is said with the failure."""
        run = self.submit(GRID + "seeds: [79]\n", "--paused")["run"]
        doc, _ = self.say("cancel", run, "r999", run, "--json", code=2)
        self.assertIn("1 before it: done; 1 after it", json.loads(doc)["error"]["text"])
        self.assertEqual(self.ask("show", run)["state"], "cancelled")

    def test_leaving_watch_is_no_failure(self):
        run = self.submit(GRID + "seeds: [78]\n", "--paused")["run"]
        for form in ([], ["--json"], ["--quiet"]):
            child = subprocess.Popen([os.path.join(harness.BIN, "cinch"), "watch", run, *form], env=self.env, text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            time.sleep(2)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=60)
            self.assertEqual(child.returncode, 0, err)
            if form == ["--json"]:
                self.assertEqual(json.loads(out)["state"], "waiting")
        self.assertEqual(self.ask("show", run)["jobs"]["cancelled"], 0)
        self.ask("cancel", run)

    def test_models_without_measurement(self):
        run = self.submit("name: nets-alone\nnets: [{net: cnn, widths: [4, 4, 4, 4]}]\nseeds: 2\nepochs: 1\nmeasure: none\n"
                          "prune: {rounds: 2, keep: [0.5], epochs: 1}\n")["run"]
        self.assertEqual(self.ask("watch", run, timeout=1200)["state"], "done")
        out, err = self.say("get", run, "-o", self.path("nothing"))
        self.assertIn("--models", err)
        got = self.ask("get", run, "-o", self.path("out"), "--models")
        self.assertEqual(sorted((m["seed"], m["kind"]) for m in got["models"]), [(0, "prune"), (0, "train"), (1, "prune"), (1, "train")])
        self.assertEqual(len({harness.read(m["path_model"]) for m in got["models"]}), 4)
        for m in got["models"]:
            self.assertEqual(self.ask("inspect", m["path_model"])["widths"], [2] * 4 if m["kind"] == "prune" else [4] * 4)
        again = self.ask("get", run, "-o", self.path("out"), "--models")
        self.assertEqual(again, got)

    def test_what_is_not_there(self):
        self.refuses("show", "r999", part="r999", env=self.env)
        self.refuses("show", "nonsense", part="nonsense", env=self.env)
        self.refuses("get", "r999", "-o", self.path("out"), part="r999", env=self.env)
        self.refuses("submit", self.write("g.yaml", GRID + "data: no-such-set\n"), part="--data DIR", env=self.env)

    def test_workers_and_data(self):
        names = [w["kinds"] for w in self.ask("workers")["workers"]]
        self.assertIn(["evaluate"], names)
        self.submit()
        self.assertIn("ptbxl", [d["name"] for d in self.ask("data", "list")["coordinator"]])

    def test_http_answers(self):
        import urllib.error
        import urllib.request
        url = re.search(r"dashboard at (http://\S+)", self.log).group(1)
        base, token = url.split("?token=")
        self.assertEqual(token, harness.read(self.home + "/state/http.token").decode())
        self.assertEqual(os.stat(self.home + "/state/http.token").st_mode & 0o777, 0o600)
        with urllib.request.urlopen(base + "api/v1/status?token=" + token) as answer:
            self.assertIn("jobs", json.load(answer))
        with urllib.request.urlopen(url) as answer:
            self.assertIn(b"<title>cinch</title>", answer.read())
            cookie = answer.headers["Set-Cookie"]
        self.assertNotIn(token, cookie)
        self.assertRegex(cookie, "HttpOnly; SameSite=Strict$")
        for headers in {"Cookie": cookie.split(";")[0]}, {"Authorization": "Bearer " + token}:
            with urllib.request.urlopen(urllib.request.Request(base + "api/v1/runs", headers=headers)) as answer:
                self.assertIn("runs", json.load(answer))
        for path in "", "metrics", "api/v1/runs", "events":
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(base + path)
            self.assertEqual(refused.exception.code, 401)
        self.assertEqual(self.log.count(token), 1)  # on standard output, not in the log

    def test_keys_and_roles(self):
        tcp = re.search(r"listening on (tcp://\S+)", self.log).group(1)
        key = self.ask("keys", "create", "anna", "--role", "submit", "-o", self.path("anna.key"))
        self.assertEqual((key["name"], key["role"]), ("anna", "submit"))
        self.assertEqual(os.stat(self.path("anna.key")).st_mode & 0o777, 0o600)
        self.json("ls", "--connect", tcp, "--key", self.path("anna.key"))
        self.ask("keys", "create", "reader", "--role", "read", "-o", self.path("reader.key"))
        self.json("ls", "--connect", tcp, "--key", self.path("reader.key"))
        self.refuses("submit", self.write("g.yaml", GRID), "--data", PTBXL, "--connect", tcp, "--key", self.path("reader.key"), part="read",
                     code=4)
        self.refuses("keys", "list", "--connect", tcp, "--key", self.path("anna.key"), part="admin", code=4)
        self.refuses("ls", "--connect", tcp, part="key file", code=4)
        self.wrong_keys(tcp)
        self.ask("keys", "revoke", "anna")
        self.refuses("ls", "--connect", tcp, "--key", self.path("anna.key"), part="key", code=4)
        self.assertEqual({k["name"]: k["revoked"] for k in self.ask("keys", "list")["keys"]}["anna"], True)
        self.refuses("keys", "create", "bert", "-o", self.path("anna.key"), part="exists", env=self.env)

    def wrong_keys(self, tcp):
        """A key nobody registered, one for another coordinator, and one that others can read."""
        text = harness.read(self.path("anna.key")).decode()
        other = self.ask("keys", "create", "other", "-o", self.path("other.key"))["public"]
        stranger = text.replace(re.search("secret: (.*)", text).group(1), "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs").replace(
            re.search("public: (.*)", text).group(1), "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID")
        self.write("stranger.key", stranger)
        os.chmod(self.path("stranger.key"), 0o600)
        self.refuses("ls", "--connect", tcp, "--key", self.path("stranger.key"), part="key", code=4)
        elsewhere = re.sub("server: .*", lambda _: "server: " + other, text)
        self.write("elsewhere.key", elsewhere)
        os.chmod(self.path("elsewhere.key"), 0o600)
        out, _ = self.cinch("ls", "--connect", tcp, "--key", self.path("elsewhere.key"), "--json", code=4)
        os.chmod(self.path("elsewhere.key"), 0o644)
        self.refuses("ls", "--connect", tcp, "--key", self.path("elsewhere.key"), part="chmod", code=4)
        self.refuses("ls", "--connect", tcp, "--key", self.path("missing.key"), part="missing.key")


if __name__ == "__main__":
    unittest.main()
