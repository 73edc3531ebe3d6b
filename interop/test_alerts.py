"""Alerts told to real receivers: HTTP in the formats of Slack, Teams and PagerDuty, a real rsyslogd by UDP, TCP and TLS, a program,
and mail that goes by a real Postfix, another route, while the first one takes nothing."""

import http.server
import json
import pathlib
import re
import ssl
import subprocess
import sys
import threading
import time
import unittest
import urllib.request

from common import CACHE, Catch, Place, Process, free_port, need, run, wait_ready, whole_lines
from peers import Hop, Postfix
from relay import binary

sys.path.insert(0, str(CACHE / "python"))
import jsonschema_rs  # noqa: E402  (comes with schemathesis)
import standardwebhooks  # noqa: E402

TEXT = {"type": "string", "minLength": 1}
# What the makers document, as far as it is used; everything else is refused, so that a slip shows.
SLACK = {
    "type": "object", "required": ["text", "blocks"], "additionalProperties": False,
    "properties": {"text": TEXT, "blocks": {"type": "array", "minItems": 1, "maxItems": 50, "items": {"oneOf": [
        {"type": "object", "required": ["type", "text"], "additionalProperties": False, "properties": {
            "type": {"const": "header"}, "text": {"type": "object", "required": ["type", "text"], "additionalProperties": False, "properties": {
                "type": {"const": "plain_text"}, "text": {"type": "string", "minLength": 1, "maxLength": 150}}}}},
        {"type": "object", "required": ["type", "text"], "additionalProperties": False, "properties": {
            "type": {"const": "section"}, "text": {"type": "object", "required": ["type", "text"], "additionalProperties": False, "properties": {
                "type": {"const": "mrkdwn"}, "text": {"type": "string", "minLength": 1, "maxLength": 3000}}}}},
    ]}}},
}
TEAMS = {
    "type": "object", "required": ["type", "attachments"], "additionalProperties": False,
    "properties": {"type": {"const": "message"}, "attachments": {"type": "array", "minItems": 1, "maxItems": 1, "items": {
        "type": "object", "required": ["contentType", "content"], "additionalProperties": False, "properties": {
            "contentType": {"const": "application/vnd.microsoft.card.adaptive"}, "contentUrl": {"type": "null"},
            "content": {"type": "object", "required": ["type", "version", "body"], "properties": {
                "$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"}, "type": {"const": "AdaptiveCard"},
                "version": {"const": "1.4"}, "body": {"type": "array", "minItems": 1, "items": {
                    "type": "object", "required": ["type"], "properties": {"type": {"enum": ["TextBlock", "Container", "FactSet"]}}}}}}}}}},
}
PAGERDUTY = {
    "type": "object", "required": ["routing_key", "event_action", "dedup_key"], "additionalProperties": False,
    "properties": {
        "routing_key": {"const": "R0123456789ABCDEF0123456789ABCDE"}, "event_action": {"enum": ["trigger", "resolve"]},
        "dedup_key": {"type": "string", "minLength": 1, "maxLength": 255}, "client": TEXT, "client_url": TEXT,
        "links": {"type": "array"},
        "payload": {"type": "object", "required": ["summary", "source", "severity"], "additionalProperties": False, "properties": {
            "summary": {"type": "string", "minLength": 1, "maxLength": 1024}, "source": TEXT,
            "severity": {"enum": ["critical", "error", "warning", "info"]}, "timestamp": TEXT, "component": TEXT, "group": TEXT,
            "class": TEXT, "custom_details": {"type": "object"}}},
    },
    "if": {"properties": {"event_action": {"const": "trigger"}}}, "then": {"required": ["payload"]},
}
OWN = {
    "type": "object", "required": ["type", "timestamp", "data"], "additionalProperties": False,
    "properties": {"type": {"const": "alerts"}, "timestamp": TEXT, "data": {
        "type": "object", "required": ["hostname", "alerts"], "additionalProperties": False, "properties": {
            "hostname": {"const": "relay.test"}, "alerts": {"type": "array", "minItems": 1, "items": {
                "type": "object", "required": ["key", "state", "rule", "severity", "title", "text", "about", "since"],
                "properties": {"state": {"enum": ["raised", "worse", "resolved", "passed"]},
                               "severity": {"enum": ["warning", "problem", "critical"]}}}}}}},
}


class Receiver:
    """Keeps what is posted to it, by path; paths in `down` answer 503."""

    def __init__(self, place):
        self.told, self.news, self.down = [], threading.Condition(), set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                path = self.path.split("?")[0]
                with receiver.news:
                    down = path in receiver.down
                    if not down:
                        receiver.told.append((path, {k.lower(): v for k, v in self.headers.items()}, body))
                    receiver.news.notify_all()
                self.send_response(503 if down else 202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place.cert, place.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, path, matches, patience=60):
        """The first body posted to a path of which `matches` is true."""
        def find():
            return next(((h, b) for p, h, b in self.told if p == path and matches(json.loads(b))), None)
        with self.news:
            if not self.news.wait_for(find, patience):
                raise AssertionError(f"nothing that fits came to {path}: {[(p, b[:200]) for p, _, b in self.told]}")
            return find()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Rsyslog:
    """A rsyslogd of its own: UDP, TCP, TLS and a socket, everything into one file with the parts as it read them."""

    def __init__(self, place):
        self.directory = place.path / "syslog"
        self.directory.mkdir()
        self.udp, self.tcp, self.tls = free_port(), free_port(), free_port()
        self.out, self.socket = self.directory / "out", self.directory / "log"
        template = '%protocol-version%\\t%syslogseverity-text%\\t%syslogfacility-text%\\t%hostname%\\t%app-name%\\t%msgid%\\t%structured-data%\\t%msg%\\n'
        config = self.directory / "rsyslog.conf"
        config.write_text(f"""
global(workDirectory="{self.directory}" maxMessageSize="16k" defaultNetstreamDriverCAFile="{place.ca}"
       defaultNetstreamDriverCertFile="{place.cert}" defaultNetstreamDriverKeyFile="{place.key}")
module(load="imudp") module(load="imtcp") module(load="imuxsock" sysSock.use="off")
template(name="parts" type="string" string="{template}")
ruleset(name="keep") {{ action(type="omfile" file="{self.out}" template="parts") }}
input(type="imudp" address="127.0.0.1" port="{self.udp}" ruleset="keep")
input(type="imtcp" address="127.0.0.1" port="{self.tcp}" ruleset="keep")
input(type="imtcp" address="127.0.0.1" port="{self.tls}" ruleset="keep" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imuxsock" socket="{self.socket}" ruleset="keep")
""")
        command = ["rsyslogd", "-n", "-f", config, "-i", self.directory / "pid"]
        run("rsyslogd", "-N1", "-f", config)
        self.process = Process(command, self.directory / "log.txt")
        while f":{self.udp:04X} " not in pathlib.Path("/proc/net/udp").read_text():
            if self.process.process.poll() is not None:
                raise RuntimeError(self.process.output())
            time.sleep(0.05)

    def wait(self, matches, patience=60):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            found = [parts for parts in (line.split("\t") for line in whole_lines(self.out)) if matches(parts)]
            if found:
                return found[0]
            if self.process.process.poll() is not None:
                raise RuntimeError(self.process.output())
            time.sleep(0.05)
        raise AssertionError(f"no such line: {self.out.read_text('utf-8') if self.out.exists() else ''}\n{self.process.output()}")

    def stop(self):
        self.process.stop()


class Refusing(Catch):
    """An SMTP server that takes nothing now, and never says more."""

    def _converse(self, link):
        say = lambda text: link.wfile.write(text.encode() + b"\r\n")
        say("220 refusing.test ESMTP")
        while line := link.rfile.readline():
            verb = line[:4].upper()
            if verb == b"RCPT":
                say("451 4.3.0 Try again later")
            elif verb == b"QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


class Alerts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need("openssl", "rsyslogd", "postfix")
        cls.place = Place("alerts")
        cls.receiver, cls.syslog = Receiver(cls.place), Rsyslog(cls.place)
        cls.refusing, cls.works = Refusing(), Catch()
        cls.postfix = Postfix(cls.place, Hop(cls.works.port))
        directory = cls.place.path / "relay"
        directory.mkdir()
        cls.config, cls.http, cls.directory = directory / "pillarbox.toml", free_port(), directory
        cls.smtp = free_port()
        cls.config.write_text(
            f'hostname = "relay.test"\ndata_dir = "{directory}/data"\n[http]\naddress = "127.0.0.1:{cls.http}"\n'
            f'[checks]\nbuiltin = "no"\n[tls]\nroots = "{cls.place.ca}"\n[webhooks]\nnetworks = ["127.0.0.0/8"]\n'
            f'[[listener]]\nname = "smtp"\naddress = "127.0.0.1:{cls.smtp}"\nmode = "plain"\n'
        )
        cls.start()
        for name, port, default in [("main", cls.refusing.port, ["--default"]), ("second", cls.postfix.port, [])]:
            cls.cli("route", "add", name, "--smarthost", f"127.0.0.1:{port}", "--tls", "none", *default, raw=True)

    @classmethod
    def start(cls):
        log = cls.directory / "out.log"
        # of this start, not of the one before
        log.write_text("")
        cls.server = Process([binary(), "serve", "--config", cls.config], log)
        wait_ready(cls.server)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop(30)
        for one in (cls.receiver, cls.syslog, cls.refusing, cls.postfix, cls.works):
            one.stop()
        cls.place.remove()

    @classmethod
    def cli(cls, *arguments, code=0, raw=False):
        command = [str(a) for a in (binary(), *arguments, *([] if raw else ["--json"]), "--config", cls.config)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        if done.returncode != code:
            raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout.decode() if raw or not done.stdout else json.loads(done.stdout)

    def secret(self, text):
        path = self.directory / "secret"
        path.write_text(text)
        return f"file:{path}"

    def drop_channels(self):
        for channel in self.cli_any("alert", "channel", "ls")["items"]:
            self.cli("alert", "channel", "remove", channel["name"])

    def cli_any(self, *arguments):
        command = [str(a) for a in (binary(), *arguments, "--json", "--config", self.config)]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, timeout=60).stdout)

    def tearDown(self):
        self.drop_channels()

    def check(self, path, schema):
        _, body = self.receiver.wait(path, lambda _: True)
        jsonschema_rs.validate(schema, json.loads(body))
        return json.loads(body)

    def test_each_format_is_as_its_maker_wants_it(self):
        made = self.cli("alert", "channel", "add", "hook", "webhook", "--url", f"{self.receiver.url}/own")
        self.cli("alert", "channel", "add", "slack", "slack", "--secret-from", self.secret(f"{self.receiver.url}/slack?t=geheim"))
        self.cli("alert", "channel", "add", "teams", "teams", "--secret-from", self.secret(f"{self.receiver.url}/teams?t=geheim"))
        self.cli("alert", "channel", "add", "pager", "pagerduty", "--url", f"{self.receiver.url}/pd",
                 "--secret-from", self.secret("R0123456789ABCDEF0123456789ABCDE"))
        for name in ("hook", "slack", "teams", "pager"):
            self.assertTrue(self.cli("alert", "channel", "test", name)["taken"])
        headers, body = self.receiver.wait("/own", lambda _: True)
        standardwebhooks.Webhook(made["new_secret"]).verify(body, headers)
        self.check("/own", OWN)
        self.check("/slack", SLACK)
        self.check("/teams", TEAMS)
        self.assertEqual("warning", self.check("/pd", PAGERDUTY)["payload"]["severity"])
        shown = json.dumps(self.cli("alert", "channel", "ls"))
        self.assertNotIn("geheim", shown)
        self.assertNotIn("R0123456789", shown)
        self.assertNotIn(made["new_secret"], shown)

    def test_syslog_reads_what_is_sent(self):
        for name, server in [("udp", f"udp://127.0.0.1:{self.syslog.udp}"), ("tcp", f"tcp://127.0.0.1:{self.syslog.tcp}"),
                             ("tls", f"tls://localhost:{self.syslog.tls}"), ("unix", f"unix:{self.syslog.socket}")]:
            with self.subTest(name):
                self.cli("alert", "channel", "add", name, "syslog", "--syslog", server, "--facility", 16 + len(name))
                # rsyslogd may still be opening its sockets.
                end = time.monotonic() + 30
                while not self.cli_any("alert", "channel", "test", name)["taken"] and time.monotonic() < end:
                    time.sleep(0.1)
                facility = "local4" if name == "unix" else "local3"
                self.syslog.out.touch()
                parts = self.syslog.wait(lambda parts: len(parts) == 8 and parts[2] == facility and "This is a test" in parts[7])
                self.assertEqual("pillarbox", parts[4])
                version, severity, _, host, _, msgid, data, message = parts
                self.assertEqual("warning", severity)
                self.assertIn("WARNING: This is a test of a channel for alerts. Somebody asked for it.", message)
                if name != "unix":
                    self.assertEqual(("1", "relay.test", "test"), (version, host, msgid))
                    self.assertEqual('[pillarbox@32473 key="test" state="raised" severity="warning"]', data)
                self.syslog.out.write_text("")

    def test_a_program_gets_json_and_one_that_fails_shows(self):
        out = self.directory / "paged"
        self.cli("alert", "channel", "add", "page", "command", "--command", "/bin/sh", "--command", "-c", "--command", f"cat > {out}")
        self.assertTrue(self.cli("alert", "channel", "test", "page")["taken"])
        self.assertEqual("test", json.loads(out.read_text())["alerts"][0]["rule"])
        self.cli("alert", "channel", "add", "dead", "command", "--command", "/bin/sh", "--command", "-c", "--command", "echo no line >&2; exit 7")
        self.assertEqual("exit 7: no line", self.cli("alert", "channel", "test", "dead", code=1)["said"])

    def test_mail_takes_another_route_than_the_broken_one_and_the_end_is_told(self):
        """The default route takes nothing: an alert about it reaches its mailbox by the second route, a real Postfix."""
        self.cli("alert", "channel", "add", "mail", "email", "--from", "relay@relay.test", "--to", "ops@ops.test", "--interval", 0)
        self.cli("alert", "channel", "add", "pager", "pagerduty", "--url", f"{self.receiver.url}/pd",
                 "--secret-from", self.secret("R0123456789ABCDEF0123456789ABCDE"))
        # The only channel of a kind in its step is dead: the next step has its turn at once, though nobody was to wait for it.
        self.receiver.down.add("/dead")
        self.cli("alert", "channel", "add", "dead", "webhook", "--url", f"{self.receiver.url}/dead", "--step", 2)
        self.cli("alert", "channel", "add", "late", "webhook", "--url", f"{self.receiver.url}/late", "--step", 3)
        self.cli("alert", "rule", "set", "queue_age", "--threshold", 1)
        key = re.search(r"API key +(\S+)", (self.directory / "out.log").read_text())[1]

        def submit():
            message = {"from": "app@shop.test", "to": "ann@one.test", "subject": "s", "text": "t"}
            request = urllib.request.Request(f"http://127.0.0.1:{self.http}/api/v1/messages", json.dumps(message).encode(),
                                             {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
            self.assertEqual(202, urllib.request.urlopen(request).status)

        submit()
        # After a minute the mail is too old; the watcher looks twice a minute.
        _, body = self.receiver.wait("/pd", lambda body: body.get("payload", {}).get("class") == "queue_age", 180)
        event = json.loads(body)
        jsonschema_rs.validate(PAGERDUTY, event)
        mail = self.works.wait("[relay.test] WARNING: Mail of route main waits for more than 1 minutes", 60)
        self.assertEqual(["ops@ops.test"], mail.recipients)
        self.assertEqual("auto-generated", mail.header("Auto-Submitted"))
        self.assertFalse(self.refusing.mail)
        self.assertFalse([path for path, *_ in self.receiver.told if path == "/late"], "two channels know of it")
        raised = self.cli("alert", "ls", code=1)["items"]
        age = next(one for one in raised if one["key"] == "queue_age:main")
        self.assertEqual("acknowledged", self.cli("alert", "ack", age["id"], "--note", "on it")["state"])

        # Restarted, nothing is told twice.
        told = len(self.works.mail)
        self.server.stop(30)
        type(self).start()
        self.assertEqual("acknowledged", self.cli("alert", "show", age["id"])["state"])
        self.cli("queue", "cancel", "--all", raw=True)
        self.receiver.wait("/pd", lambda body: body["event_action"] == "resolve" and body["dedup_key"] == event["dedup_key"], 120)
        self.works.wait("[relay.test] RESOLVED: Mail of route main waits for more than 1 minutes", 60)
        mails = [mail.header("Subject") for mail in self.works.mail[told:]]
        self.assertEqual([], [s for s in mails if "WARNING: Mail of route main" in s])
        self.cli("alert", "rule", "reset", "queue_age", raw=True)
        for name in ("mail", "pager"):
            self.cli("alert", "channel", "remove", name)
        self.cli("alert", "channel", "set", "dead", "--step", 1)
        self.dead_is_followed(submit)

    def dead_is_followed(self, submit):
        """Another alert: the only channel of the first step is dead, the next one has it within seconds."""
        self.cli("alert", "rule", "set", "queue_age", "--threshold", 1)
        submit()
        _, body = self.receiver.wait("/late", lambda body: body["data"]["alerts"][0]["key"] == "queue_age:main", 180)
        jsonschema_rs.validate(OWN, json.loads(body))
        channels = {one["name"]: one for one in self.cli_any("alert", "channel", "ls")["items"]}
        self.assertEqual("failing", channels["dead"]["status"])
        self.assertIn("503", channels["dead"]["problem"])
        self.receiver.down.clear()
        self.receiver.wait("/dead", lambda body: body["data"]["alerts"][0]["key"] == "queue_age:main", 60)
        self.cli("queue", "cancel", "--all", raw=True)
        self.cli("alert", "rule", "reset", "queue_age", raw=True)

    def test_the_weekly_report_is_made_from_what_happened(self):
        report = self.cli("report", "weekly")
        self.assertEqual("relay.test", report["hostname"])
        self.assertIsNone(report["sampled"])
        self.assertIn("Messages accepted", self.cli("report", "weekly", raw=True))
        self.assertIn("<table", self.cli("report", "weekly", "--html", raw=True))


if __name__ == "__main__":
    unittest.main()
