"""Check the links within a built site: ``python docs/extensions/links.py build/docs``.

Sphinx itself warns of links between pages that lead nowhere. This program looks at what it has written: every link and
every image of every page, those of templates and of drawings too, has a file, and every anchor is on its page.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Addresses that a page names, and its anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {"", "top"}

    def handle_starttag(self, _tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Take note of the addresses and anchors of one element."""
        for name, value in attributes:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


@cache
def read(path: Path) -> Page:
    """Read a page."""
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def broken(site: Path) -> list[str]:
    """Links of a site that lead nowhere, with the page that has them."""
    found = []
    for path in sorted(path for path in site.rglob("*.html") if "_static" not in path.parts):
        for link in read(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                found.append(f"{path.relative_to(site)}: {link}: no such file")
            elif target.suffix == ".html" and unquote(parts.fragment) not in read(target).anchors:
                found.append(f"{path.relative_to(site)}: {link}: no such anchor")
    return found


if __name__ == "__main__":
    faults = broken(Path(sys.argv[1]).resolve())
    sys.exit("\n".join(faults) if faults else 0)
