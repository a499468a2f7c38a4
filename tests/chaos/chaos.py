#!/usr/bin/env python3
"""Kills things at random while a grid runs, and checks that nothing was lost, counted twice or came out differently.

First the grid runs undisturbed. Then it runs again and again (--fresh) on another coordinator while coordinator, trainers and
evaluators are killed with -9, stopped for longer than they may be silent, asked to leave, and cut off: one worker talks through a
proxy that delays by 200 ms, loses connections and lets them hang half-open. At the end faults stop, the last grid finishes, and:
every job of every grid succeeded, each exactly once by its event log; every artifact has the bits of the calm run; `cinchd check`
finds nothing. Prints how many faults of each kind there were; needs nothing beyond Python's standard library.

  chaos.py --seconds 20                    null workers (tests/integration/coordinator/null_worker.h): seconds
  chaos.py --seconds 1200 --grid GRID --data DIR   cinch-train and cinch-eval with a real grid
"""
import argparse
import collections
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

SHOW, LOG, REPORT, JOBS, EXPLAIN = 2, 3, 6, 7, 4


class Proxy(threading.Thread):
    """A slow and unreliable cable: 200 ms each way, connections that break, connections that hang without a word."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.target, self.hang_until, self.pairs = port, 0.0, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.pairs = [p for p in self.pairs if p[0].fileno() >= 0] + [(near, far)]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    def pump(self, a, b):
        queue, ready = collections.deque(), threading.Condition()
        threading.Thread(target=self.deliver, args=(queue, ready, b), daemon=True).start()
        try:
            while data := a.recv(65536):
                with ready:
                    queue.append((time.monotonic() + 0.2, data))
                    ready.notify()
        except OSError:
            pass
        with ready:
            queue.append((0, b""))
            ready.notify()

    def deliver(self, queue, ready, to):
        while True:
            with ready:
                while not queue:
                    ready.wait()
                due, data = queue.popleft()
            if not data:
                to.close()
                return
            time.sleep(max(0.0, due - time.monotonic(), self.hang_until - time.monotonic()))
            try:
                to.sendall(data)
            except OSError:
                return

    def cut(self):
        for near, far in self.pairs:
            for s in (near, far):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs = []


class Process:
    """A program that is started again whenever it is gone. None outlives this script."""
    every = []

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


class Lab:
    """A coordinator with its workers, on a folder of its own."""

    def __init__(self, args, dir):
        self.args, self.dir, self.took_part = args, dir, set()
        os.makedirs(dir)
        self.ipc = f"ipc://{dir}/sock"
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.tcp_port = s.getsockname()[1]
        argv = [f"{args.bin}/cinchd", "--state", f"{dir}/state", "--listen", self.ipc, "--listen",
                f"tcp://127.0.0.1:{self.tcp_port}", "--lost", "3", "--quiet"]
        self.coordinator = Process("coordinator", argv, f"{dir}/cinchd.log")
        self.wait_up()
        self.proxy = Proxy(self.tcp_port)
        self.workers = []
        key = f"{dir}/worker.key"
        self.tool("key", "far", "worker", key)
        far = ["--connect", f"tcp://127.0.0.1:{self.proxy.port}", "--key", key]
        for i, where in enumerate((["--connect", self.ipc], far)):
            if args.grid:
                self.add(f"trainer{i}", [f"{args.bin}/cinch-train", "--cpu", "--slots", "1", "--threads", "1"] + where)
                if i == 0:
                    self.add("evaluator", [f"{args.bin}/cinch-eval"] + where)
            else:
                self.add(f"null{i}", [f"{args.tests}/nulltool", "worker", "--name", f"null{i}", "--slots", "2", "--epochs",
                                      "6", "--epoch-ms", "30", "--checkpoint", "2"] + where)

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


def hurt(lab, counts, rng):
    """One fault."""
    kind = rng.choice(["coordinator killed", "worker killed", "worker killed", "worker stopped", "worker asked to leave",
                       "connections cut", "connections hang"])
    worker = rng.choice(lab.workers)
    counts[kind] += 1
    if kind == "coordinator killed":
        lab.coordinator.end(signal.SIGKILL)
        time.sleep(rng.choice([0, 0.1, 1, 4]))
        lab.coordinator.start()
    elif kind == "worker killed":
        worker.end(signal.SIGKILL)
    elif kind == "worker stopped":
        worker.end(signal.SIGSTOP)
        threading.Timer(rng.choice([0.5, 5]), lambda: worker.end(signal.SIGCONT)).start()
    elif kind == "worker asked to leave":
        worker.end(signal.SIGTERM)
    elif kind == "connections cut":
        lab.proxy.cut()
    else:
        lab.proxy.hang_until = time.monotonic() + rng.choice([1, 6])


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


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seconds", type=float, default=20)
    ap.add_argument("--seed", type=int, default=int(time.time()))
    ap.add_argument("--grid")
    ap.add_argument("--data")
    ap.add_argument("--pause", type=float, default=0.4, help="mean seconds between faults")
    ap.add_argument("--keep", action="store_true", help="leave the folders behind")
    args = ap.parse_args()
    args.bin = os.environ["CINCH_BIN"]
    args.tests = os.path.join(os.path.dirname(args.bin), "tests")
    rng = random.Random(args.seed)
    top = tempfile.mkdtemp(prefix="cinch-chaos-")
    print(f"chaos: seed {args.seed}, folder {top}", flush=True)

    patience = 1800 if args.grid else 120
    calm = Lab(args, f"{top}/calm")
    run = calm.submit(False)
    wait_done(calm, run, patience)
    want, want_models = artifacts(calm, run), models(calm, run)
    if once(calm, run) or (not args.grid and calm.took_part != {"null0", "null1"}):
        sys.exit(f"the calm run is not as it should be: only {calm.took_part} finished jobs, or {once(calm, run)}")
    calm.stop()
    print(f"calm: {len(want)} artifacts, {len(want_models)} models", flush=True)

    lab, counts, runs = Lab(args, f"{top}/chaos"), collections.Counter(), []
    end = time.monotonic() + args.seconds
    while time.monotonic() < end:
        if not runs or lab.state(runs[-1]) == "done":
            runs.append(lab.submit(bool(runs)))
        time.sleep(rng.expovariate(1 / args.pause))
        hurt(lab, counts, rng)
        time.sleep(rng.uniform(0, 0.5))
        revive(lab)
    time.sleep(6)  # whatever was stopped or hangs comes back
    bad = []
    for run in runs:
        wait_done(lab, run, patience)
        bad += once(lab, run)
        got, got_models = artifacts(lab, run), models(lab, run)
        bad += [f"{run} {cell}: other bits than in the calm run" for cell in want if got.get(cell) != want[cell]]
        bad += [f"{run} {cell}: another model" for cell in want_models if got_models.get(cell) != want_models[cell]]
    lab.stop()
    check = subprocess.run([f"{args.bin}/cinchd", "check", "--state", f"{top}/chaos/state"], capture_output=True, text=True)
    if check.returncode:
        bad.append("cinchd check: " + check.stdout + check.stderr)
    print(f"chaos: {len(runs)} grids of {len(want_models) + len(want)} jobs; faults: "
          + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
          + f"; jobs finished by {', '.join(sorted(lab.took_part))}")
    if bad:
        print("\n".join(bad))
        sys.exit(f"chaos: FAILED with seed {args.seed}; see {top}")
    if not args.keep:
        shutil.rmtree(top)
    print("chaos: nothing lost, nothing twice, every bit the same")


if __name__ == "__main__":
    try:
        main()
    finally:
        for process in Process.every:
            process.end(signal.SIGKILL)
