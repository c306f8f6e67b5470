"""Gated delta networks over trees: what stock layers say of the same tokens one by one, and what is held of them."""

from __future__ import annotations

import threading
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from specvlm.engine.caches.recurrent_cache import RecurrentCache
from specvlm.engine.decoder import Embeds
from specvlm.engine.tree import PAPER_TREE, DraftTree
from specvlm.errors import ModelError
from specvlm.families.decoder import HFDecoder
from specvlm.families.device_decoder import HFDeviceDecoder
from specvlm.families.recurrent.delta_net import DeltaNet, held_bytes

PROMPT = tuple(range(20, 31))
every_family = pytest.mark.parametrize("family", tiny.RECURRENT)


@lru_cache
def decoder(family: str, dtype: torch.dtype = torch.float64) -> HFDecoder:
    return tiny.family(tiny.model(family, 0, dtype=dtype)).decoder


def read(family: str, tokens: tuple[int, ...], cache: RecurrentCache, dtype: torch.dtype = torch.float64):
    places = cache.length + torch.arange(len(tokens))
    embeds = Embeds(decoder(family, dtype).embed(torch.tensor(tokens)))
    return decoder(family, dtype).prefill(embeds, places.expand(3, -1), cache)


def step(family: str, tree: DraftTree, cache: RecurrentCache, dtype: torch.dtype = torch.float64):
    places = cache.length + torch.tensor([tree.depths])
    return decoder(family, dtype).step(torch.tensor(tree.tokens), places, tree.mask, cache)


def prefilled(family: str, dtype: torch.dtype = torch.float64) -> RecurrentCache:
    cache = decoder(family, dtype).new_cache(64)
    assert isinstance(cache, RecurrentCache)
    read(family, PROMPT, cache, dtype)
    return cache


def stock(family: str, tokens: tuple[int, ...], dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """As stock generate reads them: the prompt at once, and what follows token by token."""
    made, cache = decoder(family, dtype), decoder(family, dtype).stock_cache()
    model = made.language_model
    with torch.no_grad():
        rows, places = made.embed(torch.tensor(PROMPT))[None], torch.arange(len(PROMPT))
        model(inputs_embeds=rows, position_ids=places.expand(3, 1, -1), use_cache=True, **{made.cache_name: cache})
    for place, token in enumerate(tokens, len(PROMPT)):
        logits = made.stock_step(token, place, cache)
    return logits


def branch(tree: DraftTree, node: int) -> tuple[int, ...]:
    return () if node < 0 else (*branch(tree, tree.parents[node]), node)


@st.composite
def trees(draw: st.DrawFn) -> tuple[tuple[int, ...], ...]:
    """Tokens and parents. The tree is made of them outside: to check a tuple beartype looks at a random part of it."""
    count = draw(st.integers(1, 8))
    parents = (-1, *(draw(st.integers(0, node - 1)) for node in range(1, count)))
    return tuple(draw(st.integers(10, 200)) for _ in range(count)), parents


@settings(max_examples=8)
@given(st.lists(st.tuples(trees(), st.integers(0, 7)), min_size=1, max_size=3), st.sampled_from(list(tiny.RECURRENT)))
def test_taken_back_to_any_node_it_is_what_a_fresh_forward_is(rounds, family):
    """Every node of every tree, behind whatever was accepted and rejected before it."""
    cache, said = prefilled(family), ()
    for (tokens, parents), node in rounds:
        tree = DraftTree(tokens, parents)
        logits = step(family, tree, cache)
        for each in range(len(tree)):
            right = stock(family, said + tuple(tree.tokens[one] for one in branch(tree, each)))
            # Recurrent layers compute in float32, whatever the model does; a wrong state is off by whole numbers.
            assert torch.allclose(logits[each], right, rtol=0, atol=1e-4)
        path = branch(tree, node % len(tree))
        cache.keep(path, len(tree))
        said += tuple(tree.tokens[one] for one in path)
    assert cache.base == cache.length == len(PROMPT) + len(said)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@every_family
def test_a_token_by_itself_is_stocks_to_the_bit(family, dtype):
    cache, said = prefilled(family, dtype), (40, 41, 42)
    for count, token in enumerate(said, 1):
        places = torch.tensor([[cache.length]])
        logits = decoder(family, dtype).step(torch.tensor([token]), places, None, cache, as_stock=True)
        cache.keep((0,), 1)
        assert torch.equal(logits[0], stock(family, said[:count], dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@every_family
def test_what_is_held_for_a_tree_is_what_the_function_says(family, dtype):
    """Between two forwards, whatever the tree was."""
    cache, config = prefilled(family, dtype), decoder(family, dtype).language_model.config
    assert cache.state_bytes == held_bytes(config, dtype)
    tree = DraftTree(tuple(range(40, 40 + PAPER_TREE.max_nodes)), PAPER_TREE.parents)
    step(family, tree, cache, dtype)
    assert cache.state_bytes == held_bytes(config, dtype, len(tree), 2)
    cache.keep((0, 1, 5), len(tree))
    assert cache.state_bytes == held_bytes(config, dtype)


def test_a_published_shape_holds_little():
    """Of Qwen3.5-9B: 24 layers of 32 heads, each 128 by 128."""
    config = tiny.model("qwen3_5").config.text_config.__class__()
    assert config.layer_types.count("linear_attention") == 24
    one = held_bytes(config, torch.bfloat16)
    assert 48 << 20 < one < 56 << 20
    tree = held_bytes(config, torch.bfloat16, 26, 2)
    assert tree - one < 0.12 * 26 * one


@every_family
def test_other_threads_keep_the_librarys_own(family):
    """In the middle of a step: what is lent is lent to one thread."""
    made, found = decoder(family), []
    lent = DeltaNet.of(made.language_model)
    assert lent is not None
    own = prefilled(family)

    def elsewhere() -> None:
        found.append(made.stock_step(3, 0, made.stock_cache()))

    alone = made.stock_step(3, 0, made.stock_cache())
    with lent.for_text():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert torch.equal(found[0], alone)
    assert step(family, DraftTree((3, 4), (-1, 0)), own).shape[0] == 2


@every_family
def test_a_layer_that_goes_its_own_way_is_noticed(family, monkeypatch):
    """As with kernels in the place of a whole layer: it would read a tree as a text."""
    made = tiny.family(tiny.model(family)).decoder
    layer = next(layer for layer in made.language_model.layers if hasattr(layer, "linear_attn"))
    monkeypatch.setattr(type(layer.linear_attn), "forward", lambda self, hidden_states, **named: hidden_states)
    with pytest.raises(ModelError, match=r"tiny: .* other tokens than those"):
        made.step(torch.tensor([1]), torch.tensor([[0]]), None, made.new_cache(4))


@every_family
def test_it_says_so_that_its_rounds_are_the_hosts(family):
    assert HFDeviceDecoder.why_not(decoder(family)) == "some of its layers fold what they read into a state"
