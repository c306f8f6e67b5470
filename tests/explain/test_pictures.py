"""pictures(): PNG files that show what they say."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import specvlm
import tiny
from specvlm.drawing import DARK, LIGHT
from specvlm.drawing.themes import contrast
from specvlm.explain import explain
from specvlm.explain.colours import BY_THEME
from specvlm.explain.explanation import Word
from specvlm.explain.pictures import COLUMNS, _heated, _lines, pictures

COLOURS = BY_THEME[LIGHT]
ONE, TWO, OWN, RIGHT, HEAT = COLOURS.one, COLOURS.two, COLOURS.own, COLOURS.right, COLOURS.heat


@pytest.fixture(scope="module")
def pair():
    target = tiny.model("llava_onevision", 0, dtype=torch.float64)
    return tiny.pair(target, tiny.noised(target, 0.02))


def count(png: bytes, colour: str) -> int:
    """Pixels of just this colour."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    return int((pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(-1).sum())


def test_colours_show_where_there_is_something_to_show(pair):
    asked = {"pruning_ratio": 0.5, "max_new_tokens": 24}
    made = explain(pair, tiny.film(6, 3), "what happens?", pruner="verifier_guided", **asked)
    drawn = pictures(made)
    assert set(drawn) == {"answer", "tree", "kept", "attention"}
    of_one_stage = pictures(explain(pair, tiny.film(6, 3), "what happens?", pruner="frames", **asked))
    assert min(count(drawn["kept"], ONE), count(drawn["kept"], TWO), count(of_one_stage["kept"], ONE)) > 100
    assert max(count(of_one_stage["kept"], TWO), count(drawn["attention"], ONE)) < 10  # a blend may be the very colour
    assert count(drawn["tree"], RIGHT) > 20
    assert count(drawn["answer"], OWN) > 20


def test_in_the_dark_they_have_the_dark_page_s_colours(pair):
    made = explain(
        pair, tiny.film(6, 3), "what happens?", pruner="verifier_guided", pruning_ratio=0.5, max_new_tokens=24
    )
    drawn, dark = pictures(made, DARK), BY_THEME[DARK]
    for name, picture in drawn.items():
        assert count(picture, DARK.ground) > 1000, name
        assert count(picture, LIGHT.ground) < count(picture, DARK.ground) / 10, name
    assert count(drawn["tree"], dark.right) > 20
    assert count(drawn["kept"], dark.one) > 100
    assert count(drawn["answer"], dark.own) > 20


@pytest.mark.parametrize("theme", BY_THEME)
def test_colours_stand_out_from_their_ground(theme):
    colours = BY_THEME[theme]
    for colour in (colours.one, colours.two, colours.own, colours.first, colours.right):
        assert contrast(colour, theme.ground) >= 3


def test_an_answer_without_a_round_has_no_tree(pair):
    made = explain(pair, tiny.film(6, 3), "what happens?", max_new_tokens=1)
    assert set(pictures(made)) == {"answer", "kept", "attention"}


def test_a_round_without_an_accepted_guess_shows_no_green_but_the_known_token(pair):
    made = explain(pair, tiny.film(6, 3), "what happens?", max_new_tokens=24)
    tree = max(made.trees, key=lambda tree: len(tree.accepted))
    assert len(tree.accepted) > 1
    none = replace(tree, accepted=frozenset({0}))
    greens = [count(pictures(replace(made, trees=(each,)))["tree"], RIGHT) for each in (tree, none)]
    assert greens[0] > greens[1] + 50


def test_the_largest_ring_is_where_the_target_looks_most(pair):
    made = explain(pair, tiny.film(6, 3), "what happens?", max_new_tokens=4)
    look = max(made.looks, key=lambda look: look.scores.max())
    grey = replace(look, frames=np.full_like(look.frames, 128))
    tile = _heated(made, COLOURS, np.full((120 * look.scores.shape[0], 120 * look.scores.shape[1], 3), 128.0), grey)
    red = (tile[..., 0] - tile[..., 2] > 1).reshape(look.scores.shape[0], 120, look.scores.shape[1], 120).sum((1, 3))
    assert np.array_equal(np.argsort(red, axis=None, kind="stable"), np.argsort(look.scores, axis=None, kind="stable"))
    assert red.max() < 0.75 * 120 * 120  # a disc, around which the frame can be seen
    assert count(pictures(replace(made, looks=(grey,)))["attention"], HEAT) > 100


def words(*texts: str) -> list[Word]:
    return [Word(text, 0, "own", number, 0) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    "texts",
    [
        ("one",),
        ("a ", "red", "dish thing\n\n", "$x_1$ and"),
        tuple("word " for _ in range(60)),
        ("x" * 200,),
        ("", "a", ""),
    ],
)
def test_lines_lose_nothing_but_the_spaces_they_are_broken_at(texts):
    lines = list(_lines(words(*texts)))
    shown = ["".join(text for _, text, _ in line) for line in lines]
    assert all(len(line) <= COLUMNS for line in shown)
    assert "".join(shown).replace(" ", "") == "".join(texts).replace(" ", "").replace("\n", "")
    for line, text in zip(lines, shown, strict=True):
        assert [text[start : start + len(part)] for start, part, _ in line] == [part for _, part, _ in line]


def test_signs_of_mathematics_are_text(pair):
    made = explain(pair, tiny.film(6, 3), "what happens?", max_new_tokens=4)
    assert pictures(replace(made, words=tuple(words("it costs $5", " or $\\frac{", "..."))))["answer"]


def test_without_matplotlib_it_says_how_to_get_it(pair, monkeypatch):
    made = explain(pair, tiny.film(6, 3), "what happens?", max_new_tokens=4)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(specvlm.OptionError, match="pip install matplotlib"):
        pictures(made)
