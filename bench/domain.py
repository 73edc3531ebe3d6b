#!/usr/bin/env python3
"""Audits the same generated domains with `pillarbox domain` and with checkdmarc, and prints the ratio of their times.

    python3 bench/domain.py --binary target/release/pillarbox [--domains 1000] [--rounds 3]

checkdmarc comes from PyPI into a temporary virtual environment. Both ask one name server on the loopback address that
answers from a table of finished packets; it has to be port 53 (checkdmarc takes no other), so this runs as root or with
CAP_NET_BIND_SERVICE. Nothing else is connected to: neither program tries mail hosts, and no domain has an MTA-STS record.

Each domain has SOA, NS, MX, addresses, SPF with two shared includes, DMARC and one DKIM key. Two forms of the audit are
timed: the parts checkdmarc has too (`same parts`), and the audit as it is by default with --file (`whole`), which tries
about fifty DKIM selectors more. Wall clock; the best of the rounds.
"""
import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import venv

ADDRESS = "127.0.0.77"
TYPES = {"A": 1, "NS": 2, "SOA": 6, "MX": 15, "TXT": 16, "AAAA": 28}
SAME_PARTS = "domain,mx,spf,dmarc,mta-sts,tls-rpt,dane,bimi"
KEY = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDTdOygxlt8JHl8deQ6MJdTWjqpUqKm1HMhCS4SftiBcqXpNaapi68M28SPgQDYVnofRTwAHEwmI+ZrubxFckUjMnoaufdWvoOhJvdT3MNM/Y8FCF1hSvUXPFhbG3RNpHgKl96eZYC1haXinlRNYdMuPPnku50T4KgT1OMbymX83wIDAQAB"


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split(".") if label) + b"\0"


def rdata(kind, value):
    if kind == "A":
        return socket.inet_aton(value)
    if kind == "MX":
        preference, host = value.split()
        return struct.pack("!H", int(preference)) + wire(host)
    if kind == "NS":
        return wire(value)
    if kind == "SOA":
        return wire("ns1." + value) + wire("hostmaster." + value) + struct.pack("!5I", 1, 7200, 900, 1209600, 3600)
    pieces = [value[at : at + 255].encode() for at in range(0, len(value), 255)]
    return b"".join(bytes([len(piece)]) + piece for piece in pieces)


def names(count):
    return [f"d{n:05}.example" for n in range(count)]


def records(count):
    yield "_spf.provider.example", "TXT", "v=spf1 ip4:192.0.2.0/24 ip4:198.51.100.0/24 -all"
    yield "_spf.other.example", "TXT", "v=spf1 include:_spf.provider.example ip4:203.0.113.0/24 -all"
    for name in names(count):
        yield name, "SOA", name
        for n in (1, 2):
            yield name, "NS", f"ns{n}.{name}"
            yield f"ns{n}.{name}", "A", f"192.0.2.{n}"
            yield name, "MX", f"{n}0 mx{n}.{name}"
            yield f"mx{n}.{name}", "A", f"198.51.100.{n}"
        yield name, "A", "203.0.113.7"
        yield name, "TXT", "v=spf1 mx a include:_spf.provider.example include:_spf.other.example -all"
        yield f"_dmarc.{name}", "TXT", f"v=DMARC1; p=reject; rua=mailto:dmarc@{name}"
        yield f"default._domainkey.{name}", "TXT", f"v=DKIM1; p={KEY}"


def serve(count):
    """Answers for ever: name and type in, everything behind the question out."""
    table, known = {}, set()
    for name, kind, value in records(count):
        data = rdata(kind, value)
        # The name is always at offset 12.
        record = b"\xc0\x0c" + struct.pack("!HHIH", TYPES[kind], 1, 300, len(data)) + data
        table.setdefault((wire(name), TYPES[kind]), []).append(record)
        while name:
            known.add(wire(name))
            name = name.partition(".")[2]
    answers = {key: (struct.pack("!4H", 1, len(found), 0, 0), b"".join(found)) for key, found in table.items()}
    soa = wire("example") + struct.pack("!HHIH", 6, 1, 300, 0)
    data = rdata("SOA", "example")
    soa = soa[:-2] + struct.pack("!H", len(data)) + data
    none = (struct.pack("!4H", 1, 0, 1, 0), soa)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((ADDRESS, 53))
    print("ready", flush=True)
    while True:
        query, peer = sock.recvfrom(1500)
        end = query.index(0, 12) + 1
        name = query[12:end].lower()
        kind = query[end] << 8 | query[end + 1]
        found = answers.get((name, kind))
        flags = b"\x85\x80" if found or name in known else b"\x85\x83"
        counts, rest = found or none
        sock.sendto(query[:2] + flags + counts + query[12 : end + 4] + rest, peer)


def timed(command, **more):
    began = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    took = time.monotonic() - began
    if done.returncode not in (0, 1):
        sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return took, done.stdout


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--binary", default="target/release/pillarbox")
    options.add_argument("--domains", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--concurrency", type=int, default=50)
    options.add_argument("--checkdmarc", help="one that is installed already")
    options.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.serve:
        serve(given.serve)
    with tempfile.TemporaryDirectory() as directory:
        checkdmarc = given.checkdmarc
        if not checkdmarc:
            venv.create(f"{directory}/venv", with_pip=True)
            subprocess.run([f"{directory}/venv/bin/pip", "-q", "install", "checkdmarc"], check=True)
            checkdmarc = f"{directory}/venv/bin/checkdmarc"
        listed = f"{directory}/domains.txt"
        with open(listed, "w") as file:
            file.write("\n".join(names(given.domains)) + "\n")
        server = subprocess.Popen([sys.executable, __file__, "--serve", str(given.domains)], stdout=subprocess.PIPE)
        try:
            if server.stdout.readline() != b"ready\n":
                sys.exit("the name server does not start (port 53 needs privileges)")
            run(given, checkdmarc, listed, directory)
        finally:
            server.terminate()
            server.wait()


def run(given, checkdmarc, listed, directory):
    config = f"{directory}/pillarbox.toml"
    with open(config, "w") as file:
        file.write(f'data_dir = "{directory}/data"\n')
    ours = [given.binary, "domain", "--config", config, "--file", listed, "--resolver", f"{ADDRESS}:53", "--json"]
    ours += ["--concurrency", str(given.concurrency)]
    forms = {"same parts": ours + ["--only", SAME_PARTS], "whole": ours}
    best = {}
    for _ in range(given.rounds):
        for form, command in forms.items():
            took, output = timed(command)
            lines = [json.loads(line) for line in output.splitlines()]
            healthy = sum(line["healthy"] for line in lines)
            if len(lines) != given.domains or healthy != given.domains:
                sys.exit(f"{len(lines)} results, {healthy} healthy, of {given.domains}: {output[:3000].decode()}")
            best[form] = min(took, best.get(form, took))
            print(f"pillarbox, {form}: {took:.2f} s", flush=True)
    environment = dict(os.environ, HTTP_PROXY="", HTTPS_PROXY="")
    theirs, output = timed([checkdmarc, listed, "-n", ADDRESS, "-f", "json"], env=environment)
    results = json.loads(output)
    valid = sum(one["spf"].get("valid", False) and one["dmarc"].get("valid", False) for one in results)
    print(f"checkdmarc: {theirs:.2f} s ({valid} of {len(results)} with valid SPF and DMARC)")
    for form, took in best.items():
        print(f"{form}: {took:.2f} s, {given.domains / took:.0f} domains a second, {theirs / took:.1f} times as fast")


if __name__ == "__main__":
    main()
