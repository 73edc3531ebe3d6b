"""Webhooks against a receiver with TLS: signatures by the library of Standard Webhooks and by the lines in the manual."""

import http.server
import json
import pathlib
import re
import ssl
import subprocess
import sys
import threading
import unittest
import urllib.request

from common import CACHE, REPOSITORY, Place, Process, free_port, need, run
from relay import binary

sys.path.insert(0, str(CACHE / "python"))
import standardwebhooks  # noqa: E402


class Receiver:
    """Keeps what it is told and takes all of it."""

    def __init__(self, place):
        self.told, self.news = [], threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with receiver.news:
                    receiver.told.append(({k.lower(): v for k, v in self.headers.items()}, body))
                    receiver.news.notify_all()
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place.cert, place.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, count, patience=30):
        with self.news:
            if not self.news.wait_for(lambda: len(self.told) >= count, patience):
                raise AssertionError(f"{len(self.told)} of {count} requests came")
            return list(self.told)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Webhooks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need("openssl", "node")
        cls.place = Place("webhooks")
        cls.receiver = Receiver(cls.place)
        directory = cls.place.path / "relay"
        directory.mkdir()
        cls.config, cls.http = directory / "pillarbox.toml", free_port()
        cls.config.write_text(
            f'hostname = "relay.test"\ndata_dir = "{directory}/data"\n[http]\naddress = "127.0.0.1:{cls.http}"\n'
            f'[tls]\nroots = "{cls.place.ca}"\n[webhooks]\nnetworks = ["127.0.0.0/8"]\n'
            f'[[listener]]\nname = "smtp"\naddress = "127.0.0.1:{free_port()}"\nmode = "plain"\n'
        )
        cls.server = Process([binary(), "serve", "--config", cls.config], directory / "out.log")
        while "ready" not in cls.server.output().splitlines():
            if cls.server.process.poll() is not None:
                raise RuntimeError(cls.server.output())
        cls.key = re.search(r"API key +(\S+)", cls.server.output())[1]

    @classmethod
    def tearDownClass(cls):
        cls.server.stop(30)
        cls.receiver.stop()
        cls.place.remove()

    def cli(self, *arguments):
        return json.loads(run(binary(), *arguments, "--json", "--config", self.config))

    def test_signatures_hold_by_every_account(self):
        first = self.cli("webhook", "add", "shop", self.receiver.url)["new_secret"]
        self.assertTrue(self.cli("webhook", "test", "shop")["taken"])
        message = {"from": "app@shop.test", "to": ["ann@one.test", "b\u00fccher@two.test"], "subject": "Gr\u00fc\u00dfe", "text": "t",
                   "metadata": {"name": "\u0416\u2028</script>"}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/api/v1/messages", json.dumps(message).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"})
        self.assertEqual(urllib.request.urlopen(request).status, 202)
        told = self.receiver.wait(5)
        second = self.cli("webhook", "rotate-secret", "shop")["new_secret"]
        self.assertTrue(self.cli("webhook", "test", "shop")["taken"])
        rotated = self.receiver.wait(6)[-1]
        self.assertEqual([1, 2], [len(h["webhook-signature"].split()) for h, _ in (told[0], rotated)])

        manual = (REPOSITORY / "docs" / "manual" / "webhooks.md").read_text()
        python = {}
        exec(re.search(r"```python\n(.*?)```", manual, re.S)[1], python)
        script = self.place.path / "verify.js"
        script.write_text(re.search(r"```js\n(.*?)```", manual, re.S)[1] + """
            for (const { secret, headers, body } of JSON.parse(require('node:fs').readFileSync(0)))
              { let word = 'good'; try { verify(secret, headers, Buffer.from(body, 'hex')); } catch (error) { word = error.message; } console.log(word); }
        """)

        def library(secret, headers, body):
            standardwebhooks.Webhook(secret).verify(body, headers)

        other = "whsec_" + "A" * 32
        cases = [(first, h, b, True) for h, b in told]
        cases += [(first, *rotated, True), (second, *rotated, True), (second, *told[0], False), (other, *told[0], False)]
        headers, body = told[1]
        cases.append((first, headers, body + b" ", False))
        cases.append((first, {**headers, "webhook-id": headers["webhook-id"] + "0"}, body, False))
        old = {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 400)}
        cases.append((first, old, body, False))
        for name, verify in [("library", library), ("manual, Python", python["verify"])]:
            for n, (secret, headers, body, good) in enumerate(cases):
                with self.subTest(name, n=n):
                    try:
                        verify(secret, headers, body)
                        self.assertTrue(good, "a request that is not ours passed")
                    except (ValueError, standardwebhooks.WebhookVerificationError) as error:
                        self.assertFalse(good, f"{error}: {headers}")
        given = json.dumps([{"secret": s, "headers": h, "body": b.hex()} for s, h, b, _ in cases])
        said = subprocess.run(["node", script], input=given.encode(), stdout=subprocess.PIPE, check=True, timeout=60).stdout.decode().split("\n")
        self.assertEqual([good for *_, good in cases], [line == "good" for line in said[: len(cases)]], said)

        bodies = [json.loads(body) for _, body in told[1:]]
        self.assertEqual({"ann@one.test", "b\u00fccher@two.test"}, {b["data"]["recipient"]["address"] for b in bodies})
        self.assertTrue(all(b["data"]["message"]["metadata"] == message["metadata"] for b in bodies))


if __name__ == "__main__":
    unittest.main()
