"""The race: both lanes write what was answered, when it was known."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import specvlm
import tiny
from specvlm.bench.showing.race import HELD, WATCHABLE, Lane, Race, measure, middle, svg

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"

TEXT = "The video shows <two> shapes & a very long line, " * 3
STOCK = Lane("ar", tuple((0.1 * (number + 1), word + " ") for number, word in enumerate(TEXT.split())))
OURS = Lane("auto", ((0.25, TEXT[:60]), (0.5, TEXT[60:].rstrip() + " ")))
RACE = Race((STOCK, OURS), "what?", 27, 5, "a-pair", "float32", "A <fast> CPU", 2)


def steps(picture: str) -> dict[str, float]:
    """When each step begins, in percent of the cycle, by its name."""
    return {
        name: float(at)
        for name, at in re.findall(r"@keyframes (\w+) \{ 0% \{ opacity: 0 \} ([\d.]+)% \{ opacity: 1 \} \}", picture)
    }


def shown(picture: str, lane: str) -> list[tuple[str, str]]:
    """The words of a lane, each with the name of its step, in the order of the page."""
    texts = ElementTree.fromstring(picture).iter(f"{SVG}text")
    named = [(text.get("style", "").removeprefix("animation-name: "), text.text or "") for text in texts]
    return [(step, text) for step, text in named if re.fullmatch(rf"{lane}\d+", step)]


@pytest.mark.parametrize("pace", [1.0, 0.01, 40.0])
def test_every_word_comes_when_it_was_known(pace):
    lanes = [replace(lane, pieces=tuple((pace * at, text) for at, text in lane.pieces)) for lane in RACE.lanes]
    raced = replace(RACE, lanes=tuple(lanes))
    picture = svg(raced)
    slowed = max(1.0, WATCHABLE / lanes[0].seconds)
    cycle = slowed * lanes[0].seconds + HELD
    begins = steps(picture)
    for lane, letter in zip(lanes, "ab", strict=True):
        for number, (at, _) in enumerate(lane.pieces):
            assert begins[f"{letter}{number}"] == pytest.approx(100 * at * slowed / cycle, abs=1e-3)
        assert begins[f"{letter}end"] == pytest.approx(100 * lane.seconds * slowed / cycle, abs=1e-3)
    assert f"animation: {cycle:.2f}".rstrip("0") in picture
    assert ("slowed down" in picture) == (slowed > 1.05)
    assert f"{lanes[0].seconds / lanes[1].seconds:.1f} times as fast" in picture


def test_both_lanes_write_the_whole_answer_and_trust_no_word():
    picture = svg(RACE)
    for letter in "ab":
        assert "".join(text for _, text in shown(picture, letter)).replace(" ", "") == TEXT.replace(" ", "")
    assert "A &lt;fast&gt; CPU, 2 threads" in picture
    assert "prefers-color-scheme: dark" in picture
    assert "prefers-reduced-motion" in picture
    assert not re.search(r"(href|src)=|url\(|<script", picture)


def test_a_record_is_the_same_race_again():
    assert Race.of_json(json.loads(json.dumps(RACE.to_json()))) == RACE


def test_what_is_measured_is_what_was_answered_in_order():
    target = tiny.model("llava_onevision", 0, dtype=torch.float64)
    pair = tiny.pair(target, tiny.noised(target, 0.02))
    options = specvlm.Options(max_new_tokens=12, do_sample=False)
    raced = measure(pair, tiny.film(6, 3), "what happens?", "tiny", repeats=1, options=options)
    expected = pair.autoregressive(tiny.film(6, 3), "what happens?", options)
    assert raced.tokens == len(expected.token_ids)
    for lane in raced.lanes:
        assert lane.text.strip() == expected.text.strip()
        assert lane.pieces[0][0] > 0
        assert all(earlier <= later for (earlier, _), (later, _) in pairwise(lane.pieces))
    assert len(raced.lanes[0].pieces) > len(raced.lanes[1].pieces)


def test_no_lane_is_a_lucky_run():
    lanes = [Lane("ar", ((seconds, "a"),)) for seconds in (5.0, 1.0, 3.0, 2.0)]
    assert middle(lanes[:3]).seconds == 3.0
    assert middle(lanes).seconds == 3.0


def test_the_published_race_is_drawn_from_the_published_record():
    raced = Race.of_json(json.loads((PICTURES / "race.json").read_text(encoding="utf-8")))
    assert (PICTURES / "race.svg").read_text(encoding="utf-8") == svg(raced), "stale: make pictures"
    assert (PICTURES / "race.svg").stat().st_size < 300_000
