"""Records as other programs write them, through the commands: what is missing, what is not ASCII, what is no file, and that
verify, training and infer are of one mind about it."""
import csv
import io
import os
import struct
import unittest

import harness

LEADS = ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
WAVE = [(t * 37 + t * t % 211) % 1000 - 500 for t in range(1000)]


def checksum(values):
    return sum(values) & 0xffff


def twelve(folder, name, gap=None, units="mV", gain="1000", names=None):
    """A record of 10 s at 100 Hz; `gap` is (lead, first sample, samples)."""
    columns = [[v * (l % 3 + 1) // 2 for v in WAVE] for l in range(12)]
    if gap:
        lead, first, n = gap
        columns[lead][first:first + n] = [-32768] * n
    with open(os.path.join(folder, name + ".dat"), "wb") as f:
        f.write(b"".join(struct.pack("<12h", *row) for row in zip(*columns)))
    lines = [f"{name} 12 100 1000"] + [f"{name}.dat 16 {gain}(0)/{units} 16 0 {c[0]} {checksum(c)} 0 {n}"
                                       for n, c in zip(names or LEADS, columns)]
    with open(os.path.join(folder, name + ".hea"), "wb") as f:
        f.write(("\n".join(lines) + "\n").encode("latin-1"))


def ptbxl(folder, rows):
    """A PTB-XL folder of rows (record, fold, patient), made of whatever records lie in it."""
    with open(os.path.join(folder, "scp_statements.csv"), "w", encoding="utf-8") as f:
        f.write(",diagnostic,diagnostic_class\nNORM,1.0,NORM\nIMI,1.0,MI\n")
    with open(os.path.join(folder, "ptbxl_database.csv"), "w", encoding="utf-8") as f:
        f.write("ecg_id,patient_id,scp_codes,strat_fold,filename_lr\n")
        for i, (record, fold, patient) in enumerate(rows):
            f.write(f"{i + 1},{patient}.0,{{'NORM': 100.0}},{fold},{record}\n")


class Gaps(harness.Case):
    def setUp(self):
        super().setUp()
        twelve(self.dir, "rec", gap=(1, 300, 15))

    def test_raw_shows_what_is_missing(self):
        doc = self.json("data", "show", "rec")
        self.assertEqual(doc["missing"], {"II": 15})
        lead = doc["leads"]["II"]
        self.assertEqual([t for t, v in enumerate(lead) if v is None], list(range(300, 315)))
        out, err = self.cinch("data", "show", "rec", "--csv", "-")
        rows = list(csv.reader(io.StringIO(out)))
        self.assertEqual([r[2] for r in rows[301:316]], [""] * 15)
        self.assertTrue(rows[300][2] and rows[316][2])
        self.assertIn("15 samples are missing", err)
        out, _ = self.cinch("data", "show", "rec", "--svg", "-")
        self.assertEqual(out.count("<polyline"), 13)

    def test_a_piece_of_every_stage(self):
        twelve(self.dir, "whole")
        for stage in ("raw", "filtered"):
            all_of_it = self.json("data", "show", "whole", "--stage", stage)
            piece = self.json("data", "show", "whole", "--stage", stage, "--start", "3.285", "--seconds", "0.07")
            self.assertEqual((piece["start"], piece["samples"]), (3.29, 7))
            for lead, values in piece["leads"].items():
                self.assertEqual(values, all_of_it["leads"][lead][329:336])
            self.refuses("data", "show", "whole", "--stage", stage, "--start", "10", part="cannot start at 10 s")

    def test_nets_see_no_gap(self):
        self.cinch("train", "--net", "cnn", "--data", harness.PTBXL, "--epochs", 0, "-o", "m.safetensors")
        self.refuses("infer", "m.safetensors", "rec", part=["rec.hea", "II", "15 samples", "--gaps interpolate"])
        self.refuses("data", "show", "rec", "--stage", "filtered", part=["II", "15 samples"])
        self.refuses("infer", "m.safetensors", "rec", "--gaps", "interpolate:0.1", part="only gaps of up to 0.1 s")
        self.refuses("infer", "m.safetensors", "rec", "--gaps", "hold", part="none of refuse, interpolate")
        row = self.json("infer", "m.safetensors", "rec", "--gaps", "interpolate")[0]
        self.assertEqual(row["bridged"], 15)
        self.assertTrue(all(p is not None for p in row["probability"].values()))
        self.assertEqual(self.json("data", "show", "rec", "--stage", "filtered", "--gaps", "interpolate")["bridged"], 15)

    def test_folders_with_gaps(self):
        twelve(self.dir, "other")
        ptbxl(self.dir, [("rec", 1, 1), ("other", 2, 2), ("rec", 9, 1), ("other", 10, 2)])
        out, _ = self.cinch("data", "verify", ".", code=2)
        self.assertIn("rec.hea: lead II: 15 samples are missing", out)
        self.cinch("train", "--net", "cnn", "--data", ".", "--epochs", 0, "-o", "m.safetensors", code=2)
        doc = self.json("data", "verify", ".", "--gaps", "interpolate")
        self.assertEqual((doc["damaged"], doc["bridged"]), (0, 30))
        self.assertIn("record rec is listed 2 times, in folds 1 and 9", "\n".join(doc["remarks"]))
        self.assertIn("patient 2 is in folds 2 and 10", "\n".join(doc["remarks"]))
        for _ in range(2):  # built, then opened
            _, err = self.cinch("train", "--net", "cnn", "--data", ".", "--epochs", 0, "--gaps", "interpolate", "--force",
                                "-o", "m.safetensors")
            self.assertIn("record rec is listed 2 times, in folds 1 and 9", err)


class Text(harness.Case):
    def test_leads_of_any_text(self):
        names = ["D\xe9rivation", 'a, "b"', "\x1b[31mred", "II", "II"] + LEADS[5:]
        twelve(self.dir, "rec", names=names)
        doc = self.json("data", "show", "rec")
        self.assertEqual(list(doc["leads"])[:5], ["D\xe9rivation", 'a, "b"', "\\x1b[31mred", "II", "II (2)"])
        out, err = self.cinch("data", "show", "rec", "--csv", "-")
        self.assertEqual(next(csv.reader(io.StringIO(out)))[1:6], list(doc["leads"])[:5])
        self.assertIn("Latin-1", err)
        svg, _ = self.cinch("data", "show", "rec", "--svg", "-")
        self.assertNotIn("\x1b", svg)

    def test_micro_signs(self):
        for i, units in enumerate(["\xb5V", "\xc2\xb5V", "\xce\xbcV", "uV"]):
            twelve(self.dir, f"r{i}", units=units, gain="1")
            self.assertAlmostEqual(self.json("data", "show", f"r{i}")["leads"]["II"][0], WAVE[0] * 1e-3)
        twelve(self.dir, "other", units="bpm")
        self.refuses("data", "show", "other", part=["other.hea:2", "'bpm' is not a voltage"])

    def test_gains_that_are_none(self):
        for gain in ["1e-40", "nan", "inf", "1e300", "-inf"]:
            twelve(self.dir, "rec", gain=gain)
            self.refuses("data", "show", "rec", part=["rec.hea:2", "signal I: bad gain"])
        twelve(self.dir, "rec", gain="0")
        _, err = self.cinch("data", "show", "rec")
        self.assertIn("is not calibrated", err)


class Lengths(harness.Case):
    def test_a_file_longer_than_its_header_says_is_told(self):
        twelve(self.dir, "rec")
        with open(self.path("rec.dat"), "ab") as f:
            f.write(bytes(24 * 5))
        doc, err = self.cinch("data", "show", "rec", "--json")
        self.assertIn('"samples": 1000', doc)
        self.assertIn("holds 1005 samples per signal; the 1000 that the header", err)

    def test_lines_behind_the_signals_are_told(self):
        twelve(self.dir, "rec")
        with open(self.path("rec.hea"), "a", encoding="utf-8") as f:
            f.write("# a comment\nrec.dat 16 200 16 0 0 0 0 V7\n")
        _, err = self.cinch("data", "show", "rec")
        self.assertIn("rec.hea:15: the header tells of 12 signals", err)

    def test_the_challenge_layout(self):
        with open(self.path("A1.mat"), "wb") as f:
            f.write(bytes(24) + struct.pack("<4h", 1, -1, 2, -2))
        self.write("A1.hea", "A1 2 500 2 05-Feb-2020 11:39:16\nA1.mat 16+24 1000/mV 16 0 1 3 0 I\n"
                             "A1.mat 16+24 1000/mV 16 0 -1 -3 0 II\n#Age: 74\n  #Sex: Male\n")
        for name in ("A1", "A1.mat", "A1.hea"):
            leads = self.json("data", "show", name)["leads"]
            self.assertEqual({k: [round(v, 6) for v in x] for k, x in leads.items()}, {"I": [0.001, 0.002], "II": [-0.001, -0.002]})


class NoFiles(harness.Case):
    def test_pipes_and_folders_are_refused_at_once(self):
        twelve(self.dir, "rec")
        for ending in ("dat", "hea"):
            os.rename(self.path(f"rec.{ending}"), self.path("kept"))
            os.mkfifo(self.path(f"rec.{ending}"))
            self.cinch("data", "show", "rec.hea", code=2, timeout=60)
            os.unlink(self.path(f"rec.{ending}"))
            os.rename(self.path("kept"), self.path(f"rec.{ending}"))
        os.mkfifo(self.path("pipe"))
        for command in (["infer", "pipe", "rec"], ["inspect", "pipe"], ["run", "pipe", "--data", ".", "-o", "out"],
                        ["train", "--net", "cnn", "--data", harness.PTBXL, "--recipe", "pipe", "-o", "m"]):
            _, err = self.cinch(*command, code=2, timeout=60)
            self.assertIn("pipe", err)


if __name__ == "__main__":
    unittest.main()
