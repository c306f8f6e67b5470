"""What the target makes of a tree: in tensors the same path, tokens and end as the host's `verify` finds."""

from __future__ import annotations

import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.rounds.fakes import as_device
from engine.trees import Path, all_trees
from specvlm.engine.rounds import checking
from specvlm.engine.rounds.checking import Settled, greedy, one_by_one
from specvlm.engine.tree import PAPER_TREE, DraftTree
from specvlm.engine.verification import verify

VOCABULARY = 2
SMALL = list(all_trees(4, VOCABULARY))
"""Of up to 4 nodes, siblings that say the same among them."""
NO_END = torch.tensor([-1])


def told(settled: Settled) -> tuple[Path, Path, bool]:
    count = int(settled.count)
    return tuple(settled.path[:count].tolist()), tuple(settled.tokens[:count].tolist()), bool(settled.ended)


def on_host(tree: DraftTree, logits: Tensor, ends: set[int]) -> tuple[Path, Path, bool]:
    verdict = verify(tree, lambda node, said: int(logits[node].argmax()), lambda said: said[-1] in ends)
    said = (*(tree.tokens[node] for node in verdict.path[1:]), verdict.next_token)
    return verdict.path, said, verdict.next_token in ends


@pytest.mark.parametrize("ends", [set(), {0}, {1}, {0, 1}], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_every_small_tree_is_checked_as_the_host_checks_it(seed, ends):
    """With ends at every place of a path, and levels that no node reaches."""
    dice, eos_ids = torch.Generator().manual_seed(seed), torch.tensor(sorted(ends) or [-1])
    for tree in SMALL:
        logits = torch.randn(len(tree), VOCABULARY, generator=dice)
        right = on_host(tree, logits, ends)
        for levels in {max(1, max(tree.depths)), 4}:
            assert told(greedy(as_device(tree), logits, eos_ids, levels)) == right
            likeliest = one_by_one(as_device(tree), logits, eos_ids, levels, lambda row, said: row.argmax(-1))
            assert told(likeliest) == right


@given(
    tokens=st.lists(st.integers(0, 2), min_size=25, max_size=25),
    seed=st.integers(0, 999),
    ends=st.frozensets(st.integers(0, 2), max_size=1),
)
def test_so_is_the_papers_tree(tokens, seed, ends):
    tree = DraftTree((9, *tokens), PAPER_TREE.parents)
    logits = torch.randn(len(tree), 3, generator=torch.Generator().manual_seed(seed))
    settled = greedy(as_device(tree), logits, torch.tensor(sorted(ends) or [-1]), 5)
    assert told(settled) == on_host(tree, logits, set(ends))


@given(tree=st.sampled_from(SMALL), seed=st.integers(0, 999), end=st.sampled_from([-1, 0, 1]))
def test_a_pick_may_look_back_at_all_that_was_said(tree, seed, end):
    """As processors do, and dice: the choice hangs on the words of this very path."""
    logits = torch.randn(len(tree), VOCABULARY, generator=torch.Generator().manual_seed(seed))

    def choice(row: list[float], said: Path) -> int:
        return zlib.crc32(repr((row, said)).encode()) % VOCABULARY

    def pick(row: Tensor, said: Tensor) -> Tensor:
        return torch.tensor([choice(row[0].tolist(), tuple(said.tolist()))])

    verdict = verify(tree, lambda node, said: choice(logits[node].tolist(), said), lambda said: said[-1] == end)
    path, said, ended = told(one_by_one(as_device(tree), logits, torch.tensor([end]), 3, pick))
    assert path == verdict.path
    assert said == (*(tree.tokens[node] for node in path[1:]), verdict.next_token)
    assert ended == (verdict.next_token == end)


def test_a_pick_is_asked_once_a_level_and_once_more_whatever_is_right():
    asked: list[int] = []

    def pick(row: Tensor, said: Tensor) -> Tensor:
        asked.append(len(said))
        return row.argmax(-1)

    tree = as_device(DraftTree((9, 0, 0), (-1, 0, 1)))
    for logits in (torch.tensor([[1.0, 0], [1, 0], [1, 0]]), torch.tensor([[0.0, 1], [1, 0], [1, 0]])):
        asked.clear()
        one_by_one(tree, logits, NO_END, 2, pick)
        assert asked == [0, 1, 2]


def test_of_siblings_that_say_the_same_the_later_is_followed():
    tree = DraftTree((9, 1, 1, 0), (-1, 0, 0, 1))
    logits = torch.tensor([[0.0, 1]] * 4)
    assert told(greedy(as_device(tree), logits, NO_END, 2)) == ((0, 2), (1, 1), False)


def test_wide_logits_are_compared_in_float32_as_generate_does():
    logits = torch.tensor([[1.0, 1.0 + 1e-12]], dtype=torch.float64)
    assert told(greedy(as_device(DraftTree((9,), (-1,))), logits, NO_END, 1))[1] == (0,)


def test_the_root_that_says_its_own_guess_is_nobodys_child():
    """It is its own parent in tensors, and what it says may be its own token."""
    tree = DraftTree((1, 0), (-1, 0))
    logits = torch.tensor([[0.0, 1], [0, 1]])
    assert told(greedy(as_device(tree), logits, NO_END, 3)) == ((0,), (1,), False)


def test_an_end_that_is_ignored_would_be_noticed(monkeypatch):
    settled = checking._settled
    monkeypatch.setattr(checking, "_settled", lambda nodes, said, on_path, ends: settled(nodes, said, on_path, NO_END))
    tree, logits = DraftTree((9, 1), (-1, 0)), torch.tensor([[0.0, 1], [1, 0]])
    assert told(greedy(as_device(tree), logits, torch.tensor([1]), 1)) != on_host(tree, logits, {1})
