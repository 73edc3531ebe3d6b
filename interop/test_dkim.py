"""Signatures made by Pillarbox, judged by two other implementations on the octets that a next hop received: dkimpy (RSA and Ed25519)
and OpenDKIM (RSA, with its own list of records instead of the DNS)."""

import json
import smtplib
import subprocess
import unittest

import relay
import test_policy
from common import Catch, Place

BODIES = {
    "empty": b"",
    "one-blank": b"\r\n",
    "blank-end": b"Hi\r\n\r\n\r\n\r\n",
    "blank-begin": b"\r\n\r\nHi\r\n",
    "blanks": b"a \t \r\n  b\t\r\n \r\n\t\r\n",
    "dots": b".\r\n..\r\n.dot\r\n...\r\n",
    "inner": b"two  blanks,\ttabs\t\tand   more\r\n",
    "from": b"From here\r\nFrom: no header\r\n",
    "long": b"word " * 300 + b"\r\n",
    "latin": b"Gr\xfc\xdfe \r\n\r\n",
    "utf8": "Grüße, € 5\r\n".encode(),
}
HEADERS = {
    "plain": b"Cc: c@one.test\r\n",
    "folded": b"References: <a@x>\r\n\t<b@x>\r\nReply-To: a@shop.test,\r\n   b@shop.test \r\n",
    "repeated": b"Comments: 1\r\nComments: 2\r\nTO: d@one.test\r\nCc: e@one.test\r\nCc: f@one.test\r\n",
    "odd": b"KEYWORDS:x\r\nDate:  Sat, 21 Nov 2026 07:00:00 +0000\r\nList-Unsubscribe: <https://shop.test/u>\r\n",
    "mime": b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n",
}


class Dkim(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        test_policy.fetch()
        cls.place, cls.catch = Place("dkim"), Catch()
        cls.addClassCleanup(cls.place.remove)
        cls.addClassCleanup(cls.catch.stop)
        cls.relay = relay.Pillarbox(cls.place, "--smarthost", f"127.0.0.1:{cls.catch.port}", "--tls", "none")
        cls.addClassCleanup(cls.relay.stop)
        added = json.loads(cls.relay.cli("dkim", "add", "shop.test", "--selector", "s1", "--json"))
        cls.records = {key["record"]["name"]: key["record"]["value"] for key in added["keys"]}
        cls.relay.cli("dkim", "activate", "shop.test", "--force")
        cls.mail = cls.send()

    @classmethod
    def send(cls):
        subjects = []
        with smtplib.SMTP("localhost", cls.relay.port) as smtp:
            smtp.starttls(context=cls.place.tls())
            smtp.login(relay.SENDER, relay.PASSWORD)
            for header, fields in HEADERS.items():
                for body, text in BODIES.items():
                    subject = f"{header}-{body}"
                    head = f"From: Shop <a@shop.test>\r\nTo: b@one.test\r\nSubject: {subject}\r\n".encode()
                    smtp.sendmail("a@shop.test", ["b@one.test"], head + fields + b"\r\n" + text, mail_options=["BODY=8BITMIME"])
                    subjects.append(subject)
        return {subject: cls.catch.wait(subject) for subject in subjects}

    def test_dkimpy_takes_both_signatures_of_every_message(self):
        import dkim
        self.assertGreaterEqual(len(self.mail), 50)
        text = lambda name, timeout=5: self.records[name.decode().rstrip(".")].encode()
        for subject, mail in self.mail.items():
            judge = dkim.DKIM(mail.content, minkey=1024)
            for index in (0, 1):
                with self.subTest(subject=subject, index=index):
                    self.assertTrue(judge.verify(idx=index, dnsfunc=text))

    def test_opendkim_takes_the_rsa_signature_of_every_message(self):
        data = self.place.path / "records"
        data.write_text("".join(f"{name} {value}\n" for name, value in self.records.items()))
        config = self.place.path / "opendkim.conf"
        config.write_text(f"TestDNSData {data}\nMode v\n")
        for subject, mail in self.mail.items():
            file = self.place.path / "message.eml"
            # OpenDKIM's test mode judges the signatures it can; Ed25519 is not among them in most builds.
            file.write_bytes(mail.content)
            done = subprocess.run(["opendkim", "-x", config, "-t", file], capture_output=True, text=True, timeout=60)
            with self.subTest(subject=subject):
                self.assertIn("verification (s=s1-rsa, d=shop.test", done.stdout)
                self.assertIn("succeeded", done.stdout, done.stderr)


if __name__ == "__main__":
    unittest.main()
