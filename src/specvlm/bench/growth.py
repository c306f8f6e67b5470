"""How cost grows: straight lines through what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from specvlm.bench.roofline import Number
from specvlm.bench.steps import OURS, Step
from specvlm.comparing.record import Arm

PROMPT = "prompt tokens"
ANSWER = "answer tokens"
ROWS = "rows"
A_TOKEN = "a token"


@dataclass(frozen=True)
class Growth:
    """Seconds of `what` over `over`, as points and as the line through them by least squares."""

    what: str
    over: str
    points: tuple[tuple[float, float], ...]
    slope: float
    """Seconds for one more."""
    intercept: float


def line(what: str, over: str, points: Iterable[tuple[Number, Number]]) -> Growth | None:
    """The line through points of at least two different places; else None."""
    points = tuple(sorted((float(x), float(y)) for x, y in points))
    if len({x for x, _ in points}) < 2:
        return None
    slope, intercept = np.polyfit([x for x, _ in points], [y for _, y in points], 1)
    return Growth(what, over, points, float(slope), float(intercept))


def growths(arms: Sequence[tuple[int, int, int, Arm]], steps: Sequence[Step]) -> list[Growth]:
    """All lines that there are points for. `arms`: (video tokens and new tokens asked for, prompt tokens, arm)."""
    names = dict.fromkeys(arm.arm for *_, arm in arms)
    most = max(new_tokens for _, new_tokens, _, _ in arms)
    longest = max(video_tokens for video_tokens, _, _, _ in arms)
    found: list[Growth | None] = []

    def over_prompt(what: str, name: str, seconds: Callable[[Arm], float]) -> None:
        """At the longest answers that were asked for."""
        points = ((prompt, seconds(arm)) for _, new, prompt, arm in arms if arm.arm == name and new == most)
        found.append(line(what, PROMPT, points))

    for name in names:
        over_prompt(f"time to first token, {name}", name, lambda arm: arm.ttft_seconds)
        over_prompt(f"{A_TOKEN}, {name}", name, lambda arm: 1 / arm.tokens_per_second if arm.tokens_per_second else 0.0)
    if "loop" in names:
        over_prompt("prefill of the target, loop", "loop", lambda arm: arm.phases.get("prefill_target", 0.0))
    for name in names:  # at the longest prompt
        points = ((arm.tokens, arm.decode_seconds) for v, _, _, arm in arms if arm.arm == name and v == longest)
        found.append(line(f"decoding, {name}", ANSWER, points))
    for cached in sorted({step.cached for step in steps}):
        points = ((step.rows, step.seconds) for step in steps if step.loop == OURS and step.cached == cached)
        found.append(line(f"a target forward behind {cached} tokens", ROWS, points))
    return [each for each in found if each is not None]
