"""One job on two GPUs through a real coordinator: the same course as on a CPU, and a killed rank costs an attempt, not the
job."""
import os
import signal
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration", "service"))
from service import ServiceCase  # noqa: E402

GRID = """
name: cards
nets: [{{net: cnn, widths: [3, 4, 2, 3]}}]
seeds: [1]
recipe: {{base: cinch, batch: 8, sync_batchnorm: true}}
epochs: {epochs}
gpus: {gpus}
measure: none
"""


def children(pid):
    """Processes whose parent is pid, by name."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8") as f:
                name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if int(rest.split()[1]) == pid:
            found[name] = int(entry)
    return found


class Cards(ServiceCase):
    records_per_fold = 2

    def curve(self, run):
        """Training losses of the run's only job, epoch by epoch."""
        job = next(e["job"] for e in self.service.events(run) if e.get("job"))
        return [p["train_loss"] for p in self.service.cinch("show", job)["curve"]]

    def test_two_cards_train_what_one_cpu_does(self):
        s = self.service
        s.start_coordinator(lost=30)
        two = s.start("cinch-train", "--gpu", "0,1", "--slots", 1)
        run = s.submit(GRID.format(epochs=3, gpus=2), self.data)
        s.wait_done(run, 300)
        self.assertIn("one job on 2 GPUs", s.log_of(two))
        self.assertTrue(any(w["gpus"] == 2 for w in s.cinch("workers")["workers"]))
        two.send_signal(signal.SIGTERM)
        two.wait(60)
        s.trainer("--cpu")
        alone = s.submit(GRID.format(epochs=3, gpus=1), self.data)
        s.wait_done(alone, 120)
        mine, its = self.curve(run), self.curve(alone)
        self.assertEqual(len(mine), 3)
        for a, b in zip(mine, its):
            self.assertLess(abs(a - b), 1e-4 * b)

    def test_a_killed_rank_costs_an_attempt(self):
        s = self.service
        s.start_coordinator(lost=30)
        worker = s.start("cinch-train", "--gpu", "0,1", "--slots", 1, "--checkpoint-every", 1)
        run = s.submit(GRID.format(epochs=8, gpus=2), self.data)
        s.until("a rank", lambda: "cinch-rank" in children(worker.pid), 120)
        s.until("some epochs", lambda: len(self.curve(run)) > 1, 200)
        time.sleep(2.5)  # a checkpoint a second
        os.kill(children(worker.pid)["cinch-rank"], signal.SIGKILL)
        s.until("the end of the attempt", lambda: s.log_says(worker, "rank 1 was killed by signal 9"), 60)
        s.wait_done(run, 300)
        log = s.log_of(worker)
        self.assertRegex(log, r"attempt 2: .*, resumed")
        self.assertNotIn("cinch-rank", children(worker.pid))

    def test_a_worker_with_one_card_does_not_take_it(self):
        s = self.service
        s.start_coordinator(lost=30)
        s.start("cinch-train", "--gpu", 0, "--slots", 1)
        run = s.submit(GRID.format(epochs=1, gpus=2), self.data)
        s.until("the worker", lambda: s.cinch("workers")["workers"])
        self.assertIn("fewer GPUs than one job asks for", s.cinch("explain", "j1")["text"])
        self.assertEqual(s.state_of(run), "waiting")


if __name__ == "__main__":
    if not os.path.exists(os.path.join(os.environ["CINCH_BIN"], "cinch-gpu.so")):
        print("skipped: no GPU plugin in this build")
        sys.exit(77)
    unittest.main(verbosity=2)
