"""What the coordinator's Python tests share: connections that speak ZMTP themselves, byte by byte, so that they can also break off, and a
cinchd in a folder of its own. Nothing but the standard library."""
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time

BIN = os.environ.get("CINCH_BIN", "build/bin")
HELLO, ERROR, BLOB_HAVE, BLOB_PUT, BLOB_GET, SUBMIT, QUERY, WATCH = 1, 4, 20, 22, 23, 30, 32, 33
STATUS, LIST, REPORT, JOBS = 0, 1, 6, 7
MB = 1 << 20
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


def submit(seeds, dry=False, paused=False, name="test"):
    net = pb(1, "cnn", 3, '{"epochs":1}')
    return pb(1, os.urandom(16), 2, name, 4, "ptbxl", 5, bytes(range(32)), 6, net, 7, b"".join(map(varint, seeds)), 15, int(dry), 16, int(paused))


class Daemon:
    """cinchd on ipc and TCP, in a new folder. files: its limit of open files."""

    def __init__(self, files=0):
        self.home = tempfile.mkdtemp(prefix="cinch-d-")
        self.path = self.home + "/s"
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.tcp = s.getsockname()
        line = [os.path.join(BIN, "cinchd"), "--state", self.home + "/state", "--listen", "ipc://" + self.path, "--listen",
                f"tcp://127.0.0.1:{self.tcp[1]}", "--quiet"]
        if files:
            line = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"] + line
        with open(self.home + "/log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(line, stdout=log, stderr=log)
        for _ in range(200):
            if os.path.exists(self.path):
                return
            time.sleep(0.05)
        raise SystemExit("cinchd did not start")

    def alive(self):
        return self.process.poll() is None

    def memory(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as f:
            return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS"))

    def stop(self):
        if self.alive():
            self.process.terminate()
            self.process.wait(timeout=60)
        shutil.rmtree(self.home, ignore_errors=True)
