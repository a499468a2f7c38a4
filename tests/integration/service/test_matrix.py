"""The whole pruning matrix of the study for one net through the service, at one epoch a round: every cell arrives once,
with its size, its accuracy and its latency."""
import unittest

from service import ServiceCase

GRID = """
name: matrix
nets: [{net: cnn, widths: [16, 24, 16, 12]}]
seeds: [1]
epochs: 2
prune: {rounds: [1, 5, 10], keep: [0.75, 0.5, 0.125], norm: [L1, L2], epochs: 1}
measure: final
quantize: {mode: paper, calibration: 16}
latency: {allocator: paper, runs: 20}
"""


class Matrix(ServiceCase):
    records_per_fold = 12

    def test_every_cell_arrives_once(self):
        s = self.service
        s.start_coordinator()
        s.start("cinch-train", "--slots", 2)
        s.evaluator()
        run = s.submit(GRID, self.data)
        s.wait_done(run, 1000)
        report = s.cinch("report", run, "-o", self.path("report"))
        self.assertEqual(report["failed"], [])
        cells = {(a["rounds"], a["norm"], a["params"]) for a in report["artifacts"]}
        self.assertEqual(len(report["artifacts"]), 19)
        self.assertEqual(len(cells), 19)
        full = [a for a in report["artifacts"] if a["rounds"] == 0]
        self.assertEqual(len(full), 1)
        self.assertAlmostEqual(full[0]["kept"], 1)
        # Rounds end at the same widths whatever their number: three sizes beside the full one.
        self.assertEqual(len({a["params"] for a in report["artifacts"]}), 4)
        for a in report["artifacts"]:
            self.assertLess(a["bytes_int8"], a["bytes_float"])
            self.assertTrue(0 < a["auroc_float"] < 1)
            self.assertTrue(0 < a["auroc_int8"] < 1)
            for kind in ("latency_float", "latency_int8"):
                self.assertTrue(a[kind], a)
        jobs = s.cinch("show", run)["jobs"]
        # 1 training, 2 norms x 3 fractions x (1 + 5 + 10) rounds, 19 evaluations
        self.assertEqual(jobs["succeeded"], 1 + 96 + 19)
        # Submitted again, it costs nothing.
        again = s.submit(GRID, self.data)
        self.assertEqual(s.state_of(again), "done")


if __name__ == "__main__":
    unittest.main()
