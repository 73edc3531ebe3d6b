"""The HTTP API against its own document: schemathesis sends what the document allows and what it forbids.

Nothing leaves this machine: names do not resolve (no name server listens where it is asked) and all mail is captured.
"""

import json
import os
import pathlib
import subprocess
import sys
import unittest
import urllib.request

from common import CACHE, Place, Process, free_port, run, wait_ready
from relay import binary

# Examples of each operation; all phases together take about a minute.
EXAMPLES = os.environ.get("EXAMPLES", "10")
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "missing_required_header", "unsupported_method", "ignored_auth",
    "use_after_free",
]
# Not asked: what only the control socket has, what asks name servers or mail servers, and what ends the run.
LEFT_OUT = "^/(backup|verify|login-tokens|checks|plan|domains/[^/]+/check|tls-reports/[^/]+/send|routes/[^/]+/login.*|reload|openapi.json)$"


class Api(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = Place("api")
        directory = cls.place.path / "relay"
        directory.mkdir()
        cls.config, cls.url = directory / "pillarbox.toml", f"http://127.0.0.1:{free_port()}"
        cls.config.write_text(
            f'hostname = "relay.test"\ndata_dir = "{directory}/data"\n[http]\naddress = "{cls.url[7:]}"\n'
            '[dns]\nservers = ["127.0.0.1:1"]\ntimeout = "1s"\n'
            f'[[listener]]\nname = "smtp"\naddress = "127.0.0.1:{free_port()}"\nmode = "plain"\n'
        )
        cls.server = Process([binary(), "serve", "--config", cls.config], directory / "out.log")
        wait_ready(cls.server)
        made = cls.cli("sender", "add", "ops", "--allow-from", "*", "--api-key", "--admin", "--no-password")
        cls.key = made["new_api_key"]
        cls.cli("webhook", "add", "hook", "https://app.test/hook", "--disabled")
        cls.ask("POST", "/domains", {"domain": "shop.test", "algorithm": "ed25519"})
        cls.ask("POST", "/routes", {"name": "spare", "kind": "smarthost", "host": "mail.test"})
        cls.ask("POST", "/messages", {"from": "app@shop.test", "to": ["ann@one.test", "bob@two.test"], "subject": "s", "text": "t"})

    @classmethod
    def tearDownClass(cls):
        cls.server.stop(30)
        cls.place.remove()

    @classmethod
    def cli(cls, *arguments):
        return json.loads(run(binary(), *arguments, "--json", "--config", cls.config))

    @classmethod
    def ask(cls, method, path, body=None):
        headers = {"Authorization": f"Bearer {cls.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{cls.url}/api/v1{path}", data, headers, method=method), timeout=60) as answer:
            return json.load(answer)

    def test_the_document_is_served_and_printed_alike(self):
        served = self.ask("GET", "/openapi.json")
        self.assertEqual(served, json.loads(run(binary(), "openapi")))
        self.assertEqual("3.1.0", served["openapi"])
        self.assertIn("/webhooks/{name}/deliveries", served["paths"])

    def test_answers_are_as_the_document_says_whatever_is_sent(self):
        schema = self.place.path / "openapi.json"
        document = pathlib.Path(os.environ["DOCUMENT"]).read_text() if "DOCUMENT" in os.environ else json.dumps(self.ask("GET", "/openapi.json"))
        schema.write_text(document)
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", schema, "--url", f"{self.url}/api/v1",
            "--header", f"Authorization: Bearer {self.key}", "--checks", ",".join(CHECKS), "--exclude-path-regex", LEFT_OUT,
            # lines of JSON are no media type it can write
            "--exclude-operation-id", "batches_submit", "--workers", "2",
            "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--generation-deterministic", "--no-color",
            "--suppress-health-check", "all", "--request-timeout", "20", "--continue-on-failure",
        ]
        environment = {**os.environ, "PYTHONPATH": str(CACHE / "python")}
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=self.place.path, timeout=1800)
        said = done.stdout.decode("utf-8", "replace")
        self.assertEqual(0, done.returncode, said[-20000:])
        self.assertRegex(said, r"(?i)no issues found|passed")
        self.assertNotIn("panicked", self.server.output())
        self.assertEqual(200, urllib.request.urlopen(f"{self.url}/healthz", timeout=60).status)


if __name__ == "__main__":
    unittest.main()
