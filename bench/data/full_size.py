#!/usr/bin/env python3
"""Time and memory of the dataset cache at the size of the full PTB-XL: the shipped sample repeated to 21,799
records, then built with one and two threads in turns, opened again, and opened after the folder was touched.

usage: python3 bench/data/full_size.py BUILD [ROUNDS]   (1.7 GB under BUILD/bench while it runs)
"""
import csv
import os
import shutil
import subprocess
import sys

RECORDS = 21799


def replicate(sample, out):
    with open(f"{sample}/ptbxl_database.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    os.makedirs(out)
    shutil.copy(f"{sample}/scp_statements.csv", out)
    with open(f"{out}/ptbxl_database.csv", "w", newline="") as f:
        table = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        for i in range(1, RECORDS + 1):
            row = dict(rows[(i - 1) % len(rows)])
            old, name, folder = row["filename_lr"], f"{i:05d}_lr", f"records100/{i // 1000 * 1000:05d}"
            row.update(ecg_id=i, filename_lr=f"{folder}/{name}")
            table.writerow(row)
            os.makedirs(f"{out}/{folder}", exist_ok=True)
            shutil.copy(f"{sample}/{old}.dat", f"{out}/{folder}/{name}.dat")
            with open(f"{sample}/{old}.hea", newline="") as header:
                text = header.read().replace(os.path.basename(old), name)
            with open(f"{out}/{folder}/{name}.hea", "w", newline="") as header:
                header.write(text)


def main():
    build, rounds = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    subprocess.run([f"{root}/tools/samples.sh", build], check=True)
    data, cache = f"{build}/bench/ptbxl-full", f"{build}/bench/ptbxl-full-cache"
    shutil.rmtree(data, ignore_errors=True)
    replicate(f"{build}/samples/ptbxl", data)

    def run(what, threads):
        out = subprocess.run([f"{build}/bench/bench_dataset", data, cache, str(threads)], check=True,
                             stdout=subprocess.PIPE, text=True).stdout.split()
        seen.setdefault(what, []).append([float(v) for v in out])

    seen = {}
    for _ in range(rounds):
        for threads in (1, 2):
            shutil.rmtree(cache, ignore_errors=True)
            run(f"build, {threads} thread{'s' * (threads > 1)}", threads)
        run("open again", 2)
        os.utime(f"{data}/ptbxl_database.csv")
        run("open after a touched file (all inputs hashed, no rebuild)", 2)
    shutil.rmtree(data)
    shutil.rmtree(cache)
    print(f"{int(seen['open again'][0][3])} records; median of {rounds} rounds in turns")
    print(f"{'':<58}{'seconds':>9}{'CPU s':>8}{'peak MB':>9}")
    for what, values in seen.items():
        middle = [sorted(column)[len(values) // 2] for column in zip(*values)]
        print(f"{what:<58}{middle[0]:9.2f}{middle[1]:8.2f}{middle[2]:9.1f}")


if __name__ == "__main__":
    main()
