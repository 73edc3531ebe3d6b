#!/usr/bin/env python3
"""How fast an urgent message leaves while bulk waits on the same route.

    bench/priority.py [--bulk 500000] [--urgent 500] [--connections 20] [--took-ms 50] [--limit-ms 250]

Bulk messages are queued for one smart host; then urgent ones come in, one after the other, and the time from the relay's 250 to the
final dot at the smart host is taken. The smart host is our own: it takes --connections connections and answers each message after
--took-ms, so it gives about connections * 1000 / took_ms messages a second, and bulk is left at the end. While the queue is filled it
takes a second a message. Uses target/release/pillarbox, or PILLARBOX=path. Exit code 1: p99 is not under --limit-ms. The result is
appended to target/bench/priority.jsonl.
"""

import argparse
import json
import multiprocessing
import pathlib
import socket
import tempfile
import threading
import time

import relays

OUT = relays.REPOSITORY / "target" / "bench"
URGENT = b"X-Urgent: "
CLIENTS = 4


def sink(listening, took, arrived, counted):
    """Takes mail, each message after a while; tells of urgent ones with the time of their final dot."""

    def serve(link):
        with link:
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lines = link.makefile("rb")
            link.sendall(b"220 sink.bench.test\r\n")
            while line := lines.readline():
                word = line[:4].upper()
                if word == b"EHLO":
                    link.sendall(b"250-sink.bench.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                elif word == b"QUIT":
                    link.sendall(b"221 bye\r\n")
                    return
                elif word == b"DATA":
                    link.sendall(b"354 go on\r\n")
                    mark = None
                    while (line := lines.readline()) not in (b".\r\n", b""):
                        if line.startswith(URGENT):
                            mark = int(line[len(URGENT):])
                    if not line:
                        return
                    if mark is not None:
                        arrived.put((mark, time.monotonic()))
                    with counted.get_lock():
                        counted.value += 1
                    time.sleep(took.value / 1000)
                    link.sendall(b"250 2.0.0 taken\r\n")
                else:
                    link.sendall(b"250 2.0.0 ok\r\n")

    while True:
        link, _ = listening.accept()
        threading.Thread(target=serve, args=(link,), daemon=True).start()


class Client:
    """Submits by SMTP on one connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lines = self.socket.makefile("rb")
        self.reply(b"2")
        self.ask(b"EHLO client.bench.test\r\n")

    def reply(self, wanted):
        while (line := self.lines.readline())[3:4] == b"-":
            pass
        if line[:1] != wanted:
            raise RuntimeError(f"answered {line!r}")

    def ask(self, line, wanted=b"2"):
        self.socket.sendall(line)
        self.reply(wanted)

    def submit(self, stream, header=b""):
        self.socket.sendall(b"MAIL FROM:<s@source.bench.test>\r\nRCPT TO:<r@dest.bench.test>\r\nDATA\r\n")
        self.reply(b"2")
        self.reply(b"2")
        self.reply(b"3")
        self.ask(b"X-Pillarbox-Stream: " + stream + b"\r\n" + header + b"Subject: bench\r\n\r\n" + b"x" * 70 + b"\r\n.\r\n")


def fill(port, count):
    each = [count // CLIENTS + (n < count % CLIENTS) for n in range(CLIENTS)]

    def some(share):
        client = Client(port)
        for _ in range(share):
            client.submit(b"bulk")

    threads = [threading.Thread(target=some, args=(share,)) for share in each]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def waiting(relay):
    counts = json.loads(relay.cli("queue", "counts", "--by", "stream", "--json"))
    return sum(count["pending"] for count in counts["items"] if count["group"] == "bulk")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bulk", type=int, default=500_000)
    parser.add_argument("--urgent", type=int, default=500)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--took-ms", type=int, default=50)
    parser.add_argument("--every-ms", type=int, default=40)
    parser.add_argument("--limit-ms", type=float, default=250)
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    listening = socket.create_server(("127.0.0.1", 0), backlog=200)
    took, counted = multiprocessing.Value("i", 1000), multiprocessing.Value("q", 0)
    arrived = multiprocessing.Queue()
    process = multiprocessing.Process(target=sink, args=(listening, took, arrived, counted), daemon=True)
    process.start()
    with tempfile.TemporaryDirectory(prefix="priority-") as directory:
        relay = relays.Pillarbox(pathlib.Path(directory), listening.getsockname()[1])
        try:
            result = measure(relay, options, took, counted, arrived)
        finally:
            relay.stop()
            process.terminate()
    print(json.dumps(result))
    with open(OUT / "priority.jsonl", "a") as file:
        file.write(json.dumps(result) + "\n")
    raise SystemExit(0 if result["p99_ms"] < options.limit_ms and not result["lost"] else 1)


def measure(relay, options, took, counted, arrived):
    relay.start()
    relay.cli("route", "set", "sink", "--connections", options.connections)
    relay.cli("stream", "add", "urgent", "--priority", "urgent")
    relay.cli("stream", "add", "bulk", "--priority", "bulk")
    start = time.monotonic()
    fill(relay.port, options.bulk)
    filled = time.monotonic() - start
    took.value = options.took_ms
    # Until the last slow answers are given.
    time.sleep(1.5)
    before, sent, accepted = waiting(relay), counted.value, {}
    client = Client(relay.port)
    measured = time.monotonic()
    for n in range(options.urgent):
        client.submit(b"urgent", URGENT + str(n).encode() + b"\r\n")
        accepted[n] = time.monotonic()
        time.sleep(options.every_ms / 1000)
    latencies, deadline = [], time.monotonic() + 30
    while len(latencies) < options.urgent and (left := deadline - time.monotonic()) > 0:
        try:
            n, at = arrived.get(timeout=left)
        except Exception:  # queue.Empty
            break
        latencies.append(max(0.0, (at - accepted[n]) * 1000))
    measured = time.monotonic() - measured
    latencies.sort()

    def part(share):
        return round(latencies[min(len(latencies) - 1, int(len(latencies) * share))], 1)

    return dict(bulk=options.bulk, waiting_before=before, waiting_after=waiting(relay), fill_per_s=round(options.bulk / filled),
                urgent=options.urgent, lost=options.urgent - len(latencies), route_per_s=round((counted.value - sent) / measured, 1),
                p50_ms=part(0.5), p90_ms=part(0.9), p99_ms=part(0.99), max_ms=part(1.0))


if __name__ == "__main__":
    main()
