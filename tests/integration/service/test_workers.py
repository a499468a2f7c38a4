"""What workers do beside surviving: over TCP with keys and a dataset that must be fetched, gangs with the bits of jobs
alone, and latency on a core that training has left."""
import os
import re
import unittest

from service import ServiceCase, small_ptbxl

GRID = """
name: workers
nets: [{net: cnn, widths: [16, 16, 16, 16]}]
seeds: %d
epochs: %d
quantize: {mode: full, calibration: 16}
latency: {runs: %d, allocator: glibc}
"""


class Workers(ServiceCase):
    def test_keys_and_a_fetched_dataset_over_tcp(self):
        s = self.service
        s.start_coordinator(2, "--listen", "tcp://127.0.0.1:*")
        port = s.until("the port", lambda: re.search(r"tcp://\S+:(\d+)", s.log_of(s.coordinator))).group(1)
        tcp = f"tcp://127.0.0.1:{port}"
        key, reader = self.path("worker.key"), self.path("reader.key")
        s.cinch("keys", "create", "box", "--role", "worker", "-o", key)
        s.cinch("keys", "create", "eye", "--role", "read", "-o", reader)
        caches = [self.path("cache-train"), self.path("cache-eval")]
        trainer = s.start("cinch-train", "--connect", tcp, "--key", key, "--cache", caches[0], "--slots", 1)
        s.start("cinch-eval", "--connect", tcp, "--key", key, "--cache", caches[1])
        run = s.submit(GRID % (1, 2, 5), self.data)
        s.wait_done(run)
        for cache in caches:
            self.assertEqual(len([f for f in os.listdir(cache) if f.endswith(".ecg")]), 1)
        self.assertTrue(s.log_says(trainer, "fetching dataset"))
        # A key of another role, and no key at all.
        other = s.start("cinch-train", "--connect", tcp, "--key", reader)
        self.assertEqual(other.wait(30), 4, s.log_of(other))
        none = s.start("cinch-train", "--connect", tcp)
        self.assertIn(none.wait(30), (2, 4), s.log_of(none))
        # A revoked worker is sent away, and the run's other data stays.
        s.cinch("keys", "revoke", "box")
        self.assertEqual(trainer.wait(60), 4, s.log_of(trainer))

    def test_a_full_cache_makes_room_by_what_was_not_used_for_longest(self):
        s = self.service
        s.start_coordinator()
        cache = self.path("cache")
        os.makedirs(cache)
        data = {}
        for name, records in (("a", 12), ("b", 13), ("c", 14), ("d", 15)):
            data[name] = self.path("data-" + name)
            small_ptbxl(data[name], records)

        def train(name, epochs=1):
            grid = (GRID % (1, epochs, 5)).replace("workers", name).replace("latency:", "measure: none\nlatency:")
            return s.submit(grid, data[name])

        def here():
            """Datasets by name, from what the worker says about them."""
            return {n for n, f in files.items() if os.path.exists(f)}

        def fetched(name):
            known = set(files.values())
            files[name], = [os.path.join(cache, f) for f in os.listdir(cache)
                            if f.endswith(".ecg") and os.path.join(cache, f) not in known]
            return os.path.getsize(files[name])

        files = {}
        limit = "18M"  # three of them at most: each has some 6 MB
        worker = s.start("cinch-train", "--cache", cache, "--cache-limit", limit, "--slots", 2)
        for name in "ab":
            s.wait_done(train(name))
            self.assertLess(5e6, fetched(name))
        # One that was built on this machine could not be fetched again: it stays, however old.
        files["built"] = os.path.join(cache, "0" * 64 + ".ecg")
        with open(files["built"], "wb") as f:
            f.truncate(3000000)
        os.utime(files["built"], (1, 1))
        s.wait_done(train("a").strip())  # known already: nothing runs, so "a" is not used again
        busy = train("a", 100000)
        s.until("training", lambda: s.cinch("show", busy)["jobs"]["leased"] == 1 and s.log_says(worker, busy + " j"))
        s.wait_done(train("c"))
        fetched("c")
        self.assertEqual(here(), {"a", "c", "built"})  # "b" had to go: of the other two, one is in use
        s.wait_done(train("d"))
        fetched("d")
        self.assertEqual(here(), {"a", "d", "built"})  # in use still, though older than "c"
        s.cinch("cancel", busy)
        s.wait_done(train("b", 2))  # fetched once more
        self.assertIn("b", here())
        self.assertTrue(s.log_says(worker, "the cache is full"))
        bad = s.start("cinch-train", "--cache-limit", "lots")
        self.assertEqual(bad.wait(30), 2)

    def test_a_gang_has_the_bits_of_jobs_alone(self):
        alone, gang = self.service, self.new_service("gang")
        for s, size in ((alone, 1), (gang, 4)):
            s.start_coordinator()
            run = s.submit(GRID % (4, 8, 5), self.data)
            trainer = s.trainer("--gang", size)
            s.evaluator()
            s.wait_done(run)
            s.models_found = s.models(run)
        self.assertEqual(alone.models_found, gang.models_found)
        self.assertEqual(len(alone.models_found), 8)
        self.assertTrue(gang.log_says(trainer, "gang of 4"))

    def test_latency_has_its_core_alone(self):
        if len(os.sched_getaffinity(0)) < 2:
            self.skipTest("one core: training pauses instead, as a unit test shows")
        s = self.service
        s.start_coordinator()
        trainer = s.start("cinch-train", "--slots", 2)
        core = max(os.sched_getaffinity(trainer.pid))
        run = s.submit(GRID % (1, 1, 20000), self.data)
        s.until("the model", lambda: s.cinch("show", run)["jobs"]["succeeded"] == 1)
        busy = s.submit(GRID.replace("workers", "busy") % (2, 100000, 5), self.data)
        s.until("training", lambda: s.cinch("show", busy)["jobs"]["leased"] == 2)
        evaluator = s.evaluator()
        s.until("the evaluator", lambda: s.log_says(evaluator, "serves"))  # its probes of the allocators are over
        seen = s.until("a measurement", lambda: self.cores_while_measuring(evaluator, trainer))
        self.assertNotIn(core, seen)
        s.wait_done(run)
        s.until("the core's return", lambda: core in os.sched_getaffinity(trainer.pid))
        s.cinch("cancel", busy)

    @staticmethod
    def cores_while_measuring(evaluator, trainer):
        """The cores that the trainer's threads may use while one cinch-lat lives from before to after the look."""
        def child():
            try:
                with open(f"/proc/{evaluator.pid}/task/{evaluator.pid}/children", encoding="utf-8") as f:
                    direct = f.read().split()
                for task in os.listdir(f"/proc/{evaluator.pid}/task"):
                    with open(f"/proc/{evaluator.pid}/task/{task}/children", encoding="utf-8") as f:
                        direct += f.read().split()
                for pid in direct:
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                        if f.read().strip() == "cinch-lat":
                            return pid
            except OSError:
                pass
            return None

        before = child()
        if not before:
            return None
        cores = set()
        for task in os.listdir(f"/proc/{trainer.pid}/task"):
            cores |= os.sched_getaffinity(int(task))
        return cores if child() == before else None


if __name__ == "__main__":
    unittest.main()
