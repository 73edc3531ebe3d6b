#!/usr/bin/env python3
"""Pillarbox beside Debian's Postfix, in one run, on this machine.

    bench/run.py [--only CELL[,CELL]] [--runs 3] [--scale 1.0] [--postfix-only | --pillarbox-only]

smtp-source -> relay -> smtp-sink over loopback, 4 KiB messages, both relays durable before their 250. The relays take turns, so
that what else happens on the machine happens to both. Needs root (Postfix does) and the binary target/release/pillarbox.
FULL=1 queues 1,000,000 messages instead of 100,000. BENCH_DIR=path puts the queues on another disk. Results: target/bench/results.jsonl and report.md beside it.

CPU is user + system time of all of a relay's processes, ended ones included, read from /proc.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

import relays
from relays import wait_banner

HERE = pathlib.Path(__file__).resolve().parent
OUT = HERE.parent / "target" / "bench"
SIZE = 4096

# name: sessions, kept open, recipients, messages for Postfix, messages for Pillarbox
LOADS = {
    "kept-open": (100, True, 1, 5000, 30000),
    "connection-each": (100, False, 1, 4000, 16000),
    "50-recipients": (20, True, 50, 600, 4000),
}


class Sink:
    """smtp-sink, which counts what it has taken."""

    def __init__(self, port):
        self.port = port
        self.file = tempfile.TemporaryFile(dir="/dev/shm")
        self.process = subprocess.Popen(["smtp-sink", "-u", "nobody", "-c", "-m", "1000", f"127.0.0.1:{port}", "2000"],
                                        stdout=self.file, stderr=subprocess.STDOUT)
        wait_banner(port)

    def count(self):
        size = os.fstat(self.file.fileno()).st_size
        tail = os.pread(self.file.fileno(), 512, max(0, size - 512))
        _, found, rest = tail.rpartition(b"mesg=")
        digits = rest[: len(rest) - len(rest.lstrip(b"0123456789"))]
        return int(digits) if found and digits else 0

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.file.close()


def source(port, sessions, keep, recipients, messages):
    command = ["smtp-source", "-s", str(sessions), "-m", str(messages), "-l", str(SIZE), "-M", "source.bench.test",
               "-f", "sender@source.bench.test", "-t", "rcpt@dest.bench.test", "-r", str(recipients)]
    return subprocess.Popen([*command, *(["-d"] if keep else []), f"127.0.0.1:{port}"],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def load(relay, sink, sessions, keep, recipients, messages):
    """One run: from the first connection to the last message in the sink."""
    base, cpu, start = sink.count(), relay.cpu(), time.monotonic()
    process = source(relay.port, sessions, keep, recipients, messages)
    accepted = last = None
    seen = 0
    while True:
        now = time.monotonic()
        if accepted is None and process.poll() is not None:
            accepted = now
        count = sink.count() - base
        if count != seen:
            seen, last = count, now
        if count >= messages and accepted is not None:
            break
        if accepted is not None and now - max(last or start, accepted) > 30:
            break
        time.sleep(0.01)
    said = process.stdout.read().decode("latin1").strip()[-300:]
    took = (last or accepted) - start
    return dict(messages=messages, arrived=seen, accept_per_s=round(messages / (accepted - start), 1),
                per_s=round(seen / took, 1), cpu_per_1000=round((relay.cpu() - cpu) / messages * 1000, 3), said=said)


def latency(relay, messages=400):
    """One client, one message after the other on one connection: MAIL to the 250 after the dot."""
    took = []
    content = b"Subject: latency\r\n\r\n" + (b"x" * 70 + b"\r\n") * 56 + b".\r\n"
    with socket.create_connection(("127.0.0.1", relay.port), 30) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = s.makefile("rb")

        def ask(line):
            s.sendall(line)
            while (reply := link.readline())[3:4] == b"-":
                pass
            if not reply[:1] in b"23":
                raise RuntimeError(f"{line[:40]!r} was answered {reply!r}")

        link.readline()
        ask(b"EHLO latency.bench.test\r\n")
        for n in range(messages + 50):
            start = time.perf_counter()
            ask(b"MAIL FROM:<sender@source.bench.test>\r\n")
            ask(b"RCPT TO:<rcpt@dest.bench.test>\r\n")
            ask(b"DATA\r\n")
            ask(content)
            if n >= 50:
                took.append((time.perf_counter() - start) * 1000)
            time.sleep(0.002)
    took.sort()
    return dict(messages=messages, p50_ms=round(took[len(took) // 2], 2), p99_ms=round(took[int(len(took) * 0.99)], 2))


def queued(relay, messages, sink_port):
    """Memory idle, then with a queue that cannot leave; then start-up with that queue, and its first page."""
    relay.start()
    result = dict(messages=messages)
    try:
        time.sleep(2)
        result["idle_mib"] = relay.memory()
        start = time.monotonic()
        process = source(relay.port, 50, True, 1, messages)
        process.wait()
        result.update(fill_s=round(time.monotonic() - start, 1), said=process.stdout.read().decode("latin1").strip()[-300:])
        time.sleep(5)
        result["queued_mib"] = relay.memory()
        pages = []
        for _ in range(5):
            start = time.monotonic()
            relay.first_page("dest.bench.test")
            pages.append((time.monotonic() - start) * 1000)
        result["page_ms"] = round(statistics.median(pages), 1)
    finally:
        start = time.monotonic()
        relay.stop()
        result["stop_s"] = round(time.monotonic() - start, 2)
    sink = Sink(sink_port)
    try:
        start = time.monotonic()
        relay.start()
        result["ready_s"] = round(time.monotonic() - start, 2)
        while sink.count() == 0 and time.monotonic() - start < 120:
            time.sleep(0.005)
        result["first_delivery_s"] = round(time.monotonic() - start, 2) if sink.count() else None
        result["started_mib"] = relay.memory()
    finally:
        relay.stop()
        sink.stop()
        relay.purge()
    return result


class Results:
    def __init__(self):
        OUT.mkdir(parents=True, exist_ok=True)
        self.rows = []
        self.file = open(OUT / "results.jsonl", "a")

    def add(self, relay, cell, result):
        row = dict(relay=relay.name, cell=cell, when=time.strftime("%F %T"), **result)
        self.rows.append(row)
        self.file.write(json.dumps(row) + "\n")
        self.file.flush()
        print(json.dumps(row), flush=True)

    def median(self, relay, cell, key):
        values = [row[key] for row in self.rows if row["relay"] == relay and row["cell"] == cell and row.get(key) is not None]
        return statistics.median(values) if values else None

    def report(self):
        lines = ["| what | Postfix, tuned | Pillarbox | ratio |", "|---|---|---|---|"]
        show = lambda value: "-" if value is None else f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
        for title, cell, key, invert in TABLE:
            ours, theirs = self.median("pillarbox", cell, key), self.median("postfix", cell, key)
            if ours is None and theirs is None:
                continue
            ratio = None if not ours or not theirs else theirs / ours if invert else ours / theirs
            lines.append(f"| {title} | {show(theirs)} | {show(ours)} | {'-' if ratio is None else f'{ratio:.1f}'} |")
        text = "\n".join(lines) + "\n"
        (OUT / "report.md").write_text(text)
        return text


# title, cell, key, smaller is better (then the ratio is turned round: above 1 is always in our favour)
TABLE = [
    ("100 sessions kept open, messages/s", "kept-open", "per_s", False),
    ("... CPU s per 1,000", "kept-open", "cpu_per_1000", True),
    ("100 sessions, a connection each, messages/s", "connection-each", "per_s", False),
    ("... CPU s per 1,000", "connection-each", "cpu_per_1000", True),
    ("50 recipients a message, messages/s", "50-recipients", "per_s", False),
    ("... CPU s per 1,000", "50-recipients", "cpu_per_1000", True),
    ("accept latency p50, ms", "latency", "p50_ms", True),
    ("accept latency p99, ms", "latency", "p99_ms", True),
    ("queued messages in the cells below", "queued", "messages", False),
    ("memory idle, MiB", "queued", "idle_mib", True),
    ("memory with the queue, MiB", "queued", "queued_mib", True),
    ("memory after start-up with the queue, MiB", "queued", "started_mib", True),
    ("stop with the queue, s", "queued", "stop_s", True),
    ("start-up to the banner, s", "queued", "ready_s", True),
    ("start-up to the first delivery, s", "queued", "first_delivery_s", True),
    ("first page of the queue by domain, ms", "queued", "page_ms", True),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="kept-open,connection-each,50-recipients,latency,queued")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies all message counts")
    parser.add_argument("--postfix-only", action="store_true")
    parser.add_argument("--pillarbox-only", action="store_true")
    options = parser.parse_args()
    if os.getuid() != 0:
        raise SystemExit("bench: Postfix needs root")
    for tool in ("postfix", "smtp-source", "smtp-sink"):
        if not shutil.which(tool):
            raise SystemExit(f"bench: {tool} is missing: apt-get install --no-install-recommends postfix")
    cells = options.only.split(",")
    results = Results()
    place = pathlib.Path(tempfile.mkdtemp(prefix="pillarbox-bench-", dir=os.environ.get("BENCH_DIR", "/var/tmp")))
    place.chmod(0o755)
    sink_port = relays.free_port()
    kinds = [] if options.pillarbox_only else [relays.Postfix]
    kinds += [] if options.postfix_only else [relays.Pillarbox]
    everything = [kind(place, sink_port) for kind in kinds]
    try:
        for run in range(options.runs):
            for cell in [cell for cell in LOADS if cell in cells]:
                sessions, keep, recipients, *messages = LOADS[cell]
                for relay in everything:
                    count = max(200, int(messages[relay.name == "pillarbox"] * options.scale))
                    with_sink(relay, sink_port, lambda sink: results.add(
                        relay, cell, dict(run=run, **load(relay, sink, sessions, keep, recipients, count))), keep)
            if "latency" in cells:
                for relay in everything:
                    with_sink(relay, sink_port, lambda _: results.add(relay, "latency", dict(run=run, **latency(relay))), True)
        if "queued" in cells:
            for relay in everything:
                # Postfix would need a quarter of an hour and gigabytes for a million
                full = 1_000_000 if os.environ.get("FULL") else 100_000
                count = int((full if relay.name == "pillarbox" else 20_000) * options.scale)
                results.add(relay, "queued", queued(relay, count, sink_port))
        print("\n" + results.report())
    finally:
        for relay in everything:
            relay.stop()
        shutil.rmtree(place, ignore_errors=True)


def with_sink(relay, sink_port, act, keep):
    sink = Sink(sink_port)
    relay.start()
    try:
        load(relay, sink, 20, keep, 1, 300)
        act(sink)
    finally:
        relay.stop()
        sink.stop()


if __name__ == "__main__":
    main()
