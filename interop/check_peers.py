"""Real servers in many states: one Postfix with a service for each, one Exim that tells its ports apart, Dovecot's submission service,
OpenSMTPD. Each state has a port of its own."""

import os
import socketserver
import threading

import peers
import sasl
from common import Process, free_port, wait_banner

USER, PASSWORD = peers.USER, peers.PASSWORD
OWN = "local.test"


class Policy:
    """A policy server of Postfix that greylists everything."""

    def __init__(self):
        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                while line := self.rfile.readline():
                    if line == b"\n":
                        self.wfile.write(b"action=DEFER Greylisted, see http://postgrey.schweikert.ch/help/dest.test.html\n\n")

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


STRANGER = {"smtpd_sasl_auth_enable": "no", "mynetworks": "192.0.2.0/24", "smtpd_relay_restrictions": "permit_mynetworks,permit_sasl_authenticated,reject_unauth_destination"}
SASL = {**STRANGER, "smtpd_sasl_auth_enable": "yes", "smtpd_tls_auth_only": "yes"}
OLD = {"smtpd_tls_ciphers": "low", "tls_low_cipherlist": "ALL:@SECLEVEL=0"}
# Texts of large providers, said by Postfix for a recipient.
TEXTS = {
    "full": "552 5.2.2 The email account that you tried to reach is over quota",
    "later": "450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents additional messages from being delivered",
    "disabled": "550 5.2.1 The email account that you tried to reach is disabled",
    "unknown": "550 5.5.0 Requested action not taken: mailbox unavailable",
    "dmarc": "550 5.7.26 Unauthenticated email from app.test is not accepted due to domain's DMARC policy",
}


class Postfix(sasl.Dovecot):
    """`ports` has the port of each state."""

    LOGS = False

    def __init__(self, place, certs):
        self.certs, self.policy = certs, Policy()
        super().__init__(place, peers.Hop(free_port()))

    def states(self):
        pair = lambda name: dict(zip(("smtpd_tls_cert_file", "smtpd_tls_key_file"), self.certs.pairs[name]))
        etc = self.dir / "etc"
        table = lambda name: f"texthash:{etc}/{name}"
        return {
            "starttls": STRANGER, "none": {**STRANGER, "smtpd_tls_security_level": "none"},
            "implicit": {**SASL, "smtpd_tls_wrappermode": "yes"},
            "submission": {**SASL, "smtpd_tls_security_level": "encrypt"},
            "open": {"smtpd_sasl_auth_enable": "no", "smtpd_relay_restrictions": "permit_mynetworks,reject_unauth_destination", "mynetworks": "0.0.0.0/0"},
            "sender": {**STRANGER, "smtpd_sender_restrictions": f"check_sender_access {table('senders')}"},
            "owner": {**SASL, "smtpd_sender_login_maps": table("logins"), "smtpd_sender_restrictions": "reject_sender_login_mismatch"},
            "size": {**STRANGER, "message_size_limit": "100"},
            "storage": {**STRANGER, "queue_minfree": "1000000000000000"},
            "client": {**STRANGER, "smtpd_client_restrictions": "reject"},
            "clientnow": {**STRANGER, "smtpd_client_restrictions": "reject", "smtpd_delay_reject": "no"},
            "helo": {**STRANGER, "smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname", "smtpd_helo_required": "yes"},
            "helonow": {**STRANGER, "smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname", "smtpd_delay_reject": "no"},
            "grey": {**STRANGER, "smtpd_recipient_restrictions": f"check_policy_service inet:127.0.0.1:{self.policy.port}"},
            "rate": {**STRANGER, "smtpd_client_connection_rate_limit": "1"},
            "messages": {**STRANGER, "smtpd_client_message_rate_limit": "1"},
            "recipients": {**STRANGER, "smtpd_recipient_limit": "1"},
            "ascii": {**STRANGER, "smtputf8_enable": "no"},
            "modern": {**STRANGER, "smtpd_tls_protocols": ">=TLSv1.3"},
            "old": {**STRANGER, **OLD, "smtpd_tls_protocols": "TLSv1"}, "old11": {**STRANGER, **OLD, "smtpd_tls_protocols": "TLSv1.1"},
            "nokey": {**STRANGER, "smtpd_tls_key_file": self.dir / "nothing"},
            "texts": {**STRANGER, "smtpd_recipient_restrictions": f"check_recipient_access {table('texts')}"},
            "header": {**STRANGER, "cleanup_service_name": "picky"},
            "noauth": {**SASL, "smtpd_sasl_path": "/nonexistent"},
            "before": {**SASL, "smtpd_tls_security_level": "none", "smtpd_tls_auth_only": "no"},
            **{f"cert-{name}": {**STRANGER, **pair(name)} for name in ("expired", "future", "own", "name", "missing", "weak", "chain", "rsa")},
        }

    def settings(self):
        return super().settings() | dict(
            mydestination=OWN, local_recipient_maps=f"texthash:{self.dir}/etc/known", local_transport="discard:", default_transport="discard:",
            relayhost="", smtpd_error_sleep_time="0", anvil_rate_time_unit="600s")

    def configure(self):
        super().configure()
        etc = self.dir / "etc"
        for name, lines in (("senders", ["ann@app.test REJECT"]), ("logins", ["boss@app.test boss"]), ("known", [f"known@{OWN} ok", f"postmaster@{OWN} ok"]),
                            ("texts", [f"{key}@{OWN} {text}" for key, text in TEXTS.items()]), ("headers", [])):
            (etc / name).write_text("".join(f"{line}\n" for line in lines))
        (etc / "header_checks").write_text("/^Subject: Test/ REJECT 5.7.1 Message content rejected as spam\n")
        self.ports = {}
        with open(etc / "master.cf", "a") as file:
            for name, settings in self.states().items():
                port = self.ports[name] = free_port()
                file.write(f"127.0.0.1:{port} inet n - n - - smtpd\n" + "".join(f"  -o {{{key} = {value}}}\n" for key, value in settings.items()))
            file.write(f"picky unix n - n - 0 cleanup\n  -o header_checks=regexp:{etc}/header_checks\n")
            port = self.ports["postscreen"] = free_port()
            strict = {"postscreen_greet_action": "enforce", "postscreen_greet_wait": "6s", "postscreen_access_list": "", "mynetworks": "192.0.2.0/24",
                      "postscreen_cache_map": f"internal:{self.dir}/data/screen"}
            file.write(f"127.0.0.1:{port} inet n - n - 1 postscreen\n" + "".join(f"  -o {{{key} = {value}}}\n" for key, value in strict.items()))
            file.write("smtpd pass - - n - - smtpd\n" + "".join(f"  -o {{{key} = {value}}}\n" for key, value in STRANGER.items()))
            file.write("dnsblog unix - - n - 0 dnsblog\ntlsproxy unix - - n - 0 tlsproxy\n")

    def stop(self):
        super().stop()
        self.policy.stop()


class Exim(sasl.Exim):
    """Tells its states by the port."""

    STATES = ("healthy", "cram", "ntlm", "relay", "sender", "helo", "busy", "refused", "spam", "authonly", "plain")

    def configure(self):
        super().configure()
        self.ports = {name: free_port() for name in self.STATES}
        conf = self.dir / "state" / "etc" / "exim4" / "exim4.conf"
        text = conf.read_text()
        on = lambda name: f"condition = ${{if eq{{$received_port}}{{{self.ports[name]}}}}}"
        ports = " : ".join(str(port) for port in (self.port, self.auth_port, *self.ports.values()))
        text = text.replace(f"daemon_smtp_ports = {self.port} : {self.auth_port}", f"daemon_smtp_ports = {ports}")
        text = text.replace("acl_smtp_rcpt = acl_rcpt\n", "acl_smtp_rcpt = acl_rcpt\nacl_smtp_connect = acl_connect\nacl_smtp_helo = acl_helo\nsmtp_accept_max_per_connection = 1000\n"
                            "domainlist local_domains = local.test\nsmtp_enforce_sync = true\n", 1)
        text = text.replace("acl_rcpt:\n", f"""acl_connect:
  defer {on("busy")}
        message = Too many connections, try again later
  drop {on("refused")}
       message = Connection refused: your host is not welcome
  accept
acl_helo:
  deny {on("helo")}
       message = HELO name refused: $sender_helo_name is not a valid host name
  accept
acl_rcpt:
  deny {on("relay")}
       !domains = +local_domains
       !authenticated = *
       message = relay not permitted
  deny {on("sender")}
       message = Sender verify failed
  deny {on("healthy")}
       domains = +local_domains
       local_parts = nobody
       message = Unrouteable address
  deny {on("authonly")}
       !authenticated = *
       message = authentication required
""", 1)
        text = text.replace("acl_data:\n", f"""acl_data:
  deny {on("spam")}
       message = This message scored 15.2 spam points.
""", 1)
        conf.write_text(text)
        conf.chmod(0o644)


class Submission:
    """Dovecot's submission service in front of another server, with implicit TLS and STARTTLS."""

    def __init__(self, place, relay):
        self.dir = place.path / "dovecot-submission"
        self.dir.mkdir()
        run = self.dir / "run"
        run.mkdir()
        self.ports = {"submission": free_port(), "submissions": free_port()}
        (self.dir / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        (self.dir / "dovecot.conf").write_text(f"""
base_dir = {run}
state_dir = {run}
log_path = {self.dir}/log
protocols = submission
listen = 127.0.0.1
hostname = mx.test
ssl = required
ssl_cert = <{place.cert}
ssl_key = <{place.key}
auth_mechanisms = plain login
auth_failure_delay = 0
submission_relay_host = 127.0.0.1
submission_relay_port = {relay}
mail_location = maildir:{self.dir}/mail
default_internal_user = dovecot
default_login_user = dovenull
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {self.dir}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={self.dir}/home
}}
service submission-login {{
  inet_listener submission {{
    port = {self.ports["submission"]}
  }}
  inet_listener submissions {{
    port = {self.ports["submissions"]}
    ssl = yes
  }}
}}
""")
        for name in ("mail", "home"):
            (self.dir / name).mkdir()
            os.chmod(self.dir / name, 0o777)
        self.server = Process(["/usr/sbin/dovecot", "-F", "-c", self.dir / "dovecot.conf"], self.dir / "out.log")
        try:
            wait_banner(self.ports["submission"], self.server.process)
        except Exception as error:
            log = self.log()
            self.stop()
            raise RuntimeError(f"Dovecot did not start: {error}\n{log}") from None

    def log(self):
        path = self.dir / "log"
        return self.server.output() + (path.read_text(errors="replace")[-3000:] if path.exists() else "")

    def stop(self):
        self.server.stop()
