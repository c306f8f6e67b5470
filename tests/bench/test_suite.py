"""The bench from end to end, on pairs of a few million parameters: whole, exact, and ready for JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import torch

import tiny
from bench.small import POCKET_SHAPES
from specvlm.answering.options import Options
from specvlm.bench import suite
from specvlm.bench.roofline import Machine
from specvlm.bench.showing.report import grids
from specvlm.bench.suite import Setup, measure
from specvlm.bench.widened.footage import shoot
from specvlm.bench.widened.shapes import PAIRS, Pair
from specvlm.bench.widened.subjects import NAMES, Subject, build, loaded, widened, without_end
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


def test_the_document_says_what_it_ran_on_and_what_speedups_are_against(found):
    document, _ = found
    assert document["bench"]["processor"] == document["machine"]["cpu"]
    assert [cell["baselines"] for cell in document["cells"]] == [
        {"decode_speedup": "ar", "end_to_end_speedup": "ar"}
    ] * len(CELLS)
    assert [cell["left_out"] for cell in document["cells"]] == [[]] * len(CELLS)


def test_when_time_is_up_the_document_is_made_of_what_there_is(subject):
    setup = Setup(pair=subject.name, video_tokens=(36,), new_tokens=(4,), arms=("sd",), repeats=1, rows=(1,))
    document = measure(subject, setup, MACHINE, has_time=lambda: False)
    assert [arm["arm"] for arm in document["arms"]] == ["ar"]
    assert document["cells"][0]["left_out"] == ["loop", "sd"]
    assert document["costs"]["steps"] == []
    assert next(grid.rows[0][0] for grid in grids(document)) == "ar"


def test_any_pair_of_checkpoints_can_be_measured(tmp_path):
    """Tiny random ones of another family, that came from somewhere."""
    target = tiny.model("qwen2_vl", 0, layers=2)
    for name, model in (("big", target), ("small", tiny.noised(target, 0.01))):
        model.save_pretrained(tmp_path / name)
        tiny.processor("qwen2_vl").save_pretrained(tmp_path / name)
    setup = Setup(
        target=str(tmp_path / "big"),
        draft=str(tmp_path / "small"),
        dtype="float32",
        device_map="cpu",
        video_tokens=(24,),
        new_tokens=(8,),
        arms=("specvlm",),
        repeats=1,
        rows=(1, 3),
    )
    pair = loaded(setup.name, str(setup.target), str(setup.draft), setup.torch_dtype, setup.device_map)
    assert pair.name == "big+small"
    assert pair.slow
    document = measure(pair, setup, MACHINE)
    assert [(arm["arm"], arm["identical"]) for arm in document["arms"]] == [
        ("ar", True),
        ("loop", True),
        ("specvlm@0.9", True),
    ]
    assert document["bench"]["pair"] == "big+small"
    assert "Two checkpoints as they are" in document["bench"]["about"]


def test_a_pair_is_built_where_it_will_run(monkeypatch):
    """Pocket pairs are loaded there; a wide one is written there by its small one. The device that has no memory stands
    in for one that isn't here."""
    asked: list[Any] = []

    def load(*models: Any, device_map: str | None = None, **how: Any) -> Any:
        asked.append(device_map)
        raise KeyError("loaded")

    monkeypatch.setattr("specvlm.bench.widened.subjects.load", load)
    for name in NAMES:
        with pytest.raises(KeyError, match="loaded"):
            build(name, torch.float32, "cuda:3")
    assert asked == ["cuda:3"] * len(NAMES)


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({}, None),
        ({"device": "cpu"}, "cpu"),
        ({"device_map": "balanced"}, "balanced"),
        ({"device": "cuda:1"}, "cuda:1"),
    ],
)
def test_a_device_or_a_device_map_says_where(given, where):
    assert Setup(pair=NAMES[0], **given).where == where


def test_both_of_them_are_too_much():
    with pytest.raises(OptionError, match="both say where"):
        Setup(pair=NAMES[0], device="cpu", device_map="cpu")


def test_the_machine_is_measured_where_the_models_go(monkeypatch, subject):
    asked: dict[str, Any] = {}

    def roof(**how: Any) -> Machine:
        asked.update(how)
        return MACHINE

    monkeypatch.setattr(suite.roofline, "measure", roof)
    monkeypatch.setattr(suite, "build", lambda name, dtype, *how: asked.update(how=how) or subject)
    monkeypatch.setattr(suite, "measure", lambda *_, **__: {})
    suite.run(Setup(pair=subject.name, device_map="cpu", dtype="bfloat16", compile="inductor"))
    assert asked == {"dtype": torch.bfloat16, "device": torch.device("cpu"), "how": ("cpu", "inductor")}


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
        ({"repeats": 0}, "repeats must be 1 or more, up to 1000, not 0"),
        ({"arms": ("vllm",)}, "no arm 'vllm'"),
        ({"compile": "all"}, "compile must be one of"),
        (
            {"target": "big"},
            "name a pair, or else a target and a draft, not pair='pocket-llava_onevision', target='big'",
        ),
        ({"pair": None}, "name a pair, or else a target and a draft, not pair=None"),
        ({"pair": None, "target": "big"}, "draft=None"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, message):
    with pytest.raises(OptionError, match=message):
        Setup(**{"pair": NAMES[0], **given})


def test_an_unknown_pair_is_refused_before_anything_is_measured(monkeypatch):
    monkeypatch.setattr(suite.roofline, "measure", lambda **_: pytest.fail("measured"))
    with pytest.raises(OptionError, match=r"no pair 'gpt'.* there are pocket-llava_onevision"):
        suite.run(Setup(pair="gpt"))


def test_how_many_runs_are_done_is_counted(subject):
    counts: list[tuple[int, int]] = []
    setup = Setup(pair=subject.name, video_tokens=(36,), new_tokens=(4,), arms=("sd",), repeats=1, rows=(1,))
    measure(subject, setup, MACHINE, on_run=lambda done, most: counts.append((done, most)))
    assert counts == [(0, 3), (1, 3), (2, 3), (3, 3)]
