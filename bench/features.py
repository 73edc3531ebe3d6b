#!/usr/bin/env python3
"""What a feature costs on the way of a message: the same load with and without it, in turns, in one run.

    bench/features.py [--runs 5] [--messages 20000] [--only plain,limits,...] [--against path/to/older/pillarbox]

100 kept-open sessions of `smtp-source`, 4 KiB messages, to `smtp-sink`, as the cell `kept-open` of run.py. The rate moves with what
else the machine does; CPU per message hardly does, and is what the percentages are of. `--against` adds a column for another binary.
Needs root and Debian's Postfix package for source and sink. Results: target/bench/features.jsonl.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import tempfile
import threading
import time

import relays
import run


class Plain(relays.Pillarbox):
    """Without any of it."""

    name = "plain"

    def configure(self):
        super().configure()
        self.start()
        self.switch_on()
        self.stop()

    def switch_on(self):
        pass


class Limits(Plain):
    """Windows of all lengths, too wide to ever stop a message."""

    name = "limits"

    def switch_on(self):
        every = [word for unit in ("second", "minute", "hour", "day") for word in (f"--per-{unit}", "9000000")]
        self.cli("route", "set", "sink", *every, "--recipients-per-day", "90000000")


class Signed(Plain):
    """Each message signed twice, RSA-2048 and Ed25519."""

    name = "signed"

    def switch_on(self):
        self.cli("dkim", "add", "source.bench.test")
        self.cli("dkim", "activate", "source.bench.test", "--force")


class Suppressed(Plain):
    """100,000 other addresses are suppressed."""

    name = "suppressions"

    def switch_on(self):
        table = self.dir / "suppressed.csv"
        table.write_text("address,reason\n" + "".join(f"gone{n}@elsewhere.bench.test,unknown-user\n" for n in range(100_000)))
        self.cli("suppression", "import", table)


class Watched(Plain):
    """50 people look at pages that change by themselves, ten at each of five."""

    name = "watchers"
    PAGES = ("/admin/overview", "/admin/processing-center", "/admin/incidents", "/admin/jobs", "/admin/captured")
    links = None

    def switch_on(self):
        self.links = []

    def start(self):
        super().start()
        if self.links is None:
            return
        address = re.search(r'address = "(127[^"]+)"', self.config.read_text())[1]
        form = "token=" + self.cli("login").decode().strip()
        link = http.client.HTTPConnection(address, timeout=30)
        link.request("POST", "/login", form, {"Origin": f"http://{address}", "Content-Type": "application/x-www-form-urlencoded"})
        cookie = link.getresponse().headers["Set-Cookie"].split(";")[0]
        for n in range(50):
            host, port = address.split(":")
            watcher = socket.create_connection((host, int(port)), 30)
            at = self.PAGES[n % len(self.PAGES)]
            watcher.sendall(f"GET /admin/live?at={at} HTTP/1.1\r\nHost: {address}\r\nCookie: {cookie}\r\n\r\n".encode())
            if b" 200 " not in watcher.recv(65536).split(b"\r\n")[0]:
                raise RuntimeError(f"{at} is not watched")
            self.links.append(watcher)
            threading.Thread(target=self.read, args=(watcher,), daemon=True).start()

    @staticmethod
    def read(watcher):
        with contextlib.suppress(OSError):
            watcher.settimeout(None)
            while watcher.recv(65536):
                pass

    def stop(self):
        for watcher in self.links or []:
            with contextlib.suppress(OSError):
                watcher.shutdown(socket.SHUT_RDWR)
            watcher.close()
        if self.links:
            self.links = []
        super().stop()


KINDS = [Plain, Limits, Signed, Suppressed, Watched]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--only", default=",".join(kind.name for kind in KINDS))
    parser.add_argument("--against", help="another binary, run without any feature")
    options = parser.parse_args()
    if os.getuid() != 0 or not shutil.which("smtp-source"):
        raise SystemExit("features: needs root, and Postfix's smtp-source and smtp-sink: apt-get install --no-install-recommends postfix")
    place = pathlib.Path(tempfile.mkdtemp(prefix="pillarbox-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp")))
    sink_port = relays.free_port()
    everything = [kind(place, sink_port) for kind in KINDS if kind.name in options.only.split(",")]
    if options.against:
        binary = pathlib.Path(options.against).resolve()
        Other = type("Other", (Plain,), dict(name="other", executable=binary))
        everything.append(Other(place, sink_port))
    rows = []
    run.OUT.mkdir(parents=True, exist_ok=True)
    try:
        with open(run.OUT / "features.jsonl", "a") as file:
            for turn in range(options.runs):
                for relay in everything if turn % 2 == 0 else everything[::-1]:
                    run.with_sink(relay, sink_port, lambda sink: rows.append(dict(
                        feature=relay.name, run=turn, when=time.strftime("%F %T"),
                        **run.load(relay, sink, 100, True, 1, options.messages))), True)
                    file.write(json.dumps(rows[-1]) + "\n")
                    print(json.dumps(rows[-1]), flush=True)
    finally:
        for relay in everything:
            relay.stop()
        shutil.rmtree(place, ignore_errors=True)
    middle = lambda name, key: statistics.median(row[key] for row in rows if row["feature"] == name)
    base = everything[0].name
    runs = {(row["feature"], row["run"]): row for row in rows}

    def beside(name, key):
        """How much more than the first in the same turn, percent: the middle, and between which values."""
        changes = sorted((runs[name, turn][key] / runs[base, turn][key] - 1) * 100 for turn in range(options.runs))
        return f"{statistics.median(changes):+.1f} % ({changes[0]:+.1f} to {changes[-1]:+.1f})"

    print("\n| feature | messages/s | CPU s per 1,000 | messages/s, beside the first in the same turn | CPU, the same |\n|---|---|---|---|---|")
    for relay in everything:
        print(f"| {relay.name} | {middle(relay.name, 'per_s'):,.0f} | {middle(relay.name, 'cpu_per_1000'):.3f}"
              f" | {beside(relay.name, 'per_s')} | {beside(relay.name, 'cpu_per_1000')} |")
    if any(row["arrived"] != row["messages"] for row in rows):
        raise SystemExit("features: messages are missing")


if __name__ == "__main__":
    main()
