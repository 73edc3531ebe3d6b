"""Scenarios for `pillarbox check` with real servers, in the form of `check_table`."""

from check_peers import OWN, PASSWORD, USER
from check_table import ADMIN, AF, CF, NO, NOBODY, RD, TE, TO, YOU, Case

SIGN_IN = f"--user {USER}"
INSIDE = f"--from ann@app.test --to known@{OWN}"
OUTSIDE = "--from ann@app.test --to bob@dest.test"


def postfix(peer):
    cases = []

    def add(state, name, result="", reason="", stage="", args="", good=False, **more):
        cases.append(Case(f"Postfix {state}: {name}", result, reason, stage, {}, target=f"localhost:{peer.ports[state]}", args=args, connect=False,
                          password=PASSWORD if good else None, **more))

    # Healthy: nothing may be said of them.
    for state, tls in (("starttls", "starttls"), ("implicit", "implicit"), ("submission", "starttls"), ("modern", "starttls"), ("cert-chain", "starttls"), ("cert-rsa", "starttls")):
        add(state, f"healthy, {tls}", args=f"--tls {tls}")
        add(state, "healthy, mode left open", works=(peer.ports[state], "implicit") if tls == "implicit" else None)
    add("none", "healthy without TLS as asked", args=f"--tls none {INSIDE}")
    add("none", "no TLS offered and none demanded", args=INSIDE, warnings=("no_starttls",))
    add("none", "no TLS offered and demanded", TE, "starttls_missing", "tls", args="--tls starttls", fix="STARTTLS|465")
    for state, tls in (("submission", "starttls"), ("implicit", "implicit")):
        add(state, "healthy with sign-in, sender, recipient", args=f"--tls {tls} {SIGN_IN} {OUTSIDE}", good=True)
        add(state, "healthy, sent", args=f"--tls {tls} {SIGN_IN} {OUTSIDE} --send", good=True)
        for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-1", "SCRAM-SHA-256"):
            add(state, f"healthy with {mechanism}", args=f"--tls {tls} {SIGN_IN} --auth {mechanism}", good=True)
        add(state, "wrong password", AF, "credentials_invalid", "auth", args=f"--tls {tls} {SIGN_IN}", code=535, fix="password", owner=YOU)
        add(state, "no sign-in, stranger's recipient", f"{RD}|{AF}", "relay_denied|auth_required", "recipient", args=f"--tls {tls} {OUTSIDE}", code=554, fix="sign|auth", owner=YOU)
    for mechanism in ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"):
        add("submission", f"wrong password by {mechanism}", AF, "credentials_invalid", "auth", args=f"{SIGN_IN} --auth {mechanism}", code=535)
    add("submission", "token refused", AF, "oauth_token|credentials_invalid", "auth", args=f"{SIGN_IN} --auth XOAUTH2", also=("credential",))
    add("submission", "unknown user of the account", AF, "credentials_invalid", "auth", args="--user nobody@app.test", code=535)
    add("submission", "sign-in without TLS", AF, "auth_needs_tls", "auth", args=f"--tls none {SIGN_IN}", fix="STARTTLS")
    add("submission", "sender without TLS", TE, "tls_required", "sender", args=f"--tls none {INSIDE}", code=530, fix="TLS")
    add("before", "sign-in in clear only", AF, "auth_needs_tls", "auth", args=f"--tls none {SIGN_IN} --auth PLAIN", warnings=("auth_in_clear_offered",))
    add("before", "sign-in in clear by proof", args=f"--tls none {SIGN_IN} --auth SCRAM-SHA-256", good=True, warnings=("auth_in_clear_offered",))
    add("before", "sign-in in clear, allowed", args=f"--tls none {SIGN_IN} --allow-plaintext-auth", good=True, warnings=("auth_in_clear_offered",))
    add("starttls", "sign-in where there is none", AF, "auth_not_offered", "auth", args=SIGN_IN, sign="auth_not_offered", fix="587|465")
    add("starttls", "healthy recipient", args=INSIDE)
    add("starttls", "healthy message", args=f"{INSIDE} --send")
    add("starttls", "healthy null sender", args=f"--from= --to postmaster@{OWN}")
    add("starttls", "relay denied", RD, "relay_denied", "recipient", args=OUTSIDE, code=554, fix="sign|auth", owner=YOU)
    add("starttls", "unknown user", NO, "mailbox_unknown", "recipient", args=f"--from ann@app.test --to nobody@{OWN}", code=550, owner=YOU)
    add("starttls", "closed to strangers", args="--open-relay")
    add("submission", "closed to strangers", args="--open-relay")
    add("open", "open to strangers", f"{NO}|{RD}", "open_relay", "recipient", args="--open-relay", sign="open_relay", fix="mynetworks", owner=ADMIN)
    add("starttls", "implicit TLS asked for", TE, "wrong_tls_mode", "tls", args="--tls implicit", sign="wrong_tls_mode_implicit", works=(peer.ports["starttls"], "starttls"))
    add("implicit", "STARTTLS asked for", TE, "wrong_tls_mode", "banner", args="--tls starttls --timeout 5", sign="wrong_tls_mode_starttls", works=(peer.ports["implicit"], "implicit"))
    add("sender", "sender refused", f"{NO}|{RD}", "sender_rejected", "recipient", args=INSIDE, code=554, owner=YOU)
    add("owner", "sender of somebody else", RD, "sender_not_allowed", "recipient", args=f"{SIGN_IN} --from boss@app.test --to known@{OWN}", good=True, code=553, owner=YOU)
    add("size", "message too large", NO, "too_large", "sender", args=INSIDE, fix="size|limit")
    add("storage", "disk full", NO, "storage_full", "sender", args=INSIDE, code=452, owner=ADMIN)
    add("client", "client refused", f"{NO}|{CF}", "connection_rejected|ip_blocked|recipient_policy|content_policy", "recipient", args=INSIDE, code=554)
    add("clientnow", "client refused at once", CF, "connection_rejected|ip_blocked", "banner", code=554)
    add("helo", "name refused", NO, "bad_helo", "recipient", args=f"{INSIDE} --helo here", code=504, owner=YOU)
    add("helonow", "name refused at once", NO, "bad_helo", "ehlo", args="--helo here", code=504, owner=YOU)
    add("helo", "healthy name", args=INSIDE)
    add("grey", "greylisted", NO, "greylisted", "recipient", args=INSIDE, code=450, owner=NOBODY)
    add("recipients", "too many recipients", NO, "too_many_recipients", "recipient", args=f"{INSIDE} --to postmaster@{OWN}", code=452)
    add("ascii", "SMTPUTF8 needed", NO, "extension_missing", "sender", args=f"--from ann@app.test --to jörg@{OWN}", fix="SMTPUTF8")
    add("old", "TLS 1.0 only", TE, "tls_version", "tls", fix="1.2", owner=ADMIN)
    add("old11", "TLS 1.1 only", TE, "tls_version", "tls", fix="1.2")
    add("nokey", "STARTTLS without a key", TE, "tls_handshake|starttls_missing|server_error|auth_temporary", "tls", code=454, owner=ADMIN, fix="certificate|key")
    add("header", "content refused", NO, "spam_content|content_policy", "message", args=f"{INSIDE} --send", code=550)
    add("header", "content not sent", args=INSIDE)
    add("noauth", "authentication server gone", f"{CF}|{TO}", "disconnected|connection_rejected|session_timeout", "banner|ehlo", args="--timeout 3")
    add("postscreen", "greeting delayed", args="--timeout 20", warnings=("slow_banner",))
    for state, reason, words in (("cert-expired", "certificate_expired", "renew"), ("cert-future", "certificate_not_yet_valid", "clock"), ("cert-own", "certificate_untrusted", "itself|self-signed"),
                                 ("cert-name", "certificate_name", "mail.elsewhere.test"), ("cert-missing", "certificate_untrusted", "intermediate"), ("cert-weak", "tls_cipher|certificate_untrusted", "weak|2048")):
        add(state, "certificate", TE, reason, "tls", fix=words)
        if state != "cert-weak":  # too weak to speak with at all
            add(state, "certificate, --insecure", args="--insecure", warnings=("insecure_check",))
    for key, result, reason, code in (("full", NO, "mailbox_full", 552), ("later", NO, "recipient_rate|rate_limited", 450), ("disabled", NO, "mailbox_disabled", 550), ("unknown", NO, "mailbox_unknown", 550),
                                      ("dmarc", NO, "dmarc_fail|unauthenticated", 550)):
        add("texts", f"text {key}", result, reason, "recipient", args=f"--from ann@app.test --to {key}@{OWN}", code=code)
    return cases


def in_turn(peer):
    """What depends on earlier connections: the first of each kind uses the allowance up."""
    port = peer.ports
    case = lambda state, *rest, **more: Case(f"Postfix {state}: {rest[0]}", *rest[1:], {}, target=f"localhost:{port[state]}", connect=False, **more)
    return [case("rate", "first connection", "", "", ""), case("rate", "too many connections", CF, "too_many_connections", "banner", code=421),
            case("messages", "first message", "", "", "", args=INSIDE), case("messages", "too much mail", NO, "rate_limited", "sender", args=INSIDE, code=450)]


def exim(peer):
    cases = []

    def add(state, name, result="", reason="", stage="", args="", good=False, **more):
        port = peer.auth_port if state == "auth" else peer.ports[state]
        cases.append(Case(f"Exim {state}: {name}", result, reason, stage, {}, target=f"localhost:{port}", args=args, connect=False, password=PASSWORD if good else None, **more))

    clear = ()
    add("healthy", "healthy", args=INSIDE, warnings=clear)
    add("healthy", "healthy, STARTTLS", args=f"--tls starttls {INSIDE}")
    add("healthy", "healthy, without TLS as asked", args=f"--tls none {INSIDE}")
    for mechanism in ("CRAM-MD5", "NTLM", "PLAIN"):
        add("auth", f"healthy with {mechanism}", args=f"--tls starttls {SIGN_IN} --auth {mechanism} {OUTSIDE}", good=True)
        add("auth", f"wrong password by {mechanism}", AF, "credentials_invalid", "auth", args=f"--tls starttls {SIGN_IN} --auth {mechanism}", code=535, fix="password", owner=YOU)
    add("auth", "mechanism it does not have", AF, "mechanism_unsupported", "auth", args=f"{SIGN_IN} --auth SCRAM-SHA-256", fix="mechanism")
    add("relay", "relay not permitted", RD, "relay_denied", "recipient", args=OUTSIDE, code=550, fix="sign|auth", owner=YOU)
    add("relay", "closed to strangers", args="--open-relay")
    add("healthy", "no such user", NO, "mailbox_unknown|host_unknown", "recipient", args=f"--from ann@app.test --to nobody@{OWN}", code=550, owner=YOU)
    add("sender", "sender not verified", NO, "sender_rejected|sender_domain|sender_not_allowed", "recipient", args=INSIDE, code=550, owner=YOU)
    add("helo", "name refused", NO, "bad_helo", "ehlo", code=550, owner=YOU)
    add("busy", "busy", CF, "server_busy|too_many_connections", "banner", code=451)
    add("refused", "not welcome", CF, "connection_rejected|ip_blocked", "banner", code=550)
    add("spam", "spam", NO, "spam_content", "message", args=f"{INSIDE} --send", code=550, owner=YOU)
    add("authonly", "sign-in needed", AF, "auth_required", "recipient", args=INSIDE, code=550, fix="sign|user", owner=YOU)
    return cases


def dovecot(peer):
    cases = []
    for state, tls in (("submission", "starttls"), ("submissions", "implicit")):
        # Dovecot takes a client of its own address for secured and offers it AUTH before TLS: the warning is right.
        clear = ("auth_in_clear_offered",) if tls == "starttls" else ()

        def add(name, result="", reason="", stage="", args="", good=False, **more):
            cases.append(Case(f"Dovecot {state}: {name}", result, reason, stage, {}, target=f"localhost:{peer.ports[state]}", args=f"--tls {tls} {args}", connect=False,
                              password=PASSWORD if good else None, warnings=clear, **more))
        add("healthy")
        add("healthy with sign-in", args=f"{SIGN_IN} {INSIDE}", good=True)
        add("wrong password", AF, "credentials_invalid", "auth", args=SIGN_IN, code=535, fix="password", owner=YOU)
        add("sender without sign-in", AF, "auth_required", "sender", args=INSIDE, code=530, fix="sign|user", owner=YOU)
    return cases


def opensmtpd(peer):
    add = lambda name, port, args, *rest, **more: Case(f"OpenSMTPD: {name}", *(rest or ("", "", "")), {}, target=f"localhost:{port}", args=args, connect=False, **more)
    return [add("healthy without TLS as asked", peer.port, f"--tls none {OUTSIDE}"), add("healthy, no TLS offered", peer.port, OUTSIDE, warnings=("no_starttls",)),
            add("STARTTLS that breaks", peer.tls_port, "", TE, "tls_handshake", "tls"), add("STARTTLS missing", peer.port, "--tls starttls", TE, "starttls_missing", "tls")]
