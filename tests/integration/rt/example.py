#!/usr/bin/env python3
"""The program in docs/runtime.md compiles without a warning, runs on an artifact and stays within 30 lines of its text.

    example.py RT_PRINT LIBRARY COMPILER [FLAGS]
"""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.environ.get("CINCH_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))


def main():
    maker, library, compiler, *flags = sys.argv[1:]
    flags = [f for f in flags if f]
    with open(os.path.join(ROOT, "docs", "runtime.md"), encoding="utf-8") as f:
        program = re.search(r"```c\n(.*?)```", f.read(), re.S).group(1)
    if program.count("\n") > 31:
        print(f"{program.count(chr(10))} lines are more than the page promises")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        source, artifact = os.path.join(folder, "example.c"), os.path.join(folder, "model.cinch")
        with open(source, "w", encoding="utf-8") as f:
            f.write(program)
        subprocess.run([compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", *flags, "-I", ROOT, source, library, "-o",
                        os.path.join(folder, "example")], check=True)
        subprocess.run([maker, artifact], check=True)
        # the example leaves its memory to the end of the process, which a leak checker would report
        out = subprocess.run([os.path.join(folder, "example"), artifact], check=True, capture_output=True, text=True,
                             env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}).stdout
        if not re.fullmatch(r"(L\d +[01]\.\d{4}\n){5}", out):
            print("unexpected output:", out)
            return 1
        refused = subprocess.run([os.path.join(folder, "example"), source], capture_output=True, text=True)
        if refused.returncode != 1 or "not a .cinch file" not in refused.stderr:
            print("a text file was not refused:", refused.returncode, refused.stderr)
            return 1
    return 0


sys.exit(main())
