"""The same question answered several ways in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from specvlm.answering.answer import Generation
from specvlm.answering.answerer import Answerer
from specvlm.answering.options import Options
from specvlm.comparing.arms import PLAIN, Way, find
from specvlm.comparing.record import Arm, document, fastest, record
from specvlm.comparing.stock import cudnn_attends
from specvlm.comparing.telling import told
from specvlm.engine.stats import reset_peak_memory
from specvlm.errors import OptionError, brief
from specvlm.watching.shared_reading import SharedReading

ARMS = ("ar", "sd", "specvlm", "auto")
"""The everyday ones: stock generate, plain speculation, and what pruning and then planning add to it.
`specvlm.comparing.arms` has them all."""

WARM_UP_TOKENS = 8
MOST_REPEATS = 1000
"""Of an arm: a median needs no more, and each takes as long as an answer."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` found: a record for each arm, and all answers that each gave. `refused` has the arms that stock
    transformers couldn't run with these models, and its reason; `left_out` those for which there was no time.
    `baselines`: for each speedup of the records, the arm of plain stock generate that it is against, the fastest."""

    arms: tuple[Arm, ...]
    runs: dict[str, tuple[Generation, ...]]
    options: Options
    refused: dict[str, str] = field(default_factory=dict)
    baselines: dict[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def generations(self) -> dict[str, Generation]:
        """The first answer of each arm."""
        return {arm: runs[0] for arm, runs in self.runs.items()}

    def to_json(self) -> dict[str, Any]:
        """The record that every command speaks, ready for `json.dumps`."""
        found = {"refused": self.refused, "baselines": self.baselines, "left_out": list(self.left_out)}
        return document(self.arms, self.options) | found


def compare(
    vlm: Answerer,
    video: Any,
    question: str,
    options: Options | None = None,
    *,
    arms: Sequence[str] = ARMS,
    repeats: int = 1,
    warm_up: Any = None,
    share_reading: bool = False,
    whole_warm_up: bool | None = None,
    on_run: Callable[[str], None] = lambda arm: None,
    has_time: Callable[[], bool] = lambda: True,
) -> Comparison:
    """Answer the same question in every arm, `repeats` times each in turn, after a short warm-up of each.

    The `arms` are names of `specvlm.comparing.arms`; `ar` always runs, being what the others are measured against; and
    where cuDNN's attention has a part in it, so does `ar-no-cudnn`: speedups are against the faster of those that ran.
    `warm_up` is another video to warm up with, where this one takes long. An arm whose first answer of a length waits
    for a compiler is warmed up with the question itself where `whole_warm_up`, which the record tells of (None: where
    the models are on a GPU). With `share_reading` the target reads the video once for all arms of a turn that go
    through specvlm's loop, and the time is counted to each. `on_run` is told the arm before each run. `has_time` is
    asked before each too, but for the first of `ar`: if it says no, that run is left out.

    Errors: OptionError for an unknown arm, an arm that needs a draft when there is none, or a checkpoint whose
    generation config asks for what specvlm doesn't decode.
    """
    options = options or Options()
    if options.seed is None:
        options = replace(options, seed=0)  # should they sample, all have to throw the same dice
    plain = PLAIN if cudnn_attends(vlm.target.model.device, vlm.target.model.dtype) else PLAIN[:1]
    ways = checked((*plain, *arms), repeats, has_draft=vlm.draft is not None)
    if (seconds := vlm.target.model.generation_config.max_time) is not None:
        raise OptionError(
            f"the generation config has max_time={seconds}, which ends an answer by the clock: answers that differ in "
            "speed can't be compared; make it None"
        )
    shorter = replace(options, max_new_tokens=options.at_most(WARM_UP_TOKENS))
    devices = vlm.pair.devices
    if whole_warm_up is None:
        whole_warm_up = any(device.type == "cuda" for device in devices)
    refused: dict[str, str] = {}
    first: dict[str, Generation] = {}

    def attempt(arm: str, source: Any, asked: Options, reading: SharedReading | None = None) -> list[Generation]:
        try:
            return [ways[arm].run(vlm, source, question, asked, reading)]
        except Exception as error:
            if not ways[arm].may_refuse:
                raise
            refused[arm] = told(error)
            return []

    def warm(arm: str) -> None:
        if whole_warm_up and ways[arm].first_is_slow:
            for answer in attempt(arm, video, options):
                first[arm] = answer
        else:
            attempt(arm, video if warm_up is None else warm_up, shorter)

    runs: dict[str, list[Generation]] = {arm: [] for arm in ways}
    for turn in range(repeats):
        reading = SharedReading(video, options) if share_reading else None
        for arm, answers in runs.items():
            if arm in refused or not (has_time() or (arm == "ar" and turn == 0)):
                continue
            if turn == 0:
                warm(arm)
            if arm not in refused:
                on_run(arm)
                reset_peak_memory(devices)
                answers += attempt(arm, video, options, reading)
    kept = {arm: tuple(answers) for arm, answers in runs.items() if answers and arm not in refused}
    baselines = fastest({arm: kept[arm] for arm in PLAIN if arm in kept})
    peers = {name: kept[arm] for name, arm in baselines.items()}
    records = tuple(record(arm, answers, kept["ar"], peers, first.get(arm)) for arm, answers in kept.items())
    left_out = tuple(arm for arm in ways if arm not in kept and arm not in refused)
    return Comparison(records, kept, options, refused, baselines, left_out)


def checked(arms: Iterable[str], repeats: int = 1, *, has_draft: bool = True) -> dict[str, Way]:
    """The ways to answer that are to be compared, by their names. Errors: as `compare`'s, without any model."""
    ways = {arm: find(arm) for arm in ("ar", *arms)}
    for arm, way in ways.items():
        if way.needs_draft and not has_draft:
            raise OptionError(f"arm {arm!r} needs a draft model, and there is none: name one as `draft`")
    require_repeats(repeats)
    return ways


def require_repeats(repeats: int) -> None:
    """Errors: OptionError for so many runs of each arm as nobody wants."""
    if not 1 <= repeats <= MOST_REPEATS:
        raise OptionError(f"repeats must be 1 or more, up to {MOST_REPEATS}, not {repeats}")


def named(arms: str) -> tuple[str, ...]:
    """The arms in a text, with commas between them. Errors: OptionError if there are none."""
    if names := tuple(name.strip() for name in arms.split(",") if name.strip()):
        return names
    raise OptionError(f"arms: name at least one way to answer, such as {','.join(ARMS)}, not {brief(repr(arms))}")
