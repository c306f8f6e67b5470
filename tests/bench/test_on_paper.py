"""Predictions for cards that were not there: bytes over bandwidth, and nothing that looks like a measurement."""

from __future__ import annotations

import pytest

from specvlm.bench.on_paper import CARD_BYTES, DTYPE, REPORTED, costs, num_cards, predict
from specvlm.bench.roofline import PUBLISHED, Demand
from specvlm.bench.widened.shapes import ON_PAPER


@pytest.mark.parametrize("name", ON_PAPER)
@pytest.mark.parametrize("card", CARD_BYTES)
def test_a_forward_takes_as_long_as_its_bytes(name, card):
    pair, machine = ON_PAPER[name], PUBLISHED[card]
    both = costs(pair, machine)
    for shape, found in ((pair.target, both.target), (pair.draft, both.draft)):
        demand = Demand.of_shape(shape, DTYPE)
        for rows in (1, 5, 26, 48):
            for cached in (0, 700, 6000):
                assert found.forward(rows, cached) == pytest.approx(
                    machine.seconds(demand.forward(rows, cached)), rel=0.01
                )


def test_every_pair_that_is_predicted_is_one_that_was_reported():
    assert list(REPORTED) == list(ON_PAPER)


@pytest.mark.parametrize(
    ("name", "card", "cards"), [(0, "H100 SXM", 3), (0, "L40S", 4), (1, "H100 SXM", 2), (1, "L40S", 2)]
)
def test_cards_hold_both_models(name, card, cards):
    """72 billion and 7 billion parameters of two bytes are 160 GB; 32 and 7 are 82 GB."""
    assert num_cards(list(ON_PAPER.values())[name], CARD_BYTES[card], 3000, 300) == cards


@pytest.mark.parametrize("name", ON_PAPER)
def test_speedups_hang_on_ratios_of_bytes_and_speeds_on_the_card(name):
    fast, slow = (predict(0.8, name, card, 3164, 464) for card in CARD_BYTES)
    assert fast.planned_tree.speedup == pytest.approx(slow.planned_tree.speedup, rel=0.01)
    bandwidths = [PUBLISHED[card].bandwidth for card in CARD_BYTES]
    ratio = fast.planned_tree.tokens_per_second / slow.planned_tree.tokens_per_second
    assert ratio == pytest.approx(bandwidths[0] / bandwidths[1], rel=0.01)
    for each in (fast, slow):
        assert 1 < each.paper_tree.speedup < each.paper_tree.tokens
        assert each.paper_tree.speedup <= each.planned_tree.speedup
        assert (each.paper_tree.depth, each.paper_tree.num_nodes) == (5, 25)
