#!/usr/bin/env python3
"""Looks at every program and library of the build with readelf: position independent, tables read-only after the
start (full RELRO), no executable stack, stack canaries and fortified calls, control-flow marks on x86-64.
Needs CINCH_BIN; skipped (77) under a sanitizer, in a Debug build and with -DCINCH_HARDEN=OFF."""
import os
import re
import shutil
import subprocess
import sys


def readelf(what, path):
    return subprocess.run(["readelf", what, "-W", path], capture_output=True, text=True, check=True).stdout


def lacks(path):
    head, segments, dynamic, symbols = (readelf(w, path) for w in ("-h", "-l", "-d", "-s"))
    missing = []
    if "DYN" not in head:
        missing.append("position independence")
    if "GNU_RELRO" not in segments or not re.search(r"BIND_NOW|FLAGS.* NOW", dynamic):
        missing.append("full RELRO")
    stack = [line for line in segments.splitlines() if "GNU_STACK" in line]
    if not stack or "RWE" in stack[0]:
        missing.append("a stack that cannot run")
    if "__stack_chk_fail" not in symbols:
        missing.append("stack canaries")
    if not re.search(r"__[a-z_]+_chk(@|$)", symbols, re.M):
        missing.append("fortified calls")
    with open(path, "rb") as f:  # the file's own note needs a libc with marks too, so functions are counted
        if "X86-64" in head and f.read().count(b"\xf3\x0f\x1e\xfa") < 20:
            missing.append("control-flow marks")
    return missing


def settings(cache):
    with open(cache, encoding="utf-8") as f:
        return dict(re.findall(r"^(\w+):\w+=(.*)$", f.read(), re.M))


def main():
    folder = os.environ["CINCH_BIN"]
    built = settings(os.path.join(folder, "..", "CMakeCache.txt"))
    if built.get("CINCH_SANITIZE") or built.get("CINCH_FUZZ") == "ON" or built.get("CMAKE_BUILD_TYPE") == "Debug" \
            or built.get("CINCH_HARDEN") == "OFF":
        print("built without hardening on purpose: skipped")
        return 77
    if not shutil.which("readelf"):
        print("no readelf: skipped")
        return 77
    bad = looked = 0
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        with open(path, "rb") as f:
            if f.read(4) != b"\x7fELF":
                continue
        looked += 1
        missing = lacks(path)
        if missing:
            print(f"{name} lacks: {', '.join(missing)}")
            bad += 1
    print(f"{looked} files looked at, {bad} lacking")
    return 1 if bad or not looked else 0


if __name__ == "__main__":
    sys.exit(main())
