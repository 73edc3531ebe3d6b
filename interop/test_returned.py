"""What comes back later: a real Postfix that accepts and bounces afterwards to our return path, and a real Dovecot whose mailbox is
polled for bounces and reports, with IDLE, with a restart in the middle, by password, STARTTLS and OAuth."""

import gzip
import imaplib
import json
import os
import smtplib
import time
import unittest
import urllib.parse
import urllib.request

import oauth
import peers
import relay
from common import CACHE, HOST, Catch, Place, Process, free_port, message, need
from web import Web

FROM = "app@shop.test"
USER, PASSWORD = "bounces@shop.test", "mailbox-secret"
HEAD = "From: MAILER-DAEMON@mx.one.test\r\nTo: bounces@shop.test\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n"


def bounce(recipient, trace):
    """A bounce as a server writes one, with the returned header."""
    return (HEAD + "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
            "--b\r\nContent-Type: text/plain\r\n\r\nI could not deliver it.\r\n"
            "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.one.test\r\n\r\n"
            f"Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: 5.1.1\r\n"
            f"Diagnostic-Code: smtp; 550 5.1.1 <{recipient}>: Recipient address rejected: User unknown\r\n\r\n"
            f"--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{trace}\r\n--b--\r\n").encode()


def report():
    """A mail that brings an aggregate report."""
    xml = (b"<feedback><report_metadata><org_name>receiver.test</org_name><report_id>1</report_id></report_metadata><policy_published>"
           b"<domain>shop.test</domain><p>none</p></policy_published><record><row><source_ip>192.0.2.1</source_ip><count>4</count>"
           b"<policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row><identifiers>"
           b"<header_from>shop.test</header_from></identifiers><auth_results/></record></feedback>")
    import base64
    body = base64.encodebytes(gzip.compress(xml)).replace(b"\n", b"\r\n")
    return (b"From: r@receiver.test\r\nTo: bounces@shop.test\r\nSubject: Report Domain: shop.test\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: application/gzip; name=\"r.xml.gz\"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body)


class Dovecot:
    """Dovecot with IMAP alone: own port, own mail, the certificate of the place."""

    def __init__(self, place, introspection=None):
        self.place, self.port, self.tls_port = place, free_port(), free_port()
        self.dir = place.path / "dovecot"
        run_dir = self.dir / "run"
        mail = self.dir / "mail"
        for directory in (self.dir, run_dir, mail):
            directory.mkdir()
        mail.chmod(0o777)
        key = self.dir / "key.pem"
        key.write_text(place.key.read_text())
        (self.dir / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        oauth2 = ""
        if introspection:
            (self.dir / "oauth2").write_text(
                f"introspection_mode = get\nintrospection_url = {introspection}\nusername_attribute = email\n"
                "active_attribute = active\nactive_value = true\n")
            oauth2 = f"passdb {{\n  driver = oauth2\n  mechanisms = xoauth2\n  args = {self.dir}/oauth2\n}}\n"
        config = self.dir / "dovecot.conf"
        config.write_text(f"""
base_dir = {run_dir}
state_dir = {run_dir}
log_path = {self.dir}/log
protocols = imap
listen = 127.0.0.1
ssl = yes
ssl_cert = <{place.cert}
ssl_key = <{key}
ssl_dh =
disable_plaintext_auth = yes
auth_mechanisms = plain login {"xoauth2" if introspection else ""}
auth_failure_delay = 0
mail_location = maildir:{mail}/%u
first_valid_uid = 1
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
{oauth2}
passdb {{
  driver = passwd-file
  mechanisms = plain login
  args = scheme=PLAIN username_format=%u {self.dir}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={mail}/%u
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = {self.tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  unix_listener stats-reader {{
    mode = 0600
  }}
}}
""")
        self.config = config
        self.start()

    def start(self):
        self.server = Process(["/usr/sbin/dovecot", "-F", "-c", self.config], self.dir / "out.log")
        end = time.time() + 30
        while True:
            try:
                self.box = imaplib.IMAP4_SSL(HOST, self.tls_port, ssl_context=self.place.tls(), timeout=30)
                self.box.login(USER, PASSWORD)
                return
            except (OSError, imaplib.IMAP4.error) as error:
                if time.time() > end or self.server.process.poll() is not None:
                    raise RuntimeError(f"dovecot: {error}\n{self.log()}") from None
                time.sleep(0.1)

    def put(self, content, folder="INBOX"):
        self.check(self.box.append(folder, None, None, content))

    def check(self, answer):
        if answer[0] != "OK":
            raise AssertionError(answer)
        return answer[1]

    def log(self):
        logs = [self.dir / "log", self.server.log]
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in logs if path.exists())

    def stop(self):
        self.server.stop()


class Refuser(Catch):
    """Knows nobody."""

    def _converse(self, link):
        say = lambda text: link.wfile.write(text.encode() + b"\r\n")
        say("220 gone.test ESMTP")
        while line := link.rfile.readline():
            verb = line[:4].upper()
            if verb == b"RCPT":
                say("550 5.1.1 The mailbox is unknown here")
            elif verb == b"QUIT":
                say("221 bye")
                return
            else:
                say("554 no valid recipients" if verb == b"DATA" else "250 ok")


def introspection(identity):
    """What Dovecot asks: passes the question on to the identity provider, in the form that one understands."""

    def answer(_method, path, _headers, _body):
        token = urllib.parse.parse_qs(urllib.parse.urlparse(path).query).get("access_token", [""])[0]
        form = urllib.parse.urlencode({"token": token, "client_id": "host", "client_secret": "host-secret-0123456789-0123456789"})
        with urllib.request.urlopen(f"{identity.url}/token/introspection", form.encode(), timeout=10) as reply:
            return 200, {"active": json.load(reply).get("active") is True, "email": USER}

    return Web(answer)


class Story(unittest.TestCase):
    def setUp(self):
        need("openssl")
        self.place = Place("returned")
        self.addCleanup(self.place.remove)

    def send(self, *recipients):
        """Sends one message; gives its id."""
        with smtplib.SMTP_SSL(HOST, self.box.tls_port, context=self.place.tls(), timeout=30) as link:
            link.login(relay.SENDER, relay.PASSWORD)
            link.mail(FROM)
            for recipient in recipients:
                link.rcpt(recipient)
            code, text = link.data(message("returned", FROM, recipients[0]))
            self.assertEqual(code, 250, text)
            return text.decode().split()[-1]

    def shown(self, id):
        return json.loads(self.box.cli("queue", "show", id, "--json"))

    def until(self, what, condition, patience=60):
        end = time.time() + patience
        while time.time() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.1)
        more = "\n".join(getattr(self, name).log() for name in ("dovecot", "postfix") if hasattr(self, name))
        self.fail(f"not within {patience} s: {what}\n{self.box.log()}\n{more}")

    def state(self, id, state, n=0):
        def is_so():
            shown = self.shown(id)
            return shown if shown["message"]["recipients"][n]["state"] == state else None
        return self.until(f"{id}.{n} is {state}", is_so)

    def bounced(self, id):
        return [event for event in self.shown(id)["events"] if event["event"] == "bounced"]


class LaterBounces(Story):
    def test_postfix_accepts_and_bounces_later_to_our_return_path(self):
        need("postfix")
        port = free_port()
        gone = self.place.path / "transport"
        refuser = Refuser()
        self.addCleanup(refuser.stop)
        gone.write_text(f"gone.test smtp:[localhost]:{refuser.port}\n")

        class Postfix(peers.Postfix):
            def settings(self):
                return super().settings() | dict(transport_maps=f"texthash:{gone}")

        self.postfix = Postfix(self.place, peers.Hop(port))
        self.addCleanup(self.postfix.stop)
        more = ('[bounce]\ndomain = "bounces.shop.test"\n'
                f'[[listener]]\nname = "bounce"\nkind = "bounce"\naddress = "127.0.0.1:{port}"\nmode = "plain"\n')
        self.box = relay.Pillarbox(self.place, "--smarthost", f"{HOST}:{self.postfix.port}", "--tls", "none", more=more)
        self.addCleanup(self.box.stop)
        id = self.send("ann@gone.test")
        shown = self.state(id, "bounced")
        self.assertTrue(shown["message"]["recipients"][0]["finding"]["rule"], shown)
        self.assertEqual(shown["message"]["envelope_from"], FROM)
        self.assertEqual([event["source"] for event in self.bounced(id)], ["listener"])
        kinds = [event["event"] for event in self.shown(id)["events"]]
        self.assertLess(kinds.index("delivered"), kinds.index("bounced"), kinds)
        self.assertEqual(json.loads(self.box.cli("bounce", "ls", "--unmatched", "--json"))["items"], [])


class PolledMailbox(Story):
    def start(self, *options, introspection=None):
        if not os.path.exists("/usr/lib/dovecot/imap"):
            raise RuntimeError("dovecot-imapd is missing; run interop/install as root")
        self.dovecot = Dovecot(self.place, introspection)
        self.addCleanup(self.dovecot.stop)
        self.catch = Catch()
        self.addCleanup(self.catch.stop)
        self.box = relay.Pillarbox(self.place, "--smarthost", f"{HOST}:{self.catch.port}", "--tls", "none")
        self.addCleanup(self.box.stop)

    def add(self, *options, name="ndr", port=None, password=PASSWORD):
        secret = self.place.path / "mailbox-password"
        secret.write_text(password or "")
        secret.chmod(0o600)
        self.box.cli("mailbox", "add", name, "--host", HOST, "--port", port or self.dovecot.tls_port, "--ca-file", self.place.ca,
                     "--username", USER, *(["--password-from", f"file:{secret}"] if password else []), *options)

    def mailbox(self, name="ndr"):
        return json.loads(self.box.cli("mailbox", "show", name, "--json"))

    def watched(self, state, name="ndr"):
        return self.until(f"mailbox is {state}", lambda: (self.mailbox(name)["state"] or {}).get("state") == state)

    def deliver(self, *recipients):
        id = self.send(*recipients)
        for n in range(len(recipients)):
            self.state(id, "delivered", n)
        return id

    def trace(self, id):
        """What of our header comes back."""
        sent = next(mail for mail in self.catch.mail if id in (mail.header("Received") or ""))
        return f"Received: {sent.header('Received')}\r\nFrom: {FROM}\r\nSubject: returned\r\n"

    def test_a_mailbox_is_read_by_idle_and_once_over_restarts(self):
        self.start()
        self.dovecot.put(b"From: a@b.test\r\nSubject: old letter\r\n\r\nhello\r\n")
        self.dovecot.check(self.dovecot.box.create("Processed"))
        self.add("--after", "move", "--move-to", "Processed")
        self.watched("idle")
        ids = [self.deliver(f"r{n}@one.test") for n in range(4)]
        began = time.time()
        self.dovecot.put(bounce("r0@one.test", self.trace(ids[0])))
        self.state(ids[0], "bounced")
        self.assertLess(time.time() - began, 30, "IDLE tells at once")
        self.assertEqual([event["source"] for event in self.bounced(ids[0])], ["imap:ndr"])
        self.dovecot.put(b"From: a@b.test\r\nSubject: a letter\r\n\r\nto a person\r\n")
        self.dovecot.put(report())
        # killed in the middle of many, with some of them twice
        for n in (1, 2, 1, 0):
            self.dovecot.put(bounce(f"r{n}@one.test", self.trace(ids[n])))
        self.box.server.process.kill()
        self.box.server.process.wait()
        self.dovecot.put(bounce("r3@one.test", self.trace(ids[3])))
        self.box.start()
        for id in ids:
            self.state(id, "bounced")
        self.watched("idle")
        self.until("the report is read", lambda: json.loads(self.box.cli("bounce", "ls", "--reports", "--json"))["items"])
        for id in ids:
            self.assertEqual(len(self.bounced(id)), 1, self.shown(id)["events"])
        self.assertEqual(json.loads(self.box.cli("bounce", "ls", "--unmatched", "--json"))["items"], [])
        # letters stay where they are
        box = self.dovecot.box
        self.dovecot.check(box.select("INBOX", readonly=True))
        subjects = [box.fetch(n, "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0] for n in box.search(None, "ALL")[1][0].split()]
        subjects = [part[1] for part in subjects if part]  # one may be moved meanwhile
        self.assertEqual(sum(b"letter" in subject for subject in subjects), 2, subjects)
        # the server goes away and comes back
        self.dovecot.stop()
        self.watched("failed")
        self.dovecot.start()
        id = self.deliver("again@one.test")
        self.dovecot.put(bounce("again@one.test", self.trace(id)))
        self.state(id, "bounced")

    def test_polling_behind_starttls_marks_what_was_taken(self):
        self.start()
        id = self.deliver("ann@one.test")
        self.dovecot.put(bounce("ann@one.test", self.trace(id)))
        self.add("--tls", "starttls", "--idle", "false", "--poll", "10", "--after", "seen", "--first", "all", port=self.dovecot.port)
        self.state(id, "bounced")
        self.watched("waiting")
        self.dovecot.check(self.dovecot.box.select("INBOX", readonly=True))
        self.assertEqual(self.dovecot.box.search(None, "SEEN")[1][0].split(), [b"1"])
        second = self.deliver("bob@one.test")
        self.dovecot.put(bounce("bob@one.test", self.trace(second)))
        self.state(second, "bounced")

    def test_a_wrong_password_is_told_and_not_tried_again_and_again(self):
        self.start()
        self.add(password="wrong-password")
        self.watched("failed")
        shown = self.mailbox()
        self.assertIn("refused", shown["state"]["error"])
        self.assertNotIn("wrong-password", json.dumps(shown) + self.box.server.output())
        tried = lambda: self.dovecot.log().count("auth failed, 1 attempts")
        self.until("the sign-in is in its log", tried)
        self.assertEqual(tried(), 1, self.dovecot.log())

    def test_access_tokens_take_the_place_of_a_password(self):
        need("node")
        if not (CACHE / "node_modules" / "oidc-provider").is_dir():
            raise RuntimeError("oidc-provider is missing; run interop/install")
        self.identity = oauth.Identity(self.place)
        self.addCleanup(self.identity.stop)
        bridge = introspection(self.identity)
        self.addCleanup(bridge.stop)
        self.start(introspection=f"http://127.0.0.1:{bridge.port}/?access_token=")
        secret = self.place.path / "client-secret"
        secret.write_text(oauth.SECRET)
        secret.chmod(0o600)
        self.add("--oauth", "other", "--token-url", f"{self.identity.url}/token", "--client-id", oauth.CLIENT, "--client-secret-file", secret,
                 "--scope", "mail.send", password=None)
        self.watched("idle")
        id = self.deliver("ann@one.test")
        self.dovecot.put(bounce("ann@one.test", self.trace(id)))
        self.state(id, "bounced")


if __name__ == "__main__":
    unittest.main()
