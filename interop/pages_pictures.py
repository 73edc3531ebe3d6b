"""Pictures of the pages for the manual: small, in few colours, and without what differs from run to run or tells of the machine."""

import re
import subprocess

from common import REPOSITORY, need
from pages_words import WORDS

DIRECTORY = REPOSITORY / "docs" / "manual" / "pages"
MANUAL = REPOSITORY / "docs" / "manual" / "pages.md"
LARGEST = 60 * 1024
HIGHEST = 1_000

# Times are told from now, addresses of loopback and paths are this machine's.
PLAIN = """(paths) => {
  for (const one of document.querySelectorAll('time')) {
    if (/ago|^now/.test(one.textContent)) one.textContent = '2 min ago';
    else if (/^in /.test(one.textContent)) one.textContent = 'in 30 min';
    else one.textContent = one.textContent.replace(/\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d/, '2026-01-01 12:00:00');
  }
  const calm = (text) => {
    for (const path of paths) text = text.replaceAll(path, '/var/lib/pillarbox');
    return text.replace(/\\b127\\.\\d+\\.\\d+\\.(\\d+)\\b/g, '192.0.2.$1').replace(/\\blocalhost:\\d+\\b/g, 'app.shop.test');
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const now = calm(walker.currentNode.data);
    if (now !== walker.currentNode.data) walker.currentNode.data = now;
  }
  for (const one of document.querySelectorAll('input, textarea')) if (one.value !== calm(one.value)) one.value = calm(one.value);
}"""


def name_of(pattern):
    """`/admin/captured/{id}` is `captured-id.png`."""
    return re.sub(r"[^a-z]+", "-", pattern.removeprefix("/admin/").lower()).strip("-") + ".png"


def small(octets, to):
    """Fewer colours until it is small enough."""
    for colours in (64, 32, 16, 8):
        done = subprocess.run(["pngquant", "--strip", "--speed", "1", str(colours), "-"], input=octets, stdout=subprocess.PIPE, check=True)
        if len(done.stdout) < LARGEST:
            break
    assert len(done.stdout) < LARGEST, f"{to.name}: {len(done.stdout)} octets"
    to.write_bytes(done.stdout)


def take(page, world, paths):
    """One picture of each page, the first of its looks."""
    need("pngquant")
    DIRECTORY.mkdir(exist_ok=True)
    taken = set()
    for pattern, path in paths:
        name = name_of(pattern)
        if name in taken:
            continue
        page.goto(world.url + path, wait_until="load")
        page.evaluate(PLAIN, [str(world.dir), str(world.place.path)])
        text = page.inner_text("body")
        for secret in (str(world.place.path), "/tmp", "/work", "/root"):
            assert secret not in text, f"{path} shows {secret}"
        height = min(HIGHEST, page.evaluate("document.documentElement.scrollHeight"))
        page.set_viewport_size({"width": 1280, "height": height})
        small(page.screenshot(), DIRECTORY / name)
        taken.add(name)
    write(taken)


def write(taken):
    """The page of the manual that shows them."""
    lines = ["# Pages", "", "Every page as it looks with some mail in it. The pictures and this page are made by the browser's tests:",
             "`SCREENSHOTS=1 interop/run test_pages`.", ""]
    for group, pages in WORDS:
        lines += [f"## {group}", ""]
        for pattern, title, words in pages:
            if name_of(pattern) in taken:
                lines += [f"### {title}", "", f"`{pattern}`: {words}", "", f"![{title}](pages/{name_of(pattern)})", ""]
    MANUAL.write_text("\n".join(lines).rstrip() + "\n")
