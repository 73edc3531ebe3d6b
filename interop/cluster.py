"""Several Pillarbox nodes on one PostgreSQL: Debian's server in throw-away clusters, nodes with their own ports and directories.

A node may live in a network namespace of its own, from which it can be cut off: from the database alone, or from everything.
"""

import collections
import contextlib
import json
import os
import pathlib
import signal
import smtplib
import socketserver
import ssl
import subprocess
import threading
import time

from common import Catch, Process, free_port, run, wait_banner
from relay import PASSWORD, SENDER, binary
from test_loss import Load

KEY = "ab" * 32
LEASE_S = 30


def programs():
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise RuntimeError("missing: PostgreSQL in /usr/lib/postgresql; run interop/install as root")
    return found[-1]


def as_server(*command):
    """A command as a user who may run the server: it refuses root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--", *map(str, command)]


class Postgres:
    """One server with its directory; a standby of `of`, if that is given."""

    def __init__(self, place, name, port=None, addresses="127.0.0.1", of=None, settings=()):
        self.dir, self.port, self.name = place.path / name, port or free_port(), name
        self.data, self.addresses, self.settings, self.process = self.dir / "data", addresses, list(settings), None
        self.frozen = []
        self.dir.mkdir(exist_ok=True)
        run("chown", "postgres:postgres", self.dir)
        if of is None:
            run(*as_server(programs() / "initdb", "--username=pillarbox", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8",
                           "--no-sync", "-D", self.data))
            (self.data / "pg_hba.conf").write_text(
                "local all all trust\nhost all all 0.0.0.0/0 trust\nhost replication all 127.0.0.1/32 trust\n")
        else:
            self.copy(of)

    def copy(self, of):
        """Becomes a standby of another server, from nothing."""
        subprocess.run(["rm", "-rf", self.data], check=True)
        run(*as_server(programs() / "pg_basebackup", "-h", "127.0.0.1", "-p", of.port, "-U", "pillarbox", "-D", self.data, "-R",
                       "-X", "stream", "--checkpoint=fast", "--no-sync"))

    def start(self):
        options = [f"port={self.port}", f"listen_addresses={self.addresses}", f"unix_socket_directories={self.dir}", "fsync=on",
                   "max_connections=200", "shared_buffers=64MB", "log_min_messages=warning", "log_min_error_statement=panic",
                   *self.settings]
        command = as_server(programs() / "postgres", "-D", self.data)
        for option in options:
            command += ["-c", option]
        self.process = Process(command, self.dir / "log", cwd=self.dir)
        end = time.monotonic() + 60
        while subprocess.run([programs() / "pg_isready", "-q", "-h", self.dir, "-p", str(self.port)]).returncode:
            if time.monotonic() > end or self.process.process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not get ready:\n{self.process.output()}")
            time.sleep(0.05)
        return self

    def sql(self, text, database="pillarbox", timeout=60):
        done = subprocess.run([programs() / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "pillarbox", "-d", database,
                               "-h", self.dir, "-p", str(self.port), "-c", text], capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise RuntimeError(f"{text}: {done.stderr}")
        return done.stdout.strip()

    def kill9(self):
        """The server's processes see that their first one is gone, and end."""
        self.process.process.kill()
        self.process.process.wait()
        pid_file = self.data / "postmaster.pid"
        pid_file.unlink(missing_ok=True)

    def freeze(self):
        """No process of the server goes on; the machine still takes what is sent to it."""
        first = self.process.process.pid
        os.kill(first, signal.SIGSTOP)  # it makes no more of them
        self.frozen = [first, *map(int, subprocess.run(["pgrep", "-P", str(first)], capture_output=True, text=True).stdout.split())]
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in self.frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen = []

    def promote(self):
        run(*as_server(programs() / "pg_ctl", "-D", self.data, "-w", "-t", "60", "promote"))

    def stop(self):
        self.thaw()
        if self.process and self.process.process.poll() is None:
            self.process.process.send_signal(2)  # SIGINT: fast
            try:
                self.process.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.process.kill()


class Sink(Catch):
    """Counts instead of keeping, and books when each message came and how many connections there were."""

    def __init__(self, host="127.0.0.1"):
        super().__init__()
        self.server.shutdown()
        self.server.server_close()
        self.copies, self.times, self.names = collections.Counter(), [], collections.Counter()
        self.arrived, self.client = collections.Counter(), threading.local()  # messages by the name their client greeted with
        self.links = []  # of each connection: since when, until when, and who it is
        self.mail = self  # what counts the progress asks for its length
        sink = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.link = sink.client.link = [time.monotonic(), None, None]
                sink.links.append(self.link)
                try:
                    sink._converse(self)
                except OSError:
                    pass
                finally:
                    sink.parted(self)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128
            allow_reuse_address = True

        self.server = Server((host, 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def greeted(self, name):
        self.names[name] += 1
        self.client.link[2] = name

    def parted(self, link):
        # Before it is told 221: whoever has that may open the next one at once.
        if link.link[1] is None:
            link.link[1] = time.monotonic()

    @property
    def most(self):
        """Most connections at once of those that greeted: a scheduled check of a route reads the banner and leaves, beside the mail."""
        links = [link for link in self.links if link[2]]
        ends = [(end, -1) for _, end, _ in links if end]
        open_, most = 0, 0
        for _, step in sorted(ends + [(begin, 1) for begin, _, _ in links]):
            open_ += step
            most = max(most, open_)
        return most

    def most_in(self, seconds):
        """Most messages in any such time."""
        times, start, most = sorted(self.times), 0, 0
        for at, time_ in enumerate(times):
            while times[start] <= time_ - seconds:
                start += 1
            most = max(most, at + 1 - start)
        return most

    def append(self, mail):
        name = mail.header("Subject")
        self.times.append(time.monotonic())
        self.arrived[self.client.link[2]] += 1
        self.copies.update((name, to) for to in mail.recipients)

    def __len__(self):
        return len(self.times)


class PacedLoad(Load):
    """A load that leaves the machine some air, for a node anywhere; a cut line is given up after a while."""

    def __init__(self, port, host="127.0.0.1", threads=2, size=800, pause=0.02, timeout=60):
        self.host, self.pause, self.timeout = host, pause, timeout
        super().__init__(port, threads, size)

    def connect(self):
        client = smtplib.SMTP(self.host, self.port, timeout=self.timeout)
        if self.host != "127.0.0.1":
            client.starttls(context=ssl._create_unverified_context())
        return client

    def one(self, client):
        super().one(client)
        self.stopping.wait(self.pause)


class Node:
    """One node: its own directory, port and name, and the database of all."""

    def __init__(self, place, name, store, space=None, settings=""):
        self.dir, self.name, self.space = place.path / name, name, space
        self.dir.mkdir()
        self.port, self.host = free_port(), space.inside if space else "127.0.0.1"
        self.config = self.dir / "pillarbox.toml"
        self.config.write_text(
            f'hostname = "{name}.test"\nnode = "{name}"\ndata_dir = "{self.dir / "data"}"\nshutdown_timeout = "20s"\n'
            f'[http]\naddress = "127.0.0.1:{free_port()}"\n[retry]\nintervals = ["1s"]\n{settings}'
            f'[[listener]]\nname = "load"\naddress = "{self.host}:{self.port}"\n'
            + (f'mode = "starttls"\ncertificate = "{place.cert}"\nkey = "{place.key}"\n' if space
               else 'mode = "plain"\nauth_without_tls = "loopback"\n'))
        self.env = {**os.environ, "PILLARBOX_STORE": store, "PILLARBOX_KEY": KEY}
        self.server, self.program = None, binary()

    def inside(self, *command):
        return self.space.within(*command) if self.space else [*command]

    def start(self, banner=True):
        self.server = Process(self.inside(self.program, "serve", "--config", self.config), self.dir / "out.log", env=self.env)
        try:
            if banner:
                wait_banner(self.port, self.server.process, host=self.host)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.server.output()}") from None
        return self

    def cli(self, *arguments):
        return run(self.program, *arguments, "--config", self.config, env=self.env)

    def json(self, *arguments):
        """What a command says, whatever its exit code."""
        done = subprocess.run([str(self.program), *arguments, "--json", "--config", str(self.config)], env=self.env, capture_output=True, timeout=120)
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"{arguments}: {done.returncode} {done.stdout!r} {done.stderr!r}\n{self.server.output()}") from None

    def set_up(self, sink, *options, host="127.0.0.1"):
        password = self.dir / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        self.cli("sender", "add", SENDER, "--password-from", f"file:{password}", "--allow-from", "*")
        self.cli("route", "add", "out", "--smarthost", f"{host}:{sink.port}", "--tls", "none", "--default", *options)

    def sends_by(self, route, patience=60):
        """Waits until it has taken up what was set on another node: before that its mail goes elsewhere."""
        end = time.monotonic() + patience
        while (plan := self.json("explain", "a@dest.test")).get("route") != route:
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not send by {route}: {plan}\n{self.server.output()}")
            time.sleep(0.2)

    def kill9(self):
        self.server.process.kill()
        self.server.process.wait()

    def stop(self):
        if self.server:
            self.server.stop(30)


class Watcher:
    """Looks every second whether the leases of a node that is gone are held for longer than they may."""

    def __init__(self, primary, grace_s=5):
        self.primary, self.grace_s, self.stuck, self.looks, self.quiet_until, self.longest = primary, grace_s, [], 0, 0, 0.0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        text = ("SET search_path TO pillarbox; SELECT DISTINCT lease FROM recipient r WHERE state = 1 AND NOT EXISTS "
                "(SELECT 1 FROM node n WHERE n.incarnation = r.lease AND n.alive_until > now())")
        since = {}
        while not self.stopping.wait(1):
            now = time.monotonic()
            try:
                dead = set(self.primary().sql(text).split())
            except (RuntimeError, subprocess.TimeoutExpired):
                continue
            if now < self.quiet_until:
                dead = set()
            self.looks += 1
            since = {run: since.get(run, now) for run in dead}
            for run, first in since.items():
                self.longest = max(self.longest, now - first)
                # It may have been dead for a second when it was first seen so.
                if now - first > self.grace_s:
                    self.stuck.append((round(now, 1), run, round(now - first, 1)))
                    if os.environ.get("VERBOSE"):
                        print(f"  stuck: leases of run {run}\n{self.why()}", flush=True)

    def why(self):
        try:
            return self.primary().sql(
                "SELECT now()::time(0), name, (alive_until - now())::interval(0) FROM pillarbox.node; SELECT pid, client_addr, state, wait_event, "
                "(now() - xact_start)::interval(1), left(query, 90) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND pid <> pg_backend_pid()")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return str(error)

    def stop(self):
        self.stopping.set()
        self.thread.join(60)
