"""Hostile text in everything that comes from outside is shown as text: nothing runs, nothing of it becomes an element or an
attribute, nothing is asked of another server."""

import re
import unittest
import urllib.parse

import pages_browser as chromium
from common import REPOSITORY
from pages_hostile import Hostile, reply, short
from test_pages import ASKED, places

# Words that have to be seen on some page: a test that shows nothing proves nothing.
SHOWN = {"subject", "from", "header", "html", "text", "file", "rawsubject", "rawfrom", "rawvalue", "rawbody", "rawfile", "rcpt", "deferred", "refused",
         "stream", "note", "suppressed", "incident", "hold", "batch",
         # what servers say of themselves, their certificates, and the DNS
         "banner", "hello", "extension", "cn", "organization", "san", "mx", "spf", "dmarc", "tlsrpt", "sts"}
# Of these on the pages of tests of servers: messages that failed tell much of it too.
TESTED = {"banner", "hello", "extension", "cn", "organization", "san", "mx"}
ELEMENTS = set("""del ins symbol a abbr article aside b bdi body br button caption circle code col colgroup datalist dd defs desc details div dl dt em fieldset
 figcaption figure footer form g h1 h2 h3 h4 head header hr html i input kbd label legend li line linearGradient link main meta meter nav
 noscript ol optgroup option output p path polygon polyline pre progress rect script section select small span stop strong sub summary sup svg
 table tbody td text textarea tfoot th thead time title tr tspan ul use var wbr clipPath""".split())
SCAN = """(known) => {
  const wrong = [];
  if (window.__pwned !== undefined) wrong.push('it ran: ' + window.__pwned);
  for (const one of document.querySelectorAll('*')) {
    const text = one.outerHTML.slice(0, 160);
    if (!known.includes(one.localName)) wrong.push('element: ' + text);
    if (one.localName === 'script' && (one.textContent || !one.getAttribute('src')?.startsWith('/assets/'))) wrong.push('script: ' + text);
    for (const {name, value} of one.attributes) {
      if (/^on|pwned|^srcdoc$|^style$|[^a-zA-Z0-9_:-]/.test(name)) wrong.push('attribute ' + name + ': ' + text);
      if (/^(href|src|action|formaction|xlink:href)$/.test(name) && !/^(https?|mailto):$/.test(new URL(value, location).protocol)) wrong.push('address ' + text);
      if (/^(src|action|formaction)$/.test(name) && new URL(value, location).origin !== location.origin) wrong.push('foreign ' + text);
    }
  }
  const odd = (document.documentElement.innerHTML.match(/[\\u202a-\\u202e\\u2066-\\u2069\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]/g) || []);
  if (odd.length) wrong.push('control characters: ' + [...new Set(odd)].map((one) => one.codePointAt(0).toString(16)));
  return wrong;
}"""


FOREIGN = """<p onclick=1>x\u202e</p><pwned-x></pwned-x><a href='javascript:1'>x</a><script>window.__pwned = 1</script>
<form action='//evil.test/'></form>"""


class HostilePages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = Hostile()
        cls.addClassCleanup(cls.world.stop)
        cls.browser = chromium.Browser()
        cls.addClassCleanup(cls.browser.stop)
        cls.cookie = cls.world.log_in("admin")

    def paths(self):
        """Every page, with everything there is of its kind."""
        ask = lambda path: self.world.ask("GET", path)["items"]
        more = {
            "/admin/messages/{id}": [one["id"] for one in ask("/messages?limit=60") if "hx-" in str(one) or "evil" in str(one)][:12],
            "/admin/captured/{id}": [one["id"] for one in ask("/captured")][:6],
            "/admin/batches/{id}": [one["id"] for one in ask("/batches")],
            "/admin/suppressions/{address}": [one["address"] for one in ask("/suppressions")],
            "/admin/incidents/{id}": [one["id"] for one in ask("/incidents")],
            "/admin/alerts/{id}": [one["id"] for one in ask("/alerts")],
            "/admin/smtp-test/{id}": [one["id"] for one in ask("/smtp-tests")],
            "/admin/checks/dns-journal/{domain}": ["evil.test"],
        }
        for parts, names in (("streams", "name"), ("routes", "name"), ("senders", "name"), ("webhooks", "name"), ("keys", "name"), ("users", "name")):
            more[f"/admin/{parts}/{{name}}"] = [one[names] for one in ask(f"/{parts}")]
        more["/admin/domains/{name}"] = ["evil.test"]
        known = places(self.world)
        for pattern in chromium.table():
            if "{" not in pattern:
                yield pattern
                for query in ASKED.get(pattern, []):
                    yield pattern + "?" + query
                continue
            for value in dict.fromkeys([*more.get(pattern, []), *known[pattern], short("part")]):
                yield re.sub(r"\{\w+\}", lambda _: urllib.parse.quote(value, safe=""), pattern)

    def scan(self, page, path):
        wrong = page.evaluate(SCAN, sorted(ELEMENTS)) + [one for one in page.wrongs if not one.startswith("console: Failed to load resource")]
        page.wrongs.clear()
        return [f"{path[:80]}: {one}" for one in dict.fromkeys(wrong)]

    def test_what_is_foreign_would_be_found(self):
        with self.browser.person(self.world.url) as page:
            page.route("**/made", lambda route: route.fulfill(content_type="text/html; charset=utf-8", body=FOREIGN))
            page.goto(self.world.url + "/made")
            found = "\n".join(self.scan(page, "it"))
            for words in ("it ran: 1", "element: <pwned-x", "attribute onclick", "address <a href", "script: <script", "foreign <form", "control characters: 202e"):
                self.assertIn(words, found)

    def test_nothing_of_it_runs_or_becomes_part_of_a_page(self):
        seen, tests = set(), set()

        def look(_browser, page, path):
            found = self.shown(page, path)
            words = re.findall(r"hx-([a-z0-9]+)", page.evaluate("document.body.textContent"))
            seen.update(words)
            if path.startswith("/admin/smtp-test/"):
                tests.update(words)
            return found

        self.walk(list(self.paths()), look)
        self.assertFalse(SHOWN - seen, f"not shown anywhere; refused were {self.world.refused}; seen {sorted(seen)}")
        self.assertFalse(TESTED - tests, f"not shown by tests of servers; seen {sorted(tests)}")

    def test_what_is_asked_for_comes_back_as_text(self):
        """All parameters at once on each page, and each alone where a page is known to look different by it."""
        sources = "".join(one.read_text() for one in (REPOSITORY / "crates/pillarbox/src/http/ui").glob("**/*.rs"))
        templates = "".join(one.read_text() for one in (REPOSITORY / "crates/pillarbox/pages").glob("**/*.html"))
        names = set(re.findall(r'"(\w+)"', " ".join(re.findall(r"\.pass\(&\[([^\]]*)\]", sources))))
        names |= set(re.findall(r'asked\("(\w+)"\)', sources)) | set(re.findall(r"asked\.(\w+)", templates)) | set(re.findall(r'asked\["(\w+)"\]', templates))
        names -= {"limit", "after", "before"}
        self.assertIn("q", names)
        query = urllib.parse.urlencode({name: reply(name) for name in names})
        paths = [re.sub(r"\{\w+\}", "0", pattern) + "?" + query for pattern in chromium.table()]
        alone = {(pattern, name) for pattern, looks in ASKED.items() for one in looks for name in urllib.parse.parse_qs(one)}
        paths += [f"{pattern}?{urllib.parse.urlencode({name: reply(name)})}" for pattern, name in sorted(alone)]
        paths += ["/login/" + urllib.parse.quote(short("provider"), safe=""), "/admin/" + urllib.parse.quote(short("page"), safe="")]
        self.walk(paths, lambda _browser, page, path: self.shown(page, path))

    def test_what_is_typed_comes_back_as_text(self):
        """Every form with fields is sent with it; what cannot be done is shown again with what was typed."""
        known, sent = places(self.world), []
        there = [pattern for pattern in chromium.table() if "account" not in pattern and known.get(pattern, [""])]
        paths = [re.sub(r"\{\w+\}", lambda _: urllib.parse.quote(known[pattern][0], safe=""), pattern) for pattern in there]

        def look(_browser, page, path):
            wrong = []
            for n in range(12):
                page.goto(self.world.url + path, wait_until="load")
                if not self.send(page, n):
                    break
                page.wait_for_load_state("load")
                sent.append(path)
                wrong += self.scan(page, f"form {n}")
                if "could not be made" in page.content():
                    wrong.append(f"form {n}: 500")
            return wrong

        self.walk(paths, look)
        self.assertGreater(len(sent), len(paths) // 2)

    def shown(self, page, path):
        answer = page.goto(self.world.url + path, wait_until="load")
        return [f"status {answer.status}"] * (answer.status >= 500) + self.scan(page, path)

    def walk(self, paths, look):
        found = chromium.each(paths, look, self.world.url, cookie=self.cookie)
        wrong = [f"{path[:200]}: {one}" for path, all in zip(paths, found) for one in all]
        self.assertFalse(wrong, "\n".join(wrong))

    def send(self, page, n):
        """Sends the nth form of a page's main part that has a field to type into."""
        with page.expect_navigation(wait_until="load") if page.evaluate(FILLABLE, n) else Nothing():
            return page.evaluate(FILL, [n, reply("typed")])


FORMS = "[...document.querySelectorAll('#main form[method=post]')].filter((form) => form.querySelector('input:not([type=hidden]):not([type=checkbox]):not([type=radio]), textarea'))"
FILLABLE = f"(n) => !!{FORMS}[n]"
FILL = f"""([n, text]) => {{
  const form = {FORMS}[n];
  if (!form) return false;
  for (const one of form.querySelectorAll('input:not([type=hidden]):not([type=checkbox]):not([type=radio]):not([type=file]), textarea')) {{
    if (one.type === 'number') one.value = '7'; else one.value = text;
  }}
  form.noValidate = true;
  form.requestSubmit(form.querySelector('button'));
  return true;
}}"""


class Nothing:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


if __name__ == "__main__":
    unittest.main()
