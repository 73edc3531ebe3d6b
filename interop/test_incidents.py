"""Incidents told with real servers: what a provider does to us, what reaches it meanwhile, and what happens when it is mended.

The provider is a private Postfix, with Dovecot's SASL where passwords matter; it notes all that it takes and throws it away, so
that thousands of messages take no longer than they need. Each story ends with all mail delivered, and none twice.
"""

import collections
import datetime
import json
import os
import re
import smtplib
import socket
import subprocess
import threading
import time
import unittest

import peers
import relay
import sasl
from check_certs import PAST, Authority
from common import HOST, Place, Process, free_port, need, whole_lines
from network import Namespace, private as setUpModule

# FULL=1: as many as a bad day brings; Postfix takes a minute or two for them
MANY = 10_000 if os.environ.get("FULL") else 2_000
SENT = re.compile(r"to=<([^>]+)>.* status=sent")


class Notes:
    """What a Postfix has written to its log so far."""

    def __init__(self, peer):
        self.peer = peer
        self.path = peer.dir / "log" / "mail"

    def text(self):
        return self.path.read_text(errors="replace") if self.path.exists() else ""

    def taken(self):
        return collections.Counter(SENT.findall(self.text()))

    def failures(self):
        """Sign-ins that were turned down, without those by which a test looked."""
        return self.text().count("authentication failed") - self.peer.looks


class Sinking:
    """Takes mail, notes it, and throws it away."""

    MORE = {}
    LOGS = True

    def settings(self):
        return super().settings() | dict(relayhost="", default_transport="discard", relay_transport="discard", **self.MORE)


class Provider(Sinking, sasl.Dovecot):
    looks = 0

    def password(self, password):
        users = self.dir / "users"
        new = users.with_suffix(".new")
        new.write_text(f"{sasl.USER}:{{PLAIN}}{password}\n")
        new.rename(users)
        # Dovecot looks at the file again after a moment
        end = time.time() + 60
        while not self.knows(password):
            if time.time() > end:
                raise RuntimeError(f"the password was not changed\n{self.log()}")

    def knows(self, password):
        with smtplib.SMTP(HOST, self.port, timeout=20) as client:
            client.starttls(context=self.place.tls())
            client.ehlo()
            client.user, client.password = sasl.USER, password
            try:
                client.auth("PLAIN", client.auth_plain)
                return True
            except smtplib.SMTPAuthenticationError:
                self.looks += 1
                return False


class Plain(Sinking, peers.Postfix):
    """Without sign-in."""


class Dated(Plain):
    """With a certificate of its own, which can be another one from one moment to the next."""

    def settings(self):
        where = self.place.path
        return super().settings() | dict(smtpd_tls_cert_file=where / "theirs.cert", smtpd_tls_key_file=where / "theirs.key")


class Hurried(Plain):
    """So much in so long from one client, and no more."""

    MORE = dict(smtpd_client_message_rate_limit="8", anvil_rate_time_unit="4s", smtpd_client_event_limit_exceptions="")


class Outside(Plain):
    """To be reached from other network namespaces, without TLS."""

    MORE = dict(mynetworks="127.0.0.0/8 10.0.0.0/8")

    def configure(self):
        super().configure()
        master = self.dir / "etc" / "master.cf"
        master.write_text(master.read_text().replace("127.0.0.1:", "0.0.0.0:", 1))


class Box(relay.Pillarbox):
    """A Pillarbox that takes mail from anywhere at `door`, and tells alerts to a file."""

    def __init__(self, place, *route, network=None):
        self.network, self.door = network, free_port()
        self.told = place.path / "alerts"
        program = place.path / "tell"
        # Each in one write: two may be told at once.
        program.write_text(f"#!/bin/sh\nprintf '{{\"at\": %s, \"told\": %s}}\\n' \"$(date +%s.%N)\" \"$(cat)\" >> {self.told}\n")
        program.chmod(0o755)
        super().__init__(place, *route, more=f'[[listener]]\nname = "door"\naddress = "0.0.0.0:{self.door}"\nmode = "plain"\n')
        try:
            self.cli("sender", "add", "loader", "--allow-from", "*", "--trust-address", "127.0.0.0/8", "--trust-address", "10.0.0.0/8",
                     "--no-password")
            # the first channel goes by the route that breaks
            self.cli("alert", "channel", "add", "mail", "email", "--from", "relay@app.test", "--to", "ops@app.test")
            self.cli("alert", "channel", "add", "page", "command", "--command", program, "--group", "0")
        except Exception as error:
            self.stop()
            raise RuntimeError(f"{error}\n{self.log()}") from None

    def start(self):
        self.host = self.network.inside if self.network else "127.0.0.1"
        serve = [relay.binary(), "serve", "--config", self.config]
        self.server = Process(self.network.within(*serve) if self.network else serve, self.dir / "out.log")
        end = time.time() + 60
        while time.time() < end and self.server.process.poll() is None:
            try:
                with socket.create_connection((self.host, self.door), 5) as link:
                    if link.recv(100).startswith(b"220"):
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"it did not start\n{self.server.output()}")

    def ask(self, *arguments):
        """JSON; that something is wrong is an answer too."""
        done = subprocess.run([str(relay.binary()), *arguments, "--json", "--config", str(self.config)], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)
        if done.returncode not in (0, 1) or not done.stdout:
            raise RuntimeError(f"{arguments}: {done.returncode}\n{done.stderr.decode(errors='replace')}")
        return json.loads(done.stdout)

    def items(self, *arguments):
        listed = self.ask(*arguments)
        return listed if isinstance(listed, list) else listed["items"]

    def alerts(self):
        """What the second channel was told: when, and each alert."""
        return [(one["at"], alert) for one in map(json.loads, whole_lines(self.told)) for alert in one["told"]["alerts"]]

    def push(self, first, count):
        """Messages to different recipients over one connection; gives who was promised delivery."""
        taken = []
        with socket.create_connection((self.host, self.door), 60) as link:
            file = link.makefile("rb")

            def answers(number):
                codes = []
                for _ in range(number):
                    line = file.readline()
                    while line[3:4] == b"-":
                        line = file.readline()
                    codes.append(line[:3])
                return codes

            answers(1)
            link.sendall(b"EHLO app.test\r\n")
            answers(1)
            for n in range(first, first + count):
                address = f"r{n}@x{n % 5}.test"
                link.sendall(f"MAIL FROM:<app@app.test>\r\nRCPT TO:<{address}>\r\nDATA\r\n".encode())
                answers(3)
                link.sendall(f"From: app@app.test\r\nTo: {address}\r\nSubject: {n}\r\n\r\nhello\r\n.\r\n".encode())
                if answers(1) == [b"250"]:
                    taken.append(address)
            link.sendall(b"QUIT\r\n")
        return taken


class Incidents(unittest.TestCase):
    def setUp(self):
        need("openssl", "postfix", "dovecot")
        self.place = Place("incidents")
        self.addCleanup(self.place.remove)

    def provider(self, kind):
        self.peer = kind(self.place, peers.Hop(1))
        self.addCleanup(self.peer.stop)
        self.notes = Notes(self.peer)

    def box_by(self, *route, network=None):
        self.box = Box(self.place, *route, network=network)
        self.addCleanup(self.box.stop)

    def wait(self, what, look, patience=45):
        end = time.time() + patience
        while time.time() < end:
            found = look()
            if found:
                return found
            time.sleep(0.1)
        self.fail(f"not within {patience} s: {what}\n{self.peer.log()[-3000:]}\n{self.box.log()}\n{self.box.items('incident', 'list', '--all')}")

    def incident(self, patience=45):
        """The one that is open."""
        found = self.wait("an incident", lambda: self.box.items("incident", "list"), patience)
        self.assertEqual(len(found), 1, found)
        return found[0]

    def probe(self, incident):
        """Looks whether it is over; one that is closed already is."""
        try:
            self.box.ask("incident", "probe", incident["id"])
        except RuntimeError as error:
            if "is closed already" not in str(error):
                raise

    def closes(self, incident, patience=90):
        """How it was closed."""
        self.wait("no open incident", lambda: not self.box.items("incident", "list"), patience)
        every = self.box.items("incident", "list", "--all")
        self.assertEqual([one["id"] for one in every], [incident["id"]], every)
        return every[0]

    def all_arrive(self, promised, patience=60):
        """Each once."""
        # The alert that tells of the end may take the mended route too.
        mail = lambda: {address: times for address, times in self.notes.taken().items() if address != "ops@app.test"}
        # As long as some comes, the rest may.
        while (before := len(mail())) < len(promised):
            self.wait("more mail delivered", lambda: len(mail()) > before, patience)
        taken = mail()
        self.assertEqual(sorted(taken), sorted(promised))
        self.assertEqual([address for address, times in taken.items() if times > 1], [])

    def one_alert(self, incident):
        """The second channel was told once, within 10 s after it had opened; gives when."""
        raised = lambda: [at for at, alert in self.box.alerts() if incident["id"] in json.dumps(alert) and alert.get("state") != "resolved"]
        about = self.wait("an alert", raised, 60)
        self.assertEqual(len(about), 1, self.box.alerts())
        self.assertLess(about[0] - datetime.datetime.fromisoformat(incident["opened"]).timestamp(), 10)
        return about[0]

    def first_fix(self, incident, *words):
        """What is to be done first speaks of one of these."""
        fixes = self.box.ask("incident", "show", incident["id"])["fixes"]
        self.assertTrue(any(word in fixes[0]["text"].lower() for word in words), fixes)

    def secret(self, name, text):
        path = self.place.path / name
        path.write_text(text)
        path.chmod(0o600)
        return f"file:{path}"

    def test_password_changed_by_the_provider_under_load(self):
        self.provider(Provider)
        self.box_by("--smarthost", f"{HOST}:{self.peer.port}", "--tls", "required", "--ca-file", self.place.ca, "--username", sasl.USER,
                    "--password-from", self.secret("old", sasl.PASSWORD), "--messages-per-connection", "50")
        promised, threads, lock = self.box.push(0, 20), [], threading.Lock()
        self.wait("the first mail", lambda: len(self.notes.taken()) == 20)
        def load(first, count):
            taken = self.box.push(first, count)
            with lock:
                promised.extend(taken)

        share = MANY // 4
        for n in range(4):
            threads.append(threading.Thread(target=load, args=(20 + n * share, share)))
        before = self.notes.failures()
        self.peer.password("something else")
        for thread in threads:
            thread.start()
        self.wait("a rejected sign-in", lambda: self.notes.failures() > before)
        rejected = time.time()
        incident = self.incident()
        self.assertEqual(incident["scope"], "credential:out", incident)
        self.wait("a brake", lambda: [one for one in self.box.items("incident", "list") if one["brake"] == "credential:out"])
        for thread in threads:
            thread.join()
        self.assertEqual(len(promised), MANY + 20)
        self.assertLess(self.one_alert(incident) - rejected, 10)
        waiting = self.wait("all held", lambda: [one for one in self.box.ask("status")["relay"]["brakes"]
                                                 if one["waiting"] + len(self.notes.taken()) == MANY + 20])
        self.assertEqual((waiting[0]["scope"], waiting[0]["incident"]), ("credential:out", incident["id"]))
        self.assertGreater(waiting[0]["waiting"], MANY // 2)
        self.assertLessEqual(self.notes.failures() - before, 3)
        self.first_fix(incident, "password")

        self.box.cli("route", "set", "out", "--password-from", self.secret("new", "something else"))
        closed = self.closes(incident)
        self.assertEqual(closed["closed_how"], "setting", closed)
        self.all_arrive(promised, 300 if os.environ.get("FULL") else 60)
        self.assertLessEqual(self.notes.failures() - before, 3)

    def test_certificate_expired(self):
        where = self.place.path / "authority"
        where.mkdir()
        root = Authority(where, "root", "/CN=Incident test authority")
        good, old = root.leaf("good"), root.leaf("old", span=PAST)

        def serve(pair):
            for name, path in (("cert", pair[0]), ("key", pair[1])):
                (self.place.path / f"theirs.{name}").write_bytes(path.read_bytes())

        serve(old)
        self.provider(Dated)
        self.box_by("--smarthost", f"{HOST}:{self.peer.port}", "--tls", "required", "--ca-file", root.cert)
        promised = self.box.push(0, 30)
        incident = self.incident()
        self.assertEqual(incident["reason"], "certificate_expired", incident)
        self.first_fix(incident, "clock", "certificate")
        self.one_alert(incident)
        self.assertEqual(len(self.notes.taken()), 0)
        serve(good)
        self.peer.renew()
        self.probe(incident)
        # a usual attempt may be before the probe
        self.assertIn(self.closes(incident)["closed_how"], ("probe", "delivered"))
        self.all_arrive(promised)

    def test_port_blocked(self):
        network = Namespace()
        self.addCleanup(network.remove)
        self.provider(Outside)
        # an open connection would not notice
        self.box_by("--smarthost", f"{network.outside}:{self.peer.port}", "--tls", "none", "--messages-per-connection", "1",
                    network=network)
        promised = self.box.push(0, 1)
        self.wait("the first mail", lambda: len(self.notes.taken()) == 1)
        network.block(self.peer.port)
        promised += self.box.push(1, 20)
        incident = self.incident(90)
        # there is no other route by which mail still goes
        self.assertEqual((incident["reason"], incident["scope"]), ("network_unreachable", "everyone"), incident)
        self.first_fix(incident, "network", "route", "firewall")
        self.one_alert(incident)
        network.unblock(self.peer.port)
        self.probe(incident)
        self.closes(incident)
        self.all_arrive(promised)

    def test_rate_limited(self):
        self.provider(Hurried)
        self.box_by("--smarthost", f"{HOST}:{self.peer.port}", "--tls", "none")
        promised = self.box.push(0, 24)
        incident = self.incident()
        self.assertEqual(incident["reason"], "rate_limited", incident)
        # it takes mail, only less of it: nothing is held
        self.assertIsNone(incident["brake"])
        self.first_fix(incident, "slow", "rate", "limit", "wait")
        self.one_alert(incident)
        self.all_arrive(promised, 60)
        # It may come back while the rest is tried; then it is the same one, and has to be still for longer.
        self.assertIn(self.closes(incident, 300)["closed_how"], ("delivered", "probe"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
