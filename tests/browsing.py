"""What a browser would make of a page, as far as tests ask."""

from __future__ import annotations

import re
from html.parser import HTMLParser

LOADING = ("src", "srcset", "href", "action", "data", "poster")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        self._inside.append(found.get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[self._inside[-1]] = self.texts.get(self._inside[-1], "") + data


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    """All elements, each with its attributes."""
    reader = _Reader()
    reader.feed(page)
    return reader.tags


def text_of(page: str, name: str) -> str:
    """What stands in the element of this id."""
    reader = _Reader()
    reader.feed(page)
    return reader.texts[name]


def outside_requests(page: str) -> list[str]:
    """Whatever a browser would have to fetch: of elements, and of style sheets."""
    found = [value for _, attributes in tags(page) for name, value in attributes.items() if name in LOADING and value]
    found += re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", "".join(re.findall(r"<style>.*?</style>", page, re.DOTALL)))
    return [each for each in found if not str(each).startswith(("data:", "#"))]
