"""A coordinator with its workers as separate processes on a socket and a state folder of their own."""
import glob
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from harness import BIN, Case, environment, small_ptbxl  # noqa: E402

__all__ = ["BIN", "Service", "ServiceCase", "small_ptbxl"]


class Service:
    """Starts, kills and asks the processes of one service. Everything is killed by `close`."""

    def __init__(self, folder):
        self.folder = folder
        self.state = os.path.join(folder, "state")
        self.endpoint = f"ipc://{folder}/sock"
        runtime = os.path.join(folder, "run")
        os.makedirs(runtime)
        self.env = environment(CINCH_COORDINATOR=self.endpoint, XDG_RUNTIME_DIR=runtime, CINCH_LOG="debug")
        self.procs = []
        self.coordinator = None

    def start(self, program, *args):
        name = f"{program}-{len(self.procs)}"
        log = open(os.path.join(self.folder, name + ".log"), "w", encoding="utf-8")
        p = subprocess.Popen([os.path.join(BIN, program), *map(str, args)], env=self.env, stdin=subprocess.DEVNULL,
                             stdout=log, stderr=subprocess.STDOUT)
        p.log_path = log.name
        log.close()
        self.procs.append(p)
        return p

    def start_coordinator(self, lost=2, *more):
        """Returns once it answers; a socket's file alone may be one that was left by a killed coordinator."""
        self.coordinator = self.start("cinchd", "--state", self.state, "--listen", self.endpoint, "--lost", lost, *more)
        self.until("the coordinator", lambda: self.log_says(self.coordinator, "listening on"))
        return self.coordinator

    def trainer(self, *args):
        return self.start("cinch-train", "--slots", 1, "--checkpoint-every", 1, *args)

    def evaluator(self, *args):
        return self.start("cinch-eval", *args)

    def kill(self, p):
        p.send_signal(signal.SIGKILL)
        p.wait()

    def close(self):
        for p in self.procs:
            if p.poll() is None:
                p.kill()
            p.wait()

    def logs(self):
        return "\n".join(f"--- {os.path.basename(p.log_path)}\n{self.log_of(p)[-3000:]}" for p in self.procs)

    def cinch(self, *args, timeout=1200):
        """Runs cinch with --json and returns its document."""
        done = subprocess.run([os.path.join(BIN, "cinch"), *map(str, args), "--json"], capture_output=True, text=True,
                              env=self.env, timeout=timeout, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise AssertionError(f"cinch {args}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}")
        return json.loads(done.stdout)

    def submit(self, grid, data):
        path = os.path.join(self.folder, "grid.yaml")
        with open(path, "w", encoding="utf-8") as f:
            f.write(grid)
        return self.cinch("submit", path, "--data", data)["run"]

    def until(self, what, condition, limit=600):
        """Waits for condition() to give something true, and returns it."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"waited {limit} s for {what}\n{self.logs()}")

    def state_of(self, run):
        return self.cinch("show", run)["state"]

    def wait_done(self, run, limit=1000):
        state = self.until(f"the end of {run}",
                           lambda: (lambda s: s if s in ("done", "failed", "cancelled") else None)(self.state_of(run)), limit)
        if state != "done":
            raise AssertionError(f"{run} is {state}: {self.cinch('report', run, '-o', self.folder + '/report')}\n{self.logs()}")

    @staticmethod
    def log_of(p):
        with open(p.log_path, encoding="utf-8") as f:
            return f.read()

    def log_says(self, p, text):
        return text in self.log_of(p)

    def events(self, run):
        """The run's event log, kept for ever: who did what, when."""
        return self.cinch("log", run)["events"]

    def models(self, run):
        """{file name: hash} of everything that `get` brings home but the reports and what was timed."""
        out = os.path.join(self.folder, f"out-{run}-{time.monotonic_ns()}")
        self.cinch("get", run, "-o", out)
        found = {}
        for path in sorted(glob.glob(out + "/**/*", recursive=True)):
            if path.endswith((".safetensors", ".cinch")):
                with open(path, "rb") as f:
                    found[os.path.relpath(path, out)] = hashlib.sha256(f.read()).hexdigest()
        return found


class ServiceCase(Case):
    """A test with a service and a small dataset of real records."""

    records_per_fold = 20

    def setUp(self):
        super().setUp()
        self.data = self.path("data")
        small_ptbxl(self.data, self.records_per_fold)
        self.service = self.new_service("one")

    def new_service(self, name):
        os.makedirs(self.path(name))
        service = Service(self.path(name))
        self.addCleanup(service.close)
        return service
