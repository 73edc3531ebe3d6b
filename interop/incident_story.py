"""What stories of incidents share: a relay, mail that is counted, and incidents as the command line shows them."""

import collections
import datetime
import http.server
import json
import pathlib
import smtplib
import subprocess
import threading
import time
import unittest

from common import Catch, Place, message, need
from relay import PASSWORD, SENDER, Pillarbox, binary

PATIENCE = 90
FAKETIME = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class Told:
    """A channel's other end: the alerts it was told, in order."""

    def __init__(self):
        self.alerts = []
        told = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                told.alerts += [alert | {"heard": time.time()} for alert in body["data"]["alerts"]]
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def about(self, name):
        """What was told of an incident."""
        return [one for one in self.alerts if ["incident", name] in [list(fact) for fact in one["about"]]]

    def of(self, word):
        return [(one["state"], one["severity"]) for one in self.alerts if word in one["key"]]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Story(unittest.TestCase):
    def setUp(self):
        need("openssl")
        self.place, self.catch = Place("incident"), Catch()
        self.addCleanup(self.place.remove)
        self.addCleanup(self.catch.stop)
        self.sent = []

    def relay(self, *route, **more):
        relay = Pillarbox(self.place, *route, **more)
        self.addCleanup(relay.stop)
        return relay

    def listen(self, relay):
        """A channel that does not need the route."""
        self.told = Told()
        self.addCleanup(self.told.stop)
        relay.cli("alert", "channel", "add", "ops", "webhook", "--url", self.told.url, "--network", "127.0.0.0/8", "--allow-http", "--group", "0")

    def one_alert(self, relay, name):
        """It was told once, within 10 s after it had opened."""
        self.until("an alert", relay, lambda: self.told.about(name))
        opened = datetime.datetime.fromisoformat(self.shown(relay, name)["incident"]["opened"]).timestamp()
        raised = [one["heard"] for one in self.told.about(name) if one["state"] != "resolved"]
        self.assertEqual(len(raised), 1, self.told.alerts)
        self.assertLess(raised[0] - opened, 10)

    def first_fix(self, shown, *words):
        """What is to be done first speaks of this."""
        text = shown["fixes"][0]["text"].lower()
        self.assertTrue(any(word in text for word in words), shown["fixes"])

    def send(self, relay, count, sender="app@shop.test", to="dest.test"):
        with smtplib.SMTP("127.0.0.1", relay.port, timeout=60) as client:
            client.starttls(context=None)
            client.login(SENDER, PASSWORD)
            for _ in range(count):
                subject = f"story-{len(self.sent)}"
                recipient = f"r{len(self.sent)}@{to}"
                client.sendmail(sender, [recipient], message(subject, sender, recipient))
                self.sent.append(subject)

    def json(self, relay, *arguments):
        """What a command says, whatever its exit code."""
        done = subprocess.run([str(binary()), *map(str, arguments), "--json", "--config", str(relay.config)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=120)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise AssertionError(f"{arguments}: {done.returncode} {done.stdout!r} {done.stderr!r}\n{relay.log()}") from None

    def until(self, what, relay, look, patience=PATIENCE):
        end, last = time.time() + patience, ""
        while time.time() < end:
            try:
                if found := look():
                    return found
            except AssertionError as error:  # its store may be away for a moment
                last = error
            time.sleep(0.2)
        raise AssertionError(f"{what}: not within {patience} s\n{last}\n{json.dumps(self.incidents(relay), indent=1)}\n{relay.log()}")

    def incidents(self, relay):
        return self.json(relay, "incident", "list", "--all")["items"]

    def opened(self, relay):
        return self.until("an incident", relay, lambda: self.incidents(relay))[0]["id"]

    def shown(self, relay, name):
        return self.json(relay, "incident", "show", name)

    def probe(self, relay, name):
        """Looks whether it is over; one that is closed already is."""
        try:
            self.json(relay, "incident", "probe", name)
        except AssertionError as error:
            if "is closed already" not in str(error):
                raise

    def closed(self, relay, name):
        return self.until(f"{name} closes itself", relay,
                          lambda: (one := self.shown(relay, name))["incident"]["state"] == "closed" and one)

    def all_arrived(self, relay):
        """Everything that was sent, each once."""
        subjects = lambda: collections.Counter(mail.header("Subject") for mail in self.catch.mail)
        self.until("all mail arrives", relay, lambda: set(self.sent) <= set(subjects()))
        self.assertEqual({subject: count for subject, count in subjects().items() if count > 1}, {}, "delivered twice")

    def only(self, relay, name):
        found = self.incidents(relay)
        self.assertEqual([one["id"] for one in found], [name], f"not exactly one incident: {json.dumps(found, indent=1)}")
