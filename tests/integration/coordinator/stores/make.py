#!/usr/bin/env python3
"""How the databases of this folder were made: by the coordinator of an old commit, left in the middle of a grid.

    make.py COMMIT SCRATCH
    make.py --back VERSION
    make.py --on VERSION

Checks COMMIT out into SCRATCH, builds its cinchd and nulltool, and runs a grid there with two null workers, one of which is killed
while it holds jobs, and then the coordinator too: the database has jobs that succeeded, failed for good, are leased and wait, with
results, checkpoints, curves, events and keys. It is dumped here as vN.sql, N being its schema.

v2.sql comes from c645397, the first commit that has a null worker as a program. No commit ever wrote schema 1: v1.sql is v2.sql
with the step from 1 to 2 (coordinator/migrate.c) taken back, which --back does. v3.sql is v2.sql with the step from 2 to 3, which --on does, and v4.sql is v3.sql with the next.
"""
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BACK = {2: ["DROP TABLE curve", "DROP INDEX event_job"]}  # from a version to the one before
ON = {2: ["ALTER TABLE dataset ADD COLUMN owner TEXT NOT NULL DEFAULT ''"],  # to the next one
      3: ["CREATE TABLE holding (hash BLOB PRIMARY KEY, user TEXT NOT NULL, size INT, time INT) WITHOUT ROWID",
          "CREATE INDEX checkpoint_hash ON checkpoint (hash)"]}


def build(commit, scratch):
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(scratch)
    archive = subprocess.run(["git", "-C", HERE + "/../../../..", "archive", commit], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", scratch], input=archive, check=True)
    subprocess.run(["cmake", "-S", scratch, "-B", scratch + "/build", "-DCINCH_GPU=off"], stdout=subprocess.DEVNULL, check=True)
    subprocess.run(["cmake", "--build", scratch + "/build", "--target", "cinchd", "nulltool"], stdout=subprocess.DEVNULL, check=True)


def leave_in_the_middle(scratch):
    """Returns the path of the database."""
    state, ipc = scratch + "/state", f"ipc://{scratch}/sock"
    tool = [scratch + "/build/tests/nulltool"]
    cinchd = subprocess.Popen([scratch + "/build/bin/cinchd", "--state", state, "--listen", ipc, "--listen", "tcp://127.0.0.1:*"])
    while subprocess.run(tool + ["query", "--connect", ipc, "0"], capture_output=True).returncode:
        time.sleep(0.1)
    subprocess.run(tool + ["key", "--connect", ipc, "anna", "submit", scratch + "/anna.key"], check=True)
    for fresh in "01":
        subprocess.run(tool + ["submit", "--connect", ipc, "--seeds", "2", "--fresh", fresh], check=True)
    workers = [subprocess.Popen(tool + ["worker", "--connect", ipc, "--name", name, "--slots", "2", "--epochs", "6", "--epoch-ms",
                                        "50", "--checkpoint", "2", "--fail", fail]) for name, fail in (("one", "0"), ("two", "500"))]
    time.sleep(4)
    for p in workers + [cinchd]:
        p.send_signal(signal.SIGKILL)
        p.wait()
    return state + "/queue.db"


def dump(db):
    version = db.execute("PRAGMA user_version").fetchone()[0]
    with open(f"{HERE}/v{version}.sql", "w", encoding="utf-8") as out:
        out.write(f"PRAGMA user_version = {version};\n")
        out.writelines(line + "\n" for line in db.iterdump())
    print(f"v{version}.sql: " + ", ".join(f"{t} {db.execute(f'SELECT count(*) FROM {t}').fetchone()[0]}" for t, in db.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()))
    return version


def step(version, to, statements):
    db = sqlite3.connect(":memory:")
    with open(f"{HERE}/v{version}.sql", encoding="utf-8") as f:
        db.executescript(f.read())
    for sql in statements:
        db.execute(sql)
    db.execute(f"PRAGMA user_version = {to}")
    dump(db)


def main():
    if sys.argv[1] in ("--back", "--on"):
        version, back = int(sys.argv[2]), sys.argv[1] == "--back"
        return step(version, version + (-1 if back else 1), (BACK if back else ON)[version])
    commit, scratch = sys.argv[1], os.path.abspath(sys.argv[2])
    build(commit, scratch)
    dump(sqlite3.connect(leave_in_the_middle(scratch)))


if __name__ == "__main__":
    main()
