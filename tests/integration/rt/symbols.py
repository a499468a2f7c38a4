#!/usr/bin/env python3
"""The runtime promises: no library, no allocation, no global state. So its archive may ask the linker for nothing but memcpy,
memset, memcmp, strcmp and what the compiler itself adds, and may define no writable data.

    symbols.py LIBRARY
"""
import re
import subprocess
import sys

MAY = {"memcpy", "memset", "memmove", "memcmp", "strcmp", "_GLOBAL_OFFSET_TABLE_"}
# sanitizers, stack protector, fortified calls (this build's options, not the runtime's), 64-bit division of 32-bit targets
FROM_COMPILER = re.compile(r"^(__asan|__odr_asan|__ubsan|__tsan|__sanitizer|__stack_chk|__mem(cpy|set|move)_chk$|__udivdi3|__divdi3|__umoddi3|__moddi3)")


def main():
    text = subprocess.run(["nm", sys.argv[1]], check=True, capture_output=True, text=True).stdout
    defined, wanted, writable = set(), set(), []
    for line in text.splitlines():
        parts = line.split()
        if len(parts) < 2:
            continue
        kind, name = parts[-2], parts[-1]
        if kind == "U":
            wanted.add(name)
        else:
            defined.add(name)
            # d: .data.rel.ro holds tables of pointers, constant after relocation; checked by section below
            if kind in "bBcCgGsS" and not FROM_COMPILER.match(name) and not name.startswith("."):
                writable.append(name)
    foreign = sorted(n for n in wanted - defined - MAY if not FROM_COMPILER.match(n))
    sections = subprocess.run(["objdump", "-h", sys.argv[1]], check=True, capture_output=True, text=True).stdout
    instrumented = "__asan" in text or "__ubsan" in text or "__tsan" in text
    for line in sections.splitlines():
        match = re.match(r"\s*\d+ (\.data|\.bss)\s+([0-9a-f]+)", line)
        if match and int(match.group(2), 16) and not instrumented:
            writable.append(f"{match.group(2)} bytes of {match.group(1)}")
    if foreign or writable or len(defined) < 20:
        print("foreign symbols:", foreign, "writable data:", writable)
        return 1
    print(f"{len(defined)} symbols; nothing foreign, nothing writable")
    return 0


sys.exit(main())
