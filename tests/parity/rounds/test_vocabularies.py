"""Drafts that have more words than their target, or fewer: of what the target doesn't have, nothing is proposed."""

from __future__ import annotations

from functools import lru_cache

import pytest

import tiny
from parity.conftest import Same
from parity.rounds.asked import DECODINGS, QUESTION, film
from specvlm.pipeline import SpecVLM

FAMILIES = list(tiny.BUILDERS)


@lru_cache
def padded(family: str, mine: int, theirs: int) -> SpecVLM:
    return tiny.pair(tiny.model(family, 0, vocabulary=mine), tiny.model(family, 1, vocabulary=theirs))


@pytest.mark.part(2)
@pytest.mark.parametrize(("mine", "theirs"), [(320, 352), (352, 320)])
@pytest.mark.parametrize(
    "family", [FAMILIES[0], *(pytest.param(name, marks=pytest.mark.parity) for name in FAMILIES[1:])]
)
def test_padded_vocabularies(same: Same, family: str, mine: int, theirs: int) -> None:
    vlm = padded(family, mine, theirs)
    for decoding in ("greedy", "nucleus"):
        asked = {"max_new_tokens": 12, **DECODINGS[decoding]}
        right = vlm.autoregressive(film(1), QUESTION, **asked)
        wider = {"depth": 2, "width": 400, "num_nodes": 30}
        for tree in ({"tree": "dynamic"}, {"tree": "paper"}, wider, {"tree": ((0,), (340,))}):
            device, host = (
                same(vlm, film(1), QUESTION, right=right, rounds=rounds, **asked, **tree)
                for rounds in ("device", "host")
            )
            assert device.stats.rounds == host.stats.rounds
            assert device.stats.on_host_because is None
