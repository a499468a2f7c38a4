"""A whole small run on a GPU worker through a real coordinator: train, distil and prune on the card (or what stands in for
one), evaluate on the CPU."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration", "service"))
from service import ServiceCase  # noqa: E402

GRID = """
name: gpu
nets: [{net: cnn, widths: [3, 4, 2, 3]}]
seeds: [1, 2]
epochs: 1
distill: [false, true]
prune: {rounds: [1], keep: [0.5], norm: [L2], epochs: 1}
measure: final
quantize: {mode: full, calibration: 8}
latency: {allocator: glibc, runs: 5}
"""


class GpuJob(ServiceCase):
    records_per_fold = 2

    def test_a_run_trains_on_the_gpu(self):
        s = self.service
        s.start_coordinator(lost=30)
        s.start("cinch-train", "--gpu", 0, "--slots", 1)
        s.evaluator()
        run = s.submit(GRID, self.data)
        s.wait_done(run, 400)
        workers = s.cinch("workers")["workers"]
        self.assertTrue(any(w.get("gpu_bytes", 0) > 0 for w in workers), workers)
        engines = s.until("the kernel choices", lambda: [e for w in s.cinch("workers")["workers"] for e in w["engines"]])
        self.assertTrue(any(e["op"].startswith("conv1d forward") and e["engine"] == "cudnn" for e in engines), engines)
        report = s.cinch("report", run, "-o", self.path("report"))
        self.assertEqual(report["failed"], [])
        self.assertEqual(len(report["artifacts"]), 8)
        for a in report["artifacts"]:
            self.assertLess(a["bytes_int8"], a["bytes_float"])

    def test_slots_are_added(self):
        s = self.service
        s.start_coordinator(lost=30)
        worker = s.start("cinch-train", "--gpu", 0, "--gang", 1)
        s.submit(GRID.replace("[1, 2]", "40").replace("epochs: 1\n", "epochs: 30\n").replace("final", "none"), self.data)
        s.until("a second slot", lambda: s.log_says(worker, "slots: 2 now"), 120)


if __name__ == "__main__":
    if not os.path.exists(os.path.join(os.environ["CINCH_BIN"], "cinch-gpu.so")):
        print("skipped: no GPU plugin in this build")
        sys.exit(77)
    unittest.main(verbosity=2)
