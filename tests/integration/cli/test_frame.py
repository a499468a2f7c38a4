"""The frame of the command line: help, versions, exit codes, misspelt words, and the error document."""
import re
import unittest

import harness


class Frame(harness.Case):
    def commands(self):
        out, _ = self.cinch("--help")
        return [m.group(1) for m in re.finditer(r"^  (\w+) ", out, re.M)]

    def test_help_is_one_screen_and_every_command_has_its_own(self):
        out, _ = self.cinch("--help")
        self.assertLessEqual(len(out.splitlines()), 40)
        names = self.commands()
        for must in ("train", "eval", "infer", "inspect", "prune", "data", "version"):
            self.assertIn(must, names)
        for name in names:
            page, err = self.cinch(name, "--help")
            self.assertIn(f"cinch {name}", page)
            self.assertLessEqual(len(page.splitlines()), 24, name)
            self.assertEqual(err, "")
            self.assertTrue(all(len(line) <= 110 for line in page.splitlines()), page)

    def test_version(self):
        self.assertEqual(self.json("version")["name"], "cinch")
        self.assertEqual(self.cinch("--version")[0], self.cinch("version")[0])

    def test_no_command_is_a_usage_error(self):
        self.cinch(code=2)

    def test_misspelt_words_are_answered_with_the_nearest(self):
        self.refuses("trian", part="did you mean 'train'?")
        self.refuses("train", "--epoch", "3", part="did you mean '--epochs'?")
        self.refuses("data", "verfy", "x", part="did you mean 'verify'?")
        self.refuses("prune", "m", "--norm", "tailor", part="did you mean 'taylor'?")
        self.refuses("zzzzzz", part="unknown command")

    def test_usage_errors(self):
        self.refuses("train", part="--net")
        self.refuses("train", "--net", "cnn", part="--data")
        self.refuses("train", "--net", "cnn", "--data", "x", part="-o")
        self.refuses("train", "--epochs", "many", part="--epochs")
        self.refuses("train", "--epochs", "-1", part="--epochs")
        self.refuses("eval", part="usage")
        self.refuses("inspect", "a", "b", part="'b'")

    def test_every_service_command_says_that_nobody_is_there(self):
        for words in (["ls"], ["watch"], ["show", "r1"], ["log", "r1"], ["explain", "j1"], ["cancel", "r1"], ["retry", "r1"],
                      ["pause", "r1"], ["resume", "r1"], ["workers"], ["keys", "list"], ["get", "r1", "-o", "x"], ["report", "r1"]):
            if words[0] in self.commands():
                self.refuses(*words, "--connect", "ipc:///nonexistent/socket", part="ipc:///nonexistent/socket", code=3)

    def test_the_place_of_the_coordinator(self):
        env = harness.environment(CINCH_COORDINATOR="ipc:///nonexistent/a")
        self.refuses("ls", part="ipc:///nonexistent/a", code=3, env=env)
        self.refuses("ls", "--connect", "ipc:///nonexistent/b", part="ipc:///nonexistent/b", code=3, env=env)
        import os
        os.makedirs(self.path("config/cinch"))
        self.write("config/cinch/config.yaml", "connect: ipc:///nonexistent/c\n")
        self.refuses("ls", part="ipc:///nonexistent/c", code=3, env=harness.environment(XDG_CONFIG_HOME=self.path("config")))
        self.write("config/cinch/config.yaml", "conect: x\n")
        self.refuses("ls", part="did you mean 'connect'?", env=harness.environment(XDG_CONFIG_HOME=self.path("config")))


if __name__ == "__main__":
    unittest.main()
