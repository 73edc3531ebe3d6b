"""Servers that do exactly what a script says, each on a loopback address of its own, on the real ports: 25, 465, 587."""

import itertools
import socket
import struct
import threading
import time

from common import free_net

HANG, CLOSE, RESET = "!hang", "!close", "!reset"
EXTENSIONS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
LOGIN = ("AUTH PLAIN LOGIN",)

_second = free_net()
_count = itertools.count(1)


def address():
    """A loopback address that nobody else uses."""
    n = next(_count)
    return f"127.{_second}.{n // 250}.{n % 250 + 1}"


class Script:
    """`on` has the reply to each verb: a text, several texts (one for each line that follows), or octets; "." is the end of the
    message. `tls` is the context of STARTTLS, `implicit` that of TLS from the first octet. `clear` and `secure` are the extensions
    before and after TLS. HANG, CLOSE and RESET are deeds; behind a text as well."""

    def __init__(self, banner="220 mx.test ESMTP", clear=EXTENSIONS, secure=None, tls=None, implicit=None, on=None, after=None):
        self.banner, self.clear, self.secure, self.tls, self.implicit = banner, clear, secure or clear, tls, implicit
        self.on, self.after = on or {}, after if after is not None else on or {}


class Gone(Exception):
    pass


class Server:
    def __init__(self, ip, port, script):
        self.script, self.lines, self.links = script, [], []
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((ip, port))
        self.socket.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                link, _ = self.socket.accept()
            except OSError:
                return
            self.links.append(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link):
        link.settimeout(60)
        conversation = Conversation(self, link)
        try:
            conversation.run()
        except (OSError, Gone, ValueError):
            pass
        finally:
            conversation.link.close()

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        for link in self.links:
            try:
                link.close()
            except OSError:
                pass


class Conversation:
    def __init__(self, server, link):
        self.server, self.script, self.link, self.read, self.secure = server, server.script, link, b"", False

    def run(self):
        script = self.script
        if script.implicit:
            self.wrap(script.implicit)
        self.do(script.banner)
        while (line := self.line()) is not None:
            text = line.decode("utf-8", "replace")
            self.server.lines.append(text)
            self.answer(text)

    def answer(self, text):
        verb = text.split(" ")[0].upper()
        deeds = self.script.after if self.secure else self.script.on
        deed = deeds.get(verb)
        if callable(deed):
            deed = deed(text)
        if verb == "EHLO" and deed is None:
            words = self.script.secure if self.secure else (*self.script.clear, *(("STARTTLS",) if self.script.tls else ()))
            deed = "\r\n".join(f"250{'-' if n < len(words) else ' '}{word}" for n, word in enumerate(("mx.test", *words)))
        elif verb == "STARTTLS" and deed is None and self.script.tls:
            self.do("220 go ahead")
            self.wrap(self.script.tls)
            return
        elif verb == "AUTH" and not isinstance(deed, (list, tuple)):
            self.auth(text, deed)
            return
        elif verb == "DATA" and deed is None:
            self.do("354 go ahead")
            while (line := self.line()) not in (b".", None):
                pass
            if line is not None:
                self.do(deeds.get(".", "250 2.0.0 kept"))
            return
        usual = {"QUIT": "221 bye" + CLOSE, "MAIL": "250 2.1.0 ok", "RCPT": "250 2.1.5 ok", "HELO": "250 mx.test", "RSET": "250 ok", "NOOP": "250 ok"}
        if isinstance(deed, (list, tuple)):
            for n, one in enumerate(deed):
                if n and self.line() is None:
                    return
                self.do(one)
            return
        self.do(deed if deed is not None else usual.get(verb, "502 5.5.2 what?"))

    def auth(self, text, deed):
        """Whatever the mechanism asks for, then the verdict."""
        words = text.split(" ")
        if words[1].upper() == "LOGIN":
            for prompt in ("334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6")[len(words) - 2:]:
                self.do(prompt)
                self.line()
        elif words[1].upper() == "CRAM-MD5":
            self.do("334 PDEyMy40NTZAbXgudGVzdD4=")
            self.line()
        self.do(deed or "235 2.7.0 welcome")

    def do(self, deed):
        if isinstance(deed, Endless):
            deed.play(self.link)
            raise Gone
        octets = deed if isinstance(deed, bytes) else None
        act = None
        if octets is None:
            for one in (HANG, CLOSE, RESET):
                if deed.endswith(one):
                    deed, act = deed[:-len(one)], one
            octets = (deed + "\r\n").encode() if deed else b""
        if octets:
            self.link.sendall(octets)
        if act == HANG:
            while self.link.recv(4096):
                pass
        if act == RESET:
            self.link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if act:
            raise Gone

    def line(self):
        while b"\n" not in self.read:
            got = self.link.recv(65536)
            if not got:
                return None
            self.read += got
        line, _, self.read = self.read.partition(b"\n")
        return line.rstrip(b"\r")

    def wrap(self, context):
        self.link = context.wrap_socket(self.link, server_side=True)
        self.server.links.append(self.link)
        self.secure, self.read = True, b""


class Full:
    """A port whose queue of connections is full: attempts get no answer, as behind a firewall that drops."""

    def __init__(self, ip, port):
        self.socket = socket.socket()
        self.socket.bind((ip, port))
        self.socket.listen(0)
        self.links = []
        for _ in range(3):
            link = socket.socket()
            link.setblocking(False)
            link.connect_ex((ip, port))
            self.links.append(link)
        time.sleep(0.05)

    def close(self):
        for link in (*self.links, self.socket):
            link.close()


class Endless:
    """A reply without an end: the head once, then the piece again and again."""

    def __init__(self, head, piece):
        self.head, self.piece = head, piece

    def play(self, link):
        link.sendall(self.head)
        end = time.time() + 30
        while time.time() < end:
            link.sendall(self.piece)
