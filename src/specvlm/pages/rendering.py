"""Templates filled in. They all extend templates/base.html.jinja, which has the look, the head and the footer."""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import dataclass
from typing import Any, final

import jinja2

from specvlm.drawing import DARK, LIGHT
from specvlm.machine import version_of


@final
@dataclass(frozen=True)
class Picture:
    """A picture by its data URIs, on a light ground and on a dark one: the browser takes the one that its reader likes.
    `alt` says in words what it shows."""

    alt: str
    light: str
    dark: str

    @classmethod
    def of_svgs(cls, alt: str, light: str, dark: str) -> Picture:
        """Of two SVG documents."""
        return cls(alt, *(data_uri("image/svg+xml", svg.encode()) for svg in (light, dark)))


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def as_json(data: Any) -> str:
    """JSON for a script element, where it may stand as it is: nothing in it could be taken for markup.

    In a script element `</script` is special, and `<!--` and `<script` together hide it. All that is no ASCII, halves
    of letters too, json escapes itself.
    """
    return json.dumps(data).replace("<", "\\u003c")


def render(template: str, *, command: str = "", **values: Any) -> str:
    """A page, or a picture: `template` is the name of a file in templates/, but for its `.jinja`. `command` is what a
    shell repeats it with; empty, if no command made it.

    Whatever is put in is escaped, and half a letter (a byte of a file's name that is no UTF-8) written as JSON has it.
    """
    page = _environment().get_template(f"{template}.jinja").render(command=command, **values)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("specvlm.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {"version": version_of("specvlm"), "light": LIGHT, "dark": DARK}
    return made
