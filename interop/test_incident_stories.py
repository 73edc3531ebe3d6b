"""Incidents from the first failure to the last delivery, with a real Postfix, a real name server's packets and a real full disk.

Each story: something breaks under load, exactly one incident tells of it with the right fix first, it is repaired, the incident closes
by itself and says what fixed it, all mail arrives, and none of it twice."""

import os
import smtplib
import subprocess
import unittest

from common import need, run
from dns_zones import Zones
from incident_story import Story
from peers import Hop, Postfix
from relay import binary


class Strict(Postfix):
    """A Postfix that refuses what the tables say: clients and senders."""

    def settings(self):
        etc = self.dir / "etc"
        return super().settings() | dict(
            smtpd_sender_restrictions=f"check_sender_access texthash:{etc}/senders",
            smtpd_client_restrictions=f"check_client_access texthash:{etc}/clients",
            smtpd_reject_unlisted_recipient="no", smtpd_error_sleep_time="0", smtpd_hard_error_limit="1000")

    def configure(self):
        super().configure()
        for name in ("senders", "clients"):
            (self.dir / "etc" / name).write_text("")

    def table(self, name, text):
        (self.dir / "etc" / name).write_text(text)
        self.renew()

    def listen(self, address):
        """The same server at one more address."""
        with open(self.dir / "etc" / "master.cf", "a") as services:
            services.write(f"{address}:{self.port} inet n - n - - smtpd\n")
        run("/usr/sbin/postfix", "-c", self.dir / "etc", "reload")


class Stories(Story):
    def setUp(self):
        need("/usr/sbin/postfix")
        super().setUp()

    def relay(self, *route, **more):
        relay = super().relay(*route, **more)
        self.listen(relay)
        return relay

    def peer(self):
        peer = Strict(self.place, Hop(self.catch.port))
        self.addCleanup(peer.stop)
        return peer

    def test_a_sender_that_the_provider_has_not_verified(self):
        peer = self.peer()
        relay = self.relay("--smarthost", f"localhost:{peer.port}", "--tls", "none")
        peer.table("senders", "shop.test 550 5.7.1 The shop.test domain is not verified. Please, add and verify your domain\n")
        self.send(relay, 8)
        name = self.opened(relay)
        one = self.shown(relay, name)
        self.assertEqual(one["incident"]["reason"], "sender_unverified", one)
        self.first_fix(one, "verif")
        self.send(relay, 4)
        self.only(relay, name)
        self.one_alert(relay, name)
        peer.table("senders", "")
        self.probe(relay, name)
        done = self.closed(relay, name)
        self.assertIn(done["incident"]["closed_how"], ("probe", "delivered"))
        self.all_arrived(relay)
        self.only(relay, name)

    def test_our_address_is_listed(self):
        peer = self.peer()
        relay = self.relay("--smarthost", f"localhost:{peer.port}", "--tls", "none")
        reply = ("554 5.7.1 Service unavailable; Client host [127.0.0.1] blocked using zen.spamhaus.org; "
                 "https://www.spamhaus.org/query/ip/127.0.0.1")
        peer.table("clients", f"127.0.0.1 {reply}\n")
        self.send(relay, 8)
        name = self.opened(relay)
        one = self.shown(relay, name)
        self.assertEqual(one["incident"]["reason"], "ip_blocklisted", one)
        self.first_fix(one, "find the cause")
        self.assertIn("zen.spamhaus.org", one["failure"])
        self.only(relay, name)
        self.one_alert(relay, name)
        peer.table("clients", "")
        self.closed(relay, name)
        self.all_arrived(relay)
        self.only(relay, name)

    def mx(self, peer_port, zone):
        zones = Zones(zone)
        relay = self.relay("--mx", "--allow-private", "--port", peer_port, "--tls", "none",
                           more=f'[dns]\nservers = ["127.0.0.1:{zones.port}"]\ntimeout = "2s"\n')
        return zones, relay

    def test_a_recipients_domain_is_down(self):
        peer = self.peer()
        zone = {"up.test": [{"MX": [10, "mx.up.test"]}], "mx.up.test": [{"A": "127.0.0.1"}],
                "down.test": [{"MX": [10, "mx.down.test"]}], "mx.down.test": [{"A": "127.0.0.77"}]}
        zones, relay = self.mx(peer.port, zone)
        self.addCleanup(zones.close)
        for _ in range(4):
            self.send(relay, 2, to="down.test")
            self.send(relay, 1, to="up.test")
        name = self.opened(relay)
        one = self.shown(relay, name)
        self.assertEqual(one["incident"]["reason"], "connection_refused", one)
        self.assertIn("down.test", one["incident"]["scope"])
        self.first_fix(one, "listen", "port", "service")
        self.send(relay, 3, to="up.test")
        self.only(relay, name)
        self.one_alert(relay, name)
        peer.listen("127.0.0.77")
        self.closed(relay, name)
        self.all_arrived(relay)
        self.only(relay, name)

    def test_our_name_servers_are_broken(self):
        peer = self.peer()
        zone = {f"{n}.test": [{"MX": [10, f"mx.{n}.test"]}] for n in ("one", "two", "three")}
        zone |= {f"mx.{n}.test": [{"A": "127.0.0.1"}] for n in ("one", "two", "three")}
        zones, relay = self.mx(peer.port, zone)
        port = zones.port
        zones.close()
        for to in ("one.test", "two.test", "three.test"):
            self.send(relay, 4, to=to)
        name = self.opened(relay)
        one = self.shown(relay, name)
        self.assertEqual(one["incident"]["reason"], "dns_failure", one)
        self.first_fix(one, "dns", "name server", "resolver")
        self.only(relay, name)
        self.one_alert(relay, name)
        zones = Zones(zone, port)
        self.addCleanup(zones.close)
        self.closed(relay, name)
        self.all_arrived(relay)
        self.only(relay, name)

    def test_the_disk_is_full(self):
        need("mount", "umount", "mkfs.ext4")
        image = self.place.path / "disk.img"
        run("truncate", "-s", "700M", image)
        run("mkfs.ext4", "-q", image)
        mounted = self.place.path / "disk"
        mounted.mkdir()
        run("mount", "-o", "loop", image, mounted)
        self.addCleanup(lambda: run("umount", "-l", mounted))
        peer = self.peer()
        relay = self.relay("--smarthost", f"localhost:{peer.port}", "--tls", "none", data=mounted / "data")
        self.send(relay, 2)
        filler = mounted / "filler"
        free = os.statvfs(mounted)
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - (100 << 20))
        name = self.opened(relay)
        one = self.shown(relay, name)
        self.assertEqual((one["incident"]["scope"], one["incident"]["reason"]), ("itself:store", "store_full"), one)
        self.assertIn("df -h", one["fixes"][0]["run"])
        with self.assertRaises(smtplib.SMTPException) as refused:
            self.send(relay, 1)
        self.assertIn("452", str(refused.exception))
        self.assertIn(name, run_any(relay, "status"))
        self.only(relay, name)
        self.one_alert(relay, name)
        filler.unlink()
        done = self.closed(relay, name)
        self.assertEqual(done["incident"]["closed_how"], "recovered")
        self.send(relay, 3)
        self.all_arrived(relay)
        self.only(relay, name)


def run_any(relay, *arguments):
    done = subprocess.run([str(binary()), *arguments, "--config", str(relay.config)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=60)
    return done.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    unittest.main()
