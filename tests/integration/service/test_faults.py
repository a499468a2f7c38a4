"""Everything that can die, dies in the middle of a real training: the run ends all the same, and every model has the
bits of the calm run."""
import random
import signal
import time
import unittest

from service import ServiceCase

# A job of some seconds, so that it is hit in the middle, then what depends on it.
GRID = """
name: faults
nets: [{net: cnn, widths: [16, 16, 16, 16]}]
seeds: [7]
epochs: %d
distill: [false, true]
prune: {rounds: [1], keep: [0.5], norm: [L1], epochs: 3}
quantize: {mode: paper, calibration: 16}
latency: {runs: 10}
"""


class Faults(ServiceCase):
    epochs = 300

    @classmethod
    def setUpClass(cls):
        cls.calm = None

    def models_of_calm_run(self):
        """What an undisturbed service gives for the same grid; made once."""
        if Faults.calm is None:
            calm = self.new_service("calm")
            calm.start_coordinator()
            calm.trainer()
            calm.evaluator()
            run = calm.submit(GRID % self.epochs, self.data)
            calm.wait_done(run)
            Faults.calm = calm.models(run)
            calm.close()
        return Faults.calm

    def begin(self):
        """A service whose first training is under way, with a checkpoint: (run, trainer)."""
        s = self.service
        s.start_coordinator()
        trainer = s.trainer()
        run = s.submit(GRID % self.epochs, self.data)
        s.until("a checkpoint", lambda: s.log_says(trainer, "is durable"))
        return run, trainer

    def end(self, run):
        s = self.service
        s.evaluator()
        s.wait_done(run)
        models = s.models(run)
        self.assertEqual(len([m for m in models if m.endswith(".cinch")]), 8)  # 2 nets, whole and halved, float and int8
        self.assertEqual(models, self.models_of_calm_run())

    def test_trainers_killed_again_and_again_are_replaced(self):
        run, trainer = self.begin()
        s = self.service
        kills = 0
        while kills < 4 and s.cinch("show", run)["jobs"]["succeeded"] == 0:
            s.kill(trainer)
            kills += 1
            trainer = s.trainer()
            s.until("the job's return", lambda: s.log_says(trainer, "resumed"))
            time.sleep(random.uniform(0.05, 0.4))  # anywhere: with a newer checkpoint or without
        self.end(run)
        self.assertGreaterEqual(kills, 2)

    def test_a_killed_coordinator_loses_nothing(self):
        run, trainer = self.begin()
        s = self.service
        s.kill(s.coordinator)
        s.start_coordinator()
        s.until("the worker's return", lambda: s.cinch("workers")["workers"])
        self.end(run)
        self.assertIsNone(trainer.poll())
        # The job that ran went on: its first attempt is the one that succeeded.
        attempts = {e["attempt"] for e in s.events(run) if e["type"] == "succeeded"}
        self.assertEqual(attempts, {1})
        self.assertFalse(s.log_says(trainer, "resumed"))

    def test_a_coordinator_away_for_long_gets_everything_when_it_is_back(self):
        """As ten minutes are to the usual 10 s of silence, scaled down: the jobs end meanwhile, and their results wait."""
        run, trainer = self.begin()
        s = self.service
        s.evaluator()
        s.kill(s.coordinator)
        time.sleep(14)  # seven times as long as a worker may be silent here
        self.assertTrue(all(p.poll() is None for p in s.procs if p is not s.coordinator))
        self.assertTrue(s.log_says(trainer, "trying again"))
        s.start_coordinator()
        self.end(run)
        ended = [e for e in s.events(run) if e["type"] in ("succeeded", "crashed", "failed")]
        self.assertEqual({(e["type"], e["attempt"]) for e in ended}, {("succeeded", 1)})
        self.assertFalse(s.log_says(trainer, "resumed"))

    def test_a_signal_hands_the_lease_back(self):
        run, trainer = self.begin()
        trainer.send_signal(signal.SIGTERM)
        self.assertEqual(trainer.wait(30), 0)
        s = self.service
        self.assertTrue(any(e["type"] == "released" for e in s.events(run)))
        other = s.trainer()
        self.end(run)
        self.assertTrue(s.log_says(other, "resumed"))

    def test_a_second_signal_leaves_at_once(self):
        _, trainer = self.begin()
        trainer.send_signal(signal.SIGSTOP)  # so that the first is not acted on before the second
        trainer.send_signal(signal.SIGTERM)
        trainer.send_signal(signal.SIGINT)
        trainer.send_signal(signal.SIGCONT)
        self.assertIn(trainer.wait(30), (128 + signal.SIGTERM, 128 + signal.SIGINT))


if __name__ == "__main__":
    unittest.main()
