"""A card that fails takes its process with it: the lease goes back as a lost machine's, not as a failed job's; the worker leaves, the
next one goes on; `cinch run` starts the next one itself; a card that fails three times in ten minutes is not used any more."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration", "service"))
from service import ServiceCase  # noqa: E402

GRID = """
name: lost
nets: [{net: cnn, widths: [3, 4, 2, 3]}]
seeds: [1]
epochs: 2
measure: none
"""
SHIM = os.path.join(os.environ.get("CINCH_BIN", ""), "..", "tests", "libbad_card.so")


class Lost(ServiceCase):
    records_per_fold = 2

    def bad(self, **env):
        """The environment of a process whose card breaks at its third download."""
        shim = " ".join(filter(None, [self.service.env.get("LD_PRELOAD"), SHIM]))
        return {"LD_PRELOAD": shim, "CINCH_TEST_STICKY": "3", **env}

    def worker(self, **env):
        kept = {k: self.service.env.get(k) for k in env}
        self.service.env.update(env)
        try:
            return self.service.start("cinch-train", "--gpu", 0, "--slots", 1)
        finally:
            for k, v in kept.items():
                if v is None:
                    del self.service.env[k]
                else:
                    self.service.env[k] = v

    def test_the_job_goes_on_and_the_card_goes_out_of_service(self):
        s = self.service
        s.env["XDG_CACHE_HOME"] = self.path("cache")
        s.start_coordinator(lost=30)
        run = s.submit(GRID, self.data)
        for n in range(3):
            worker = self.worker(**self.bad())
            s.until("its end", lambda: worker.poll() is not None, 300)
            self.assertEqual(worker.returncode, 3, s.log_of(worker))
            self.assertIn("lost machine: gpu 0", s.log_of(worker))
            self.assertIn("the machine failed", s.log_of(worker))
            self.assertNotEqual(s.state_of(run), "failed")
        fourth = self.worker()
        self.assertEqual(fourth.wait(300), 3)
        self.assertIn("out of service: it failed 3 times within 10 minutes", s.log_of(fourth))
        folder = os.path.join(self.path("cache"), "cinch")
        losses = [f for f in os.listdir(folder) if f.startswith("gpu-losses-")]
        self.assertEqual(len(losses), 1)
        os.remove(os.path.join(folder, losses[0]))
        self.worker()
        s.wait_done(run, 200)
        self.assertEqual(s.cinch("show", run)["state"], "done")

    def test_cinch_run_starts_the_next_trainer(self):
        once = self.path("once")
        open(once, "w", encoding="utf-8").close()
        grid = self.path("grid.yaml")
        with open(grid, "w", encoding="utf-8") as f:
            f.write(GRID)
        env = {**self.service.env, **self.bad(CINCH_TEST_STICKY_ONCE=once, XDG_CACHE_HOME=self.path("cache"))}
        done = subprocess.run([os.path.join(os.environ["CINCH_BIN"], "cinch"), "run", grid, "--data", self.data, "-o", self.path("out"),
                               "--device", "gpu", "--json"], env=env, capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(os.path.exists(once))
        self.assertIn("the machine failed", done.stderr)
        self.assertEqual(json.loads(done.stdout)["failed"], [])


if __name__ == "__main__":
    if not os.path.exists(os.path.join(os.environ["CINCH_BIN"], "cinch-gpu.so")):
        print("skipped: no GPU plugin in this build")
        sys.exit(77)
    unittest.main(verbosity=2)
