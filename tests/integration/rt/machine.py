#!/usr/bin/env python3
"""Compiles the portable runtime for another machine and compares every bit of its int8 nets with this build's best kernels.

    machine.py RT_PRINT m32 COMPILER     32-bit x86: x87 arithmetic, wide float registers, no vectors
    machine.py RT_PRINT aarch64          AArch64 by Debian's cross compiler, run under qemu-user

Skipped, with a word, where the compiler or the emulator is missing.
"""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.environ.get("CINCH_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
RT = "cpu/rt/"
SOURCES = [RT + f for f in ("format.c", "isa.c", "check.c", "reach.c", "load.c", "run.c", "ref_i8.c", "ref_lstm_i8.c", "ref_f32.c",
                            "ref_dyn.c", "table__portable.c")]
FILES = ["tests/unit/rt/rt_make.c", "tests/integration/rt/rt_print.c"]
CROSS = "aarch64-linux-gnu-gcc"
MADE = os.path.join(ROOT, "build-aarch64", "sysroot")  # by `make cross ARCH=aarch64`


def run(command):
    return subprocess.run(command, capture_output=True, text=True)


def cross_compiler():
    """The command of the cross compiler, [] where there is none."""
    if shutil.which(CROSS):
        return [CROSS]
    made = os.path.join(MADE, "compiler", "bin", CROSS)
    return [made, "--sysroot=" + os.path.join(MADE, "root")] if os.path.exists(os.path.join(MADE, "complete")) else []


def missing(machine, compiler, folder):
    """What keeps this test from running; None where nothing does."""
    if machine == "aarch64":
        if not cross_compiler():
            return f"no {CROSS} (`make cross ARCH=aarch64` fetches it, or Debian's package gcc-aarch64-linux-gnu)"
        return None if shutil.which("qemu-aarch64") else "no qemu-aarch64 (Debian package qemu-user)"
    hello = os.path.join(folder, "hello.c")
    with open(hello, "w", encoding="utf-8") as f:
        f.write("int main(void) { return 0; }\n")
    if run([compiler, "-m32", hello, "-o", os.path.join(folder, "hello")]).returncode:
        return "this compiler cannot link 32-bit programs (Debian package gcc-multilib)"
    return None


def build(compile_, x87, folder):
    """The printing program for the other machine: its path."""
    objects = []
    for number, source in enumerate(SOURCES + FILES):
        # the files' generator must draw the same numbers on both sides: SSE there, x87 in the runtime
        kind = ["-std=c99"] if source.startswith(RT) else ["-std=c11"] + (["-msse2", "-mfpmath=sse"] if x87 else [])
        objects.append(os.path.join(folder, f"{number}.o"))
        subprocess.run([*compile_, "-O2", "-ffp-contract=off", *kind, "-I", ROOT, "-c", os.path.join(ROOT, source),
                        "-o", objects[-1]], check=True)
    program = os.path.join(folder, "rt_print")
    subprocess.run([*compile_, *([] if x87 else ["-static"]), *objects, "-lm", "-o", program], check=True)
    return program


def main():
    native, machine, *compiler = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        why = missing(machine, compiler[0] if compiler else "", folder)
        if why:
            print("SKIPPED:", why)
            return 77
        m32 = machine == "m32"
        program = build([compiler[0], "-m32"] if m32 else cross_compiler(), m32, folder)
        ours = subprocess.run([native], check=True, capture_output=True, text=True).stdout
        theirs = subprocess.run(([] if m32 else ["qemu-aarch64"]) + [program], check=True, capture_output=True,
                                text=True).stdout
    if ours != theirs or ours.count("\n") < 20:
        for a, b in zip(ours.splitlines(), theirs.splitlines()):
            if a != b:
                print(f"here: {a}\n{machine}: {b}")
        return 1
    print(f"{ours.count(chr(10))} nets: the same bits here and on {machine}")
    return 0


sys.exit(main())
