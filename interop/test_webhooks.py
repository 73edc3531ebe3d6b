"""Webhooks against a receiver with TLS: signatures by the library of Standard Webhooks and by the lines in the manual."""

import json
import re
import subprocess
import sys
import unittest
import urllib.request

from common import CACHE, REPOSITORY, Place, Process, free_port, need, run, wait_ready
from relay import binary
from web import Receiver

sys.path.insert(0, str(CACHE / "python"))
import standardwebhooks  # noqa: E402


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
        wait_ready(cls.server)
        cls.key = re.search(r"API key +(\S+)", cls.server.log.read_text())[1]

    @classmethod
    def tearDownClass(cls):
        cls.server.stop(30)
        cls.receiver.stop()
        cls.place.remove()

    def cli(self, *arguments):
        return json.loads(run(binary(), *arguments, "--json", "--config", self.config))

    def test_signatures_hold_by_every_account(self):
        first = self.cli("webhook", "add", "shop", f"{self.receiver.base}/hook")["new_secret"]
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
        self.assertEqual([1, 2], [len(h["webhook-signature"].split()) for _, h, _ in (told[0], rotated)])

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
        cases = [(first, h, b, True) for _, h, b in told]
        cases += [(first, *rotated[1:], True), (second, *rotated[1:], True), (second, *told[0][1:], False), (other, *told[0][1:], False)]
        _, headers, body = told[1]
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

        bodies = [json.loads(body) for _, _, body in told[1:]]
        self.assertEqual({"ann@one.test", "b\u00fccher@two.test"}, {b["data"]["recipient"]["address"] for b in bodies})
        self.assertTrue(all(b["data"]["message"]["metadata"] == message["metadata"] for b in bodies))


if __name__ == "__main__":
    unittest.main()
