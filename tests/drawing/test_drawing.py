"""Themes, labels and bars: seen by everyone, and nothing on top of anything."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specvlm.drawing import DARK, LIGHT, THEMES, as_svg, new_figure, pairs, stacked
from specvlm.drawing.labelling import spread
from specvlm.drawing.themes import contrast


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
def test_every_colour_stands_out_and_no_two_are_one(theme):
    assert min(contrast(colour, theme.ground) for colour in theme.colours) >= 3
    assert min(contrast(ink, theme.ground) for ink in (theme.ink, theme.faint)) >= 4.5
    assert min(contrast(theme.upon(colour), colour) for colour in theme.colours) >= 3.5

    def apart(one: str, other: str) -> int:
        return sum(abs(int(one[start : start + 2], 16) - int(other[start : start + 2], 16)) for start in (1, 3, 5))

    assert min(apart(one, other) for one, other in combinations(theme.colours, 2)) > 55


@given(st.lists(st.floats(-0.2, 1.2), max_size=12), st.floats(0.01, 0.2))
def test_labels_keep_their_order_and_their_distance(places, gap):
    found = spread(places, gap)
    assert len(found) == len(places)
    order = sorted(range(len(places)), key=places.__getitem__)
    placed = [found[number] for number in order]
    assert all(upper - lower >= gap - 1e-9 for lower, upper in pairwise(placed))
    if gap * len(places) <= 1:
        assert all(gap / 2 - 1e-9 <= place <= 1 - gap / 2 + 1e-9 for place in placed)


def test_labels_that_have_room_stand_where_they_belong():
    assert spread([0.9, 0.1, 0.5], 0.1) == [0.9, 0.1, 0.5]
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=lambda theme: theme.name)
def test_a_part_has_one_colour_in_every_picture_and_a_name_on_it(theme):
    def drawn(parts):
        with new_figure(6.0, 2.0, theme) as figure:
            axes = figure.add_subplot()
            stacked(axes, theme, ["a", "b"], [10.5, 5.0], parts)
            colours = {axes.texts[n].get_text(): axes.texts[n] for n in range(len(axes.texts))}
            return set(colours), as_svg(figure)

    names, svg = drawn({"tiny": [0.01, 0.0], "read": [4.0, 2.0], "write": [6.0, 3.0]})
    assert names == {"read", "write"}
    assert theme.colour(0) in svg
    assert "the rest" in svg  # with what is too small to see
    assert "tiny" not in svg
    names, svg = drawn({"tiny": [0.0, 0.0], "read": [0.0, 0.0], "write": [10.5, 5.0]})
    assert names == {"write"}
    assert theme.colour(0) in svg
    assert theme.colour(1) not in svg


def test_bars_say_once_what_they_are_and_leave_out_what_is_not_known():
    with new_figure(6.0, 2.0) as figure:
        axes = figure.add_subplot()
        longest = pairs(axes, LIGHT, ["one", "two"], {"decoding": [1.0, 2.5], "end to end": [1.0, None]})
        assert [text.get_text() for text in axes.texts] == ["1.00 decoding", "2.50", "1.00 end to end", ""]
        assert longest == 2.5
