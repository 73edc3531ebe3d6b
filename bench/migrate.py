#!/usr/bin/env python3
"""Moving to PostgreSQL: how long a copy takes while the server works, and how long nobody takes mail then.

    bench/migrate.py [--messages 1000000] [--meanwhile 10000] [--binary target/release/pillarbox] [--place DIRECTORY]

The stock of `bench/pages.py` is in the embedded store of a server. `pillarbox migrate` copies it while the server works, more messages
come in, the server stops, and the same command moves the rest, counts and checks all. PostgreSQL is Debian's, in a throw-away
cluster on this machine, durable (fsync on). Needs root. Prints one JSON object; exit code 1: something did not move.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import types

import relays
import stock
from nodes import SERVER

sys.path.insert(0, str(relays.REPOSITORY / "interop"))
from cluster import Postgres  # noqa: E402


def move(relay, url, expected):
    """Gives what it said, seconds, CPU seconds and MiB it took at most."""
    began = time.monotonic()
    process = subprocess.Popen([relay.binary, "migrate", "--from", f"sqlite:{relay.dir / 'data'}", "--to", url, "--json"], stdout=subprocess.PIPE)
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - began
    if process.returncode != expected:
        raise SystemExit(f"exit code {process.returncode}: {said.decode()}")
    told = json.loads(said)
    rows = sum(told["tables"].values())
    return dict(seconds=round(took, 1), cpu_s=round(used.ru_utime + used.ru_stime, 1), mib=used.ru_maxrss // 1024, rows=rows,
                written=told["rows_written"], removed=told["rows_removed"], content_mib=round(told["content_octets"] / 2**20, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--meanwhile", type=int, default=10_000)
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--place", type=pathlib.Path)
    wanted = parser.parse_args()
    stock.Relay.executable = wanted.binary
    with tempfile.TemporaryDirectory(dir=wanted.place or "/var/tmp") as scratch:
        place = types.SimpleNamespace(path=pathlib.Path(scratch))
        os.chmod(scratch, 0o755)
        relay, pg = stock.Relay(place.path, wanted.messages), Postgres(place, "pg", settings=SERVER)
        try:
            pg.start().sql("CREATE DATABASE moved", "postgres")
            url = f"postgres://pillarbox@127.0.0.1:{pg.port}/moved?sslmode=disable"
            print(f"filled in {relay.fill():.0f} s", file=sys.stderr, flush=True)
            result = dict(messages=wanted.messages, meanwhile=wanted.meanwhile, copied=move(relay, url, 1))
            last = wanted.messages + wanted.meanwhile
            with multiprocessing.Pool(4) as pool:
                pool.starmap(stock.fill, [(relay.port, wanted.messages + part, 4, last) for part in range(4)])
            relay.stop()
            result["rest"] = move(relay, url, 0)
            result["kept_mib"] = round(sum(path.stat().st_size for path in (relay.dir / "data").rglob("*") if path.is_file()) / 2**20)
        finally:
            relay.stop()
            pg.stop()
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
