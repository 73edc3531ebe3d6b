"""Proof of arrival: test mail through a real Postfix into a real Dovecot, found in the inbox or among the spam."""

import json
import subprocess
import unittest

import peers
import relay
from common import HOST, Place, free_port, need
from test_returned import PASSWORD, USER, Dovecot

FROM = "app@shop.test"
RESULTS = "Authentication-Results: mx.inbox.test; spf={} smtp.mailfrom=shop.test; dmarc={} header.from=shop.test"


class Arrival(unittest.TestCase):
    def setUp(self):
        need("openssl", "/usr/sbin/postfix")
        self.place = Place("arrival")
        self.addCleanup(self.place.remove)

    def start(self, authentication=("pass", "pass"), more="", hop=None):
        self.dovecot = Dovecot(self.place)
        self.addCleanup(self.dovecot.stop)
        self.dovecot.check(self.dovecot.box.create("Junk"))
        mail = self.dovecot.dir / "mail"
        boxes, checks, lost = (self.place.path / name for name in ("boxes", "checks", "lost"))
        boxes.write_text(f"probe@inbox.test {USER}/\nspam@inbox.test {USER}/.Junk/\n")
        checks.write_text(f"/^X-Arrival-Token:/ PREPEND {RESULTS.format(*authentication)}\n")
        lost.write_text("lost@inbox.test discard:\n")

        class Postfix(peers.Postfix):
            def configure(self):
                super().configure()
                with open(self.dir / "etc" / "main.cf", "a") as config:
                    config.write(f"virtual_mailbox_domains = inbox.test\nvirtual_mailbox_base = {mail}\nvirtual_mailbox_maps = texthash:{boxes}\n"
                                 "virtual_mailbox_limit = 0\nvirtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\n"
                                 f"header_checks = regexp:{checks}\ntransport_maps = texthash:{lost}\n")
                with open(self.dir / "etc" / "master.cf", "a") as services:
                    services.write("virtual unix - n n - - virtual\n")

        self.postfix = Postfix(self.place, peers.Hop(hop or free_port()))
        self.addCleanup(self.postfix.stop)
        self.box = relay.Pillarbox(self.place, "--smarthost", f"{HOST}:{self.postfix.port}", "--tls", "none", more=more)
        self.addCleanup(self.box.stop)
        secret = self.place.path / "mailbox-password"
        secret.write_text(PASSWORD)
        secret.chmod(0o600)
        self.box.cli("mailbox", "add", "probe", "--host", HOST, "--port", self.dovecot.tls_port, "--ca-file", self.place.ca,
                     "--username", USER, "--password-from", f"file:{secret}", "--disabled=true")

    def send(self, *options):
        """A test mail; its fate, and the exit code of a command that waits for it."""
        command = [relay.binary(), "arrival", "send", "--route", "out", "--from", FROM, "--wait", "--json", *options, "--config", self.box.config]
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=90)
        if done.returncode > 1:
            raise AssertionError(f"{done.stderr.decode()}\n{self.box.log()}\n{self.postfix.log()}")
        return json.loads(done.stdout), done.returncode

    def test_a_mail_in_the_inbox_is_found_with_its_delay_way_and_authentication(self):
        self.start()
        shown, code = self.send("--to", "probe@inbox.test", "--mailbox", "probe", "--within", "60s")
        self.assertEqual((shown["state"], shown["good"], code), ("arrived", True, 0), shown)
        found = shown["judgement"]
        self.assertEqual((found["way"], found["place"], found["folder"]), ("mailbox", "inbox", "INBOX"))
        self.assertLess(found["delay_s"], 60)
        self.assertEqual({one["method"]: one["result"] for one in found["authentication"]}, {"spf": "pass", "dmarc": "pass"})
        self.assertTrue(any("postfix.test" in (step.get("by") or "") for step in found["steps"]), found["steps"])
        # nothing was touched in the mailbox
        box = self.dovecot.box
        self.dovecot.check(box.select("INBOX", readonly=True))
        self.assertEqual(len(box.search(None, "UNSEEN")[1][0].split()), 1)

    def test_a_mail_among_the_spam_is_a_problem(self):
        self.start(authentication=("softfail", "fail"))
        shown, code = self.send("--to", "spam@inbox.test", "--mailbox", "probe", "--within", "60s")
        self.assertEqual((shown["state"], shown["good"], code), ("arrived", False, 1), shown)
        found = shown["judgement"]
        self.assertEqual((found["place"], found["folder"]), ("junk", "Junk"))
        rules = [one["rule"] for one in found["noticed"]]
        self.assertTrue(any("dmarc" in rule for rule in rules), rules)
        self.assertIn("was filed as spam", self.box.server.output())


if __name__ == "__main__":
    unittest.main()
