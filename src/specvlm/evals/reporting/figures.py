"""The figures of a run as rows of text: the same on a terminal and on a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from specvlm.comparing.arms import find

Arm = Mapping[str, Any]

DEFINITIONS = (
    "Speedups: against stock Hugging Face generate, summed over all samples; end-to-end starts with the closed file.",
    "Mean acceptance length: tokens per target forward after the prefill, bonus included (plain decoding: 1.00).",
)


def notes(arms: Iterable[str]) -> list[str]:
    """What the arms are, and what is said of them."""
    return [*(f"{arm}: {find(arm).summary}" for arm in arms), *DEFINITIONS]


ROWS: dict[str, Callable[[Arm], str]] = {
    "tokens": lambda arm: str(arm["tokens"]),
    "mean acceptance length": lambda arm: f"{arm['mean_acceptance_length']:.2f}",
    "acceptance rate": lambda arm: share(arm["acceptance_rate"]),
    "tokens/s, decoding": lambda arm: f"{arm['tokens_per_second']:.1f}",
    "time to first token, median": lambda arm: f"{arm['ttft_seconds']:.3f} s",
    "time of an answer, median": lambda arm: f"{arm['total_seconds']:.3f} s",
    "decode speedup": lambda arm: times(arm["decode_speedup"]),
    "end-to-end speedup": lambda arm: times(arm["end_to_end_speedup"]),
    "kept / video tokens, mean": lambda arm: f"{arm['num_kept']:.0f} / {arm['num_video_tokens']:.0f}",
}


def figures(arms: Mapping[str, Arm]) -> dict[str, list[str]]:
    """What to print of each arm that has answers, by what it is: first how many, and how right they are."""
    first = {
        "answers": [str(arm["num_answers"]) for arm in arms.values()],
        "identical to stock generate": [_identical(arm) for arm in arms.values()],
    }
    names = dict.fromkeys(name for arm in arms.values() for name in arm["scores"])
    scores = {name: [share(arm["scores"].get(name)) for arm in arms.values()] for name in names}
    return first | scores | {name: [show(arm) for arm in arms.values()] for name, show in ROWS.items()}


def share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} x"


def _identical(arm: Arm) -> str:
    return "" if arm["identical"] is None else f"{arm['identical']} of {arm['num_answers']}"
