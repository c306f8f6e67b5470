"""bfloat16 and float16: every emitted token is the target's argmax, or within rounding of it, at every position."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import tiny
from parity.pairs import EVERY_RUN, pair
from specvlm.answering.options import Options
from specvlm.bench.exactness import Judge
from specvlm.engine.stats import Stats

LIMIT = 4
"""Units of rounding: what three layers and the head, each of a few steps, may come to."""

OPTIONS = Options(do_sample=False, pruning_ratio=0.5, max_new_tokens=32)

FAMILIES = ("llava_onevision", *(pytest.param(name, marks=pytest.mark.parity) for name in EVERY_RUN))
"""No mixture of experts: rounding that sends a token to another expert has no bound of this kind, in stock code too."""


@pytest.mark.part(2)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["twin", "close"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_position(
    dtype: torch.dtype, name: str, family: str, record_property: Callable[[str, object], None]
) -> None:
    vlm = pair(name, dtype, family)
    exact = 0
    for seed in range(6):
        video = tiny.film(5, seed=seed)
        ours = vlm.generate(video, "what happens?", OPTIONS)
        exact += ours.token_ids == vlm.autoregressive(video, "what happens?", OPTIONS).token_ids
        prompt = vlm.prepare(video, "what happens?", OPTIONS, Stats())
        _, behind = Judge(vlm.target, prompt).gaps(ours.token_ids, OPTIONS)
        assert behind.max() <= LIMIT, f"token {int(behind.argmax())} is {behind.max():.1f} units behind"
        assert ours.stats.num_accepted > 0
    record_property("exact_match", f"{exact} of 6")


def test_a_wrong_token_is_noticed() -> None:
    """The control: swap one token for another one, and it is far behind."""
    vlm = pair("twin", torch.bfloat16)
    prompt = vlm.prepare(tiny.film(5), "what happens?", OPTIONS, Stats())
    tokens = list(vlm.generate(tiny.film(5), "what happens?", OPTIONS).token_ids)
    tokens[10] = (tokens[10] + 1) % 256
    _, behind = Judge(vlm.target, prompt).gaps(tokens, OPTIONS)
    assert behind.max() > 10 * LIMIT
