"""A sweep: every point is asked once, held against the right oracle, and told with what its draft was shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import video_zoo
from evals.records import ANSWER, CONFIG, answered, failed
from specvlm.answering.options import Options
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError, VideoError
from specvlm.evals.evaluate import Job, Record
from specvlm.evals.run_folder import Run
from specvlm.evals.sample import Sample
from specvlm.evals.settings import Setting
from specvlm.evals.sweeping.engine import Watcher, compared, local
from specvlm.evals.sweeping.grid import Grid, Point
from specvlm.evals.sweeping.metrics import in_bins, sweep_metrics
from specvlm.evals.sweeping.plots import pictures
from specvlm.evals.sweeping.report import rows, sweep_html
from specvlm.pipeline import SpecVLM

GRID = Grid(
    pruners=("frames", "verifier_guided(fraction=0.5)"),
    ratios=(0.0, 0.5, 0.9),
    trees=("dynamic", "paper"),
    frames=(8, 16),
)
SETTINGS = GRID.settings(Options(max_new_tokens=12))
BROKEN = [7, 8, 99, 10, 2]


def run_of(records: list[Record], settings: Sequence[Setting] = SETTINGS) -> Run:
    asked = CONFIG["asked"] | {"settings": [setting.to_json() for setting in settings]}
    return Run(Path("/runs/mine"), CONFIG | {"asked": asked}, records)


def all_answered(*, kept: bool = True) -> list[Record]:
    """Two samples at every point: twice as fast as stock generate with 8 frames, four times with 16."""
    records = []
    for sample in ("a", "b"):
        for setting in SETTINGS:
            for arm in setting.arms:
                faster = setting.options.num_frames / 4
                more: dict[str, Any] = {"setting": setting.name}
                if arm == "ar":
                    more["attention_per_frame"] = [0.5, 0.25, 0.0, 0.25]
                if arm == "specvlm" and kept:
                    more |= {"kept_per_frame": [4, 0, 0, 0], "kept_per_stage": [3, 1]}
                records.append(answered(sample, arm, seconds=8.0 if arm == "ar" else 8.0 / faster, **more))
    return records


class TestGrid:
    def test_asks_stock_generate_once_for_each_number_of_frames(self) -> None:
        arms = [(setting.options.num_frames, arm) for setting in SETTINGS for arm in setting.arms]
        assert [frames for frames, arm in arms if arm == "ar"] == [8, 16]
        assert [frames for frames, arm in arms if arm == "sd"] == [8, 8, 16, 16]
        assert len([arm for _, arm in arms if arm == "specvlm"]) == 2 * 2 * 2 * 2  # ratio 0 is plain speculation
        assert SETTINGS[0].arms == ("ar", "sd")

    def test_every_setting_has_a_name_of_its_own(self) -> None:
        assert len({setting.name for setting in SETTINGS}) == len(SETTINGS)

    def test_points_are_read_back_from_what_was_asked(self) -> None:
        points = [Point.of(setting.to_json()["options"], arm) for setting in SETTINGS for arm in setting.arms]
        assert len(set(points)) == len(points)
        assert {(p.frames, p.tree, p.pruner, p.ratio) for p in points if p.pruner} == {
            (frames, tree, pruner, ratio)
            for frames in GRID.frames
            for tree in GRID.trees
            for pruner in GRID.pruners
            for ratio in (0.5, 0.9)
        }

    def test_a_planned_tree_is_one_too(self) -> None:
        settings = Grid(pruners=("frames",), ratios=(0.5,), trees=("auto",)).settings(Options())
        assert [setting.options.plan for setting in settings] == ["auto", "auto"]
        assert Point.of(settings[1].to_json()["options"], "specvlm").tree == "auto"

    def test_a_value_that_is_named_twice_is_asked_once(self) -> None:
        assert (
            Grid(pruners=("frames", "frames"), ratios=(0.5, 0.5)).settings(Options())[1:]
            == Grid(pruners=("frames",), ratios=(0.5,)).settings(Options())[1:]
        )

    @pytest.mark.parametrize(
        ("axes", "naming"),
        [({"pruners": ()}, "pruners"), ({"ratios": (1.5,)}, "pruning_ratio"), ({"trees": ("oak",)}, "oak")],
    )
    def test_what_is_no_axis_is_refused(self, axes: dict[str, Any], naming: str) -> None:
        with pytest.raises(OptionError, match=naming):
            Grid(**{"pruners": ("frames",), "ratios": (0.5,), **axes}).settings(Options())


class TestMetrics:
    def test_speedups_are_against_as_many_frames(self) -> None:
        points = sweep_metrics(run_of(all_answered()))["points"]
        drafted = [point for point in points if point["tree"]]
        assert {(point["frames"], point["decode_speedup"]) for point in drafted} == {(8, 2.0), (16, 4.0)}
        assert {point["identical"] for point in points} == {2}

    def test_a_point_that_differs_is_named(self) -> None:
        records = all_answered()
        spoiled = next(r for r in records if r["arm"] == "specvlm" and r["sample"] == "b")
        spoiled["token_ids"] = BROKEN
        lossless = sweep_metrics(run_of(records))["lossless"]
        assert lossless["16"]["different"] == []
        [found] = lossless["8"]["different"]
        assert found == {"sample": "b", "arms": ["dynamic, frames, 0.5"], "first_divergence": 2}

    def test_what_the_draft_was_shown(self) -> None:
        points = sweep_metrics(run_of(all_answered()))["points"]
        pruned = [point for point in points if point["pruner"]]
        assert {tuple(point["kept_by_stage"]) for point in pruned} == {(0.75, 0.25)}
        assert {tuple(point["kept_over_time"]) for point in pruned} == {(4.0, 0.0, 0.0, 0.0)}
        assert [p["attention_over_time"] for p in points if p["tree"] is None] == [[2.0, 1.0, 0.0, 1.0]] * 2
        assert [point["kept_over_time"] for point in points if not point["pruner"]] == [[]] * 6

    def test_half_a_sweep_and_a_broken_sample(self) -> None:
        records = all_answered()[:3] + [failed("c", None, "no video") | {"setting": SETTINGS[0].name}]
        metrics = sweep_metrics(run_of(records))
        assert [point["num_answers"] for point in metrics["points"]][:4] == [1, 1, 1, 0]
        assert metrics["num_broken"] == 1
        assert len(rows(metrics)) == 3

    def test_the_fastest_of_as_many_frames_stands_out(self) -> None:
        records = all_answered()
        for record in records:
            if (record["setting"], record["arm"]) == (SETTINGS[2].name, "specvlm"):
                record["total_seconds"] = 0.5
        best = [cells for fastest, cells in rows(sweep_metrics(run_of(records))) if fastest and cells["frames"] == "8"]
        assert [(cells["pruner"], cells["ratio"]) for cells in best] == [("frames", "0.9")]


@pytest.mark.parametrize(
    ("amounts", "num_bins", "binned"),
    [
        ([4.0, 0.0], 4, [2.0, 2.0, 0.0, 0.0]),
        ([1.0, 2.0, 3.0, 4.0], 2, [3.0, 7.0]),
        ([3.0, 0.0, 0.0], 2, [3.0, 0.0]),
        ([3.0, 3.0, 0.0], 2, [4.5, 1.5]),
        ([5.0], 1, [5.0]),
    ],
)
def test_stretches_of_time_are_divided_evenly(amounts: list[float], num_bins: int, binned: list[float]) -> None:
    assert in_bins(amounts, num_bins) == pytest.approx(binned)


class TestPictures:
    def test_are_drawn_of_what_there_is(self) -> None:
        drawn = pictures(sweep_metrics(run_of(all_answered())))
        assert [picture.name for picture in drawn] == ["against_ratio", "against_frames", "over_time"]
        for picture in drawn:
            assert picture.png.startswith(b"\x89PNG")
            assert picture.dark_png.startswith(b"\x89PNG")
            assert picture.dark_png != picture.png
            assert all(svg.rstrip().endswith("</svg>") for panel in picture.panels for svg in panel)
            assert picture.caption

    def test_stages_are_drawn_where_their_shares_differ(self) -> None:
        records = all_answered()
        for record in records:
            if "fraction" in record["setting"]:
                record["kept_per_stage"] = [1, 3]
        assert "stage_one" in [picture.name for picture in pictures(sweep_metrics(run_of(records)))]

    def test_of_nothing_are_none(self) -> None:
        assert pictures(sweep_metrics(run_of([]))) == []
        assert [p.name for p in pictures(sweep_metrics(run_of(all_answered(kept=False))))] == [
            "against_ratio",
            "against_frames",
        ]


def test_the_page_needs_nothing_beside_it_and_trusts_no_name() -> None:
    settings = Grid(pruners=("frames",), ratios=(0.5,)).settings(Options(system="<script>alert(1)</script>"))
    records = [
        answered("a", arm, setting=setting.name, answer="<script>") for setting in settings for arm in setting.arms
    ]
    records.append(failed("<script>b", None, "<script>") | {"setting": settings[0].name})
    run = run_of(records, settings)
    metrics = sweep_metrics(run)
    page = sweep_html(run, metrics, pictures(metrics))
    assert "Every point gave the same answers" in page
    assert "&lt;script&gt;alert(1)" in page
    for outside in ("http://", "https://", "<script", '<link rel="stylesheet'):
        assert outside not in page


class TestCompared:
    def test_records_know_the_oracle_of_their_frames(self) -> None:
        def engine(jobs: Sequence[Job]) -> Iterator[Record]:
            yield answered("a", "ar", setting=SETTINGS[0].name, seconds=8.0)
            yield answered("a", "specvlm", setting=SETTINGS[1].name, seconds=2.0)
            yield answered("a", "specvlm", setting=SETTINGS[2].name, tokens=BROKEN)
            yield answered("b", "specvlm", setting=SETTINGS[1].name, seconds=2.0)
            yield answered("a", "specvlm", setting=SETTINGS[-1].name)
            yield failed("a", "specvlm", "no memory") | {"setting": SETTINGS[3].name}

        before = [answered("b", "ar", setting=SETTINGS[0].name, seconds=4.0)]
        made = list(compared(engine, run_of(before))([]))
        assert [(record.get("identical"), record.get("decode_speedup")) for record in made] == [
            (True, 1.0),
            (True, 4.0),
            (False, 8.0),
            (True, 2.0),
            (None, None),  # of 16 frames nothing is known yet
            (None, None),
        ]
        assert made[0]["token_ids"] == ANSWER


@pytest.fixture(scope="module", params=tuple(tiny.BUILDERS))
def vlm(request: pytest.FixtureRequest) -> SpecVLM:
    target = tiny.model(request.param, 0, dtype=torch.float64)
    return tiny.pair(target, tiny.noised(target, 0.02))


@pytest.mark.part(3)
class TestWatched:
    @pytest.fixture
    def sample(self, tmp_path: Path) -> Sample:
        film = video_zoo.write(tmp_path / "film.mp4", 24)
        return Sample(sample_id="7", video=str(film), question="what happens?")

    def test_records_tell_what_the_draft_was_shown(self, vlm: SpecVLM, sample: Sample) -> None:
        grid = Grid(pruners=("verifier_guided", "window", "similarity"), ratios=(0.5, 0.9), frames=(4, 8))
        jobs = [Job(sample, setting, setting.arms) for setting in grid.settings(Options(max_new_tokens=6))]
        records = list(local(lambda: vlm)(jobs))
        assert not [record["error"] for record in records if record["error"]]
        by_name = {(record["setting"], record["arm"]): record for record in records}
        for job in jobs:
            for arm in job.arms:
                record = by_name[job.setting.name, arm]
                assert "unseen" not in record
                assert ("attention_per_frame" in record, "kept_per_frame" in record) == (arm == "ar", arm == "specvlm")
                if arm == "ar":
                    assert sum(record["attention_per_frame"]) == pytest.approx(1.0)
                if arm == "specvlm":
                    options = job.setting.options
                    kept = vlm.generate(sample.video, sample.question, options).stats.kept
                    prompt = vlm.prepare(sample.video, sample.question, options, Stats())
                    num_frames = int(prompt.frame_ids.max()) + 1
                    assert record["kept_per_frame"] == prompt.frame_ids[kept].bincount(minlength=num_frames).tolist()
                    assert sum(record["kept_per_stage"]) == record["num_kept"]
                    assert len(record["kept_per_stage"]) == (2 if options.pruner == "verifier_guided" else 1)

    def test_a_video_is_read_once_for_all_points_of_as_many_frames(
        self, vlm: SpecVLM, sample: Sample, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from specvlm.evals.sweeping import engine as sweep_engine

        reads = []
        real = sweep_engine.read
        monkeypatch.setattr(sweep_engine, "read", lambda *given: reads.append(given[3].num_frames) or real(*given))
        grid = Grid(pruners=("frames", "window"), ratios=(0.5, 0.9), frames=(4, 8))
        jobs = [Job(sample, setting, setting.arms) for setting in grid.settings(Options(max_new_tokens=2))]
        list(local(lambda: vlm)(jobs))
        assert reads == [4, 8]

    def test_an_answer_is_worth_more_than_a_picture_of_it(
        self, vlm: SpecVLM, sample: Sample, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*given: Any) -> None:
            raise VideoError("gone by now")

        monkeypatch.setattr("specvlm.evals.sweeping.engine.read", fail)
        job = Job(sample, Setting(Options(num_frames=4)), ("ar",))
        assert Watcher(vlm).seen(job, {"arm": "ar"}) == {"unseen": "VideoError: gone by now"}
