#!/usr/bin/env python3
"""Exported model.c on a Cortex-M4: built with arm-none-eabi-gcc, run on qemu's mps2-an386 with a few records, every bit of logits and
probabilities equal to the same source's on this machine. Prints flash and RAM of a program that holds the net and nothing else.

    cortex_m.py HOST_COMPILER

Skipped, with a word, where the compiler or qemu-system-arm is missing.
"""
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile

ROOT = os.environ.get("CINCH_SOURCE_DIR") or os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
HERE = os.path.join(ROOT, "tests", "integration", "export", "cortex_m")
CINCH = os.path.join(os.environ.get("CINCH_BIN") or os.path.join(ROOT, "build", "bin"), "cinch")
NETS = ["cnn_full", "rnn_full", "beat_full", "masked-resnet_full"]
RECORDS = 2
STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror"]
ARM = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard", "-Os", "-ffunction-sections",
       "-fdata-sections", *STRICT]
LINK = ["-nostartfiles", "-specs=nosys.specs", "-Wl,--gc-sections", "-Wl,--no-warn-rwx-segments", "-T",
        os.path.join(HERE, "mps2.ld")]


def missing():
    if not shutil.which("arm-none-eabi-gcc"):
        return "no arm-none-eabi-gcc (Debian packages gcc-arm-none-eabi, libnewlib-arm-none-eabi)"
    if subprocess.run(["arm-none-eabi-gcc", "-x", "c", "-E", "-", "-o", os.devnull], input=b"#include <string.h>\n",
                      capture_output=True).returncode:
        return "no C library for arm-none-eabi-gcc (Debian package libnewlib-arm-none-eabi)"
    return None if shutil.which("qemu-system-arm") else "no qemu-system-arm"


def run(command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, **more).stdout


def write_records(folder, header):
    """records.h: RECORDS records of plausible millivolts as bit patterns, two of the samples not finite."""
    facts = dict(line.split()[1:3] for line in header.splitlines() if line.startswith("#define MODEL_"))
    n = RECORDS * int(facts["MODEL_LEADS"]) * int(facts["MODEL_SAMPLES"])
    draw = random.Random(7)
    words = [struct.unpack("<I", struct.pack("<f", draw.uniform(-3, 3)))[0] for _ in range(n)]
    words[5], words[n // 2] = 0x7fc00000, 0xff800000
    with open(os.path.join(folder, "records.h"), "w", encoding="utf-8") as f:
        f.write(f"#define RECORDS {RECORDS}\nstatic const uint32_t records[] = {{")
        f.write(",".join(map(hex, words)) + "};\n")


def check(net, folder, host):
    artifact = os.path.join(ROOT, "tests", "golden", "export", net + ".cinch")
    run([CINCH, "export", artifact, "--c", "-o", folder])
    with open(os.path.join(folder, "model.h"), encoding="utf-8") as f:
        write_records(folder, f.read())
    place = {"cwd": folder}
    model, driver = os.path.join(folder, "model.c"), os.path.join(HERE, "driver.c")
    include = ["-I", folder]
    run([host, "-O2", *STRICT, "-DHOST", *include, model, driver, "-o", "host"], **place)
    start = os.path.join(HERE, "start.c")
    run([*ARM, *include, model, driver, start, *LINK, "-o", "test.elf"], **place)
    run([*ARM, *include, "-DBARE", model, driver, start, *LINK, "-o", "bare.elf"], **place)
    ours = run([os.path.join(folder, "host")])
    theirs = run(["qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none", "-chardev", "stdio,id=out",
                  "-semihosting-config", "enable=on,target=native,chardev=out", "-kernel", os.path.join(folder, "test.elf")])
    text, data, bss = map(int, run(["arm-none-eabi-size", os.path.join(folder, "bare.elf")]).splitlines()[1].split()[:3])
    run([*ARM, *include, "-c", model, "-o", "model.o"], **place)
    wanted = {line.split()[-1] for line in run(["arm-none-eabi-nm", "-u", "model.o"], **place).splitlines()}
    foreign = {name for name in wanted - {"memcpy", "memset"} if not name.startswith("__aeabi_")}
    assert not foreign, f"model.c wants {foreign}"
    same = ours == theirs and ours.count("\n") >= RECORDS
    print(f"{net:20} {'equal' if same else 'DIFFER':6} {text + data:8} {data + bss:8}", flush=True)
    if not same:
        print("here:", ours[:300], "\nCortex-M4:", theirs[:300])
    return same


def main():
    why = missing()
    if why:
        print("SKIPPED:", why)
        return 77
    print(f"{'net':20} bits      flash      RAM   (bytes; RAM without the stack)")
    good = True
    for net in NETS:
        with tempfile.TemporaryDirectory() as folder:
            good = check(net, folder, sys.argv[1]) and good
    return 0 if good else 1


sys.exit(main())
