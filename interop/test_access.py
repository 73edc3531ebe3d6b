"""Signing in with a real identity provider (npm oidc-provider): code flow with PKCE and nonce, roles by groups, the list of those who
may, keys that rotate, and answers that belong to somebody else."""

import http.cookiejar
import json
import os
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

from common import CACHE, Place, Process, free_port, need, run, wait_ready
from relay import binary

SECRET = "relay-secret-0123456789-0123456789"

# Accounts sign in by naming themselves: what is tested is the protocol, not the provider's own password.
SERVER = """
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';
const [port, callback] = process.argv.slice(2, 4);
const issuer = `http://127.0.0.1:${port}`;
const accounts = {
  ann: { email: 'ann@corp.test', email_verified: true, preferred_username: 'Ann', groups: ['staff', 'mail-admins'] },
  bob: { email: 'bob@corp.test', email_verified: true, preferred_username: 'bob', groups: ['mail-team'] },
  eve: { email: 'eve@corp.test', email_verified: false, preferred_username: 'eve', groups: ['mail-admins'] },
  out: { email: 'out@other.test', email_verified: true, preferred_username: 'out', groups: ['mail-admins'] },
  non: { email: 'non@corp.test', email_verified: true, preferred_username: 'non', groups: ['staff'] },
};
let number = 0;
const key = (kind) => {
  number += 1;
  const { privateKey } = kind === 'RS256' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${number}`, use: 'sig', alg: kind };
};
let handler;
const make = (kind) => {
  const server = new Provider(issuer, {
    clients: [{ client_id: 'relay', client_secret: '%(secret)s', redirect_uris: [callback], grant_types: ['authorization_code'],
      response_types: ['code'], id_token_signed_response_alg: kind, token_endpoint_auth_method: process.argv[4] }],
    jwks: { keys: [key(kind)] },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['preferred_username', 'groups'] },
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    cookies: { keys: ['interop'] },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: `id-${id}`, ...accounts[id] }) }),
    features: { devInteractions: { enabled: false } },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  });
  handler = server.callback();
  return server;
};
let server = make('RS256');
createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  // New keys, as after a rotation: the old ones are gone.
  if (url.pathname === '/rotate') { server = make(url.searchParams.get('kind')); return response.end('done'); }
  if (url.pathname.startsWith('/interaction/')) {
    const who = request.headers['x-account'];
    const details = await server.interactionDetails(request, response);
    if (details.prompt.name === 'login') return server.interactionFinished(request, response, { login: { accountId: who } });
    const grant = new server.Grant({ accountId: details.session.accountId, clientId: details.params.client_id });
    grant.addOIDCScope(details.params.scope);
    return server.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
  }
  return handler(request, response);
}).listen(port, '127.0.0.1', () => console.log('listening'));
"""


class Browser:
    """Keeps cookies, follows redirects one at a time, and tells where it was sent."""

    def __init__(self, account):
        self.jar = http.cookiejar.CookieJar()

        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_):
                return None

        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar), Stay)
        self.account, self.seen = account, []

    def open(self, url, **headers):
        request = urllib.request.Request(url, headers={"X-Account": self.account, **headers})
        self.seen.append(url)
        try:
            with self.opener.open(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def follow(self, url, until=lambda url: False):
        for _ in range(12):
            status, headers, text = self.open(url)
            if status not in (302, 303):
                return status, text
            url = urllib.parse.urljoin(url, headers["Location"])
            if until(url):
                return status, url
        raise AssertionError(f"it goes round and round: {self.seen}")


class Access(unittest.TestCase):
    METHOD = "client_secret_basic"

    def setUp(self):
        need("openssl", "node")
        if not (CACHE / "node_modules" / "oidc-provider").is_dir():
            raise RuntimeError("oidc-provider is missing; run interop/install")
        self.place = Place("access")
        self.addCleanup(self.place.remove)
        directory = self.place.path / "relay"
        directory.mkdir()
        self.config, self.url = directory / "pillarbox.toml", f"http://127.0.0.1:{free_port()}"
        self.config.write_text(
            f'hostname = "relay.test"\ndata_dir = "{directory}/data"\n[http]\naddress = "{self.url[7:]}"\n'
            f'[[listener]]\nname = "smtp"\naddress = "127.0.0.1:{free_port()}"\nmode = "plain"\n')
        self.server = Process([binary(), "serve", "--config", self.config], directory / "out.log")
        self.addCleanup(self.server.stop, 30)
        wait_ready(self.server)
        program = CACHE / f"access-{free_port()}.mjs"
        program.write_text(SERVER % dict(secret=SECRET))
        self.addCleanup(program.unlink)
        port = free_port()
        self.issuer = f"http://127.0.0.1:{port}"
        self.identity = Process(["node", program, port, f"{self.url}/login/corp/callback", self.METHOD], directory / "identity.log")
        self.addCleanup(self.identity.stop)
        self.wait(lambda: "listening" in self.identity.output(), self.identity)

    def wait(self, condition, process):
        end = time.time() + 60
        while not condition():
            if process.process.poll() is not None or time.time() > end:
                self.fail(process.output())
            time.sleep(0.05)

    def cli(self, *arguments):
        return json.loads(run(binary(), *arguments, "--json", "--config", self.config, env={**os.environ, "CLIENT": SECRET}))

    def provider(self, *more):
        return self.cli("identity", "set", "corp", "--issuer", self.issuer, "--client-id", "relay", "--client-secret-from", "env:CLIENT",
                        "--label", "Corp", "--map", "mail-admins=administrator", "--map", "mail-team=operator", "--allow", "corp.test", *more)

    def sign_in(self, account):
        browser = Browser(account)
        status, text = browser.follow(f"{self.url}/login/corp")
        return browser, status, text

    def me(self, browser):
        status, _, text = browser.open(f"{self.url}/api/v1/me")
        return json.loads(text) if status == 200 else status

    def test_groups_decide_the_role_and_the_list_who_gets_in(self):
        shown = self.provider()
        self.assertTrue(shown["callback"].endswith("/login/corp/callback"))
        self.assertNotIn(SECRET, json.dumps(shown))
        _, _, form = Browser("x").open(f"{self.url}/login")
        self.assertIn("Sign in with Corp", form)

        ann, status, text = self.sign_in("ann")
        self.assertEqual(status, 200, text)
        me = self.me(ann)
        self.assertEqual((me["user"], me["role"]), ("ann", "administrator"))
        # what was asked for the code and what came back: PKCE, state and nonce, and no secret in any URL
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(next(u for u in ann.seen if u.startswith(self.issuer + "/auth?"))).query)
        self.assertEqual((asked["code_challenge_method"], len(asked["state"][0]), len(asked["nonce"][0])), (["S256"], 43, 43))
        self.assertFalse(any(SECRET in url or "code_verifier" in url for url in ann.seen))
        bob, status, text = self.sign_in("bob")
        self.assertEqual((status, self.me(bob)["role"]), (200, "operator"), text)
        for account, why in [("eve", "list of those"), ("out", "list of those"), ("non", "no role here")]:
            browser, status, text = self.sign_in(account)
            self.assertEqual((status, self.me(browser)), (403, 401), account)
            self.assertIn(why, text)
        users = {one["name"]: one for one in self.cli("user", "list")["items"]}
        self.assertEqual({name: one["role"] for name, one in users.items()}, {"ann": "administrator", "bob": "operator"})
        self.assertEqual((users["ann"]["provider"], users["ann"]["has_password"]), ("corp", False))
        self.assertIn("sign-in with corp", {one["who"] for one in self.cli("audit", "--what", "user/ann")["items"]})

        # what the groups mean changes: at the next sign-in, for the same user
        self.cli("identity", "set", "corp", "--issuer", self.issuer, "--client-id", "relay", "--map", "mail-team=viewer", "--allow", "corp.test")
        bob, status, text = self.sign_in("bob")
        self.assertEqual((status, self.me(bob)["role"], self.me(bob)["user"]), (200, "viewer", "bob"), text)
        self.cli("user", "disable", "bob")
        self.assertEqual(self.me(bob), 401)
        bob, status, text = self.sign_in("bob")
        self.assertEqual((status, self.me(bob)), (403, 401))
        self.assertIn("disabled", text)

    def test_a_local_user_of_the_same_name_stays_somebody_else(self):
        self.cli("user", "add", "ann", "--role", "viewer")
        self.provider()
        ann, status, text = self.sign_in("ann")
        self.assertEqual((status, self.me(ann)["user"]), (200, "ann-2"), text)

    def test_keys_rotate_and_another_kind_of_key_is_taken(self):
        self.provider()
        self.assertEqual(self.sign_in("ann")[1], 200)
        # keys are not asked for more often than every 30 seconds, whatever tokens name
        time.sleep(31)
        urllib.request.urlopen(f"{self.issuer}/rotate?kind=ES256", timeout=10).read()
        browser, status, text = self.sign_in("ann")
        self.assertEqual((status, self.me(browser)["user"]), (200, "ann"), text)

    def test_a_code_of_another_browser_a_forged_state_and_a_second_use_open_nothing(self):
        self.provider()
        ours = lambda url: url.startswith(f"{self.url}/login/corp/callback")
        victim, thief = Browser("ann"), Browser("eve")
        _, back = victim.follow(f"{self.url}/login/corp", until=ours)
        thief.follow(f"{self.url}/login/corp", until=ours)
        for browser in (thief, Browser("none")):
            status, _, text = browser.open(back)
            self.assertEqual((status, self.me(browser)), (400, 401), "a code in another browser")
            self.assertIn("does not belong to a sign-in", text)
        fresh = Browser("ann")
        _, url = fresh.follow(f"{self.url}/login/corp", until=ours)
        status, _, _ = fresh.open(url.replace("state=", "state=x"))
        self.assertEqual((status, self.me(fresh)), (400, 401))
        # the victim's own code is still good in the victim's browser, once
        status, _, _ = victim.open(back)
        self.assertEqual((status, self.me(victim)["user"]), (200, "ann"))
        status, _, _ = victim.open(back)
        self.assertEqual(status, 400)
        log = self.server.log.read_text()
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(back).query)["code"][0]
        self.assertNotIn(code, log)
        self.assertNotIn(SECRET, log)

    def test_a_provider_that_is_gone_or_somebody_else_is_told_in_words(self):
        self.cli("identity", "set", "corp", "--issuer", f"http://127.0.0.1:{free_port()}", "--client-id", "relay", "--map", "a=viewer")
        _, status, text = self.sign_in("ann")
        self.assertEqual(status, 502)
        self.assertIn("identity provider cannot be used", text)
        self.cli("identity", "set", "corp", "--issuer", self.issuer.replace("127.0.0.1", "localhost"), "--client-id", "relay", "--map", "a=viewer")
        _, status, text = self.sign_in("ann")
        self.assertEqual(status, 502)
        self.assertIn("its issuer is", text)
        with self.assertRaisesRegex(RuntimeError, "https"):
            self.cli("identity", "set", "corp", "--issuer", "http://id.test", "--client-id", "relay", "--map", "a=viewer")


class AccessByPost(Access):
    """The same with a provider that takes the client's secret in the form only."""

    METHOD = "client_secret_post"
    test_a_code_of_another_browser_a_forged_state_and_a_second_use_open_nothing = None
    test_keys_rotate_and_another_kind_of_key_is_taken = None
    test_a_local_user_of_the_same_name_stays_somebody_else = None
    test_a_provider_that_is_gone_or_somebody_else_is_told_in_words = None


if __name__ == "__main__":
    unittest.main()
