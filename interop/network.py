"""Networks that a test can cut: links, addresses and routes that are gone with the test, however it ends."""

import ctypes
import itertools
import os
import subprocess

from common import need, run

CLONE_NEWNET = 0x4000_0000


def private():
    """From here on this process and its children have a network of their own, with loopback alone; for setUpModule."""
    need("ip")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network of its own (needs root)")
    run("ip", "link", "set", "lo", "up")


class Namespace:
    """A network namespace, and a line to it. Only the name could outlive a test that was killed."""

    numbers = itertools.count(1)

    def __init__(self):
        n = next(self.numbers)
        self.name, self.line = f"pillarbox-{os.getpid()}-{n}", f"pb{n}"
        self.outside, self.inside = f"10.99.{n}.1", f"10.99.{n}.2"
        self.remove()
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.line, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "addr", "add", f"{self.outside}/30", "dev", self.line)
        run("ip", "link", "set", self.line, "up")
        for words in (("addr", "add", f"{self.inside}/30", "dev", "eth0"), ("link", "set", "lo", "up"), ("link", "set", "eth0", "up"),
                      ("route", "add", "default", "via", self.outside)):
            self.ip(*words)

    def ip(self, *words):
        run("ip", "-n", self.name, *words)

    def within(self, *command):
        """The command, to be run in it."""
        return ["ip", "netns", "exec", self.name, *command]

    def block(self, port, verb="add"):
        self.ip("rule", verb, "pref", "10", "ipproto", "tcp", "dport", str(port), "unreachable")

    def unblock(self, port):
        self.block(port, "del")

    def cut_off(self, address=None):
        """From this address alone, or from all."""
        self.ip("route", "add", "blackhole", f"{address}/32") if address else run("ip", "link", "set", self.line, "down")

    def join(self, address=None):
        self.ip("route", "del", "blackhole", f"{address}/32") if address else run("ip", "link", "set", self.line, "up")

    def remove(self):
        subprocess.run(["ip", "link", "del", self.line], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "del", self.name], stderr=subprocess.DEVNULL)
