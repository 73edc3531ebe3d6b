"""OAuth against a real identity provider: an old client with AUTH LOGIN reaches a smart host that knows nothing but tokens; one
question serves all; tokens that ended, were revoked or are for somebody else; and a wrong secret that is not tried a thousand times."""

import base64
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

    def servers(self, life=3600, audience=oauth.AUDIENCE):
        self.identity = oauth.Identity(self.place, life)
        self.addCleanup(self.identity.stop)
        self.host = oauth.TokenHost(self.identity, self.place.cert, self.place.key, audience)
        self.addCleanup(self.host.stop)

    def route(self, *options, token_path="/token"):
        self.box = relay.Pillarbox(self.place, "--smarthost", f"{HOST}:{self.host.port}", "--tls", "implicit", "--ca-file", self.place.ca,
                                   "--username", MAILBOX, "--token-url", self.identity.url + token_path, "--scope", "mail.send", *options)
        self.addCleanup(self.box.stop)

    def start(self, life=3600, secret=oauth.SECRET, audience=oauth.AUDIENCE):
        self.servers(life, audience)
        self.route("--oauth", "other", "--client-id", oauth.CLIENT, "--client-secret-file", self.secret(secret))

    def with_certificate(self, **more):
        """As with Entra: the assertion names the certificate, and is signed with PS256."""
        self.servers()
        self.route("--oauth", "microsoft", "--tenant", "app.test", "--client-id", oauth.APPLICATION,
                   "--certificate", self.identity.certificate, "--certificate-key", self.identity.key, **more)

    def with_account(self, *options, **more):
        """As with Google: a service account that stands for a mailbox."""
        self.servers()
        self.route("--oauth", "google", "--service-account", self.identity.service_account(self.place), *(options or ("--subject", MAILBOX)), **more)

    def refused(self, error, why):
        """Mail waits behind one refusal of the identity provider, and nothing was shown to the host."""
        self.send(20)
        brake = self.until("the brake", self.brakes)[0]
        self.assertEqual((brake["failure"]["kind"], brake["failure"]["error"]), ("token_refused", error), brake)
        self.until("all mail back in the queue", lambda: self.status()["relay"]["window_recipients"] == 0)
        self.assertEqual((self.host.tried, self.identity.count()), ([], 1))
        self.assertIn(why, brake["failure"]["description"] + self.identity.said())

    def released(self, count):
        # A failure stands for a few seconds, so that a thousand messages are not a thousand questions.
        def arrived():
            self.box.cli("queue", "retry", "--all")
            return self.host.wait(count, 3)
        self.until("the waiting mail", arrived)

    def claims(self, assertion):
        part = assertion.split(".")
        return [json.loads(base64.urlsafe_b64decode(one + "=" * (-len(one) % 4))) for one in part[:2]]

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
        self.until("its incident", lambda: [one for one in self.brakes() if one.get("incident")])
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

    def test_an_application_with_a_certificate_gets_tokens_by_its_signature(self):
        self.with_certificate()
        self.send(30)
        self.arrives(30)
        self.assertTrue(all(good for _, _, good in self.host.tried))
        (form,) = self.identity.forms()
        header, claims = self.claims(form["client_assertion"])
        self.assertEqual((form["grant_type"], header["alg"]), ("client_credentials", "PS256"))
        self.assertIn("x5t#S256", header)
        self.assertEqual((claims["iss"], claims["sub"], claims["aud"]), (oauth.APPLICATION, oauth.APPLICATION, f"{self.identity.url}/token"))
        self.assertNotIn("PRIVATE KEY", self.box.cli("route", "show", "out", "--json"))

    def test_a_certificate_assertion_for_another_endpoint_is_refused(self):
        self.with_certificate(token_path="/elsewhere/token")
        self.refused("invalid_client", "audience (aud) must equal")

    def test_a_certificate_assertion_that_comes_too_late_is_refused_and_one_in_time_frees_the_mail(self):
        self.with_certificate()
        self.identity.ahead(3600)
        self.refused("invalid_client", "expired")
        self.identity.ahead(0)
        self.released(20)

    def test_a_revoked_certificate_is_refused_until_it_is_restored(self):
        self.with_certificate()
        self.identity.revoke_key("certificate")
        self.refused("invalid_client", "the key was revoked")
        self.identity.restore_keys()
        self.released(20)

    def test_a_service_account_that_stands_for_a_mailbox_gets_tokens_by_its_assertion_alone(self):
        self.with_account()
        self.send(30)
        self.arrives(30)
        (form,) = self.identity.forms()
        self.assertEqual(sorted(form), ["assertion", "grant_type"], "no client beside the assertion")
        header, claims = self.claims(form["assertion"])
        self.assertEqual((header["alg"], header["kid"], claims["iss"], claims["sub"], claims["scope"]),
                         ("RS256", oauth.KEY_ID, oauth.ACCOUNT, MAILBOX, "mail.send"))

    def test_a_service_account_is_refused_for_a_mailbox_that_was_not_delegated(self):
        self.with_account("--subject", "somebody.else@app.test")
        self.refused("invalid_grant", "not delegated for this user")

    def test_a_service_accounts_assertion_for_another_endpoint_is_refused(self):
        self.with_account(token_path="/elsewhere/token")
        self.refused("invalid_grant", 'unexpected "aud" claim value')

    def test_a_service_accounts_assertion_that_comes_too_late_is_refused_and_one_in_time_frees_the_mail(self):
        self.with_account()
        self.identity.ahead(3600)
        self.refused("invalid_grant", '"exp" claim timestamp check failed')
        self.identity.ahead(0)
        self.released(20)

    def test_a_revoked_key_of_a_service_account_is_refused_until_it_is_restored(self):
        self.with_account()
        self.identity.revoke_key("account")
        self.refused("invalid_grant", "revoked")
        self.identity.restore_keys()
        self.released(20)

    def test_a_rotation_to_a_wrong_secret_changes_nothing(self):
        self.start()
        with self.assertRaises(RuntimeError) as told:
            self.box.cli("route", "rotate", "out", "--client-secret-file", self.secret("wrong-secret-0123456789-0123456789"))
        self.assertIn("invalid_client", str(told.exception))
        self.send(1)
        self.arrives(1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
