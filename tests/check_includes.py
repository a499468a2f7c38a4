#!/usr/bin/env python3
"""Checks the dependency edges between rooms (docs/architecture.md) from the #include lines of every C file.

Also refuses exit() and abort() in library code. Prints each violation as file:line and exits with 1.
"""
import os
import re
import sys

ROOT = os.environ.get("CINCH_SOURCE_DIR") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

EVERY = {"base", "proto", "ecg", "nn", "cpu/train", "cpu/quant", "cpu/rt", "cpu/measure", "gpu", "export",
         "coordinator", "workers", "cli", "web"}
MAY = {
    "base": set(),
    "proto": {"base"},
    "ecg": {"base"},
    "nn": {"base", "ecg"},
    "cpu/rt": set(),
    "cpu/train": {"base", "ecg", "nn"},
    "cpu/quant": {"base", "ecg", "nn", "cpu/rt"},
    "cpu/measure": {"base", "ecg", "nn", "cpu/rt", "cpu/quant"},
    "gpu": {"base", "nn"},
    "export": {"base", "nn", "cpu/quant", "cpu/rt"},
    "coordinator": {"base", "proto"},
    "workers": EVERY - {"coordinator", "cli"},
    "cli": EVERY,
    "web": set(),
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
LEAVES = re.compile(r'(?<![\w.>])(exit|abort|_exit)\s*\(')


def room_of(path):
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "cpu" else parts[0]


def check(path, room):
    bad = []
    text = open(os.path.join(ROOT, path), encoding="utf-8").read()
    has_main = re.search(r"^int main\(", text, re.M)
    for number, line in enumerate(text.splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            target = room_of(match.group(1))
            if target in EVERY and target != room and target not in MAY[room]:
                bad.append(f"{path}:{number}: {room} may not include {match.group(1)}")
        code = re.sub(r'"(\\.|[^"\\])*"|//.*|/\*.*?\*/', "", line).lstrip()
        if not has_main and not code.startswith("*") and LEAVES.search(code) and "/* child */" not in line:
            bad.append(f"{path}:{number}: exit/abort in library code (a forked child marks it /* child */)")
    return bad


def main():
    bad, seen = [], 0
    for room in sorted(EVERY):
        for folder, _, names in os.walk(os.path.join(ROOT, room)):
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), ROOT)
                if name.endswith((".c", ".h", ".cu", ".cuh")) and room_of(path) == room:
                    seen += 1
                    bad += check(path, room)
    print("\n".join(bad) if bad else f"{seen} files keep the edges")
    return 1 if bad or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
