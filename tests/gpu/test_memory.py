"""A GPU worker that is short of memory: gangs become smaller, slots fewer, and no job is lost by it."""
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration", "service"))
from service import ServiceCase  # noqa: E402

GRID = """
name: gpu
nets: [{net: cnn, widths: [3, 4, 2, 3]}]
seeds: [1, 2, 3, 4]
epochs: 1
measure: none
"""
SHIM = os.path.join(os.environ.get("CINCH_BIN", ""), "..", "tests", "libbad_card.so")


class GpuMemory(ServiceCase):
    records_per_fold = 2

    def run_with(self, *args, preload=False, grid=GRID, **env):
        s = self.service
        s.start_coordinator(lost=30)
        s.env.update(env)
        before = s.env.get("LD_PRELOAD")
        if preload:
            s.env["LD_PRELOAD"] = SHIM
        worker = s.start("cinch-train", "--gpu", 0, *args)
        if preload and before is None:
            del s.env["LD_PRELOAD"]
        return worker, s.submit(grid, self.data)

    def test_a_gang_that_does_not_fit_is_split(self):
        worker, run = self.run_with("--slots", 1, "--gang", 4, CINCH_GPU_MEMORY="20")
        self.service.wait_done(run, 300)
        self.assertRegex(self.service.log_of(worker), r"[123] of a gang of [234] fit into the [0-9]+ MB")

    def test_a_job_that_does_not_fit_alone_says_by_how_much(self):
        worker, run = self.run_with("--slots", 1, "--gang", 1, CINCH_GPU_MEMORY="8",
                                    grid=GRID.replace("[1, 2, 3, 4]", "[1]"))
        self.service.until("the failure", lambda: self.service.log_says(worker, " failed: "), 120)
        self.assertRegex(self.service.log_of(worker), r"needs [0-9]+ MB on the device \(.*\), and [0-8] of [0-9]+ MB")

    def test_an_allocation_that_fails_is_tried_with_less(self):
        worker, run = self.run_with("--slots", 1, "--gang", 4, preload=True, CINCH_TEST_FAIL_FROM="2",
                                    CINCH_TEST_FAIL_TO="3")
        self.service.wait_done(run, 300)
        log = self.service.log_of(worker)
        self.assertIn("no memory for a gang of 4; trying 2 at once", log)
        self.assertIn("no memory for a gang of 2; trying 1 at once", log)
        self.assertNotIn(" failed: ", log)

    def test_a_second_slot_is_given_up(self):
        worker, run = self.run_with("--slots", 2, "--gang", 1, preload=True, CINCH_TEST_FAIL_FROM="2",
                                    CINCH_TEST_FAIL_TO="2")
        self.service.wait_done(run, 300)
        log = self.service.log_of(worker)
        self.assertIn("it waits, with fewer slots", log)
        self.assertIn("slots: 1 now", log)
        self.assertNotIn(" failed: ", log)


if __name__ == "__main__":
    if not os.path.exists(os.path.join(os.environ["CINCH_BIN"], "cinch-gpu.so")):
        print("skipped: no GPU plugin in this build")
        sys.exit(77)
    unittest.main(verbosity=2)
