"""A sample answered by a tiny pair: the records hold what the library says, and what goes wrong is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import specvlm
import video_zoo
from specvlm import video as videos
from specvlm.answering.options import Options
from specvlm.engine.stats import Round, Stats
from specvlm.engine.tree import DraftTree
from specvlm.errors import OptionError, VideoError
from specvlm.evals.evaluate import Job, Record, Worker, emitted_per_round, evaluate_sample
from specvlm.evals.sample import Sample
from specvlm.evals.settings import Setting
from specvlm.evals.spans import footage, within
from specvlm.pipeline import SpecVLM
from specvlm.video.sampling import Timeline
from tiny import llava_model, llava_processor, noised

OPTIONS = Options(num_frames=4, max_new_tokens=12, do_sample=False, seed=0, pruning_ratio=0.5)
ARMS = ("ar", "sd", "specvlm")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> SpecVLM:
    folder = tmp_path_factory.mktemp("pair")
    model = llava_model(seed=1)
    for name, it in (("target", model), ("draft", noised(model, 0.05))):
        it.save_pretrained(folder / name)
        llava_processor().save_pretrained(folder / name)
    return specvlm.load(folder / "target", folder / "draft", dtype="float32")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return video_zoo.write(tmp_path_factory.mktemp("film") / "film.mp4", 60)


@pytest.fixture
def sample(film: Path) -> Sample:
    return Sample(sample_id="7", video=str(film), question="what?", choices=("a", "b"), answer="A", group="kind")


def evaluated(vlm: SpecVLM, sample: Sample, arms: tuple[str, ...] = ARMS, options: Options = OPTIONS) -> list[Record]:
    return list(evaluate_sample(vlm, sample, arms, options))


class TestAnswers:
    def test_are_the_librarys(self, vlm: SpecVLM, sample: Sample) -> None:
        right = vlm.autoregressive(sample.video, sample.question, OPTIONS)
        records = evaluated(vlm, sample)
        assert [record["arm"] for record in records] == list(ARMS)
        for record in records:
            assert record["error"] is None
            assert tuple(record["token_ids"]) == right.token_ids
            assert record["text"] == right.text
            assert record["finish_reason"] == right.finish_reason
            assert record["identical"] is True
            assert record["first_divergence"] is None
            assert (record["sample"], record["group"], record["choices"]) == ("7", "kind", ["a", "b"])
            assert record["decode_speedup"] > 0
            assert record["dtype"] == "float32"
            assert record["phases"]["decode_video"] > 0
        ar, sd, pruned = records
        assert (ar["num_drafted"], ar["decode_speedup"], ar["end_to_end_speedup"]) == (0, 1, 1)
        assert sd["num_kept"] == sd["num_video_tokens"] > pruned["num_kept"] > 0
        assert sd["num_accepted"] > 0

    def test_count_what_each_round_brought(self, vlm: SpecVLM, sample: Sample) -> None:
        for record in evaluated(vlm, sample, ("ar", "loop", "sd", "specvlm")):
            assert sum(record["emitted_per_round"]) == record["tokens"] - 1
            assert len(record["emitted_per_round"]) == record["num_rounds"]
            assert min(record["emitted_per_round"]) >= 1
            assert sum(record["accepted_per_depth"]) == record["num_accepted"]

    def test_are_json(self, vlm: SpecVLM, sample: Sample) -> None:
        for record in evaluated(vlm, sample):
            assert json.loads(json.dumps(record, allow_nan=False)) == record

    def test_without_an_oracle_nothing_is_compared(self, vlm: SpecVLM, sample: Sample) -> None:
        [record] = evaluated(vlm, sample, ("specvlm",))
        assert record["identical"] is None
        assert record["decode_speedup"] is None

    def test_are_compared_with_an_oracle_of_before(self, vlm: SpecVLM, sample: Sample) -> None:
        [oracle] = evaluated(vlm, sample, ("ar",))
        [same] = evaluate_sample(vlm, sample, ("specvlm",), OPTIONS, oracle)
        assert same["identical"] is True
        lie = oracle | {"token_ids": [*oracle["token_ids"][:3], -1]}
        [other] = evaluate_sample(vlm, sample, ("specvlm",), OPTIONS, lie)
        assert (other["identical"], other["first_divergence"]) == (False, 3)

    def test_come_one_by_one(self, vlm: SpecVLM, sample: Sample) -> None:
        """So that each can be written before the next is made."""
        records = evaluate_sample(vlm, sample, ARMS, OPTIONS)
        assert next(records)["arm"] == "ar"
        records.close()

    def test_follow_the_tasks_system_prompt(self, vlm: SpecVLM, film: Path) -> None:
        plain = Sample(sample_id="1", video=str(film), question="what?")
        told = Sample(sample_id="1", video=str(film), question="what?", system="who goes there")
        right = vlm.autoregressive(str(film), "what?", OPTIONS, system="who goes there")
        assert [tuple(record["token_ids"]) for record in evaluated(vlm, told)] == [right.token_ids] * 3
        assert evaluated(vlm, plain, ("ar",))[0]["num_prompt_tokens"] < right.stats.num_prompt_tokens


class TestErrors:
    def test_a_video_that_cannot_be_read_ends_the_sample(self, vlm: SpecVLM, tmp_path: Path) -> None:
        path = tmp_path / "film.mp4"
        path.write_text("this is no film\n" * 50)
        [record] = evaluated(vlm, Sample(sample_id="1", video=str(path), question="what?"))
        assert record["arm"] is None
        assert record["error"].startswith("VideoError: ")
        assert "\n" not in record["error"]

    def test_anything_else_ends_its_arm(self, vlm: SpecVLM, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
        def fails(*given: object) -> None:
            raise MemoryError("no\nroom")

        monkeypatch.setattr("specvlm.answering.request._draft_by_model", fails)
        records = evaluated(vlm, sample)
        assert [(record["arm"], record["error"]) for record in records] == [
            ("ar", None),
            ("sd", "MemoryError: no room"),
            ("specvlm", "MemoryError: no room"),
        ]

    def test_ctrl_c_is_no_error_of_a_sample(
        self, vlm: SpecVLM, sample: Sample, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupts(*given: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("specvlm.answering.request._draft_by_model", interrupts)
        with pytest.raises(KeyboardInterrupt):
            evaluated(vlm, sample)


class TestWorker:
    def test_names_the_setting(self, vlm: SpecVLM, sample: Sample) -> None:
        setting = Setting(OPTIONS, ARMS, "mine")
        records = list(Worker(vlm)(Job(sample, setting, ("ar",))))
        assert [(record["setting"], record["arm"]) for record in records] == [("mine", "ar")]

    def test_warms_up_once_and_briefly(self, vlm: SpecVLM, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[int] = []
        real = SpecVLM.generate

        def generate(self: SpecVLM, video: object, question: str, options: Options):
            asked.append(options.max_new_tokens)
            return real(self, video, question, options)

        monkeypatch.setattr(SpecVLM, "generate", generate)
        worker, job = Worker(vlm), Job(sample, Setting(OPTIONS, ARMS), ARMS)
        assert len(list(worker(job))) == len(list(worker(job))) == 3
        assert asked == [8, 8, 12, 12, 12, 12]

    def test_refuses_an_arm_that_it_has_no_draft_for(self, vlm: SpecVLM, sample: Sample) -> None:
        with pytest.raises(OptionError, match="draft"):
            list(Worker(vlm.without_draft())(Job(sample, Setting(OPTIONS, ARMS), ARMS)))


class TestSetting:
    def test_puts_the_oracle_first_and_names_each_arm_once(self) -> None:
        assert Setting(OPTIONS, ("sd", "ar", "sd", "loop")).arms == ("ar", "sd", "loop")

    def test_is_greedy_and_seeded_unless_told_otherwise(self) -> None:
        usual, drawn = Setting(Options()).options, Setting(Options(do_sample=True, seed=5)).options
        assert (usual.do_sample, usual.seed) == (False, 0)
        assert (drawn.do_sample, drawn.seed) == (True, 5)
        hot, cold = (Setting(Options(temperature=heat)).options for heat in (0.7, 0.0))
        assert (hot.do_sample, cold.do_sample) == (True, False)

    def test_asks_in_the_everyday_arms(self) -> None:
        assert Setting(Options()).arms == ("ar", "sd", "specvlm", "auto")

    @pytest.mark.parametrize("arms", [("ar", "warp"), ()])
    def test_refuses_arms_that_there_are_not(self, arms: tuple[str, ...]) -> None:
        with pytest.raises(OptionError, match="arm"):
            Setting(OPTIONS, arms)

    @pytest.mark.parametrize(
        "options", [{}, {"pruner": "window(where='back')"}, {"tree": [[0], [0, 0]]}, {"stop": ("x",)}]
    )
    def test_is_json(self, options: dict) -> None:
        told = Setting(Options(**options)).to_json()
        assert json.loads(json.dumps(told)) == told


@pytest.mark.parametrize(
    ("accepted", "num_tokens", "emitted"),
    [((2, 0, 1), 7, [3, 1, 2]), ((2, 0, 3), 7, [3, 1, 2]), ((), 1, [])],
)
def test_the_last_round_brings_what_is_wanted(accepted: tuple[int, ...], num_tokens: int, emitted: list[int]) -> None:
    stats, tree = Stats(), DraftTree((5, 6, 7, 8), (-1, 0, 1, 2))
    for count in accepted:
        stats.add_round(Round(tree, tuple(range(count + 1)), 9))
    stats.num_tokens = num_tokens
    assert emitted_per_round(stats) == emitted


def test_what_nobody_counted_is_not_made_up() -> None:
    assert emitted_per_round(Stats(num_tokens=7, num_rounds=6)) == [1] * 6
    assert emitted_per_round(Stats(num_tokens=7, num_rounds=2)) == []


class TestSpans:
    @pytest.fixture
    def timeline(self) -> Timeline:
        return Timeline.regular(60, 30)

    @pytest.mark.parametrize("span", [(0.0, 0.5), (0.5, 1.0), (1.5, 99.0), (0.4, 0.4)])
    def test_frames_are_of_the_span(self, timeline: Timeline, span: tuple[float, float]) -> None:
        seen: list[Timeline] = []

        def all_of_it(part: Timeline) -> np.ndarray:
            seen.append(part)
            return np.arange(part.num_frames)

        chosen = within(span, all_of_it)(timeline)
        assert timeline.seconds is not None
        inside = (timeline.seconds >= span[0]) & (timeline.seconds <= span[1])
        assert np.array_equal(chosen, np.flatnonzero(inside))
        [part] = seen
        assert part.seconds is not None
        assert part.seconds[0] == 0

    def test_a_span_without_frames_is_its_first_moment(self, timeline: Timeline) -> None:
        assert within((99.0, 100.0), lambda part: np.arange(part.num_frames))(timeline).tolist() == [59]

    def test_needs_a_clock(self) -> None:
        with pytest.raises(VideoError, match="clock"):
            within((0.0, 1.0), lambda part: np.arange(1))(Timeline(10))

    def test_answers_are_those_of_a_film_cut_to_it(self, vlm: SpecVLM, film: Path) -> None:
        part = Sample(sample_id="1", video=str(film), span=(1.0, 1.5), question="what?")
        frames = videos.load(film, choose=lambda timeline: np.arange(30, 46)).frames
        right = vlm.autoregressive(np.array(frames), "what?", OPTIONS)
        records = evaluated(vlm, part)
        assert [tuple(record["token_ids"]) for record in records] == [right.token_ids] * 3
        assert all(record["phases"]["decode_video"] > 0 for record in records)
        clip, options, seconds = footage(vlm, part, OPTIONS)
        assert set(clip.indices) <= set(range(30, 46))
        assert len(clip.indices) == 4
        assert options.num_frames is None
        assert seconds > 0


def test_a_whole_video_is_its_path(vlm: SpecVLM, sample: Sample) -> None:
    assert footage(vlm, sample, OPTIONS) == (sample.video, OPTIONS, 0.0)


def test_a_rate_is_for_the_folders_of_pictures_among_the_videos(vlm: SpecVLM, sample: Sample, tmp_path: Path) -> None:
    options = replace(OPTIONS, source_fps=2.0)
    assert footage(vlm, sample, options)[1] == OPTIONS
    for index in range(8):
        Image.fromarray(video_zoo.picture(index)).save(tmp_path / f"{index}.png")
    pictures = replace(sample, video=str(tmp_path))
    assert footage(vlm, pictures, options)[1] == options
    clip, settled, _ = footage(vlm, replace(pictures, span=(1.0, 2.5)), options)
    assert clip.timestamps is not None
    assert clip.timestamps.tolist() == [1, 1.5, 2, 2.5]
    assert settled.source_fps is None
