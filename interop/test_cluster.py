"""Three nodes on one PostgreSQL under load: nodes killed, primaries killed and standbys promoted, nodes cut off. Nothing is lost.

FULL=1 gives the long forms (100 kills, 20 promotions, 20 cuts); NODE_KILLS, PROMOTIONS and LINE_CUTS say other numbers. What may be
delivered twice is stated in docs/ARCHITECTURE.md: one transaction per open connection and kill, and the same for each cut.

OLDER=path of an earlier program for the rolling upgrade; without it each node is replaced by the same program.

Two things are looked at less strictly than at first, because of what long runs showed: what was answered 451 may arrive, up to what was
in flight (the answer to its commit was lost with the database), and a lease is stuck only if it is seen so for 5 s on end (a node that
is back leases before its next sign of life). In the story of common limits what a node sends while it is cut off comes twice, since nobody
can write it down before its lease ends.
"""

import collections
import os
import random
import subprocess
import time
import unittest

from cluster import LEASE_S, Node, PacedLoad, Postgres, Sink, Watcher
from common import KEY, Place, need, run
from incident_story import FAKETIME, Told
from network import Namespace, private as setUpModule
from relay import binary

CONNECTIONS = 8
# A message has at most two recipients here, and one transaction for both.
WINDOW = CONNECTIONS * 2


def often(name, short, long):
    return int(os.environ.get(name, long if os.environ.get("FULL") else short))


class Cluster(unittest.TestCase):
    def setUp(self):
        need("setpriv", "openssl")
        self.place = Place("cluster")
        self.addCleanup(self.place.remove)
        self.random = random.Random(int(os.environ.get("SEED", "1")))
        self.began = time.monotonic()

    def say(self, text):
        if os.environ.get("VERBOSE"):
            print(f"  {time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def postgres(self, name="pg", **options):
        server = Postgres(self.place, name, **options)
        self.addCleanup(server.stop)
        return server.start()

    def sink(self, host="127.0.0.1"):
        sink = Sink(host)
        self.addCleanup(sink.stop)
        return sink

    def nodes(self, store, sink, spaces=(None, None, None), settings="", options=("--connections", CONNECTIONS), host="127.0.0.1"):
        nodes = []
        for n, space in enumerate(spaces, 1):
            node = Node(self.place, f"node{n}", store, space, settings)
            self.addCleanup(node.stop)
            nodes.append(node.start())
            if n == 1:
                node.set_up(sink, *options, host=host)
        for node in nodes:
            node.sends_by("out")
        return nodes

    def watcher(self, primary):
        watcher = Watcher(primary)
        self.addCleanup(watcher.stop)
        return watcher

    def loads(self, nodes, **options):
        loads = [PacedLoad(node.port, node.host, **options) for node in nodes]
        self.addCleanup(lambda: [load.stopping.set() for load in loads])
        return loads

    def reckon(self, loads, sink, watcher, pg, may_repeat, patience=LEASE_S + 30, may_be_there=0):
        """Waits until all that was acknowledged has arrived or nothing arrives any more, then compares.

        A commit whose answer is lost with the database is answered 451, since nobody knows: so many of them may be there all the same.
        """
        for load in loads:
            load.stop()
        pairs = lambda book: {(name, to) for name, recipients in book.items() for to in recipients}
        promised = set().union(*(pairs(load.acknowledged) for load in loads))
        refused = set().union(*(pairs(load.refused) for load in loads))
        end, arrived = time.monotonic() + patience, 0
        while (lost := promised - sink.copies.keys()) and time.monotonic() < end:
            if len(sink) != arrived:
                end, arrived = time.monotonic() + patience, len(sink)
            time.sleep(0.5)
        waiting = "?"
        end = time.monotonic() + LEASE_S + 30
        while waiting != "0" and time.monotonic() < end:
            time.sleep(0.5)
            waiting = pg.sql("SET search_path TO pillarbox; SELECT count(*) FROM recipient WHERE state IN (0, 1)")
        watcher.stop()
        duplicates = sum(n - 1 for n in sink.copies.values())
        ghosts = refused & sink.copies.keys()
        unclear = ghosts & set().union(*(pairs(load.broken) for load in loads))
        codes = sum((load.codes for load in loads), collections.Counter())
        unknown = sum(len(load.unknown) for load in loads)
        acknowledged = sum(len(load.acknowledged) for load in loads)
        print(f"\n  {acknowledged} acknowledged, {sum(len(load.refused) for load in loads)} refused {dict(codes)}, {unknown} unknown, "
              f"{len(lost)} lost, {len(ghosts)} refused that arrived ({len(unclear)} of them by 451), {duplicates} duplicates (may be {may_repeat}), {waiting} left in the queue, "
              f"{len(watcher.stuck)} of {watcher.looks} looks found a lease that was stuck "
              f"(leases of dead runs were held {watcher.longest:.1f} s at most)", flush=True)
        self.assertGreater(acknowledged, 100, "too little was accepted to prove anything")
        self.assertEqual(sorted(lost)[:10], [], "acknowledged and lost")
        self.assertEqual(sorted(ghosts - unclear)[:10], [], "refused for good and delivered all the same")
        self.assertLessEqual(len(unclear), may_be_there)
        self.assertEqual(waiting, "0", "nothing may be left in the queue")
        self.assertEqual(watcher.stuck[:10], [], "leases were held longer than their time and 5 s")
        self.assertGreater(watcher.looks, 3)
        self.assertLessEqual(duplicates, may_repeat)

    def test_nodes_are_killed(self):
        pg, sink = self.postgres(), self.sink()
        pg.sql("CREATE DATABASE pillarbox", "postgres")
        nodes = self.nodes(f"postgres://pillarbox@127.0.0.1:{pg.port}/pillarbox?sslmode=disable", sink)
        watcher, loads = self.watcher(lambda: pg), self.loads(nodes)
        kills = often("NODE_KILLS", 6, 100)
        self.goes_on(loads)
        for kill in range(kills):
            time.sleep(self.random.uniform(0.3, 1.5))
            node = self.random.choice(nodes)
            node.kill9()
            # Now and then it stays dead until the others have taken what it held.
            away = LEASE_S + 8 if kill % 25 == 3 else self.random.uniform(0, 1)
            self.say(f"{node.name} killed, {away:.1f} s away; {len(sink)} arrived")
            time.sleep(away)
            node.start()
        time.sleep(2)
        self.reckon(loads, sink, watcher, pg, kills * WINDOW)

    def test_the_primary_is_killed_and_its_standby_promoted(self):
        settings = ["synchronous_standby_names=*", "wal_level=replica", "max_wal_senders=8", "hot_standby=on", "wal_keep_size=256MB"]
        primary = Postgres(self.place, "pg0", settings=[s for s in settings if "names" not in s])
        self.addCleanup(lambda: primary.stop())
        primary.start()
        primary.sql("CREATE DATABASE pillarbox", "postgres")
        standby = Postgres(self.place, "pg1", of=primary, settings=settings)
        self.addCleanup(lambda: standby.stop())
        standby.start()
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", "postgres")
        primary.sql("SELECT pg_reload_conf()", "postgres")
        primary.settings = settings
        self.in_step(primary)
        store = (f"postgres://pillarbox@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/pillarbox?sslmode=disable"
                 "&target_session_attrs=read-write")
        sink = self.sink()
        nodes = self.nodes(store, sink)
        now = [primary]
        watcher, loads = self.watcher(lambda: now[0]), self.loads(nodes)
        promotions = often("PROMOTIONS", 2, 20)
        self.goes_on(loads)
        for _ in range(promotions):
            time.sleep(self.random.uniform(1, 4))
            watcher.quiet_until = float("inf")
            before = len(sink)
            primary.kill9()
            time.sleep(self.random.uniform(0, 1))
            standby.promote()
            now[0] = standby
            primary.copy(standby)
            primary.start()
            primary, standby = standby, primary
            self.in_step(primary)
            watcher.quiet_until = time.monotonic() + 10
            self.say(f"{primary.name} promoted; {before} arrived before, {len(sink)} now")
            self.goes_on(loads)
        time.sleep(2)
        self.reckon(loads, sink, watcher, primary, promotions * WINDOW * len(nodes),
                    may_be_there=promotions * self.in_flight(loads))

    def in_flight(self, loads):
        """Recipients that may be on their way in at one moment."""
        return sum(2 * len(load.threads) for load in loads)

    def goes_on(self, loads, more=60):
        """Mail is accepted, by all together."""
        accepted = lambda: sum(len(load.acknowledged) for load in loads)
        began, end = accepted(), time.monotonic() + 90
        while accepted() < began + more:
            self.assertLess(time.monotonic(), end, "no mail is accepted")
            time.sleep(0.1)

    def in_step(self, primary):
        end = time.monotonic() + 60
        while primary.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", "postgres") == "0":
            self.assertLess(time.monotonic(), end, "the standby does not follow")
            time.sleep(0.1)

    def test_nodes_are_upgraded_one_after_the_other(self):
        pg, sink = self.postgres(), self.sink()
        pg.sql("CREATE DATABASE pillarbox", "postgres")
        older = os.environ.get("OLDER", binary())
        nodes = [Node(self.place, f"node{n}", f"postgres://pillarbox@127.0.0.1:{pg.port}/pillarbox?sslmode=disable") for n in (1, 2, 3)]
        for node in nodes:
            node.program = older
            self.addCleanup(node.stop)
            node.start()
        nodes[0].set_up(sink, "--connections", CONNECTIONS)
        for node in nodes:
            node.sends_by("out")
        before = self.steps(pg)
        watcher, loads = self.watcher(lambda: pg), self.loads(nodes)
        self.goes_on(loads)
        for turn, node in enumerate(nodes):
            node.stop()
            node.program = binary()
            node.start()
            self.say(f"{node.name} is replaced; {len(sink)} arrived")
            self.goes_on(loads)
            self.assertEqual([("node1", "working"), ("node2", "working"), ("node3", "working")], self.listed(node))
            if turn == 0:
                # What an earlier program finds in a schema that a later one has added to does not keep it from starting again.
                nodes[1].kill9()
                nodes[1].start()
                added = self.steps(pg) - before
                told = (nodes[1].dir / "out.log").read_text(errors="replace")
                self.assertEqual([], [step for step in added if step not in told], told[-2000:])
                self.say(f"{sorted(added)} are new to it, and it started all the same")
                self.goes_on(loads)
        # A drained node is empty before it is stopped, and others take what its clients have.
        self.assertIn("drained", nodes[2].cli("node", "drain", "--wait", "60"))
        held = pg.sql("SELECT count(*) FROM pillarbox.recipient WHERE state = 1 AND lease = (SELECT run FROM pillarbox.member WHERE name = 'node3')")
        self.assertEqual("0", held)
        self.goes_on(loads[:2])
        nodes[2].stop()
        nodes[2].start(banner=False)  # it greets with 421 still
        end = time.monotonic() + 30
        while ("node3", "drained") not in self.listed(nodes[0]):
            self.assertLess(time.monotonic(), end, "it does not come back")
            time.sleep(0.2)
        nodes[0].cli("node", "undrain", "node3")
        self.goes_on(loads[2:])
        # One was killed once.
        self.reckon(loads, sink, watcher, pg, WINDOW)

    def listed(self, node):
        """Names and states of all nodes, as one shows them; one leads."""
        end = time.monotonic() + LEASE_S
        seen = node.json("node", "ls")["items"]
        while sum(one["leads"] for one in seen) != 1:
            self.assertLess(time.monotonic(), end, seen)  # one that was killed has the lead for 10 s yet
            time.sleep(0.2)
            seen = node.json("node", "ls")["items"]
        return [(one["name"], one["state"]) for one in seen]

    def steps(self, pg):
        return set(pg.sql("SELECT name FROM pillarbox.migration").split())

    def spaces(self, count):
        """The address of a database, and network namespaces that can be cut off from it."""
        database, spaces = "10.98.0.1", []
        run("ip", "addr", "replace", f"{database}/32", "dev", "lo")
        for _ in range(count):
            spaces.append(Namespace())
            self.addCleanup(spaces[-1].remove)
        return database, spaces

    def test_nodes_are_cut_off(self):
        database, spaces = self.spaces(3)
        pg, sink = self.postgres(addresses=f"127.0.0.1,{database}"), self.sink("0.0.0.0")
        pg.sql("CREATE DATABASE pillarbox", "postgres")
        nodes = self.nodes(f"postgres://pillarbox@{database}:{pg.port}/pillarbox?sslmode=disable", sink, spaces, host="10.99.1.1")
        watcher, loads = self.watcher(lambda: pg), self.loads(nodes, timeout=40)
        cuts = often("LINE_CUTS", 2, 20)
        self.goes_on(loads)
        for cut in range(cuts):
            time.sleep(self.random.uniform(1, 3))
            node = self.random.choice(nodes)
            # From the database alone it can still deliver; cut off from all it cannot.
            alone = cut % 2 == 0
            node.space.cut_off(database if alone else None)
            away = LEASE_S + 8 if cut % 4 < 2 else self.random.uniform(3, 20)
            self.say(f"{node.name} cut off from {'the database' if alone else 'all'} for {away:.1f} s; {len(sink)} arrived")
            time.sleep(away)
            node.space.join(database if alone else None)
        time.sleep(2)
        self.reckon(loads, sink, watcher, pg, cuts * WINDOW, LEASE_S + 60, cuts * self.in_flight(loads[:1]))

    def test_together_they_never_exceed_a_limit(self):
        database, (space,) = self.spaces(1)
        pg, sink = self.postgres(addresses=f"127.0.0.1,{database}"), self.sink("0.0.0.0")
        pg.sql("CREATE DATABASE pillarbox", "postgres")
        per_second, per_minute, connections, seconds = 15, 500, 4, often("LIMIT_SECONDS", 80, 300)
        nodes = self.nodes(f"postgres://pillarbox@{database}:{pg.port}/pillarbox?sslmode=disable", sink, (None, None, space), host=space.outside,
                           options=("--connections", connections, "--per-second", per_second, "--per-minute", per_minute, "--reserve", "0"))
        watcher, loads = self.watcher(lambda: pg), self.loads(nodes, pause=0.1, timeout=40)
        self.goes_on(loads)
        began, before = time.monotonic(), len(sink)
        for quarter in range(4):
            time.sleep(seconds / 4)
            if quarter == 0:
                # For longer than its lease. It has mail, and reaches the next hop.
                space.cut_off(database)
                known = sink.arrived.copy()
            if quarter == 2:
                # What it sent, it could not write down, and others send it again. Nothing else of what it had comes from it now.
                alone = sink.arrived["node3.test"] - known["node3.test"]
                space.join(database)
            node = self.random.choice(nodes[:2])
            node.kill9()
            node.start()
            self.say(f"quarter {quarter + 1}; {len(sink)} arrived, opened by {dict(sink.names)}")
        took, sent = time.monotonic() - began, len(sink) - before
        rate, names, most = sent / took, dict(sink.names), sink.most
        print(f"\n  {sent} in {took:.0f} s ({rate:.2f} a second), most in a second {sink.most_in(1)} of {per_second}, in a minute "
              f"{sink.most_in(60)} of {per_minute}, most connections {most} of {connections}, opened by {names}", flush=True)
        nodes[0].cli("route", "set", "out", "--clear", "rates")
        time.sleep(4)  # all nodes have heard of it, and new mail brings it to what waits with it
        self.reckon(loads, sink, watcher, pg, 5 * WINDOW + alone, may_be_there=self.in_flight(loads[2:]))
        # Also while all connections were made anew for the changed route.
        print(f"  most connections in all: {sink.most} of {connections}", flush=True)
        self.assertLessEqual(sink.most, connections)
        self.assertEqual(len(names), len(nodes), "every node had its turn")
        self.assertGreater(rate, 0.6 * min(per_second, per_minute / 60), "what may be sent is sent")
        limited = [at for at in sink.times if at <= began + took]
        sink.times[:] = limited
        self.assertLessEqual(sink.most_in(1), per_second)
        self.assertLessEqual(sink.most_in(60), per_minute)

    def test_what_is_wrong_with_one_node_is_told_once_whoever_leads(self):
        pg, sink, told = self.postgres(), self.sink(), Told()
        self.addCleanup(told.stop)
        pg.sql("CREATE DATABASE pillarbox", "postgres")
        nodes = [Node(self.place, f"node{n}", f"postgres://pillarbox@127.0.0.1:{pg.port}/pillarbox?sslmode=disable") for n in (1, 2)]
        leading, other = nodes
        offset = self.place.path / "clock"
        offset.write_text("+0\n")
        self.assertTrue(FAKETIME.exists(), "libfaketime is missing; run interop/install as root")
        other.env.update(LD_PRELOAD=str(FAKETIME), FAKETIME_TIMESTAMP_FILE=str(offset), FAKETIME_NO_CACHE="1",
                         FAKETIME_DONT_FAKE_MONOTONIC="1", NO_FAKE_STAT="1")
        for node in nodes:
            self.addCleanup(node.stop)
            node.start()
        leading.set_up(sink)
        leading.cli("alert", "channel", "add", "ops", "webhook", "--url", told.url, "--network", "127.0.0.0/8", "--allow-http", "--group", "0")
        self.assertEqual(["node1"], [one["name"] for one in leading.json("node", "ls")["items"] if one["leads"]])
        incidents = lambda node: node.json("incident", "list", "--all")["items"]

        def until(what, look, patience=60):
            end = time.monotonic() + patience
            while not (found := look()):
                self.assertLess(time.monotonic(), end, f"{what}\n{leading.server.output()}\n{other.server.output()}")
                time.sleep(0.5)
            return found

        time.sleep(1)  # it has seen the clock as it was
        offset.write_text("+7200\n")
        name = until("an incident of the other node", lambda: incidents(leading))[0]["id"]
        one = leading.json("incident", "show", name)
        self.assertEqual(("itself:clock", "clock_jumped"), (one["incident"]["scope"], one["incident"]["reason"]), one)
        self.assertIn("Node node2: It went forward by 7", one["meaning"])
        until("it is told", lambda: told.of("clock"))
        # Whoever dies before it has written that down leaves it to be told again.
        noted = "SELECT count(*) FROM pillarbox.record WHERE kind = 'alert' AND body::json #>> '{told,ops,raised_ms}' IS NOT NULL AND body LIKE '%clock%'"
        until("that it was told is written down", lambda: pg.sql(noted) != "0")
        # The next one to lead goes on with it.
        leading.kill9()
        until("the other node leads", lambda: "this node leads: it does" in other.server.log.read_text(), LEASE_S + 30)
        time.sleep(8)
        self.assertEqual([(name, "open")], [(one["id"], one["state"]) for one in incidents(other)])
        offset.write_text("+0\n")
        until("it closes itself", lambda: [one["state"] for one in incidents(other)] == ["closed"])
        until("its end is told", lambda: len(told.of("clock")) > 1)
        self.assertEqual([("raised", "warning"), ("resolved", "warning")], told.of("clock"))

    def test_tls_to_the_server_is_verified_in_full(self):
        path = self.place.path
        run("openssl", "req", "-x509", "-newkey", *KEY, "-nodes", "-days", "30", "-subj", "/CN=Another authority",
            "-keyout", path / "other.key", "-out", path / "other-ca.pem")

        def certificate(name, host, authority, authority_key):
            (path / "san2").write_text(f"subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\n")
            run("openssl", "req", "-newkey", *KEY, "-nodes", "-subj", f"/CN={host}", "-keyout", path / f"{name}.key", "-out", path / "csr2")
            run("openssl", "x509", "-req", "-in", path / "csr2", "-CA", authority, "-CAkey", authority_key, "-CAcreateserial",
                "-days", "30", "-extfile", path / "san2", "-out", path / f"{name}.pem")
            run("chown", "postgres:postgres", path / f"{name}.key")
            (path / f"{name}.key").chmod(0o600)

        certificate("right", "localhost", self.place.ca, path / "ca.key")
        certificate("wrong-name", "db.other.test", self.place.ca, path / "ca.key")
        certificate("unknown", "localhost", path / "other-ca.pem", path / "other.key")
        for name, words in (("right", None), ("wrong-name", "name"), ("unknown", "issuer")):
            pg = self.postgres(f"pg-{name}", settings=["ssl=on", f"ssl_cert_file={path / f'{name}.pem'}",
                                                        f"ssl_key_file={path / f'{name}.key'}"])
            (pg.data / "pg_hba.conf").write_text("local all all trust\nhostssl all all 0.0.0.0/0 trust\nhostssl all all ::1/128 trust\n")
            pg.sql("SELECT pg_reload_conf()", "postgres")
            pg.sql("CREATE DATABASE pillarbox", "postgres")
            url = f"postgres://pillarbox@localhost:{pg.port}/pillarbox?sslrootcert={self.place.ca}"
            node = Node(self.place, f"node-{name}", url + "&sslmode=verify-full")
            self.addCleanup(node.stop)
            if words is None:
                node.start()
                used = pg.sql("SELECT count(*), min(version) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl")
                self.assertRegex(used, r"^[1-9]\d*\|TLSv1\.3$")
                refused = {**node.env, "PILLARBOX_STORE": url + "&sslmode=disable"}
                node.stop()
            else:
                refused = node.env
            done = subprocess.run([binary(), "serve", "--config", node.config], env=refused, capture_output=True, text=True, timeout=60)
            said = done.stdout + done.stderr
            self.assertEqual(done.returncode, 3, said)
            self.assertIn(words or "pg_hba.conf", said.lower() if words else said)
            self.say(said.strip()[-300:])
            self.assertEqual(pg.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'pillarbox'"), "1" if words is None else "0")


if __name__ == "__main__":
    unittest.main(verbosity=2)
