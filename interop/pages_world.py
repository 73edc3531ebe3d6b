"""A Pillarbox with something on each of its pages: mail that arrived, mail that waits, fails, is held and captured, an incident, a
batch, webhooks, people of each role. Next hops are a real Postfix, a server that refuses, and an address where nobody listens."""

import base64
import json
import re
import smtplib
import time
import urllib.error
import urllib.parse
import urllib.request

from check_scripts import Script, Server
from common import Catch, Place, Process, free_net, free_port, need, run, wait_ready
from dns_zones import Zones
from peers import Hop, Postfix
from relay import binary
from web import Receiver

PASSWORD = "a long pass phrase"
PEOPLE = {"admin": "administrator", "operator": "operator", "viewer": "viewer"}
PATIENCE = 60
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")

# Names stand for the same things in every run: pictures of pages show them.
_net = free_net()
OFFICE, CLOSED, STRICT = (f"127.{_net}.7.{n}" for n in (1, 2, 3))
ZONE = {
    "smtp.office.test": [{"A": OFFICE}], "smtp.closed.test": [{"A": CLOSED}], "smtp.strict.test": [{"A": STRICT}],
    "shop.test": [{"A": "192.0.2.10"}, {"MX": [10, "mx.shop.test"]}, {"TXT": "v=spf1 ip4:192.0.2.0/24 -all"}],
    "mx.shop.test": [{"A": "192.0.2.11"}], "_dmarc.shop.test": [{"TXT": "v=DMARC1; p=quarantine; rua=mailto:reports@shop.test"}],
    "strict.test": [{"MX": [10, "smtp.strict.test"]}],
}


def refusal(text):
    """What the strict server says to a recipient."""
    if "gone" in text:
        return "550 5.1.1 The email account that you tried to reach does not exist"
    if "full" in text:
        return "452 4.2.2 The mailbox is full"
    if "spam" in text:
        return "550 5.7.1 Message refused: the sending address is on a blocklist"
    return "451 4.7.1 Greylisted, try again in five minutes"


class Office(Postfix):
    """At port 25 of the office's own address."""

    def settings(self):
        return super().settings() | dict(inet_interfaces="all", smtp_bind_address="127.0.0.1", myhostname="smtp.office.test")

    def configure(self):
        super().configure()
        with open(self.dir / "etc" / "master.cf", "a") as services:
            services.write(f"{OFFICE}:25 inet n - n - - smtpd\n")


class Site:
    """A server with a directory of its own, the API with a key, and log-ins."""

    def __init__(self, name, zone=None, more=""):
        need("openssl", "postfix")
        self.place, self.ends, self.refused = Place(name), [], []
        self.ends.append(self.place.remove)
        self.zones = Zones(zone or ZONE)
        self.ends.append(self.zones.close)
        self.dir = self.place.path / "relay"
        self.dir.mkdir()
        self.smtp = free_port()
        self.url = f"http://127.0.0.1:{free_port()}"
        self.config = self.dir / "pillarbox.toml"
        self.config.write_text(
            f'hostname = "relay.test"\ndata_dir = "{self.dir}/data"\n[http]\naddress = "{self.url[7:]}"\n'
            f'[dns]\nservers = ["127.0.0.1:{self.zones.port}"]\ntimeout = "5s"\n[webhooks]\nnetworks = ["127.0.0.0/8"]\n'
            f'[tls]\nroots = "{self.place.ca}"\n[retention]\ncontent = "7d"\n[checks]\nbuiltin = "no"\n{more}'
            f'[[listener]]\nname = "submission"\naddress = "127.0.0.1:{self.smtp}"\ncertificate = "{self.place.cert}"\nkey = "{self.place.key}"\n')
        self.start()

    def start(self):
        log = self.dir / "out.log"
        log.unlink(missing_ok=True)
        self.server = Process([binary(), "serve", "--config", self.config], log)
        wait_ready(self.server)

    def until(self, what, look, patience=PATIENCE):
        end = time.monotonic() + patience
        while not (found := look()):
            if time.monotonic() > end or self.server.process.poll() is not None:
                raise AssertionError(f"{what}: not within {patience} s\n{self.server.output()}")
            time.sleep(0.05)
        return found

    def first_token(self):
        return re.search(r"with this token[^\n]*\n\s*(\S+)", (self.dir / "out.log").read_text())[1]

    def cli(self, *arguments):
        return run(binary(), *arguments, "--config", self.config)

    def ask(self, method, path, body=None, kind="application/json", key=None):
        """An answer of the API, or what it says is wrong."""
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {key or self.key}", "Content-Type": kind}
        request = urllib.request.Request(f"{self.url}/api/v1{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None

    def maybe(self, method, path, body=None, **more):
        """What may be refused: a name or a text that is not taken cannot be shown. `refused` has what was."""
        try:
            return self.ask(method, path, body, **more)
        except AssertionError as error:
            if ": 4" not in str(error):
                raise
            self.refused.append(str(error)[:300])
            return None

    def administer(self):
        """An administrator's key, by the control socket."""
        made = json.loads(self.cli("key", "add", "set-up", "--role", "administrator", "--rate", "60000", "--json"))
        self.key = made["key"]

    def hops(self):
        """A Postfix that forwards to `catch`, and a server that refuses."""
        self.catch = Catch()
        self.ends.append(self.catch.stop)
        self.office = Office(self.place, Hop(self.catch.port))
        self.ends.append(self.office.stop)
        self.strict = Server(STRICT, 25, Script(banner="220 smtp.strict.test ESMTP", on={"RCPT": refusal}))
        self.ends.append(self.strict.close)

    def log_in(self, user=None, code=""):
        """The cookie of a new session: of somebody, or by a one-time token."""
        form = {"user": user, "password": PASSWORD, "code": code} if user else {"token": self.cli("login").strip()}
        request = urllib.request.Request(f"{self.url}/login", urllib.parse.urlencode(form).encode(), {"Origin": self.url})
        answer = urllib.request.build_opener(Stay).open(request)
        return re.match(r"pillarbox=([^;]+)", answer.headers["Set-Cookie"])[1]

    def stop(self):
        if hasattr(self, "server"):
            self.server.stop(30)
        for end in reversed(self.ends):
            end()


class Stay(urllib.request.HTTPRedirectHandler):
    def http_error_303(self, _request, answer, *_):
        return answer

    http_error_302 = http_error_303


class World(Site):
    """All of it. `paths` has for each part in braces of a page's path what there is."""

    def __init__(self, name="pages", more="", zone=None):
        super().__init__(name, zone, "[incidents]\nrecipients = 3\n" + more)
        try:
            self.furnish()
        except BaseException:
            self.stop()
            raise

    def furnish(self):
        self.administer()
        self.hops()
        self.hooks = Receiver()
        self.ends.append(self.hooks.stop)
        self.people()
        self.settings()
        self.journal()
        self.mail()
        self.watch()

    def people(self):
        for name, role in PEOPLE.items():
            self.ask("POST", "/users", {"name": name, "role": role, "password": PASSWORD, "email": f"{name}@shop.test"})
        self.ask("POST", "/keys", {"name": "monitoring", "role": "viewer", "scopes": ["status:read", "queue:read"]})

    def settings(self):
        route = lambda name, host, **more: self.ask("POST", "/routes", {
            "name": name, "kind": "smarthost", "host": host, "port": 25, "tls": "none", **more})
        route("office", "smtp.office.test", rates={"per_minute": 600})
        route("partner", "smtp.closed.test", retry_s=[3600])
        route("strict", "smtp.strict.test", retry_s=[3600])
        self.ask("POST", "/routes", {"name": "direct", "kind": "mx"})
        self.ask("POST", "/routes", {"name": "archive", "kind": "capture"})
        for order, (name, domain) in enumerate({"partner": "partner.test", "strict": "strict.test", "archive": "captured.test"}.items()):
            self.ask("PUT", f"/rules/{name}", {"order": order + 1, "recipient_domain": domain, "route": name})
        self.cli("route", "default", "office")
        self.ask("POST", "/streams", {"name": "news", "description": "Letters to customers", "opt_out": True})
        self.ask("POST", "/streams", {"name": "receipts", "description": "Receipts and invoices", "priority": 0})
        self.ask("POST", "/senders", {"name": "shop", "allowed_from": ["shop.test"], "make": "none", "password": PASSWORD})
        made = self.ask("POST", "/senders", {"name": "reports", "allowed_from": ["shop.test"], "make": "key", "stream": "receipts"})
        self.sender_key = made["new_api_key"]
        self.ask("POST", "/domains", {"domain": "shop.test", "algorithm": "ed25519", "selector": "s1"})
        self.ask("POST", "/suppressions", {"addresses": ["stopped@one.test", "left@two.test"], "reason": "manual", "note": "asked by telephone"})
        self.ask("POST", "/suppressions", {"addresses": ["closed@three.test"], "reason": "mailbox-closed"})
        self.ask("POST", "/webhooks", {"name": "shop", "url": self.hooks.base + "/mail", "allow_http": True})
        self.ask("POST", "/provider-events", {"name": "provider", "provider": "brevo", "secret": "s" * 32})
        self.ask("POST", "/mailboxes", {"name": "reports", "host": "imap.office.test", "username": "reports@shop.test",
                                        "password": PASSWORD, "disabled": True, "after": "seen"})
        self.ask("PUT", "/identity-providers/corp", {"client_secret": "s" * 32, "settings": {
            "issuer": "https://login.corp.test", "client_id": "relay", "label": "Corp", "allow": ["corp.test"], "default_role": "viewer"}})
        self.cli("alert", "channel", "add", "duty", "webhook", "--url", self.hooks.base + "/alerts", "--allow-http=true", "--network", "127.0.0.0/8")
        self.cli("schedule", "add", "partner", "--host", "smtp.closed.test:25", "--at", "every 6h", "--description", "The partner's server")

    def journal(self, *domains):
        """What the DNS says of our domains is written down by a built-in check; they are on for that alone, since what they find by
        themselves would change the pages."""
        quiet = self.config.read_text()
        self.config.write_text(quiet.replace('builtin = "no"', 'builtin = "yes"'))
        self.restart()
        for name in [f"dns:{domain}" for domain in domains or ("shop.test",)]:
            self.until("there is a check of it", lambda: any(one["name"] == name for one in self.ask("GET", "/scheduled-checks")["items"]))
            self.ask("POST", f"/scheduled-checks/{name}/run", {"wait_s": 30})
            self.until("it has run", lambda: self.ask("GET", f"/scheduled-checks/{name}").get("result"))
        self.config.write_text(quiet)
        self.restart()

    def restart(self):
        self.server.stop(30)
        self.start()

    def send(self, to, subject, sender="orders@shop.test", **more):
        return self.ask("POST", "/messages", {"from": f"Shop <{sender}>", "to": to, "subject": subject, "text": "Hello,\n\nthank you for your order.\n",
                                              **more}, key=self.sender_key)["id"]

    def mail(self):
        self.messages = {}
        for n in range(6):
            self.messages["delivered"] = self.send(f"customer{n}@one.test", f"Receipt 10{n}", tags=["receipt"])
        for n in range(5):
            self.messages["waiting"] = self.send(f"buyer{n}@partner.test", f"Order 20{n}")
        for n, name in enumerate(("gone", "gone.too", "full", "spam", "grey")):
            self.messages[name] = self.send(f"{name}@strict.test", f"Invoice 30{n}")
        held = self.send("later@partner.test", "Held for the end of the month", stream="news")
        self.ask("POST", "/queue/hold", {"selector": {"message": held}, "reason": "waits for the new price list"})
        self.send("stopped@one.test", "Nobody gets this")
        attachments = [{"filename": "invoice.pdf", "content_type": "application/pdf", "content": base64.b64encode(b"%PDF-1.4\n").decode()},
                       {"filename": "logo.png", "content_type": "image/png", "content": base64.b64encode(PNG).decode()}]
        self.messages["captured"] = self.send("page@captured.test", "A message to look at", html="<h1>Hello</h1><p>Thank you.</p>",
                                              attachments=attachments)
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=60) as client:
            client.starttls(context=None)
            client.login("shop", PASSWORD)
            client.sendmail("shop@shop.test", ["page@captured.test"], "From: shop@shop.test\r\nTo: page@captured.test\r\nSubject: By SMTP\r\n\r\nText.\r\n")
        head = {"from": "news@shop.test", "template": {"subject": "News for {{ name }}", "text": "Hello {{ name }}"}, "stream": "news", "name": "Autumn letter"}
        rows = [{"email": f"reader{n}@one.test", "name": f"reader {n}"} for n in range(8)]
        lines = "".join(json.dumps(one) + "\n" for one in (head, *rows))
        self.batch = self.ask("POST", "/batches", lines.encode(), "application/x-ndjson", self.sender_key)["id"]

    def watch(self):
        self.ask("POST", "/scheduled-checks/own:partner/run", {"wait_s": 30})
        self.ask("POST", "/arrivals", {"route": "office", "to": "proof@one.test", "from": "proof@shop.test"})
        self.ask("POST", "/domains/shop.test/check")
        for route, tls in (("office", "none"), ("partner", "none")):
            self.maybe("POST", "/smtp-tests", {"route": route, "to": ["proof@one.test"], "from": "proof@shop.test", "message": "before_dot"})
        incidents = lambda: self.ask("GET", "/incidents")["items"]
        self.incident = self.until("an incident", incidents)[0]["id"]
        self.until("what can be delivered is", lambda: self.ask("GET", f"/messages/{self.messages['delivered']}")["recipients"][0]["state"] == "delivered")
        self.until("captured", lambda: len(self.ask("GET", "/captured")["items"]) > 1)
        self.until("the batch is done", lambda: self.ask("GET", f"/batches/{self.batch}")["state"] == "finished")
        self.ask("POST", f"/incidents/{self.incident}/notes", {"note": "The partner was told."})
