"""explain(): what it tells is what happened."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

import specvlm
import tiny
from browsing import outside_requests
from specvlm.explain import explain
from specvlm.explain.naming import name_of
from specvlm.explain.page import MOST_PIXELS, MOST_WIDTH, page, picture_width
from specvlm.explain.places import grid_of


@pytest.fixture(scope="module", params=tuple(tiny.BUILDERS))
def pair(request):
    target = tiny.model(request.param, 0, dtype=torch.float64)
    return tiny.pair(target, tiny.noised(target, 0.02))


@pytest.fixture(scope="module")
def explained():
    target = tiny.model("llava_onevision", 0, dtype=torch.float64)
    return explain(tiny.pair(target, tiny.noised(target, 0.02)), tiny.film(6, 3), "what happens?", max_new_tokens=4)


@pytest.mark.part(2)
@pytest.mark.parametrize("pruner", ["verifier_guided", "frames", "none"])
def test_every_token_of_the_answer_is_accounted_for(pair, pruner):
    options = specvlm.Options(pruner=pruner, pruning_ratio=0.5, max_new_tokens=24)
    made = explain(pair, tiny.film(6, 3), "what happens?", options)
    generation = made.generation
    assert generation.token_ids == pair.autoregressive(tiny.film(6, 3), "what happens?", options).token_ids
    assert tuple(word.token_id for word in made.words) == generation.token_ids
    origins, stats = Counter(word.origin for word in made.words), generation.stats
    assert origins == {"first": 1, "drafted": stats.num_accepted, "own": stats.num_rounds}
    assert stats.num_accepted > 0
    for number, (tree, each) in enumerate(zip(made.trees, stats.rounds, strict=True)):
        drafted = [word for word in made.words if word.round == number and word.origin == "drafted"]
        assert [word.token_id for word in drafted] == [each.tree.tokens[node] for node in each.path[1:]]
        assert len(tree.accepted) == 1 + len(drafted)


@pytest.mark.parametrize("pruner", ["verifier_guided", "frames"])
def test_the_cells_show_what_the_draft_saw_and_where_the_target_looked(pair, pruner):
    made = explain(pair, tiny.film(6, 3), "what happens?", pruner=pruner, pruning_ratio=0.5, max_new_tokens=8)
    stats = made.generation.stats
    lit = sum(int((look.stages > 0).sum()) for look in made.looks)
    shown = sum(look.stages.size for look in made.looks)
    assert lit in (stats.num_kept, stats.num_kept - 1)  # LLaVA's newline has no place
    assert shown in (stats.num_video_tokens, stats.num_video_tokens - 1)
    assert 0.5 < sum(look.scores.sum() for look in made.looks) <= 1 + 1e-6
    assert made.num_stages in ((1, 2) if pruner == "verifier_guided" else (1,))
    # Of equal kept counts, what the target looked at most is lit by the method that goes by it, and not by the other.
    scores = np.concatenate([look.scores.ravel() for look in made.looks])
    stages = np.concatenate([look.stages.ravel() for look in made.looks])
    if pruner == "verifier_guided":
        assert stages[scores.argmax()] == 1


def test_an_answer_of_one_token_and_a_draft_that_sees_everything(pair):
    made = explain(pair, tiny.film(6, 3), "what happens?", pruning_ratio=0.0, max_new_tokens=1)
    assert [word.origin for word in made.words] == ["first"]
    assert made.trees == ()
    assert made.num_stages == 0
    assert "__DATA__" not in page(made)


def test_the_page_holds_it_all_and_loads_nothing(pair):
    made = explain(pair, tiny.film(6, 3), "is </script> safe?", max_new_tokens=12)
    html = page(made)
    data = re.search(r'<script id="data" type="application/json">(.*?)</script>', html, re.DOTALL)
    found = json.loads(data.group(1))
    assert found["question"] == "is </script> safe?"
    assert [word["token_id"] for word in found["words"]] == list(made.generation.token_ids)
    assert len(found["looks"]) == len(made.looks)
    assert outside_requests(html) == []


def test_the_page_says_what_answered_and_what_it_came_to(explained):
    fixed = replace(explained, options=replace(explained.options, plan="fixed"))
    html, stats = page(fixed), explained.generation.stats
    assert f"{stats.num_rounds} forwards of the target gave {stats.num_tokens - 1} tokens" in html
    assert f"ratio {1 - stats.num_kept / stats.num_video_tokens:.2f}: the draft never saw" in html
    for said in (f"{explained.target} in float64", explained.draft, "of one shape: dynamic", "not measured"):
        assert said in html
    planned = replace(explained, options=replace(explained.options, plan="auto"))
    assert "as the plan chose" not in html
    assert "planned, round by round" in page(planned)
    assert ", as the plan chose: the draft never saw" in page(planned)
    assert "underlined: the target" in html


def test_frames_are_as_wide_as_they_are_until_there_are_too_many(explained):
    look = replace(explained.looks[0], frames=np.zeros((1, 360, 640, 3), np.uint8))
    assert picture_width([look]) == 640
    assert picture_width([replace(look, frames=np.zeros((1, 1080, 1920, 3), np.uint8))]) == MOST_WIDTH
    width = picture_width([look] * 200)
    assert 200 * width * width * 360 / 640 <= MOST_PIXELS
    assert width > 200


def test_models_are_called_as_people_call_them():
    vlm = specvlm.load("pocket")
    assert name_of(vlm.target) == "pocket-llava_onevision, its target"
    assert name_of(vlm.draft) == "pocket-llava_onevision, its draft"
    assert name_of("self") == "the target itself, over a part of its own memory"


HOSTILE = {
    "ends the script": "</script><script>alert(1)</script>",
    "hides the end of the script": "<!-- <script>",
    "ends a comment": "--> ]]> </ScRiPt >",
    "looks like a place-holder": "__DATA__ {} %s $x^2$ ${data}",
    "markup": "a < b && \"c\" > 'd' &lt;&#60;",
    "half a letter": "film \udcff.mp4",
    "separators": "one\u2028two\u2029three\0four\x1b[31m",
    "from right to left": "\u05de\u05d4 \u05e7\u05d5\u05e8\u05d4? \u202e",
    "beyond the first plane": "\U0001f3ac\U0001f468\u200d\U0001f469",
    "very long": "a" * 5000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_any_text_is_shown_as_it_is(explained, text):
    html = page(replace(explained, question=text, video=text))
    html.encode("utf-8")  # as the command writes it
    start = html.index('<script id="data" type="application/json">') + 42
    data = html[start : html.index("</script>", start)]
    assert not set("<\u2028\u2029") & set(data)
    assert data.isascii()
    found = json.loads(data)
    assert found["question"] == text
    assert found["about"].startswith(f"\u2068{text}\u2069: 6 frames, ")
    same = page(explained)
    assert html[:start] == same[:start]
    assert html[start + len(data) :] == same[same.index("</script>", start) :]


def test_text_is_put_on_the_page_as_text_runs_its_own_way_and_breaks_anywhere(explained):
    html = page(explained)
    assert "innerHTML" not in html
    assert "insertAdjacentHTML" not in html
    assert re.search(r'<h1 id="question" dir="auto">', html)
    assert re.search(r'id="answer" dir="auto"', html)
    for kind in ("h1", "p", ".answer"):
        assert re.search(rf"^{re.escape(kind)} {{[^}}]*overflow-wrap: anywhere", html, re.MULTILINE)


def test_what_cannot_be_explained_is_refused(pair):
    with pytest.raises(specvlm.OptionError, match="without a draft"):
        explain(pair.without_draft(), tiny.film(6, 3), "what happens?")
    with pytest.raises(specvlm.OptionError, match="one video"):
        explain(pair, None, "what happens?")


@pytest.mark.parametrize(
    ("num_places", "aspect", "grid"),
    [
        (9, 1.0, (3, 3)),
        (12, 4 / 3, (3, 4)),
        (12, 3 / 4, (4, 3)),
        (8, 1.0, (2, 4)),
        (7, 16 / 9, (1, 7)),
        (1, 1.0, (1, 1)),
    ],
)
def test_places_are_laid_out_in_the_shape_of_the_frame(num_places, aspect, grid):
    assert grid_of(num_places, aspect) == grid
