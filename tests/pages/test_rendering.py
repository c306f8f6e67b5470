"""Pages: one look, nothing loaded, and whatever is put in is text."""

from __future__ import annotations

import json
import re

import jinja2
import pytest

import specvlm
from browsing import outside_requests, tags, text_of
from specvlm.drawing import DARK, LIGHT
from specvlm.pages import Picture, as_json, render

HOSTILE = '</code></script><script>alert("1")</script><img src=x onerror=alert(1)> & caf\udce9'


def explained(command: str = "", headline: str = "So it went.") -> str:
    return render(
        "explain.html",
        command=command,
        headline=headline,
        settings=[("target", "a")],
        machine="A <fast> CPU",
        data=as_json({}),
    )


def test_a_page_looks_well_on_both_grounds_and_loads_nothing():
    page = explained()
    assert 'name="color-scheme" content="light dark"' in page
    dark = re.search(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", page, re.DOTALL)
    assert dark is not None
    assert DARK.ground in dark[1]
    assert LIGHT.ground in page[: dark.start()]
    assert outside_requests(page) == []
    assert "A &lt;fast&gt; CPU" in page


def test_the_footer_has_the_version_and_the_command_if_there_is_one():
    assert f"Made by specvlm {specvlm.__version__}" in explained()
    assert 'id="command"' not in explained()
    assert text_of(explained("specvlm explain 'a b'"), "command") == "specvlm explain 'a b'"


def test_whatever_is_put_in_is_text():
    page = explained(HOSTILE, HOSTILE)
    page.encode("utf-8")
    assert [name for name, _ in tags(page)] == [name for name, _ in tags(explained("a", "b"))]
    assert text_of(page, "command") == HOSTILE.replace("\udce9", r"\udce9")


def test_json_is_the_same_again_and_no_markup():
    data = {"text": HOSTILE, "more": ["<!--", "\u2028"]}
    text = as_json(data)
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == data


def test_a_picture_is_chosen_by_what_its_reader_likes():
    picture = Picture.of_svgs("bars", "<svg>light</svg>", "<svg>dark</svg>")
    assert picture.light.startswith("data:image/svg+xml;base64,")
    assert picture.light != picture.dark


def test_what_a_template_wants_and_is_not_given_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="headline"):
        render("explain.html", settings=[], machine="", data="{}")
