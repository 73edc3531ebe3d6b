"""`pillarbox check` beside the tables: names and the DNS, what is printed in every case, its own time, hostile servers."""

import concurrent.futures
import json
import os
import resource
import signal
import subprocess
import sys
import time
import unittest

from check_certs import Certs
from check_run import check, clean_environment
from check_schema import Schema
from check_scripts import EXTENSIONS, HANG, LOGIN, Endless, Full, Script, Server, address
from common import REPOSITORY, Place, need
from dns_zones import Zones
from relay import binary

CF, TO, NO = "Connection Failed", "Timeout", "none"


class Ways(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need("openssl")
        cls.place = Place("ways")
        cls.addClassCleanup(cls.place.remove)
        cls.certs = Certs(cls.place.path / "certs", time.time())
        cls.good = cls.certs.tls("good")
        cls.config = cls.place.path / "pillarbox.toml"
        cls.config.write_text(f'hostname = "here.test"\ndata_dir = "{cls.place.path}/data"\n')
        cls.schema = Schema(json.loads((REPOSITORY / "docs" / "schemas" / "check-1.json").read_text()))

    def serve(self, **ports):
        """The address of a server with these ports (`p587=script`)."""
        ip = address()
        for name, script in ports.items():
            server = (Full if script is Full else Server)(ip, int(name[1:]), *(() if script is Full else (script,)))
            self.addCleanup(server.close)
        return ip

    def run_check(self, *arguments, config=None, form="--json", **more):
        return check(config or self.config, *arguments, "--ca-file", self.certs.root.cert, form=form, **more)

    def report(self, *arguments, **more):
        code, out, err = self.run_check(*arguments, **more)
        report = json.loads(out)
        self.assertEqual(self.schema.errors(report), [])
        self.assertEqual(code, 0 if report["healthy"] else 1, err)
        return report

    def zones(self, zone):
        """A configuration whose name server has these zones."""
        zones = Zones(zone)
        self.addCleanup(zones.close)
        config = self.place.path / f"dns-{zones.port}.toml"
        config.write_text(f'hostname = "here.test"\ndata_dir = "{self.place.path}/data"\n[dns]\nservers = ["127.0.0.1:{zones.port}"]\ntimeout = "2s"\n')
        return config

    def test_names_that_lead_nowhere_and_those_that_lead_far(self):
        works = self.serve(p25=Script(tls=self.good), p587=Script(tls=self.good), p465=Script(implicit=self.good))
        dead = self.serve()
        config = self.zones({
            "empty.test": [{"TXT": "nothing here"}], "null.test": [{"MX": [0, ""]}], "silent.test": ["TIMEOUT"],
            "one.test": [{"CNAME": "two.test"}], "two.test": [{"CNAME": "one.test"}], "alias.test": [{"CNAME": "mx.test"}],
            "mx.test": [{"A": works}], "domain.test": [{"MX": [10, "mx.test"]}], "backup.test": [{"MX": [10, "dead.test"]}, {"MX": [20, "mx.test"]}],
            "dead.test": [{"A": dead}], "half.test": [{"A": works}, {"A": dead}], "both.test": [{"A": works}, {"AAAA": "::2"}],
            "gone.test": [{"MX": [10, "nowhere.test"]}], "mxalias.test": [{"MX": [10, "alias.test"]}], "smtp.gmail.com": [{"A": works}], "gmial.com": [{"TXT": "x"}],
        })
        rows = [
            ("missing.test:587", CF, "host_unknown", "dns", None), ("missing.test", CF, "host_unknown", "dns", None), ("empty.test:587", CF, "no_address", "dns", None),
            ("null.test", NO, "null_mx", "dns", None), ("null.test:25", NO, "null_mx", "dns", None), ("silent.test:587", f"{CF}|{TO}", "dns_failure", "dns", None),
            ("one.test:587", CF, "dns_failure|host_unknown|no_address", "dns", None), ("gone.test", CF, "host_unknown", "dns", None),
            ("smtp.gmial.com:587", CF, "host_unknown", "dns", "host_probably_meant"), ("smtp.gamil.com", CF, "host_unknown", "dns", "host_probably_meant"),
            ("smtp.ofice365.com:587", CF, "host_unknown", "dns", "host_probably_meant"), ("dead.test:587", CF, "connection_refused", "tcp", None),
            ("[IPv6:::1]:1", CF, "connection_refused|network_unreachable", "tcp", None), ("127.0.0.1:1", CF, "connection_refused", "tcp", None),
            ("mx.test:587", "", [], None, None), ("mx.test", "", [], None, None), ("mx.test:465", "", [], None, None), ("mx.test:25", "", [], None, None),
            ("mx.test.:587", "", [], None, None), ("MX.Test:587", "", [], None, None), ("smtp://mx.test", "", [], None, None),
            ("submission://mx.test", "", [], None, None), ("smtps://mx.test", "", [], None, None), ("submissions://mx.test", "", [], None, None),
            ("domain.test", "", [], None, None), ("domain.test:25", "", [], None, None),
            ("backup.test", "", ["mx_host_fails"], None, None), ("half.test:587 --insecure", "", ["address_fails", "insecure_check"], None, None),
        ]
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            reports = list(pool.map(lambda row: self.report(*row[0].split(), "--timeout", "5", config=config), rows))
        wrong = []
        for (target, result, reason, stage, sign), report in zip(rows, reports):
            if not result:
                warnings = [one["sign"] for one in report["findings"] if one["severity"] == "warning"]
                if not report["healthy"] or sorted(warnings) != sorted(reason):
                    wrong.append((target, report["result"], report["reason"], warnings))
                continue
            signs = [one.get("sign") for one in report["findings"]]
            if report["result"] not in result.split("|") or report["reason"] not in reason.split("|") or report.get("failed_at") != stage or (sign and sign not in signs):
                wrong.append((target, report["result"], report["reason"], report.get("failed_at"), signs))
        print(f"{len(rows)} scenarios, {len(wrong)} wrong", file=sys.stderr)
        self.assertEqual(wrong, [])
        provider = self.report("smtp.gmail.com", "--insecure", config=config)
        self.assertEqual((provider["target"]["port"], provider["provider"], provider["healthy"]), (587, "google", True))
        domain = self.report("domain.test", config=config)
        self.assertEqual((domain["target"]["port"], domain["findings"][0]["sign"]), (25, "mx_used"))

    def test_every_form_of_output_is_whole_in_every_case(self):
        ip = self.serve(p587=Script(tls=self.good), p25=Script(banner="554 no"), p2525=Script(banner=HANG))
        to = lambda port: ("mx.test:%d" % port, "--connect-to", f"{ip}:{port}")
        for target, code, more in ((to(587), 0, ()), (to(25), 1, ()), (to(465), 1, ()), (to(2525), 1, ("--timeout", "1"))):
            done, out, err = self.run_check(*target, *more, form="--json-lines")
            lines = [json.loads(line) for line in out.decode().splitlines()]
            self.assertEqual((done, lines[-1]["event"]), (code, "report"), err)
            self.assertEqual(self.schema.errors(lines[-1]["report"]), [])
            self.assertLessEqual({line["event"] for line in lines}, {"began", "step", "stage", "finding", "report"})
            done, out, err = self.run_check(*target, *more, form=None)
            self.assertEqual(done, code, err)
            self.assertNotIn(b"\x1b", out)
            self.assertTrue(out.decode().count("\n") > 5)
        for arguments in (("a b",), ("mx.test:0",), ("smtp://ann:secret@mx.test",), ("mx.test", "--to", "a@b.test"), ("mx.test", "--send"), ("mx.test", "--tls", "maybe"), ("mx.test", "--timeout", "0"), ()):
            done, out, err = self.run_check(*arguments)
            self.assertEqual((done, out), (2, b""), (arguments, err))
            self.assertNotIn("secret", err)
        done, out, err = check(self.config, "mx.test", "--ca-file", self.place.path / "nothing.pem")
        self.assertEqual((done, out), (3, b""), err)

    def test_an_interruption_tells_how_far_it_went(self):
        server = Server(address(), 2525, Script(banner=HANG))
        self.addCleanup(server.close)
        ip = server.socket.getsockname()[0]
        for form, event in (("--json", None), ("--json-lines", "interrupted")):
            command = [binary(), "check", "mx.test:2525", "--connect-to", f"{ip}:2525", "--timeout", "30", "--config", self.config, form]
            seen = len(server.links)
            process = subprocess.Popen([str(one) for one in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_environment())
            while len(server.links) == seen and process.poll() is None:
                time.sleep(0.05)
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
            last = json.loads(out.decode().splitlines()[-1] if event else out)
            report = last["report"] if event else last
            self.assertEqual((process.returncode, report["interrupted"], last.get("event")), (3, True, event))
            self.assertEqual(self.schema.errors(report), [])
            self.assertIn("interrupted", err.decode())

    def test_its_own_time_is_short(self):
        ip = self.serve(p587=Script(tls=self.good, secure=(*EXTENSIONS, *LOGIN)))
        arguments = ("mx.test:587", "--connect-to", f"{ip}:587", "--user", "ann@app.test", "--from", "ann@app.test", "--to", "bob@dest.test")
        best = min((self.report(*arguments) for _ in range(7)), key=lambda report: report["took_us"] - report["waited_us"])
        own = best["took_us"] - best["waited_us"]
        print(f"own time {own / 1000:.1f} ms of {best['took_us'] / 1000:.1f} ms", file=sys.stderr)
        self.assertLess(own, 50_000)
        slow = self.report("mx.test:25", "--connect-to", f"{self.serve(p25=Script(banner=HANG))}:25", "--timeout", "2")
        self.assertLess(slow["took_us"], 1.5 * slow["waited_us"])

    def test_hostile_servers_cost_little_and_say_nothing_to_a_terminal(self):
        colours = "\x1b[31mred\x1b]0;title\x07\x9b"
        scripts = {
            "banner": Script(banner=f"220 {colours}", tls=self.good), "refusal": Script(banner=f"554 {colours}"), "nul": Script(banner=b"220 a\0b\r\n"),
            "long": Script(banner=b"220 " + b"A" * 1_000_000 + b"\r\n"), "many": Script(banner=Endless(b"", b"220-x\r\n" * 500)), "line": Script(banner=Endless(b"220 ", b"x" * 8192)),
            "ehlo": Script(on={"EHLO": Endless(b"250-mx.test\r\n", b"250-XTEST\r\n" * 500)}), "names": Script(tls=self.certs.tls("toomany")), "chain": Script(tls=self.certs.tls("long")),
            "certificate": Script(tls=self.certs.tls("colours")), "extensions": Script(clear=(colours, "AUTH " + "X" * 400, "SIZE 99999999999999999999999"), tls=self.good),
            "rcpt": Script(tls=self.good, after={"RCPT": f"550 {colours}"}), "binary": Script(banner=os.urandom(5000)), "tls": Script(banner=b"\x16\x03\x03\xff\xff" + os.urandom(70000)),
        }
        for name, script in scripts.items():
            with self.subTest(name):
                ip = self.serve(p587=script)
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                code, out, err = self.run_check("mx.test:587", "--connect-to", f"{ip}:587", "--from", "a@app.test", "--to", "b@dest.test", "--timeout", "3", "--transcript", form=None)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                self.assertIn(code, (0, 1), err)
                self.assertNotIn("panicked", err)
                for octet in (b"\x1b", b"\x07", b"\0", b"\xc2\x9b"):
                    self.assertNotIn(octet, out)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                # a build without optimisation is some ten times slower than what people run
                self.assertLess(cpu, 2.0 if "release" in str(binary()) else 8.0, name)
                self.assertLess(len(out), 400_000, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
