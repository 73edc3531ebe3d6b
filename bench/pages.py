#!/usr/bin/env python3
"""How fast pages and searches answer with many messages stored.

    bench/pages.py [--messages 1000000] [--looks 200] [--only TEXT] [--binary PATH] [--keep DIR]

Fills a fresh server over SMTP on loopback with mail of all kinds (stock.py). Then, one question at a time over one kept-open connection,
logged in as a browser is: searches by each condition and by several, pages deep in a list, searches that find nothing, and the first byte of
every page of the table in crates/pillarbox/src/http/ui/pages.rs. p50, p95 and the longest of --looks each (a page: a quarter of that).
The server is left idle meanwhile.

Goals with 1,000,000 messages: search by recipient under 50 ms at p95, every page's first byte under 100 ms at p95. Exit code 1: missed.
Results are appended to target/bench/pages.jsonl; the table of the last run is target/bench/pages.md. With --keep the data stays, and is used
again if it is there. --only leaves out what has not this text in its name.
"""

import argparse
import http.client
import json
import pathlib
import re
import sys
import tempfile
import time
import urllib.parse

import relays
import stock

OUT = relays.REPOSITORY / "target" / "bench"
GOALS = {"search": 50.0, "page": 100.0}
# A search that has to look at messages one by one ends each answer after a bounded number; so many answers are asked for.
STEPS = 400


class Browser:
    """One kept-open connection, logged in."""

    def __init__(self, relay):
        self.link = http.client.HTTPConnection(relay.http, timeout=60)
        token = relay.cli("login").decode().split()[-1]
        headers = {"Origin": f"http://{relay.http}", "Content-Type": "application/x-www-form-urlencoded"}
        self.link.request("POST", "/login", f"token={token}", headers)
        answer = self.link.getresponse()
        answer.read()
        if answer.status != 303:
            raise RuntimeError(f"login: {answer.status}")
        self.cookie = answer.headers["set-cookie"].split(";")[0]

    def get(self, path):
        """Milliseconds to the first byte, the status and the body. Who asks too often waits, and that is not counted."""
        while True:
            started = time.perf_counter()
            self.link.request("GET", path, headers={"Cookie": self.cookie})
            answer = self.link.getresponse()
            took = (time.perf_counter() - started) * 1000
            body = answer.read()
            if answer.status != 429:
                return took, answer.status, body
            time.sleep(int(answer.headers["Retry-After"]))

    def ask(self, path):
        took, status, body = self.get("/api/v1" + path)
        if status != 200:
            raise RuntimeError(f"{path}: {status} {body[:300]!r}")
        return took, json.loads(body)


def measure(relay, name, looks, look):
    """What else the machine does makes the times longer; the CPU that the server needed for one, on average, hardly."""
    cpu = relay.cpu()
    times = sorted(look(n) for n in range(looks))
    cpu = (relay.cpu() - cpu) * 1000 / looks
    p50, p95 = times[len(times) // 2], times[int(len(times) * 0.95)]
    print(f"{name:64} p50 {p50:8.2f} ms   p95 {p95:8.2f} ms   most {times[-1]:8.2f} ms   CPU {cpu:7.2f} ms", flush=True)
    return dict(what=name, looks=looks, p50_ms=round(p50, 2), p95_ms=round(p95, 2), most_ms=round(times[-1], 2), cpu_ms=round(cpu, 2))


def searches(messages):
    """Name, how many have to be found in one answer at least, and conditions of the n-th question."""
    whole = [n for n in range(0, messages, 977)]
    some = lambda n: whole[n * 37 % len(whole)]
    of = {name: [n for n in range(0, min(messages, 50_000)) if stock.kind(n) == name] for name in stock.KINDS}
    one = lambda name, n: of[name][n * 37 % len(of[name])]
    return [
        ("recipient", 1, lambda n: {"recipient": stock.address(some(n))}),
        ("recipient nobody wrote to", 0, lambda n: {"recipient": f"nobody{n}@large.test"}),
        ("recipient that was refused", 1, lambda n: {"recipient": stock.address(one("unknown.test", n))}),
        ("beginning of a recipient", 1, lambda n: {"recipient": stock.address(some(n)).split("@")[0] + "@*"}),
        ("beginning: one letter that many have", 1, lambda n: {"recipient": "u*"}),
        ("beginning: one letter that few have", 1, lambda n: {"recipient": "g*"}),
        ("beginning: one letter that nobody has", 0, lambda n: {"recipient": "q*"}),
        ("domain", 1, lambda n: {"domain": stock.address(some(n)).split("@")[1]}),
        ("domain with a third of all mail", 1, lambda n: {"domain": "large.test"}),
        ("Message-ID", 1, lambda n: {"message_id": f"<{some(n)}@source.test>"}),
        ("Message-ID that is not there", 0, lambda n: {"message_id": f"<x{n}@source.test>"}),
        ("subject, many", 1, lambda n: {"subject": "receipt"}),
        ("subject, one", 0, lambda n: {"subject": f"receipt {8 * some(n)}"}),
        ("subject, few", 0, lambda n: {"subject": "zebra"}),
        ("subject, nobody", 0, lambda n: {"subject": "nowhere to be seen"}),
        ("from, a part", 1, lambda n: {"from": "billing"}),
        ("from, nobody", 0, lambda n: {"from": "nobody@source.test"}),
        *((f"state {state}", 1, lambda n, state=state: {"state": state})
          for state in ("waiting", "held", "delivered", "failed", "canceled", "suppressed")),
        ("state complained (none)", 0, lambda n: {"state": "complained"}),
        ("state expired (none)", 0, lambda n: {"state": "expired"}),
        ("reason", 1, lambda n: {"reason": "google-no-such-user"}),
        ("reason that few have", 0, lambda n: {"reason": "waits for"}),
        ("reason nobody has", 0, lambda n: {"reason": "tls-expired"}),
        ("route, most", 1, lambda n: {"route": "nowhere"}),
        ("route, few", 1, lambda n: {"route": "blocked"}),
        ("route, none", 0, lambda n: {"route": "none"}),
        ("stream", 1, lambda n: {"stream": "news"}),
        ("stream, none", 0, lambda n: {"stream": "none"}),
        ("sender", 1, lambda n: {"sender": "shop"}),
        ("sender, none", 0, lambda n: {"sender": "none"}),
        ("domain with a third of all mail and a rare state", 0, lambda n: {"domain": "large.test", "state": "failed"}),
        ("domain and subject", 1, lambda n: {"domain": stock.address(some(n)).split("@")[1], "subject": "e"}),
        ("large domain and a subject that few have", 0, lambda n: {"domain": "large.test", "subject": "zebra"}),
        ("subject and state, none", 0, lambda n: {"subject": "zebra", "state": "canceled"}),
        ("stream, sender, route and state", 0, lambda n: {"stream": "news", "sender": "shop", "route": "grey", "state": "waiting"}),
    ]


def search(browser, expected, condition):
    """A question with another value each time; what it finds is counted, so that an empty answer is no quick one."""
    def look(n):
        took, body = browser.ask("/messages?" + urllib.parse.urlencode(condition(n)))
        if len(body["items"]) < expected:
            raise RuntimeError(f"{condition(n)}: {len(body['items'])} found")
        return took
    return look


def whole(browser, name, condition):
    """The same to the first message, or to the end if there is none: how long, and how many answers that takes."""
    conditions, total, answers, longest = dict(condition(0)), 0.0, 0, 0.0
    while answers < STEPS:
        took, body = browser.ask("/messages?" + urllib.parse.urlencode(conditions))
        total, answers, longest = total + took, answers + 1, max(longest, took)
        if body["items"] or not body["next"]:
            break
        conditions["before"] = body["next"]
    print(f"{name:64} {answers} answers, {total:.1f} ms, the longest {longest:.1f} ms, {len(body['items'])} found", flush=True)
    return dict(what=name, answers=answers, total_ms=round(total, 1), longest_ms=round(longest, 1), found=len(body["items"]))


def deeper(browser, path, cursor):
    """Page after page of a list, from its beginning again after its end: the cursor has to cost nothing."""
    following = None

    def look(_):
        nonlocal following
        took, body = browser.ask(path + (f"&{cursor}={urllib.parse.quote(following, safe='')}" if following else ""))
        following = body["next"]
        return took
    return look


def page(browser, path):
    def look(_):
        took, status, body = browser.get(path)
        if status != 200:
            raise RuntimeError(f"{path}: {status} {body[:200]!r}")
        return took
    return look


def places(browser, messages):
    """What stands for the parts in braces of a page's path."""
    def first(path, name):
        items = browser.ask(path)[1]["items"]
        return [items[0][name]] if items else []

    def found(**condition):
        return first("/messages?limit=1&" + urllib.parse.urlencode(condition), "id")

    return {
        "/admin/captured/{id}": first("/captured?limit=1", "id"),
        "/admin/messages/{id}": found() + found(state="failed") + found(state="waiting") + found(recipient=stock.address(50)),
        "/admin/routes/{name}": ["nowhere", "full", "partner"],
        "/admin/domains/{name}": ["source.test"],
        "/admin/streams/{name}": ["news"],
        "/admin/senders/{name}": ["shop"],
        "/admin/suppressions/{address}": ["gone1@suppressed.test"],
        "/admin/batches/{id}": first("/batches", "id"),
        "/admin/webhooks/{name}": ["shop"],
        "/admin/users/{name}": ["viewer"],
        "/admin/keys/{name}": ["set-up"],
        "/admin/incidents/{id}": first("/incidents", "id"),
        "/admin/jobs/{name}": first("/jobs", "name"),
        "/admin/checks/{name}": ["own:partner"],
        "/admin/checks/dns-journal/{domain}": ["source.test"],
        "/admin/checks/arrivals/{id}": first("/arrivals", "id"),
        "/admin/alerts/{id}": first("/alerts", "id"),
        "/admin/alerts/channels/{name}": ["duty"],
        "/admin/alerts/rules/{name}": ["queue_age"],
        "/admin/returned/mailboxes/{name}": ["reports"],
        "/admin/returned/providers/{name}": ["provider"],
        "/admin/settings/identity/{name}": ["corp"],
        "/admin/help/{topic}": first("/help", "topic"),
        "/admin/processing-center/causes/{rule}": [one["rule"] for one in browser.ask("/queue/causes")[1]["items"]][:3],
        "/admin/smtp-test/{id}": first("/smtp-tests", "id"),
        # a sign-in that a person begins at an identity provider
        "/admin/routes/{name}/login/{id}": [],
    }


ASKED = {
    "/admin/overview": ["over=hour", "over=week", "over=month"],
    "/admin/overview/causes": ["days=1", "days=366"],
    "/admin/incidents": ["open=false"],
    "/admin/alerts": ["all=true"],
    "/admin/processing-center": ["by=cause", "by=domain", "by=sender", "by=stream", "by=recipients", "by=recipients&state=held",
                                 "by=recipients&domain=nowhere.test", "by=recipients&route=full", "by=recipients&cause=generic-mailbox-full"],
    "/admin/processing-center/confirm": ["op=hold&route=full", "op=cancel&all=true", "op=release&domain=nowhere.test"],
    "/admin/why": [f"address={stock.address(17)}", f"address={stock.address(16)}", "address=nobody@large.test", "address=user1@lagre.test"],
    "/admin/logging": [f"q={stock.address(17)}", "q=zebra", "q=%3C17%40source.test%3E", "domain=large.test&state=failed", "state=failed",
                       "reason=google-no-such-user", "q=nowhere+to+be+seen", "recipient=q*"],
    "/admin/suppressions": ["search=user1", "reason=unknown-user", "domain=d3.unknown.test"],
}


def table():
    """The paths of all pages, as the table of the program has them."""
    text = "".join(one.read_text() for one in sorted((relays.REPOSITORY / "crates/pillarbox/src/http/ui").glob("**/*.rs")))
    named = dict(re.findall(r'const (\w+): &str = "(/[^"]+)"', text))
    return [path or named[name] for path, name in re.findall(r'Page::new\(\s*(?:"(/[^"]+)"|([A-Z_]+))', text)]


def pages(browser, messages):
    """All of them, with what there is on them."""
    parts, empty = places(browser, messages), []
    for pattern in table():
        if "{" not in pattern:
            yield from (pattern + query for query in ("", *("?" + one for one in ASKED.get(pattern, []))))
            continue
        if not parts[pattern]:
            empty.append(pattern)
        yield from (re.sub(r"\{\w+\}", urllib.parse.quote(str(value), safe=""), pattern) for value in parts[pattern])
    print(f"not there to be looked at: {', '.join(empty) or 'nothing'}", flush=True)


def look(relay, browser, messages, looks, only):
    def wanted(name):
        return only in name

    results = []
    for name, expected, condition in searches(messages):
        name = f"search: {name}"
        if wanted(name):
            results.append(measure(relay, name, looks if expected or "recipient" in name else max(10, looks // 4), search(browser, expected, condition)))
            if not expected:
                results.append(whole(browser, f"{name}, to the end", condition))
    for name, path, cursor in (("all messages", "/messages?limit=50", "before"), ("a large domain", "/messages?limit=50&domain=large.test", "before"),
                               ("state failed", "/messages?limit=50&state=failed", "before"), ("the queue", "/queue?limit=50", "after"),
                               ("captured", "/captured?limit=50", "before"), ("suppressions", "/suppressions?limit=50", "after")):
        if wanted(f"depth: {name}"):
            results.append(measure(relay, f"depth: {name}", looks, deeper(browser, path, cursor)))
    for path in pages(browser, messages):
        if wanted(f"page: {path}"):
            results.append(measure(relay, f"page: {path}", max(20, looks // 4), page(browser, path)))
    return results


def report(messages, results):
    lines = ["| what | p50, ms | p95, ms | most, ms | CPU, ms |", "|---|---|---|---|---|"]
    timed = [one for one in results if "p95_ms" in one]
    lines += [f"| {one['what']} | {one['p50_ms']} | {one['p95_ms']} | {one['most_ms']} | {one['cpu_ms']} |" for one in sorted(timed, key=lambda one: -one["p95_ms"])]
    lines += ["", "| searched to the end | answers | together, ms | longest, ms | found |", "|---|---|---|---|---|"]
    lines += [f"| {one['what']} | {one['answers']} | {one['total_ms']} | {one['longest_ms']} | {one['found']} |" for one in results if "answers" in one]
    (OUT / "pages.md").write_text(f"{messages} messages\n\n" + "\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--looks", type=int, default=200)
    parser.add_argument("--only", default="")
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--keep", type=pathlib.Path)
    wanted = parser.parse_args()
    stock.Relay.executable = wanted.binary
    scratch = tempfile.TemporaryDirectory(dir="/var/tmp")
    place = wanted.keep or pathlib.Path(scratch.name)
    relay = stock.Relay(place, wanted.messages)
    try:
        if not relay.note.exists():
            took = relay.fill()
            print(f"{wanted.messages} messages in {took:.0f} s: {wanted.messages / took:.0f} a second", flush=True)
        else:
            relay.start()
        browser = Browser(relay)
        # The index follows the mail, and is made anew after some upgrades; what it has not yet is found as well, only slower.
        while not browser.ask("/messages?" + urllib.parse.urlencode({"recipient": stock.address(0)}))[1]["items"]:
            time.sleep(1)
        time.sleep(5)
        results = look(relay, browser, wanted.messages, wanted.looks, wanted.only)
        memory = relay.memory()
        print(f"memory {memory} MiB")
    finally:
        relay.stop()
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "pages.jsonl", "a") as out:
        out.write(json.dumps(dict(at=time.time(), messages=wanted.messages, memory_mib=memory, results=results)) + "\n")
    report(wanted.messages, results)
    missed = [one for one in results if "p95_ms" in one
              and (one["p95_ms"] > GOALS["search"] and one["what"].startswith(("search: recipient", "search: beginning"))
                   or one["p95_ms"] > GOALS["page"] and one["what"].startswith("page"))]
    for one in missed:
        print(f"missed: {one['what']}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
