"""What does it cost to ask again? Ten questions about one video: `python -m specvlm.bench.questions`.

The first question pays for the video: it is decoded, seen and read. The time to the first token of the others, by
`SpecVLM.watch`, is compared with that. All answers are compared with those of stock `generate`, which reads the video
for the first of them, or (`--whole-prompts`) for each.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from specvlm import pocket
from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.bench.showing.renderings import markdown
from specvlm.bench.showing.report import Grid, keep
from specvlm.bench.stock_reading import StockReading
from specvlm.bench.widened.footage import shoot
from specvlm.bench.widened.subjects import NAMES, build
from specvlm.comparing.compare import require_repeats
from specvlm.comparing.record import first_divergence
from specvlm.engine.stats import timing_phases
from specvlm.errors import OptionError
from specvlm.machine import machine, versions
from specvlm.pipeline import SpecVLM
from specvlm.pocket.language import KINDS, ask
from specvlm.pocket.world import make_scene

log = logging.getLogger("specvlm.bench.questions")

NUM_QUESTIONS = 10

BEFORE_FIRST_TOKEN = ("decode_video", "preprocess", "vision_target", "prefill_target", "scoring")
"""Phases that the first token waits for; pruning and all that a draft does come behind it."""


@dataclass(frozen=True)
class Asked:
    """One question. Seconds are one figure a turn; `phases` are medians, of those that the first token waits for."""

    question: str
    num_prompt_tokens: int
    ttft_seconds: tuple[float, ...]
    phases: dict[str, float]
    token_ids: tuple[int, ...]
    first_divergence: int | None
    """From stock generate's answer, and in any turn."""


@dataclass(frozen=True)
class ManyQuestions:
    """Questions about one video, in the order in which they were asked."""

    num_video_tokens: int
    kept_bytes: int
    """What was kept of the video when all had been answered."""
    asked: tuple[Asked, ...]
    whole_prompts: bool = False
    """Whether stock generate read the video for each answer, not for the first alone."""
    pair: str = ""
    """What the pair is called, for people."""

    @property
    def first_seconds(self) -> float:
        """Time to the first token of the first question: the median turn."""
        return statistics.median(self.asked[0].ttft_seconds)

    @property
    def later_seconds(self) -> float:
        """That of the later questions: their mean, of the median turn."""
        return statistics.median(self._later_means())

    @property
    def share(self) -> float:
        """What a later question waits, of what the first one did: the median turn."""
        return statistics.median(
            later / first for later, first in zip(self._later_means(), self.asked[0].ttft_seconds, strict=True)
        )

    @property
    def num_identical(self) -> int:
        """With stock generate's answer."""
        return sum(each.first_divergence is None for each in self.asked)

    def _later_means(self) -> list[float]:
        return [statistics.fmean(turn) for turn in zip(*(each.ttft_seconds for each in self.asked[1:]), strict=True)]

    def table(self) -> str:
        """For people."""
        grid = grid_of(self.to_json())
        return "\n".join([markdown(grid), "", *grid.notes])

    def to_json(self) -> dict[str, Any]:
        figures = {name: getattr(self, name) for name in ("first_seconds", "later_seconds", "share", "num_identical")}
        return asdict(self) | figures | {"machine": machine(), "versions": versions()}


def grid_of(record: Mapping[str, Any]) -> Grid:
    """What `ManyQuestions.to_json` says, a question a row."""
    head = ("question", "prompt tokens", "first token (s)", *BEFORE_FIRST_TOKEN, "as stock generate")
    rows = tuple(
        (
            each["question"],
            str(each["num_prompt_tokens"]),
            f"{statistics.median(each['ttft_seconds']):.3f}",
            *(f"{each['phases'][name]:.3f}" for name in BEFORE_FIRST_TOKEN),
            "yes" if each["first_divergence"] is None else f"to token {each['first_divergence']}",
        )
        for each in record["asked"]
    )
    read = "read the whole prompt for each" if record["whole_prompts"] else "went on from its own cache of the first"
    note = (
        f"{record['num_video_tokens']} video tokens; {record['kept_bytes'] / 1e6:.1f} MB are kept of the video. First "
        f"token after {record['first_seconds']:.3f} s, of later questions after {record['later_seconds']:.3f} s in the "
        f"mean: {100 * record['share']:.1f} %. {record['num_identical']} of {len(record['asked'])} answers are those "
        f"of stock generate, which {read}."
    )
    title = "Questions about one video, in turn" + (f": {record['pair']}" if record["pair"] else "")
    return Grid(title, head, rows, (note,))


@timing_phases()
def measure(
    vlm: SpecVLM,
    video: Any,
    questions: Sequence[str],
    options: Options | None = None,
    *,
    repeats: int = 1,
    whole_prompts: bool = False,
    warm_up: Any = None,
) -> ManyQuestions:
    """Ask all questions about a video in turn, `repeats` times from the beginning, and stock generate once.

    With `whole_prompts` stock generate reads the video for each answer, otherwise for the first (see `StockReading`).
    `warm_up` is another video to warm up with, where this one takes long.
    Errors: OptionError for fewer than two questions, or one that is asked twice: it would find itself read already.
    """
    options = options or Options(do_sample=False, plan="fixed")
    if len(questions) < 2 or len(set(questions)) < len(questions):
        raise OptionError(f"give two or more questions, all different, not {list(questions)}")
    require_repeats(repeats)
    brief = vlm.watch(video if warm_up is None else warm_up, options, max_new_tokens=2)
    for question in questions[:2]:
        brief.ask(question)
    brief.forget()
    turns: list[list[Generation]] = []
    kept_bytes = 0
    for turn in range(repeats):
        watched = vlm.watch(video, options)
        turns.append([watched.ask(question) for question in questions])
        kept_bytes = watched.nbytes
        log.info("turn %d of %d is done", turn + 1, repeats)
        watched.forget()
    asked, reading = [], StockReading(vlm, video, options)
    for question, answers in zip(questions, zip(*turns, strict=True), strict=True):
        stock = vlm.autoregressive(video, question, options) if whole_prompts else reading.ask(question)
        divergences = [d for each in answers if (d := first_divergence(each.token_ids, stock.token_ids)) is not None]
        log.info("%s: %s", question, "another answer" if divergences else "the same answer")
        stats = [each.stats for each in answers]
        asked.append(
            Asked(
                question,
                stats[0].num_prompt_tokens,
                tuple(each.ttft_seconds for each in stats),
                {name: statistics.median(each.phases.get(name, 0.0) for each in stats) for name in BEFORE_FIRST_TOKEN},
                answers[0].token_ids,
                min(divergences, default=None),
            )
        )
    return ManyQuestions(turns[0][0].stats.num_video_tokens, kept_bytes, tuple(asked), whole_prompts)


def questions_about(film: int, num_questions: int = NUM_QUESTIONS) -> list[str]:
    """Different questions about a held-out film of the pocket pairs' world, of all kinds in turn."""
    scene, chance, questions = make_scene(pocket.HELD_OUT[film]), random.Random(film), []
    while len(questions) < num_questions:
        question = ask(scene, KINDS[len(questions) % len(KINDS)], chance).text
        if question not in questions:
            questions.append(question)
    return questions


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m specvlm.bench.questions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pair", choices=NAMES, default=NAMES[0])
    parser.add_argument("--video-tokens", type=int, default=3000, help="about so many (default 3000)")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--tokens", type=int, default=32, help="most tokens of an answer (default 32)")
    parser.add_argument("--repeats", type=int, default=3, help="turns from the beginning (default 3)")
    parser.add_argument("--whole-prompts", action="store_true", help="stock generate reads the video for each answer")
    parser.add_argument("--out", type=Path, help="write questions-PAIR-DTYPE.json there, for docs/performance.md")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    subject = build(given.pair, getattr(torch, given.dtype))
    vlm = subject.vlm
    ways = {"repeats": given.repeats, "whole_prompts": given.whole_prompts}
    with tempfile.TemporaryDirectory() as folder:
        film = shoot(vlm, Path(folder), given.video_tokens, given.tokens, blanks=subject.widened)
        options = Options(do_sample=False, plan="fixed", num_frames=film.num_frames, max_new_tokens=given.tokens)
        brief = vlm.load_video(film.path, num_frames=4)
        found = measure(vlm, film.path, questions_about(film.film), options, **ways, warm_up=brief)
    found = replace(found, pair=given.pair)
    sys.stdout.write(found.table() + "\n")
    if given.out:
        keep(found.to_json(), given.out, f"questions-{given.pair}-{given.dtype}")
    if given.json:
        sys.stdout.write(json.dumps(found.to_json()) + "\n")


if __name__ == "__main__":
    main()
