"""A coordinator among hostile connections, over ipc and TCP at once: silent ones, half messages before and after hello, messages of endless
frames, uploads that stop, downloads and long lists that nobody reads, dry runs, floods of questions and of PINGs, hello-and-leave. Its memory
stays within 256 MiB, other clients are answered meanwhile and uploads taken, and when they have gone their places are free. 300 of them;
HOSTILE=1000 for the long form. Speaks ZMTP itself, with nothing but the standard library."""
import os
import random
import resource
import signal
import socket
import sys
import time

from zmtp import *

MOST = 256 * MB


# ---- what they do; each is called again and again with its connection until it is closed

def unfinished(p, where):
    p.s.sendall(frame(head(QUERY), True) + frame(bytes(4 * MB - 64))[:2 * MB])


def endless_frames(p, where):
    p.s.sendall(frame(b"x" * 200, True) * 2000)


def stopped_upload(p, where):
    p.s.sendall(frame(head(BLOB_PUT), True) + frame(pb(1, os.urandom(32), 2, MB, 3, 0), True) + frame(bytes(MB))[:MB // 2])


def uploads(p, where):
    for _ in range(8):
        p.ask(BLOB_PUT, pb(1, os.urandom(32), 2, 64 * MB, 3, 0), bytes(MB))


def unread_lists(p, where):
    for _ in range(20):
        p.ask(QUERY, pb(1, JOBS, 2, "r1"))


def unread_chunks(p, where):
    for _ in range(16):
        p.ask(BLOB_GET, pb(1, where["blob"], 2, 0, 3, MB))


def dry_runs(p, where):
    p.ask(SUBMIT, where["grid"])


def questions(p, where):
    p.s.sendall((frame(head(QUERY), True) + frame(pb(1, LIST))) * 500)


def watches(p, where):
    for _ in range(200):
        p.ask(WATCH, pb(1, 0, 2, 30000))


def pings(p, where):
    p.s.sendall(frame(b"\x04PING\0\0" + b"c" * 16, command=True) * 500)


def nothing(p, where):
    pass


KINDS = [(unfinished, None), (unfinished, "mallory"), (endless_frames, "mallory"), (stopped_upload, "mallory"), (uploads, "oscar"),
         (unread_lists, "mallory"), (unread_chunks, "oscar"), (dry_runs, "trudy"), (questions, "mallory"), (watches, "trudy"),
         (pings, "mallory"), (pings, None), (nothing, None), (nothing, "idle")]


def attack(where, share, until):
    """A process with its share of the connections, made anew as they are closed."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    held = [None] * share
    while time.monotonic() < until:
        for i in range(share):
            kind, user = KINDS[i % len(KINDS)]
            try:
                if held[i] is None and i % 10 == 9:
                    held[i] = socket.create_connection(where["tcp"], 1)
                elif held[i] is None:
                    held[i] = Peer(where["path"], user, 1.0)
                    held[i].s.settimeout(0.02)
                if isinstance(held[i], Peer):
                    kind(held[i], where)
            except socket.timeout:
                pass  # it takes no more: hold what there is
            except OSError:
                if held[i] is not None:
                    held[i].close()
                held[i] = None
    os._exit(0)


def visit(path):
    """A client that comes, looks and sends a small blob; the seconds that the look took."""
    began = time.monotonic()
    p = Peer(path, "visitor", 30.0)
    code, _ = p.call(QUERY, pb(1, LIST))
    took = time.monotonic() - began
    if code:
        raise SystemExit(f"ls was refused: {code}")
    p.close()
    return took


def watch_it(daemon, until):
    most, times = 0, []
    while time.monotonic() < until:
        most = max(most, daemon.memory())
        times.append(visit(daemon.path))
        time.sleep(0.02)
    return most, sorted(times)


def sanitized():
    """Such programs take memory of their own."""
    with open(os.path.join(BIN, "cinchd"), "rb") as f:
        text = f.read()
    return b"__asan_init" in text or b"__tsan_init" in text


def prepare(path):
    """A long list, a blob of 1 MiB, and the grid of the dry runs."""
    import hashlib
    owner = Peer(path, "owner", 60.0)
    code, answer = owner.call(SUBMIT, submit(range(20000), paused=True))
    if code:
        raise SystemExit(f"the grid is refused: {answer}")
    blob = random.Random(1).randbytes(MB)
    name = hashlib.blake2b(blob, digest_size=32).digest()
    code, answer = owner.call(BLOB_PUT, pb(1, name, 2, MB, 3, 0), blob)
    if code:
        raise SystemExit(f"the blob is refused: {answer}")
    owner.close()
    return {"path": path, "blob": name, "grid": submit(range(300000), dry=True)}


def main():
    count, seconds = int(os.environ.get("HOSTILE", "300")), float(os.environ.get("HOSTILE_SECONDS", "12"))
    daemon = Daemon()
    children = []
    try:
        where = dict(prepare(daemon.path), tcp=daemon.tcp)
        calm = daemon.memory()
        until = time.monotonic() + seconds
        for _ in range(4):
            child = os.fork()
            if not child:
                attack(where, count // 4, until + 5)
            children.append(child)
        most, times = watch_it(daemon, until)
        print(f"{count} hostile connections: cinchd went from {calm / MB:.0f} to {most / MB:.0f} MiB; {len(times)} visitors, the list of runs took "
              f"{1000 * times[len(times) // 2]:.0f} ms (median), {1000 * times[int(0.99 * (len(times) - 1))]:.0f} ms (p99)")
        if most > MOST and not sanitized():
            raise SystemExit("that is too much")
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        children = []
        visit(daemon.path)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        daemon.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
