#!/usr/bin/env python3
"""Audits the same generated domains with `pillarbox domain` and with checkdmarc, and prints the ratio of their times.

    cargo build --release -p pillarbox && cargo build --release -p pillarbox-testkit --example flat_dns
    python3 bench/domain.py [--domains 1000] [--rounds 3]

checkdmarc comes from PyPI into a temporary virtual environment. Both ask one name server on the loopback address (the
example `flat_dns`: a table of finished packets); it has to be port 53 (checkdmarc takes no other), so this runs as root
or with CAP_NET_BIND_SERVICE. Before anything else the server is flooded, so that it is known not to be what is measured.
Nothing else is connected to: neither program tries mail hosts, and no domain has an MTA-STS record.

Each domain has SOA, NS, MX, addresses, SPF with two shared includes, DMARC and one DKIM key. Two forms of the audit are
timed: the parts checkdmarc has too (`same parts`), and the audit as it is by default with --file (`whole`), which has
DKIM, CAA and name servers besides. Wall clock and processor time of each; the ratio is that of the same round, because
machines are not equally busy all the time, and the median of the rounds is printed at the end.
"""
import argparse
import json
import os
import resource
import socket
import statistics
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


def write_table(count, path):
    with open(path, "w") as file:
        for name, kind, value in records(count):
            file.write(f"{name} {TYPES[kind]} {rdata(kind, value).hex()}\n")


def timed(command, **more):
    """Wall clock, processor time of the program, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        sys.exit(f"{command[0]} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, cpu, done.stdout


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--binary", default="target/release/pillarbox")
    options.add_argument("--domains", type=int, default=1000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--concurrency", type=int, default=50)
    options.add_argument("--checkdmarc", help="one that is installed already")
    options.add_argument("--flat-dns", default="target/release/examples/flat_dns")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        checkdmarc = given.checkdmarc
        if not checkdmarc:
            venv.create(f"{directory}/venv", with_pip=True)
            subprocess.run([f"{directory}/venv/bin/pip", "-q", "install", "checkdmarc"], check=True)
            checkdmarc = f"{directory}/venv/bin/checkdmarc"
        listed = f"{directory}/domains.txt"
        with open(listed, "w") as file:
            file.write("\n".join(names(given.domains)) + "\n")
        table = f"{directory}/table.txt"
        write_table(given.domains, table)
        server = subprocess.Popen([given.flat_dns, "serve", f"{ADDRESS}:53", table], stdout=subprocess.PIPE)
        try:
            if server.stdout.readline() != b"ready\n":
                sys.exit("the name server does not start (port 53 needs privileges)")
            flood = subprocess.run([given.flat_dns, "flood", f"{ADDRESS}:53", table, "2"], stdout=subprocess.PIPE)
            print(f"name server: {flood.stdout.decode().strip()}", flush=True)
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
    environment = dict(os.environ, HTTP_PROXY="", HTTPS_PROXY="")
    rounds = {form: [] for form in forms}
    for _ in range(given.rounds):
        theirs, theirs_cpu, output = timed([checkdmarc, listed, "-n", ADDRESS, "-f", "json"], env=environment)
        results = json.loads(output)
        valid = sum(one["spf"].get("valid", False) and one["dmarc"].get("valid", False) for one in results)
        if valid != given.domains:
            sys.exit(f"checkdmarc: {valid} of {given.domains} with valid SPF and DMARC")
        print(f"checkdmarc: {theirs:.2f} s, processor {theirs_cpu:.2f} s", flush=True)
        for form, command in forms.items():
            took, cpu, output = timed(command)
            lines = [json.loads(line) for line in output.splitlines()]
            healthy = sum(line["healthy"] for line in lines)
            if len(lines) != given.domains or healthy != given.domains:
                sys.exit(f"{len(lines)} results, {healthy} healthy, of {given.domains}: {output[:3000].decode()}")
            print(f"pillarbox, {form}: {took:.2f} s, processor {cpu:.2f} s: {theirs / took:.1f} times", flush=True)
            rounds[form].append((theirs / took, theirs_cpu / cpu, took, cpu, theirs, theirs_cpu))
    for form, seen in rounds.items():
        median = [statistics.median(values) for values in zip(*seen)]
        print(
            f"{form}, medians: {median[0]:.1f} times as fast ({median[4]:.2f} s : {median[2]:.2f} s), "
            f"{median[1]:.1f} times less processor time ({median[5]:.2f} s : {median[3]:.2f} s)"
        )


if __name__ == "__main__":
    main()
