"""What a stranger, a broken program or an ill-meaning customer could make us show: the same text in every place that takes one, with
a word of its own in each, so that a test sees which of them reached a page."""

import contextlib
import http.client
import json
import smtplib
import socket
import ssl
import subprocess
import urllib.parse

from check_scripts import EXTENSIONS, Script, Server
from common import KEY, run
from dns_zones import Zones
from pages_world import CLOSED, PASSWORD, ZONE, World
from web import Web

EVIL = CLOSED.rsplit(".", 1)[0] + ".9"
CERT = CLOSED.rsplit(".", 1)[0] + ".10"
NAMES = CLOSED.rsplit(".", 1)[0] + ".11"


def long(word):
    """Breaks out of text, attributes, comments, scripts and style, turns the writing around and clears a terminal."""
    return (f"hx-{word} \"'><pwned-x pwned=1><script>window.__pwned='{word}'</script><img src=//evil.test/{word} onerror=window.__pwned=1>"
            f"--></title></textarea></pre><a href=javascript:window.__pwned=3>x</a> {{{{7*7}}}} \u202egnp.exe\u202c \x1b[2J")


def header(word):
    """The same without what a header field cannot hold."""
    return long(word).replace("\x1b", "")


def short(word):
    return f"hx-{word}\"'><pwned-x><img src=//evil.test/{word}>"


def reply(word):
    return f"hx-{word} \"'><pwned-x pwned=1><script>window.__pwned='{word}'</script><img src=//evil.test/{word} onerror=window.__pwned=1>"


def hello(*words):
    """What EHLO is answered with: a name, and extensions."""
    *lines, last = (reply("hello"), *words)
    return "".join(f"250-{line}\r\n" for line in lines) + f"250 {last}"


def refusal(text):
    return "451 4.7.1 " + reply("deferred") if "later" in text else "550 5.7.1 " + reply("refused")


class Hostile(World):
    """The world of the other tests, and in it what is above."""

    def __init__(self):
        zone = dict(ZONE)
        zone["smtp.evil.test"] = [{"A": EVIL}]
        zone["tls.evil.test"] = [{"A": CERT}]
        zone["ns.evil.test"] = [{"A": NAMES}]
        zone["mx.evil.test"] = [{"MX": [10, "hx-mx<pwned-x>.evil.test"]}]
        zone["evil.test"] = [{"A": "192.0.2.66"}, {"NS": "ns.evil.test"}, {"MX": [10, "smtp.evil.test"]},
                             {"TXT": "v=spf1 include:" + reply("spf").replace(" ", "") + " -all"}, {"TXT": reply("txt")}]
        zone["_dmarc.evil.test"] = [{"TXT": "v=DMARC1; p=" + reply("dmarc")}]
        zone["_smtp._tls.evil.test"] = [{"TXT": "v=TLSRPTv1; rua=mailto:" + reply("tlsrpt").replace(" ", "")}]
        zone["_mta-sts.evil.test"] = [{"TXT": "v=STSv1; id=" + reply("sts")}]
        zone["default._bimi.evil.test"] = [{"TXT": "v=BIMI1; l=https://evil.test/" + reply("bimi")}]
        self.strange = zone
        super().__init__("hostile", zone=zone)

    def furnish(self):
        super().furnish()
        self.servers()
        self.words()
        self.letters()
        self.outcomes()

    def journal(self):
        """It asks the name server of a domain itself, where the DNS says that it is."""
        self.ends.append(Zones(self.strange, 53, NAMES).close)
        self.ask("POST", "/domains", {"domain": "evil.test", "algorithm": "ed25519", "selector": "s1"})
        super().journal("shop.test", "evil.test")

    def servers(self):
        evil = Server(EVIL, 25, Script(banner="220 " + reply("banner"), on={"RCPT": refusal, "EHLO": hello(*EXTENSIONS, "X-" + reply("extension"))}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        p = self.place.path
        (p / "evil.cnf").write_text(
            "[req]\ndistinguished_name=d\nprompt=no\nutf8=yes\n[d]\n"
            f"CN={short('cn')[:64]}\nO=hx-organization<pwned-x>\n[e]\nsubjectAltName=DNS:hx-san<pwned-x>.test\n")
        # of an authority that is trusted: what is wrong with it is the name, so its names are told
        run("openssl", "req", "-new", "-newkey", *KEY, "-nodes", "-config", p / "evil.cnf", "-keyout", p / "evil.key", "-out", p / "evil.csr")
        run("openssl", "x509", "-req", "-in", p / "evil.csr", "-CA", self.place.ca, "-CAkey", p / "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", p / "evil.cnf", "-extensions", "e", "-out", p / "evil.pem")
        context.load_cert_chain(p / "evil.pem", p / "evil.key")
        cert = Server(CERT, 25, Script(tls=context, on={"EHLO": hello(*EXTENSIONS, "STARTTLS")}, after={}))
        self.ends += [evil.close, cert.close]
        for name, host, tls in (("evil", "smtp.evil.test", "none"), ("evil-tls", "tls.evil.test", "required")):
            self.ask("POST", "/routes", {"name": name, "kind": "smarthost", "host": host, "port": 25, "tls": tls, "retry_s": [3600]})
        self.ask("PUT", "/rules/evil", {"order": 11, "recipient_domain": "evil.test", "route": "evil"})
        self.ask("PUT", "/rules/evil-tls", {"order": 12, "recipient_domain": "tls.evil.test", "route": "evil-tls"})
        self.hostile_web = Web(lambda method, path, headers, body: (500, {"error": reply("webhook")}))
        self.ends.append(self.hostile_web.stop)

    def words(self):
        """Descriptions, notes, reasons and names."""
        self.maybe("POST", "/streams", {"name": "evil", "description": header("stream")})
        for kind, body in (("streams", {}), ("senders", {"allowed_from": ["*"]}), ("routes", {"kind": "discard"}), ("keys", {"role": "viewer"}),
                           ("users", {"role": "viewer", "password": PASSWORD}), ("webhooks", {"url": self.hooks.base, "allow_http": True})):
            self.maybe("POST", "/" + kind, {"name": short(kind)[:60], **body})
        self.maybe("PATCH", "/users/viewer", {"email": "\"hx-mail<pwned-x>\"@shop.test"})
        self.ask("POST", "/suppressions", {"addresses": ["\"hx-suppressed'<pwned-x>\"@evil.test"], "note": long("note").replace("\x1b", "")[:200]})
        self.ask("POST", "/webhooks", {"name": "evil", "url": self.hostile_web.base + "/" + urllib.parse.quote(short("url")), "allow_http": True})
        self.maybe("POST", f"/incidents/{self.incident}/notes", {"note": header("incident")})
        self.maybe("POST", "/streams/evil/pause", {"why": reply("pause")})
        self.maybe("POST", "/senders/shop/pause", {"why": reply("sender")})
        self.maybe("POST", "/senders/shop/resume", {})
        job = self.ask("GET", "/jobs")["items"][0]["name"]
        self.maybe("POST", f"/jobs/{job}/pause", {"why": reply("job")})
        self.maybe("PUT", "/identity-providers/evil", {"client_secret": "s" * 32, "settings": {
            "issuer": "https://login.evil.test", "client_id": short("client"), "label": short("provider"), "default_role": "viewer", "allow": ["evil.test"]}})
        self.cli("alert", "channel", "add", "evil", "webhook", "--url", self.hostile_web.base + "/alerts", "--allow-http=true", "--network", "127.0.0.0/8")
        self.maybe("POST", "/alert-channels/evil/test")
        self.maybe("POST", "/webhooks/evil/test")

    def letters(self):
        """By the API, by SMTP as it is, and as a batch."""
        quoted = "\"hx-rcpt'<pwned-x>later\"@evil.test"
        more = dict(tags=[short("tag")], metadata={short("key"): short("value")}, html=long("html"),
                    attachments=[{"filename": short("file"), "content_type": "text/html", "content": "PGI+"}])
        made = []
        for to in ("page@captured.test", "later@evil.test", "no@evil.test", quoted):
            made.append(self.maybe("POST", "/messages", {
                "from": f"\"{header('from').replace(chr(34), '')}\" <orders@shop.test>", "to": to, "subject": header("subject"), "text": long("text"),
                "headers": {"X-Evil": header("header")}, **more}, key=self.sender_key))
        self.maybe("POST", "/messages", {"from": "orders@shop.test", "to": "page@tls.evil.test", "subject": "certificate", "text": "t"}, key=self.sender_key)
        self.letter = made[0] and made[0]["id"]
        raw = (f"From: \"hx-rawfrom<pwned-x>\" <shop@shop.test>\r\nTo: <page@captured.test>\r\nSubject: {reply('rawsubject')}\r\n"
               f"X-hx-name<pwned-x>: {reply('rawvalue')}\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"hx<pwned-x>\"\r\n\r\n"
               f"--hx<pwned-x>\r\nContent-Type: text/html; charset=\"hx<pwned-x>\"\r\n\r\n{reply('rawbody')}\r\n"
               "--hx<pwned-x>\r\nContent-Type: text/html\r\nContent-Disposition: attachment; filename=\"hx-rawfile<pwned-x><script>.html\"\r\n\r\n"
               "x\r\n--hx<pwned-x>--\r\n")
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=60) as client:
            client.starttls(context=None)
            client.docmd("EHLO", "hx-ehlo<pwned-x>")
            client.ehlo("relay.test")
            client.login("shop", PASSWORD)
            client.sendmail("shop@shop.test", ["page@captured.test", "later2@evil.test"], raw)
        self.raw()
        head = {"from": "news@shop.test", "template": {"subject": "{{ name }}", "text": "Hello {{ name }}"}, "stream": "evil", "name": header("batch")}
        rows = [{"email": "page@captured.test", "name": header("row")}, {"email": "later3@evil.test", "name": "x"}]
        self.maybe("POST", "/batches", "".join(json.dumps(one) + "\n" for one in (head, *rows)).encode(), kind="application/x-ndjson", key=self.sender_key)

    def raw(self):
        """A name in EHLO that no library sends, and log-ins with names that nobody has."""
        for name in ("hx-ehlo<script>window.__pwned=1</script>", "[hx-literal<pwned-x>]"):
            with socket.create_connection(("127.0.0.1", self.smtp), 20) as link, contextlib.suppress(OSError):
                link.sendall(f"EHLO {name}\r\nQUIT\r\n".encode())
                link.recv(4096)
        with contextlib.suppress(smtplib.SMTPException), smtplib.SMTP("127.0.0.1", self.smtp, timeout=60) as client:
            client.starttls(context=None)
            client.login(short("login"), "x")
        for user, agent in ((short("user"), reply("agent")), ("viewer", reply("agent2"))):
            link = http.client.HTTPConnection(self.url[7:], timeout=60)
            form = urllib.parse.urlencode({"user": user, "password": PASSWORD})
            link.request("POST", "/login", form, {"Origin": self.url, "Content-Type": "application/x-www-form-urlencoded", "User-Agent": agent})
            link.getresponse().read()
            link.close()

    def outcomes(self):
        self.ask("POST", "/domains/evil.test/check")
        for route in ("evil", "evil-tls"):
            self.tested({"route": route, "to": ["later@evil.test"], "from": "shop@shop.test"})
        self.tested({"target": "mx.evil.test"})
        subprocess.run([str(one) for one in (self.binary(), "route", "check", "evil", "--config", self.config)], stdout=subprocess.DEVNULL, timeout=60)
        self.ask("POST", "/queue/hold", {"selector": {"recipient": "later2@evil.test"}, "reason": header("hold")})
        failed = lambda: [one for one in self.ask("GET", "/messages?state=failed")["items"]]
        self.until("refusals", lambda: len(failed()) > 2)
        evil = lambda: self.ask("GET", "/queue?domain=evil.test")["items"]
        self.until("deferrals", lambda: sum(bool(one["reason"]) for one in evil()) > 1)
        self.until("its refusal", lambda: any(to["address"] == "no@evil.test" for one in failed() for to in one["recipients"]))

    def tested(self, asked):
        """A test of a server, to its end: its page then has all that was said."""
        test = self.ask("POST", "/smtp-tests", asked)["id"]
        self.until("the test is over", lambda: self.ask("GET", f"/smtp-tests/{test}")["test"]["state"] != "running")

    @staticmethod
    def binary():
        from relay import binary
        return binary()
