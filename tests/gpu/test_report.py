"""`cinch doctor --gpu` and `cinch selftest --gpu`: what the first user with a card runs; without card or driver one sentence and
exit code 3."""
import json
import os
import subprocess
import sys
import tempfile
import unittest

BIN = os.environ["CINCH_BIN"]


def cinch(*args, **env):
    return subprocess.run([os.path.join(BIN, "cinch"), *args], capture_output=True, text=True, timeout=500,
                          env={**os.environ, "XDG_CACHE_HOME": os.path.join(BIN, "..", "gpu-cache"), **env}, stdin=subprocess.DEVNULL, check=False)


class Report(unittest.TestCase):
    def test_doctor_knows_the_card(self):
        done = cinch("doctor", "--gpu", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        doc = json.loads(done.stdout)
        card = doc["gpus"][0]
        self.assertGreater(card["memory"], 1e9)
        self.assertGreaterEqual(card["capability"], 80)
        self.assertGreaterEqual(card["runtime"], 13000)
        self.assertIn("ecc", card)
        checks = {c["check"]: c for c in doc["checks"]}
        for name in ("gpu 0", "driver", "memory", "cuBLAS", "cuDNN", "NCCL"):
            self.assertIn(name, checks)

    def test_no_card_is_one_sentence_and_exit_3(self):
        for args in (("doctor", "--gpu"), ("selftest", "--gpu")):
            done = cinch(*args, CUDA_VISIBLE_DEVICES="")
            self.assertEqual(done.returncode, 3, done.stderr)
            self.assertEqual(done.stdout, "")
            self.assertEqual(len(done.stderr.strip().splitlines()), 1, done.stderr)
            self.assertIn("no GPU", done.stderr)

    def test_selftest_is_one_page(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "page.txt")
            done = cinch("selftest", "--gpu", "--quick", "--json", "-o", path)
            with open(path, encoding="utf-8") as f:
                page = f.read()
        doc = json.loads(done.stdout)
        self.assertEqual(done.returncode, 0, page)
        self.assertTrue(doc["ok"])
        ops = [c for c in doc["checks"] if c["group"] == "ops"]
        self.assertGreater(len(ops), 15)
        conv = next(c for c in ops if c["name"].startswith("conv1d forward"))
        for side in ("cpu", "native", "cudnn"):
            self.assertGreater(conv[side]["us"], 0)
            self.assertLessEqual(conv[side]["difference"], conv["bound"])
        self.assertIn("checks passed", page)
        self.assertLess(len(page.splitlines()), 70)

    def test_selftest_finds_a_card_that_computes_wrong(self):
        shim = os.path.join(BIN, "..", "tests", "libbad_card.so")
        done = cinch("selftest", "--gpu", "--quick", "--json", LD_PRELOAD=shim, CINCH_TEST_SPOIL="1")
        self.assertEqual(done.returncode, 1, done.stderr)
        doc = json.loads(done.stdout)
        self.assertFalse(doc["ok"])
        self.assertEqual(doc["failed"], sum(not c["ok"] for c in doc["checks"]))
        self.assertTrue(any(not c["ok"] and c["name"].startswith("conv1d") for c in doc["checks"]))


if __name__ == "__main__":
    if not os.path.exists(os.path.join(BIN, "cinch-gpu.so")):
        print("skipped: no GPU plugin in this build")
        sys.exit(77)
    unittest.main(verbosity=2)
