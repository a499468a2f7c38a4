#!/usr/bin/env python3
"""Compiles every gpu/*.cu for a real architecture with -Xptxas -v and fails when a kernel spills registers.

Prints the table of registers and shared memory per kernel, which docs/gpu.md quotes. usage: check_spills.py [ARCH]
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.environ.get("CINCH_SOURCE_DIR") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def demangle(name):
    if not shutil.which("c++filt"):
        return name
    text = subprocess.run(["c++filt", name], capture_output=True, text=True, check=True).stdout.strip()
    return re.sub(r"\(.*", "", text).replace("void ", "")


def kernels(path, arch, out):
    run = subprocess.run(["nvcc", "-std=c++17", "-O3", "-gencode", f"arch=compute_{arch},code=sm_{arch}", "-Xptxas", "-v",
                          "-I", ROOT, "-c", path, "-o", out], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stdout + run.stderr)
    text = run.stdout + run.stderr
    for block in text.split("Compiling entry function")[1:]:
        name = re.search(r"'(\w+)'", block).group(1)
        spill = sum(int(n) for n in re.findall(r"(\d+) bytes spill", block))
        regs = int(re.search(r"Used (\d+) registers", block).group(1))
        smem = re.search(r"(\d+) bytes smem", block)
        yield demangle(name), regs, int(smem.group(1)) if smem else 0, spill


def main():
    if not shutil.which("nvcc"):
        print("skipped: no nvcc")
        return 77
    arch, bad, seen = (sys.argv[1:] or ["90"])[0], 0, 0
    with tempfile.TemporaryDirectory() as tmp:
        for path in sorted(glob.glob(os.path.join(ROOT, "gpu", "*.cu"))):
            for name, regs, smem, spill in kernels(path, arch, os.path.join(tmp, "x.o")):
                seen += 1
                bad += spill > 0
                print(f"{name:40} {regs:4d} registers {smem:6d} B static shared {'SPILLS %d B' % spill if spill else ''}")
    print(f"{seen} kernels for sm_{arch}, {bad} spill")
    return 1 if bad or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
