"""`cinch bench`: its processes, what is missing, what disturbed it, two files compared. A false cinch-lat stands between where the machine
would have to be loud, or lack an allocator. No time is asserted."""
import json
import os
import stat
import subprocess
import sys
import unittest

import harness
from harness import PTBXL

# Passes everything to the real cinch-lat, and changes what it answers: as a machine that never got quiet, or changed its clock.
LOUD = """#!%s
import json, os, subprocess, sys
answer = json.loads(subprocess.run([%r], stdin=sys.stdin, capture_output=True, check=True).stdout)
count = int(open(%r).read() or 0) if os.path.exists(%r) else 0
open(%r, "w").write(str(count + 1))
%s
print(json.dumps(answer))
"""


def figures_work():
    return "glibc" in harness.latency()


class Bench(harness.Case):
    def setUp(self):
        super().setUp()
        if not figures_work():
            self.skipTest("a sanitizer's malloc cannot be replaced")
        self.model = self.path("m.safetensors")
        self.cinch("train", "--net", "cnn", "--widths", "4,4,4,4", "--epochs", "0", "--data", PTBXL, "-o", self.model)

    def program(self, name, text):
        path = self.write(name, text)
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        return harness.environment(CINCH_LAT=path)

    def loud(self, change):
        real, count = os.path.join(harness.BIN, "cinch-lat"), self.path("count")
        return self.program("lat.py", LOUD % (sys.executable, real, count, count, count, change))

    def test_processes_share_the_runs(self):
        for args, processes in (((), 5), (("--processes", "2"), 2)):
            (one,) = self.json("bench", self.model, "--runs", "23", "--allocator", "glibc", *args)
            self.keys(one, "file", "engine", "isa", "allocator", "mean_us", "p90_us", "p99_us", "std_us", "disturbed_by", "machine")
            self.assertEqual((one["n"], one["processes"], len(one["process_p50_us"])), (23, processes, processes))
            self.assertEqual(one["p50_low_us"], min(one["process_p50_us"]))
            self.assertEqual(one["p50_high_us"], max(one["process_p50_us"]))
            self.assertEqual(one["allocator"], "glibc")
        self.assertEqual(self.json("bench", self.model, "--runs", "1", "--allocator", "glibc")[0]["processes"], 1)

    def test_a_name_of_any_bytes(self):
        """A file's name need not be text."""
        name = os.fsdecode(os.fsencode(self.path("m")) + b"\xff\xe9%41.safetensors")
        os.rename(self.model, name)
        (one,) = self.json("bench", name, "--runs", "5", "--allocator", "glibc")
        self.assertEqual(one["n"], 5)
        two = self.json("bench", name, name, "--runs", "5", "--allocator", "glibc")
        self.assertEqual(len(two), 2)
        out, _ = self.cinch("bench", name, "--runs", "5", "--allocator", "glibc")
        self.assertIn("\\xff", out)

    def test_all_of_nothing_is_a_failure(self):
        """Without the program that measures there is no list of what is missing, but an error."""
        env = harness.environment(CINCH_LAT=self.path("absent"))
        self.refuses("bench", self.model, "--runs", "5", "--allocator", "all", part="absent", env=env)

    def test_disturbance_is_marked(self):
        env = self.loud("answer['figures']['disturbed'] = 3")
        (one,) = self.json("bench", self.model, "--runs", "50", "--allocator", "glibc", env=env)
        self.assertIn("15 of", one["disturbed_by"])
        self.assertEqual(one["disturbed_blocks"], 15)
        out, _ = self.cinch("bench", self.model, "--runs", "50", "--allocator", "glibc", env=env)
        self.assertIn("~", out.splitlines()[1])
        self.assertIn("blocks were kept although disturbed", out)

    def test_a_changed_clock_is_told(self):
        (one,) = self.json("bench", self.model, "--runs", "50", "--allocator", "glibc",
                           env=self.loud("answer['probe_ns'] = 10000 + 5000 * (count == 2)"))
        self.assertIn("clock frequency changed by 50 %", one["disturbed_by"])

    def test_other_configurations_are_never_mixed(self):
        self.refuses("bench", self.model, "--runs", "50", "--allocator", "glibc", part="ran different things", code=1,
                     env=self.loud("answer['isa'] = 'avx' + str(count // 3)"))

    def test_an_absent_allocator_keeps_its_line(self):
        env = self.program("lat.sh", f"#!/bin/sh\nunset LD_PRELOAD\nexec {harness.BIN}/cinch-lat\n")
        doc = self.json("bench", self.model, "--runs", "10", "--allocator", "all", env=env)
        self.assertEqual([(d["allocator"], d["n"]) for d in doc], [("glibc", 10), ("jemalloc", 0), ("tcmalloc", 0)])
        self.assertIn("libjemalloc2", doc[1]["missing"])
        self.assertIsNone(doc[1]["p50_us"])
        out, _ = self.cinch("bench", self.model, "--runs", "10", "--allocator", "all", env=env)
        self.assertIn("missing", out.splitlines()[2])
        self.assertIn("install libtcmalloc-minimal4", out)
        self.refuses("bench", self.model, "--allocator", "jemalloc", part="libjemalloc2", env=env)

    def test_two_files(self):
        first, second = self.json("bench", self.model, self.model, "--runs", "50", "--allocator", "glibc")
        self.assertNotIn("ratio", first)
        low, high = second["ratio_ci95"]
        self.assertTrue(low <= second["ratio"] <= high)

    def test_engines_that_heed_no_cap_refuse_it(self):
        done = subprocess.run([os.path.join(harness.BIN, "cinch"), "bench", self.model, "--engine", "openblas", "--isa", "avx2", "--json"],
                              capture_output=True, text=True, env=harness.environment())
        self.assertEqual((done.returncode, "avx2" in json.loads(done.stdout)["error"]["text"]), (2, True))


if __name__ == "__main__":
    unittest.main()
