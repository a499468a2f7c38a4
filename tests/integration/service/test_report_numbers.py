"""The report's numbers, computed a second time by another way: from the coordinator's database, by Python's statistics module.
The jobs are null workers' (a hash decides each result), so the whole of study A's grid for one net takes seconds: 5 seeds, 18 pruning
variants, with and without distillation."""
import collections
import csv
import io
import json
import os
import re
import sqlite3
import statistics
import subprocess
import unittest

from service import BIN, ServiceCase

GRID = """
name: numbers
nets: [cnn]
seeds: 5
epochs: 1
distill: [false, true]
prune: {rounds: [1, 5, 10], keep: [0.75, 0.5, 0.125], norm: [L1, L2], epochs: 1}
measure: final
latency: {runs: 5, allocator: glibc}
"""


class ReportNumbers(ServiceCase):
    records_per_fold = 1

    def rows(self, run):
        """Every evaluation as it stands in the database: (cell, metrics)."""
        db = sqlite3.connect(f"file:{self.service.state}/queue.db?mode=ro", uri=True)
        found = []
        for seed, distilled, rounds, keep, norm, text in db.execute(
                "SELECT seed, distilled, rounds, keep, norm, json FROM job JOIN metrics ON job.id = metrics.job, want"
                " WHERE kind = 4 AND run = ? AND id BETWEEN first AND last", (int(run[1:]),)):
            found.append(((seed, distilled, rounds, keep, norm), json.loads(text)))
        db.close()
        return found

    def test_every_cell_of_the_table(self):
        s = self.service
        s.start_coordinator(20)
        worker = subprocess.Popen([os.path.join(BIN, "..", "tests", "nulltool"), "worker", "--connect", s.endpoint, "--slots", "8",
                                   "--epochs", "1"], env=s.env)
        self.addCleanup(lambda: (worker.kill(), worker.wait()))
        run = s.submit(GRID, self.data)
        s.wait_done(run, 1000)
        rows = self.rows(run)
        self.assertEqual(len(rows), 5 * 2 * (1 + 18))
        self.check_table(run, rows)
        self.check_csv(run, rows)

    @staticmethod
    def expected(rows, line, keep):
        """Mean(std) on the test part of the variant that is best on the validation part, of a line (F, Q, FKD, QKD) and a column, as
        `.9186(013) r/Ln`."""
        key = "auroc_int8" if line.startswith("Q") else "auroc_float"
        variants, chosen_by = collections.defaultdict(list), collections.defaultdict(list)
        for (_, distilled, rounds, kept, norm), m in rows:
            if bool(distilled) == line.endswith("KD") and abs(kept - keep) < 1e-9:
                variants[(rounds, norm)].append(m[key])
                chosen_by[(rounds, norm)].append(m[key + "_validation"])
        means = {v: statistics.fmean(x) for v, x in chosen_by.items()}
        best = max(means, key=means.get)
        assert all(len(x) == 5 for x in variants.values()), variants
        text = f"{statistics.fmean(variants[best]):.4f}({round(statistics.stdev(variants[best]) * 1e4):03d})"
        return text + (f" {best[0]}/{best[1]}" if best[0] else ""), sorted(means.values())

    def check_table(self, run, rows):
        done = subprocess.run([os.path.join(BIN, "cinch"), "report", run, "-o", self.path("report")], capture_output=True, text=True,
                              env=self.service.env)
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = {}
        for line in done.stdout.split("\n"):
            cells = re.split(r" {2,}", line.strip())
            if cells[0] in ("F", "Q", "FKD", "QKD") and cells[0] not in lines:
                lines[cells[0]] = cells[1:]
        self.assertEqual(set(lines), {"F", "Q", "FKD", "QKD"}, done.stdout)
        seen = 0
        for line, cells in lines.items():
            for cell, keep in zip(cells, (1, 0.75, 0.5, 0.125), strict=True):
                want, means = self.expected(rows, line, keep)
                # two variants whose means are equal to the last bit may stand for each other
                if len(means) < 2 or means[-1] - means[-2] > 1e-12:
                    self.assertEqual(cell, want, (line, keep))
                    seen += 1
        self.assertGreater(seen, 12)

    def check_csv(self, run, rows):
        path = [os.path.join(d, f) for d, _, fs in os.walk(self.path("report")) for f in fs if f.endswith(".csv")]
        with open(path[0], newline="", encoding="utf-8") as f:
            got = {(int(r["seed"]), int(r["distilled"]), int(r["rounds"]), float(r["keep"]), r["norm"]):
                   (float(r["auroc_float"]), float(r["auroc_int8"]), int(r["params"])) for r in csv.DictReader(io.StringIO(f.read()))}
        want = {cell: (m["auroc_float"], m["auroc_int8"], m["params"]) for cell, m in rows}
        self.assertEqual(got, want)


if __name__ == "__main__":
    unittest.main()
