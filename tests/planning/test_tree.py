"""Planned trees: whatever is believed, they are trees within their limits, and the answer is that of plain decoding."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fakes import FakeDecoder, Language, embeds, prompt_positions, seen_in
from engine.test_loop import PROMPT, START, chooser, drafting, plain, stoppings, told
from engine.trees import Path, grow
from planning.strategies import experience, experiences, pair_costs, pairs
from planning.worlds import machine
from specvlm.engine.loop import decode, first_token, prefill
from specvlm.engine.sequence import Sequence, Stopping
from specvlm.planning.experience import Experience
from specvlm.planning.prices import MAX_DEPTH, MAX_NODES, MAX_WIDTH, Prices
from specvlm.planning.tree import PlannedTree

SEEDS = st.integers(0, 2**32)


def logits_after(seed: int, vocabulary: int, sharp: float, broken: float | None = None):
    """What a draft says after some words: surer where it is `sharp`, with a `broken` number here and there."""

    def after(path: Path) -> torch.Tensor:
        generator = torch.Generator().manual_seed(hash((seed, path)) % 2**63)
        logits = sharp * torch.randn(vocabulary, generator=generator)
        if broken is not None:
            logits[torch.rand(vocabulary, generator=generator) < 0.3] = broken
        return logits

    return after


@given(
    pairs,
    experiences,
    st.integers(0, 40),
    SEEDS,
    st.integers(1, 9),
    st.sampled_from([0.0, 1.0, 8.0, 60.0]),
    st.sampled_from([None, None, math.nan, math.inf, -math.inf]),
    st.none() | st.integers(0, 30),
)
@settings(max_examples=200)
def test_a_tree_whatever_is_believed(costs, believed, max_depth, seed, vocabulary, sharp, broken, cut):
    mind = experience(believed)
    prices = Prices.now(pair_costs(costs), mind, 300, 40)
    shape = PlannedTree(lambda: prices, mind)
    if cut is not None:
        shape, max_depth = shape.cut(cut), cut
    grown = grow(shape, 7, max_depth if cut is None else 99, logits_after(seed, vocabulary, sharp, broken))
    tree, every = grown.tree, [path for paths in grown.fed for path in paths]
    assert tree.parents[0] == -1
    assert all(0 <= parent < node for node, parent in enumerate(tree.parents) if node)
    assert len({(parent, token) for parent, token in zip(tree.parents, tree.tokens, strict=True)}) == len(tree)
    assert [grown.made[number][-1:] for number in grown.numbers[1:]] == [(token,) for token in tree.tokens[1:]]
    assert len(tree) <= 1 + MAX_NODES
    assert max(tree.depths) <= len(grown.fed) <= min(max_depth, MAX_DEPTH)
    assert not grown.fed or (grown.fed[0] == [()] and len(tree) > 1)  # what was drafted for is verified, or a waste
    assert all(len(paths) <= MAX_WIDTH for paths in grown.fed)
    assert len(set(every)) == len(every)
    for number, paths in enumerate(grown.fed[1:], start=1):
        before = {path for earlier in grown.fed[:number] for path in earlier}
        assert all(path[:-1] in before for path in paths)  # the fed nodes of a path are its first ones


@given(
    costs=pairs,
    believed=experiences,
    vocabulary=st.integers(1, 6),
    noise=st.sampled_from([0.0, 0.5, 2.0, 50.0]),
    seed=st.integers(0, 999),
    stopping=stoppings,
    do_sample=st.booleans(),
    rows=st.sampled_from([1, 3]),
)
@settings(max_examples=60)
def test_the_answer_is_that_of_plain_decoding(costs, believed, vocabulary, noise, seed, stopping, do_sample, rows):
    """One after the other, by the same experience: whatever it comes to believe."""
    language, mind, costs = Language(vocabulary, seed), experience(believed), pair_costs(costs)
    tokens, reason = plain(language, stopping, do_sample, rows)
    for _ in range(3):
        mind.purse.left += 9.0
        target, draft = FakeDecoder(language, rows=rows), FakeDecoder(language.dialect(noise), rows=rows)
        positions, kept = prompt_positions(START[rows], len(PROMPT)), target.new_cache(99)
        sequence = Sequence(PROMPT, int(positions.max()) + 1, kept, chooser(do_sample), stopping)
        first_token(sequence, prefill(target, sequence, embeds(PROMPT), positions))
        if sequence.finish_reason is None:
            shape = PlannedTree(lambda: Prices.now(costs, mind, kept.length, draft.caches[-1].length), mind)  # noqa: B023
            list(decode(target, sequence, drafting(draft, shape, positions, vocabulary)))
        assert (sequence.tokens, sequence.finish_reason) == (tokens, reason)
        assert seen_in(kept) == told(tokens[:-1], rows)


def test_a_twin_of_the_target_is_followed_deeper_and_deeper():
    """The negative control of the test above: its drafts are really accepted, where they are right."""
    language, mind, costs = Language(50, seed=3), Experience(), machine(0.05, 0.001)
    target, draft = FakeDecoder(language), FakeDecoder(language.dialect(0.0))
    positions, kept = prompt_positions(START[1], len(PROMPT)), target.new_cache(999)
    sequence = Sequence(PROMPT, len(PROMPT), kept, chooser(False), Stopping(200))
    first_token(sequence, prefill(target, sequence, embeds(PROMPT), positions))
    shape = PlannedTree(lambda: Prices.now(costs, mind, kept.length, draft.caches[-1].length), mind)
    drafter = drafting(draft, shape, positions, 50)
    pieces = [len(piece) for piece in decode(target, sequence, drafter)]
    assert pieces[0] <= 3 < max(pieces)
    assert sum(pieces) / len(pieces) > 4
    assert drafter.max_nodes == 1 + MAX_NODES


def test_where_one_token_is_left_nothing_is_grown_or_learnt():
    mind = Experience()
    shape = PlannedTree(lambda: Prices.now(machine(0.1), mind, 9, 9), mind)
    assert shape.sprout(3, 0) is None
    assert mind == Experience()


def test_without_a_reason_to_draft_a_round_is_plain_but_for_a_trial_now_and_then():
    """A draft as slow as the target can't pay: it is tried as often as a hundredth of the time allows."""
    mind = Experience()
    shape = PlannedTree(lambda: Prices.now(machine(1.5), mind, 9, 9), mind)
    trials = 0
    for _ in range(1000):
        growth = shape.sprout(3, 99)
        if growth is not None:
            trials += 1
            assert growth.extend(torch.tensor([[9.0, 0.0]])) == []
            _, numbers = growth.finish()
            growth.judged(numbers, [0])
    assert 4 <= trials <= 8


def test_prices_are_counted_in_plain_forwards():
    prices = Prices.now(machine(0.2, 0.01), Experience(), 500, 50)
    assert prices.verify[0] == 1
    assert prices.verify[10] == pytest.approx(1.1)
    assert prices.guess[0] == pytest.approx(0.2)
    assert prices.guess[3] == pytest.approx(0.2 + 3 * 0.002)
    assert prices.speedup == 1
    dear, cheap = (Prices.now(machine(draft), Experience(), 9, 9).worth_beginning(9) for draft in (1.0, 0.1))
    assert dear == 0 < cheap
