"""Every kind of input that is tried, by its name."""

from __future__ import annotations

from fuzz import options
from fuzz.case import Generator

KINDS: dict[str, Generator] = {
    "options": options.cases,
}
