"""Negative controls: break one thing on purpose, and the checks above must notice."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import tiny
from parity.pairs import pair
from specvlm.engine import drafting, growing, sequence, tree
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.families.decoder import HFDecoder
from specvlm.pipeline import Generation

FULL = {"pruning_ratio": 0.0, "tree": "paper", "max_new_tokens": 31}


def answers(name: str = "twin") -> list[Generation]:
    vlm = pair(name, torch.float64)
    return [vlm.generate(tiny.video(5, seed=seed), "what happens?", **FULL) for seed in range(3)]


def differences(name: str = "close") -> int:
    vlm = pair(name, torch.float64)
    right = [vlm.autoregressive(tiny.video(5, seed=seed), "what happens?", max_new_tokens=31) for seed in range(3)]
    return sum(a.token_ids != b.token_ids for a, b in zip(answers(name), right, strict=True))


def test_unbroken_nothing_differs() -> None:
    """The control of the controls."""
    assert differences() == 0


def test_a_causal_mask_in_place_of_the_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tree.DraftTree, "mask", property(lambda self: torch.ones(len(self), len(self), dtype=torch.bool).tril())
    )
    assert differences() > 0


def test_positions_that_count_nodes_instead_of_depths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree.DraftTree, "depths", property(lambda self: tuple(range(len(self)))))
    assert differences() > 0


def test_positions_that_are_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "specvlm.answering.request.Sequence",
        lambda **fields: sequence.Sequence(**{**fields, "next_position": fields["next_position"] + 1}),
    )
    assert differences() > 0


def test_compaction_that_keeps_the_first_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    original = TreeCache.keep
    monkeypatch.setattr(
        TreeCache, "keep", lambda self, path, num_nodes: original(self, tuple(range(len(path))), num_nodes)
    )
    assert differences() > 0


def test_no_rollback_of_what_the_target_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TreeCache, "keep", lambda self, path, num_nodes: None)
    assert differences() > 0


def test_an_answer_that_is_not_cut_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence.Sequence, "num_left", property(lambda self: 100 - len(self.tokens)))
    assert differences("twin") > 0


def test_a_stale_draft_cache_costs_acceptance_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The draft can't make an answer wrong: with rejected guesses left in its cache it just guesses worse."""
    before = sum(answer.stats.num_accepted for answer in answers("close"))

    def accept(self: drafting.ModelDrafter, verdict: object) -> None:
        self._waiting = [self._grown.tree.tokens[node] for node in verdict.path[1:]]

    monkeypatch.setattr(drafting.ModelDrafter, "accept", accept)
    assert differences() == 0
    assert sum(answer.stats.num_accepted for answer in answers("close")) < 0.9 * before


def test_a_draft_mask_without_branches_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's code: nodes of the deeper levels see their siblings, so that a perfect draft is no longer perfect."""
    monkeypatch.setattr(growing, "flags", lambda rows, real=growing.flags: torch.ones_like(real(rows)))
    assert differences("twin") == 0
    assert any(answer.stats.accepted_per_depth != [5] * 5 for answer in answers("twin"))


def test_draft_positions_that_ignore_depth_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = HFDecoder.step

    def step(self: HFDecoder, tokens, positions, mask, cache, **more):
        is_draft = cache.layers[0].capacity != 0 and mask is not None and mask.shape[0] < 25
        return original(self, tokens, positions * 0 if is_draft else positions, mask, cache, **more)

    monkeypatch.setattr(HFDecoder, "step", step)
    assert any(answer.stats.accepted_per_depth != [5] * 5 for answer in answers("twin"))


def test_a_hostile_draft_is_refused_and_harmless() -> None:
    vlm = pair("hostile", torch.float64)
    for seed in range(3):
        right = vlm.autoregressive(tiny.video(5, seed=seed), "what happens?", max_new_tokens=31)
        ours = vlm.generate(tiny.video(5, seed=seed), "what happens?", **FULL)
        assert dataclasses.astuple(ours)[:3] == dataclasses.astuple(right)[:3]
        assert ours.stats.num_accepted == 0
        assert ours.stats.num_rounds == 30
