"""The same question answered several ways in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from specvlm.answering.answer import Generation
from specvlm.answering.answerer import Answerer
from specvlm.answering.options import Options
from specvlm.comparing.arms import Way, find
from specvlm.comparing.record import Arm, document, record
from specvlm.comparing.telling import told
from specvlm.engine.stats import reset_peak_memory
from specvlm.errors import OptionError
from specvlm.watching.shared_reading import SharedReading

ARMS = ("ar", "loop", "sd", "specvlm")
"""The everyday ones; `specvlm.comparing.arms` has them all."""

WARM_UP_TOKENS = 8


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: a record for each arm, and all answers that each gave. `refused` has the arms that stock
    transformers couldn't run with these models, and its reason."""

    arms: tuple[Arm, ...]
    runs: dict[str, tuple[Generation, ...]]
    options: Options
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def generations(self) -> dict[str, Generation]:
        """The first answer of each arm."""
        return {arm: runs[0] for arm, runs in self.runs.items()}

    def to_json(self) -> dict[str, Any]:
        """The record that every command speaks, ready for `json.dumps`."""
        return document(self.arms, self.options) | {"refused": self.refused}


def compare(
    vlm: Answerer,
    video: Any,
    question: str,
    options: Options | None = None,
    *,
    arms: Sequence[str] = ("ar", "sd", "specvlm"),
    repeats: int = 1,
    warm_up: Any = None,
    share_reading: bool = False,
    on_run: Callable[[str], None] = lambda arm: None,
) -> Comparison:
    """Answer the same question in every arm, `repeats` times each in turn, after a short warm-up of each.

    The `arms` are names of `specvlm.comparing.arms`; `ar` always runs, being what the others are measured against.
    `warm_up` is another video to warm up with, where this one takes long. With `share_reading` the target reads the
    video once for all arms of a turn that go through specvlm's loop, and the time is counted to each. `on_run` is told
    the arm before each run. Errors: OptionError for an unknown arm, an arm that needs a draft when there is none, or a
    checkpoint whose generation config asks for what specvlm doesn't decode.
    """
    options = options or Options()
    if options.seed is None:
        options = replace(options, seed=0)  # should they sample, all have to throw the same dice
    ways = checked(arms, repeats, has_draft=vlm.draft is not None)
    if (seconds := vlm.target.model.generation_config.max_time) is not None:
        raise OptionError(
            f"the generation config has max_time={seconds}, which ends an answer by the clock: answers that differ in "
            "speed can't be compared; make it None"
        )
    brief = replace(options, max_new_tokens=min(WARM_UP_TOKENS, options.max_new_tokens))
    refused: dict[str, str] = {}

    def attempt(arm: str, source: Any, asked: Options, reading: SharedReading | None = None) -> list[Generation]:
        try:
            return [ways[arm].run(vlm, source, question, asked, reading)]
        except Exception as error:
            if not ways[arm].may_refuse:
                raise
            refused[arm] = told(error)
            return []

    for arm in ways:
        attempt(arm, video if warm_up is None else warm_up, brief)
    runs: dict[str, list[Generation]] = {arm: [] for arm in ways}
    for _ in range(repeats):
        reading = SharedReading(video, options) if share_reading else None
        for arm, answers in runs.items():
            if arm not in refused:
                on_run(arm)
                reset_peak_memory()
                answers += attempt(arm, video, options, reading)
    kept = {arm: tuple(answers) for arm, answers in runs.items() if arm not in refused}
    records = tuple(record(arm, answers, kept["ar"]) for arm, answers in kept.items())
    return Comparison(records, kept, options, refused)


def checked(arms: Iterable[str], repeats: int = 1, *, has_draft: bool = True) -> dict[str, Way]:
    """The ways to answer that are to be compared, by their names. Errors: as `compare`'s, without any model."""
    ways = {arm: find(arm) for arm in ("ar", *arms)}
    for arm, way in ways.items():
        if way.needs_draft and not has_draft:
            raise OptionError(f"arm {arm!r} needs a draft model, and there is none: name one as `draft`")
    if repeats < 1:
        raise OptionError(f"repeats must be 1 or more, not {repeats}")
    return ways
