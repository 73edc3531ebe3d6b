"""Returned mail of other programs: corpora of other projects, fetched when the test runs and never kept here.

The files of flufl.bounce (PyPI) come with the addresses each should give; those of Mail::DeliveryStatus::BounceParser (Debian's
source package) with what their tests say. A corpus that cannot be fetched fails the run: nothing was tested then.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("PILLARBOX", str(ROOT / "target/debug/pillarbox"))
DEBIAN = "deb-src http://deb.debian.org/debian bookworm main\n"


def fetch_flufl(folder: pathlib.Path) -> pathlib.Path:
    """The sdist of flufl.bounce, unpacked."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(folder), "flufl.bounce==6.0.0"],
        check=True,
    )
    (archive,) = folder.glob("flufl*bounce*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    (tests,) = folder.glob("flufl*bounce*/tests")
    return tests


def fetch_perl(folder: pathlib.Path) -> pathlib.Path:
    """The upstream archive of Debian's libmail-deliverystatus-bounceparser-perl, unpacked; the system's sources stay as they are."""
    lists = folder / "lists" / "partial"
    lists.mkdir(parents=True)
    (folder / "sources.list").write_text(DEBIAN)
    options = [
        "-o", f"Dir::Etc::sourcelist={folder}/sources.list",
        "-o", "Dir::Etc::sourceparts=/dev/null",
        "-o", f"Dir::State::lists={folder}/lists",
        "-o", "APT::Sandbox::User=root",
        "-o", "Acquire::Retries=3",
    ]
    subprocess.run(["apt-get", "-qq", *options, "update"], check=True)
    # Only the upstream archive is needed: Debian's own part may be gone from a mirror.
    subprocess.run(
        ["apt-get", "-qq", *options, "source", "--download-only", "--tar-only", "libmail-deliverystatus-bounceparser-perl"],
        cwd=folder,
        check=False,
    )
    archives = list(folder.glob("libmail-deliverystatus-bounceparser-perl_*.orig.tar.*"))
    if not archives:
        raise RuntimeError("the Debian source of libmail-deliverystatus-bounceparser-perl cannot be fetched")
    with tarfile.open(archives[0]) as tar:
        tar.extractall(folder, filter="data")
    (corpus,) = folder.glob("Mail-DeliveryStatus-BounceParser-*/t/corpus")
    return corpus


def explain(octets: bytes) -> dict:
    """What `pillarbox explain --json -` says; exit 1 only means that words were not known."""
    done = subprocess.run([BINARY, "explain", "--json", "-"], input=octets, capture_output=True, timeout=60)
    if done.returncode not in (0, 1):
        raise AssertionError(f"exit {done.returncode}: {done.stderr.decode(errors='replace')[:500]}")
    report = json.loads(done.stdout)
    return report.get("mail", report)


def recipients(report: dict) -> list:
    """The verdicts of all bounces."""
    return [one for item in report["items"] if item["kind"] == "bounce" for one in item["bounce"]["recipients"]]


def kind(report: dict) -> str:
    return report["items"][0]["kind"]


def same_for_all_line_ends(octets: bytes) -> bool:
    unix = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    wanted = explain(unix)
    return all(explain(unix.replace(b"\n", end)) == wanted for end in (b"\r\n", b"\r"))


class Flufl(unittest.TestCase):
    """Expected addresses, and whether delivery goes on."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        tests = fetch_flufl(pathlib.Path(cls.folder.name))
        cls.data = tests / "data"
        source = (tests / "test_detectors.py").read_text()
        start = source.index("DETECTORS = [")
        rows = re.findall(r"\('\w+',\s*'(\w+\.txt)',\s*\[([^\]]*)\],\s*(True|False)\)", source[start:])
        cls.expected = {}
        for name, addresses, temporary in rows:
            found = {address.lower() for address in re.findall(r"b'([^']+)'", addresses)}
            # Some files are run through detectors that are not meant to find anything; the others count.
            if found:
                cls.expected[name] = (found, temporary == "True")
        if len(cls.expected) < 100:
            raise RuntimeError(f"only {len(cls.expected)} expectations were read")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_recipients_and_delays(self):
        wrong, delays = [], []
        started = time.monotonic()
        for name, (wanted, temporary) in sorted(self.expected.items()):
            found = recipients(explain((self.data / name).read_bytes()))
            final = {one["recipient"].lower() for one in found}
            original = {one.get("original_recipient", "").lower() for one in found}
            if not (final == wanted or (wanted <= final | original and len(final) <= len(wanted))):
                wrong.append((name, sorted(wanted), sorted(final)))
            elif any((one["action"] == "delayed") != temporary for one in found):
                delays.append(name)
        total = len(self.expected)
        right = total - len(wrong)
        print(f"flufl.bounce: recipients right in {right} of {total}, delays in {right - len(delays)}; {time.monotonic() - started:.1f} s")
        print("  wrong:", wrong, delays)
        self.assertGreaterEqual(right / total, 0.95)
        self.assertLessEqual(len(delays), 1)

    def test_line_ends(self):
        for name in sorted(self.expected)[::5]:
            self.assertTrue(same_for_all_line_ends((self.data / name).read_bytes()), name)


class BounceParser(unittest.TestCase):
    """Kinds of failures, by the names of the files and the tests of that package."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.corpus = fetch_perl(pathlib.Path(cls.folder.name))
        cls.found = {path.name: explain(path.read_bytes()) for path in sorted(cls.corpus.glob("*.msg"))}
        if len(cls.found) < 100:
            raise RuntimeError(f"only {len(cls.found)} mails were read")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_what_is_no_bounce(self):
        answers = ["aol-vacation", "polish-autoreply", "bluebottle", "autoreply", "warning-6"]
        spam = ["spam-bogus-email-in-report", "spam-with-image"]
        for name in answers + spam:
            self.assertNotEqual(kind(self.found[f"{name}.msg"]), "bounce", name)

    def test_bounces_have_recipients(self):
        no_bounce = {"aol-vacation", "polish-autoreply", "bluebottle", "autoreply", "warning-6", "spam-bogus-email-in-report",
                     "spam-with-image", "no-message-collected"}
        rest = {name: report for name, report in self.found.items() if name.removesuffix(".msg") not in no_bounce}
        missing = [name for name, report in rest.items() if not recipients(report)]
        print(f"BounceParser: recipients in {len(rest) - len(missing)} of {len(rest)}; missing: {missing}")
        self.assertGreaterEqual(1 - len(missing) / len(rest), 0.98)

    def test_categories(self):
        groups = {
            "spam-rejection": {"spam_content", "content_policy", "domain_blocklisted", "ip_blocklisted", "ip_reputation", "spf_fail", "virus",
                               "banned_content", "reverse_dns", "ip_blocked", "sender_rejected"},
            "quota": {"mailbox_full", "too_large"},
            "message-too-large": {"too_large"},
            "user-unknown": {"mailbox_unknown", "mailbox_disabled", "recipient_syntax"},
            "doesnotexist": {"mailbox_unknown"},
        }
        wrong, total = [], 0
        for name, report in self.found.items():
            wanted = next((reasons for start, reasons in groups.items() if name.startswith(start)), None)
            if wanted is None and name.endswith(".unknown.msg"):
                wanted = {"mailbox_unknown", "mailbox_disabled"}
            if wanted is None or not recipients(report):
                continue
            total += 1
            reason = recipients(report)[0].get("reason")
            if reason not in wanted:
                wrong.append((name, reason))
        print(f"BounceParser: categories right in {total - len(wrong)} of {total}; wrong: {wrong}")
        self.assertGreaterEqual(1 - len(wrong) / total, 0.95)

    def test_soft_is_not_called_hard(self):
        soft = ("spam-", "quota", "message-too-large", "relaying", "not-a-relay", "junk")
        wrong = [name for name, report in self.found.items() if name.startswith(soft) and any(one["bounce"] == "hard" for one in recipients(report))]
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
