"""The peers themselves, without Pillarbox: each takes mail from swaks and passes it on unharmed. If this fails, the other
tests prove nothing."""

import unittest

import peers
from common import Catch, Place, message, need, run


class Peers(unittest.TestCase):
    def setUp(self):
        need("swaks", "openssl", "unshare")
        self.place, self.catch = Place("peers"), Catch()
        self.addCleanup(self.place.remove)
        self.addCleanup(self.catch.stop)

    def check(self, kind):
        peer = kind(self.place, peers.Hop(self.catch.port))
        self.addCleanup(peer.stop)
        ways = [(peer.port, False, kind is not peers.OpenSMTPD)]
        if peer.auth_port:
            ways.append((peer.auth_port, True, True))
        for port, auth, tls in ways:
            subject = f"{kind.__name__.lower()}-{'auth' if auth else 'open'}"
            file = self.place.path / subject
            file.write_bytes(message(subject, "a@sender.test", "b@dest.test"))
            credentials = ("--auth", "PLAIN", "--auth-user", peers.USER, "--auth-password", peers.PASSWORD) if auth else ()
            try:
                run("swaks", "--server", "127.0.0.1", "--port", port, *(("--tls",) if tls else ()), *credentials, "--from", "a@sender.test",
                    "--to", "b@dest.test", "--data", f"@{file}", "--suppress-data")
                mail = self.catch.wait(subject)
            except Exception as error:
                self.fail(f"{error}\n{peer.log()}")
            self.assertIn(b"last line", mail.body)

    def test_postfix(self):
        self.check(peers.Postfix)

    def test_exim(self):
        self.check(peers.Exim)

    def test_opensmtpd(self):
        self.check(peers.OpenSMTPD)


if __name__ == "__main__":
    unittest.main(verbosity=2)
