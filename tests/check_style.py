#!/usr/bin/env python3
"""Checks what CONTRIBUTING.md promises and a compiler does not: no function over 120 lines, none with more than 7 arguments
(outside tests; a callback whose signature a library dictates says so above it: "its signature is ..."), no TODO, every C file opens with a comment. Prints each violation as file:line and exits with 1."""
import os
import re
import subprocess
import sys

ROOT = os.environ.get("CINCH_SOURCE_DIR") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAX_LINES, MAX_ARGS = 120, 7
HEAD = re.compile(r"^(?:template <[^>]*>\s)?[A-Za-z_][\w \*]*?\b(\w+)\(([^(){};]*)\)\n\{", re.M)


def files():
    run = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True)
    names = run.stdout.split("\n") if run.returncode == 0 else [
        os.path.relpath(os.path.join(d, n), ROOT) for d, _, ns in os.walk(ROOT) for n in ns if "/build" not in d]
    return sorted(n for n in names if n.endswith((".c", ".h", ".cu", ".cuh")))


def check(path):
    text = open(os.path.join(ROOT, path), encoding="utf-8").read()
    lines, start, bad = text.split("\n"), None, []
    if not text.lstrip().startswith(("/*", "//")):
        bad.append(f"{path}:1: does not open with a comment that says what the file is")
    for number, line in enumerate(lines, 1):
        if line == "{":
            start = number
        elif line == "}" and start:
            if number - start - 1 > MAX_LINES:
                bad.append(f"{path}:{start}: a function of {number - start - 1} lines (at most {MAX_LINES})")
            start = None
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            bad.append(f"{path}:{number}: a TODO: do it, or leave it out")
    if not path.startswith("tests/") and path != "export/kernels.h":  # what is printed into a user's file
        for head in HEAD.finditer(text):
            args = head.group(2).count(",") + 1
            dictated = "signature is" in text[max(0, head.start() - 200):head.start()]
            if args > MAX_ARGS and not dictated and "__global__" not in text[max(0, head.start() - 200):head.start(2)]:
                line = text.count("\n", 0, head.start()) + 1
                bad.append(f"{path}:{line}: {head.group(1)} takes {args} arguments (at most {MAX_ARGS}; pass a struct)")
    return bad


def main():
    names = files()
    bad = [b for n in names for b in check(n)]
    print("\n".join(bad) if bad else f"{len(names)} files keep the style")
    return 1 if bad or not names else 0


if __name__ == "__main__":
    sys.exit(main())
