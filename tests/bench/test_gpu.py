"""A list of things to measure in a given time: what is kept, what is left out, and that nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from specvlm.bench import gpu
from specvlm.bench.gpu import ITEMS, Budget, Exact, HasTime, Item, Outcome, Say, Speeds, chosen, parts, run
from specvlm.bench.roofline import Machine
from specvlm.bench.widened import subjects
from specvlm.bench.widened.shapes import PAIRS
from specvlm.bench.widened.subjects import Subject
from specvlm.comparing.arms import WAYS, find
from specvlm.errors import OptionError

DOCS = Path(__file__).parents[2] / "docs"
ROOF = Machine("made up", 1e10, 1e11)


class Clock:
    """That stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, kw_only=True)
class Fake(Item):
    """Takes some seconds, and says what it was given."""

    clock: Clock
    takes: float = 10.0
    least_seconds: float = 5.0
    most_seconds: float = 100.0
    error: Exception | None = None
    identical: bool = True

    @property
    def name(self) -> str:
        return f"{self.pair}-{self.takes:g}"

    def measure(self, subject: Subject, on: Machine, has_time: HasTime, say: Say) -> Any:
        self.clock.now += self.takes
        if self.error is not None:
            raise self.error
        return {
            "arms": [{"arm": "ar", "identical": True}, {"arm": "sd", "identical": self.identical}],
            "left": has_time(),
        }


@dataclass
class Built:
    """Which pairs were built."""

    subject: Subject
    names: list[str] = field(default_factory=list)

    def __call__(self, item: Item) -> Subject:
        self.names.append(item.pair)
        return Subject(item.pair, self.subject.vlm, "", False)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subjects.build("pocket-qwen2_5_vl", torch.float32)


@pytest.fixture
def measured(subject: Subject, tmp_path: Path) -> Callable[..., tuple[Outcome, Built]]:
    def measure(*items: Fake, seconds: float = 100.0, **how: Any) -> tuple[Outcome, Built]:
        built = Built(subject)
        clock = items[0].clock
        return run(items, tmp_path, Budget(seconds, clock), build=built, roofs=lambda dtype: ROOF, **how), built

    return measure


def kept(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.json")}


def test_what_does_not_fit_is_left_out_by_name_and_what_comes_behind_it_may_fit(measured, tmp_path):
    clock = Clock()
    of = {"clock": clock, "dtype": "float32"}
    items = [Fake(pair="a", takes=80.0, **of), Fake(pair="b", least_seconds=30.0, **of), Fake(pair="c", **of)]
    outcome, built = measured(*items)
    assert built.names == ["a", "c"]
    assert outcome.seconds == {"a-80": 80.0, "c-10": 10.0}
    assert outcome.left_out == {"b-10": "it takes 30 s at the least, and 20 were left"}
    assert kept(tmp_path) == {"a-80", "c-10", "outcome"}
    assert json.loads((tmp_path / "outcome.json").read_text())["left_out"] == outcome.left_out


def test_a_pair_is_built_once_for_the_items_that_follow_one_another(measured):
    of = {"clock": Clock(), "dtype": "float32"}
    _, built = measured(
        Fake(pair="a", **of), Fake(pair="a", takes=2.0, **of), Fake(pair="b", **of), Fake(pair="a", **of)
    )
    assert built.names == ["a", "b", "a"]
    _, built = measured(Fake(pair="a", **of), Fake(pair="a", compile="inductor", **of))
    assert built.names == ["a", "a"]


def test_what_fails_is_told_and_loses_nothing(measured, tmp_path):
    of = {"clock": Clock(), "dtype": "float32"}
    broken = Fake(pair="b", error=RuntimeError("CUDA error:\n it broke"), **of)
    outcome, built = measured(Fake(pair="a", **of), broken, Fake(pair="b", takes=3.0, **of))
    assert built.names == ["a", "b", "b"], "who knows what is left of it"
    assert outcome.failed == {"b-10": "RuntimeError: CUDA error: it broke"}
    assert kept(tmp_path) == {"a-10", "b-3", "outcome"}
    assert not outcome.is_well


def test_each_result_is_there_before_the_next_is_begun(measured, tmp_path):
    of = {"clock": Clock(), "dtype": "float32"}
    lost = Fake(pair="b", error=KeyboardInterrupt(), **of)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        measured(Fake(pair="a", **of), lost)
    assert kept(tmp_path) == {"a-10", "outcome"}


@pytest.mark.parametrize(("dtype", "well"), [("float32", False), ("bfloat16", True)])
def test_another_answer_is_a_fault_where_nothing_is_rounded(measured, dtype, well):
    outcome, _ = measured(Fake(pair="a", clock=Clock(), dtype=dtype, identical=False))
    assert outcome.is_well is well
    assert outcome.different == ({} if well else {"a-10": ["sd"]})


def test_what_has_no_room_is_left_out(measured):
    pair = "qwen2.5-vl-32b+3b"
    [item] = chosen([pair])
    assert 70e9 < item.num_bytes < 80e9, "an H100 has 85e9"
    outcome, built = measured(Fake(pair=pair, clock=Clock(), dtype="bfloat16"), memory=48e9)
    assert built.names == []
    assert outcome.left_out == {f"{pair}-10": "it needs 78 GB, and the device has 48"}
    assert Fake(pair=pair, clock=Clock(), dtype="float32").num_bytes > item.num_bytes + 60e9


def test_an_item_ends_with_its_own_time_or_with_all_of_it():
    clock = Clock()
    budget = Budget(50.0, clock)
    has_time = budget.of(Fake(pair="a", clock=clock, most_seconds=20.0))
    assert has_time()
    clock.now += 20.0
    assert not has_time()
    assert budget.left == 30.0
    last = budget.of(Fake(pair="a", clock=clock, most_seconds=100.0))
    clock.now += 29.0
    assert last()
    clock.now += 1.0
    assert not last()


def test_the_list_is_one_that_can_be_measured():
    names = [item.name for item in ITEMS]
    assert len(set(names)) == len(names)
    for item in ITEMS:
        subjects.require(item.pair)
        assert item.least_seconds <= item.most_seconds
        assert isinstance(item, (Speeds, Exact))
        for arm in item.arms:
            find(arm)
        if isinstance(item, Speeds):
            assert set(item.arms) <= set(item.setup.all_arms) | {"specvlm"}
    shown = {item.pair for item in ITEMS}
    assert set(PAIRS) <= shown
    identity = [item for item in ITEMS if isinstance(item, Speeds) and item.dtype == "float32"]
    for pair in ("pocket-llava_onevision", "pocket-qwen2_5_vl"):
        assert {arm for item in identity if item.pair == pair for arm in item.arms} == set(WAYS), "every arm there is"


def test_names_pick_from_the_list():
    assert [item.name for item in chosen(["32b", "14b"])] == [
        "qwen2.5-vl-32b+3b-bfloat16-3000",
        "qwen2.5-14b+3b-bfloat16-3000",
    ]
    assert chosen([]) == ITEMS
    with pytest.raises(OptionError, match="nothing is called gpt; there are pocket-llava_onevision-float32-identity"):
        chosen(["gpt"])


def test_a_real_one_on_the_cpu_from_the_list_to_the_page(subject, tmp_path):
    """Of the arms that a GPU compiles for, and how exact low precision is: all that runs there runs here."""
    item = Speeds(
        pair=subject.name,
        dtype="float32",
        arms=("ar-static", "specvlm"),
        video_tokens=36,
        new_tokens=8,
        repeats=1,
        rows=(1,),
        least_seconds=0.0,
        most_seconds=600.0,
    )
    exact = Exact(
        pair=subject.name,
        dtype="float32",
        arms=("ar-static", "strict"),
        prompts=1,
        frames=4,
        tokens=6,
        least_seconds=0.0,
        most_seconds=600.0,
    )
    said: list[str] = []
    outcome = run(
        (item, exact), tmp_path, Budget(600.0), build=lambda *_: subject, roofs=lambda dtype: ROOF, say=said.append
    )
    assert outcome.is_well, outcome
    assert kept(tmp_path) == {"pocket-qwen2_5_vl-float32-36", "exactness-pocket-qwen2_5_vl-float32", "outcome"}
    text = parts(tmp_path)
    assert text["seen"].startswith("**No GPU has seen this version.**")
    assert "### pocket-qwen2_5_vl-float32-36" in text["measured"]
    assert "| ar-static | 8 | yes | 1.00 |" in text["measured"]
    assert "| ar-static | 1 of 1 |" in text["measured"]
    assert "| pocket-qwen2_5_vl, float32 | ar-static | 36 | 8 | yes | 1.00 |" in text["measured"]
    assert "The noise floor is stock generate as a GPU runs it otherwise" in text["measured"]
    assert "ar twice" not in text["measured"]
    assert any("run 1: ar" in line for line in said)


def test_the_page_says_whose_tables_they_are_and_what_is_missing(tmp_path):
    from bench.documents import document

    made = document(pair="pocket-qwen2_5_vl", processor="A fast GPU")
    made["machine"] |= {
        "gpus": [{"name": "A fast GPU", "memory_bytes": 80 << 30, "compute_capability": "9.0"}],
        "cuda": {"driver": "580.65.06", "runtime": "13.0", "cudnn": None},
    }
    made["cells"][0] |= {
        "baselines": {"decode_speedup": "ar-no-cudnn", "end_to_end_speedup": "ar"},
        "left_out": ["sd", "auto"],
    }
    made["arms"][1] |= {"compile_seconds": 26.5, "warm_up_seconds": 30.0}
    (tmp_path / "a.json").write_text(json.dumps(made))
    told = {"left_out": {"b": "it takes 70 s", "a": "of an earlier run"}, "failed": {"c": "RuntimeError: no"}}
    (tmp_path / "outcome.json").write_text(json.dumps(told | {"different": {"d": ["sd", "auto"]}}))
    text = parts(tmp_path)
    assert text["seen"] == "The tables at the end were measured by `make bench-gpu` on A fast GPU."
    measured = text["measured"]
    assert "A fast GPU (80 GiB, driver 580.65.06, runtime 13.0), 2 cores of A <fast> CPU beside it: reads" in measured
    assert "the decode speedup is against ar-no-cudnn, the fastest plain stock generate." in measured
    assert "end to end speedup is against" not in measured
    assert "145 video tokens: no time was left for sd, auto" in measured
    assert "| compiled, s |" in measured
    assert "| 26.5 |" in measured
    assert "- b was left out: it takes 70 s" in measured
    assert "of an earlier run" not in measured
    assert "- c failed: RuntimeError: no" in measured
    assert "- d: sd, auto gave another answer" in measured


def test_the_command_puts_what_is_there_into_the_page(tmp_path):
    page = tmp_path / "gpu.md"
    page.write_text(
        "# A\n\n<!-- seen -->\nold\n<!-- end of seen -->\n\nb\n\n<!-- measured -->\n<!-- end of measured -->\n"
    )
    assert gpu.main(["--page-only", "--out", str(tmp_path / "none"), "--page", str(page)]) == 0
    text = page.read_text()
    assert "old" not in text
    assert "**No GPU has seen this version.**" in text
    assert "Nothing, so far." in text


def test_without_a_gpu_nothing_is_begun(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--device-map", "cuda:63", "--out", str(tmp_path), "--page", str(tmp_path / "gpu.md")])
    assert ended.value.code == 2
    assert "device_map='cuda:63': torch finds" in capsys.readouterr().err
    assert kept(tmp_path) == set()


def test_the_published_page_is_made_of_the_published_documents():
    page = (DOCS / "gpu.md").read_text(encoding="utf-8")
    for name, text in parts(DOCS / "bench" / "gpu").items():
        assert f"<!-- {name} -->\n{text}\n<!-- end of {name} -->" in page, (
            "stale: python -m specvlm.bench.gpu --page-only"
        )
