"""Incidents of Pillarbox itself, each provoked for real: a store whose writes fail, a database that is killed, a clock that leaps, a
certificate at its end.
(A full disk is in test_incident_stories; a queue that stands still for minutes and a part that ends by a defect are in the program's own
tests, which have a clock of their own.)

One incident and one alert tell of each, with the right fix first; when it is mended the incident closes by itself, and all mail
arrives, none of it twice."""

import json
import os
import resource
import smtplib
import time
import unittest
import unittest.mock

from cluster import KEY, Postgres
from common import run
from incident_story import FAKETIME, Story
from test_monitor import issue


class Own(Story):
    def relay(self, *route, **more):
        relay = super().relay(*route, **more)
        self.listen(relay)
        return relay

    def direct(self, **more):
        return self.relay("--smarthost", f"127.0.0.1:{self.catch.port}", "--tls", "none", **more)

    def fix(self, one):
        return one["fixes"][0]["run"]

    def test_the_store_cannot_write(self):
        # Writes to files fail from here on, as on a disk that gives errors: no file may grow or be written, sockets may.
        # Python hands its disregard of SIGXFSZ on, so that the write gives an error and is not the end.
        relay = self.direct(restore_signals=False)
        pid = relay.server.process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        self.send(relay, 2)
        self.all_arrived(relay)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
        self.addCleanup(lambda: relay.server.process.poll() is None and resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard)))
        with self.assertRaises(smtplib.SMTPException) as refused:
            self.send(relay, 1)
        self.assertIn("451", str(refused.exception))
        # Told though nothing can be written down.
        self.until("an alert", relay, lambda: self.told.of("store_unwell"))
        self.assertEqual(self.told.of("store_unwell"), [("raised", "critical")])
        self.assertIn("journalctl -k", next(one["text"] for one in self.told.alerts if "store_unwell" in one["key"]))
        began = time.time()
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        name = self.opened(relay)
        one = self.shown(relay, name)
        self.assertEqual((one["incident"]["scope"], one["incident"]["reason"]), ("itself:store", "store_unwell"), one)
        self.assertIn("journalctl -k", self.fix(one))
        self.assertLess(one["incident"]["opened"], time.strftime("%Y-%m-%dT%H:%M:%S.999Z", time.gmtime(began)))
        done = self.closed(relay, name)
        self.assertEqual(done["incident"]["closed_how"], "recovered")
        self.send(relay, 3)
        self.all_arrived(relay)
        self.only(relay, name)
        self.until("its end is told", relay, lambda: len(self.told.of("store_unwell")) > 1)
        self.assertEqual([state for state, _ in self.told.of("store_unwell")], ["raised", "resolved"])

    def test_the_database_is_killed(self):
        self.database_away(Postgres.kill9, Postgres.start)

    def test_the_database_is_away_for_longer_than_this_node_leads(self):
        self.database_away(Postgres.kill9, Postgres.start, longer=True)

    def test_the_database_does_not_answer(self):
        # Nobody can know by then who leads.
        self.database_away(Postgres.freeze, Postgres.thaw, refuses=False, longer=True)

    def database_away(self, leave, come_back, refuses=True, longer=False):
        database = Postgres(self.place, "database")
        self.addCleanup(database.stop)
        database.start().sql("CREATE DATABASE mail", "postgres")
        store = f"postgres://pillarbox@127.0.0.1:{database.port}/mail?sslmode=disable"
        where = unittest.mock.patch.dict(os.environ, PILLARBOX_STORE=store, PILLARBOX_KEY=KEY)
        where.start()
        self.addCleanup(where.stop)
        relay = self.direct()
        self.send(relay, 2)
        self.all_arrived(relay)
        leave(database)
        began = time.time()
        if refuses:
            with self.assertRaises(smtplib.SMTPException) as refused:
                self.send(relay, 1)
            self.assertIn("451", str(refused.exception))
        # Told though nothing can be written down.
        self.until("an alert", relay, lambda: self.told.of("store_away"))
        self.assertEqual(self.told.of("store_away"), [("raised", "critical")])
        if longer:
            self.until("the lead ends", relay, lambda: "this node leads no more" in relay.server.log.read_text())
        come_back(database)
        name = self.opened(relay)
        one = self.shown(relay, name)
        self.assertEqual((one["incident"]["scope"], one["incident"]["reason"]), ("itself:store", "store_away"), one)
        self.assertIn("PostgreSQL", json.dumps(one["fixes"][0]), one)
        done = self.closed(relay, name)
        self.assertEqual(done["incident"]["closed_how"], "recovered")
        self.assertGreater(done["incident"]["opened"], time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(began)))
        self.send(relay, 3)
        self.all_arrived(relay)
        self.only(relay, name)
        self.until("its end is told", relay, lambda: len(self.told.of("store_away")) > 1)
        self.assertEqual([state for state, _ in self.told.of("store_away")], ["raised", "resolved"])

    def test_the_clock_leaps(self):
        offset = self.place.path / "clock"
        offset.write_text("+0\n")
        if not FAKETIME.exists():
            raise RuntimeError(f"{FAKETIME} is missing; run interop/install as root")
        relay = self.direct(env=dict(os.environ, LD_PRELOAD=str(FAKETIME), FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_NO_CACHE="1",
                                     FAKETIME_DONT_FAKE_MONOTONIC="1", NO_FAKE_STAT="1"))
        self.send(relay, 2)
        self.all_arrived(relay)
        offset.write_text("+7200\n")
        name = self.opened(relay)
        one = self.shown(relay, name)
        self.assertEqual((one["incident"]["scope"], one["incident"]["reason"]), ("itself:clock", "clock_jumped"), one)
        self.assertIn("forward by 7", one["meaning"])
        self.assertEqual(self.fix(one), "timedatectl status")
        self.send(relay, 2)
        self.all_arrived(relay)
        self.only(relay, name)
        self.until("it is told", relay, lambda: self.told.of("clock"))
        offset.write_text("+0\n")
        done = self.closed(relay, name)
        self.assertEqual(done["incident"]["closed_how"], "recovered")
        self.send(relay, 2)
        self.all_arrived(relay)
        self.only(relay, name)
        self.until("its end is told", relay, lambda: len(self.told.of("clock")) > 1)
        self.assertEqual(self.told.of("clock"), [("raised", "warning"), ("resolved", "warning")])

    def test_our_certificate_is_at_its_end(self):
        issue(self.place, 5)
        relay = self.direct()
        name = self.opened(relay)
        one = self.shown(relay, name)
        # Both listeners show the same file.
        self.assertEqual((one["incident"]["scope"], one["incident"]["reason"], one["incident"]["severity"]),
                         ("itself:certificate of submission", "certificate_expires", "problem"), one)
        self.assertIn("submission, submissions", one["meaning"])
        self.assertEqual(self.fix(one), "pillarbox reload")
        # The scheduled check sees the same, and tells nobody a second time.
        seen = self.json(relay, "schedule", "run", "certificate:listener.submission")
        self.assertEqual(seen["result"]["level"], "problem", seen)
        # It was not renewed: the same incident becomes worse.
        issue(self.place, 1)
        relay.cli("reload")
        self.until("it is critical", relay, lambda: self.shown(relay, name)["incident"]["severity"] == "critical")
        self.until("that is told", relay, lambda: len(self.told.of("certificate")) > 1)
        issue(self.place, 90)
        relay.cli("reload")
        done = self.closed(relay, name)
        self.assertEqual(done["incident"]["closed_how"], "recovered")
        self.json(relay, "schedule", "run", "certificate:listener.submission")
        self.send(relay, 1)
        self.all_arrived(relay)
        self.only(relay, name)
        self.until("its end is told", relay, lambda: len(self.told.of("certificate")) > 2)
        self.assertEqual(self.told.of("certificate"), [("raised", "problem"), ("worse", "critical"), ("resolved", "critical")])
        run("openssl", "verify", "-CAfile", self.place.ca, self.place.cert)


if __name__ == "__main__":
    unittest.main()
