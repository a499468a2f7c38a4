"""The coordinator's door: places and memory are for who uses them. Silent connections where files are few, half messages, replies that nobody
takes, thousands that come and go, and a last message that still counts."""
import json
import sys
import time

from zmtp import *


def need(good, words):
    if not good:
        raise SystemExit(words)


def ended(s, seconds):
    """Whether the other side ends the connection within so long."""
    s.settimeout(seconds)
    try:
        while s.recv(MB):
            pass
    except socket.timeout:
        return False
    except OSError:
        pass
    return True


def look(peer, what, name=""):
    code, body = peer.call(QUERY, pb(1, what, 2, name))
    need(not code, f"a question is refused: {code}")
    n = at = 0
    while True:  # the text's length
        n |= (body[1 + at] & 127) << 7 * at
        at += 1
        if body[at] < 128:
            break
    return json.loads(body[1 + at:1 + at + n])


def few_files():
    """128 open files, 300 silent connections over TCP and 100 over ipc: who is known goes on, a newcomer is answered, a blob is taken."""
    d = Daemon(files=128)
    held = []
    try:
        known = Peer(d.path, "owner")
        for i in range(400):
            try:
                if i % 4:
                    held.append(socket.create_connection(d.tcp, 0.2))
                else:
                    s = socket.socket(socket.AF_UNIX)
                    s.settimeout(0.2)
                    s.connect(d.path)
                    held.append(s)
            except OSError:
                pass
            if i % 50 == 0:
                look(known, LIST)
        need(d.alive(), "cinchd has ended")
        look(known, LIST)
        newcomer = Peer(d.path, "newcomer")
        look(newcomer, LIST)
        code, _ = newcomer.call(BLOB_PUT, pb(1, os.urandom(32), 2, 10, 3, 0), b"12345")
        need(not code, f"a blob is refused: {code}")
    finally:
        for s in held:
            s.close()
        d.stop()


def who_says_too_much_before_hello(d):
    for frames, words in ([(b"x" * 200000, False)], "a large frame"), ([(b"x" * 1000, True)] * 300, "many frames"):
        p = Peer(d.path)
        try:
            for f, more in frames:
                p.s.sendall(frame(f, more))
        except OSError:
            pass
        need(ended(p.s, 5), f"{words} before hello: the connection is kept")
    p = Peer(d.path)
    code, _ = p.call(QUERY, pb(1, LIST))
    need(code, "a question before hello is answered")
    p.call(HELLO, pb(1, 1, 2, "test", 3, "late"))
    look(p, LIST)


def come_and_go(d, times):
    watcher = Peer(d.path, "watcher")
    before = look(watcher, STATUS)["connections"]
    for _ in range(times):
        Peer(d.path, "guest").close()
    for _ in range(100):
        now = look(watcher, STATUS)["connections"]
        if now == before:
            return
        time.sleep(0.05)
    raise SystemExit(f"{now - before} connections that have ended keep their places")


def a_last_message_counts(d):
    p = Peer(d.path, "hasty")
    p.ask(SUBMIT, submit([1], paused=True, name="farewell"))
    p.close()
    q = Peer(d.path, "patient")
    for _ in range(100):
        if any(r["name"] == "farewell" for r in look(q, LIST)["runs"]):
            return
        time.sleep(0.05)
    raise SystemExit("a message sent right before leaving is lost")


def turns(d):
    """A client asks for a thousand long lists and takes them; another one's short question is not the last."""
    owner = Peer(d.path, "owner")
    code, answer = owner.call(SUBMIT, submit(range(2000), paused=True, name="long"))
    need(not code, f"a grid is refused: {answer}")
    greedy = Peer(d.path, "greedy")
    for _ in range(100):
        greedy.ask(QUERY, pb(1, JOBS, 2, "long"))
    other = Peer(d.path, "other")
    look(other, LIST)
    greedy.s.setblocking(False)
    got = len(greedy.buf)
    try:
        while True:
            got += len(greedy.s.recv(MB))
    except BlockingIOError:
        pass
    need(got < 50 * 2000 * 100, "the short question waited for the long lists")


def slow_ones(d):
    """What only time shows: opened first, looked at last. Returns the look."""
    silent = socket.create_connection(d.tcp)
    half = Peer(d.path)
    half.s.sendall(frame(head(HELLO), True) + frame(b"x" * 1000)[:500])
    unread = Peer(d.path, "unread")
    for _ in range(40):
        unread.ask(QUERY, pb(1, JOBS, 2, "long"))
    unfinished = Peer(d.path, "unfinished")
    unfinished.s.sendall(frame(head(QUERY), True) + frame(bytes(MB))[:MB // 2])

    def later():
        need(ended(silent, 15), "a silent connection is kept")
        need(ended(half.s, 15), "half a hello is waited for")
        need(ended(unfinished.s, 30), "half a message is waited for")
        time.sleep(max(0, began + 26 - time.monotonic()))
        need(ended(unread.s, 5), "who does not take its replies is kept")

    began = time.monotonic()
    return later


def main():
    few_files()
    d = Daemon()
    try:
        turns(d)
        later = slow_ones(d)
        who_says_too_much_before_hello(d)
        come_and_go(d, 500)
        a_last_message_counts(d)
        later()
        need(d.alive(), "cinchd has ended")
        print("silent, half, greedy and hasty connections: each got what it should, nobody else was harmed")
    finally:
        d.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
