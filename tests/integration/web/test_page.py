"""The dashboard in a real browser: an empty coordinator, a filed run, a name that tries to be markup, and a finished run of beats with
its classes. Skipped without chromium."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import harness

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def wait_for(log, pattern):
    for _ in range(200):
        found = re.search(pattern, harness.read(log).decode())
        if found:
            return found.group(1)
        time.sleep(0.1)
    raise SystemExit("cinchd did not start: " + harness.read(log).decode())


def page(url, home):
    """The page after its scripts have run, as markup."""
    done = subprocess.run([BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=" + home + "/browser",
                           "--virtual-time-budget=8000", "--dump-dom", url + ("&" if "?" in url else "?") + "once"], capture_output=True, text=True, timeout=400)
    return done.stdout


def check(dom, *parts):
    for p in parts:
        if p not in dom:
            raise SystemExit(f"the page does not show {p!r}:\n{dom[-4000:]}")


def look(home, url, env):
    check(page(url, home), "no runs yet", "none: cinch-train --cpu")
    grid = home + "/g.yaml"
    with open(grid, "w", encoding="utf-8") as f:
        f.write("name: night<b>watch</b>\nnets: [{net: cnn, widths: [8, 8, 8, 8]}]\n")
    cinch = [os.path.join(harness.BIN, "cinch")]
    refused = subprocess.run(cinch + ["submit", grid, "--data", harness.PTBXL], env=env, capture_output=True, text=True)
    if refused.returncode == 0:
        raise SystemExit("a run's name held markup")
    with open(grid, "w", encoding="utf-8") as f:
        f.write("name: nightwatch\nnets: [{net: cnn, widths: [8, 8, 8, 8]}]\n")
    filed = subprocess.run(cinch + ["submit", grid, "--data", harness.PTBXL, "--json"], env=env, capture_output=True, check=True)
    dom = page(url, home)
    check(dom, "nightwatch", json.loads(filed.stdout)["run"], "evaluate", "nothing measured yet", "submitted nightwatch")


BEATS = "nets: [beat]\nsplit: patient\nepochs: 1\nlatency: none\nprune: {unit: weight, keep: 0.4, schedule: linear, epochs: 1}\n"


def look_at_beats(home, url):
    """The coordinator has the state of a finished run: accuracy, F1 and multiplications, and the classes one by one."""
    check(page(url, home), "beat, split patient", "accuracy F", "F1 Q", "40.27 % w", "kMAC F", ">as S<", ">sensitivity<",
          "F1: the mean over 5 classes", "patient, plain, keep 0.4 of weights, linear L1, round 1/1")


def finished_beats(home, env):
    with open(home + "/beats.yaml", "w", encoding="utf-8") as f:
        f.write(BEATS)
    subprocess.run([os.path.join(harness.BIN, "cinch"), "run", home + "/beats.yaml", "--data", harness.MITDB, "-o", home + "/out"], env=env,
                   capture_output=True, check=True)
    return home + "/out/.state"


def with_coordinator(home, state, env, show):
    log = home + "/log"
    with open(log, "w", encoding="utf-8") as f:
        child = subprocess.Popen([os.path.join(harness.BIN, "cinchd"), "--state", state, "--listen", env["CINCH_COORDINATOR"], "--http", "0"],
                                 env=env, stdout=f, stderr=f)
    try:
        show(wait_for(log, r"dashboard at (http://\S+)"))
    finally:
        child.terminate()
        child.wait(timeout=200)


def main():
    if not BROWSER:
        print("skipped: no chromium on this machine")
        return 77
    home = tempfile.mkdtemp(prefix="cinch-w-")
    env = harness.environment(CINCH_COORDINATOR=f"ipc://{home}/socket")
    try:
        with_coordinator(home, home + "/state", env, lambda url: look(home, url, env))
        with_coordinator(home, finished_beats(home, env), env, lambda url: look_at_beats(home, url))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print("the page shows an empty coordinator, a run once it is filed, and the classes of beats")
    return 0


if __name__ == "__main__":
    sys.exit(main())
