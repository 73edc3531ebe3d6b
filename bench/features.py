#!/usr/bin/env python3
"""What a feature costs on the way of a message: the same load with and without it, in turns, in one run.

    bench/features.py [--runs 5] [--messages 20000] [--only plain,limits,...] [--against path/to/older/pillarbox]

100 kept-open sessions of `smtp-source`, 4 KiB messages, to `smtp-sink`, as the cell `kept-open` of run.py. The rate moves with what
else the machine does; CPU per message hardly does, and is what the percentages are of. `--against` adds a column for another binary.
Needs root and Debian's Postfix package for source and sink. Results: target/bench/features.jsonl.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import tempfile
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


KINDS = [Plain, Limits, Signed, Suppressed]


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
    print("\n| feature | messages/s | CPU s per 1,000 | CPU, beside the first |\n|---|---|---|---|")
    for relay in everything:
        cpu = middle(relay.name, "cpu_per_1000")
        change = (cpu / middle(base, "cpu_per_1000") - 1) * 100
        print(f"| {relay.name} | {middle(relay.name, 'per_s'):,.0f} | {cpu:.3f} | {change:+.1f} % |")
    if any(row["arrived"] != row["messages"] for row in rows):
        raise SystemExit("features: messages are missing")


if __name__ == "__main__":
    main()
