"""BorrowedCache against a list: a draft attends to the target's rows, but for the video tokens that it was denied."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from specvlm.engine.caches.borrowed_cache import BorrowedCache, BorrowedLayer
from specvlm.engine.caches.kv_cache import TreeCache

HEADS, DIM, LAYERS = 2, 3, 2
ROW_BYTES = DIM * 4
GUESS = 500
"""Numbers of the draft's own rows begin here."""


def rows(first: int, count: int, layer: int) -> tuple[Tensor, Tensor]:
    """Keys and values that occur once: each row knows its number, its layer and its head."""
    number = torch.arange(first, first + count).reshape(1, 1, count, 1) + 1000.0 * layer
    keys = number + torch.arange(HEADS).reshape(1, HEADS, 1, 1) / 4 + torch.arange(DIM) / 16
    return keys, -keys


def append(cache: TreeCache | BorrowedCache, first: int, count: int) -> list[tuple[Tensor, Tensor]]:
    return [cache.update(*rows(first, count, layer), layer) for layer in range(LAYERS)]


def snapshot(cache: TreeCache) -> list[Tensor]:
    """Every bit of a cache's storage, used or not, and how much is used."""
    stores = [store.view(torch.int32).clone() for layer in cache.layers for store in (layer.keys, layer.values)]
    return [*stores, torch.tensor([layer.length for layer in cache.layers])]


@dataclass
class Prompt:
    """A prompt that a target has read: row i of its cache is number i."""

    is_video: list[bool]
    room: int
    target: TreeCache = field(init=False)

    def __post_init__(self) -> None:
        self.target = TreeCache(LAYERS, self.room)
        append(self.target, 0, len(self.is_video))

    @property
    def columns(self) -> Tensor:
        return torch.tensor(self.is_video).nonzero()[:, 0]

    def visible(self, kept: list[int]) -> list[int]:
        """Numbers of the rows that are left when only the video tokens `kept` are."""
        columns = self.columns.tolist()
        denied = {column for index, column in enumerate(columns) if index not in kept}
        return [number for number in range(len(self.is_video)) if number not in denied]


def attended(numbers: list[list[list[int]]], layer: int) -> tuple[Tensor, Tensor]:
    """Rows of one layer, by number, each head its own."""
    keys = torch.stack(
        [rows(0, 2 * GUESS, layer)[0][0, head, numbers[layer][head]] for head in range(HEADS)],
    )[None]
    return keys, -keys


@st.composite
def choices(draw: st.DrawFn, num_video: int) -> Tensor:
    """A choice of video tokens for all heads, or for each its own, equally many."""
    num_kept = draw(st.integers(0, num_video))
    one = st.permutations(range(num_video)).map(lambda order: sorted(order[:num_kept]))
    if draw(st.booleans()):
        return torch.tensor(draw(one), dtype=torch.long)
    return torch.tensor([[draw(one) for _ in range(HEADS)] for _ in range(LAYERS)], dtype=torch.long).reshape(
        LAYERS, HEADS, num_kept
    )


ROUNDS = st.lists(
    st.tuples(st.lists(st.integers(1, 4), max_size=3), st.lists(st.booleans(), min_size=1, max_size=8)), max_size=6
)
"""For each round: rows of the draft's forwards, and which of the target's nodes are accepted."""


def assert_a_draft_sees_what_it_should(prompt: Prompt, kept: Tensor, rounds) -> None:
    """Play an answer: in each round the draft appends, then the target appends its nodes and keeps a path of them."""
    target, borrowed = prompt.target, BorrowedCache(prompt.target, prompt.columns, kept)
    by_head = kept.expand(LAYERS, HEADS, -1).tolist()
    visible = [[prompt.visible(head) for head in layer] for layer in by_head]
    num_between = sum(any(prompt.is_video[:row]) and any(prompt.is_video[row:]) for row in prompt.visible([]))
    held, number = [], len(prompt.is_video)
    for forwards, accepted in rounds:
        before, guesses = snapshot(target), []
        for count in forwards:
            start = GUESS + len(guesses)
            guesses += range(start, start + count)
            seen = append(borrowed, start, count)
            numbers = [[head + held + guesses for head in layer] for layer in visible]
            assert borrowed.length == borrowed.get_seq_length() == len(numbers[0][0])
            for layer, (keys, values) in enumerate(seen):
                assert borrowed.layers[layer].length == borrowed.length
                expected_keys, expected_values = attended(numbers, layer)
                assert torch.equal(keys, expected_keys)
                assert torch.equal(values, expected_values)
        assert all(map(torch.equal, before, snapshot(target)))
        borrowed.reset()
        assert borrowed.extra_bytes == LAYERS * HEADS * 2 * (kept.shape[-1] + num_between) * ROW_BYTES
        nodes = list(range(number, number + len(accepted)))
        append(target, number, len(accepted))
        path = [node for node, is_accepted in enumerate(accepted) if is_accepted]
        target.keep(path, len(accepted))
        held, number = held + [nodes[node] for node in path], number + len(accepted)


@given(st.data(), st.lists(st.booleans(), min_size=1, max_size=14), st.integers(0, 40), ROUNDS)
def test_a_draft_sees_the_targets_rows_as_they_are_at_that_moment(data, is_video, room, rounds):
    """Also where the target's cache grew in the meantime; it is never written to, and no byte more is held than the
    kept rows and the text among them."""
    kept = data.draw(choices(sum(is_video)))
    assert_a_draft_sees_what_it_should(Prompt(is_video, room), kept, rounds)


VIDEO = Prompt([False, False, *[True] * 4, False, *[True] * 4, False], 0)
KEPT = torch.tensor([1, 2, 6])
GROWING = [([2, 1], [True, False, True]), ([3], [True, True]), ([1], [True])]


def test_unbroken_the_example_of_the_controls_passes():
    prompt = Prompt(VIDEO.is_video, 0)
    assert_a_draft_sees_what_it_should(prompt, KEPT, GROWING)
    assert prompt.target.layers[0].capacity > len(VIDEO.is_video)  # it did grow


def test_views_that_were_taken_once_are_noticed(monkeypatch):
    """Control: what is borrowed looked up at the beginning alone."""
    original = BorrowedLayer.__init__

    def taken_once(self, target, *args):
        frozen = TreeCache(1, 0).layers[0]
        frozen.update(target.keys[:, :, : target.length], target.values[:, :, : target.length])
        frozen.keys, frozen.values = target.keys, target.values
        original(self, frozen, *args)

    monkeypatch.setattr(BorrowedLayer, "__init__", taken_once)
    with pytest.raises(AssertionError):
        assert_a_draft_sees_what_it_should(Prompt(VIDEO.is_video, 0), KEPT, GROWING)


def test_stale_storage_with_the_right_length_is_noticed(monkeypatch):
    """Control: tensors held from before the target's cache grew, its length read as it is."""
    original = BorrowedLayer._together
    stores = {}

    def stale(self, borrowed, *args):
        return original(self, stores.setdefault((id(self), bool(borrowed.flatten()[0] < 0)), borrowed), *args)

    monkeypatch.setattr(BorrowedLayer, "_together", stale)
    with pytest.raises(AssertionError):
        assert_a_draft_sees_what_it_should(Prompt(VIDEO.is_video, 0), KEPT, GROWING)


def test_a_column_that_is_off_by_one_is_noticed(monkeypatch):
    original = BorrowedLayer.__init__
    monkeypatch.setattr(
        BorrowedLayer, "__init__", lambda self, target, rows, start, end: original(self, target, rows - 1, start, end)
    )
    with pytest.raises(AssertionError):
        assert_a_draft_sees_what_it_should(Prompt(VIDEO.is_video, 0), KEPT, GROWING)


def test_heads_that_read_each_others_choice_are_noticed(monkeypatch):
    original = BorrowedLayer.__init__
    monkeypatch.setattr(
        BorrowedLayer,
        "__init__",
        lambda self, target, rows, start, end: original(self, target, rows.flip(0), start, end),
    )
    kept = torch.tensor([[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    with pytest.raises(AssertionError):
        assert_a_draft_sees_what_it_should(Prompt(VIDEO.is_video, 0), kept, GROWING)


def test_the_rows_of_a_forward_that_broke_off_are_forgotten():
    cache = BorrowedCache(Prompt(VIDEO.is_video, 60).target, VIDEO.columns, KEPT)
    append(cache, GUESS, 2)
    length = cache.length
    cache.update(*rows(GUESS + 2, 3, 0), 0)  # the first layer has them, the second not
    cache.truncate(length)
    assert [layer.length for layer in cache.layers] == [length] * LAYERS
    keys, _ = cache.update(*rows(GUESS + 7, 1, 0), 0)
    assert keys[0, 0, -3:, 0].tolist() == [GUESS, GUESS + 1, GUESS + 7]
    cache.truncate(0)  # never into what is borrowed
    assert [layer.length for layer in cache.layers] == [length - 2] * LAYERS


def test_it_is_of_the_targets_kind_and_tells_transformers_what_it_asks_for():
    cache = BorrowedCache(VIDEO.target, VIDEO.columns, KEPT)
    assert cache.layers[0].keys.dtype == VIDEO.target.layers[0].keys.dtype
    assert cache.get_mask_sizes(2, 0) == (cache.length + 2, 0)
    assert cache.is_sliding == [False] * LAYERS
    assert cache.layers[0].get_max_length() == -1


@pytest.mark.parametrize(
    ("columns", "kept", "message"),
    [
        ([9, 12], [0], "ends at position 13, and the target's cache holds 12"),
        ([2, 3], [2], r"within 0..1, not \[2\]"),
        ([2, 3], [-1], r"within 0..1, not \[-1\]"),
        ([2, 3], [1, 0], r"within 0..1, not \[1, 0\]"),
        ([2, 3], [1, 1], r"within 0..1, not \[1, 1\]"),
        ([2, 3], [[[0], [1], [1]], [[0], [1], [1]]], r"\(2, 2\) is wanted, not \(2, 3\)"),
        ([2, 3], [[[0], [1]]], r"\(2, 2\) is wanted, not \(1, 2\)"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(columns, kept, message):
    with pytest.raises(ValueError, match=message):
        BorrowedCache(VIDEO.target, torch.tensor(columns), torch.tensor(kept))
