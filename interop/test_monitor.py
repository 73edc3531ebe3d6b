"""Scheduled checks and jobs against real servers: a Postfix whose certificate ends soon, a closed port, a password that changed."""

import json
import subprocess
import time
import unittest

from common import KEY, Place, free_port, need, run
from dns_zones import Zones
from peers import Hop, Postfix
from relay import PASSWORD, SENDER, Pillarbox, binary


def issue(place, days):
    """Another certificate of the same authority, where the first one was."""
    p = place.path
    run("openssl", "req", "-newkey", *KEY, "-nodes", "-subj", "/CN=localhost", "-keyout", place.key, "-out", p / "csr")
    run("openssl", "x509", "-req", "-in", p / "csr", "-CA", place.ca, "-CAkey", p / "ca.key", "-CAcreateserial", "-days", days,
        "-extfile", p / "san", "-out", place.cert)
    place.key.chmod(0o600)


class Monitor(unittest.TestCase):
    def setUp(self):
        need("openssl", "postfix")
        self.place = Place("monitor")
        self.addCleanup(self.place.remove)

    def relay(self, *route, place=None, more=""):
        relay = Pillarbox(place or self.place, *route, more=more)
        self.addCleanup(relay.stop)
        return relay

    def postfix(self):
        peer = Postfix(self.place, Hop(free_port()))
        self.addCleanup(peer.stop)
        return peer

    def ask(self, relay, *arguments, expected=(0, 1)):
        """JSON of a command, with its exit code."""
        done = subprocess.run([str(binary()), *map(str, arguments), "--json", "--config", str(relay.config)],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=150)
        self.assertIn(done.returncode, expected, done.stderr.decode() + relay.log())
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr.decode()

    def until(self, relay, name, level, patience=60):
        end = time.monotonic() + patience
        while True:
            _, shown = self.ask(relay, "schedule", "show", name, expected=(0, 1))
            if isinstance(shown, dict) and shown["result"] and shown["result"]["level"] == level:
                return shown
            if time.monotonic() > end:
                self.fail(f"{name} is not {level}: {shown}\n{relay.log()}")
            time.sleep(0.2)

    def test_a_certificate_near_its_end_is_told_and_its_renewal_ends_that(self):
        issue(self.place, 5)
        postfix = self.postfix()
        relay = self.relay("--smarthost", f"localhost:{postfix.port}", "--ca-file", self.place.ca)
        self.until(relay, "certificate:route.out", "problem", patience=150)
        code, seen = self.ask(relay, "schedule", "run", "certificate:route.out")
        self.assertEqual((1, "problem", True), (code, seen["result"]["level"], seen["alert"]), seen)
        self.assertIn("valid for 4 days", seen["result"]["summary"])
        self.assertEqual({"stage": 7}, seen["result"]["facts"])
        _, own = self.ask(relay, "schedule", "run", "certificate:listener.submission")
        self.assertEqual(("problem", True), (own["result"]["level"], own["alert"]), own)

        issue(self.place, 90)
        postfix.renew()
        relay.cli("reload")
        end = time.monotonic() + 60
        while True:
            code, seen = self.ask(relay, "schedule", "run", "certificate:route.out")
            if code == 0 or time.monotonic() > end:
                break
        self.assertEqual((0, "ok", False), (code, seen["result"]["level"], seen["alert"]), seen)
        code, own = self.ask(relay, "schedule", "run", "certificate:listener.submission")
        self.assertEqual((0, "ok", False), (code, own["result"]["level"], own["alert"]), own)
        _, history = self.ask(relay, "schedule", "history", "certificate:route.out")
        self.assertEqual(["ok", "problem"], [one["level"] for one in history["items"]], history)
        self.assertEqual("problem", history["items"][0]["before"])
        self.assertGreaterEqual(history["items"][1]["runs"], 2)

        # A restart forgets neither results nor runs.
        _, before = self.ask(relay, "jobs", "show", "certificate:route.out")
        relay.server.stop(30)
        relay.start()
        end = time.monotonic() + 30
        while True:
            code, after = self.ask(relay, "schedule", "show", "certificate:route.out", expected=(0, 1))
            if isinstance(after, dict) or time.monotonic() > end:
                break
        self.assertEqual(seen["result"], after["result"])
        _, job = self.ask(relay, "jobs", "show", "certificate:route.out")
        self.assertEqual((before["runs"], before["last"]), (job["runs"], job["last"]))

    def test_a_closed_port_is_looked_at_twice_before_it_is_told(self):
        postfix = self.postfix()
        relay = self.relay("--smarthost", f"localhost:{postfix.port}", "--ca-file", self.place.ca)
        self.ask(relay, "jobs", "pause", "port:out", "--why", "test", expected=(0, 3, 1))
        end = time.monotonic() + 30
        while time.monotonic() < end and self.ask(relay, "jobs", "pause", "port:out", "--why", "the test asks")[0] != 0:
            time.sleep(0.2)
        code, seen = self.ask(relay, "schedule", "run", "port:out")
        self.assertEqual((0, "ok"), (code, seen["result"]["level"]), seen)
        postfix.stop()
        code, seen = self.ask(relay, "schedule", "run", "port:out")
        self.assertEqual((1, False), (code, seen["alert"]), seen)
        code, seen = self.ask(relay, "schedule", "run", "port:out")
        self.assertEqual((1, True), (code, seen["alert"]), seen)
        self.assertTrue(seen["result"]["advice"], seen)
        self.assertEqual("paused", seen["state"])
        _, job = self.ask(relay, "jobs", "resume", "port:out")
        self.assertEqual("waiting", job["state"])

    def test_a_changed_password_is_tried_at_once_and_the_right_one_ends_the_alert(self):
        other = Place("monitor-next")
        self.addCleanup(other.remove)
        server = self.relay("--capture", place=other)
        secret = self.place.path / "password"
        secret.write_text(PASSWORD)
        relay = self.relay("--smarthost", f"localhost:{server.port}", "--ca-file", other.ca, "--username", SENDER,
                           "--password-from", f"file:{secret}")
        first = self.until(relay, "sign-in:out", "ok", patience=150)
        self.assertIn("signed in at", first["result"]["summary"])

        secret.write_text("not the password")
        relay.cli("route", "set", "out", "--password-from", f"file:{secret}", "--force")
        seen = self.until(relay, "sign-in:out", "problem")
        self.assertTrue(seen["alert"], seen)
        self.assertTrue(seen["result"]["advice"], seen)
        self.assertNotIn("not the password", json.dumps(seen))

        secret.write_text(PASSWORD)
        relay.cli("route", "set", "out", "--password-from", f"file:{secret}")
        seen = self.until(relay, "sign-in:out", "ok")
        self.assertFalse(seen["alert"], seen)

    def test_a_check_of_ones_own_is_kept_run_and_removed(self):
        postfix = self.postfix()
        relay = self.relay("--smarthost", f"localhost:{postfix.port}", "--ca-file", self.place.ca)
        target = f"127.0.0.1:{postfix.port}"
        code, error = self.ask(relay, "schedule", "add", "mine", "--host", target, "--at", "99 * * * *")
        self.assertEqual(1, code, error)
        code, error = self.ask(relay, "schedule", "add", "mine", "--at", "@daily", expected=(2,))
        _, shown = self.ask(relay, "schedule", "add", "mine", "--host", target, "--at", "0 3 * * *", "--time-zone", "Europe/Berlin",
                            "--tls", "none", "--from", "probe@relay.test", "--to", "ann@example.net")
        self.assertEqual(("own:mine", "waiting", None), (shown["name"], shown["state"], shown["result"]), shown)
        self.assertIn("Europe/Berlin", shown["schedule"])
        code, seen = self.ask(relay, "schedule", "run", "mine")
        self.assertEqual((0, "ok"), (code, seen["result"]["level"]), seen)
        _, seen = self.ask(relay, "schedule", "set", "mine", "--disabled")
        self.assertEqual("ended", seen["state"], seen)
        _, seen = self.ask(relay, "schedule", "set", "mine", "--disabled=false", "--at", "every 2h")
        self.assertEqual("every 2h", seen["schedule"], seen)
        self.assertEqual(0, self.ask(relay, "schedule", "rm", "mine")[0])
        self.assertEqual(1, self.ask(relay, "schedule", "show", "mine", expected=(1,))[0])
        _, history = self.ask(relay, "schedule", "history", "own:mine")
        self.assertEqual(1, len(history["items"]), "results outlive the check")

    def test_jobs_are_shown_and_what_is_ours_can_be_restarted(self):
        relay = self.relay("--capture")
        end = time.monotonic() + 60
        while True:
            _, jobs = self.ask(relay, "jobs", "ls")
            by_name = {job["name"]: job for job in jobs["items"]}
            if by_name.get("retention", {}).get("runs") and "check-results" in by_name:
                break
            self.assertLess(time.monotonic(), end, jobs)
            time.sleep(0.3)
        for name in ("claims", "ticks", "settings", "retention", "expiry"):
            can = ["run", "pause", "resume", "restart"] if name in ("claims", "retention") else ["run", "restart"]
            self.assertEqual(("running", can), (by_name[name]["state"], by_name[name]["can"]), by_name[name])
        self.assertEqual(1, self.ask(relay, "jobs", "pause", "settings")[0])
        before = by_name["webhooks"]["runs"]
        relay.cli("jobs", "restart", "webhooks")
        end = time.monotonic() + 30
        while self.ask(relay, "jobs", "show", "webhooks")[1]["runs"] == before:
            self.assertLess(time.monotonic(), end)
        code, done = self.ask(relay, "jobs", "run", "check-results")
        self.assertEqual((0, by_name["check-results"]["runs"] + 1, "ok"), (code, done["runs"], done["last"]["level"]), done)
        relay.cli("jobs", "pause", "check-results", "--why", "why not")
        self.assertEqual("paused", self.ask(relay, "jobs", "show", "check-results")[1]["state"])
        relay.server.stop(30)
        relay.start()
        end = time.monotonic() + 30
        while True:
            _, job = self.ask(relay, "jobs", "show", "check-results")
            if isinstance(job, dict) and job["state"] == "paused":
                break
            self.assertLess(time.monotonic(), end, job)
        self.assertEqual("why not", job["paused"]["why"])

    def test_weak_settings_are_named(self):
        relay = self.relay("--capture")
        code, audit = self.ask(relay, "config", "audit")
        weak = {(one["about"], one["id"]) for one in audit["items"]}
        self.assertEqual(0, code, audit)
        self.assertIn((f"sender {SENDER}", "sender_any_from"), weak)
        self.place.key.chmod(0o644)
        code, audit = self.ask(relay, "config", "audit")
        self.assertEqual((1, False), (code, audit["healthy"]), audit)
        self.assertEqual("secret_readable", audit["items"][0]["id"])
        # Also while no server runs.
        relay.server.stop(30)
        self.assertEqual(1, self.ask(relay, "config", "audit")[0])

    def test_a_newer_version_is_told_where_a_source_is_named(self):
        zones = Zones({"new.version.test": [{"TXT": "v=99.0.1"}], "old.version.test": [{"TXT": "0.0.1"}]})
        self.addCleanup(zones.close)
        config = self.place.path / "pillarbox.toml"
        config.write_text(f'[dns]\nservers = ["127.0.0.1:{zones.port}"]\n[checks]\nversion_from = "dns:new.version.test"\n')

        def version(*more):
            done = subprocess.run([str(binary()), "version", "--json", "--config", str(config), *more], stdout=subprocess.PIPE, timeout=60)
            return done.returncode, json.loads(done.stdout) if done.stdout else None

        code, said = version("--check")
        self.assertEqual((1, "99.0.1", True), (code, said["newest"], said["newer"]), said)
        code, said = version("--check", "--from", "dns:old.version.test")
        self.assertEqual((0, "0.0.1", False), (code, said["newest"], said["newer"]), said)
        self.assertEqual(3, version("--check", "--from", "dns:none.version.test")[0])
        self.assertEqual(0, version()[0])


if __name__ == "__main__":
    unittest.main()
