"""The page as one document, and what a browser may load for it: nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from specvlm.explain.naming import name_of
from specvlm.machine import machine, processor
from specvlm.pages import render
from specvlm.pipeline import SpecVLM

SCRIPTS = ("asking.js", "racing.js", "page.js")
"""In the order in which they need each other."""


def document(vlm: SpecVLM) -> str:
    """The page's HTML, about this pair of models."""
    folder = files("specvlm.serve.page") / "script"
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return render("serve.html", about=_about(vlm), script=script)


def policy(page: str) -> str:
    """A Content-Security-Policy under which the page's own script and style run and no others, and nothing is asked of
    anybody but its server."""
    script, style = (
        " ".join(f"'sha256-{_digest(text)}'" for text in re.findall(f"<{name}>(.*?)</{name}>", page, re.DOTALL))
        for name in ("script", "style")
    )
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src data:; media-src blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()


def _about(vlm: SpecVLM) -> str:
    """Who answers here, and on what."""
    draft = "" if vlm.draft is None else f", draft: {name_of(vlm.draft)}"
    return f"Target: {name_of(vlm.target)}{draft}, on {processor(machine(), vlm.pair.devices)}"
