"""Self-drafting with stock models: a guess's logits are those over a cache that was gathered by hand."""

from __future__ import annotations

import copy
from functools import lru_cache

import pytest
import torch
from torch import Tensor

import tiny
from specvlm.engine.caches.borrowed_cache import BorrowedCache, BorrowedLayer
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.drafting import NoDrafter
from specvlm.engine.loop import decode, first_token, prefill
from specvlm.engine.sampling import Chooser
from specvlm.engine.self_drafting import SelfDrafter
from specvlm.engine.sequence import Sequence, Stopping
from specvlm.engine.tree import PAPER_TREE, DraftTree
from specvlm.families import Family
from specvlm.prompts.prompt import Prompt

FAMILIES = ["llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"]
TREE = DraftTree((5, 6, 7, 8, 9, 10), (-1, 0, 0, 1, 2, 2))
EXACT = 1e-12
"""Of logits in float64, as part of the largest."""


@lru_cache
def family(name: str) -> Family:
    return tiny.family(tiny.model(name, dtype=torch.float64))


@lru_cache
def prompt(name: str) -> Prompt:
    return family(name).prepare([tiny.film(6)], "what happens?")


def columns(name: str) -> Tensor:
    return prompt(name).video_mask.nonzero()[:, 0]


@lru_cache
def prefilled(name: str) -> Sequence:
    asked, room = prompt(name), prompt(name).num_tokens
    sequence = Sequence(
        asked.input_ids, asked.next_position, family(name).decoder.new_cache(room), Chooser(), Stopping(31)
    )
    embeds = family(name).embed(asked, family(name).see(asked))
    first_token(sequence, prefill(family(name).decoder, sequence, embeds, asked.position_ids))
    return sequence


def begun(name: str, room: int = 100) -> Sequence:
    """An answer whose first token is known; the target's cache has `room` behind the prompt."""
    sequence = copy.deepcopy(prefilled(name))
    for layer in sequence.cache.layers:
        store = layer.keys, layer.values
        layer.capacity += room
        layer.lazy_initialization(*store)
        layer.keys[:, :, : layer.length], layer.values[:, :, : layer.length] = store
    return sequence


def choice(name: str, ratio: float, per_head: bool) -> Tensor:
    """Video tokens that stay: at random, [K] or [layers, kv_heads, K]."""
    layers, num_video = prefilled(name).cache.layers, prompt(name).num_video_tokens
    heads = (len(layers), layers[0].keys.shape[1]) if per_head else ()
    noise = torch.rand(*heads, num_video, generator=torch.Generator().manual_seed(7))
    return noise.argsort(-1)[..., : round((1 - ratio) * num_video)].sort(-1).values


def by_hand(sequence: Sequence, name: str, kept: Tensor) -> TreeCache:
    """A cache of its own that holds the target's rows, but for the video tokens that aren't kept: a row at a time."""
    made = family(name).decoder.new_cache(0)
    video = columns(name).tolist()
    for index, layer in enumerate(sequence.cache.layers):
        stores = []
        for store in (layer.keys, layer.values):
            heads = []
            for head in range(store.shape[1]):
                chosen = kept[index, head] if kept.ndim == 3 else kept
                stays = {video[token] for token in chosen.tolist()}
                rows = [row for row in range(layer.length) if row not in video or row in stays]
                heads.append(torch.stack([store[0, head, row] for row in rows]))
            stores.append(torch.stack(heads)[None])
        made.update(stores[0], stores[1], index)
    return made


def step(name: str, sequence: Sequence, cache: TreeCache | BorrowedCache, tree: DraftTree = TREE) -> Tensor:
    """The logits of a tree behind the answer so far."""
    positions = sequence.next_position + len(sequence.tokens) - 1 + torch.tensor([tree.depths])
    mask = torch.cat([torch.ones(len(tree), cache.length, dtype=torch.bool), tree.mask], dim=1)
    return family(name).decoder.step(torch.tensor(tree.tokens), positions, mask, cache)


def told(name: str, sequence: Sequence) -> None:
    """Three more tokens of an answer, in the target's cache: what stands behind the video is more than the prompt."""
    family(name).decoder.step(
        torch.tensor([11, 12, 13]), sequence.next_position + torch.arange(3)[None], None, sequence.cache
    )
    sequence.tokens = [11, 12, 13, 5]


def close(mine: Tensor, theirs: Tensor) -> bool:
    return torch.allclose(mine, theirs, rtol=0, atol=EXACT * float(theirs.abs().max()))


@pytest.mark.parametrize("name", FAMILIES)
def test_with_the_whole_video_logits_are_the_targets_own(name):
    sequence = begun(name)
    borrowed = BorrowedCache(sequence.cache, columns(name), choice(name, 0.0, per_head=False))
    told(name, sequence)
    logits = step(name, sequence, borrowed)
    assert close(logits, step(name, sequence, sequence.cache))


@pytest.mark.parametrize("per_head", [False, True], ids=["one choice", "a choice per head"])
@pytest.mark.parametrize("ratio", [0.5, 1.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_with_less_logits_are_those_over_a_cache_gathered_by_hand(name, ratio, per_head):
    """Level by level, as a tree grows, and in one forward."""
    sequence, kept = begun(name), choice(name, ratio, per_head)
    borrowed = BorrowedCache(sequence.cache, columns(name), kept)
    told(name, sequence)
    expected = step(name, sequence, by_hand(sequence, name, kept))
    assert close(step(name, sequence, borrowed), expected)
    assert not close(step(name, sequence, sequence.cache), expected)
    sequence.cache.rollback(len(TREE))
    borrowed.reset()
    again = [step(name, sequence, borrowed, DraftTree((5,), (-1,)))]
    length = borrowed.length - 1
    for level in ([1, 2], [3, 4, 5]):
        sees = torch.cat([torch.ones(len(level), length, dtype=torch.bool), TREE.mask[level, : level[-1] + 1]], dim=1)
        positions = sequence.next_position + 3 + torch.tensor([[TREE.depths[node] for node in level]])
        nodes = torch.tensor([TREE.tokens[node] for node in level])
        again.append(family(name).decoder.step(nodes, positions, sees, borrowed))
    assert close(torch.cat(again), expected)


@pytest.mark.parametrize("per_head", [False, True], ids=["one choice", "a choice per head"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_draft_leaves_the_targets_cache_alone_and_holds_the_kept_rows_only(name, per_head):
    sequence, kept = begun(name), choice(name, 0.9, per_head)
    layers = sequence.cache.layers
    stores = [store.view(torch.int64).clone() for layer in layers for store in (layer.keys, layer.values)]
    borrowed = BorrowedCache(sequence.cache, columns(name), kept)
    drafter = SelfDrafter(family(name).decoder, PAPER_TREE, borrowed, sequence.next_position, 320)
    assert len(drafter.propose(sequence.tokens[-1], 9)) == 26
    left = [store.view(torch.int64) for layer in layers for store in (layer.keys, layer.values)]
    assert all(map(torch.equal, stores, left))
    assert sequence.cache.length == prompt(name).num_tokens
    borrowed.reset()
    first, last = int(columns(name)[0]), int(columns(name)[-1])
    num_rows = kept.shape[-1] + int((~prompt(name).video_mask[first:last]).sum())
    _, heads, _, dim = layers[0].keys.shape
    assert borrowed.extra_bytes == len(layers) * heads * num_rows * dim * 2 * 8


@lru_cache
def plain(name: str) -> list[int]:
    sequence = begun(name)
    for _ in decode(family(name).decoder, sequence, NoDrafter()):
        pass
    return sequence.tokens


def drafted(name: str, ratio: float, *, per_head: bool = False, room: int = 100) -> Sequence:
    """An answer of 31 tokens, drafted by the target itself with the paper's tree."""
    sequence = begun(name, room)
    borrowed = BorrowedCache(sequence.cache, columns(name), choice(name, ratio, per_head))
    drafter = SelfDrafter(family(name).decoder, PAPER_TREE, borrowed, sequence.next_position, 320)
    for _ in decode(family(name).decoder, sequence, drafter):
        pass
    return sequence


@pytest.mark.parametrize("room", [0, 100], ids=["grows", "has room"])
@pytest.mark.parametrize("name", FAMILIES)
def test_with_the_whole_video_five_of_five_are_accepted_in_every_round(name, room):
    """Also when the target's cache grows in the middle of the answer."""
    sequence = drafted(name, 0.0, room=room)
    assert sequence.tokens == plain(name)
    assert sequence.stats.accepted_per_depth == [5] * 5
    assert sequence.stats.num_rounds == 5


@pytest.mark.parametrize(("per_head", "room"), [(False, 100), (True, 0)], ids=["one choice", "per head, and grows"])
@pytest.mark.parametrize("name", FAMILIES)
def test_with_less_the_answer_is_the_same(name, per_head, room):
    sequence = drafted(name, 0.5, per_head=per_head, room=room)
    assert sequence.tokens == plain(name)
    assert 0 < sequence.stats.num_accepted < 25


@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_5_vl"])
@pytest.mark.parametrize("failing_layer", [0, 1, 2])
def test_a_draft_that_breaks_off_leaves_both_caches_as_they_were(name, failing_layer):
    stock = copy.deepcopy(family(name).model)
    decoder, sequence = tiny.family(stock).decoder, begun(name)
    borrowed = BorrowedCache(sequence.cache, columns(name), choice(name, 0.5, per_head=False))
    root = (torch.tensor([5]), torch.tensor([[sequence.next_position]]), None, borrowed)
    expected = decoder.step(*root)
    borrowed.reset()
    length = borrowed.length

    def interrupt(*_):
        raise KeyboardInterrupt

    handle = stock.model.language_model.layers[failing_layer].mlp.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        decoder.step(*root)
    handle.remove()
    assert [layer.length for layer in borrowed.layers] == [length] * 3
    assert sequence.cache.length == prompt(name).num_tokens
    assert torch.equal(decoder.step(*root), expected)


def is_noticed(monkeypatch: pytest.MonkeyPatch, change) -> None:
    """Of a change to which rows each layer borrows: other logits, and no perfect draft any more."""
    name, original = "qwen2_5_vl", BorrowedLayer.__init__
    kept = choice(name, 0.5, per_head=True)
    monkeypatch.setattr(BorrowedLayer, "__init__", lambda self, *args: original(self, *change(*args)))
    sequence = begun(name)
    borrowed = BorrowedCache(sequence.cache, columns(name), kept)
    assert not close(step(name, sequence, borrowed), step(name, sequence, by_hand(sequence, name, kept)))


def test_a_column_that_is_off_by_one_is_noticed(monkeypatch):
    is_noticed(monkeypatch, lambda target, rows, start, end: (target, rows - 1, start, end))


def test_heads_that_take_each_others_rows_are_noticed(monkeypatch):
    is_noticed(monkeypatch, lambda target, rows, start, end: (target, rows.flip(0), start, end))


def test_video_rows_that_slip_in_behind_are_noticed(monkeypatch):
    is_noticed(monkeypatch, lambda target, rows, start, end: (target, rows, start, end - 1))


def test_views_from_before_the_cache_grew_are_noticed(monkeypatch):
    original, stores = BorrowedLayer._together, {}

    def stale(self, borrowed, kept, own):
        held = stores.setdefault((id(self), kept is self._kept_keys), borrowed)
        return original(self, torch.nn.functional.pad(held, (0, 0, 0, borrowed.shape[2] - held.shape[2])), kept, own)

    monkeypatch.setattr(BorrowedLayer, "_together", stale)
    sequence = drafted("qwen2_5_vl", 0.0, room=0)
    assert sequence.tokens == plain("qwen2_5_vl")  # a draft can't make an answer wrong
    assert sequence.stats.num_accepted < 25
