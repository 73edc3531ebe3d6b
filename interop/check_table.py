"""Scripted scenarios for `pillarbox check`, each with what has to be found: result, reason, stage, reply code, sign, owner, fix, way.

A row says what an experienced postmaster would say, not what the program happened to say."""

import dataclasses
import ssl

from check_scripts import CLOSE, EXTENSIONS, HANG, LOGIN, RESET, Endless, Full, Script

CF, AF, TE, RD, TO, NO = "Connection Failed", "Authentication Failed", "TLS Error", "Relay Denied", "Timeout", "none"
YOU, PROVIDER, ADMIN, NOBODY, RECIPIENT = "you", "your_provider", "recipient_admin", "nobody", "recipient"
WITH_LOGIN = (*EXTENSIONS, *LOGIN)
USER = "--user ann@app.test"
MAIL = "--from ann@app.test --to bob@dest.test"


@dataclasses.dataclass
class Case:
    name: str
    result: str                 # "" for healthy
    reason: str                 # several that are right: a|b
    stage: str
    servers: dict               # port -> Script
    target: str = "mx.test:587"
    args: str = ""
    code: int = None
    sign: str = None
    owner: str = None
    fix: str = None             # words of the fixes or of the title; several that are right: a|b
    works: tuple = None         # (port, mode)
    warnings: tuple = ()        # signs of warnings that are right
    also: tuple = ()            # signs or reasons of further problems that are right
    connect: bool = True        # --connect-to the first port
    password: str = None        # instead of a wrong one


def table(certs):
    cases = []

    def add(name, result, reason, stage, script=None, servers=None, **more):
        port = int(more.get("target", "mx.test:587").rpartition(":")[2] or 587)
        cases.append(Case(name, result, reason, stage, servers if servers is not None else {port: script}, **more))

    good = certs.tls("good")
    starttls(add, certs, good)
    connection(add, good)
    banner(add, good)
    hello(add, good)
    auth(add, good)
    envelope(add, good)
    return cases


def tls_script(context, **more):
    return Script(tls=context, **more)


def starttls(add, certs, good):
    for name, reason, words, owner in (
        ("expired", "certificate_expired", "renew|expired", ADMIN), ("yesterday", "certificate_expired", "renew|expired", ADMIN),
        ("future", "certificate_not_yet_valid", "clock|not yet valid", None), ("name", "certificate_name", "mail.elsewhere.test", None),
        ("own", "certificate_untrusted", "itself|self-signed", None), ("unknown", "certificate_untrusted", "authority|chain", None),
        ("unknownroot", "certificate_untrusted", "authority|chain", None), ("missing", "certificate_untrusted", "intermediate", ADMIN),
        ("weak", "tls_cipher|certificate_untrusted", "weak|2048|key", ADMIN), ("sha1", "tls_cipher|certificate_untrusted", "weak|SHA-1|signature", ADMIN),
        ("stale", "certificate_expired|certificate_untrusted", "expired|intermediate|renew", ADMIN),
        ("client", "certificate_untrusted", "server|purpose|usage|key", ADMIN), ("colours", "certificate_name", "mail.elsewhere.test", None),
    ):
        add(f"certificate {name} behind STARTTLS", TE, reason, "tls", tls_script(certs.tls(name)), owner=owner, fix=words)
        add(f"certificate {name} with implicit TLS", TE, reason, "tls", Script(implicit=certs.tls(name)), target="mx.test:465", owner=owner, fix=words)
    add("certificate of an inspecting program", TE, "middlebox", "tls", tls_script(certs.tls("shield")), sign="certificate_intercepted", fix="Exempt|mail shield", owner=YOU)
    add("healthy certificate of a wildcard", "", "", "", tls_script(certs.tls("wild")), target="mail.example.test:587")
    for name in ("good", "chain", "whole", "rsa", "short", "many", "long"):
        add(f"healthy certificate {name}", "", "", "", tls_script(certs.tls(name)))
    add("certificate that ends soon", "", "", "", tls_script(certs.tls("soon")), warnings=("certificate_ends_soon",))
    add("certificate without alternative names", TE, "certificate_name", "tls", tls_script(certs.tls("cn")))
    add("certificate expired, --insecure", "", "", "", tls_script(certs.tls("expired")), args="--insecure", warnings=("insecure_check",))
    add("10000 names in a certificate", TE, "tls_handshake|certificate_untrusted", "tls", tls_script(certs.tls("toomany")))
    old = dict(low=ssl.TLSVersion.TLSv1, high=ssl.TLSVersion.TLSv1)
    newer = dict(low=ssl.TLSVersion.TLSv1_1, high=ssl.TLSVersion.TLSv1_1)
    add("TLS 1.0 only behind STARTTLS", TE, "tls_version", "tls", tls_script(certs.tls("good", **old)), fix="TLSv1|1.2|update", owner=ADMIN)
    add("TLS 1.1 only behind STARTTLS", TE, "tls_version", "tls", tls_script(certs.tls("good", **newer)), fix="1.2|update")
    add("TLS 1.0 only from the first octet", TE, "tls_version", "tls", Script(implicit=certs.tls("good", **old)), target="mx.test:465", fix="1.2|update")
    add("TLS 1.2 only", "", "", "", tls_script(certs.tls("good", high=ssl.TLSVersion.TLSv1_2)))
    add("TLS 1.3 only", "", "", "", tls_script(certs.tls("good", low=ssl.TLSVersion.TLSv1_3)))
    weak = certs.tls("rsa", high=ssl.TLSVersion.TLSv1_2, ciphers="AES128-SHA:@SECLEVEL=0")
    add("only ciphers without forward secrecy", TE, "tls_cipher|tls_handshake", "tls", tls_script(weak), fix="cipher|ECDHE")
    add("STARTTLS not offered and required", TE, "starttls_missing", "tls", Script(), args="--tls starttls", fix="465|STARTTLS")
    add("STARTTLS not offered and not required", "", "", "", Script(), warnings=("no_starttls",))
    add("STARTTLS taken out of the answer", TE, "middlebox", "tls", Script(on={"STARTTLS": "220 go ahead" + HANG}), args="--tls starttls --timeout 4",
        sign="starttls_stripped", fix="465|device|STARTTLS")
    add("STARTTLS crossed out", TE, "middlebox", "tls", Script(clear=("XXXXXXXA", "SIZE 100000")), args="--tls starttls", sign="starttls_stripped", fix="465")
    add("STARTTLS 454", TE, "tls_handshake|auth_temporary|server_error|starttls_missing", "tls",
        tls_script(good, on={"STARTTLS": "454 4.7.0 TLS not available due to local problem"}), code=454, fix="certificate|key", owner=ADMIN)
    add("STARTTLS 502", TE, "starttls_missing|tls_handshake", "tls", tls_script(good, on={"STARTTLS": "502 5.5.1 not implemented"}), code=502)
    add("STARTTLS 501", TE, "starttls_missing|tls_handshake", "tls", tls_script(good, on={"STARTTLS": "501 5.5.4 no parameters"}), code=501)
    add("STARTTLS 220 and close", TE, "tls_handshake", "tls", tls_script(good, on={"STARTTLS": "220 go ahead" + CLOSE}))
    add("STARTTLS 220 and reset", TE, "tls_handshake", "tls", tls_script(good, on={"STARTTLS": "220 go ahead" + RESET}))
    add("STARTTLS 220 and silence", f"{TE}|{TO}", "tls_handshake|session_timeout", "tls", tls_script(good, on={"STARTTLS": "220 go ahead" + HANG}), args="--timeout 4")
    add("STARTTLS 220 and plain text", TE, "tls_handshake|middlebox|wrong_tls_mode", "tls", tls_script(good, on={"STARTTLS": "220 go ahead\r\n250 mx.test still in clear"}))
    add("STARTTLS 220 and then plain replies", TE, "tls_handshake|middlebox|wrong_tls_mode", "tls", Script(clear=(*EXTENSIONS, "STARTTLS"), on={"STARTTLS": "220 go ahead"}))
    add("STARTTLS without an answer", TO, "session_timeout|tls_handshake", "tls", tls_script(good, on={"STARTTLS": HANG}), args="--timeout 4")
    add("EHLO behind TLS refused", NO, "command_syntax|connection_rejected|bad_helo|refused_permanently", "ehlo", tls_script(good, on={}, after={"EHLO": "550 5.7.1 no"}), code=550)
    add("EHLO behind TLS without an answer", TO, "session_timeout", "ehlo", tls_script(good, after={"EHLO": HANG}), args="--timeout 4")
    add("close behind TLS", CF, "disconnected", "ehlo", tls_script(good, after={"EHLO": CLOSE}))
    add("implicit TLS asked for on a STARTTLS port", TE, "wrong_tls_mode", "tls", tls_script(good), args="--tls implicit", sign="wrong_tls_mode_implicit",
        works=(587, "starttls"), fix="starttls", owner=YOU)
    add("implicit TLS asked for on a port without TLS", TE, "wrong_tls_mode", "tls", Script(), args="--tls implicit", sign="wrong_tls_mode_implicit", owner=YOU)
    add("STARTTLS asked for on an implicit port", TE, "wrong_tls_mode", "banner", Script(implicit=good), target="mx.test:465", args="--tls starttls --timeout 5",
        sign="wrong_tls_mode_starttls", works=(465, "implicit"), fix="implicit", owner=YOU)
    add("no TLS asked for on an implicit port", TE, "wrong_tls_mode", "banner", Script(implicit=good), target="mx.test:465", args="--tls none --timeout 5",
        sign="wrong_tls_mode_starttls", works=(465, "implicit"), owner=YOU)
    add("implicit TLS on 587, mode left open", "", "", "", Script(implicit=good), args="--timeout 5", warnings=("tls_mode_unusual",), works=(587, "implicit"))
    add("plain SMTP on 465, mode left open", "", "", "", tls_script(good), target="mx.test:465", warnings=("tls_mode_unusual",), works=(465, "starttls"))
    add("implicit TLS asked for on 587, 465 works", TE, "wrong_tls_mode", "tls", servers={587: tls_script(good), 465: Script(implicit=good)}, args="--tls implicit",
        sign="wrong_tls_mode_implicit", works=(587, "starttls"))
    add("healthy implicit TLS", "", "", "", Script(implicit=good), target="mx.test:465")
    add("healthy STARTTLS on 25", "", "", "", tls_script(good), target="mx.test:25")
    add("healthy STARTTLS on 2525", "", "", "", tls_script(good), target="mx.test:2525")
    add("healthy without TLS as asked", "", "", "", tls_script(good), args="--tls none")
    add("handshake refused by the server with an alert", TE, "tls_handshake|tls_cipher|tls_version", "tls",
        Script(banner=b"\x15\x03\x03\x00\x02\x02\x28"), target="mx.test:465")
    add("octets of TLS before TLS began", TE, "middlebox", "tls", tls_script(good, on={"STARTTLS": b"220 go ahead\r\n\x15\x03\x03\x00\x02\x02\x28"}))


def connection(add, good):
    add("closed port", CF, "connection_refused", "tcp", servers={}, fix="port|listen|service", sign=None)
    add("closed 587, 465 works", CF, "connection_refused", "tcp", servers={465: Script(implicit=good)}, works=(465, "implicit"))
    add("closed 25, 587 works", CF, "connection_refused", "tcp", servers={587: Script(tls=good)}, target="mx.test:25", works=(587, "starttls"))
    add("closed 465, 587 works", CF, "connection_refused", "tcp", servers={587: Script(tls=good)}, target="mx.test:465", works=(587, "starttls"))
    add("closed 587, 2525 works", CF, "connection_refused", "tcp", servers={2525: Script(tls=good)}, works=(2525, "starttls"))
    add("port without an answer", TO, "connection_timeout", "tcp", servers={587: Full}, args="--timeout 4", fix="firewall|port")
    add("587 without an answer, 465 works", TO, "connection_timeout", "tcp", servers={587: Full, 465: Script(implicit=good)}, args="--timeout 4", works=(465, "implicit"))
    add("25 without an answer, 587 works", TO, "connection_timeout", "tcp", servers={25: Full, 587: Script(tls=good)}, target="mx.test:25", args="--timeout 4", works=(587, "starttls"))
    add("reset behind the opening", CF, "disconnected", "banner", Script(banner=RESET))
    add("closed behind the opening", CF, "disconnected|connection_rejected", "banner", Script(banner=CLOSE))
    add("silence", TO, "session_timeout", "banner", Script(banner=HANG), args="--timeout 3")
    add("silence, short limit", TO, "session_timeout", "banner", Script(banner=HANG), args="--timeout 1")


def banner(add, good):
    add("banner 554", CF, "connection_rejected", "banner", Script(banner="554 5.7.1 No SMTP service for you" + CLOSE), code=554)
    add("banner 554 bare", CF, "connection_rejected", "banner", Script(banner="554 mx.test"), code=554)
    add("banner 554 blocklist", CF, "ip_blocklisted", "banner", Script(banner="554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; "
        "https://www.spamhaus.org/query/ip/192.0.2.1" + CLOSE), code=554, fix="zen.spamhaus.org|delist|spamhaus", owner=YOU)
    add("banner 421 busy", CF, "server_busy", "banner", Script(banner="421 4.3.2 Service not available, try again later" + CLOSE), code=421, owner=NOBODY)
    add("banner 421 too many", CF, "too_many_connections", "banner", Script(banner="421 4.7.0 mx.test Error: too many connections from 192.0.2.1" + CLOSE), code=421)
    add("banner 421 load", CF, "server_busy", "banner", Script(banner="421 Load average too high, try again later" + CLOSE), code=421)
    add("banner 450 greylist", CF, "greylisted|server_busy", "banner", Script(banner="450 4.7.1 Greylisted, try again in 300 seconds" + CLOSE), code=450)
    add("banner 550 no PTR", CF, "reverse_dns", "banner", Script(banner="550 5.7.1 Connection refused, no PTR record for 192.0.2.1" + CLOSE), code=550, fix="reverse|PTR")
    for name, text, service in (("HTTP", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n", "HTTP"), ("POP3", "+OK Dovecot ready.", "POP3"),
                                ("IMAP", "* OK [CAPABILITY IMAP4rev1 STARTTLS] Dovecot ready.", "IMAP"), ("SSH", "SSH-2.0-OpenSSH_9.6", "SSH"),
                                ("FTP", "220 (vsFTPd 3.0.5)", "FTP"), ("FTP of others", "220 ProFTPD Server ready.", "FTP"), ("LMTP", "220 mx.test LMTP Dovecot ready", "LMTP"),
                                ("NNTP", "200 news.test NNRP Service Ready - posting ok (NNTP)", "NNTP"), ("ManageSieve", '"IMPLEMENTATION" "Dovecot Pigeonhole"', "Sieve")):
        add(f"banner of {name}", CF, "wrong_service", "banner|ehlo", Script(banner=text, on={"EHLO": "500 unknown", "HELO": "500 unknown"}), sign="not_a_mail_server", fix=service, owner=YOU)
    add("banner of MySQL", CF, "wrong_service", "banner", Script(banner=b"J\0\0\0\x0a8.0.36\0\x08\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xdf\x15" + b"\0" * 10 + b"abcdefghijkl\0caching_sha2_password\0"),
        sign="not_a_mail_server", fix="MySQL")
    add("HTTP that waits for us", CF, "wrong_service", "banner|ehlo", Script(banner="", on={"EHLO": "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n" + CLOSE}), args="--timeout 4",
        sign="not_a_mail_server", fix="HTTP")
    add("HTTPS", f"{CF}", "wrong_service", "banner", Script(implicit=good, banner="", on={"EHLO": "HTTP/1.1 400 Bad Request\r\n" + CLOSE}), args="--timeout 5", target="mx.test:587",
        sign="not_a_mail_server", fix="HTTPS")
    add("IMAPS on the port", CF, "wrong_service", "banner", Script(implicit=good, banner="* OK [CAPABILITY IMAP4rev1] Dovecot ready."), args="--timeout 5", sign="not_a_mail_server", fix="IMAP")
    add("garbage", CF, "wrong_service", "banner", Script(banner=b"\xff\xfe\0garbage\x07\r\nmore\r\n"))
    add("banner without a code", CF, "wrong_service", "banner", Script(banner="mx.test ESMTP ready"))
    add("starred banner", "", "", "", Script(banner="220 ***************************0*2******0***********", tls=good), warnings=("banner_masked",))
    add("banner of many lines", "", "", "", Script(banner="220-mx.test ESMTP\r\n220-No spam here\r\n220 Thank you", tls=good))
    add("late banner in two parts", "", "", "", Script(banner="220-mx.test please wait\r\n220 mx.test ESMTP", tls=good))
    add("banner that never ends", f"{TO}|{CF}", "session_timeout|wrong_service", "banner", Script(banner=Endless(b"", b"220-" + b"x" * 400 + b"\r\n")), args="--timeout 3")
    add("banner of one endless line", f"{TO}|{CF}", "session_timeout|wrong_service", "banner", Script(banner=Endless(b"220 ", b"x" * 4096)), args="--timeout 3")
    add("banner of a megabyte", "", "", "", Script(banner=b"220 " + b"A" * 1_000_000 + b"\r\n", tls=good))
    add("banner with colours", "", "", "", Script(banner="220 mx.test \x1b[31mESMTP\x1b]0;title\x07", tls=good))
    add("banner with a NUL", "", "", "", Script(banner=b"220 mx\0.test ESMTP\r\n", tls=good))
    add("old bare line ends", "", "", "", Script(banner=b"220 mx.test ESMTP\n", tls=good))


def hello(add, good):
    add("EHLO 502, HELO works", "", "", "", Script(on={"EHLO": "502 5.5.2 Command not implemented"}), warnings=("helo_only", "no_starttls"))
    add("EHLO 500, HELO works", "", "", "", Script(on={"EHLO": "500 unrecognized command"}), warnings=("helo_only", "no_starttls"))
    add("EHLO and HELO 502", NO, "command_syntax|connection_rejected", "ehlo", Script(on={"EHLO": "502 no", "HELO": "502 no"}), code=502)
    add("EHLO 421", CF, "server_busy|disconnected", "ehlo", Script(on={"EHLO": "421 4.3.2 going down" + CLOSE}), code=421)
    add("EHLO 550 name", NO, "bad_helo", "ehlo", Script(on={"EHLO": "550 5.7.1 <here.test>: Helo command rejected: Access denied", "HELO": "550 5.7.1 no"}), code=550, owner=YOU)
    add("EHLO 504 name", NO, "bad_helo", "ehlo", Script(on={"EHLO": "504 5.5.2 <here>: Helo command rejected: need fully-qualified hostname",
        "HELO": "504 5.5.2 <here>: Helo command rejected: need fully-qualified hostname"}), code=504, fix="hostname|qualified|--helo|name")
    add("EHLO 501 name", NO, "bad_helo", "ehlo", Script(on={"EHLO": "501 5.5.2 Helo command rejected: Invalid name", "HELO": "501 5.5.2 no"}), code=501)
    add("EHLO 554 policy", f"{NO}|{CF}", "connection_rejected|ip_blocked|bad_helo", "ehlo", Script(on={"EHLO": "554 5.7.1 You are not allowed to connect"}), code=554)
    add("EHLO without an answer", TO, "session_timeout", "ehlo", Script(on={"EHLO": HANG}), args="--timeout 4")
    add("EHLO half an answer", TO, "session_timeout", "ehlo", Script(on={"EHLO": b"250-mx.test\r\n250-SIZE 1000\r\n"}), args="--timeout 4")
    add("close at EHLO", CF, "disconnected|bad_helo", "ehlo", Script(on={"EHLO": CLOSE}))
    add("reset at EHLO", CF, "disconnected|bad_helo", "ehlo", Script(on={"EHLO": RESET}))
    add("endless EHLO", f"{TO}|{CF}", "session_timeout|wrong_service", "ehlo", Script(on={"EHLO": Endless(b"250-mx.test\r\n", b"250-X" + b"y" * 60 + b"\r\n")}), args="--timeout 3")
    add("garbage at EHLO", CF, "wrong_service", "ehlo", Script(on={"EHLO": b"\0\1\2\3\r\n"}))
    add("greeting twice", CF, "middlebox", "ehlo", Script(banner=b"220 mx.test ESMTP\r\n220 proxy ready\r\n"), sign="out_of_step")
    add("thousand extensions", "", "", "", Script(clear=tuple(f"XTEST{n} a b c" for n in range(90)), tls=good))
    add("escapes in extensions", "", "", "", Script(clear=("\x1b[2JCOLOUR", "SIZE 1000000"), tls=good))


def auth(add, good):
    for host, code, text, reason, words, owner in AUTH:
        name = f"AUTH {host} {code} {text[:100]}"
        script = Script(tls=good, secure=WITH_LOGIN, after={"AUTH": f"{code} {text}" if "\n" not in text else text})
        add(name, f"{AF}|{TE}" if "TLS" in (words or "") else AF, reason, "auth", script, target=f"{host}:587", args=f"{USER} --insecure", code=code, fix=words, owner=owner, warnings=("insecure_check",), also=("credential",))
    add("healthy AUTH", "", "", "", Script(tls=good, secure=WITH_LOGIN), args=USER)
    add("healthy AUTH LOGIN", "", "", "", Script(tls=good, secure=(*EXTENSIONS, "AUTH LOGIN")), args=USER)
    add("healthy AUTH CRAM-MD5", "", "", "", Script(tls=good, secure=(*EXTENSIONS, "AUTH CRAM-MD5")), args=USER)
    add("healthy AUTH= of old servers", "", "", "", Script(tls=good, secure=(*EXTENSIONS, "AUTH=LOGIN PLAIN", "AUTH LOGIN PLAIN")), args=USER)
    add("healthy AUTH on 465", "", "", "", Script(implicit=good, secure=WITH_LOGIN), target="mx.test:465", args=USER)
    add("AUTH not offered", AF, "auth_not_offered", "auth", Script(tls=good), args=USER, sign="auth_not_offered", fix="587|465|sign-in", code=None)
    add("AUTH offered before TLS only", AF, "auth_not_offered", "auth", Script(tls=good, clear=WITH_LOGIN, secure=EXTENSIONS), args=USER, sign="auth_only_before_tls",
        owner=ADMIN, warnings=("auth_in_clear_offered",))
    add("AUTH behind TLS only, TLS switched off", AF, "auth_needs_tls", "auth", Script(tls=good, secure=WITH_LOGIN), args=f"{USER} --tls none", sign="auth_only_after_tls", fix="STARTTLS")
    add("AUTH in clear only", AF, "auth_needs_tls", "auth", Script(clear=WITH_LOGIN), args=f"{USER}", fix="TLS|encrypt", warnings=("auth_in_clear_offered", "no_starttls"))
    add("AUTH in clear, allowed", "", "", "", Script(clear=WITH_LOGIN), args=f"{USER} --tls none --allow-plaintext-auth", warnings=("auth_in_clear_offered",))
    add("AUTH by other mechanisms only", AF, "mechanism_unsupported", "auth", Script(tls=good, secure=(*EXTENSIONS, "AUTH GSSAPI DIGEST-MD5")), args=USER, fix="GSSAPI|mechanism")
    add("AUTH by OAuth only, password given", AF, "mechanism_unsupported|basic_auth_retired", "auth", Script(tls=good, secure=(*EXTENSIONS, "AUTH XOAUTH2")), args=USER, fix="OAuth|mechanism|XOAUTH2")
    oauth = (*EXTENSIONS, "AUTH XOAUTH2 OAUTHBEARER")
    error = "334 eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2xlLmNvbS8ifQ=="
    add("OAuth token refused with JSON", AF, "oauth_token", "auth", Script(tls=good, secure=oauth, after={"AUTH": [error, "535 5.7.8 no"]}), args=f"{USER} --auth XOAUTH2", also=("credential",),
        sign="oauth_challenge", fix="token", code=None)
    add("OAuth token refused by Google", AF, "oauth_token", "auth", Script(tls=good, secure=oauth, after={"AUTH": [error, "535-5.7.8 Username and Password not accepted. For more information, go to\r\n"
        "535 5.7.8  https://support.google.com/mail/?p=BadCredentials x-gsmtp"]}), target="smtp.gmail.com:587", args=f"{USER} --auth XOAUTH2 --insecure", fix="token", warnings=("insecure_check",), also=("credential",))
    add("OAuth token refused by Microsoft", AF, "oauth_token|credentials_invalid", "auth", Script(tls=good, secure=oauth, after={"AUTH": "535 5.7.3 Authentication unsuccessful [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]"}),
        target="smtp.office365.com:587", args=f"{USER} --auth XOAUTH2 --insecure", code=535, fix="token|OAuth", warnings=("insecure_check",), also=("credential",))
    add("healthy OAuth", "", "", "", Script(tls=good, secure=oauth), args=f"{USER} --auth XOAUTH2")
    add("close at AUTH", CF, "disconnected", "auth", Script(tls=good, secure=WITH_LOGIN, after={"AUTH": [CLOSE]}), args=USER)
    add("no answer to AUTH", TO, "session_timeout", "auth", Script(tls=good, secure=WITH_LOGIN, after={"AUTH": [HANG]}), args=f"{USER} --timeout 4")
    add("close behind the password", CF, "disconnected", "auth", Script(tls=good, secure=(*EXTENSIONS, "AUTH LOGIN"), after={"AUTH": ["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", CLOSE]}), args=USER)
    add("nonsense at AUTH", f"{AF}|{CF}", "auth_protocol|wrong_service", "auth", Script(tls=good, secure=(*EXTENSIONS, "AUTH CRAM-MD5"), after={"AUTH": ["334 !!!not base64!!!", "535 no"]}), args=USER)


# host, code, text, reason, words of the fix, owner
AUTH = (
    ("mx.test", 535, "5.7.8 Error: authentication failed: UGFzc3dvcmQ6", "credentials_invalid", "password|user", YOU),
    ("mx.test", 535, "Incorrect authentication data", "credentials_invalid", "password|user", YOU),
    ("mx.test", 535, "5.7.0 Invalid login or password", "credentials_invalid", "password", YOU),
    ("mx.test", 535, "5.7.8 Authentication credentials invalid", "credentials_invalid", "password", YOU),
    ("mx.test", 535, "5.7.1 authentication failed", "credentials_invalid", "password", YOU),
    ("mx.test", 530, "5.7.0 Must issue a STARTTLS command first", "tls_required|auth_needs_tls", "STARTTLS|TLS", YOU),
    ("mx.test", 538, "5.7.11 Encryption required for requested authentication mechanism", "auth_needs_tls|tls_required", "TLS|encrypt", YOU),
    ("mx.test", 534, "5.7.9 Authentication mechanism is too weak", "mechanism_unsupported", "mechanism", YOU),
    ("mx.test", 504, "5.5.4 Unrecognized authentication type", "mechanism_unsupported", "mechanism", YOU),
    ("mx.test", 503, "5.5.1 Error: authentication not enabled", "auth_not_offered|auth_disabled|command_sequence", None, None),
    ("mx.test", 502, "5.5.1 AUTH not available", "auth_not_offered|auth_disabled", None, None),
    ("mx.test", 501, "5.5.2 Cannot decode response", "auth_protocol", None, None),
    ("mx.test", 454, "4.7.0 Temporary authentication failure: Connection lost to authentication server", "auth_temporary", None, PROVIDER),
    ("mx.test", 454, "4.3.0 Try again later", "auth_temporary", None, None),
    ("mx.test", 421, "4.7.0 mx.test Error: too many errors", "auth_temporary|account_locked|rate_limited|too_many_connections|server_busy", None, None),
    ("mx.test", 525, "5.7.13 User account disabled", "account_suspended|auth_disabled|account_locked|credentials_invalid", "account|disabled", None),
    ("mx.test", 535, "5.7.8 Account locked due to too many failed logins", "account_locked", "wait|lock", YOU),
    ("mx.test", 535, "5.7.8 Error: authentication failed: password expired", "credentials_invalid", "expired", YOU),
    ("smtp.office365.com", 535, "5.7.3 Authentication unsuccessful [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]", "credentials_invalid", None, YOU),
    ("smtp.office365.com", 535, "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled for more information.", "auth_disabled",
     "Set-TransportConfig|SMTP AUTH|SmtpClientAuthentication", None),
    ("smtp.office365.com", 535, "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. Visit https://aka.ms/smtp_auth_disabled for more information.", "auth_disabled",
     "Set-CASMailbox|mailbox", None),
    ("smtp.office365.com", 535, "5.7.139 Authentication unsuccessful, the user credentials were incorrect.", "credentials_invalid", "password", YOU),
    ("smtp.office365.com", 535, "5.7.139 Authentication unsuccessful, basic authentication is disabled.", "basic_auth_retired|auth_disabled", "OAuth|Security|basic", None),
    ("smtp.office365.com", 535, "5.7.139 Authentication unsuccessful, user is locked by your organization's security defaults policy. Contact your administrator.", "auth_disabled|account_locked|basic_auth_retired", "security defaults|Security", None),
    ("smtp.office365.com", 535, "5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated successfully. Contact your administrator.", "auth_disabled|credentials_invalid|basic_auth_retired|login_challenge|login_address_refused", "conditional access|Conditional Access", None),
    ("smtp.office365.com", 535, "5.7.139 Authentication unsuccessful, user password has expired.", "credentials_invalid", "expired|password", YOU),
    ("smtp.office365.com", 550, "5.7.30 Basic authentication is not supported for Client Submission.", "basic_auth_retired", "OAuth", None),
    ("smtp.gmail.com", 535, "535-5.7.8 Username and Password not accepted. For more information, go to\r\n535 5.7.8  https://support.google.com/mail/?p=BadCredentials x-gsmtp", "credentials_invalid|app_password_required", "app password", YOU),
    ("smtp.gmail.com", 534, "534-5.7.9 Application-specific password required. For more information, go to\r\n534 5.7.9  https://support.google.com/mail/?p=InvalidSecondFactor x-gsmtp", "app_password_required", "app password", YOU),
    ("smtp.gmail.com", 534, "534-5.7.14 <https://accounts.google.com/signin/continue?sarp=1&scc=1> Please log in via your web browser and then try again.\r\n534 5.7.14 https://support.google.com/mail/?p=WebLoginRequired x-gsmtp", "login_challenge", "browser", YOU),
    ("smtp.gmail.com", 454, "4.7.0 Too many login attempts, please try again later. x-gsmtp", "account_locked|rate_limited", None, None),
    ("smtp.gmail.com", 454, "4.7.0 Cannot authenticate due to a temporary system problem. Try again later. x-gsmtp", "auth_temporary", None, None),
    ("smtp.gmail.com", 534, "5.7.9 Please log in with your web browser and then try again. x-gsmtp", "login_challenge|app_password_required", "browser", YOU),
    ("email-smtp.eu-west-1.amazonaws.com", 535, "Authentication Credentials Invalid", "credentials_invalid", "SMTP", YOU),
    ("smtp.sendgrid.net", 535, "Authentication failed: Bad username / password", "credentials_invalid", "apikey|API key", YOU),
    ("smtp.sendgrid.net", 535, "Authentication failed: The provided authorization grant is invalid, expired, or revoked", "credentials_invalid", "API key|key", YOU),
    ("smtp.sendgrid.net", 451, "Authentication failed: Maximum credits exceeded", "quota_exceeded", "plan|credits", None),
    ("smtp.mail.yahoo.com", 535, "5.7.0 (#AUTH005) Too many bad auth attempts.", "account_locked|credentials_invalid", None, YOU),
    ("smtp.mail.yahoo.com", 535, "5.7.0 (#MBR1212) Incorrect username or password.", "credentials_invalid|app_password_required", "app password", YOU),
    ("smtp.zoho.com", 535, "Authentication Failed", "credentials_invalid|app_password_required", "app|region|password", YOU),
    ("smtp.mailgun.org", 535, "5.7.0 Mailgun is not loving your login or password", "credentials_invalid", "password|SMTP", YOU),
    ("smtp.postmarkapp.com", 535, "5.7.8 Error: authentication failed:", "credentials_invalid", "token", YOU),
    ("smtp-relay.brevo.com", 535, "5.7.8 Authentication failed", "credentials_invalid", "SMTP key|key", YOU),
    ("smtp-relay.brevo.com", 502, "5.7.0 Your SMTP account is not yet activated. Contact us at contact@sendinblue.com", "account_suspended|auth_disabled", "activat", None),
    ("smtp.mail.me.com", 535, "5.7.8 Error: authentication failed: authentication failure", "credentials_invalid|app_password_required", "app-specific|app password", YOU),
    ("in-v3.mailjet.com", 535, "5.7.8 Error: authentication failed: generic failure", "credentials_invalid", "API key|key", YOU),
    ("smtp.gmx.net", 535, "Authentication credentials invalid", "credentials_invalid|auth_disabled|app_password_required", "POP3|IMAP|password", YOU),
)

# stage, code, text, reason, result, words, owner
REPLIES = (
    ("sender", 530, "5.7.0 Authentication required", "auth_required", AF, "sign|user", YOU),
    ("sender", 530, "5.7.0 Must issue a STARTTLS command first", "tls_required", TE, "TLS", YOU),
    ("sender", 530, "5.5.1 Invalid command: Must issue an AUTH command first", "auth_required", AF, "sign|user", YOU),
    ("sender", 550, "5.7.1 <ann@app.test>: Sender address rejected: Access denied", "sender_rejected|sender_not_allowed", f"{NO}|{RD}", None, YOU),
    ("sender", 553, "5.7.1 <ann@app.test>: Sender address rejected: not owned by user ann", "sender_not_allowed", RD, None, YOU),
    ("sender", 553, "5.7.1 <ann@app.test>: Sender address rejected: not logged in", "auth_required", AF, "sign|user", YOU),
    ("sender", 550, "5.1.8 <ann@app.test>: Sender address rejected: Domain not found", "sender_domain", NO, "DNS|domain|MX", YOU),
    ("sender", 450, "4.1.8 <ann@app.test>: Sender address rejected: Domain not found", "sender_domain", NO, "DNS|domain|MX", YOU),
    ("sender", 452, "4.3.1 Insufficient system storage", "storage_full", NO, None, ADMIN),
    ("sender", 552, "5.3.4 Message size exceeds fixed limit", "too_large", NO, None, YOU),
    ("sender", 501, "5.1.7 Bad sender address syntax", "sender_syntax", NO, None, YOU),
    ("sender", 501, "5.5.4 Syntax error in parameters", "command_syntax|sender_syntax", NO, None, None),
    ("sender", 421, "4.4.2 mx.test Error: timeout exceeded", "server_busy|disconnected|session_timeout", f"{NO}|{CF}|{TO}", None, None),
    ("sender", 451, "4.3.0 Temporary server error. Please try again later", "server_error|server_busy|refused_temporarily", NO, None, None),
    ("sender", 450, "4.7.1 Error: too much mail from 192.0.2.1", "rate_limited", NO, None, None),
    ("sender", 503, "5.5.1 Error: send HELO/EHLO first", "command_sequence", NO, None, None),
    ("sender", 550, "5.7.23 SPF validation failed", "spf_fail", NO, "SPF", YOU),
    ("sender", 554, "5.7.1 Service unavailable; Sender address [ann@app.test] blocked using dbl.spamhaus.org", "domain_blocklisted|ip_blocklisted", NO, None, YOU),
    ("recipient", 550, "5.1.1 <bob@dest.test>: Recipient address rejected: User unknown in virtual mailbox table", "mailbox_unknown", NO, "address", YOU),
    ("recipient", 550, "5.1.1 The email account that you tried to reach does not exist.", "mailbox_unknown", NO, "address", YOU),
    ("recipient", 550, "No such user here", "mailbox_unknown", NO, "address", YOU),
    ("recipient", 550, "5.4.1 Recipient address rejected: Access denied. [FR0P281MB0001.DEUP281.PROD.OUTLOOK.COM]", "mailbox_unknown|recipient_policy", NO, None, None),
    ("recipient", 554, "5.7.1 <bob@dest.test>: Relay access denied", "relay_denied", RD, "sign|auth|relay", YOU),
    ("recipient", 550, "5.7.1 Unable to relay", "relay_denied", RD, "sign|auth|relay", YOU),
    ("recipient", 550, "5.7.54 SMTP; Unable to relay recipient in non-accepted domain", "relay_denied", RD, "sign|auth|relay|connector", YOU),
    ("recipient", 550, "relay not permitted", "relay_denied", RD, "sign|auth|relay", YOU),
    ("recipient", 553, "sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "relay_denied", RD, "sign|auth|relay", YOU),
    ("recipient", 454, "4.7.1 <bob@dest.test>: Relay access denied", "relay_denied", RD, None, YOU),
    ("recipient", 550, "Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", "bad_helo", NO, None, YOU),
    ("recipient", 530, "SMTP authentication is required.", "auth_required", AF, "sign|user", YOU),
    ("recipient", 550, "5.7.1 Client was not authenticated", "auth_required", AF, "sign|user", YOU),
    ("recipient", 530, "5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM", "auth_required", AF, "sign|auth", YOU),
    ("recipient", 550, "5.7.1 TRANSPORT.RULES.RejectMessage; the message was rejected by organization policy", "recipient_policy|content_policy", NO, None, None),
    ("recipient", 550, "5.7.26 Unauthenticated email from app.test is not accepted due to domain's DMARC policy.", "dmarc_fail|unauthenticated", NO, "SPF|DKIM|DMARC", YOU),
    ("recipient", 450, "4.2.0 <bob@dest.test>: Recipient address rejected: Greylisted, see http://postgrey.schweikert.ch/help/dest.test.html", "greylisted", NO, "wait|again", NOBODY),
    ("recipient", 451, "4.7.1 Greylisting in action, please come back in 00:05:00", "greylisted", NO, "wait|again", NOBODY),
    ("recipient", 452, "4.2.2 The email account that you tried to reach is over quota.", "mailbox_full", NO, None, RECIPIENT),
    ("recipient", 552, "5.2.2 Mailbox full", "mailbox_full", NO, None, RECIPIENT),
    ("recipient", 552, "5.2.2 <bob@dest.test>: Recipient address rejected: Mailbox quota exceeded", "mailbox_full", NO, None, RECIPIENT),
    ("recipient", 421, "4.7.0 Too many messages from your IP, slow down", "rate_limited|too_many_connections", NO, None, None),
    ("recipient", 450, "4.7.1 Error: too many recipients from 192.0.2.1", "rate_limited|too_many_recipients", NO, None, None),
    ("recipient", 452, "4.5.3 Error: too many recipients", "too_many_recipients", NO, None, None),
    ("recipient", 452, "4.3.1 Insufficient system resources", "storage_full|server_busy", NO, None, None),
    ("recipient", 550, "5.2.1 The email account that you tried to reach is disabled.", "mailbox_disabled", NO, None, YOU),
    ("recipient", 551, "5.1.6 User not local; please try <bob@other.test>", "mailbox_moved", NO, "other.test", YOU),
    ("recipient", 550, "5.7.1 <bob@dest.test>: Recipient address rejected: Please see http://www.openspf.net/Why?s=mfrom;id=ann", "spf_fail", NO, "SPF", YOU),
    ("recipient", 550, "5.7.25 The IP address sending this message does not have a PTR record setup", "reverse_dns", NO, "PTR|reverse", None),
    ("recipient", 450, "4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]", "reverse_dns", NO, "PTR|reverse", None),
    ("recipient", 554, "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.1", "ip_blocklisted", NO, "spamhaus", YOU),
    ("recipient", 501, "5.1.3 Bad recipient address syntax", "recipient_syntax", NO, None, YOU),
    ("recipient", 550, "Sender verify failed", "sender_rejected|sender_domain|sender_not_allowed", NO, "sender", YOU),
    ("recipient", 550, "Unrouteable address", "mailbox_unknown|host_unknown", NO, "address|domain", YOU),
    ("recipient", 554, "5.1.1 bob ... Recipient bob@dest.test not listed in Domino Directory", "mailbox_unknown", NO, None, YOU),
    ("recipient", 550, "5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "mailbox_unknown", NO, "address", YOU),
    ("recipient", 450, "4.1.1 <bob@dest.test>: Recipient address rejected: unverified address: connect to 192.0.2.1[192.0.2.1]:25: Connection refused", "mailbox_unknown|server_error|refused_temporarily|connection_refused", f"{NO}|{CF}", None, None),
    ("recipient", 550, "5.7.606 Access denied, banned sending IP [192.0.2.1]. To request removal from this list please visit https://sender.office.com/", "ip_blocked|ip_blocklisted", NO, "office.com|delist", YOU),
    ("DATA", 554, "5.5.1 Error: no valid recipients", "command_sequence|refused_permanently|mailbox_unknown", NO, None, None),
    ("DATA", 550, "5.7.1 spam not accepted here", "spam_content|content_policy", NO, None, None),
    ("DATA", 451, "4.3.0 Error: queue file write error", "server_error|storage_full", NO, None, ADMIN),
    (".", 554, "5.7.1 Message rejected as spam by content filter", "spam_content", NO, None, YOU),
    (".", 550, "5.7.1 Message contains a virus (Eicar-Test-Signature)", "virus", NO, None, YOU),
    (".", 552, "5.3.4 Message size exceeds fixed maximum message size", "too_large", NO, None, YOU),
    (".", 554, "Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: ann@app.test", "sender_unverified|sandbox", RD, "verif", YOU),
    (".", 550, "The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved.", "sender_unverified", RD, "verif", YOU),
    (".", 554, "5.2.252 SendAsDenied; ann@app.test not allowed to send as bob@app.test", "sender_not_allowed", RD, "Send As|send as|permission", YOU),
    (".", 550, "5.7.60 SMTP; Client does not have permissions to send as this sender", "sender_not_allowed", RD, "send as|Send As|permission", YOU),
    (".", 451, "4.7.1 Please try again later", "greylisted|refused_temporarily|server_busy|rate_limited", NO, None, None),
    (".", 454, "Throttling failure: Maximum sending rate exceeded", "rate_limited", NO, None, YOU),
    (".", 454, "Throttling failure: Daily message quota exceeded", "quota_exceeded", NO, None, YOU),
    (".", 553, "Relaying disallowed as ann@app.test", "sender_not_allowed|relay_denied", RD, None, YOU),
    (".", 550, "5.7.1 Sandbox subdomains are for test purposes only. Please add your own domain or add the address to authorized recipients in Account Settings.", "sandbox", RD, None, YOU),
    (".", 550, "5.7.520 Access denied, Your organization does not allow external forwarding.", "content_policy|recipient_policy|sender_not_allowed|auth_disabled", f"{NO}|{RD}", None, None),
    (".", 550, "5.6.11 Invalid characters in message", "header_invalid|line_format|content_policy|banned_content", NO, None, None),
    (".", 421, "4.3.0 Temporary system problem", "server_error|server_busy|refused_temporarily", NO, None, None),
)


def envelope(add, good):
    verbs = {"sender": "MAIL", "recipient": "RCPT", "DATA": "DATA", ".": "."}
    for stage, code, text, reason, result, words, owner in REPLIES:
        at = stage if stage in ("sender", "recipient") else "message"
        args = MAIL + (" --send" if stage == "." else "")
        add(f"{stage} {code} {text[:100]}", result, reason, at, Script(tls=good, after={verbs[stage]: f"{code} {text}"}), args=args, code=code, fix=words, owner=owner)
    for stage, verb in (("sender", "MAIL"), ("recipient", "RCPT"), ("message", "DATA")):
        add(f"close at {verb}", CF, "disconnected", stage, Script(tls=good, after={verb: CLOSE}), args=MAIL)
        add(f"reset at {verb}", CF, "disconnected", stage, Script(tls=good, after={verb: RESET}), args=MAIL)
        add(f"no answer to {verb}", TO, "session_timeout", stage, Script(tls=good, after={verb: HANG}), args=f"{MAIL} --timeout 4")
        add(f"nonsense at {verb}", CF, "wrong_service|command_syntax|middlebox", stage, Script(tls=good, after={verb: b"what\r\n"}), args=MAIL)
    add("DATA granted, then closed", f"{CF}|{NO}", "disconnected|outcome_unknown", "message", Script(tls=good, after={"DATA": "354 go" + CLOSE}), args=f"{MAIL} --send")
    add("no answer to the final dot", f"{TO}|{NO}", "outcome_unknown|session_timeout", "message", Script(tls=good, after={".": HANG}), args=f"{MAIL} --send --timeout 4")
    add("closed at the final dot", f"{CF}|{NO}", "outcome_unknown|disconnected", "message", Script(tls=good, after={".": CLOSE}), args=f"{MAIL} --send")
    add("DATA answered with 250", CF, "command_sequence|middlebox|command_syntax|refused_permanently|server_error", "message", Script(tls=good, after={"DATA": "250 ok"}), args=MAIL, code=250)
    add("healthy envelope", "", "", "", Script(tls=good), args=MAIL)
    add("healthy message sent", "", "", "", Script(tls=good), args=f"{MAIL} --send")
    add("healthy null sender", "", "", "", Script(tls=good), args="--from= --to postmaster@dest.test")
    add("healthy with everything", "", "", "", Script(tls=good, secure=WITH_LOGIN), args=f"{USER} {MAIL} --to eve@dest.test --send")
    add("healthy everything on 465", "", "", "", Script(implicit=good, secure=WITH_LOGIN), target="mx.test:465", args=f"{USER} {MAIL}")
    add("healthy server of few words", "", "", "", Script(clear=(), tls=good), args=MAIL)
    add("SMTPUTF8 needed", NO, "extension_missing", "sender", Script(tls=good, secure=("SIZE 10000", "8BITMIME")), args="--from ann@app.test --to jörg@dest.test", fix="SMTPUTF8|ASCII")
    add("SMTPUTF8 offered", "", "", "", Script(tls=good), args="--from ann@app.test --to jörg@dest.test")
    add("SIZE too small", NO, "too_large", "sender", Script(tls=good, secure=("SIZE 100",)), args=MAIL, fix="size|limit")
    second = lambda text: "550 5.1.1 <eve@dest.test>: Recipient address rejected: User unknown" if "eve" in text else None
    add("one recipient of two refused", NO, "mailbox_unknown", "recipient", Script(tls=good, after={"RCPT": second}), args=f"{MAIL} --to eve@dest.test", code=550)
    relay = lambda text: None if text.endswith("@mx.test>") else "554 5.7.1 Relay access denied"
    add("relay test on a closed server", "", "", "", Script(tls=good, after={"RCPT": relay}), args="--open-relay")
    add("relay test on a server open to all", f"{NO}|{RD}", "open_relay", "recipient", Script(tls=good), args="--open-relay", sign="open_relay", fix="mynetworks|Close", owner=ADMIN)
    percent = lambda text: None if "%" in text else "554 5.7.1 Relay access denied"
    add("relay test on a server with the percent hack", f"{NO}|{RD}", "open_relay", "recipient", Script(tls=good, after={"RCPT": percent}), args="--open-relay", sign="open_relay", fix="percent|Close")
