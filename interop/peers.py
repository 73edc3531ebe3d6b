"""Private instances of Postfix, Exim and OpenSMTPD: own ports, own queues, own configuration; the system's are not touched.

Each takes mail on `port`, on `tls_port` with STARTTLS, and after AUTH on `auth_port`, as far as it can, and forwards all of it
to one next hop: a catching server, or Pillarbox when the peer plays the sender.
"""

import grp
import os
import pathlib
import pwd
import signal
import subprocess

from common import CACHE, Process, free_port, wait_banner

USER, PASSWORD = "peer", "peer-secret"


class Hop:
    """Where a peer forwards to."""

    def __init__(self, port, tls="none", user=None, password=None):
        self.port, self.tls, self.user, self.password = port, tls, user, password


class Peer:
    def __init__(self, place, hop):
        self.place, self.hop = place, hop
        self.port, self.auth_port = free_port(), None
        self.tls_port = self.port
        self.dir = place.path / self.__class__.__name__.lower()
        self.dir.mkdir()
        self.configure()
        self.server = Process(self.command(), self.dir / "out.log", env=self.environment())
        try:
            wait_banner(self.port, self.server.process)
        except Exception:
            self.stop()
            raise RuntimeError(f"{self.__class__.__name__} did not start:\n{self.log()}") from None

    def environment(self):
        return dict(os.environ)

    def stop(self):
        self.server.stop()

    def log(self):
        logs = [self.server.log, *sorted(self.dir.glob("log/*"))]
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in logs if path.exists())


class Postfix(Peer):
    """Debian's installed Postfix with a configuration, queue and data directory of its own. Without syslog it only logs where
    `LOGS` says so: the socket of its logging process takes ten lines, and Postfix stands still for good when that process, or
    master that starts it, has itself something to say while it is full. So each setting is given once: Postfix would warn of a
    second value whenever one of its processes starts, the logging process among them."""

    LOGS = False

    def settings(self):
        """What main.cf says."""
        etc, spool, data = (self.dir / n for n in ("etc", "spool", "data"))
        hop, p = self.hop, self.place
        settings = dict(
            compatibility_level="3.6", queue_directory=spool, data_directory=data, mail_owner="postfix", setgid_group="postdrop",
            maillog_file=self.dir / "log" / "mail" if self.LOGS else "", maillog_file_prefixes=self.dir, myhostname="postfix.test", mydestination="",
            inet_interfaces="127.0.0.1", inet_protocols="ipv4", mynetworks="127.0.0.0/8", alias_maps="", alias_database="",
            local_recipient_maps="", smtp_host_lookup="native", smtputf8_enable="yes", default_database_type="texthash",
            smtpd_tls_security_level="may", smtpd_tls_cert_file=p.cert, smtpd_tls_key_file=p.key, smtp_tls_CAfile=p.ca,
            relayhost=f"[localhost]:{hop.port}", minimal_backoff_time="2s", maximal_backoff_time="5s", queue_run_delay="2s",
            smtpd_relay_restrictions="permit_mynetworks,reject", local_header_rewrite_clients="", message_size_limit="0",
            # a session that is ended at once by `renew` is no defect, for which master waits a minute
            service_throttle_time="1s",
        )
        if hop.tls == "none":
            settings["smtp_tls_security_level"] = "none"
        else:
            settings.update(smtp_tls_security_level="verify", smtp_tls_verify_cert_match="hostname")
            settings["smtp_tls_wrappermode"] = "yes" if hop.tls == "implicit" else "no"
        if hop.user:
            (etc / "sasl").write_text(f"[localhost]:{hop.port} {hop.user}:{hop.password}\n")
            settings.update(smtp_sasl_auth_enable="yes", smtp_sasl_password_maps=f"texthash:{etc}/sasl",
                            smtp_sasl_security_options="noanonymous")
        return settings

    def configure(self):
        etc, data = self.dir / "etc", self.dir / "data"
        for directory in (etc, data, self.dir / "spool", self.dir / "log"):
            directory.mkdir()
        os.chown(data, pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postfix").gr_gid)
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in self.settings().items()))
        services = ["pickup unix n - n 60 1", "cleanup unix n - n - 0", "qmgr unix n - n 300 1", "rewrite unix - - n - - trivial-rewrite",
                    "bounce unix - - n - 0", "defer unix - - n - 0 bounce", "trace unix - - n - 0 bounce", "verify unix - - n - 1",
                    "flush unix n - n 1000? 0", "proxymap unix - - n - -", "smtp unix - - n - -", "relay unix - - n - - smtp",
                    "showq unix n - n - -", "error unix - - n - -", "retry unix - - n - - error", "discard unix - - n - -",
                    "anvil unix - - n - 1", "scache unix - - n - 1", "tlsmgr unix - - n 1000? 1",
                    "postlog unix-dgram n - n - 1 postlogd"]
        lines = [f"127.0.0.1:{self.port} inet n - n - - smtpd"]
        for service in services:
            lines.append(service if len(service.split()) == 8 else f"{service} {service.split()[0]}")
        (etc / "master.cf").write_text("\n".join(lines) + "\n")

    def command(self):
        return ["/usr/sbin/postfix", "-c", self.dir / "etc", "start-fg"]

    def renew(self):
        """Tables, certificates and settings are read anew: sessions end, and each new one reads them. Not `postfix reload`: master
        then writes to the log's socket while the log's process is gone, and stands still for good when that socket is full."""
        master = (self.dir / "spool" / "pid" / "master.pid").read_text().strip()
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                name, _, rest = stat.read_text().partition(") ")
            except OSError:
                continue
            if name.endswith("(smtpd") and rest.split()[1] == master:
                os.kill(int(stat.parent.name), signal.SIGTERM)

    def stop(self):
        # `start-fg` leaves master alone when it is signalled; this is how it is told to go
        try:
            subprocess.run(["/usr/sbin/postfix", "-c", self.dir / "etc", "stop"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        except subprocess.TimeoutExpired:
            os.kill(int((self.dir / "spool" / "pid" / "master.pid").read_text()), signal.SIGKILL)
        self.server.stop()


class Jailed(Peer):
    def stop(self):
        # The first process inside takes all others with it. unshare would only wait for it on SIGTERM, and killed it leaves one
        # behind that is set-user-ID, as Exim is: that does not hear of its parent's end.
        pid = self.server.process.pid
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split() if self.server.process.poll() is None else ():
            os.kill(int(child), signal.SIGKILL)
        self.server.process.kill()
        self.server.process.wait()


def jailed(packages, state, *command):
    roots = ":".join(str(CACHE / "root" / package) for package in packages)
    for root in roots.split(":"):
        if not pathlib.Path(root).is_dir():
            raise RuntimeError(f"{root} is missing; run interop/install as root")
    return [pathlib.Path(__file__).with_name("jail"), roots, state, *command]


class Exim(Jailed):
    """Debian's exim4-daemon-heavy, unpacked and run in namespaces of its own."""

    PACKAGES = ("exim4-daemon-heavy", "exim4-base", "libspf2-2", "libmariadb3")

    def configure(self):
        self.auth_port = free_port()
        spool, logs, state = (self.dir / n for n in ("spool", "log", "state"))
        for directory in (spool, logs, state):
            directory.mkdir()
            os.chmod(directory, 0o777)
        key = self.dir / "key.pem"
        key.write_text(self.place.key.read_text())
        key.chmod(0o644)
        hop = self.hop
        transport = [f"port = {hop.port}", "allow_localhost", f"tls_verify_certificates = {self.place.ca}"]
        if hop.tls == "none":
            transport.append("hosts_avoid_tls = *")
        else:
            transport += ["hosts_require_tls = *", "tls_verify_hosts = *", "tls_verify_cert_hostnames = *"]
            transport += ["protocol = smtps"] if hop.tls == "implicit" else []
        client_auth = ""
        if hop.user:
            transport.append("hosts_require_auth = *")
            client_auth = f"client_plain:\n  driver = plaintext\n  public_name = PLAIN\n  client_send = ^{hop.user}^{hop.password}\n"
        server_auth = (f"server_plain:\n  driver = plaintext\n  public_name = PLAIN\n  server_prompts = :\n"
                       f"  server_condition = ${{if and{{{{eq{{$auth2}}{{{USER}}}}}{{eq{{$auth3}}{{{PASSWORD}}}}}}}}}\n"
                       "  server_set_id = $auth2\n  server_advertise_condition = ${if def:tls_in_cipher}\n")
        transport_lines = "\n".join("  " + line for line in transport)
        # Exim keeps its rights only with the configuration at the place that was compiled in
        etc = state / "etc" / "exim4"
        etc.mkdir(parents=True)
        (etc / "exim4.conf").write_text(f"""
primary_hostname = exim.test
spool_directory = {spool}
log_file_path = {logs}/%slog
pid_file_path = {self.dir}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port} : {self.auth_port}
keep_environment =
host_lookup =
rfc1413_hosts =
never_users = root
tls_advertise_hosts = *
tls_certificate = {self.place.cert}
tls_privatekey = {key}
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = acl_data
smtputf8_advertise_hosts = *
accept_8bitmime = true
message_size_limit = 50M
received_headers_max = 60
begin acl
acl_rcpt:
  deny condition = ${{if eq{{$received_port}}{{{self.auth_port}}}}}
       !authenticated = *
       message = authentication required
  accept hosts = 127.0.0.1
  deny
acl_data:
  accept
begin routers
next_hop:
  driver = manualroute
  route_list = * localhost byname
  transport = next_hop
  self = send
  no_more
begin transports
next_hop:
  driver = smtp
{transport_lines}
begin retry
* * F,1h,2s
begin authenticators
{client_auth}{server_auth}
""")
        (etc / "exim4.conf").chmod(0o644)

    def command(self):
        return jailed(self.PACKAGES, self.dir / "state", "/usr/sbin/exim4", "-bdf", "-q2s")


class OpenSMTPD(Jailed):
    """Debian's opensmtpd, unpacked and run in namespaces of its own.

    The 6.8 of Debian 12 cannot finish a TLS handshake as a server ("missing private key": its key separation does not get along
    with OpenSSL 3), and AUTH needs TLS there. So `tls_port` is a server that offers STARTTLS and then breaks it: mail servers
    like that exist, and opportunistic TLS has to cope.
    """

    def configure(self):
        self.tls_port = free_port()
        state = self.dir / "state"
        for directory in ("etc/mail", "var/lib/opensmtpd/empty", "var/spool/smtpd", "run"):
            (state / directory).mkdir(parents=True)
        # the user ids are those that the jail gives
        (state / "var/spool/smtpd").chmod(0o711)
        for name in ("incoming", "queue", "temporary", "purge", "corrupt"):
            directory = state / "var/spool/smtpd" / name
            directory.mkdir()
            directory.chmod(0o700)
            os.chown(directory, 61102, 0)
        offline = state / "var/spool/smtpd/offline"
        offline.mkdir()
        os.chown(offline, 0, 61102)
        offline.chmod(0o770)
        (state / "etc/mail/mailname").write_text("opensmtpd.test\n")
        scheme = {"none": "smtp", "starttls": "smtp+tls", "implicit": "smtps"}[self.hop.tls]
        relay = f'relay host "{scheme}://localhost:{self.hop.port}"'
        if self.hop.user:
            (self.dir / "secrets").write_text(f"label {self.hop.user}:{self.hop.password}\n")
            relay = f'relay host "{scheme}://label@localhost:{self.hop.port}" auth <secrets>'
        secrets = f"table secrets file:{self.dir}/secrets\n" if self.hop.user else ""
        (self.dir / "smtpd.conf").write_text(
            f'pki p cert "{self.place.cert}"\npki p key "{self.place.key}"\n{secrets}'
            f"queue ttl 1h\n"
            f"listen on 127.0.0.1 port {self.port} hostname opensmtpd.test\n"
            f"listen on 127.0.0.1 port {self.tls_port} tls pki p hostname opensmtpd.test\n"
            f'action "on" {relay}\nmatch from any for any action "on"\n')

    def command(self):
        return jailed(("opensmtpd",), self.dir / "state", "/usr/sbin/smtpd", "-d", "-f", self.dir / "smtpd.conf")


ALL = (Postfix, Exim, OpenSMTPD)
