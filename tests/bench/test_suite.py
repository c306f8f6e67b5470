"""The bench from end to end, on pairs of a few million parameters: whole, exact, and ready for JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import torch

from bench.small import POCKET_SHAPES
from specvlm.answering.options import Options
from specvlm.bench import suite
from specvlm.bench.roofline import Machine
from specvlm.bench.showing.report import grids
from specvlm.bench.suite import Setup, measure
from specvlm.bench.widened.footage import shoot
from specvlm.bench.widened.shapes import PAIRS, Pair
from specvlm.bench.widened.subjects import NAMES, Subject, build, widened, without_end
from specvlm.comparing.compare import compare
from specvlm.errors import OptionError

MACHINE = Machine("made up", 1e10, 1e11)
ARMS = ("ar", "loop", "assisted", "specvlm@0.5", "specvlm@0.9")
CELLS = ((36, 8), (72, 8))


@pytest.fixture(scope="module")
def subject() -> Subject:
    return build("pocket-qwen2_5_vl", torch.float32)


@pytest.fixture(scope="module")
def found(subject: Subject) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    setup = Setup(
        pair=subject.name,
        video_tokens=(36, 72),
        new_tokens=(8,),
        ratios=(0.5, 0.9),
        arms=("assisted", "specvlm"),
        repeats=1,
        rows=(1, 4),
    )
    return measure(subject, setup, MACHINE, said.append), said


def test_every_arm_runs_in_every_cell_and_gives_stock_generates_answer(found):
    document, _ = found
    assert tuple((cell["video_tokens"], cell["new_tokens"]) for cell in document["cells"]) == CELLS
    expected = [(arm, *cell) for cell in CELLS for arm in ARMS]
    assert [(arm["arm"], arm["video_tokens"], arm["new_tokens"]) for arm in document["arms"]] == expected
    for arm in document["arms"]:
        assert arm["identical"]
        assert arm["tokens"] == arm["new_tokens"]
        assert arm["num_video_tokens"] == arm["video_tokens"]


def test_whoever_waits_is_told_what_runs(found):
    _, said = found
    assert [line.rpartition(": ")[2] for line in said if " run " in line] == [*ARMS, *ARMS]


def test_every_arm_has_its_place_under_the_roofline(found):
    for arm in found[0]["arms"]:
        roof = arm["roofline"]
        assert roof["bound_seconds"].keys() == roof["times_bound"].keys() >= {"prefill_target", "verify"}
        assert ("draft" in roof["bound_seconds"]) == (arm["arm"] in ("specvlm@0.5", "specvlm@0.9"))
        assert all(times > 0 for times in roof["times_bound"].values())
        assert roof["memory_limit"]["percent"] > 0
        assert roof["loop_limit"]["percent"] > 0


def test_the_document_is_json_and_makes_every_grid(found):
    document, _ = found
    again = json.loads(json.dumps(document, allow_nan=False))
    assert grids(again) == grids(document)
    assert document["machine"]["bytes_per_second"] == 1e10
    assert document["bench"]["dtype"] == "float32"
    overs = {growth["over"] for growth in document["costs"]["growth"]}
    assert overs == {"prompt tokens", "rows"}


def test_without_their_end_all_arms_go_on(tmp_path):
    subject = build("pocket-llava_onevision", torch.float32)
    film = shoot(subject.vlm, tmp_path, 72, 64)
    ask = partial(
        compare, subject.vlm, film.path, "How many shapes are there?", Options(max_new_tokens=12, num_frames=8)
    )
    assert {run.finish_reason for runs in ask(arms=("specvlm",)).runs.values() for run in runs} == {"eos"}
    without_end(subject)
    longer = ask(arms=("assisted", "specvlm", "loop"))
    assert all(arm.tokens == 12 and arm.identical for arm in longer.arms)
    assert {run.finish_reason for runs in longer.runs.values() for run in runs} == {"length"}


def test_a_widened_pair_answers_about_a_long_film(tmp_path):
    """Twice as many frames as it knows, half of them blank: the answer is as long as the film's own."""
    pair = Pair(POCKET_SHAPES["target"], POCKET_SHAPES["draft"], "llava_onevision")
    wide = widened("made up", pair, torch.float32)
    assert wide.widened
    assert wide.vlm.target.model.config.get_text_config().hidden_size == POCKET_SHAPES["target"].hidden
    film = shoot(wide.vlm, tmp_path, 600, 54, blanks=True)
    assert film.num_blank > film.num_frames / 2 - 2
    options = Options(num_frames=film.num_frames, max_new_tokens=70)
    found = compare(wide.vlm, film.path, film.question, options, arms=("specvlm",))
    assert all(arm.identical and arm.tokens > 40 for arm in found.arms)
    assert found.arms[1].mean_acceptance_length > 3


def test_defaults_hang_on_the_pair():
    assert Setup(pair=NAMES[0]).torch_dtype == torch.float32
    assert Setup(pair=next(iter(PAIRS))).torch_dtype == torch.bfloat16
    assert Setup(pair=NAMES[0], dtype="bfloat16").torch_dtype == torch.bfloat16
    assert Setup(pair=NAMES[0], arms=("chain",)).all_arms == ("ar", "loop", "chain")
    assert Setup(pair=NAMES[0], arms=("sd", "specvlm", "auto@0.5"), ratios=(0.25, 0.9)).all_arms == (
        *("ar", "loop", "sd", "specvlm@0.25", "specvlm@0.9", "auto@0.5"),
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dtype": "float16"}, "dtype must be bfloat16 or float32, not 'float16'"),
        ({"video_tokens": (300, 0)}, "video_tokens must be 1 or more each, not 300, 0"),
        ({"new_tokens": ()}, "new_tokens"),
        ({"repeats": 0}, "repeats must be 1 or more, not 0"),
        ({"arms": ("vllm",)}, "no arm 'vllm'"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, message):
    with pytest.raises(OptionError, match=message):
        Setup(pair=NAMES[0], **given)


def test_an_unknown_pair_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(suite.roofline, "measure", lambda **_: pytest.fail("measured"))
    with pytest.raises(OptionError, match=r"no pair 'gpt'.* there are pocket-llava_onevision"):
        suite.run(Setup(pair="gpt"))
