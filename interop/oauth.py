"""A real OAuth server (npm oidc-provider) and a smart host that takes nothing but its tokens (XOAUTH2), asked by introspection.

The smart host is small and counts: how often AUTH was tried, and with which token; whether a token is good is the server's word.
"""

import base64
import json
import socketserver
import threading
import time
import urllib.parse
import urllib.request

from common import CACHE, Process, free_port, run

CLIENT, SECRET, AUDIENCE = "relay", "relay-secret-0123456789-0123456789", "urn:mail.test"

# Who may sign: an application with a certificate (as Entra knows it by x5t#S256), and a service account (as Google knows it by kid).
APPLICATION, ACCOUNT, KEY_ID = "app-with-certificate", "relay@project.iam.test", "key-1"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

SERVER = """
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { X509Certificate, createHash } from 'node:crypto';
import Provider, { errors } from 'oidc-provider';
import { jwtVerify, decodeProtectedHeader } from 'jose';
const [port, life] = process.argv.slice(2, 4).map(Number);
const issuer = `http://127.0.0.1:${port}`;
const certificate = new X509Certificate(readFileSync(process.argv[4]));
const print = createHash('sha256').update(certificate.raw).digest('base64url');
const revoked = new Set();
// A clock that goes ahead, for assertions that come too late.
let ahead = 0;
const now = Date.now;
Date.now = () => now() + ahead * 1000;
const client = (id, secret) => ({ client_id: id, client_secret: secret, grant_types: ['client_credentials'], redirect_uris: [],
  response_types: [], token_endpoint_auth_method: 'client_secret_post', scope: 'mail.send other' });
const server = new Provider(issuer, {
  clients: [client('relay', '%(secret)s'), client('host', 'host-secret-0123456789-0123456789'),
    { client_id: '%(application)s', grant_types: ['client_credentials'], redirect_uris: [], response_types: [], scope: 'mail.send other',
      token_endpoint_auth_method: 'private_key_jwt', jwks: { keys: [{ ...certificate.publicKey.export({ format: 'jwk' }), use: 'sig' }] } },
    { client_id: 'service-accounts', grant_types: ['%(jwt_bearer)s'], redirect_uris: [], response_types: [], scope: 'mail.send other',
      token_endpoint_auth_method: 'none' }],
  // As Entra: the certificate is named by its thumbprint, and the algorithm is PS256.
  assertJwtClientAuthClaimsAndHeader: (ctx, claims, header) => {
    if (header['x5t#S256'] !== print || header.alg !== 'PS256') throw new errors.InvalidClient('the certificate is not registered');
    if (revoked.has(print)) throw new errors.InvalidClient('the key was revoked');
  },
  scopes: ['mail.send', 'other'],
  clientBasedCORS: () => false,
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true },
    resourceIndicators: { enabled: true, defaultResource: () => '%(audience)s', useGrantedResource: () => true,
      getResourceServerInfo: () => ({ scope: 'mail.send other', audience: '%(audience)s', accessTokenFormat: 'opaque', accessTokenTTL: life }) },
  },
});
// As Google: the assertion alone says who asks (RFC 7523 section 2.1), for which scope, and in whose name.
server.registerGrantType('%(jwt_bearer)s', async (ctx, next) => {
  const { assertion } = ctx.oidc.params;
  try {
    const { kid } = decodeProtectedHeader(assertion);
    if (kid !== '%(key_id)s' || revoked.has(kid)) throw new Error('no such key: it was revoked or never was');
    const rules = { issuer: '%(account)s', audience: `${issuer}/token`, algorithms: ['RS256'], currentDate: new Date(Date.now()) };
    const { payload } = await jwtVerify(assertion, certificate.publicKey, rules);
    if (payload.scope !== 'mail.send') throw new Error('the scope is not delegated');
    if (payload.sub !== 'mailbox@app.test') throw new Error('not delegated for this user');
  } catch (error) {
    throw new errors.CustomOIDCProviderError('invalid_grant', error.message);
  }
  const token = new server.ClientCredentials({ client: ctx.oidc.client, scope: 'mail.send' });
  token.resourceServer = new server.ResourceServer('%(audience)s',
    { scope: 'mail.send other', audience: '%(audience)s', accessTokenFormat: 'opaque', accessTokenTTL: life });
  ctx.oidc.entity('ClientCredentials', token);
  const value = await token.save();
  ctx.body = { access_token: value, expires_in: token.expiration, token_type: token.tokenType, scope: token.scope };
  await next();
}, ['assertion', 'scope']);
// The provider tells refusals in its own words on its log; the relay sees what any client sees.
server.on('grant.error', (ctx, error) => console.log('refused:', error.error_description, error.error_detail));
const forms = [];
let asked = 0;
createServer(async (request, response) => {
  if (request.url === '/count') return response.end(String(asked));
  if (request.url === '/forms') return response.end(JSON.stringify(forms));
  if (request.url.startsWith('/ahead/')) return response.end(String(ahead = Number(request.url.slice(7))));
  if (request.url.startsWith('/revoke/')) return response.end(String(revoked.add(request.url === '/revoke/certificate' ? print : '%(key_id)s').size));
  if (request.url === '/restore') return response.end(String(revoked.clear()));
  const isToken = ['/token', '/elsewhere/token'].includes(request.url) && request.method === 'POST';
  if (isToken) {
    asked += 1;
    const parts = [];
    for await (const part of request) parts.push(part);
    const form = Object.fromEntries(new URLSearchParams(Buffer.concat(parts).toString()));
    forms.push({ ...form });
    // Google has no client beside the assertion; this server wants one, which proves nothing.
    if (form.grant_type === '%(jwt_bearer)s') form.client_id = 'service-accounts';
    request.body = form;
    request.url = '/token';
  }
  return server.callback()(request, response);
}).listen(port, '127.0.0.1', () => console.log('listening'));
"""


class Identity:
    """The identity provider."""

    def __init__(self, place, life=3600):
        # The application's certificate; its key is the service account's too.
        self.certificate, self.key = place.path / "application.pem", place.path / "application.key"
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=relay",
            "-keyout", self.key, "-out", self.certificate)
        # modules are found beside the program
        self.program = CACHE / f"identity-{free_port()}.mjs"
        self.program.write_text(SERVER % dict(secret=SECRET, audience=AUDIENCE, application=APPLICATION, account=ACCOUNT, key_id=KEY_ID,
                                               jwt_bearer=JWT_BEARER))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Process(["node", self.program, self.port, life, self.certificate], place.path / "identity.log")
        end = time.time() + 60
        while time.time() < end:
            try:
                self.count()
                return
            except OSError:
                time.sleep(0.05)
        said = self.process.output()
        self.process.stop()
        raise RuntimeError(f"no identity provider\n{said}")

    def _get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return answer.read()

    def count(self):
        """Questions for a token so far."""
        return int(self._get("/count"))

    def forms(self):
        """What was asked, field by field."""
        return json.loads(self._get("/forms"))

    def ahead(self, seconds):
        """The provider's clock goes ahead."""
        self._get(f"/ahead/{seconds}")

    def revoke_key(self, what):
        """`certificate` of the application, or `account` for the service account's key."""
        self._get(f"/revoke/{what}")

    def said(self):
        """Why it refused, in its own log: clients are told less."""
        return self.process.output()

    def restore_keys(self):
        self._get("/restore")

    def service_account(self, place):
        """The JSON file that Google gives."""
        path = place.path / "account.json"
        path.write_text(json.dumps(dict(type="service_account", project_id="project", private_key_id=KEY_ID,
                                        private_key=self.key.read_text(), client_email=ACCOUNT, token_uri=f"{self.url}/token")))
        path.chmod(0o600)
        return path

    def _post(self, path, **form):
        form |= dict(client_id="host", client_secret="host-secret-0123456789-0123456789") if "client_id" not in form else {}
        request = urllib.request.Request(self.url + path, urllib.parse.urlencode(form).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
            return json.loads(text) if text else {}

    def introspect(self, token):
        return self._post("/token/introspection", token=token)

    def revoke(self, token):
        self._post("/token/revocation", token=token, client_id=CLIENT, client_secret=SECRET)

    def stop(self):
        self.process.stop()
        self.program.unlink(missing_ok=True)


class TokenHost:
    """Takes mail after AUTH XOAUTH2 with a token that the identity provider calls active and meant for it."""

    def __init__(self, identity, certificate, key, audience=AUDIENCE):
        import ssl
        self.identity, self.audience = identity, audience
        self.mail, self.tried, self.lock = [], [], threading.Condition()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        host = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    with context.wrap_socket(self.request, server_side=True) as link:
                        host.converse(link.makefile("rb"), link)
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token_is_good(self, token):
        said = self.identity.introspect(token)
        return said.get("active") and said.get("aud") == self.audience and "mail.send" in said.get("scope", "")

    def converse(self, read, link):
        say = lambda text: link.sendall(text.encode() + b"\r\n")
        user = None
        say("220 smtp.token.test ESMTP")
        while line := read.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                say("250-smtp.token.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 AUTH XOAUTH2")
            elif verb == b"AUTH":
                words = line.split()
                if len(words) == 2:
                    say("334 ")
                    words.append(read.readline().strip())
                fields = dict(part.split("=", 1) for part in base64.b64decode(words[2]).decode().split("\x01") if "=" in part)
                token = fields["auth"].removeprefix("Bearer ")
                good = self.token_is_good(token)
                with self.lock:
                    self.tried.append((fields["user"], token, good))
                if good:
                    user = fields["user"]
                    say("235 2.7.0 welcome")
                else:
                    say("334 " + base64.b64encode(b'{"status":"400","schemes":"Bearer","scope":"mail.send"}').decode())
                    read.readline()
                    say("535 5.7.8 the token is not accepted")
            elif verb in (b"MAIL", b"RCPT"):
                say("250 ok" if user else "530 5.7.0 sign in first")
            elif verb == b"DATA":
                say("354 go ahead")
                lines = []
                while (line := read.readline()) not in (b".\r\n", b""):
                    lines.append(line)
                with self.lock:
                    self.mail.append((user, b"".join(lines)))
                    self.lock.notify_all()
                say("250 kept")
            elif verb == b"QUIT":
                return say("221 bye")
            else:
                say("250 ok")

    def wait(self, count, patience=60):
        """So much mail; false if none came for so long."""
        with self.lock:
            while (before := len(self.mail)) < count:
                if not self.lock.wait_for(lambda: len(self.mail) > before, patience):
                    return False
            return True

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
