"""Ports, certificates, processes and a small SMTP server that keeps what it gets: shared by all interop tests."""

import contextlib
import fcntl
import itertools
import os
import pathlib
import random
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / "target" / "interop"
HOST = "localhost"
KEY = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")

# What must arrive as it was sent: dots at line starts, UTF-8, a long line, no line at all.
BODY = (".\r\n..two dots\r\n.one dot\r\nUmlaute: \u00e4\u00f6\u00fc\u00df, \u20ac\r\n" + "x" * 900 + "\r\n\r\nlast line\r\n").encode()


CLAIMS = open(pathlib.Path(tempfile.gettempdir()) / "pillarbox-ports", "a+b")  # octet n is locked by the process that has number n
NETS = 1 << 16  # numbers behind all ports
claimed = set()


def claim(numbers):
    """The first of these numbers that no other test has; it is this process's until its end."""
    for number in numbers:
        if number not in claimed:
            with contextlib.suppress(OSError):
                fcntl.lockf(CLAIMS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
                claimed.add(number)
                return number
    raise RuntimeError("other tests have all of them")


def free_port():
    """Below the ports that the system gives to clients, and given to one test only: no other can take it before its server does."""
    lowest = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = claim(random.randrange(min(10_000, lowest // 2), lowest) for _ in itertools.count())
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port


def free_net():
    """The second octet of loopback addresses that are this process's alone."""
    return claim(range(NETS + 64, NETS + 192)) - NETS


def wait_ready(server, patience=60):
    """Waits until a Pillarbox says that it is ready."""
    end = time.monotonic() + patience
    while "ready" not in whole_lines(server.log):
        if server.process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"not ready\n{server.output()}")
        time.sleep(0.05)


def whole_lines(file):
    """What somebody else writes meanwhile, as far as its lines are at their end."""
    return file.read_text("utf-8", "replace").rpartition("\n")[0].splitlines() if file.exists() else []


def need(*tools):
    """Fails loudly: a test that cannot run is not a test that passed."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        raise RuntimeError(f"missing: {', '.join(missing)}; run interop/install as root")


def run(*command, **options):
    """Runs a command to its end; fails with its output."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout.decode('utf-8', 'replace')}")
    return done.stdout.decode("utf-8", "replace")


def wait_banner(port, process=None, patience=60, tls=None, host="127.0.0.1"):
    """Waits until an SMTP server greets on a port."""
    end = time.time() + patience
    last = None
    while time.time() < end:
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"server on port {port} ended with {process.returncode}")
        try:
            with socket.create_connection((host, port), 5) as s:
                s.settimeout(10)
                link = tls.wrap_socket(s, server_hostname=HOST) if tls else s
                if link.recv(200).startswith(b"220"):
                    link.sendall(b"QUIT\r\n")
                    return
        except OSError as error:
            last = error
        time.sleep(0.05)
    raise RuntimeError(f"no banner on port {port}: {last}")


class Place:
    """A directory of its own with a certificate authority and a server certificate for localhost."""

    def __init__(self, name):
        # mail servers refuse queue directories below directories others may enter
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"pillarbox-{name}-"))
        self.path.chmod(0o755)
        self.ca, self.cert, self.key = (self.path / n for n in ("ca.pem", "cert.pem", "key.pem"))
        p = self.path
        run("openssl", "req", "-x509", "-newkey", *KEY, "-nodes", "-days", "30", "-subj", "/CN=Interop test authority",
            "-keyout", p / "ca.key", "-out", self.ca)
        (p / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        run("openssl", "req", "-newkey", *KEY, "-nodes", "-subj", "/CN=localhost", "-keyout", self.key, "-out", p / "csr")
        run("openssl", "x509", "-req", "-in", p / "csr", "-CA", self.ca, "-CAkey", p / "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", p / "san", "-out", self.cert)
        self.key.chmod(0o600)

    def tls(self):
        import ssl
        return ssl.create_default_context(cafile=str(self.ca))

    def remove(self):
        if os.environ.get("KEEP"):
            print(f"kept: {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)


class Process:
    """A server in the foreground; ends with its test, by its own process id."""

    def __init__(self, command, log, **options):
        self.log = pathlib.Path(log)
        with open(self.log, "ab") as out:
            self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, **options)

    def stop(self, patience=15):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def output(self):
        return self.log.read_text(errors="replace")[-4000:]


class Mail:
    def __init__(self, sender, recipients, content):
        self.sender, self.recipients, self.content = sender, recipients, content

    @property
    def body(self):
        return self.content.partition(b"\r\n\r\n")[2]

    def header(self, name):
        head = self.content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
        for line in head.split(b"\r\n"):
            key, colon, value = line.partition(b":")
            if colon and key.strip().lower() == name.lower().encode():
                return value.strip().decode("utf-8", "replace")
        return None


class Catch:
    """The end of the line: an SMTP server that accepts all and keeps it."""

    def __init__(self):
        self.mail, self.news = [], threading.Condition()
        catch = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                try:
                    catch._converse(self)
                except OSError:
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def greeted(self, name):
        """A client said who it is."""

    def parted(self, link):
        """A client said that it wants nothing more."""

    def _converse(self, link):
        say = lambda text: link.wfile.write(text.encode() + b"\r\n")
        sender, recipients = None, []
        say("220 catch.test ESMTP")
        while line := link.rfile.readline():
            verb = line[:4].upper()
            address = line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "replace")
            if verb == b"EHLO":
                self.greeted(line[4:].strip().decode("utf-8", "replace"))
                say("250-catch.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8")
            elif verb == b"MAIL":
                sender, recipients = address, []
                say("250 ok")
            elif verb == b"RCPT" and address.startswith("nosuch"):
                say("550 5.1.1 no such user here")
            elif verb == b"RCPT":
                recipients.append(address)
                say("250 ok")
            elif verb == b"DATA":
                say("354 go ahead")
                lines = []
                while (line := link.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line[1:] if line.startswith(b".") else line)
                if not line:
                    return
                with self.news:
                    self.mail.append(Mail(sender, recipients, b"".join(lines)))
                    self.news.notify_all()
                say("250 kept")
            elif verb == b"QUIT":
                self.parted(link)
                say("221 bye")
                return
            else:
                say("250 ok")

    def wait(self, subject, patience=45):
        """The message with this subject."""
        find = lambda: next((m for m in self.mail if m.header("Subject") == subject), None)
        with self.news:
            if not self.news.wait_for(find, patience):
                have = ", ".join(str(m.header("Subject")) for m in self.mail)
                raise AssertionError(f"'{subject}' did not arrive within {patience} s (have: {have or 'nothing'})")
            return find()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def message(subject, sender, recipient, body=BODY):
    """A message with CRLF lines and 8-bit text."""
    head = (f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@interop.test>\r\n"
            f"Date: Sat, 21 Nov 2026 08:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
            "Content-Transfer-Encoding: 8bit\r\n\r\n")
    return head.encode() + body
