"""Pillarbox delivers to real servers: Postfix, Exim and OpenSMTPD, in clear, over STARTTLS, and with AUTH."""

import smtplib
import unittest

import peers
import relay
from common import BODY, HOST, Catch, Place, message, need

FROM, TO = "sender@app.test", "rcpt@dest.test"


class Servers(unittest.TestCase):
    def setUp(self):
        need("openssl", "postfix", "unshare")
        self.place, self.catch = Place("servers"), Catch()
        self.addCleanup(self.place.remove)
        self.addCleanup(self.catch.stop)

    def deliver(self, kind, ways):
        peer = kind(self.place, peers.Hop(self.catch.port))
        self.addCleanup(peer.stop)
        password = self.place.path / "peer-password"
        password.write_text(peers.PASSWORD)
        password.chmod(0o600)
        route = lambda port, tls, *more: ("--smarthost", f"{HOST}:{port}", "--tls", tls, *more)
        box = relay.Pillarbox(self.place, *route(peer.port, "none"))
        self.addCleanup(box.stop)
        for name, tls, auth in ways:
            subject = f"{kind.__name__.lower()}-{name}"
            with self.subTest(subject):
                port = peer.auth_port if auth else peer.port if tls == "none" else peer.tls_port
                more = ("--ca-file", self.place.ca) if tls == "required" else ()
                more += ("--username", peers.USER, "--password-from", f"file:{password}") if auth else ()
                box.cli("route", "add", name, *route(port, tls, *more), "--default")
                with smtplib.SMTP_SSL(HOST, box.tls_port, context=self.place.tls(), timeout=30) as client:
                    client.login(relay.SENDER, relay.PASSWORD)
                    client.sendmail(FROM, [TO, "two@dest.test"], message(subject, FROM, TO), mail_options=["BODY=8BITMIME"])
                try:
                    mail = self.catch.wait(subject)
                except AssertionError as error:
                    self.fail(f"{error}\n{peer.log()}\n{box.log()}")
                self.assertEqual(mail.sender, FROM)
                self.assertEqual(mail.body, BODY)
                self.assertEqual(mail.header("Message-ID"), f"<{subject}@interop.test>")

    def test_postfix(self):
        self.deliver(peers.Postfix, [("clear", "none", False), ("maybe", "opportunistic", False), ("verified", "required", False)])

    def test_exim(self):
        ways = [("clear", "none", False), ("maybe", "opportunistic", False), ("verified", "required", False),
                ("login", "required", True)]
        self.deliver(peers.Exim, ways)

    def test_opensmtpd(self):
        # its STARTTLS may be broken (see peers.py): opportunistic TLS has to deliver all the same
        self.deliver(peers.OpenSMTPD, [("clear", "none", False), ("maybe", "opportunistic", False)])


if __name__ == "__main__":
    unittest.main(verbosity=2)
