"""The two relays of the benchmark: how to configure, start, stop and look at them. Each is private: own ports, own directories."""

import grp
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_banner(port, patience=120):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                s.settimeout(10)
                if s.recv(100).startswith(b"220"):
                    s.sendall(b"QUIT\r\n")
                    return
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"nothing greets on 127.0.0.1:{port}")


def family(pid):
    """A process and all below it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = pathlib.Path(f"/proc/{entry}/stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found, open_ = [], [pid]
    while open_:
        pid = open_.pop()
        found.append(pid)
        open_ += parents.get(pid, [])
    return found


def cpu(pid):
    """Seconds so far of a process and all below it, with the children that have ended: their parent has them in its sum."""
    total = 0
    for one in family(pid):
        try:
            fields = pathlib.Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / TICK


class Relay:
    def __init__(self, place, sink_port):
        self.dir, self.sink_port = place / self.name, sink_port
        self.dir.mkdir()
        self.port, self.pid = free_port(), None
        self.configure()

    def cpu(self):
        return cpu(self.pid)

    def memory(self):
        """Proportional set size of all processes, MiB: shared pages count once."""
        total = 0
        for pid in family(self.pid):
            try:
                lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return round(total / 1024, 1)


class Postfix(Relay):
    """Debian's Postfix, tuned for throughput; every accepted message is synced, as it always does."""

    name = "postfix"

    def configure(self):
        etc, self.spool, data = (self.dir / n for n in ("etc", "spool", "data"))
        for directory in (etc, self.spool, data, self.dir / "log"):
            directory.mkdir()
        os.chown(data, pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postfix").gr_gid)
        settings = dict(
            compatibility_level="3.6", queue_directory=self.spool, data_directory=data, mail_owner="postfix",
            setgid_group="postdrop", maillog_file=self.dir / "log" / "mail", maillog_file_prefixes=self.dir,
            myhostname="relay.bench.test", mydestination="", inet_interfaces="127.0.0.1", inet_protocols="ipv4",
            mynetworks="127.0.0.0/8", alias_maps="", alias_database="", local_recipient_maps="", default_database_type="texthash",
            relayhost=f"[127.0.0.1]:{self.sink_port}", smtp_tls_security_level="none", smtpd_tls_security_level="none",
            smtpd_relay_restrictions="permit_mynetworks,reject", smtpd_recipient_restrictions="permit_mynetworks,reject",
            smtpd_client_restrictions="", local_header_rewrite_clients="", disable_dns_lookups="yes", smtpd_peername_lookup="no",
            # what tuning guides agree on
            default_process_limit="250", default_destination_concurrency_limit="100", initial_destination_concurrency="50",
            in_flow_delay="0s", max_use="100000", max_idle="600s", qmgr_message_active_limit="100000",
            qmgr_message_recipient_limit="100000", smtpd_client_connection_count_limit="0",
            smtpd_client_event_limit_exceptions="127.0.0.0/8", smtp_connection_cache_on_demand="yes",
            smtp_connection_reuse_count_limit="0", smtp_connection_reuse_time_limit="3000s",
            minimal_backoff_time="2s", maximal_backoff_time="4s", queue_run_delay="2s",
        )
        (etc / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in settings.items()))
        services = """pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
        (etc / "master.cf").write_text(f"127.0.0.1:{self.port} inet n - n - - smtpd\n{services}")
        self.postfix("check")

    def postfix(self, verb):
        subprocess.run(["/usr/sbin/postfix", "-c", self.dir / "etc", verb], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self):
        self.postfix("start")
        wait_banner(self.port)
        self.pid = int((self.spool / "pid" / "master.pid").read_text())

    def stop(self):
        if self.pid:
            self.postfix("stop")
            self.pid = None

    def first_page(self, domain):
        """There is no index: the whole queue is listed and searched."""
        listing = subprocess.run(["/usr/sbin/postqueue", "-c", self.dir / "etc", "-p"], stdout=subprocess.PIPE).stdout
        return [line for line in listing.splitlines() if domain.encode() in line][:50]

    def purge(self):
        for name in ("incoming", "active", "deferred", "defer", "bounce", "maildrop"):
            shutil.rmtree(self.spool / name, ignore_errors=True)
        self.postfix("check")


class Pillarbox(Relay):
    """As it comes, but for limits that one client address would meet here, and a route to the sink."""

    name = "pillarbox"
    executable = None
    env = None  # that of this process
    more = ""  # first lines of the configuration

    def configure(self):
        self.prepare()
        self.start()
        self.set_up()
        self.stop()

    def prepare(self):
        self.binary = self.executable or pathlib.Path(os.environ.get("PILLARBOX", REPOSITORY / "target" / "release" / "pillarbox"))
        if not self.binary.exists():
            raise SystemExit(f"bench: {self.binary} is missing: cargo build --release")
        self.config = self.dir / "pillarbox.toml"
        self.config.write_text(
            f'hostname = "relay.bench.test"\ndata_dir = "{self.dir}/data"\n{self.more}'
            f'[http]\naddress = "127.0.0.1:{free_port()}"\n'
            "[limits]\nconnections = 2000\nconnections_per_address = 2000\ncommands = 1000000\n"
            '[retry]\nintervals = ["2s", "4s"]\n'
            '[log]\nlevel = "warn"\n'
            f'[[listener]]\nname = "bench"\naddress = "127.0.0.1:{self.port}"\nmode = "plain"\n')
        self.process = None

    def set_up(self):
        # smtp-source cannot log in: the credential is the address, given out loud
        self.cli("sender", "add", "bench", "--trust-address", "127.0.0.1/32", "--no-password", "--allow-from", "*")
        self.cli("route", "add", "sink", "--smarthost", f"127.0.0.1:{self.sink_port}", "--tls", "none", "--connections", "100",
                 "--default")

    def cli(self, *arguments):
        command = [self.binary, *map(str, arguments), "--config", self.config]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.env)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout.decode()}\n{(self.dir / 'log').read_text()[-2000:]}")
        return done.stdout

    def start(self):
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen([self.binary, "serve", "--config", self.config], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=self.env)
        self.pid = self.process.pid
        wait_banner(self.port)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = self.pid = None

    def first_page(self, domain):
        return self.cli("queue", "ls", "--domain", domain, "--limit", "50", "--json")

    def purge(self):
        pass
