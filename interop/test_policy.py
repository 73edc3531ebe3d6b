"""Sender policies through the binary: all cases of the RFC 7208 suite (from the source distribution of pyspf, fetched when needed and
never part of this repository), signatures of a second implementation of DKIM, and DMARC in both forms."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tarfile
import unittest

from common import CACHE
from dns_zones import Zones
from relay import binary

SUITE = CACHE / "pyspf" / "rfc7208-tests.yml"
PYTHON = CACHE / "python"
CASES = 203


def fetch():
    """The suite and the libraries of the test, from PyPI."""
    if not SUITE.exists():
        SUITE.parent.mkdir(parents=True, exist_ok=True)
        pip("download", "--no-binary", ":all:", "--no-deps", "-d", SUITE.parent, "pyspf==2.0.14")
        with tarfile.open(next(SUITE.parent.glob("*.tar.gz"))) as archive:
            member = next(m for m in archive.getmembers() if m.name.endswith("test/rfc7208-tests.yml"))
            SUITE.write_bytes(archive.extractfile(member).read())
    if not (PYTHON / "dkim").exists() or not (PYTHON / "yaml").exists():
        pip("install", "--target", PYTHON, "PyYAML", "dkimpy", "pynacl")
    if str(PYTHON) not in sys.path:
        sys.path.insert(0, str(PYTHON))


def pip(*arguments):
    done = subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    if done.returncode:
        raise RuntimeError(f"pip {arguments[0]}: {done.stdout.decode('utf-8', 'replace')}")


def ask(zones, *arguments, stdin=None):
    """Exit code and JSON of a command with our name server."""
    command = [binary(), *arguments, "--resolver", f"127.0.0.1:{zones.port}", "--timeout", os.environ.get("DNS_TIMEOUT", "2"), "--json"]
    done = subprocess.run([str(c) for c in command], input=stdin, capture_output=True, timeout=120)
    if done.returncode not in (0, 1):
        raise AssertionError(f"{command}: exit {done.returncode}: {done.stderr.decode('utf-8', 'replace')}")
    return done.returncode, json.loads(done.stdout)


class Spf(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        fetch()
        import yaml
        cls.scenarios = list(yaml.safe_load_all(SUITE.read_text("utf-8")))

    def one(self, zones, name, test):
        code, report = ask(zones, "spf", test["host"], test["helo"], test["mailfrom"])
        outcome = report["outcome"]
        wanted = test["result"] if isinstance(test["result"], list) else [test["result"]]
        problems = []
        if outcome["result"] not in wanted:
            problems.append(f"{name} ({test.get('spec')}): {outcome['result']} instead of {wanted}: {outcome['problem']}")
        if "explanation" in test:
            said = outcome["explanation"] or "DEFAULT"
            if said.lower() != test["explanation"].lower():
                problems.append(f"{name}: explanation {said!r} instead of {test['explanation']!r}")
        if (code == 0) != (outcome["result"] == "pass"):
            problems.append(f"{name}: exit code {code} for {outcome['result']}")
        return problems

    def test_every_case_of_the_suite(self):
        problems, count = [], 0
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            jobs = []
            for scenario in self.scenarios:
                zones = Zones(scenario["zonedata"])
                self.addCleanup(zones.close)
                jobs += [pool.submit(self.one, zones, name, test) for name, test in scenario["tests"].items()]
            for job in jobs:
                problems += job.result()
                count += 1
        self.assertEqual(problems, [], f"{len(problems)} problems in {count} cases")
        self.assertEqual(count, CASES)
        print(f"{count} of {CASES} cases", file=sys.stderr)

    def test_the_trace_counts_each_lookup_where_it_was_made(self):
        zones = Zones({"example.test": [{"TXT": "v=spf1 include:a.example.test exists:void.example.test mx -all"}, {"MX": [0, "mx.example.test"]}],
                       "a.example.test": [{"TXT": "v=spf1 a:one.example.test a:two.example.test ?all"}],
                       "one.example.test": [{"A": "192.0.2.1"}], "two.example.test": [{"A": "192.0.2.2"}],
                       "mx.example.test": [{"A": "192.0.2.9"}]})
        self.addCleanup(zones.close)
        code, report = ask(zones, "spf", "192.0.2.9", "mail.example.test", "ann@example.test")
        outcome = report["outcome"]
        self.assertEqual((code, outcome["result"], outcome["decided_by"]), (0, "pass", "mx"))
        terms = [(term["term"], term["outcome"], term["lookups"], term["voids"]) for term in outcome["trace"]["terms"]]
        self.assertEqual(terms, [("include:a.example.test", "not_matched", 3, 0), ("exists:void.example.test", "not_matched", 1, 1), ("mx", "matched", 1, 0)])
        self.assertEqual((outcome["lookups"], outcome["voids"]), (5, 1))

    def test_a_long_record_comes_over_tcp(self):
        networks = " ".join(f"ip4:198.51.100.{n}" for n in range(1, 120))
        zones = Zones({"long.test": [{"TXT": f"v=spf1 {networks} ip4:192.0.2.1 -all"}]})
        self.addCleanup(zones.close)
        code, report = ask(zones, "spf", "192.0.2.1", "mail.long.test", "ann@long.test")
        self.assertEqual((code, report["outcome"]["decided_by"]), (0, "ip4:192.0.2.1"))
        self.assertGreater(zones.tcp_queries, 0)


class Dkim(unittest.TestCase):
    """Messages signed by dkimpy; bodies that end in blank lines are what verifiers get wrong."""

    BODIES = {"plain": b"Hello.\r\n", "empty": b"", "only blank lines": b"\r\n\r\n", "blank lines at the end": b"Hello. \r\n\r\n\r\n",
              "blanks at the end": b"Hello.\r\n \t \r\n", "no line end": b"Hello.", "blanks inside": b"a  \t b\r\n\r\n c \r\n"}

    @classmethod
    def setUpClass(cls):
        fetch()
        directory = CACHE / "dkim"
        directory.mkdir(parents=True, exist_ok=True)
        cls.rsa = directory / "rsa.pem"
        if not cls.rsa.exists():
            subprocess.run(["openssl", "genrsa", "-traditional", "-out", cls.rsa, "2048"], check=True, capture_output=True)
        public = subprocess.run(["openssl", "rsa", "-in", cls.rsa, "-pubout"], check=True, capture_output=True).stdout.decode()
        packed = "".join(line for line in public.splitlines() if "-" not in line)
        import base64
        import nacl.signing
        seed = bytes(range(32))
        cls.ed25519 = base64.b64encode(seed)
        public = base64.b64encode(bytes(nacl.signing.SigningKey(seed).verify_key)).decode()
        cls.zones = Zones({"rsa._domainkey.example.test": [{"TXT": f"v=DKIM1; k=rsa; p={packed}"}],
                           "ed._domainkey.example.test": [{"TXT": f"v=DKIM1; k=ed25519; p={public}"}],
                           "old._domainkey.example.test": [{"TXT": "v=DKIM1; p="}]})

    @classmethod
    def tearDownClass(cls):
        cls.zones.close()

    def signed(self, body, selector="rsa", canonical=(b"relaxed", b"relaxed"), **more):
        import dkim
        message = b"From: Ann <ann@example.test>\r\nTo: ben@example.org\r\nSubject: A  folded\r\n\tsubject \r\n\r\n" + body
        key, algorithm = (self.rsa.read_bytes(), b"rsa-sha256") if selector != "ed" else (self.ed25519, b"ed25519-sha256")
        field = dkim.sign(message, selector.encode(), b"example.test", key, canonicalize=canonical, signature_algorithm=algorithm, **more)
        return field + message

    def verify(self, message):
        code, report = ask(self.zones, "dkim", "verify", "-", stdin=message)
        return code, report["signatures"]

    def test_signatures_of_another_implementation_are_good(self):
        for selector in ("rsa", "ed"):
            for header in (b"simple", b"relaxed"):
                for body_form in (b"simple", b"relaxed"):
                    for name, body in self.BODIES.items():
                        with self.subTest(selector=selector, header=header, body=body_form, what=name):
                            code, [found] = self.verify(self.signed(body, selector, (header, body_form)))
                            self.assertEqual((code, found["result"], found["reason"]), (0, "pass", None))

    def test_changes_are_told_apart(self):
        good = self.signed(b"Hello.\r\n")
        for old, new, reason in ((b"Hello", b"Hallo", "body_hash_mismatch"), (b"A  folded", b"B  folded", "signature_mismatch"),
                                 (b"s=rsa;", b"s=old;", "key_revoked"), (b"s=rsa;", b"s=none;", "key_not_found"), (b"s=rsa;", b"s=ed;", "key_type_mismatch")):
            code, [found] = self.verify(good.replace(old, new, 1))
            self.assertEqual((code, found["reason"]), (1, reason))

    def test_line_ends_of_a_saved_file_do_not_matter(self):
        code, [found] = self.verify(self.signed(b"Hello.\r\n\r\n").replace(b"\r\n", b"\n"))
        self.assertEqual((code, found["result"]), (0, "pass"))


class Dmarc(unittest.TestCase):
    def setUp(self):
        self.zones = Zones({"_dmarc.example.co.uk": [{"TXT": "v=DMARC1; p=reject; sp=quarantine; np=reject; rua=mailto:d@example.co.uk"}],
                            "_dmarc.dept.example.co.uk": [{"TXT": "v=DMARC1; p=none; psd=n; rua=mailto:d@example.co.uk"}],
                            "_dmarc.twice.test": [{"TXT": "v=DMARC1; p=reject"}, {"TXT": "v=DMARC1; p=none"}]})
        self.addCleanup(self.zones.close)

    def test_the_policy_is_found_in_both_forms(self):
        code, report = ask(self.zones, "dmarc", "news.example.co.uk")
        self.assertEqual((code, report["differs"]), (0, True))
        self.assertEqual(report["current"], {"domain": "quarantine", "subdomain": "quarantine", "non_existent": "reject"})
        self.assertEqual(report["classic"], {"domain": "quarantine", "subdomain": "quarantine", "non_existent": "quarantine"})
        code, report = ask(self.zones, "dmarc", "twice.test")
        self.assertEqual((code, report["discovery"]["asked"][0]["remarks"][0]["kind"]), (1, "several_records"))

    def test_the_forms_disagree_about_a_department(self):
        arguments = ("dmarc", "check", "--from", "a.dept.example.co.uk", "--spf-domain", "b.example.co.uk", "--spf-result", "pass")
        code, report = ask(self.zones, *arguments)
        self.assertEqual((code, report["current"]["verdict"]["pass"], report["classic"]["verdict"]["pass"]), (1, False, True))
        code, report = ask(self.zones, "dmarc", "check", "--from", "a.dept.example.co.uk", "--dkim", "d=dept.example.co.uk")
        self.assertEqual((code, report["current"]["verdict"]["dkim_pass"]), (0, True))


if __name__ == "__main__":
    unittest.main()
