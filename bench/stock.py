"""A server with a million messages behind it, of all kinds: what pages and searches are timed with.

Most of the mail was delivered, by a route that discards and by one that has a next hop; the rest was refused for good (and its addresses
suppressed), is put off, is held, was canceled, suppressed or captured. Next hops are `smtp-sink`, each with one reply. Five senders,
six streams, seven routes; three messages of eight go to one large domain, the others to a thousand; one in fifty has five recipients.
One of everything else that pages show: people, keys, webhooks, checks, batches, tests.
"""

import http.client
import json
import multiprocessing
import re
import shutil
import socket
import subprocess
import sys
import time

import relays

sys.path.insert(0, str(relays.REPOSITORY / "interop"))
from dns_zones import Zones  # noqa: E402

SENDERS = ("shop", "billing", "support", "reports", "monitoring")
# Where each of them connects from, which is all that says who it is.
HOSTS = tuple(f"127.0.0.{11 + n}" for n in range(len(SENDERS)))
STREAMS = ("receipts", "resets", "news", "alerts", "invitations", "drip")
SUBJECTS = ("Receipt {n}", "Your order {n} has been shipped", "Reset your password", "News of week {w}: what is new in our shop",
            "Invoice {n} from Example Trading", "{n} people looked at your page", "Grüße aus dem Laden, Ausgabe {w}", "Backup of host{w} is done")
# What a domain is named below, how many of 1,000 messages go there, and how its next hop answers. `None`: by the default route.
KINDS = {
    "bench.test": (400, None),
    "large.test": (375, None),
    "partner.test": (140, ()),
    "unknown.test": (30, ("-f", "rcpt", "-B", "550 5.1.1 The email account that you tried to reach does not exist")),
    "blocked.test": (5, ("-f", "rcpt", "-B", "550 5.7.1 Message refused: the sending address is on a blocklist")),
    "full.test": (20, ("-r", "rcpt", "-b", "452 4.2.2 The mailbox is full")),
    "grey.test": (15, ("-r", "rcpt", "-b", "451 4.7.1 Greylisted, try again in five minutes")),
    "captured.test": (10, None),
    "suppressed.test": (5, None),
}
DOMAINS = 1_000
SUPPRESSED = 1_000
# Every so many has a word in its subject that no other has.
RARE = 200_000
TURNS = [name for name, (share, _) in KINDS.items() for _ in range(share)]


def kind(n):
    return TURNS[n * 379 % len(TURNS)]


def address(n):
    """To whom message n is; each to somebody else, but for those who are suppressed."""
    name = kind(n)
    if name == "large.test":
        return f"user{n}@{name}"
    if name == "suppressed.test":
        return f"gone{n % SUPPRESSED}@{name}"
    return f"user{n}@d{n % DOMAINS}.{name}"


def subject(n):
    return "A zebra crossed the road" if n % RARE == 77 else SUBJECTS[n % len(SUBJECTS)].format(n=n, w=n % 53)


def message(n, who):
    """Envelope and content, to be sent in one write (RFC 2920), with the replies that are due."""
    to = [address(n)] if n % 50 else [address(n), *(f"copy{one}.{n}@d{n % DOMAINS}.bench.test" for one in range(4))]
    # Most failures are nobody's business here: a notice for each would be mail too.
    notify = b"" if n % 100 == 0 else b" NOTIFY=NEVER"
    envelope = b"".join((b"MAIL FROM:<%s@source.test>\r\n" % who.encode(), *(b"RCPT TO:<%s>%s\r\n" % (one.encode(), notify) for one in to), b"DATA\r\n"))
    content = (f"From: {who.title()} <{who}@source.test>\r\nTo: {', '.join(to)}\r\nSubject: {subject(n)}\r\nMessage-ID: <{n}@source.test>\r\n"
               f"X-Pillarbox-Stream: {STREAMS[n * 11 % len(STREAMS)]}\r\n\r\nHello,\r\n\r\nthis is number {n}.\r\n.\r\n").encode()
    return envelope, content, len(to)


def fill(port, part, parts, messages):
    """Every `parts`-th message on one connection, as the sender whose address it comes from."""
    number = part % len(SENDERS)
    with socket.create_connection(("127.0.0.1", port), 60, (HOSTS[number], 0)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies = link.makefile("rb", 65536)

        def final():
            while (line := replies.readline())[3:4] == b"-":
                pass
            if line[:1] not in b"23":
                raise RuntimeError(f"refused: {line!r}")

        final()
        link.sendall(b"EHLO fill.bench.test\r\n")
        final()
        left = b""
        for n in range(part, messages, parts):
            envelope, content, recipients = message(n, SENDERS[number])
            link.sendall(left + envelope)
            for _ in range(recipients + 2 + (1 if left else 0)):
                final()
            left = content
        link.sendall(left)
        final()


class Relay(relays.Pillarbox):
    """As in the other benchmarks, with these routes and streams, kept from one run to the next."""

    def __init__(self, place, messages):
        self.dir, self.port, self.pid, self.process, self.sinks = place / self.name, relays.free_port(), None, None, []
        self.note = self.dir / "stock.json"
        self.messages = messages
        if not self.note.exists():
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir.mkdir(parents=True)
            self.sink_port = relays.free_port()
            self.configure()
        self.binary = self.executable or relays.REPOSITORY / "target" / "release" / "pillarbox"
        self.config = self.dir / "pillarbox.toml"
        addresses = [line.split('"')[1] for line in self.config.read_text().splitlines() if line.startswith("address")]
        self.http, self.port = addresses[0], int(addresses[1].rsplit(":", 1)[1])

    def configure(self):
        super().configure()
        text = self.config.read_text().replace('intervals = ["2s", "4s"]', 'intervals = ["6h"]')
        self.config.write_text(text + '[rates]\nbounces = "off"\n[retention]\ncontent = "7d"\ncaptured = "30d"\n[checks]\nbuiltin = "no"\n[webhooks]\nnetworks = ["127.0.0.0/8"]\n'
                               f'[dns]\nservers = ["127.0.0.1:{relays.free_port()}"]\ntimeout = "1s"\n')

    def ask(self, method, path, body=None, kind="application/json"):
        link = http.client.HTTPConnection(self.http, timeout=120)
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        link.request(method, "/api/v1" + path, data, {"Authorization": f"Bearer {self.key}", "Content-Type": kind})
        answer = link.getresponse()
        text = answer.read()
        link.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text else None

    def listen(self):
        """The next hops, which have to be there while mail is sent."""
        for name, (_, replies) in KINDS.items():
            if replies is not None:
                port = relays.free_port()
                self.sinks.append(subprocess.Popen(["smtp-sink", "-u", "nobody", *replies, f"127.0.0.1:{port}", "2000"],
                                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                yield name, port

    def stop(self):
        super().stop()
        for sink in self.sinks:
            sink.terminate()
            sink.wait()
        self.sinks = []

    def settings(self):
        self.key = json.loads(self.cli("key", "add", "set-up", "--role", "administrator", "--rate", "60000", "--json"))["key"]
        self.cli("route", "add", "nowhere", "--discard", "--default")
        self.cli("route", "add", "archive", "--capture")
        self.cli("route", "rule", "add", "archive", "--route", "archive", "--to-domain", ".captured.test")
        for name, port in self.listen():
            route = name.split(".")[0]
            self.cli("route", "add", route, "--smarthost", f"127.0.0.1:{port}", "--tls", "none", "--connections", "20")
            self.cli("route", "rule", "add", route, "--route", route, "--to-domain", "." + name)
        for name in STREAMS:
            self.cli("stream", "add", name)
        for name, host in zip(SENDERS, HOSTS):
            self.cli("sender", "add", name, "--trust-address", f"{host}/32", "--no-password", "--allow-from", "*")
        table = self.dir / "suppressed.csv"
        table.write_text("address,reason\n" + "".join(f"gone{n}@suppressed.test,unknown-user\n" for n in range(SUPPRESSED)))
        self.cli("suppression", "import", table)

    def others(self):
        """One of each other thing that has a page."""
        grey = [address(n).split("@")[1] for n in range(DOMAINS) if kind(n) == "grey.test"]
        closed = f"127.0.0.1:{relays.free_port()}"
        self.ask("POST", "/users", {"name": "viewer", "role": "viewer", "password": "a long pass phrase", "email": "viewer@source.test"})
        made = self.ask("POST", "/senders", {"name": "letters", "allowed_from": ["source.test"], "make": "key"})
        self.ask("POST", "/domains", {"domain": "source.test", "algorithm": "ed25519", "selector": "s1"})
        self.ask("POST", "/webhooks", {"name": "shop", "url": f"http://{closed}/mail", "allow_http": True})
        self.ask("POST", "/provider-events", {"name": "provider", "provider": "brevo", "secret": "s" * 32})
        self.ask("POST", "/mailboxes", {"name": "reports", "host": "127.0.0.1", "username": "reports", "password": "s" * 12, "disabled": True, "after": "seen"})
        self.ask("PUT", "/identity-providers/corp", {"client_secret": "s" * 32, "settings": {
            "issuer": "https://login.corp.test", "client_id": "relay", "label": "Corp", "allow": ["corp.test"], "default_role": "viewer"}})
        self.cli("alert", "channel", "add", "duty", "webhook", "--url", f"http://{closed}/alerts", "--allow-http=true", "--network", "127.0.0.0/8")
        self.cli("schedule", "add", "partner", "--host", closed, "--at", "every 6h")
        self.ask("POST", "/scheduled-checks/own:partner/run", {"wait_s": 30})
        self.ask("POST", "/arrivals", {"route": "partner", "to": "proof@d1.partner.test", "from": "proof@source.test"})
        self.ask("POST", "/smtp-tests", {"route": "partner", "to": ["proof@d1.partner.test"], "from": "proof@source.test", "message": "before_dot"})
        self.ask("POST", "/queue/hold", {"selector": {"domain": grey[0]}, "reason": "waits for the new price list"})
        self.ask("POST", "/queue/cancel", {"selector": {"domain": grey[1]}})
        head = {"from": "news@source.test", "template": {"subject": "News", "text": "Hello {{ name }}"}, "stream": "news", "name": "Autumn letter"}
        rows = [{"email": f"reader{n}@d1.bench.test", "name": f"reader {n}"} for n in range(2_000)]
        self.cli("route", "add", "closed", "--smarthost", closed, "--tls", "none")
        self.cli("route", "rule", "add", "closed", "--route", "closed", "--to-domain", "closed.test")
        self.key, key = made["new_api_key"], self.key
        for n in range(30):
            self.ask("POST", "/messages", {"from": "news@source.test", "to": [f"reader{n}@closed.test"], "subject": "News", "text": "Hello"})
        self.ask("POST", "/batches", "".join(json.dumps(one) + "\n" for one in (head, *rows)).encode(), "application/x-ndjson")
        self.key = key

    def journal(self):
        """What the DNS says of our domain is written down by a built-in check; they are on for that alone."""
        quiet = self.config.read_text()
        zones = Zones({"source.test": [{"A": "192.0.2.10"}, {"MX": [10, "mx.source.test"]}, {"TXT": "v=spf1 ip4:192.0.2.0/24 -all"}],
                       "mx.source.test": [{"A": "192.0.2.11"}]})
        try:
            loud = re.sub(r'servers = \["127.0.0.1:\d+"\]', f'servers = ["127.0.0.1:{zones.port}"]', quiet).replace('builtin = "no"', 'builtin = "yes"')
            self.again(loud)
            while "dns:source.test" not in (one["name"] for one in self.ask("GET", "/scheduled-checks")["items"]):
                time.sleep(0.2)
            self.ask("POST", "/scheduled-checks/dns:source.test/run", {"wait_s": 30})
        finally:
            zones.close()
        self.again(quiet)

    def again(self, config):
        super().stop()
        self.config.write_text(config)
        self.start()

    def fill(self, connections=8):
        """All of it; on return nothing is due any more. Seconds."""
        self.start()
        self.settings()
        started = time.monotonic()
        with multiprocessing.Pool(connections) as pool:
            pool.starmap(fill, [(self.port, part, connections, self.messages) for part in range(connections)])
        taken = time.monotonic() - started
        while any(item["pending"] for item in self.ask("GET", "/queue/counts?by=route")["items"]
                  if item["group"] in ("nowhere", "partner", "unknown", "archive")):
            time.sleep(0.5)
        self.others()
        self.journal()
        while not self.ask("GET", "/incidents")["items"]:
            time.sleep(0.5)
        took = time.monotonic() - started
        self.note.write_text(json.dumps(dict(messages=self.messages, key=self.key, taken_s=taken, took_s=took)))
        return took
