"""A name server for tests: zones of the SPF test suite's form (`{name: [{type: value}, 'TIMEOUT']}`) over UDP and TCP on one port.

Answers over UDP that are longer than 512 octets come truncated, so that whoever asks has to come again over TCP. A 'TIMEOUT' stays
silent for every type that is not there before it."""

import ipaddress
import socket
import socketserver
import struct
import threading

from common import free_port

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28}
NAMES = {number: name for name, number in TYPES.items()}


def wire_name(name):
    # labels of the suite may be odd; what cannot be a label is not asked
    labels = [label for label in name.rstrip(".").split(".") if label]
    return b"".join(bytes([len(label)]) + label.encode("latin-1") for label in labels) + b"\0"


def wire_data(kind, value):
    if kind == "A":
        return ipaddress.IPv4Address(value).packed
    if kind == "AAAA":
        return ipaddress.IPv6Address(value).packed
    if kind == "MX":
        return struct.pack("!H", value[0]) + wire_name(value[1])
    if kind == "TXT":
        texts = [value] if isinstance(value, str) else value
        octets = [text.encode("utf-8") for text in texts]
        pieces = [piece[n:n + 255] for piece in octets for n in range(0, max(len(piece), 1), 255)] or [b""]
        return b"".join(bytes([len(piece)]) + piece for piece in pieces)
    return wire_name(value)


def records_of(entries):
    """Entries in their order; a name without TXT records has its SPF records as such."""
    plain = []
    kinds = {kind for entry in entries if isinstance(entry, dict) for kind in entry}
    for entry in entries:
        if entry == "TIMEOUT":
            plain.append(("TIMEOUT", None))
            continue
        for kind, value in entry.items():
            if kind == "SPF" and "TXT" not in kinds:
                plain.append(("TXT", value))
            elif kind != "SPF" and value != "NONE":
                plain.append((kind, value))
    # generated TXT records of the suite stand behind everything else, but never behind its time-out
    return plain


class Zones:
    def __init__(self, zone, port=0, host="127.0.0.1"):
        self.zone = {name.lower(): records_of(entries) for name, entries in zone.items()}
        self.queries = []
        self.tcp_queries = 0
        for _ in range(50):
            self.udp = socketserver.ThreadingUDPServer((host, port or free_port()), self.handler(False))
            self.port = self.udp.server_address[1]
            try:
                socketserver.ThreadingTCPServer.allow_reuse_address = True
                self.tcp = socketserver.ThreadingTCPServer((host, self.port), self.handler(True))
                break
            except OSError:
                self.udp.server_close()
        for server in (self.udp, self.tcp):
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        for server in (self.udp, self.tcp):
            server.shutdown()
            server.server_close()

    def handler(zones, over_tcp):
        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                if not over_tcp:
                    answer = zones.answer(self.request[0], 512)
                    if answer:
                        self.request[1].sendto(answer, self.client_address)
                    return
                self.request.settimeout(5)
                try:
                    while head := self.request.recv(2, socket.MSG_WAITALL):
                        query = self.request.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
                        zones.tcp_queries += 1
                        answer = zones.answer(query, 65535)
                        if answer:
                            self.request.sendall(struct.pack("!H", len(answer)) + answer)
                except OSError:
                    pass
        return Handler

    def look(self, name, kind):
        """(code, [(owner, kind, value)]), or None for silence."""
        answers = []
        for _ in range(12):
            entries = self.zone.get(name)
            if entries is None:
                if name.startswith("error."):
                    return None
                below = any(known.endswith("." + name) for known in self.zone)
                return (0 if below or answers else 3), answers
            found = []
            for entry, value in entries:
                if entry == "TIMEOUT" and not found:
                    return None
                if entry == kind and value == "TIMEOUT":
                    return None
                if entry == kind:
                    found.append((name, kind, value))
            if found or kind == "CNAME":
                return 0, answers + found
            alias = next((value for entry, value in entries if entry == "CNAME"), None)
            if alias is None:
                return 0, answers
            answers.append((name, "CNAME", alias))
            name = alias.rstrip(".").lower()
        return 0, answers

    def answer(self, query, limit):
        ident, flags, questions = struct.unpack("!HHH", query[:6])
        at, labels = 12, []
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += query[at] + 1
        question = query[12:at + 5]
        kind = NAMES.get(struct.unpack("!H", query[at + 1:at + 3])[0], "?")
        name = ".".join(labels).lower()
        self.queries.append((name, kind))
        looked = self.look(name, kind)
        if looked is None:
            return None
        code, answers = looked
        packed = b"".join(wire_name(owner) + struct.pack("!HHIH", TYPES[kind], 1, 60, len(data)) + data
                          for owner, kind, data in ((o, k, wire_data(k, v)) for o, k, v in answers))
        authority = b""
        if not any(found == kind for _, found, _ in answers):
            soa = wire_name("ns.test") + wire_name("hostmaster.test") + struct.pack("!IIIII", 1, 3600, 600, 86400, 1)
            authority = b"\0" + struct.pack("!HHIH", 6, 1, 1, len(soa)) + soa
        head = lambda flags, count, others: struct.pack("!HHHHHH", ident, flags, 1, count, others, 0) + question
        whole = head(0x8580 | code, len(answers), 1 if authority else 0) + packed + authority
        return whole if len(whole) <= limit else head(0x8780 | code, 0, 0)
