"""Servers that ask for AUTH: Postfix with Dovecot's, Postfix with Cyrus's and Exim with its own SASL, each private and on its own ports.

All know the user of `peers`, and take OAuth tokens (Dovecot only) that begin with `good-`.
"""

import os
import pwd
import socket
import subprocess
import time
import urllib.parse

import peers
from common import Process
from web import Web

USER, PASSWORD = peers.USER, peers.PASSWORD
SCOPE = "mail.send"


def token_info(_method, path, _headers, _body):
    """What Dovecot asks about a token."""
    token = urllib.parse.parse_qs(urllib.parse.urlparse(path).query).get("access_token", [""])[0]
    good = token.startswith("good-")
    return (200, {"email": USER, "scope": SCOPE, "active": True}) if good else (401, {"error": "invalid_token"})


def wait_socket(path, server, patience=30):
    """Postfix gives up for a minute if its authentication server is not there."""
    end = time.time() + patience
    while time.time() < end and server.process.poll() is None:
        with socket.socket(socket.AF_UNIX) as link:
            try:
                link.connect(str(path))
                return
            except OSError:
                time.sleep(0.05)
    raise RuntimeError(f"no authentication server at {path}\n{server.output()}")


class AuthPostfix(peers.Postfix):
    """Takes mail after AUTH only, with or without TLS. Its log says by which mechanism."""

    LOGS = True

    def settings(self):
        return super().settings() | dict(
            smtpd_sasl_auth_enable="yes", smtpd_tls_auth_only="no", smtpd_relay_restrictions="permit_sasl_authenticated,reject",
            smtpd_sasl_security_options="noanonymous", smtpd_sasl_tls_security_options="noanonymous", **self.sasl())


class Dovecot(AuthPostfix):
    # its NTLM went with 2.3.13
    MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2")

    def sasl(self):
        self.tokens = Web(token_info)
        place = self.dir / "auth-socket"
        (self.dir / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        (self.dir / "oauth2").write_text(
            f"tokeninfo_url = http://127.0.0.1:{self.tokens.port}/?access_token=\nintrospection_mode = auth\n"
            f"introspection_url = http://127.0.0.1:{self.tokens.port}/?access_token=\n"
            f"username_attribute = email\nscope = {SCOPE}\nactive_attribute = active\nactive_value = true\nopenid_configuration_url = \n")
        run_dir = self.dir / "dovecot"
        run_dir.mkdir()
        (self.dir / "dovecot.conf").write_text(f"""
base_dir = {run_dir}
state_dir = {run_dir}
log_path = {self.dir}/log/dovecot
protocols =
ssl = no
listen = 127.0.0.1
auth_mechanisms = {" ".join(name.lower() for name in self.MECHANISMS)}
auth_failure_delay = 0
disable_plaintext_auth = no
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {self.dir}/oauth2
}}
passdb {{
  driver = passwd-file
  mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
  args = scheme=PLAIN username_format=%u {self.dir}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {place} {{
    mode = 0666
  }}
}}
service stats {{
  unix_listener stats-reader {{
    mode = 0600
  }}
}}
service anvil {{
  # no pauses after failed sign-ins
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
""")
        self.dovecot = Process(["/usr/sbin/dovecot", "-F", "-c", self.dir / "dovecot.conf"], self.dir / "dovecot.log")
        wait_socket(place, self.dovecot)
        return dict(smtpd_sasl_type="dovecot", smtpd_sasl_path=place)

    def log(self):
        return f"{super().log()}\n--- dovecot\n{self.dovecot.output()}"

    def stop(self):
        super().stop()
        self.dovecot.stop()
        self.tokens.stop()


class Cyrus(AuthPostfix):
    MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256", "NTLM")

    def sasl(self):
        if not os.path.exists("/etc/sasldb2"):
            raise RuntimeError("/etc/sasldb2 is missing; install sasl2-bin again")
        database = self.dir / "sasldb2"
        done = subprocess.run(["saslpasswd2", "-p", "-c", "-f", str(database), "-u", "postfix.test", USER], input=PASSWORD.encode(),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
        if done.returncode:
            raise RuntimeError(f"saslpasswd2: {done.stdout.decode(errors='replace')}")
        os.chown(database, pwd.getpwnam("postfix").pw_uid, -1)
        return dict(smtpd_sasl_type="cyrus", smtpd_sasl_path="smtpd", smtpd_sasl_local_domain="postfix.test")

    def command(self):
        # Debian's build looks for its settings and the database in fixed places; without settings it offers all that it has
        mount = 'mount --bind "$0" /etc/sasldb2 && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, self.dir / "sasldb2", *super().command()]


class Exim(peers.Exim):
    """Its authenticators offer one mechanism each, on the port that takes mail after AUTH only."""

    MECHANISMS = ("CRAM-MD5", "NTLM")

    def configure(self):
        super().configure()
        conf = self.dir / "state" / "etc" / "exim4" / "exim4.conf"
        conf.write_text(conf.read_text() + f"""
server_cram:
  driver = cram_md5
  public_name = CRAM-MD5
  server_secret = ${{if eq{{$auth1}}{{{USER}}}{{{PASSWORD}}}fail}}
  server_set_id = $auth1
server_spa:
  driver = spa
  public_name = NTLM
  server_password = ${{if eq{{$auth1}}{{{USER}}}{{{PASSWORD}}}fail}}
  server_set_id = $auth1
""")
