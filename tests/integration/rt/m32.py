#!/usr/bin/env python3
"""Compiles the portable runtime for 32-bit x86 (x87 arithmetic: wide float registers, no vectors) and compares every bit of
its int8 nets with the 64-bit build's best kernels.

    m32.py RT_PRINT COMPILER

Skipped, with a word, where the compiler cannot link 32-bit programs (Debian: gcc-multilib).
"""
import os
import subprocess
import sys
import tempfile

ROOT = os.environ.get("CINCH_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
RT = "cpu/rt/"
SOURCES = [RT + f for f in ("format.c", "isa.c", "check.c", "reach.c", "load.c", "run.c", "ref_i8.c", "ref_lstm_i8.c", "ref_f32.c",
                            "ref_dyn.c", "table__portable.c")]
FILES = ["tests/unit/rt/rt_make.c", "tests/integration/rt/rt_print.c"]


def main():
    native, compiler = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        hello = os.path.join(folder, "hello.c")
        with open(hello, "w", encoding="utf-8") as f:
            f.write("int main(void) { return 0; }\n")
        if subprocess.run([compiler, "-m32", hello, "-o", os.path.join(folder, "hello")], capture_output=True).returncode:
            print("SKIPPED: this compiler cannot link 32-bit programs (Debian package gcc-multilib)")
            return 77
        objects = []
        for number, source in enumerate(SOURCES + FILES):
            # the files' generator must draw the same numbers on both sides: SSE there, x87 in the runtime
            kind = ["-std=c99"] if source.startswith(RT) else ["-std=c11", "-msse2", "-mfpmath=sse"]
            objects.append(os.path.join(folder, f"{number}.o"))
            subprocess.run([compiler, "-m32", "-O2", "-ffp-contract=off", *kind, "-I", ROOT, "-c",
                            os.path.join(ROOT, source), "-o", objects[-1]], check=True)
        program = os.path.join(folder, "rt_print32")
        subprocess.run([compiler, "-m32", *objects, "-lm", "-o", program], check=True)
        ours = subprocess.run([native], check=True, capture_output=True, text=True).stdout
        theirs = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    if ours != theirs or ours.count("\n") < 20:
        for a, b in zip(ours.splitlines(), theirs.splitlines()):
            if a != b:
                print(f"64-bit: {a}\n32-bit: {b}")
        return 1
    print(f"{ours.count(chr(10))} nets: the same bits in 64 and 32 bits")
    return 0


sys.exit(main())
