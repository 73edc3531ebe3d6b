"""Every way to authenticate to a smart host, against servers that others wrote: with the right password the mail arrives, with a
wrong one the server says 535 and the mail stays in the queue."""

import json
import smtplib
import time
import unittest

import peers
import relay
import sasl
from common import HOST, Catch, Place, message, need

FROM, TO = "sender@app.test", "rcpt@dest.test"
TOKEN = "good-" + "token." * 20


class Sasl(unittest.TestCase):
    def setUp(self):
        need("openssl", "unshare", "dovecot", "saslpasswd2")
        self.place, self.catch = Place("sasl"), Catch()
        self.addCleanup(self.place.remove)
        self.addCleanup(self.catch.stop)

    def secret(self, name, text):
        path = self.place.path / name
        path.write_text(text)
        path.chmod(0o600)
        return f"file:{path}"

    def route(self, name, mechanism, secret):
        more = ("--auth-mechanism", mechanism) if mechanism else ()
        return (name, "--smarthost", f"{HOST}:{self.port}", "--tls", "required", "--ca-file", self.place.ca, "--username", sasl.USER,
                "--password-from", self.secret(name, secret), *more)

    def send(self, subject, recipient):
        with smtplib.SMTP_SSL(HOST, self.box.tls_port, context=self.place.tls(), timeout=30) as client:
            client.login(relay.SENDER, relay.PASSWORD)
            client.sendmail(FROM, [recipient], message(subject, FROM, recipient))

    def refusals(self):
        """Domain of the recipient and last reply of all that waits."""
        waiting = self.queue()
        return {item["address"].partition("@")[2]: json.dumps(item) for item in waiting}

    def queue(self):
        listed = json.loads(self.box.cli("queue", "ls", "--json"))
        return listed if isinstance(listed, list) else listed["items"]

    def check(self, kind, strongest):
        peer = kind(self.place, peers.Hop(self.catch.port))
        self.addCleanup(peer.stop)
        self.port = peer.auth_port or peer.port
        self.box = relay.Pillarbox(self.place, "--capture")
        self.addCleanup(self.box.stop)
        wrong = []
        for mechanism in (*kind.MECHANISMS, None):
            word = (mechanism or "strongest").lower()
            good = TOKEN if mechanism in ("XOAUTH2", "OAUTHBEARER") else sasl.PASSWORD
            for name, secret in ((f"{word}-right", good), (f"{word}-wrong", "not-the-password")):
                self.box.cli("route", "add", *self.route(name, mechanism, secret))
                self.box.cli("route", "rule", "add", name, "--to-domain", f"{name}.test", "--route", name, "--order", "10")
                self.send(f"{kind.__name__}-{name}", f"rcpt@{name}.test")
            wrong.append(f"{word}-wrong.test")
        for mechanism in (*kind.MECHANISMS, None):
            with self.subTest(f"{kind.__name__} {mechanism or 'strongest'}"):
                word = (mechanism or "strongest").lower()
                try:
                    self.catch.wait(f"{kind.__name__}-{word}-right", 60)
                except AssertionError as error:
                    self.fail(f"{error}\n{peer.log()}\n{self.box.log()}")
        end, waiting = time.time() + 60, {}
        while time.time() < end and not all("535" in waiting.get(domain, "") for domain in wrong):
            time.sleep(0.2)
            waiting = self.refusals()
        for domain in wrong:
            with self.subTest(f"{kind.__name__} {domain}"):
                self.assertIn("535", waiting.get(domain, "nothing waits"))
        self.assertEqual([mail.recipients for mail in self.catch.mail if "-wrong" in str(mail.recipients)], [])
        logs = [path.read_text(errors="replace") for path in peer.dir.glob("log/*")]
        self.assertTrue(any(strongest in log for log in logs), f"{strongest} was not used\n{peer.log()}")

    def test_dovecot(self):
        self.check(sasl.Dovecot, "sasl_method=SCRAM-SHA-256")

    def test_cyrus(self):
        self.check(sasl.Cyrus, "sasl_method=SCRAM-SHA-256")

    def test_exim(self):
        self.check(sasl.Exim, "A=server_cram:peer")


if __name__ == "__main__":
    unittest.main(verbosity=2)
