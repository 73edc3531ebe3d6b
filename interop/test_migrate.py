"""A living installation moves from its data directory to PostgreSQL: copied while it works, interrupted by kill -9, gone on with
when it has stopped, counted; then served.

MESSAGES says how many (10,000 with FULL=1, else 1,500).
"""

import json
import os
import pathlib
import re
import smtplib
import subprocess
import threading
import time
import unittest
from email.message import EmailMessage

from cluster import Node, Postgres, Sink
from common import Place, free_port, need
from relay import PASSWORD, SENDER, binary

MESSAGES = int(os.environ.get("MESSAGES", "10000" if os.environ.get("FULL") else "1500"))


class Embedded(Node):
    """The installation before it moves: the same, with its queue in files."""

    def __init__(self, place, name):
        super().__init__(place, name, "")
        del self.env["PILLARBOX_STORE"]

    @property
    def data(self):
        return self.dir / "data"


class Migrate(unittest.TestCase):
    def setUp(self):
        need("setpriv")
        self.place = Place("migrate")
        self.addCleanup(self.place.remove)
        self.sink = Sink()
        self.addCleanup(self.sink.stop)

    def submit(self, node, count, prefix, domain, threads=8, attach=False):
        """Sends as fast as it goes; gives the pairs that were accepted."""
        accepted, lock, numbers = set(), threading.Lock(), iter(range(count))

        def work():
            with smtplib.SMTP("127.0.0.1", node.port, timeout=120) as client:
                client.login(SENDER, PASSWORD)
                while True:
                    with lock:
                        number = next(numbers, None)
                    if number is None:
                        return
                    mail = EmailMessage()
                    mail["From"], mail["To"], mail["Subject"] = "app@app.test", f"{prefix}{number}@{domain}", f"{prefix}{number}"
                    mail.set_content(f"Number {number}, ümlaut\n" * 5)
                    if attach and number % 20 == 0:
                        mail.add_attachment(os.urandom(200_000), maintype="application", subtype="octet-stream", filename="a.bin")
                    client.sendmail("app@app.test", [mail["To"]], mail.as_bytes(policy=mail.policy.clone(linesep="\r\n")))
                    with lock:
                        accepted.add((mail["Subject"], mail["To"]))

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual(len(accepted), count)
        return accepted

    def wait(self, what, condition, patience=90):
        end = time.monotonic() + patience
        while not condition():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.2)

    def ask(self, node, *arguments):
        return json.loads(node.cli(*arguments, "--json"))

    def counts(self, node):
        """Recipients by domain and state; those of the batch are being made."""
        rows = (json.dumps({**row, "next_due": None}, sort_keys=True) for row in self.listed(node, "queue", "counts"))
        return sorted(row for row in rows if "batch.test" not in row)

    def listed(self, node, *arguments):
        found = self.ask(node, *arguments)
        return found if isinstance(found, list) else found.get("items", found)

    def told(self, node):
        """All that a person could compare, without what tells of this moment."""
        # What is under way, was looked at, or is reckoned from what this process has in memory.
        passing = re.compile(r"forecast|^next|_at$|last_|status|used|queued|waiting|oldest|connections|version|rates|state|pending|drain|behind|rows|counts")

        def stable(value):
            if isinstance(value, dict):
                return {key: stable(inner) for key, inner in value.items() if not passing.search(key)}
            return [stable(inner) for inner in value] if isinstance(value, list) else value

        kinds = [("sender", "ls"), ("route", "ls"), ("stream", "ls"), ("user", "list"), ("key", "list"), ("webhook", "ls"),
                 ("suppression", "ls"), ("batch", "ls")]
        return {" ".join(kind): stable(self.ask(node, *kind)) for kind in kinds}

    def interrupted(self, command):
        """Kills a command in the midst of some tables, then lets it come to its end; gives what it ended with."""
        for table in ("setting", "message", "recipient", "event"):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for line in process.stderr:
                if line.startswith(f"{table}: ") and not line.startswith(f"{table}: 0 of"):
                    break
            else:
                self.fail(f"it did not come as far as {table}: {process.wait()}")
            process.kill()
            process.communicate()
        return subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300)

    def test_a_living_installation_moves(self):
        old = Embedded(self.place, "old")
        self.addCleanup(old.stop)
        old.start()
        # A listener that can be switched off: while it is, mail waits.
        old.set_up(self.sink, "--connections", "8")
        password = self.place.path / "user-password"
        password.write_text("a longer password than most")
        password.chmod(0o600)
        old.cli("user", "add", "ann", "--role", "administrator", "--password-from", f"file:{password}")
        old.cli("key", "add", "script", "--role", "viewer")
        old.cli("webhook", "add", "hook", f"http://127.0.0.1:{free_port()}/hook", "--allow-http", "--network", "127.0.0.0/8")
        old.cli("stream", "add", "news")
        old.cli("suppression", "add", *(f"gone{n}@dest.test" for n in range(200)), "--reason", "opt-out", "--note", "wrote to us")
        delivered = self.submit(old, MESSAGES // 5, "done", "dest.test", attach=True)
        self.wait("delivered", lambda: len(self.sink.copies) >= len(delivered))
        # Too many of these, and the stream would be stopped.
        self.submit(old, max(4, MESSAGES // 500), "nosuch", "dest.test")
        self.submit(old, 40, "gone", "dest.test")
        old.cli("route", "set", "out", "--smarthost", f"127.0.0.1:{free_port()}", "--force")
        held = self.submit(old, MESSAGES // 10, "held", "held.test")
        old.cli("queue", "hold", "--domain", "held.test", "--reason", "to be looked at")
        self.submit(old, MESSAGES // 20, "canceled", "canceled.test")
        old.cli("queue", "cancel", "--domain", "canceled.test")
        template, rows = self.place.path / "t.txt", self.place.path / "rows.csv"
        template.write_text("Hello {{ name }}\n")
        rows.write_text("email,name\n" + "".join(f"row{n}@batch.test,Name {n}\n" for n in range(500)))
        old.cli("batch", "send", template, rows, "--from", "app@app.test", "--subject", "Batch", "--stream", "news", "--name", "autumn")
        waiting = self.submit(old, MESSAGES, "wait", "wait.test", attach=True)

        pg = Postgres(self.place, "pg")
        self.addCleanup(pg.stop)
        pg.start().sql("CREATE DATABASE pillarbox", "postgres")
        url = f"postgres://pillarbox@127.0.0.1:{pg.port}/pillarbox?sslmode=disable"
        command = [binary(), "migrate", "--from", f"sqlite:{old.data}", "--to", url]
        # It is copied while it works: mail comes in, is canceled, and settings change.
        live = []
        sender = threading.Thread(target=lambda: live.append(self.submit(old, MESSAGES // 3, "live", "wait.test", threads=2, attach=True)))
        sender.start()
        began = time.monotonic()
        copied = self.interrupted(command)
        self.assertEqual((copied.returncode, json.loads(copied.stdout or "{}").get("complete")), (1, False), copied)
        print(f"\n  copied after four kills in {time.monotonic() - began:.1f} s while it worked: {copied.stdout}", flush=True)
        new = Node(self.place, "new", url)
        self.addCleanup(new.stop)
        early = subprocess.run([binary(), "serve", "--config", new.config], env=new.env, capture_output=True, text=True, timeout=60)
        self.assertEqual(early.returncode, 3, "a target that is not complete was served")
        self.assertIn("not all there", early.stdout + early.stderr)
        sender.join()
        self.assertEqual(len(live), 1, "the server took mail meanwhile")
        waiting |= live[0]
        old.cli("queue", "cancel", "--recipient", "wait3@wait.test")
        waiting = {pair for pair in waiting if pair[1] != "wait3@wait.test"}
        old.cli("suppression", "remove", "gone199@dest.test")
        old.cli("stream", "add", "late")
        time.sleep(2)
        before, counts = self.told(old), self.counts(old)
        sought = ("done0@dest.test", "held3@held.test", "nosuch1@dest.test")
        sample = [self.items(self.ask(old, "messages", "search", text)) for text in sought]
        self.assertEqual([len(found) for found in sample], [1, 1, 1], sample)
        old.stop()

        files = self.files(old.data)
        began = time.monotonic()
        done = self.interrupted(command)
        self.assertEqual((done.returncode, json.loads(done.stdout or "{}").get("complete")), (0, True), done)
        moved = json.loads(done.stdout)
        print(f"  the rest moved after four kills in {time.monotonic() - began:.1f} s: {moved}", flush=True)
        self.assertGreaterEqual(moved["tables"]["message"], MESSAGES + len(delivered) + len(held))
        self.assertEqual(self.files(old.data), files, "the source stays as it is")

        new.start()
        after = self.told(new)
        for kind, told in before.items():
            self.assertEqual(after[kind], told, kind)
        for text, found in zip(sought, sample):
            self.wait("the search finds it", lambda: self.items(self.ask(new, "messages", "search", text)) == found)
        self.assertEqual(self.counts(new), counts)
        self.assertEqual(self.ask(new, "verify", "--deep").get("problems", []), [])
        new.cli("route", "set", "out", "--smarthost", f"127.0.0.1:{self.sink.port}")
        new.cli("queue", "retry", "--all")
        batch = {("Batch", f"row{n}@batch.test") for n in range(500)}
        self.wait("what was queued arrives", lambda: waiting | batch <= self.sink.copies.keys(), 300)
        self.assertFalse(held & self.sink.copies.keys(), "held mail went out")
        new.cli("queue", "release", "--domain", "held.test")
        self.wait("what was held arrives", lambda: held <= self.sink.copies.keys())
        arrived = {pair: n for pair, n in self.sink.copies.items() if pair[1] != "app@app.test"}  # it was told of failures
        self.assertEqual([pair for pair, n in arrived.items() if n > 1], [], "nothing twice")
        self.assertEqual(set(arrived), delivered | held | waiting | batch, "and nothing else")
        print(f"  {len(arrived)} arrived, {len(delivered)} of them before the move", flush=True)

    def items(self, found):
        return found if isinstance(found, list) else found["items"]

    def files(self, directory):
        # Those beside the database come and go with whoever has it open.
        return {str(path.relative_to(directory)): path.stat().st_size for path in pathlib.Path(directory).rglob("*")
                if path.is_file() and not path.name.endswith(("-wal", "-shm"))}


if __name__ == "__main__":
    unittest.main(verbosity=2)
