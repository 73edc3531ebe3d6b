"""Figures with a real Prometheus: it scrapes us, its tool reads our rules, every expression of rules and dashboard means something.

Traces and figures by OTLP are read by the message types that OpenTelemetry publishes; unknown fields are errors.
"""

import base64
import http.server
import json
import re
import subprocess
import sys
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

from common import CACHE, REPOSITORY, Catch, Place, Process, free_port, run, wait_ready, whole_lines
from relay import binary

sys.path.insert(0, str(CACHE / "python"))
from google.protobuf import json_format  # noqa: E402
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest  # noqa: E402
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # noqa: E402

PROMETHEUS = CACHE / "root" / "prometheus" / "usr" / "bin"
RULES = REPOSITORY / "contrib" / "prometheus" / "pillarbox.rules.yml"
DASHBOARD = REPOSITORY / "contrib" / "grafana" / "pillarbox.json"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


class Collector:
    """Takes OTLP as JSON, as strictly as the published message types are; refuses at first, as a collector that starts."""

    def __init__(self):
        self.spans, self.metrics, self.problems, self.refusals = [], [], [], 2
        self.news = threading.Condition()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                with collector.news:
                    status = collector.take(self.path, self.headers, body)
                    collector.news.notify_all()
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, headers, body):
        if headers["x-token"] != "collector-secret":
            self.problems.append(f"header missing: {headers.items()}")
            return 401
        if self.refusals:
            self.refusals -= 1
            return 503
        try:
            if path == "/v1/traces":
                found = json.loads(body)
                # names are hexadecimal in OTLP, base64 in the general mapping
                for span in [s for r in found["resourceSpans"] for sc in r["scopeSpans"] for s in sc["spans"]]:
                    for name, length in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
                        if name in span:
                            octets = bytes.fromhex(span[name])
                            assert len(octets) == length and any(octets), (name, span[name])
                            span[name] = base64.b64encode(octets).decode()
                read = json_format.Parse(json.dumps(found), ExportTraceServiceRequest())
                self.spans += [s for r in read.resource_spans for sc in r.scope_spans for s in sc.spans]
            elif path == "/v1/metrics":
                read = json_format.Parse(body, ExportMetricsServiceRequest())
                self.metrics += [m for r in read.resource_metrics for sc in r.scope_metrics for m in sc.metrics]
            else:
                self.problems.append(path)
        except Exception as error:  # told by the test, not by a thread
            self.problems.append(f"{path}: {error!r}")
        return 200

    def wait(self, what, find, patience=60):
        with self.news:
            if not self.news.wait_for(lambda: self.problems or find(), patience):
                raise AssertionError(f"{what} did not come: {[(s.name, s.trace_id.hex()) for s in self.spans]}")
            assert not self.problems, self.problems
            return find()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def expressions():
    """All of the rules and of the dashboard, with its variables filled in."""
    text = RULES.read_text()
    found = []
    block = re.compile(r"- alert: (\w+)\n\s+expr: (\|\n((?: {10,}.*\n)+)|.*\n)")
    for name, line, many in block.findall(text):
        found.append((name, " ".join((many or line).split())))
    assert len(found) == text.count("- alert:"), "an expression was not found"
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$job", ".*")
            assert "$" not in filled, filled
            found.append((panel["title"], filled))
    return found


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place, cls.catch, cls.collector = Place("metrics"), Catch(), Collector()
        directory = cls.place.path / "relay"
        directory.mkdir()
        cls.config, cls.http = directory / "pillarbox.toml", free_port()
        headers = directory / "headers"
        headers.write_text("X-Token: collector-secret\n")
        cls.config.write_text(
            f'hostname = "relay.test"\ndata_dir = "{directory}/data"\n[http]\naddress = "127.0.0.1:{cls.http}"\n'
            f'[otlp]\nendpoint = "{cls.collector.url}"\nheaders_file = "{headers}"\n[log]\nformat = "json"\n'
            f'[[listener]]\nname = "smtp"\naddress = "127.0.0.1:{free_port()}"\nmode = "plain"\n'
        )
        cls.server = Process([binary(), "serve", "--config", cls.config], directory / "out.log")
        wait_ready(cls.server)
        cls.key = re.search(r"API key +(\S+)", cls.server.log.read_text())[1]
        cls.cli("route", "add", "out", "--smarthost", f"127.0.0.1:{cls.catch.port}", "--tls", "none", "--default")
        cls.prometheus = None

    @classmethod
    def tearDownClass(cls):
        if cls.prometheus:
            cls.prometheus.stop()
        cls.server.stop(30)
        cls.catch.stop()
        cls.collector.stop()
        cls.place.remove()

    @classmethod
    def cli(cls, *arguments):
        return json.loads(run(binary(), *arguments, "--json", "--config", cls.config))

    def submit(self, subject, headers=None, to="ann@one.test"):
        message = {"from": "app@shop.test", "to": [to], "subject": subject, "text": "t", "stream": "receipts"}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/api/v1/messages", json.dumps(message).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json", **(headers or {})})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)["id"]

    def scrape(self, accept="*/*"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}/metrics", headers={"Accept": accept})
        with urllib.request.urlopen(request) as answer:
            return answer.read().decode()

    def test_prometheus_scrapes_and_every_expression_means_something(self):
        tool = PROMETHEUS / "promtool"
        print(run(tool, "check", "rules", RULES))
        self.submit("counted")
        self.catch.wait("counted")
        # its linter reads the older format; it also minds names
        subprocess.run([tool, "check", "metrics"], input=self.scrape(), text=True, check=True)
        port = free_port()
        config = self.place.path / "prometheus.yml"
        config.write_text(
            f"global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{RULES}']\n"
            f"scrape_configs:\n  - job_name: pillarbox\n    static_configs: [{{ targets: ['127.0.0.1:{self.http}'] }}]\n")
        run(tool, "check", "config", config)
        type(self).prometheus = Process(
            [PROMETHEUS / "prometheus", f"--config.file={config}", f"--storage.tsdb.path={self.place.path}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}"], self.place.path / "prometheus.log")

        def ask(path, **query):
            url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    return json.load(answer)["data"]
            except urllib.error.HTTPError as error:
                if error.code == 503:
                    raise  # it is starting
                raise AssertionError(f"{query}: {error.read().decode()}") from None

        def until(what, find, patience=90):
            end, last = time.time() + patience, None
            while time.time() < end:
                if self.prometheus.process.poll() is not None:
                    raise AssertionError(self.prometheus.output())
                try:
                    last = find()
                except OSError as error:
                    last = None
                    self.assertIsNone(self.prometheus.process.poll(), error)
                if last:
                    return last
                time.sleep(0.2)
            raise AssertionError(f"{what}: {ask('targets')}")

        delivered = 'pillarbox_stream_recipients_settled_total{stream="receipts",outcome="delivered"} >= 1'
        until("Prometheus has our figures", lambda: ask("query", query=delivered)["result"])
        until("twice", lambda: ask("query", query="count_over_time(pillarbox_ready[1m]) > 2")["result"])
        until("it is up", lambda: ["up"] == [t["health"] for t in ask("targets")["activeTargets"]])

        known = {figure["name"] + ("_total" if figure["kind"] == "counter" else ""): figure
                 for figure in self.cli_figures()}
        for name, figure in list(known.items()):
            if figure["kind"] == "histogram":
                known.update({f"{name}_{part}": figure for part in ("bucket", "sum", "count")})
        some = {name for name, figure in known.items() if figure["points"] and figure["kind"] != "histogram"}
        until("all of it", lambda: some <= set(ask("label/__name__/values")))
        scraped = set(ask("label/__name__/values"))
        for title, expression in expressions():
            with self.subTest(title):
                ask("query", query=expression)
                names = set(re.findall(r"\b((?:pillarbox|process)_[a-z_]+)\b", expression))
                self.assertTrue(names or "up{" in expression, expression)
                for name in names:
                    self.assertIn(name, known, "no such figure")
                    # what happens only in trouble has no points yet
                    if known[name]["points"]:
                        self.assertIn(name, scraped)
                labels = set(re.findall(r"by \(([^)]*)\)", expression))
                for label in {l.strip() for group in labels for l in group.split(",")} - {"instance", "le", "job"}:
                    self.assertTrue(any(label in point["labels"] for name in names for point in known[name]["points"])
                                    or not any(known[name]["points"] for name in names), f"no label {label}")
        def rules():
            return {rule["name"]: rule for group in ask("rules")["groups"] for rule in group["rules"]}

        until("all rules are evaluated", lambda: all(rule["health"] == "ok" for rule in rules().values()))
        until("none says that it is down", lambda: rules()["PillarboxDown"]["state"] == "inactive")

    def cli_figures(self):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}/api/v1/metrics", headers={"Authorization": f"Bearer {self.admin()}"})
        with urllib.request.urlopen(request) as answer:
            figures = json.load(answer)["figures"]
        for figure in figures:
            for point in figure["points"]:
                point.setdefault("labels", {})
        return figures

    def admin(self):
        if not hasattr(type(self), "admin_key"):
            made = self.cli("sender", "add", "watcher", "--admin", "--api-key", "--no-password", "--allow-from", "watcher.test")
            type(self).admin_key = made["new_api_key"]
        return self.admin_key

    def test_a_scraper_that_hangs_stops_nobody(self):
        import socket
        hanging = []
        try:
            for _ in range(50):
                s = socket.create_connection(("127.0.0.1", self.http), 5)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
                hanging.append(s)
            began = time.time()
            for n in range(20):
                self.submit(f"hanging-{n}")
            self.catch.wait("hanging-19")
            self.assertLess(time.time() - began, 20)
            self.assertIn("pillarbox_ready 1", self.scrape())
        finally:
            for s in hanging:
                s.close()

    def test_a_message_is_one_trace_from_accept_to_delivery_under_the_client_s_own(self):
        def value(span, name):
            found = [a.value for a in span.attributes if a.key == name]
            return (found[0].string_value or found[0].int_value) if found else None

        given = self.submit("traced", {"traceparent": f"00-{TRACE}-{CALLER}-01"})
        plain = self.submit("untraced")
        self.submit("not recorded", {"traceparent": f"00-{'ab' * 16}-{CALLER}-00"})

        def of(message):
            spans = [s for s in self.collector.spans if value(s, "pillarbox.message_id") == message]
            return {s.name: s for s in spans} if {"accept", "attempt", "delivery"} <= {s.name for s in spans} else None

        spans = self.collector.wait("the trace", lambda: of(given))
        self.assertEqual({TRACE}, {s.trace_id.hex() for s in spans.values()})
        self.assertEqual(CALLER, spans["accept"].parent_span_id.hex())
        self.assertEqual(spans["accept"].span_id, spans["delivery"].parent_span_id)
        self.assertEqual(spans["delivery"].span_id, spans["attempt"].parent_span_id)
        self.assertEqual("delivered", value(spans["delivery"], "pillarbox.outcome"))
        self.assertEqual("out", value(spans["attempt"], "pillarbox.route"))
        self.assertEqual("127.0.0.1", value(spans["attempt"], "server.address"))
        for span in spans.values():
            self.assertLessEqual(span.start_time_unix_nano, span.end_time_unix_nano)
            self.assertLess(abs(span.start_time_unix_nano / 1e9 - time.time()), 300)
            self.assertNotIn("one.test", str(span), "no addresses")
        other = self.collector.wait("the other trace", lambda: of(plain))
        self.assertEqual(1, len({s.trace_id for s in other.values()} - {spans["accept"].trace_id}))
        self.catch.wait("not recorded")
        self.submit("last")
        self.collector.wait("what came later", lambda: len({s.trace_id for s in self.collector.spans}) >= 3)
        self.assertNotIn("ab" * 16, {s.trace_id.hex() for s in self.collector.spans})
        mail = self.catch.wait("traced")
        self.assertNotIn(b"x-pillarbox", mail.content.lower(), "the private header does not leave")

        def figures():
            found = {m.name: m for m in self.collector.metrics}
            accepted = found.get("pillarbox_accept_seconds")
            return found if accepted and accepted.histogram.data_points else None

        # They go once a minute.
        figures = self.collector.wait("figures", figures, 150)
        self.assertTrue(figures["pillarbox_messages_accepted"].sum.is_monotonic)
        self.assertEqual("s", figures["pillarbox_accept_seconds"].unit)
        point = figures["pillarbox_accept_seconds"].histogram.data_points[0]
        self.assertEqual(len(point.explicit_bounds) + 1, len(point.bucket_counts))
        self.assertEqual(point.count, sum(point.bucket_counts))

    def test_top_tells_once_and_as_json(self):
        seen = {}

        def submit():
            while not seen:
                self.submit("top")

        thread = threading.Thread(target=submit)
        thread.start()
        try:
            look = self.cli("top", "--once", "--interval", "1")
        finally:
            seen["done"] = True
            thread.join()
        self.assertTrue(look["accepting"])
        self.assertGreater(look["figures"]["rates"]["accepted"], 0)
        self.assertGreater(look["figures"]["memory_bytes"], 1e6)
        text = run(binary(), "top", "--once", "--interval", "1", "--config", self.config)
        self.assertIn("a second   accepted", text)
        self.assertNotIn("\x1b", text, "no terminal, no escapes")

    def test_top_on_a_terminal_obeys_keys_and_leaves_it_as_it_was(self):
        import os
        import pty
        import select
        import termios
        parent, child = pty.openpty()
        before = termios.tcgetattr(child)
        process = subprocess.Popen([str(binary()), "top", "--interval", "1", "--config", str(self.config)],
                                   stdin=child, stdout=child, stderr=child, env={**os.environ, "TERM": "xterm"})
        shown = b""

        def until(text, patience=30):
            nonlocal shown
            end = time.time() + patience
            while text not in shown:
                self.assertLess(time.time(), end, (text, shown[-2000:]))
                if select.select([parent], [], [], 0.2)[0]:
                    shown += os.read(parent, 65536)

        try:
            until(b"order: waiting")
            os.write(parent, b"s")
            until(b"order: oldest")
            os.write(parent, b"p")
            until(b"PAUSED")
            os.write(parent, b"q")
            until(b"\x1b[?1049l")
            self.assertEqual(0, process.wait(10))
            self.assertEqual(before, termios.tcgetattr(child))
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            os.close(parent)
            os.close(child)

    def test_the_log_is_json_and_names_messages(self):
        lines = [json.loads(line) for line in whole_lines(self.server.log) if line.startswith("{")]
        for line in lines:
            self.assertTrue({"timestamp", "level", "message"} <= set(line), line)


if __name__ == "__main__":
    unittest.main()
