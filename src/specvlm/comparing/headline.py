"""What was gained, and at what loss, in one sentence that follows from the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from specvlm.comparing.arms import PLAIN


@final
@dataclass(frozen=True)
class Headline:
    """A sentence, and whether no answer is known to differ from stock generate's."""

    text: str
    lossless: bool


def fastest(arms: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of records with `arm` and both speedups, that of whoever answers soonest; none if nothing was held against stock
    generate. Stock generate itself is what there is to be faster than."""
    raced = [arm for arm in arms if arm["end_to_end_speedup"] is not None and arm["arm"] not in PLAIN]
    return max(raced, key=lambda arm: arm["end_to_end_speedup"], default=None)


def gain(name: str, best: Mapping[str, Any]) -> str:
    """How fast, without the full stop."""
    end_to_end, decoding = best["end_to_end_speedup"], best["decode_speedup"]
    if end_to_end <= 1:
        return f"Nothing was faster than stock generate: the nearest was {end_to_end:.2f} times as fast ({name})"
    told = f"Answers came {end_to_end:.2f} times as fast as from stock generate ({name})"
    return told if decoding is None else f"{told}, and were decoded {decoding:.2f} times as fast"


def loss(compared: int, different: int) -> str:
    """At what loss: of answers that were compared with stock generate's, token by token, how many are others."""
    if not compared:
        return "no answer could be compared with it"
    if different:
        return f"{different} of {compared} answers differ from its own"
    what = "the answer is" if compared == 1 else f"all {compared} answers are"
    return f"at no loss: {what} the same, token by token"


def headline(name: str, best: Mapping[str, Any] | None, compared: int, different: int) -> Headline:
    """`best` is what `fastest` found, and `name` what people call it."""
    if best is None and compared:
        return Headline(f"What was gained from end to end isn't told; {loss(compared, different)}.", different == 0)
    if best is None:
        return Headline("Nothing was held against stock generate, so neither gain nor loss is known.", different == 0)
    return Headline(f"{gain(name, best)}; {loss(compared, different)}.", different == 0)
