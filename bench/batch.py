#!/usr/bin/env python3
"""How long a batch takes to be accepted, and how much memory the server has meanwhile; then how fast it is fed and sent.

    bench/batch.py [--rows 100000] [--template 2048] [--runs 3] [--binary PATH] [--send]

The body is made before the clock starts and posted over loopback in pieces; the clock stops at the 202, which comes after the batch
is durable. Memory is the largest resident size (VmHWM), reset before each run, so it covers the upload alone. Without --send all
rows wait for tomorrow; with it they go to smtp-sink and the time until the last one is delivered is told as well.
Goals: 100,000 rows in under 5 s and under 200 MiB resident.
"""

import argparse
import http.client
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from relays import free_port, wait_banner

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
GOAL_S, GOAL_MIB = 5, 200


class Server:
    """A server of its own with the sender and key of its first start."""

    def __init__(self, binary, place):
        self.binary, self.place = binary, place
        (place / "pillarbox.toml").write_text(
            f'hostname = "relay.bench.test"\ndata_dir = "data"\n[http]\naddress = "127.0.0.1:{free_port()}"\n'
            f'[[listener]]\nname = "smtp"\naddress = "127.0.0.1:{free_port()}"\n')
        self.process = subprocess.Popen([binary, "serve", "--config", "pillarbox.toml"], cwd=place, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        self.key = self.http = None
        for line in self.process.stdout:
            words = line.split()
            if line.strip().startswith("API key"):
                self.key = words[-1]
            if words[:1] == ["HTTP"]:
                self.http = words[1].removeprefix("http://").rstrip(",")
            if line.strip() == "ready":
                break
        # Nobody else reads it, and a full pipe would stop the server.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def run(self, *command):
        subprocess.run([self.binary, *command, "--config", "pillarbox.toml"], cwd=self.place, check=True, stdout=subprocess.DEVNULL)

    def request(self, method, path, body=None, kind="application/json"):
        link = http.client.HTTPConnection(self.http, timeout=120)
        headers = {"authorization": f"Bearer {self.key}", "content-type": kind}
        link.request(method, f"/api/v1{path}", body, headers, encode_chunked=body is not None and not isinstance(body, bytes))
        answer = link.getresponse()
        return answer.status, json.loads(answer.read())

    def memory(self, what):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return round(next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what)) / 1024, 1)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)


def body(rows, template, later):
    text = ("Dear {{ name }}, your plan is {{ plan }} and your number {{ number }}.\n" + "x" * 70 + "\n") * (template // 140 + 1)
    header = {"from": "Bench <app@bench.test>", "template": {"subject": "For {{ name }}", "text": text[:template],
                                                              "html": f"<p>{text[:template]}</p>"}}
    # A template cut in the middle of a field would not be one.
    for name in ("text", "html"):
        cut = header["template"][name]
        if cut.rfind("{{") > cut.rfind("}}"):
            header["template"][name] = cut[:cut.rfind("{{")]
    if later:
        header["send_at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
    lines = [json.dumps(header)]
    lines += (json.dumps({"email": f"user{n}@d{n % 500}.bench.test", "name": f"Person {n}", "plan": "gold", "number": n})
              for n in range(rows))
    return ("\n".join(lines) + "\n").encode()


def accept(server, octets):
    pathlib.Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    cpu, start = server.cpu(), time.monotonic()
    status, answer = server.request("POST", "/batches", octets, "application/x-ndjson")
    took = time.monotonic() - start
    if status != 202:
        raise RuntimeError(f"{status}: {json.dumps(answer)[:500]}")
    return answer["id"], dict(accept_s=round(took, 2), cpu_s=round(server.cpu() - cpu, 2), peak_mib=server.memory("VmHWM:"))


def sent(server, batch, rows):
    start = time.monotonic()
    while True:
        states = server.request("GET", f"/batches/{batch}")[1]["rows"]
        if states.get("delivered", 0) == rows:
            took = time.monotonic() - start
            return dict(sent_s=round(took, 1), sent_per_s=round(rows / took), peak_sending_mib=server.memory("VmHWM:"))
        time.sleep(0.5)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--template", type=int, default=2048, help="octets of each body")
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--binary", type=pathlib.Path, default=REPOSITORY / "target" / "release" / "pillarbox")
    options.add_argument("--send", action="store_true")
    args = options.parse_args()
    octets = body(args.rows, args.template, later=not args.send)
    print(f"{args.rows} rows, {len(octets) / 1e6:.1f} MB to upload, {args.template} octets each body")
    results = []
    for _ in range(args.runs):
        place = pathlib.Path(tempfile.mkdtemp(prefix="pillarbox-batch-"))
        sink = None
        try:
            server = Server(args.binary, place)
            try:
                if args.send:
                    port = free_port()
                    sink = subprocess.Popen(["smtp-sink", "-u", "nobody", "-m", "1000", f"127.0.0.1:{port}", "2000"])
                    wait_banner(port)
                    server.run("route", "add", "sink", "--smarthost", f"127.0.0.1:{port}", "--tls", "none", "--default")
                idle = server.memory("VmRSS:")
                batch, result = accept(server, octets)
                result["idle_mib"] = idle
                if args.send:
                    result.update(sent(server, batch, args.rows))
                result["data_mib"] = round(sum(f.stat().st_size for f in (place / "data").rglob("*") if f.is_file()) / 2**20, 1)
                print(json.dumps(result))
                results.append(result)
            finally:
                server.stop()
        finally:
            if sink:
                sink.terminate()
                sink.wait()
            shutil.rmtree(place, ignore_errors=True)
    seconds = statistics.median(result["accept_s"] for result in results)
    memory = max(result["peak_mib"] for result in results)
    print(f"accepted in {seconds} s (goal: under {GOAL_S}), {memory} MiB resident at most (goal: under {GOAL_MIB})")
    return 0 if seconds < GOAL_S and memory < GOAL_MIB else 1


if __name__ == "__main__":
    sys.exit(main())
