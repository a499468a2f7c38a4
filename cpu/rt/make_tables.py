#!/usr/bin/env python3
"""Writes tables.h: the parabolas of tanh16 and the start values of the integer reciprocal root.

    python3 cpu/rt/make_tables.py > cpu/rt/tables.h

tanh on [0, 8) in 32 segments of 1/4: each parabola passes through the function at both ends and in the middle of
its segment. The root: 2^15 / sqrt(A) at the middle of 96 slices of A in [1/4, 1).
"""
import math


def parabola(i):
    """c0, c1, c2 in Q15 with tanh(i/4 + f/4) = c0 + f*(c1 + f*c2), f in [0, 1)."""
    if i >= 20:  # tanh(5) = 1 - 2^-13.4: flat, so that no sum passes 32767
        return [round(32768 * math.tanh((i + 0.5) / 4)) if i < 22 else 32767, 0, 0]
    y0, y1, y2 = (math.tanh((i + f) / 4) for f in (0, 0.5, 1))
    c2 = 2 * (y0 - 2 * y1 + y2)
    return [round(c * 32768) for c in (y0, y2 - y0 - c2, c2)]


def table(kind, name, values, what):
    lines = [f"/* {what} */", f"static const {kind} {name}[{len(values)}] = {{"]
    for i in range(0, len(values), 8):
        lines.append("    " + " ".join(f"{v}," for v in values[i:i + 8]))
    return "\n".join(lines + ["};"])


def main():
    rows = [parabola(i) for i in range(32)]
    root = [min(65535, round(32768 / math.sqrt((32 + i + 0.5) / 128))) for i in range(96)]
    print("/* Made by make_tables.py; do not edit. */")
    print("#ifndef CINCHRT_TABLES_H\n#define CINCHRT_TABLES_H\n\n#include <stdint.h>\n")
    for j in range(3):
        print(table("int16_t", f"rt_tanh_c{j}", [r[j] for r in rows], f"coefficient of f^{j}, Q15") + "\n")
    print(table("uint16_t", "rt_root_start", root, "2^15 / sqrt(A), A = (32.5 + i) / 128"))
    print("\n#endif")


main()
