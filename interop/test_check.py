"""`pillarbox check` on servers in every state they can be in: tables of scenarios, each with what has to be found."""

import concurrent.futures
import copy
import json
import pathlib
import sys
import tempfile
import time
import unittest
import warnings

import check_peers
import check_real
import check_table
import peers
from check_certs import Certs
from check_run import differences, play
from check_schema import Schema
from common import REPOSITORY, Place, need

WORKERS = 10


class Matrix(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        need("openssl", "postfix", "dovecot", "unshare")
        # servers with versions of TLS that nobody should have are what this is about
        warnings.simplefilter("ignore", DeprecationWarning)
        cls.place = Place("check")
        cls.addClassCleanup(cls.place.remove)
        cls.certs = Certs(cls.place.path / "certs", time.time())
        cls.config = cls.place.path / "pillarbox.toml"
        cls.config.write_text(f'hostname = "here.test"\ndata_dir = "{cls.place.path}/data"\n')
        cls.trusted = cls.place.path / "trusted.pem"
        cls.trusted.write_text(cls.place.ca.read_text() + cls.certs.root.cert.read_text())
        cls.schema = Schema(json.loads((REPOSITORY / "docs" / "schemas" / "check-1.json").read_text()))

    def one(self, case):
        code, out, err = play(case, self.config, self.trusted)
        found, _ = differences(case, code, out, err, self.schema.errors)
        return [f"{case.name}: {'; '.join(found)}"] if found else []

    def all(self, cases, workers=WORKERS):
        self.assertEqual(len({case.name for case in cases}), len(cases), "a name is there twice")
        wrong = []
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for found in pool.map(self.one, cases):
                wrong += found
        print(f"{len(cases)} scenarios, {len(wrong)} wrong", file=sys.stderr)
        if wrong:
            self.fail("\n" + "\n".join(sorted(wrong)))

    def serve(self, kind, *arguments):
        # a directory of its own for each, under the one of the test
        place = copy.copy(self.place)
        place.path = pathlib.Path(tempfile.mkdtemp(dir=self.place.path))
        place.path.chmod(0o755)
        server = kind(place, *arguments)
        self.addCleanup(server.stop)
        return server

    def test_every_scripted_scenario(self):
        self.all(check_table.table(self.certs))

    def test_postfix(self):
        server = self.serve(check_peers.Postfix, self.certs)
        self.all(check_real.postfix(server))
        self.all(check_real.in_turn(server), workers=1)

    def test_exim(self):
        self.all(check_real.exim(self.serve(check_peers.Exim, peers.Hop(1))))

    def test_dovecot(self):
        behind = self.serve(check_peers.Postfix, self.certs)
        self.all(check_real.dovecot(self.serve(check_peers.Submission, behind.ports["none"])))

    def test_opensmtpd(self):
        self.all(check_real.opensmtpd(self.serve(peers.OpenSMTPD, peers.Hop(1))))


if __name__ == "__main__":
    unittest.main(verbosity=2)
