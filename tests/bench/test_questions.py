"""Ten questions about one video: each figure is of what it says, and an answer that differs is noticed."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

import tiny
from specvlm.answering.options import Options
from specvlm.bench import questions
from specvlm.bench.performance import CHAPTERS
from specvlm.bench.questions import Asked, ManyQuestions, grid_of, main, measure, questions_about
from specvlm.errors import OptionError
from specvlm.pipeline import SpecVLM

FILM = tiny.film(6, 1)
QUESTIONS = ("what happens?", "a red ball?", "and then what?")
GREEDY = Options(do_sample=False, max_new_tokens=8)


@lru_cache
def pair() -> SpecVLM:
    target = tiny.model("qwen2_5_vl", 0)
    return tiny.pair(target, tiny.noised(target, 0.02))


def test_the_first_question_pays_for_the_video() -> None:
    vlm = pair()
    found = measure(vlm, FILM, QUESTIONS, GREEDY, repeats=3, warm_up=tiny.film(2, 2))
    assert [each.question for each in found.asked] == list(QUESTIONS)
    for each in found.asked:
        right = vlm.autoregressive(FILM, each.question, GREEDY)
        assert (each.token_ids, each.first_divergence) == (right.token_ids, None)
        assert each.num_prompt_tokens == right.stats.num_prompt_tokens
        assert len(each.ttft_seconds) == 3
        assert 0 < max(each.phases.values()) < max(each.ttft_seconds)
    first, *later = found.asked
    assert min(first.phases["decode_video"], first.phases["vision_target"]) > 0
    assert all(each.phases["decode_video"] == each.phases["vision_target"] == 0 for each in later)
    assert found.num_video_tokens == vlm.target.prepare([FILM], "?").num_video_tokens
    watched = vlm.watch(FILM, GREEDY)
    for question in QUESTIONS:
        watched.ask(question)
    assert found.kept_bytes == watched.nbytes


@pytest.mark.parametrize("whole_prompts", [False, True])
def test_stock_generate_reads_the_video_once_or_each_time(monkeypatch: pytest.MonkeyPatch, whole_prompts: bool) -> None:
    vlm, heard = pair(), []
    original = SpecVLM.autoregressive
    monkeypatch.setattr(
        SpecVLM, "autoregressive", lambda self, *given, **more: heard.append(given[1]) or original(self, *given, **more)
    )
    found = measure(vlm, FILM, QUESTIONS, GREEDY, whole_prompts=whole_prompts)
    assert heard == (list(QUESTIONS) if whole_prompts else [])
    assert found.num_identical == 3
    assert ("read the whole prompt for each" in found.table()) == whole_prompts


def asked(ttft: tuple[float, ...], divergence: int | None = None) -> Asked:
    return Asked("why?", 9, ttft, dict.fromkeys(questions.BEFORE_FIRST_TOKEN, 0.25), (1, 2), divergence)


def test_figures_are_those_of_the_median_turn() -> None:
    found = ManyQuestions(7, 2_000_000, (asked((8.0, 4.0, 2.0)), asked((1.0, 2.0, 1.0)), asked((3.0, 4.0, 3.0), 5)))
    assert found.first_seconds == 4.0
    assert found.later_seconds == 2.0  # of 2, 3 and 2
    assert found.share == 0.75  # of 2 / 8, 3 / 4 and 2 / 2
    assert found.num_identical == 2
    record = json.loads(json.dumps(found.to_json()))
    assert record["share"] == 0.75
    assert record["asked"][2]["first_divergence"] == 5
    assert record["versions"].keys() >= {"torch", "transformers"}
    table = found.table()
    assert "| why? | 9 | 4.000 | 0.250 |" in table
    assert "| to token 5 |" in table
    assert "7 video tokens; 2.0 MB" in table
    assert "75.0 %. 2 of 3 answers" in table


def test_an_answer_that_differs_in_any_turn_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, asks = pair(), []
    original = questions.SpecVLM.watch

    class Lying:
        """About the second question, the second time."""

        def __init__(self, watched: Any) -> None:
            self._watched, self.forget = watched, watched.forget

        nbytes = 0

        def ask(self, question: str) -> Any:
            asks.append(question)
            lies = question == QUESTIONS[1] and asks.count(question) == 3  # once, the pair was warming up
            return self._watched.ask(question, max_new_tokens=5 if lies else 8)

    monkeypatch.setattr(SpecVLM, "watch", lambda *arguments, **more: Lying(original(*arguments, **more)))
    found = measure(vlm, FILM, QUESTIONS, GREEDY, repeats=3)
    assert [each.first_divergence for each in found.asked] == [None, 5, None]


@pytest.mark.parametrize("few", [[], ["why?"], ["why?", "who?", "why?"]])
def test_questions_that_would_measure_nothing_are_refused(few: list[str]) -> None:
    with pytest.raises(OptionError, match="two or more questions, all different"):
        measure(pair(), FILM, few)
    with pytest.raises(OptionError, match="repeats must be 1 or more, up to 1000, not 0"):
        measure(pair(), FILM, QUESTIONS, repeats=0)


@pytest.mark.parametrize("film", range(8))
def test_questions_about_a_film_are_all_different(film: int) -> None:
    found = questions_about(film)
    assert len(set(found)) == 10
    assert found == questions_about(film)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    few = ["--video-tokens", "60", "--tokens", "3", "--repeats", "1"]
    main(["--pair", "pocket-llava_onevision", *few, "--out", str(tmp_path), "--json"])
    *table, last = capsys.readouterr().out.splitlines()
    record = json.loads(last)
    assert len(record["asked"]) == 10
    assert 40 < record["num_video_tokens"] < 80
    assert record["share"] > 0  # of milliseconds: how much it is can hang on anything
    assert table[0].startswith("| question |")
    kept = json.loads((tmp_path / "questions-pocket-llava_onevision-bfloat16.json").read_text())
    assert CHAPTERS["questions"](kept) == grid_of(record)
    assert "pocket-llava_onevision" in grid_of(kept).title
