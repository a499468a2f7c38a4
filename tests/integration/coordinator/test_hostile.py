"""A coordinator among hostile connections, over ipc and TCP at once: silent ones, half messages before and after hello, messages of endless
frames, uploads that stop, downloads and long lists that nobody reads, dry runs, floods of questions and of PINGs, hello-and-leave. Its memory
stays within 256 MiB, other clients are answered meanwhile and uploads taken, and when they have gone their places are free. 300 of them;
HOSTILE=1000 for the long form. Speaks ZMTP itself, with nothing but the standard library."""
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BIN = os.environ.get("CINCH_BIN", "build/bin")
HELLO, ERROR, BLOB_HAVE, BLOB_PUT, BLOB_GET, SUBMIT, QUERY, WATCH = 1, 4, 20, 22, 23, 30, 32, 33
LIST, REPORT, JOBS = 1, 6, 7
MB = 1 << 20
MOST = 256 * MB
READY = b"\x05READY\x0bSocket-Type\0\0\0\x06DEALER"


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytearray([n]))


def pb(*pairs):
    """pb(number, value, ..): numbers are varints, text and bytes themselves."""
    out = b""
    for k, v in zip(pairs[::2], pairs[1::2]):
        if isinstance(v, int):
            out += varint(k << 3) + varint(v)
        else:
            v = v.encode() if isinstance(v, str) else v
            out += varint(k << 3 | 2) + varint(len(v)) + v
    return out


def frame(data, more=False, command=False):
    flags = more | command << 2
    if len(data) < 256:
        return bytes([flags, len(data)]) + data
    return bytes([flags | 2]) + struct.pack(">Q", len(data)) + data


def head(kind, number=1):
    return struct.pack("<4sHhQ", b"CNH1", kind, 0, number)


class Peer:
    """A connection on ipc; it says hello unless told otherwise."""

    def __init__(self, path, user=None, timeout=10.0):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(timeout)
        self.s.connect(path)
        self.s.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32) + frame(READY, command=True))
        self.buf = b""
        self._take(64)
        self.n = 1
        if user:
            self.call(HELLO, pb(1, 1, 2, "test", 3, user))

    def _take(self, n):
        while len(self.buf) < n:
            got = self.s.recv(MB)
            if not got:
                raise ConnectionError("the connection was ended")
            self.buf += got
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def frame(self):
        flags = self._take(1)[0]
        n = struct.unpack(">Q", self._take(8))[0] if flags & 2 else self._take(1)[0]
        return flags, self._take(n)

    def ask(self, kind, body=b"", data=None):
        self.n += 1
        self.s.sendall(frame(head(kind, self.n), True) + frame(body, data is not None) + (frame(data) if data is not None else b""))
        return self.n

    def call(self, kind, body=b"", data=None):
        want = self.ask(kind, body, data)
        while True:
            message, more = [], True
            while more:
                flags, part = self.frame()
                if flags & 4:
                    break
                message.append(part)
                more = flags & 1
            if len(message) > 1 and struct.unpack("<Q", message[0][8:])[0] == want:
                return struct.unpack("<h", message[0][6:8])[0], message[1]

    def close(self):
        self.s.close()


def submit(user_seeds, dry, paused=False):
    seeds = b"".join(map(varint, user_seeds))
    net = pb(1, "cnn", 3, '{"epochs":1}')
    return pb(1, os.urandom(16), 2, "hostile", 4, "ptbxl", 5, bytes(range(32)), 6, net, 7, seeds, 15, int(dry), 16, int(paused))


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


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))


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


def watch_it(pid, path, until):
    most, times = 0, []
    while time.monotonic() < until:
        most = max(most, memory(pid))
        times.append(visit(path))
        time.sleep(0.02)
    return most, sorted(times)


def start(home):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with open(home + "/log", "w", encoding="utf-8") as log:
        p = subprocess.Popen([os.path.join(BIN, "cinchd"), "--state", home + "/state", "--listen", f"ipc://{home}/s", "--listen",
                              f"tcp://127.0.0.1:{port}", "--quiet"], stdout=log, stderr=log)
    for _ in range(100):
        if os.path.exists(home + "/s"):
            return p, ("127.0.0.1", port)
        time.sleep(0.1)
    raise SystemExit("cinchd did not start")


def prepare(path):
    """A long list, a blob of 1 MiB, and the grid of the dry runs."""
    import hashlib
    owner = Peer(path, "owner", 60.0)
    code, answer = owner.call(SUBMIT, submit(range(20000), False, True))
    if code:
        raise SystemExit(f"the grid is refused: {answer}")
    blob = random.Random(1).randbytes(MB)
    name = hashlib.blake2b(blob, digest_size=32).digest()
    code, answer = owner.call(BLOB_PUT, pb(1, name, 2, MB, 3, 0), blob)
    if code:
        raise SystemExit(f"the blob is refused: {answer}")
    owner.close()
    return {"path": path, "blob": name, "grid": submit(range(300000), True)}


def main():
    count, seconds = int(os.environ.get("HOSTILE", "300")), float(os.environ.get("HOSTILE_SECONDS", "12"))
    home = tempfile.mkdtemp(prefix="cinch-h-")
    daemon, tcp = start(home)
    children = []
    try:
        where = dict(prepare(home + "/s"), tcp=tcp)
        calm = memory(daemon.pid)
        until = time.monotonic() + seconds
        for i in range(4):
            child = os.fork()
            if not child:
                attack(where, count // 4, until + 5)
            children.append(child)
        most, times = watch_it(daemon.pid, home + "/s", until)
        if daemon.poll() is not None:
            raise SystemExit("cinchd has ended")
        print(f"{count} hostile connections: cinchd went from {calm / MB:.0f} to {most / MB:.0f} MiB; {len(times)} visitors, the list of runs took "
              f"{1000 * times[len(times) // 2]:.0f} ms (median), {1000 * times[int(0.99 * (len(times) - 1))]:.0f} ms (p99)")
        if most > MOST:
            raise SystemExit("that is too much")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        alive = daemon.poll() is None
        if alive:
            visit(home + "/s")
        daemon.terminate()
        daemon.wait(timeout=60)
        shutil.rmtree(home, ignore_errors=True)
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
