"""Proof of arrival: test mail through a real Postfix into a real Dovecot, found in the inbox, among the spam, or not at all; by our own
listener; and by the header that a person pastes."""

import json
import subprocess
import time
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
        boxes.write_text(f"probe@inbox.test {USER}/\nspam@inbox.test {USER}/.Junk/\nlost@inbox.test {USER}/\n")
        checks.write_text(f"/^X-Arrival-Token:/ PREPEND {RESULTS.format(*authentication)}\n")
        lost.write_text("lost@inbox.test discard:\n")

        class Postfix(peers.Postfix):
            def settings(self):
                return super().settings() | dict(
                    virtual_mailbox_domains="inbox.test", virtual_mailbox_base=mail, virtual_mailbox_maps=f"texthash:{boxes}",
                    virtual_mailbox_limit="0", virtual_uid_maps="static:65534", virtual_gid_maps="static:65534",
                    header_checks=f"regexp:{checks}", transport_maps=f"texthash:{lost}")

            def configure(self):
                super().configure()
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

    def logged(self, words):
        """The log says it, after the state is written down."""
        end = time.monotonic() + 60
        while words not in self.box.server.output():
            self.assertLess(time.monotonic(), end, self.box.server.output())
            time.sleep(0.1)

    def test_a_mail_among_the_spam_is_a_problem(self):
        self.start(authentication=("softfail", "fail"))
        shown, code = self.send("--to", "spam@inbox.test", "--mailbox", "probe", "--within", "60s")
        self.assertEqual((shown["state"], shown["good"], code), ("arrived", False, 1), shown)
        found = shown["judgement"]
        self.assertEqual((found["place"], found["folder"]), ("junk", "Junk"))
        rules = [one["rule"] for one in found["noticed"]]
        self.assertTrue(any("dmarc" in rule for rule in rules), rules)
        self.logged("was filed as spam")

    def test_a_lost_mail_is_missing_until_somebody_pastes_its_header(self):
        self.start()
        shown, code = self.send("--to", "lost@inbox.test", "--mailbox", "probe", "--within", "10s")
        self.assertEqual((shown["state"], code), ("missing", 1), shown)
        self.logged("did not arrive")
        header = self.place.path / "header"
        header.write_text(f"Subject: Test of delivery {shown['token']}\r\nFrom: <{FROM}>\r\n\r\n")
        done = subprocess.run([relay.binary(), "arrival", "confirm", header, "--json", "--config", self.box.config], stdout=subprocess.PIPE, timeout=60)
        pasted = json.loads(done.stdout)
        self.assertEqual((pasted["state"], pasted["judgement"]["way"]), ("late", "pasted"), pasted)
        listed = json.loads(self.box.cli("arrival", "ls", "--json"))["items"]
        self.assertEqual([one["state"] for one in listed], ["late"])

    def test_our_own_listener_confirms_what_goes_to_the_bounce_domain(self):
        port = free_port()
        more = ('[bounce]\ndomain = "bounces.shop.test"\n'
                f'[[listener]]\nname = "bounce"\nkind = "bounce"\naddress = "127.0.0.1:{port}"\nmode = "plain"\n')
        self.start(more=more, hop=port)
        shown, code = self.send("--within", "60s")
        self.assertEqual((shown["state"], shown["good"], code), ("arrived", True, 0), shown)
        self.assertEqual(shown["judgement"]["way"], "listener")
        self.assertTrue(shown["to"].endswith("@bounces.shop.test"))

    def test_a_check_of_ones_own_sends_test_mail_on_a_schedule(self):
        self.start()
        self.box.cli("schedule", "add", "probe", "--arrival", "out", "--from", FROM, "--to", "probe@inbox.test", "--mailbox", "probe",
                     "--at", "every 6h", "--timeout", "1m")
        shown = json.loads(self.box.cli("schedule", "run", "own:probe", "--json"))
        self.assertEqual(shown["result"]["level"], "ok", shown)
        self.assertIn("arrived", json.dumps(shown))


if __name__ == "__main__":
    unittest.main()
