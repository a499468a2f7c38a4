#!/usr/bin/env python3
"""Takes the coordinator away from its workers while they have jobs, and checks that nothing of their work is thrown away.

A grid starts; as soon as every worker has a job the coordinator is killed with -9, and comes back after --seconds. Meanwhile the
workers must stay alive, go on with the jobs they hold and keep the results. Afterwards: every job succeeded, exactly once, in its
first attempt; what was held at the moment of the kill was delivered by the worker that held it; `cinchd check` finds nothing.

  away.py --seconds 600 --grid GRID --data DIR

The short form, with the times scaled down, is a test of tests/integration/service.
"""
import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from lab import JOBS, LOG, Lab, Process, artifacts, once, wait_done


def leases(lab, run):
    """What is at a worker now: job, attempt, worker."""
    held = {}
    for j in lab.query(JOBS, run)["jobs"]:
        if j["state"] == "leased":
            last = [e for e in lab.query(LOG, j["job"])["events"] if e["type"] == "leased"][-1]
            held[j["job"]] = (last["attempt"], last["worker"])
    return held


def wait_busy(lab, run, workers, seconds):
    """Until that many workers hold something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        held = leases(lab, run)
        if len({worker for _, worker in held.values()}) >= workers:
            return held
        time.sleep(0.05)
    sys.exit(f"not {workers} workers have a job: {held}")


def thrown_away(lab, run, held):
    """Complaints about work that was done twice or given to somebody else."""
    bad = []
    for j in lab.query(JOBS, run)["jobs"]:
        events = lab.query(LOG, j["job"])["events"]
        done = [e for e in events if e["type"] == "succeeded"]
        types = [e["type"] for e in events]
        moved = types.count("moved")  # never begun, and given to a worker that was idle: nothing was thrown away
        if "crashed" in types or done[0]["attempt"] != 1 + moved:
            bad.append(f"{j['job']} {j['kind']}: attempt {done[0]['attempt']}: {types}")
        if j["job"] in held and not moved and (done[0]["attempt"], done[0]["worker"]) != held[j["job"]]:
            bad.append(f"{j['job']}: held as {held[j['job']]}, delivered as {done[0]['attempt']} by {done[0]['worker']}")
    return bad


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seconds", type=float, default=600)
    ap.add_argument("--lost", type=int, default=10, help="seconds of silence after which a worker is lost")
    ap.add_argument("--grid", required=True)
    ap.add_argument("--data", required=True)
    args = ap.parse_args()
    args.bin = os.environ["CINCH_BIN"]
    args.tests = os.path.join(os.path.dirname(args.bin), "tests")
    top = tempfile.mkdtemp(prefix="cinch-away-")
    lab = Lab(args, f"{top}/lab")
    run = lab.submit(False)
    held = wait_busy(lab, run, 2, 300)
    lab.coordinator.end(signal.SIGKILL)
    print(f"away: {len(held)} jobs at workers, coordinator gone for {args.seconds:.0f} s; a worker is lost after {args.lost} s",
          flush=True)
    time.sleep(args.seconds)
    dead = [w.name for w in lab.workers if not w.alive()]
    if dead:
        sys.exit(f"away: FAILED: {', '.join(dead)} did not wait; see {top}")
    back = time.monotonic()
    lab.coordinator.start()
    lab.wait_up()
    wait_done(lab, run, 1800)
    took = time.monotonic() - back
    bad = once(lab, run) + thrown_away(lab, run, held)
    n = len(artifacts(lab, run))
    lab.stop()
    check = subprocess.run([f"{args.bin}/cinchd", "check", "--state", f"{top}/lab/state"], capture_output=True, text=True)
    if check.returncode:
        bad.append("cinchd check: " + check.stdout + check.stderr)
    if bad:
        print("\n".join(bad))
        sys.exit(f"away: FAILED; see {top}")
    shutil.rmtree(top)
    print(f"away: all {len(held)} were delivered by who held them, nothing was done twice; {n} artifacts {took:.0f} s after the return")


if __name__ == "__main__":
    try:
        main()
    finally:
        Process.end_all()
