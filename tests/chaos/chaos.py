#!/usr/bin/env python3
"""Kills things at random while a grid runs, and checks that nothing was lost, counted twice or came out differently.

First the grid runs undisturbed. Then it runs again and again (--fresh) on another coordinator while coordinator, trainers and
evaluators are killed with -9, stopped for longer than they may be silent, asked to leave, and cut off: one worker talks through
network.py's bad network. At the end faults stop, the last grid finishes, and: every job of every grid succeeded, each exactly once
by its event log; every artifact has the bits of the calm run; `cinchd check` finds nothing. Prints how many faults of each kind
there were; needs nothing beyond Python's standard library.

  chaos.py --seconds 20                    null workers (tests/integration/coordinator/null_worker.h): seconds
  chaos.py --seconds 1200 --grid GRID --data DIR   cinch-train and cinch-eval with a real grid
"""
import argparse
import collections
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from lab import Lab, Process, artifacts, models, once, revive, wait_done
from network import Wire


def hurt(lab, counts, rng):
    """One fault."""
    kinds = ["coordinator killed", "worker killed", "worker killed", "worker stopped", "worker asked to leave",
             "connections cut", "connections hang"]
    kinds += ["link down"] if lab.wire.prefix else []
    kind = rng.choice(kinds + (["link choked"] if lab.wire.can_choke else []))
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
    elif kind == "link down":
        lab.wire.link(False)
        threading.Timer(rng.choice([0.5, 2, 6]), lambda: lab.wire.link(True)).start()
    elif kind == "link choked":
        lab.wire.choke(True)
        threading.Timer(rng.choice([1, 4]), lambda: lab.wire.choke(False)).start()
    else:
        lab.proxy.hang_until = time.monotonic() + rng.choice([1, 6])


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seconds", type=float, default=20)
    ap.add_argument("--seed", type=int, default=int(time.time()))
    ap.add_argument("--grid")
    ap.add_argument("--data")
    ap.add_argument("--pause", type=float, default=0.4, help="mean seconds between faults")
    ap.add_argument("--lost", type=int, default=3, help="seconds of silence after which a worker is lost")
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

    wire = Wire()
    Process.at_end.append(wire.destroy)
    print(f"network of one worker: {wire.how}", flush=True)
    lab, counts, runs = Lab(args, f"{top}/chaos", wire), collections.Counter(), []
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
    dropped = wire.lost()
    check = subprocess.run([f"{args.bin}/cinchd", "check", "--state", f"{top}/chaos/state"], capture_output=True, text=True)
    if check.returncode:
        bad.append("cinchd check: " + check.stdout + check.stderr)
    print(f"chaos: {len(runs)} grids of {len(want_models) + len(want)} jobs; faults: "
          + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
          + (f"; {dropped} packets dropped" if wire.prefix else "")
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
        Process.end_all()
