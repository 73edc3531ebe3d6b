"""A real OAuth server (npm oidc-provider) and a smart host that takes nothing but its tokens (XOAUTH2), asked by introspection.

The smart host is small and counts: how often AUTH was tried, and with which token; whether a token is good is the server's word.
"""

import base64
import json
import pathlib
import socketserver
import threading
import time
import urllib.parse
import urllib.request

from common import CACHE, Process, free_port

CLIENT, SECRET, AUDIENCE = "relay", "relay-secret-0123456789-0123456789", "urn:mail.test"

SERVER = """
import { createServer } from 'node:http';
import Provider, { errors } from 'oidc-provider';
const [port, life] = process.argv.slice(2).map(Number);
const issuer = `http://127.0.0.1:${port}`;
const client = (id, secret) => ({ client_id: id, client_secret: secret, grant_types: ['client_credentials'], redirect_uris: [],
  response_types: [], token_endpoint_auth_method: 'client_secret_post', scope: 'mail.send other' });
const server = new Provider(issuer, {
  clients: [client('relay', '%(secret)s'), client('host', 'host-secret-0123456789-0123456789')],
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
let asked = 0;
createServer((request, response) => {
  if (request.url === '/count') return response.end(String(asked));
  if (request.url === '/token' && request.method === 'POST') asked += 1;
  return server.callback()(request, response);
}).listen(port, '127.0.0.1', () => console.log('listening'));
"""


class Identity:
    """The identity provider."""

    def __init__(self, place, life=3600):
        # modules are found beside the program
        self.program = CACHE / f"identity-{free_port()}.mjs"
        self.program.write_text(SERVER % dict(secret=SECRET, audience=AUDIENCE))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = Process(["node", self.program, self.port, life], place.path / "identity.log")
        end = time.time() + 30
        while time.time() < end:
            try:
                self.count()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"no identity provider\n{self.process.output()}")

    def count(self):
        """Questions for a token so far."""
        with urllib.request.urlopen(f"{self.url}/count", timeout=5) as answer:
            return int(answer.read())

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
        with self.lock:
            return self.lock.wait_for(lambda: len(self.mail) >= count, patience)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
