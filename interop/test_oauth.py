"""OAuth against a real identity provider: an old client with AUTH LOGIN reaches a smart host that knows nothing but tokens; one
question serves all; tokens that ended, were revoked or are for somebody else; and a wrong secret that is not tried a thousand times."""

import json
import smtplib
import time
import unittest

import oauth
import relay
from common import CACHE, HOST, Place, message, need

FROM, MAILBOX = "scanner@app.test", "mailbox@app.test"


class OldClient(smtplib.SMTP_SSL):
    """Speaks AUTH LOGIN and nothing newer."""

    def login(self, user, password):
        self.ehlo_or_helo_if_needed()
        self.user, self.password = user, password
        return self.auth("LOGIN", self.auth_login)


class Oauth(unittest.TestCase):
    def setUp(self):
        need("openssl", "node")
        if not (CACHE / "node_modules" / "oidc-provider").is_dir():
            raise RuntimeError("oidc-provider is missing; run interop/install")
        self.place = Place("oauth")
        self.addCleanup(self.place.remove)

    def start(self, life=3600, secret=oauth.SECRET, audience=oauth.AUDIENCE):
        self.identity = oauth.Identity(self.place, life)
        self.addCleanup(self.identity.stop)
        self.host = oauth.TokenHost(self.identity, self.place.cert, self.place.key, audience)
        self.addCleanup(self.host.stop)
        self.box = relay.Pillarbox(self.place, "--smarthost", f"{HOST}:{self.host.port}", "--tls", "implicit", "--ca-file", self.place.ca,
                                   "--username", MAILBOX, "--oauth", "other", "--token-url", f"{self.identity.url}/token",
                                   "--client-id", oauth.CLIENT, "--client-secret-file", self.secret(secret), "--scope", "mail.send")
        self.addCleanup(self.box.stop)

    def secret(self, text):
        path = self.place.path / f"secret-{len(list(self.place.path.glob('secret-*')))}"
        path.write_text(text)
        path.chmod(0o600)
        return path

    def send(self, count, client=smtplib.SMTP_SSL, subject="token"):
        with client(HOST, self.box.tls_port, context=self.place.tls(), timeout=30) as link:
            link.login(relay.SENDER, relay.PASSWORD)
            for n in range(count):
                link.sendmail(FROM, [f"r{n}@dest.test"], message(f"{subject}-{n}", FROM, f"r{n}@dest.test"))

    def arrives(self, count):
        self.assertTrue(self.host.wait(count), f"{len(self.host.mail)} of {count} arrived\n{self.box.log()}")

    def status(self):
        return json.loads(self.box.cli("status", "--json"))

    def until(self, what, condition, patience=60):
        end = time.time() + patience
        while time.time() < end:
            found = condition()
            if found:
                return found
            time.sleep(0.1)
        self.fail(f"not within {patience} s: {what}\n{self.box.log()}")

    def brakes(self):
        return self.status()["relay"]["brakes"]

    def test_an_old_client_with_auth_login_reaches_a_host_that_takes_only_tokens(self):
        self.start()
        self.send(1, OldClient)
        self.arrives(1)
        self.assertEqual(self.host.mail[0][0], MAILBOX)
        shown = self.box.cli("route", "show", "out", "--json")
        self.assertNotIn(oauth.SECRET, shown)
        self.assertIn("client_secret", shown)

    def test_one_question_serves_a_hundred_messages_and_a_restart(self):
        self.start()
        self.send(100)
        self.arrives(100)
        self.assertEqual(self.identity.count(), 1)
        self.box.server.stop(30)
        self.box.server = relay.Process([relay.binary(), "serve", "--config", self.box.config], self.box.dir / "again.log")
        relay.wait_banner(self.box.port, self.box.server.process)
        self.send(1)
        self.arrives(101)
        self.assertEqual(self.identity.count(), 1, "the token is kept over the restart")

    def test_a_revoked_token_is_replaced_without_a_failed_message(self):
        self.start()
        self.send(1)
        self.arrives(1)
        self.identity.revoke(self.host.tried[-1][1])
        self.until("the idle connection's end", lambda: self.status()["relay"]["connections"] == 0)
        # older than half a minute, so that the relay does not take it for new
        time.sleep(31)
        self.send(1)
        self.arrives(2)
        self.assertEqual([good for _, _, good in self.host.tried], [True, False, True])
        self.assertEqual(self.identity.count(), 2)

    def test_a_token_is_renewed_before_its_end(self):
        self.start(life=60)
        self.send(1)
        self.arrives(1)
        time.sleep(50)
        self.send(1)
        self.arrives(2)
        self.assertEqual([good for _, _, good in self.host.tried], [True, True])
        self.assertEqual(self.identity.count(), 2)

    def test_a_token_for_somebody_else_stops_the_route_after_at_most_3_tries(self):
        self.start(audience="urn:another.test")
        self.send(200)
        brake = self.until("the brake", self.brakes)[0]
        self.assertEqual(brake["failure"]["code"], 535)
        self.until("all mail back in the queue", lambda: self.status()["relay"]["window_recipients"] == 0)
        self.assertLessEqual(len(self.host.tried), 3)
        self.host.audience = oauth.AUDIENCE
        self.box.cli("queue", "retry", "--all")
        self.arrives(200)

    def test_a_wrong_secret_asks_little_for_1000_messages_and_the_right_one_frees_them_at_once(self):
        self.start(secret="wrong-secret-0123456789-0123456789")
        self.send(1000)
        brake = self.until("the brake", self.brakes)[0]
        self.assertEqual((brake["failure"]["kind"], brake["failure"]["error"]), ("token_refused", "invalid_client"))
        self.until("all mail back in the queue", lambda: self.status()["relay"]["window_recipients"] == 0)
        self.assertEqual(self.host.tried, [])
        self.assertLessEqual(self.identity.count(), 3)
        self.assertIn("The application is not known, or its secret is wrong", self.box.cli("queue", "causes"))
        self.box.cli("route", "rotate", "out", "--client-secret-file", self.secret(oauth.SECRET))
        self.arrives(1000)

    def test_a_rotation_to_a_wrong_secret_changes_nothing(self):
        self.start()
        with self.assertRaises(RuntimeError) as told:
            self.box.cli("route", "rotate", "out", "--client-secret-file", self.secret("wrong-secret-0123456789-0123456789"))
        self.assertIn("invalid_client", str(told.exception))
        self.send(1)
        self.arrives(1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
