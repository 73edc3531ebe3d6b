"""What is in deploy/: units, manifests and configurations are valid, and the database that compose.yaml makes really fails over."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

from common import CACHE, REPOSITORY, Process, free_port, need, run, wait_banner
from relay import binary

DEPLOY = REPOSITORY / "deploy"
PYTHON = dict(os.environ, PYTHONPATH=str(CACHE / "python"))
POSTGRES = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
SECRETS = dict(DATABASE_PASSWORD="it's secret", REPLICATION_PASSWORD="copied", PILLARBOX_KEY="A" * 43 + "=")


class Files(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="pillarbox-deploy-"))
        self.addCleanup(shutil.rmtree, self.dir)

    def test_the_unit_is_valid_and_hardened(self):
        need("systemd-analyze")
        unit = DEPLOY / "systemd" / "pillarbox.service"
        here = self.dir / unit.name
        here.write_text(unit.read_text().replace("/usr/bin/pillarbox", str(binary())))
        self.assertEqual(run("systemd-analyze", "verify", "--man=no", here), "")
        # 2.0 of 10: what a mail server keeps is the network and one low port
        run("systemd-analyze", "security", "--offline=true", "--threshold=20", here)

    def test_the_manifest_is_what_kubernetes_knows(self):
        manifest = DEPLOY / "kubernetes" / "pillarbox.yaml"
        run(sys.executable, "-m", "kubernetes_validate", "--strict", "--version", "1.33", manifest, env=PYTHON)

    def test_the_compose_file_holds_together(self):
        path = DEPLOY / "compose" / "compose.yaml"
        sys.path.append(str(CACHE / "python"))
        import yaml
        whole = yaml.safe_load(path.read_text())
        services = whole["services"]
        self.assertEqual(set(services), {"node1", "node2", "node3", "db1", "db2"})
        for name, service in services.items():
            self.assertLessEqual(set(service["depends_on"]) if "depends_on" in service else set(), set(services), name)
            self.assertLessEqual(set(service["networks"]), set(whole["networks"]), name)
            for mount in service["volumes"]:
                source = mount.split(":")[0]
                self.assertTrue((path.parent / source).is_file() if source.startswith(".") else source in whole["volumes"], mount)
            if "build" in service:
                self.assertTrue((path.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file())
        nodes = [services[f"node{n}"] for n in (1, 2, 3)]
        self.assertEqual(len({node["environment"]["PILLARBOX_NODE"] for node in nodes}), 3)
        self.assertEqual(len({node["environment"]["PILLARBOX_STORE"] for node in nodes}), 1)
        self.assertEqual(len({port for node in nodes for port in node["ports"]}), 6)
        # what has to be given is what the top of the file says how to make
        self.assertEqual(set(re.findall(r"\$\{([A-Z_]+)", path.read_text())), set(SECRETS))

    def test_every_configuration_is_valid_and_every_variable_is_known(self):
        found = [DEPLOY / "container" / "pillarbox.toml", DEPLOY / "debian" / "pillarbox.toml", self.dir / "kubernetes.toml"]
        manifest = (DEPLOY / "kubernetes" / "pillarbox.yaml").read_text()
        inside = re.search(r"pillarbox\.toml: \|\n((?:    .*\n|\n)+)", manifest)[1]
        found[2].write_text(re.sub(r"(?m)^    ", "", inside))
        for path in found:
            run(binary(), "config", "check", "--config", path)
        known = run(binary(), "config", "reference") + "PILLARBOX_KEY"
        for path in DEPLOY.rglob("*"):
            for name in set(re.findall(r"PILLARBOX_[A-Z_]+[A-Z]", path.read_text())) if path.is_file() else ():
                self.assertIn(name, known, path)


class Database(unittest.TestCase):
    """The two servers of compose.yaml by their own scripts, and two nodes with the connection string of that file."""

    def setUp(self):
        need("setpriv")
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="pillarbox-deploy-"))
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.dir.chmod(0o755)
        self.ports = [free_port(), free_port()]

    def database(self, name, port, *arguments):
        place = self.dir / name
        place.mkdir()
        shutil.chown(place, "postgres", "postgres")
        script = shutil.copy(DEPLOY / "compose" / arguments[0], self.dir)
        environment = dict(os.environ, **SECRETS, PGDATA=str(place / "main"), PATH=f"{POSTGRES}:{os.environ['PATH']}", LC_ALL="C.UTF-8")
        server = Process(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", "bash", script, *arguments[1:],
                          "-c", f"port={port}", "-c", f"unix_socket_directories={place}"],
                         self.dir / f"{name}.log", env=environment, cwd=place)
        self.addCleanup(server.stop)
        self.until("the database is there", lambda: self.sql(port, "SELECT 1"), server, patience=180)
        return server

    def sql(self, port, query):
        done = subprocess.run([POSTGRES / "psql", "-XAtq", f"host=127.0.0.1 port={port} user=pillarbox dbname=pillarbox", "-c", query],
                              env=dict(os.environ, PGPASSWORD=SECRETS["DATABASE_PASSWORD"]), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.stdout.decode().strip()

    def until(self, what, question, *servers, patience=60):
        end = time.monotonic() + patience
        while True:
            answer = question()
            if answer:
                return answer
            if time.monotonic() > end:
                self.fail(f"{what}: not within {patience} s\n" + "\n".join(server.output() for server in servers))
            time.sleep(0.2)

    def node(self, name):
        port, http, place = free_port(), free_port(), self.dir / name
        place.mkdir()
        config = place / "pillarbox.toml"
        text = (DEPLOY / "container" / "pillarbox.toml").read_text()
        for old, new in (("/var/lib/pillarbox", place / "data"), ("[::]:2525", f"127.0.0.1:{port}"), ("[::]:8025", f"127.0.0.1:{http}")):
            self.assertIn(old, text)
            text = text.replace(old, str(new))
        config.write_text(text)
        compose = (DEPLOY / "compose" / "compose.yaml").read_text()
        url = re.search(r"PILLARBOX_STORE: (.+)", compose)[1]
        url = re.sub(r"\$\{DATABASE_PASSWORD[^}]*\}", "it%27s%20secret", url)
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        environment = dict(os.environ, PILLARBOX_STORE=url.replace("db1,db2", hosts), PILLARBOX_KEY=SECRETS["PILLARBOX_KEY"], PILLARBOX_NODE=name)
        server = Process([binary(), "serve", "--config", config], place / "log", env=environment)
        self.addCleanup(server.stop)
        try:
            wait_banner(port, server.process)
        except RuntimeError as error:
            self.fail(f"{error}\n{server.output()}")
        server.http = http
        return server

    def submit(self, node, key, n):
        body = json.dumps({"from": "app@shop.test", "to": [f"r{n}@one.test"], "subject": f"number {n}", "text": "x"}).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        try:
            with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{node.http}/api/v1/messages", body, headers), timeout=40) as answer:
                return json.load(answer)["id"]
        except OSError:
            return None

    def test_the_primary_is_lost_and_the_standby_takes_over_with_all_that_was_promised(self):
        primary = self.database("db1", self.ports[0], "primary.sh")
        standby = self.database("db2", self.ports[1], "standby.sh", "127.0.0.1", str(self.ports[0]))
        self.assertNotIn(SECRETS["DATABASE_PASSWORD"], (self.dir / "db1.log").read_text())
        nodes = [self.node("node1"), self.node("node2")]
        key = self.until("a key", lambda: re.search(r"API key\s+(pbx_\w+)", (self.dir / "node1" / "log").read_text()), nodes[0])[1]
        promised = [self.submit(nodes[n % 2], key, n) for n in range(20)]
        self.assertNotIn(None, promised, nodes[0].output() + nodes[1].output())

        primary.process.kill()
        primary.process.wait()
        self.assertIsNone(self.submit(nodes[0], key, 99), "nothing is promised without a database")
        run("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", POSTGRES / "pg_ctl", "promote", "-D", self.dir / "db2" / "main")
        for n in range(20, 40):
            promised.append(self.until("mail is taken again", lambda: self.submit(nodes[n % 2], key, n), *nodes, standby))
        captured = lambda: json.loads(run(binary(), "capture", "ls", "--limit", "100", "--json", "--config", self.dir / "node1" / "pillarbox.toml"))
        subjects = lambda: {one["subject"] for one in captured()["items"]}
        wanted = {f"number {n}" for n in range(40)}
        self.until("all is delivered", lambda: wanted <= subjects(), *nodes)


if __name__ == "__main__":
    unittest.main(verbosity=2)
