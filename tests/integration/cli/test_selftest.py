"""`cinch selftest` on this CPU: everything agrees, on one page, and the page can be written to a file."""
import unittest

from harness import Case, environment


class Selftest(Case):
    def test_this_machine_computes_what_it_should(self):
        path = self.path("page.txt")
        doc = self.json("selftest", "-o", path)
        self.assertTrue(doc["ok"])
        groups = {c["group"] for c in doc["checks"]}
        self.assertTrue({"training", "artifacts", "training ops, portable"} <= groups, groups)
        with open(path, encoding="utf-8") as f:
            page = f.read()
        self.assertIn(f"all {len(doc['checks'])} checks passed", page)
        for c in doc["checks"]:
            self.assertIn(c["name"], page)

    def test_a_gpu_that_is_not_there(self):
        for command in ("selftest", "doctor"):
            self.refuses(command, "--gpu", part="no GPU", code=3, env=environment(CINCH_GPU_PLUGIN=self.path("none.so")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
