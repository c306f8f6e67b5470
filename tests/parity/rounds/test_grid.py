"""Rounds of the device: stock generate's tokens, by the very rounds that the host plays."""

from __future__ import annotations

from random import Random

import pytest
import torch

import tiny
from parity.conftest import Same
from parity.pairs import pair
from parity.rounds.asked import DECODINGS, DRAFTS, QUESTION, TREES, film, on_device, stock

DTYPES = (torch.float32, torch.float64)


def check_cell(same: Same, family: str, dtype: torch.dtype, tree: str, decoding: str, drafts: tuple[str, ...]) -> None:
    """One answer a draft. Films, ratios and positions by lot, the same lot in every run; one of the answers is played
    on the host too."""
    lot = Random(f"{family} {dtype} {tree} {decoding}")
    also_on_host = lot.choice(drafts)
    for name in drafts:
        number, asked = lot.randrange(3), {"max_new_tokens": 21 + lot.randrange(2), **DECODINGS[decoding]}
        options = {
            "pruning_ratio": lot.choice((0.0, 0.5, 0.9, 1.0)),
            "positions": lot.choice(("original", "compact")),
            **TREES[tree],
        }
        stats = on_device(same, family, dtype, name, number, asked, **options).stats
        if name == also_on_host:
            right = stock(family, dtype, number, **asked)
            host = same(
                pair(name, dtype, family), film(number), QUESTION, right=right, rounds="host", **asked, **options
            )
            assert host.stats.on_host_because == "asked for" or not host.stats.rounds
            assert host.stats.rounds == stats.rounds
        if stats.rounds:
            assert stats.num_drafted > 0
        if name == "hostile" and decoding == "greedy":
            assert stats.num_accepted == 0
        if name == "twin" and options["pruning_ratio"] == 0 and decoding == "greedy":
            assert stats.mean_acceptance_length > 1.5


@pytest.mark.parity
@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_grid(same: Same, family: str, dtype: torch.dtype, tree: str, decoding: str) -> None:
    turn = list(TREES).index(tree) + 3 * list(DECODINGS).index(decoding)
    check_cell(same, family, dtype, tree, decoding, tuple(DRAFTS[(turn + step) % len(DRAFTS)] for step in (0, 2, 3)))


@pytest.mark.parametrize("turn", range(len(tiny.BUILDERS)), ids=list(tiny.BUILDERS))
def test_a_diagonal_of_the_grid(same: Same, turn: int) -> None:
    """The same check on one way to decode and two trees a family: what every run of the tests looks at."""
    for step, dtype in enumerate(DTYPES):
        tree = list(TREES)[(turn + 4 * step) % len(TREES)]
        check_cell(same, list(tiny.BUILDERS)[turn], dtype, tree, list(DECODINGS)[turn], ("close", "twin"))
