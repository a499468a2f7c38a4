"""The bad network that one of chaos.py's workers talks through.

Proxy works everywhere: a process of ours in between that delays by 200 ms, breaks connections and lets them hang. Wire puts the
worker into a network namespace behind a veth pair, where the kernel itself loses packets: with netem (200 ms and 5 %) where the kernel
has it, else with nft's random numbers (5 %), else with a token bucket whose queue is too short for a burst; the delay is then the
proxy's. Cutting the link leaves connections half-open at both ends. A Wire needs root and iproute2; `how` says what was used, or
what was missing.
"""
import collections
import os
import re
import shutil
import socket
import subprocess
import threading
import time

DELAY_S, LOSS_PERCENT = 0.2, 5
EASY = ("20mbit", 20000)  # a token bucket that loses only of bursts


class Proxy(threading.Thread):
    """A slow and unreliable cable: so many seconds each way, connections that break, connections that hang without a word."""

    def __init__(self, port, address="127.0.0.1", delay=DELAY_S):
        super().__init__(daemon=True)
        self.target, self.delay, self.hang_until, self.pairs = port, delay, 0.0, []
        self.listener = socket.create_server((address, 0))
        self.address, self.port = address, self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            near, _ = self.listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.pairs = [p for p in self.pairs if p[0].fileno() >= 0] + [(near, far)]
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    def pump(self, a, b):
        queue, ready = collections.deque(), threading.Condition()
        threading.Thread(target=self.deliver, args=(queue, ready, b), daemon=True).start()
        try:
            while data := a.recv(65536):
                with ready:
                    queue.append((time.monotonic() + self.delay, data))
                    ready.notify()
        except OSError:
            pass
        with ready:
            queue.append((0, b""))
            ready.notify()

    def deliver(self, queue, ready, to):
        while True:
            with ready:
                while not queue:
                    ready.wait()
                due, data = queue.popleft()
            if not data:
                to.close()
                return
            time.sleep(max(0.0, due - time.monotonic(), self.hang_until - time.monotonic()))
            try:
                to.sendall(data)
            except OSError:
                return

    def cut(self):
        for near, far in self.pairs:
            for s in (near, far):
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        self.pairs = []


def call(*argv):
    """None when it worked, else what it said."""
    try:
        r = subprocess.run(argv, capture_output=True, text=True)
    except OSError as e:
        return str(e)
    return None if r.returncode == 0 else (r.stderr or r.stdout).strip().split("\n")[0]


class Wire:
    """A namespace of its own behind a veth pair that loses packets. `prefix` runs a program inside; empty where there is none."""

    def __init__(self):
        pid = os.getpid()
        self.ns, self.near, self.far = f"cinch-chaos-{pid}", f"cv{pid}a", f"cv{pid}b"
        net = f"10.{213 + pid % 40}.{pid // 40 % 256}"
        self.address, self.delay, self.prefix, self.made = "127.0.0.1", DELAY_S, [], False
        self.tbf_for_good = self.can_choke = False
        if not shutil.which("ip"):
            self.how = "loopback and a proxy (no ip command: install iproute2)"
            return
        wrong = (call("ip", "netns", "add", self.ns)
                 or call("ip", "link", "add", self.near, "type", "veth", "peer", "name", self.far, "netns", self.ns)
                 or call("ip", "addr", "add", f"{net}.1/30", "dev", self.near) or call("ip", "link", "set", self.near, "up")
                 or call("ip", "-n", self.ns, "addr", "add", f"{net}.2/30", "dev", self.far)
                 or call("ip", "-n", self.ns, "link", "set", self.far, "up")
                 or call("ip", "-n", self.ns, "link", "set", "lo", "up"))
        self.made = True
        if wrong:
            self.destroy()
            self.how = f"loopback and a proxy (no network namespace: {wrong})"
            return
        self.address, self.prefix = f"{net}.1", ["ip", "netns", "exec", self.ns]
        self.how = "a namespace behind a veth pair, " + self.lose()

    def lose(self):
        """Makes the wire bad for good; says how."""
        netem = ["root", "netem", "delay", f"{int(DELAY_S * 1000)}ms", "loss", f"{LOSS_PERCENT}%"]
        no_netem = (call("tc", "qdisc", "add", "dev", self.near, *netem)
                    or call("tc", "-n", self.ns, "qdisc", "add", "dev", self.far, *netem))
        if not no_netem:
            self.delay = 0.0
            return f"netem with {int(DELAY_S * 1000)} ms and {LOSS_PERCENT} % loss each way"
        inside = ["ip", "netns", "exec", self.ns, "nft", "add"]
        drop = f"numgen random mod 100 < {LOSS_PERCENT} counter drop"
        no_nft = call(*inside, "table", "inet", "bad")
        for hook in ("input", "output"):
            no_nft = (no_nft or call(*inside, "chain", "inet", "bad", hook, f"{{ type filter hook {hook} priority 0 ; }}")
                      or call(*inside, "rule", "inet", "bad", hook, drop))
        if not no_nft:
            self.can_choke = not self.bucket(*EASY)
            self.choke(False)
            return f"{LOSS_PERCENT} % loss each way by nft, {int(DELAY_S * 1000)} ms by a proxy (no netem: {no_netem})"
        no_tbf = self.bucket(*EASY)
        if not no_tbf:
            self.tbf_for_good = self.can_choke = True
            return f"loss of bursts by tbf, {int(DELAY_S * 1000)} ms by a proxy (no netem: {no_netem}; no nft: {no_nft})"
        return f"without loss, {int(DELAY_S * 1000)} ms by a proxy (no netem: {no_netem}; no nft: {no_nft}; no tbf: {no_tbf})"

    def bucket(self, rate, limit):
        shape = ["root", "tbf", "rate", rate, "burst", "3000", "limit", str(limit)]
        return (call("tc", "qdisc", "replace", "dev", self.near, *shape)
                or call("tc", "-n", self.ns, "qdisc", "replace", "dev", self.far, *shape))

    def choke(self, on):
        """A rate at which queues overflow: what is sent in a burst is lost, the rest comes late."""
        if on or self.tbf_for_good:
            return self.bucket("256kbit", 6000) if on else self.bucket(*EASY)
        call("tc", "qdisc", "del", "dev", self.near, "root")
        call("tc", "-n", self.ns, "qdisc", "del", "dev", self.far, "root")
        return None

    def link(self, up):
        """Down: nothing passes and nobody is told, so that connections are half-open."""
        call("ip", "link", "set", self.near, "up" if up else "down")

    def lost(self):
        """How many packets were dropped on purpose so far, as the kernel counts."""
        counts = []
        for argv, pattern in ((["ip", "netns", "exec", self.ns, "nft", "list", "ruleset"], r"counter packets (\d+)"),
                              (["tc", "-s", "qdisc", "show", "dev", self.near], r"dropped (\d+)"),
                              (["tc", "-n", self.ns, "-s", "qdisc", "show", "dev", self.far], r"dropped (\d+)")):
            try:
                counts += re.findall(pattern, subprocess.run(argv, capture_output=True, text=True).stdout)
            except OSError:
                pass
        return sum(map(int, counts))

    def destroy(self):
        if self.made:
            call("ip", "link", "del", self.near)
            call("ip", "netns", "del", self.ns)
            self.made = False
