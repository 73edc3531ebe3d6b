"""Every page of the table, as a person meets it: with and without scripts, on a narrow and a wide screen, in the light and in the
dark, with a keyboard, by role, and as axe sees it. SCREENSHOTS=1 writes the pictures of the manual."""

import html.parser
import os
import re
import unittest
import urllib.error
import urllib.parse
import urllib.request

import pages_browser as chromium
import pages_pictures as pictures
from common import REPOSITORY
from pages_words import WORDS
from pages_world import PEOPLE, World


def places(world):
    """What stands for the parts in braces; a page with one needs a line here."""
    def first(path, name):
        try:
            items = world.ask("GET", path)["items"]
        except AssertionError:
            items = []
        return items[0][name] if items else "none"

    return {
        "/admin/captured/{id}": [world.messages["captured"]],
        "/admin/messages/{id}": [world.messages[name] for name in ("delivered", "gone", "waiting", "captured")],
        "/admin/routes/{name}": ["office", "partner", "direct"],
        "/admin/domains/{name}": ["shop.test"],
        "/admin/streams/{name}": ["news"],
        "/admin/senders/{name}": ["shop", "reports"],
        "/admin/suppressions/{address}": ["closed@three.test"],
        "/admin/batches/{id}": [world.batch],
        "/admin/webhooks/{name}": ["shop"],
        "/admin/users/{name}": ["viewer"],
        "/admin/keys/{name}": ["monitoring"],
        "/admin/incidents/{id}": [world.incident],
        "/admin/jobs/{name}": [first("/jobs", "name")],
        "/admin/checks/{name}": ["own:partner"],
        "/admin/alerts/{id}": [first("/alerts", "id")],
        "/admin/returned/mailboxes/{name}": ["reports"],
        "/admin/returned/providers/{name}": ["provider"],
        "/admin/settings/identity/{name}": ["corp"],
        "/admin/help/{topic}": [first("/help", "topic")],
        "/admin/processing-center/causes/{rule}": [first("/queue/causes", "rule")],
        "/admin/smtp-test/{id}": [first("/smtp-tests", "id")],
        "/admin/checks/dns-journal/{domain}": ["shop.test"],
        "/admin/checks/arrivals/{id}": [first("/arrivals", "id")],
        # a sign-in that a person begins at an identity provider: test_oauth has it
        "/admin/routes/{name}/login/{id}": [],
        "/admin/alerts/channels/{name}": ["duty"],
        "/admin/alerts/rules/{name}": ["queue_age"],
    }


# Looks at a page that differ by their query.
ASKED = {
    "/admin/overview": ["over=week"],
    "/admin/checks/add": [f"kind={kind}" for kind in ("host", "route", "domain", "arrival")],
    "/admin/alerts/channels/add": [f"kind={kind}" for kind in ("webhook", "slack", "email", "syslog", "command")],
    "/admin/alerts": ["all=true"],
    "/admin/routes/new": ["provider=smarthost", "provider=microsoft365", "provider=ses", "provider=mx"],
    "/admin/smtp-test": ["route=office"],
    "/admin/processing-center": ["by=route", "by=cause", "by=recipients", "by=recipients&state=held", "by=recipients&domain=nowhere.test"],
    "/admin/processing-center/confirm": ["op=hold&route=partner", "op=cancel&all=true", "op=release&domain=nowhere.test"],
    "/admin/logging": ["q=gone%40strict.test", "q=nothing-like-this"],
    "/admin/why": ["address=gone%40strict.test", "address=nobody%40nowhere.test"],
    "/admin/suppressions": ["reason=mailbox-closed"],
}


BROKEN = """<html lang="en"><title>x</title><a class="skip" href="#main">Skip</a><main id="main" tabindex="-1"><h1>One</h1><h1>Two</h1>
<table><tr><th>Head</th></tr></table><p id="twice"></p><p id="twice" style="color:#bbb">pale</p><img src="data:,"><div style="width:900px">wide</div>
<button style="outline:none">Press</button><input tabindex="-1"></main></html>"""


class Forms(html.parser.HTMLParser):
    """Forms that do something: method and path of the API."""

    def __init__(self, text):
        super().__init__()
        self.found, self.now = [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "form" and (values.get("action") or "").startswith("/admin/do/"):
            self.now = ["POST", values["action"][len("/admin/do"):].split("?")[0]]
            self.found.append(self.now)
        elif tag == "input" and values.get("name") == "_method" and self.now:
            self.now[0] = values["value"]

    def handle_endtag(self, tag):
        if tag == "form":
            self.now = None


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.stop)
        cls.browser = chromium.Browser()
        cls.addClassCleanup(cls.browser.stop)
        cls.cookies = {name: cls.world.log_in(name) for name in PEOPLE}
        cls.places = places(cls.world)
        cls.only = os.environ.get("PAGES", "")

    def paths(self):
        """All pages with what there is on them: (pattern, path)."""
        for pattern in chromium.table():
            if not pattern.startswith(self.only):
                continue
            braces = re.findall(r"\{(\w+)\}", pattern)
            if not braces:
                for query in ("", *("?" + one for one in ASKED.get(pattern, []))):
                    yield pattern, pattern + query
                continue
            self.assertIn(pattern, self.places, f"{pattern} is not walked: add what there is to `places`")
            for value in self.places[pattern]:
                yield pattern, re.sub(r"\{\w+\}", urllib.parse.quote(value, safe=""), pattern)

    def tell(self, wrong):
        self.assertFalse(wrong, f"{len(wrong)} found:\n" + "\n".join(wrong))

    def test_every_page_has_its_sentence_in_the_manual(self):
        said = {pattern for _, pages in WORDS for pattern, _, _ in pages}
        self.assertFalse(set(chromium.table()) - said, "add them to pages_words.py")

    def test_what_is_wrong_would_be_found(self):
        with self.browser.person(self.world.url, width=chromium.NARROW) as page:
            page.set_content(BROKEN)
            found = "\n".join(chromium.structure(page, chromium.NARROW) + chromium.keyboard(page) + self.browser.violations(page))
            for words in ("2 h1", "title 'x'", "wider than 380 px", "ids stand twice: ['twice']", "1 th without scope", "focus is not to be seen",
                          "Tab does not reach <input", "axe image-alt", "axe color-contrast", "axe label"):
                self.assertIn(words, found)
            page.evaluate("console.error('noise'); alert('dialog')")
            self.assertEqual(["console: noise", "dialog: dialog"], page.wrongs)

    def walk(self, look, **person):
        """Every page with its path; `look(browser, page, path)` tells what is wrong with it."""
        paths = [path for _, path in self.paths()]
        found = chromium.each(paths, look, self.world.url, cookie=self.cookies["admin"], **person)
        self.tell([f"{path}: {one}" for path, wrong in zip(paths, found) for one in wrong])

    def test_every_page_is_in_order_with_scripts(self):
        def look(browser, page, path):
            chromium.still(page)
            page.set_viewport_size({"width": chromium.WIDE, "height": chromium.HEIGHT})
            page.emulate_media(color_scheme="light")
            found = chromium.open_page(page, self.world.url + path)
            if found:
                return found
            found += chromium.keyboard(page)
            for width in (chromium.WIDE, chromium.NARROW):
                page.set_viewport_size({"width": width, "height": chromium.HEIGHT})
                found += chromium.structure(page, width)
                for theme in ("light", "dark"):
                    page.emulate_media(color_scheme=theme)
                    found += [f"{width} px, {theme}: {one}" for one in browser.violations(page)]
            return found

        self.walk(look)

    def test_every_page_is_whole_without_scripts(self):
        def look(_browser, page, path):
            found = chromium.open_page(page, self.world.url + path)
            for width in (chromium.WIDE, chromium.NARROW) if not found else ():
                page.set_viewport_size({"width": width, "height": chromium.HEIGHT})
                for theme in ("light", "dark"):
                    page.emulate_media(color_scheme=theme)
                    found += chromium.structure(page, width)
            return found + [f"does nothing without a script: {one}" for one in page.evaluate(chromium.DEAD)]

        self.walk(look, script=False)

    def test_pages_outside_are_in_order(self):
        wrong = []
        for script in (True, False):
            with self.browser.person(self.world.url, script=script) as page:
                found = chromium.open_page(page, self.world.url + "/login")
                for width in (chromium.WIDE, chromium.NARROW):
                    page.set_viewport_size({"width": width, "height": chromium.HEIGHT})
                    found += chromium.structure(page, width)
                    for theme in ("light", "dark") if script else ():
                        page.emulate_media(color_scheme=theme)
                        found += self.browser.violations(page)
                wrong += [f"/login, script {script}: {one}" for one in dict.fromkeys(found + page.wrongs)]
        self.tell(wrong)

    def fetch(self, path, cookie):
        request = urllib.request.Request(self.world.url + path, headers={"Cookie": f"pillarbox={cookie}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def test_nobody_sees_a_button_that_is_not_for_them(self):
        lines = [[cell.strip(" `") for cell in line.split("|")[1:4]] for line in (REPOSITORY / "docs/manual/roles.md").read_text().splitlines()
                 if "| `/" in line]
        roles, wrong, seen = ["viewer", "operator", "administrator"], [], {role: set() for role in PEOPLE.values()}

        def least(method, path):
            fits = [(pattern.count("{"), who) for verb, pattern, who in lines if verb == method and fit(pattern, path)]
            return min(fits)[1] if fits else "no such operation"

        for name, role in PEOPLE.items():
            for pattern, path in self.paths():
                status, text = self.fetch(path, self.cookies[name])
                if status not in (200, 403):
                    wrong.append(f"{role} {path}: {status}")
                for method, to in Forms(text).found:
                    who = least(method, to).split(",")[0]
                    seen[role].add((method, to))
                    if who != "anyone" and (who not in roles or roles.index(who) > roles.index(role)):
                        wrong.append(f"{role} {path}: a form for {who}: {method} {to}")
        self.tell(sorted(set(wrong)))
        self.assertLessEqual(len(seen["viewer"]), len(seen["operator"]))
        self.assertLess(len(seen["operator"]), len(seen["administrator"]), "an administrator has more to do")

    def test_links_of_pages_lead_somewhere(self):
        """All links to this server that pages have, for each role."""
        for name in PEOPLE:
            wrong, seen = [], set()
            for pattern, path in self.paths():
                status, text = self.fetch(path, self.cookies[name])
                # one's own place on a page is no other page: the skip link of a page that is not for them
                for link in re.findall(r'href="([^"#][^"]*)', text):
                    link = urllib.parse.urljoin(path, html.unescape(link)).split("#")[0]
                    if not link.startswith("/") or link.startswith("//"):
                        continue
                    key = re.sub(r"=[^&]*", "=", link)
                    if key in seen or len(seen) > 400:
                        continue
                    seen.add(key)
                    status, _ = self.fetch(link, self.cookies[name])
                    if status != 200:
                        wrong.append(f"{name} {path}: {link} {status}")
            with self.subTest(name):
                self.tell(wrong)

    if os.environ.get("SCREENSHOTS"):
        # it writes docs/manual/pages
        def test_the_manual_has_a_picture_of_every_page(self):
            with self.browser.person(self.world.url, self.cookies["admin"]) as page:
                chromium.still(page)
                pictures.take(page, self.world, list(self.paths()))


def fit(pattern, path):
    wanted, has = pattern.split("/"), urllib.parse.unquote(path).split("/") if "%2F" not in path else path.split("/")
    return len(wanted) == len(has) and all(want == one or want.startswith("{") for want, one in zip(wanted, has))


if __name__ == "__main__":
    unittest.main()
