"""Sender policies and TLS reports through the binary: all cases of the RFC 7208 suite (from the source distribution of pyspf, fetched when needed and
never part of this repository), signatures of a second implementation of DKIM, DMARC in both forms, and TLS reports that arrive at an
HTTPS server and, through Postfix, in a mailbox."""

import concurrent.futures
import email
import email.policy
import gzip
import ipaddress
import json
import os
import re
import smtplib
import subprocess
import sys
import tarfile
import unittest

import relay
from common import CACHE, Catch, Place
from dns_zones import Zones
from peers import Hop, Postfix
from relay import binary
from web import Receiver

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
    command = [binary(), *arguments, "--resolver", f"127.0.0.1:{zones.port}", "--timeout", os.environ.get("DNS_TIMEOUT", "5"), "--json"]
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


def instant(text):
    """RFC 3339 in UTC, as the RFC's samples have it."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", text):
        raise AssertionError(f"{text!r} is no time")


RESULTS = {"starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted", "validation-failure",
           "tlsa-invalid", "dnssec-invalid", "dane-required", "sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid"}
# RFC 8460, section 4.4: which members there are, whether they have to be there, and what they hold.
DETAILS = {"result-type": (True, RESULTS.__contains__), "sending-mta-ip": (True, ipaddress.ip_address), "receiving-mx-hostname": (True, str),
           "receiving-mx-helo": (False, str), "receiving-ip": (False, ipaddress.ip_address), "failed-session-count": (True, int),
           "additional-information": (False, str), "failure-reason-code": (False, str)}
POLICY = {"policy-type": (True, {"tlsa", "sts", "no-policy-found"}.__contains__), "policy-string": (False, list), "policy-domain": (True, str),
          "mx-host": (False, list)}
SUMMARY = {"total-successful-session-count": (True, int), "total-failure-session-count": (True, int)}
RANGE = {"start-datetime": (True, instant), "end-datetime": (True, instant)}
REPORT = {"organization-name": (True, str), "date-range": (True, dict), "contact-info": (True, str), "report-id": (True, str), "policies": (True, list)}


def conform(members, schema, what):
    """Nothing is missing, nothing is unknown, everything is of its kind."""
    unknown = set(members) - set(schema)
    if unknown:
        raise AssertionError(f"{what}: unknown {unknown}")
    for name, (must, kind) in schema.items():
        if name not in members:
            if must:
                raise AssertionError(f"{what}: {name} is missing")
        elif isinstance(kind, type):
            if type(members[name]) is not kind:
                raise AssertionError(f"{what}: {name} is {members[name]!r}")
        elif kind(members[name]) is False:
            raise AssertionError(f"{what}: {name} is {members[name]!r}")


def tls_report(octets):
    """A packed report, read strictly."""
    report = json.loads(gzip.decompress(octets))
    conform(report, REPORT, "report")
    conform(report["date-range"], RANGE, "date-range")
    for policy in report["policies"]:
        conform(policy, {"policy": (True, dict), "summary": (True, dict), "failure-details": (False, list)}, "policies")
        conform(policy["policy"], POLICY, "policy")
        conform(policy["summary"], SUMMARY, "summary")
        for details in policy.get("failure-details", []):
            conform(details, DETAILS, "failure-details")
        failed = sum(details["failed-session-count"] for details in policy.get("failure-details", []))
        if failed != policy["summary"]["total-failure-session-count"]:
            raise AssertionError(f"{failed} failures in details: {policy}")
    return report


class TlsReports(unittest.TestCase):
    """Mail to a Postfix with TLS and to a server without; the reports about both reach an HTTPS server and a mailbox behind Postfix."""

    @classmethod
    def setUpClass(cls):
        fetch()
        cls.place, cls.catch = Place("tlsrpt"), Catch()
        cls.addClassCleanup(cls.place.remove)
        cls.addClassCleanup(cls.catch.stop)
        cls.postfix = Postfix(cls.place, Hop(cls.catch.port))
        cls.addClassCleanup(cls.postfix.stop)
        cls.receiver = Receiver(cls.place, status=201)
        cls.addClassCleanup(cls.receiver.stop)
        record = f"v=TLSRPTv1; rua=https://localhost:{cls.receiver.port}/tls/in,mailto:tls%2Breports@one.test"
        cls.zones = Zones({"localhost": [{"A": "127.0.0.1"}],
                           "one.test": [{"MX": [10, "mx.one.test"]}], "mx.one.test": [{"A": "127.0.0.1"}],
                           "two.test": [{"MX": [10, "mx.two.test"]}], "mx.two.test": [{"A": "127.0.0.1"}],
                           "_smtp._tls.one.test": [{"TXT": record}], "_smtp._tls.two.test": [{"TXT": record}]})
        cls.addClassCleanup(cls.zones.close)
        more = (f'[dns]\nservers = ["127.0.0.1:{cls.zones.port}"]\n[tls]\nroots = "{cls.place.ca}"\n'
                '[tls_report]\ncontact = "tls@shop.test"\norganization = "Shop \\"& Söhne\\""\nprivate = "yes"\n')
        mx = ("--mx", "--allow-private", "--port")
        cls.relay = relay.Pillarbox(cls.place, *mx, cls.postfix.port, more=more)
        cls.addClassCleanup(cls.relay.stop)
        cls.relay.cli("route", "add", "clear", *mx, cls.catch.port)
        cls.relay.cli("route", "rule", "add", "clear", "--route", "clear", "--to-domain", "two.test")
        added = json.loads(cls.relay.cli("dkim", "add", "shop.test", "--selector", "s1", "--json"))
        cls.records = {key["record"]["name"]: key["record"]["value"] for key in added["keys"]}
        cls.relay.cli("dkim", "activate", "shop.test", "--force")
        with smtplib.SMTP("localhost", cls.relay.port) as smtp:
            smtp.starttls(context=cls.place.tls())
            smtp.login(relay.SENDER, relay.PASSWORD)
            for domain in ("one", "two"):
                text = f"From: a@shop.test\r\nTo: b@{domain}.test\r\nSubject: to-{domain}\r\n\r\nHi\r\n"
                smtp.sendmail("a@shop.test", [f"b@{domain}.test"], text)
        for domain in ("one", "two"):
            cls.catch.wait(f"to-{domain}")

    def send(self, domain):
        """Sends the report of today so far; gives what was posted, and the mail."""
        seen = len(self.receiver.told)
        sent = json.loads(self.relay.cli("tlsrpt", "send", domain, "--json"))
        self.assertEqual((len(sent["sent_to"]), sent["problems"]), (2, []))
        path, headers, body = self.receiver.wait(seen + 1)[seen]
        self.assertEqual((path, headers["content-type"], headers["host"]),
                         ("/tls/in", "application/tlsrpt+gzip", f"localhost:{self.receiver.port}"))
        report = tls_report(body)
        subject = f"Report Domain: {domain} Submitter: shop.test Report-ID: <{report['report-id']}>"
        mail = self.catch.wait(subject)
        return report, body, mail

    def test_a_domain_with_tls_gets_its_successes(self):
        report, body, mail = self.send("one.test")
        self.assertEqual((report["organization-name"], report["contact-info"]), ('Shop "& Söhne"', "tls@shop.test"))
        [policy] = report["policies"]
        self.assertEqual(policy["policy"], {"policy-type": "no-policy-found", "policy-domain": "one.test"})
        self.assertEqual(policy["summary"], {"total-successful-session-count": 1, "total-failure-session-count": 0})
        day = report["date-range"]["start-datetime"]
        self.assertTrue(day.endswith("T00:00:00Z") and day < report["date-range"]["end-datetime"])

        parsed = email.message_from_bytes(mail.content, policy=email.policy.default)
        self.assertEqual((mail.sender, mail.recipients), ("", ["tls+reports@one.test"]))
        self.assertEqual((parsed.get_content_type(), parsed["Content-Type"].params["report-type"]), ("multipart/report", "tlsrpt"))
        self.assertEqual((parsed["TLS-Report-Domain"], parsed["TLS-Report-Submitter"], parsed["From"]), ("one.test", "shop.test", "tls@shop.test"))
        human, attached = parsed.iter_parts()
        self.assertEqual((human.get_content_type(), attached.get_content_type()), ("text/plain", "application/tlsrpt+gzip"))
        name = attached.get_filename()
        self.assertRegex(name, r"^shop\.test!one\.test!\d+!\d+![0-9A-Za-z]+\.json\.gz$")
        self.assertEqual(tls_report(attached.get_content()), report)

        import dkim
        text = lambda name, timeout=5: self.records[name.decode().rstrip(".")].encode()
        judge = dkim.DKIM(mail.content, minkey=1024)
        self.assertTrue(judge.verify(idx=0, dnsfunc=text) and judge.verify(idx=1, dnsfunc=text))

    def test_a_domain_without_tls_gets_its_failures(self):
        report, _, _ = self.send("two.test")
        [policy] = report["policies"]
        self.assertEqual(policy["summary"], {"total-successful-session-count": 0, "total-failure-session-count": 1})
        [details] = policy["failure-details"]
        self.assertEqual(details, {"result-type": "starttls-not-supported", "sending-mta-ip": "127.0.0.1", "receiving-ip": "127.0.0.1",
                                   "receiving-mx-hostname": "mx.two.test", "failed-session-count": 1})

    def test_what_was_counted_survives_kill(self):
        listed = json.loads(self.relay.cli("tlsrpt", "ls", "--json"))
        self.assertEqual({item["domain"] for item in listed["items"]}, {"one.test", "two.test"})
        self.relay.server.process.kill()
        self.relay.server.process.wait()
        self.relay.start()
        again = json.loads(self.relay.cli("tlsrpt", "ls", "--json"))
        counts = lambda page: {item["domain"]: (item["successful"], item["failed"]) for item in page["items"]}
        self.assertEqual(counts(again), counts(listed))


if __name__ == "__main__":
    unittest.main()
