"""What the chaos scripts share: programs that are started again when they are gone, a coordinator with its workers on a folder of
its own, and what is asked of a run afterwards. Programs: CINCH_BIN, and nulltool beside it in ../tests.
"""
import json
import os
import signal
import socket
import subprocess
import sys
import time

from network import Proxy

SHOW, LOG, REPORT, JOBS, EXPLAIN = 2, 3, 6, 7, 4


class Process:
    """A program that is started again whenever it is gone. None outlives this script."""
    every, at_end = [], []

    def __init__(self, name, argv, log, env=None):
        self.name, self.argv, self.log, self.env = name, argv, log, env
        self.start()
        Process.every.append(self)

    def start(self):
        with open(self.log, "ab") as out:
            self.p = subprocess.Popen(self.argv, stdout=out, stderr=out, env=self.env)

    def alive(self):
        return self.p.poll() is None

    def end(self, sig):
        if self.alive():
            self.p.send_signal(sig)
            if sig == signal.SIGKILL:
                self.p.wait()

    def stop(self):
        self.end(signal.SIGCONT)
        self.end(signal.SIGTERM)
        try:
            self.p.wait(20)
        except subprocess.TimeoutExpired:
            self.end(signal.SIGKILL)

    @staticmethod
    def end_all():
        for process in Process.every:
            process.end(signal.SIGKILL)
        for clean in Process.at_end:
            clean()


class Lab:
    """A coordinator with its workers, on a folder of its own."""

    def __init__(self, args, dir, wire=None):
        self.args, self.dir, self.took_part, self.wire = args, dir, set(), wire
        os.makedirs(dir)
        self.ipc = f"ipc://{dir}/sock"
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.tcp_port = s.getsockname()[1]
        argv = [f"{args.bin}/cinchd", "--state", f"{dir}/state", "--listen", self.ipc, "--listen",
                f"tcp://127.0.0.1:{self.tcp_port}", "--lost", str(args.lost), "--quiet"]
        self.coordinator = Process("coordinator", argv, f"{dir}/cinchd.log")
        self.wait_up()
        self.proxy = Proxy(self.tcp_port, wire.address, wire.delay) if wire else Proxy(self.tcp_port)
        self.workers = []
        key = f"{dir}/worker.key"
        self.tool("key", "far", "worker", key)
        far = ["--connect", f"tcp://{self.proxy.address}:{self.proxy.port}", "--key", key]
        for i, (inside, where) in enumerate((([], ["--connect", self.ipc]), (wire.prefix if wire else [], far))):
            if args.grid:
                self.add(f"trainer{i}", inside + [f"{args.bin}/cinch-train", "--cpu", "--slots", "1", "--threads", "1"] + where)
                if i == 0:
                    self.add("evaluator", [f"{args.bin}/cinch-eval"] + where)
            else:
                self.add(f"null{i}", inside + [f"{args.tests}/nulltool", "worker", "--name", f"null{i}", "--slots", "2",
                                               "--epochs", "6", "--epoch-ms", "30", "--checkpoint", "2"] + where)

    def add(self, name, argv):
        self.workers.append(Process(name, argv, f"{self.dir}/{name}.log", dict(os.environ, CINCH_CACHE=f"{self.dir}/{name}")))

    def wait_up(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.tool("query", "0", check=False) is not None:
                return
            time.sleep(0.1)
        sys.exit("the coordinator does not come up; see " + self.dir)

    def run(self, argv, check):
        env = dict(os.environ, CINCH_COORDINATOR=self.ipc, CINCH_CACHE=f"{self.dir}/client")
        for _ in range(30 if check else 1):
            r = subprocess.run(argv, capture_output=True, text=True, env=env)
            if r.returncode == 0:
                return r.stdout
            time.sleep(1)
        if check:
            sys.exit(f"{' '.join(argv)}: {r.stderr}")
        return None

    def tool(self, command, *rest, check=True):
        return self.run([f"{self.args.tests}/nulltool", command, "--connect", self.ipc, *rest], check)

    def query(self, what, id):
        return json.loads(self.tool("query", str(what), id))

    def submit(self, fresh):
        if self.args.grid:
            argv = [f"{self.args.bin}/cinch", "submit", self.args.grid, "--data", self.args.data, "--json"]
            return json.loads(self.run(argv + (["--fresh"] if fresh else []), True))["run"]
        return self.tool("submit", "--seeds", "3", "--fresh", str(int(fresh))).strip()

    def state(self, run):
        text = self.tool("query", str(SHOW), run, check=False)
        return json.loads(text)["state"] if text else "?"

    def stop(self):
        for p in self.workers + [self.coordinator]:
            p.stop()


def artifacts(lab, run):
    """What came out, by cell; measured times are the only thing that may differ."""
    cells = {}
    for a in lab.query(REPORT, run)["artifacts"]:
        cell = (a["net"], a["seed"], a["distilled"], a["rounds"], a["round"], a["norm"], a["keep"])
        cells[cell] = (a["blob_float"], a["blob_int8"], a["auroc_float"], a["auroc_int8"])
    return cells


def models(lab, run):
    """Every trained model's blob, by cell."""
    out = {}
    for j in lab.query(JOBS, run)["jobs"]:
        if j["kind"] != "evaluate":
            show = lab.query(SHOW, j["job"])
            cell = (j["kind"], j["net"], j["seed"], j["distilled"], j["rounds"], j["round"], j["norm"], j["keep"])
            out[cell] = [o["blob"] for o in show["outputs"] if o["role"] == "model"]
    return out


def once(lab, run):
    """Complaints about jobs that did not succeed exactly once."""
    bad = []
    for j in lab.query(JOBS, run)["jobs"]:
        events = lab.query(LOG, j["job"])["events"]
        lab.took_part.update(e["worker"].split("-")[0] for e in events if e["type"] == "succeeded")
        n = sum(e["type"] == "succeeded" for e in events)
        if j["state"] != "succeeded" or n != 1:
            bad.append(f"{run} {j['job']} {j['kind']}: {j['state']}, succeeded {n} times")
    return bad


def revive(lab):
    for p in lab.workers + [lab.coordinator]:
        if not p.alive():
            p.start()


def wait_done(lab, run, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        revive(lab)
        state = lab.state(run)
        if state == "done":
            return
        if state in ("failed", "cancelled"):
            sys.exit(f"{run} {state}: {lab.query(EXPLAIN, run)}\n{json.dumps(lab.query(REPORT, run)['failed'], indent=1)}")
        time.sleep(0.2)
    sys.exit(f"{run} does not end: {lab.query(EXPLAIN, run)}")
