"""Timelines: spans that overlap, beside one another, and the picture in the docs is that of the figures beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import tiny
import video_zoo as zoo
from specvlm.answering.options import Options
from specvlm.bench.showing.timelines import Timeline, measure, svg
from specvlm.drawing.themes import DARK, LIGHT
from specvlm.drawing.timeline import lanes
from specvlm.engine.stats import Span, joined

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
SPANS = (
    Span("preprocess", 0.5, 1.5),
    Span("decode_video", 0.0, 2.0),
    Span("vision_target", 1.5, 2.5),
    Span("vision_target", 2.75, 3.0),
    Span("rounds", 3.0, 9.0),
)
FOUND = Timeline(SPANS, 3.0, "what?", "a-pair", "A CPU", 2, 5)


def test_lanes_come_in_the_order_in_which_they_began():
    assert lanes(SPANS) == ["decode_video", "preprocess", "vision_target", "rounds"]


def test_overlap_is_counted_where_both_were_at_work():
    assert FOUND.overlap("decode_video", "preprocess") == 1.0
    assert FOUND.overlap("decode_video", "vision_target") == 0.5
    assert FOUND.overlap("preprocess", "vision_target") == 0.0


def test_spans_that_follow_on_one_another_are_one_and_moments_are_none():
    told = [
        Span("vision_target", 0.0, 1.0),
        Span("decode_video", 0.0, 2.0),
        Span("vision_target", 1.0, 1.00001),
        Span("vision_target", 1.0005, 1.5),
        Span("vision_target", 1.6, 1.7),
        Span("decode_video", 1.0, 1.5),
    ]
    assert joined(told) == [
        Span("vision_target", 0.0, 1.5),
        Span("decode_video", 0.0, 2.0),
        Span("vision_target", 1.6, 1.7),
        Span("decode_video", 1.0, 1.5),
    ]


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_each_span_is_drawn_in_the_colour_of_its_lane(theme):
    picture = svg(FOUND, theme)
    for name in ("decode video", "preprocess", "vision target", "rounds", "first token"):
        assert f">{name}<" in picture
    shapes = re.findall(r'<path d="[^"]*z\s*"[^>]*style="fill: (#\w+)"', picture)
    assert [shapes.count(theme.colour(lane)) for lane in range(4)] == [1, 1, 2, 1]


def test_what_is_measured_is_told_and_read_again(tmp_path):
    path = zoo.make(tmp_path, "groups.mp4")
    target = tiny.model("qwen2_5_vl", dtype=torch.float64)
    found = measure(tiny.pair(target, None), path, "what?", "tiny", Options(num_frames=9, max_new_tokens=3), repeats=3)
    assert {"decode_video", "preprocess", "vision_target", "prefill_target", "rounds"} <= {s.name for s in found.spans}
    assert found.spans[-1].name == "rounds"
    assert found.spans[-1].start >= found.ttft_seconds > 0
    assert Timeline.of_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_picture_in_the_docs_is_that_of_the_figures_beside_it_and_shows_an_overlap():
    found = Timeline.of_json(json.loads((PICTURES / "timeline.json").read_text(encoding="utf-8")))
    assert (PICTURES / "timeline.svg").read_text(encoding="utf-8") == svg(found), "stale: make pictures"
    assert (PICTURES / "timeline-dark.svg").read_text(encoding="utf-8") == svg(found, DARK), "stale: make pictures"
    for name in ("preprocess", "vision_target", "prefill_target"):
        assert found.overlap("decode_video", name) > 0
