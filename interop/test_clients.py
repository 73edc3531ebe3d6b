"""Real clients send through Pillarbox, each over STARTTLS and implicit TLS with AUTH; the message must arrive as it was sent."""

import json
import smtplib
import unittest

import peers
import relay
from common import BODY, CACHE, HOST, Catch, Place, message, need, run

FROM, TO = "sender@app.test", "rcpt@dest.test"


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need("openssl", "swaks", "msmtp", "curl", "node", "postfix", "unshare")
        cls.place, cls.catch = Place("clients"), Catch()
        cls.addClassCleanup(cls.place.remove)
        cls.addClassCleanup(cls.catch.stop)
        cls.relay = relay.Pillarbox(cls.place, "--smarthost", f"127.0.0.1:{cls.catch.port}", "--tls", "none")
        cls.addClassCleanup(cls.relay.stop)

    def each(self, client, mechanisms, send):
        """Sends once per kind of TLS and mechanism with `send(port, implicit, mechanism, file)`."""
        for implicit in (False, True):
            for mechanism in mechanisms:
                subject = f"{client}-{'implicit' if implicit else 'starttls'}-{mechanism.lower()}"
                with self.subTest(subject):
                    file = self.place.path / subject
                    file.write_bytes(message(subject, FROM, TO))
                    port = self.relay.tls_port if implicit else self.relay.port
                    try:
                        send(port, implicit, mechanism, file)
                    except Exception as error:
                        self.fail(f"{error}\n{self.relay.log()}")
                    self.arrived(subject)

    def arrived(self, subject):
        try:
            mail = self.catch.wait(subject)
        except AssertionError as error:
            self.fail(f"{error}\n{self.relay.log()}")
        self.assertEqual(mail.sender, FROM)
        self.assertEqual(mail.recipients, [TO])
        self.assertEqual(mail.body, BODY)
        self.assertEqual(mail.header("Message-ID"), f"<{subject}@interop.test>")
        self.assertIn("by relay.test", mail.header("Received"))

    def test_swaks(self):
        def send(port, implicit, mechanism, file):
            # swaks ends the last line itself
            file.write_bytes(file.read_bytes().removesuffix(b"\r\n"))
            run("swaks", "--server", HOST, "--port", port, "--tls-on-connect" if implicit else "--tls", "--tls-verify",
                "--tls-ca-path", self.place.ca, "--auth", mechanism, "--auth-user", relay.SENDER, "--auth-password",
                relay.PASSWORD, "--from", FROM, "--to", TO, "--data", f"@{file}")
        self.each("swaks", ("PLAIN", "LOGIN"), send)

    def test_msmtp(self):
        def send(port, implicit, mechanism, file):
            with open(file, "rb") as content:
                run("msmtp", "--file=/dev/null", f"--host={HOST}", f"--port={port}", "--tls=on",
                    f"--tls-starttls={'off' if implicit else 'on'}", f"--tls-trust-file={self.place.ca}",
                    f"--auth={mechanism.lower()}", f"--user={relay.SENDER}", f"--passwordeval=echo {relay.PASSWORD}",
                    f"--from={FROM}", "--", TO, stdin=content)
        self.each("msmtp", ("PLAIN", "LOGIN"), send)

    def test_curl(self):
        def send(port, implicit, mechanism, file):
            run("curl", "--silent", "--show-error", "--url", f"{'smtps' if implicit else 'smtp'}://{HOST}:{port}", "--ssl-reqd",
                "--cacert", self.place.ca, "--user", f"{relay.SENDER}:{relay.PASSWORD}", "--login-options", f"AUTH={mechanism}",
                "--mail-from", FROM, "--mail-rcpt", TO, "--upload-file", file)
        self.each("curl", ("PLAIN", "LOGIN"), send)

    def test_python_smtplib(self):
        def send(port, implicit, mechanism, file):
            tls = self.place.tls()
            client = smtplib.SMTP_SSL(HOST, port, context=tls, timeout=30) if implicit else smtplib.SMTP(HOST, port, timeout=30)
            with client:
                if not implicit:
                    client.starttls(context=tls)
                client.ehlo()
                client.user, client.password = relay.SENDER, relay.PASSWORD
                client.auth(mechanism, getattr(client, f"auth_{mechanism.lower()}"))
                client.sendmail(FROM, [TO], file.read_bytes(), mail_options=["BODY=8BITMIME"])
        self.each("smtplib", ("PLAIN", "LOGIN"), send)

    def test_nodemailer(self):
        module = CACHE / "node_modules" / "nodemailer"
        if not module.is_dir():
            self.fail("nodemailer is missing; run interop/install")

        def send(port, implicit, mechanism, file):
            settings = dict(module=str(module), port=port, implicit=implicit, mechanism=mechanism, ca=str(self.place.ca),
                            user=relay.SENDER, password=relay.PASSWORD, to=TO, file=str(file))
            settings["from"] = FROM
            run("node", REPOSITORY_SCRIPT, json.dumps(settings))
        self.each("nodemailer", ("PLAIN", "LOGIN"), send)

    def from_peer(self, kind):
        for tls in ("starttls", "implicit"):
            subject = f"{kind.__name__.lower()}-{tls}"
            with self.subTest(subject):
                place = Place("sender")
                # the same authority as the relay's
                for name in ("ca", "cert", "key"):
                    setattr(place, name, getattr(self.place, name))
                port = self.relay.tls_port if tls == "implicit" else self.relay.port
                peer = None
                try:
                    peer = kind(place, peers.Hop(port, tls, relay.SENDER, relay.PASSWORD))
                    with smtplib.SMTP("127.0.0.1", peer.port, timeout=30) as client:
                        client.sendmail(FROM, [TO], message(subject, FROM, TO), mail_options=["BODY=8BITMIME"])
                    try:
                        self.arrived(subject)
                    except AssertionError as error:
                        self.fail(f"{error}\n{peer.log()}")
                finally:
                    if peer:
                        peer.stop()
                    place.remove()

    def test_postfix_as_sender(self):
        self.from_peer(peers.Postfix)

    def test_exim_as_sender(self):
        self.from_peer(peers.Exim)

    def test_a_wrong_password_sends_nothing(self):
        with smtplib.SMTP(HOST, self.relay.port, timeout=30) as client:
            client.starttls(context=self.place.tls())
            with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
                client.login(relay.SENDER, "wrong")
            self.assertEqual(refused.exception.smtp_code, 535)
            self.assertGreaterEqual(client.mail(FROM)[0], 500)

    def test_nobody_relays_without_credentials(self):
        with smtplib.SMTP("127.0.0.1", self.relay.port, timeout=30) as client:
            client.ehlo()
            self.assertEqual(client.mail(FROM)[0], 530)


REPOSITORY_SCRIPT = __file__.replace("test_clients.py", "nodemailer.js")

if __name__ == "__main__":
    unittest.main(verbosity=2)
