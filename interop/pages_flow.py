"""A person who works with the pages: opens them, reads, fills in and presses what is there, by the words that it shows."""

import base64
import contextlib
import functools
import hashlib
import hmac
import re
import struct
import time
import unittest

import pages_browser as chromium
from pages_world import PEOPLE, World

PATIENCE = 120_000


def both(user="admin"):
    """A flow of somebody, with scripts and then without; its test gets the person, and a word for names of its own."""
    def made(flow):
        @functools.wraps(flow)
        def test(self):
            for script in (True, False):
                with self.subTest(script=script), self.person(script, user) as person:
                    flow(self, person, "js" if script else "plain")
        return test
    return made


class Flows(unittest.TestCase):
    """A world, a browser, and sessions in it. Where a test ends early, its browser's context ends with it."""

    @classmethod
    def setUpClass(cls):
        if cls is Flows:
            raise unittest.SkipTest("what the others have in common")
        cls.world = World("flows")
        cls.addClassCleanup(cls.world.stop)
        cls.browser = chromium.Browser()
        cls.addClassCleanup(cls.browser.stop)
        cls.cookies = {name: cls.world.log_in(name) for name in PEOPLE}

    @contextlib.contextmanager
    def person(self, script, user="admin"):
        with self.browser.person(self.world.url, self.cookies.get(user), script=script) as page:
            yield Person(page, self.world.url, script)
            self.assertFalse(page.wrongs)


class Person:
    """`page` of somebody who has logged in; `script`: with scripts or without."""

    def __init__(self, page, url, script):
        self.page, self.url, self.script = page, url, script

    def open(self, path):
        answer = self.page.goto(self.url + path, wait_until="load")
        assert answer.status == 200, f"{path}: {answer.status} {self.text()[:500]}"
        return self

    def text(self):
        return self.page.inner_text("main")

    def path(self):
        return self.page.url.removeprefix(self.url)

    def unfold(self, summary):
        """Opens what is folded under these words, if it is not open."""
        found = self.page.locator("main details", has=self.page.locator("> summary", has_text=re.compile(summary))).first
        if found.get_attribute("open") is None:
            found.locator("> summary").click()
        return found

    def fill(self, label, value, inside=None):
        (inside or self.page.locator("main")).get_by_label(re.compile(label), exact=False).first.fill(value)

    def choose(self, label, value, inside=None):
        (inside or self.page.locator("main")).get_by_label(re.compile(label)).first.select_option(value)

    def press(self, name, inside=None):
        """Presses a button, and waits for the page that comes."""
        button = (inside or self.page.locator("main")).get_by_role("button", name=re.compile(name)).first
        with self.page.expect_navigation(wait_until="load"):
            button.click()

    def follow(self, name, inside=None):
        link = (inside or self.page.locator("main")).get_by_role("link", name=re.compile(name)).first
        with self.page.expect_navigation(wait_until="load"):
            link.click()

    def done(self):
        """What was done, as the page says it."""
        said = self.page.locator("main [role=status]").first
        assert said.count(), f"nothing was done: {self.path()}\n{self.text()[:1500]}"
        return said.inner_text()

    def problem(self):
        return self.page.locator("main [role=alert]").first.inner_text()

    def until(self, what, look, patience=PATIENCE):
        """With scripts the page changes by itself; without them one looks again."""
        end = time.monotonic() + patience / 1000
        while not (found := look()):
            if time.monotonic() > end:
                raise AssertionError(f"{what}: {self.path()}\n{self.text()[:2000]}")
            if self.script:
                self.page.wait_for_timeout(100)
            else:
                self.page.wait_for_timeout(300)
                with contextlib.suppress(chromium.Error):  # a page that looks again by itself does so just now
                    self.page.reload(wait_until="load")
        return found

    def sees(self, text, patience=PATIENCE):
        return self.until(f"'{text}' is to be seen", lambda: text in self.text(), patience)


def code(secret, after=0):
    """The code of an authenticator app now (RFC 6238), or so many steps later."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(time.time()) // 30 + after), hashlib.sha1).digest()
    at = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[at:at + 4])[0] & 0x7fffffff) % 1_000_000:06}"
