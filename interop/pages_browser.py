"""Chromium as the pages' tests use it: sessions, what a page must not do, what it has to have, and axe."""

import concurrent.futures
import contextlib
import os
import re
import sys
import threading
import urllib.parse

from common import CACHE, REPOSITORY, need

sys.path.insert(0, str(CACHE / "python"))
from playwright.sync_api import Error, sync_playwright  # noqa: E402

AXE = CACHE / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
NARROW, WIDE = 380, 1280
HEIGHT = 900
PATIENCE = 60_000
WORKERS = max(1, os.cpu_count() or 1)

# Elements of the main part that a person can do something with, as the browser shows them now.
CONTROLS = """() => {
  const all = [...document.querySelectorAll('#main a[href], #main button, #main input, #main select, #main textarea, #main summary')];
  const groups = new Set();
  return all.filter((one) => {
    if (one.disabled || one.type === 'hidden' || !one.checkVisibility({visibilityProperty: true})) return false;
    if (one.type !== 'radio') return true;
    const group = one.form?.action + one.name;
    if (groups.has(group)) return false;
    groups.add(group);
    return true;
  }).map((one, n) => { one.dataset.control = one.type === 'radio' ? 'r' + one.name : n; return one.dataset.control; });
}"""
FOCUSED = """() => {
  const one = document.activeElement;
  if (!one || !one.closest('#main') || one.id === 'main') return null;
  const style = getComputedStyle(one), text = one.outerHTML.slice(0, 120);
  const visible = one.matches(':focus-visible') && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1;
  return {control: one.type === 'radio' ? 'r' + one.name : one.dataset.control ?? '', visible, text};
}"""
FACTS = """() => ({
  h1: document.querySelectorAll('h1').length, title: document.title, lang: document.documentElement.lang,
  wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  duplicates: [...document.querySelectorAll('[id]')].map((one) => one.id).filter((id, n, all) => all.indexOf(id) !== n),
  unlabelled: [...document.querySelectorAll('th')].filter((one) => !one.scope).length,
  main: document.querySelectorAll('main').length,
  widest: [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    && !one.closest('.scroll, pre, svg')).map((one) => one.outerHTML.slice(0, 100)).slice(0, 3),
})"""
# A button that only a script could give a meaning.
DEAD = """() => [...document.querySelectorAll('button[type=button], [onclick], a[href^="javascript:"], a:not([href])')]
  .filter((one) => one.checkVisibility()).map((one) => one.outerHTML.slice(0, 120))"""
VIOLATED = "document.addEventListener('securitypolicyviolation', (event) => console.error('CSP: ' + event.violatedDirective + ' ' + event.blockedURI))"


def table():
    """The paths of all pages, as the table of the program has them."""
    text = "".join(one.read_text() for one in sorted((REPOSITORY / "crates/pillarbox/src/http/ui").glob("**/*.rs")))
    named = dict(re.findall(r'const (\w+): &str = "(/[^"]+)"', text))
    paths = [path or named[name] for path, name in re.findall(r'Page::new\(\s*(?:"(/[^"]+)"|([A-Z_]+))', text)]
    assert len(paths) >= 4 and len(paths) == len(set(paths)), paths
    return paths


class Browser:
    """One Chromium; contexts of it are persons with a session."""

    def __init__(self):
        need("chromium")
        self.playwright = sync_playwright().start()
        try:
            self.browser = self.playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        except BaseException:
            self.playwright.stop()
            raise
        self.axe = AXE.read_text()

    def stop(self):
        self.browser.close()
        self.playwright.stop()

    @contextlib.contextmanager
    def person(self, url, cookie=None, script=True, width=WIDE, theme="light"):
        """A page of somebody with this session; all that goes wrong in it is in `page.wrongs`."""
        context = self.browser.new_context(java_script_enabled=script, viewport={"width": width, "height": HEIGHT}, color_scheme=theme,
                                           reduced_motion="reduce", locale="en-GB", timezone_id="UTC")
        try:
            if cookie:
                context.add_cookies([{"name": "pillarbox", "value": cookie, "url": url, "httpOnly": True, "sameSite": "Strict"}])
            context.set_default_timeout(PATIENCE)
            page = context.new_page()
            page.wrongs = watched(page, url)
            yield page
        finally:
            context.close()

    def violations(self, page):
        """What axe finds, in a line each."""
        if not page.evaluate("typeof axe === 'object'"):
            page.evaluate(self.axe)
        found = page.evaluate("(tags) => axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})", RULES)
        return [f"axe {one['id']}: {one['help']}: {node['html'][:200]}" for one in found["violations"] for node in one["nodes"][:3]]


def each(items, look, url, **person):
    """`look(browser, page, item)` for every item, by as many browsers as there are cores; what it found, in the order of the
    items. Each browser has one page of a person (see `Browser.person`) for all that it looks at."""
    left, lock = iter(list(enumerate(items))), threading.Lock()

    def items_left():
        while True:
            with lock:
                one = next(left, None)
            if one is None:
                return
            yield one

    # A browser begins and ends in its own thread.
    def work():
        browser, made = Browser(), []
        try:
            with browser.person(url, **person) as page:
                for at, item in items_left():
                    try:
                        found = list(look(browser, page, item))
                    except Error as error:
                        found = [f"{type(error).__name__}: {error.message[:300]}"]
                    made.append((at, list(dict.fromkeys(found + page.wrongs))))
                    page.wrongs.clear()
        finally:
            browser.stop()
        return made

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        done = [pool.submit(work) for _ in range(WORKERS)]
        made = [one for part in done for one in part.result()]
    return [found for _, found in sorted(made, key=lambda one: one[0])]


def watched(page, url):
    """Errors of the page: of its scripts, of its policy, dialogs, and requests to somebody else."""
    wrongs = []
    page.add_init_script(VIOLATED)
    page.on("pageerror", lambda error: wrongs.append(f"script: {error}"))

    def console(message):
        # a form that could not be done is shown again with 4xx, which Chromium notes for every document
        if message.type == "error" and not re.match(r"Failed to load resource.* 4\d\d ", message.text):
            wrongs.append(f"console: {message.text}")

    def dialog(one):
        wrongs.append(f"dialog: {one.message}")
        one.dismiss()

    def request(one):
        host = urllib.parse.urlsplit(one.url)
        if host.scheme not in ("data", "blob") and f"{host.scheme}://{host.netloc}" != url:
            wrongs.append(f"request to {one.url}")

    page.on("console", console)
    page.on("dialog", dialog)
    page.on("request", request)
    return wrongs


def still(page):
    """Live parts stay as they are: what is looked at must not be replaced meanwhile."""
    page.unroute("**/admin/live?*")
    page.route("**/admin/live?*", lambda route: route.fulfill(content_type="text/event-stream", body="retry: 600000\n\n"))


def open_page(page, url):
    """Goes there; a problem if it is not shown."""
    answer = page.goto(url, wait_until="load")
    return [] if answer and answer.status == 200 else [f"status {answer and answer.status}: {page.inner_text('body')[:300]}"]


def structure(page, width):
    """What every page has, at this width."""
    facts = page.evaluate(FACTS)
    wrong = []
    if facts["h1"] != 1 or facts["main"] != 1:
        wrong.append(f"{facts['h1']} h1, {facts['main']} main")
    if not re.fullmatch(r".+ · Pillarbox", facts["title"]) or facts["lang"] != "en":
        wrong.append(f"title {facts['title']!r}, language {facts['lang']!r}")
    if facts["wide"] > 0:
        wrong.append(f"wider than {width} px by {facts['wide']}: {facts['widest']}")
    if facts["duplicates"]:
        wrong.append(f"ids stand twice: {sorted(set(facts['duplicates']))}")
    if facts["unlabelled"]:
        wrong.append(f"{facts['unlabelled']} th without scope")
    return wrong


def keyboard(page):
    """The skip link leads to the content, and Tab from there to every control, which then shows that it has the focus."""
    page.keyboard.press("Tab")
    if page.evaluate("document.activeElement.className") != "skip":
        return [f"the first Tab does not lead to the skip link but to {page.evaluate('document.activeElement.outerHTML')[:100]}"]
    page.keyboard.press("Enter")
    for _ in range(60):
        if page.evaluate("document.activeElement.id") == "main":
            break
        page.wait_for_timeout(50)
    else:
        return ["the skip link does not lead to the content"]
    wanted, reached, wrong = set(map(str, page.evaluate(CONTROLS))), set(), []
    for _ in range(len(wanted) * 2 + 20):
        if wanted <= reached:
            break
        page.keyboard.press("Tab")
        focused = page.evaluate(FOCUSED)
        if focused is None:
            break
        reached.add(str(focused["control"]))
        if not focused["visible"]:
            wrong.append(f"focus is not to be seen: {focused['text']}")
    for missed in sorted(wanted - reached)[:3]:
        found = page.evaluate("(name) => document.querySelector(`[data-control=\"${name}\"]`)?.outerHTML ?? 'what was there before'", missed)
        wrong.append(f"Tab does not reach {found[:160]}")
    return wrong
