"""The tour of the README on an empty directory: start, log in as the first sender, submit by SMTP and by HTTP, look at what was
captured; and all of it is still there after kill -9."""

import json
import pathlib
import re
import shutil
import smtplib
import tempfile
import time
import unittest
import urllib.request

from common import Process, free_port, message, run, wait_banner, wait_ready
from relay import binary


class Readme(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="pillarbox-tour-"))
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.smtp, self.http = free_port(), free_port()
        self.config = self.dir / "pillarbox.toml"
        # the defaults but for the ports: the tour must not meet a relay that runs on this machine
        self.config.write_text(f'hostname = "tour.test"\n[http]\naddress = "127.0.0.1:{self.http}"\n'
                               f'[[listener]]\nname = "default"\naddress = "127.0.0.1:{self.smtp}"\nauth_without_tls = "loopback"\n')
        self.start()

    def start(self):
        self.server = Process([binary(), "serve", "--config", self.config], self.dir / "log", cwd=self.dir)
        self.addCleanup(self.server.stop)
        wait_banner(self.smtp, self.server.process)
        wait_ready(self.server)  # listeners are up a moment before it says so

    def cli(self, *arguments):
        return run(binary(), *arguments, "--config", self.config, cwd=self.dir)

    def captured(self):
        answer = json.loads(self.cli("capture", "ls", "--json"))
        return json.dumps(answer)

    def test_tour(self):
        said = self.server.output()
        password = re.search(r"password\s+(\S+)", said).group(1)
        key = re.search(r"API key\s+(\S+)", said).group(1)
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=30) as client:
            client.login("app", password)
            client.sendmail("shop@example.org", ["ada@example.net"], message("by-smtp", "shop@example.org", "ada@example.net"))
        body = {"from": "shop@example.org", "to": ["ada@example.net"], "subject": "by-http", "text": "It is on its way."}
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", "Idempotency-Key": "order-4711"}
        answers = []
        for _ in range(2):
            request = urllib.request.Request(f"http://127.0.0.1:{self.http}/api/v1/messages", json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=30) as answer:
                self.assertEqual(answer.status, 202)
                answers.append(json.load(answer))
        self.assertEqual(answers[0], answers[1], "the same key and body get the same answer")
        self.server.process.kill()
        self.server.process.wait()
        self.start()
        # what a killed process had in hand goes on after its start
        end = time.monotonic() + 60
        while time.monotonic() < end:
            captured = self.captured()
            if "by-smtp" in captured and "by-http" in captured:
                break
            time.sleep(0.1)
        self.assertIn("by-smtp", captured)
        self.assertEqual(captured.count("by-http"), 1)
        self.assertIn("capture", said)
        self.assertEqual(self.cli("config", "check").count("error"), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
