"""RecurrentCache against a fold over a list: wherever an answer goes on from, its states are those of a fresh one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from specvlm.engine.caches.recurrent_cache import Growing, Marking, PromptView, RecurrentCache, TreeView
from specvlm.engine.tree import ancestor_mask

TYPES = ("linear_attention", "full_attention", "linear_attention")
WIDTH = 3
CPU = torch.device("cpu")


def advance(inputs: tuple[Tensor, ...], states: Tensor | None) -> tuple[Tensor, Tensor]:
    """Not commutative, as a recurrence is: the order of all that was read shows."""
    query, key = inputs
    states = torch.zeros(len(key), 1, dtype=torch.float64) if states is None else states
    outputs = []
    for token in range(key.shape[1]):
        states = torch.sin(3 * states + key[:, token])
        outputs.append(states * query[:, token])
    return torch.stack(outputs, dim=1), states


def layer_of(view: Any, index: int, new: Tensor) -> Tensor:
    """As a stock layer goes about it: `new` [tokens] to its outputs, in which the convolution and the state show."""
    view.get_conv_state(index)
    columns = view.update_conv_state(new[None, None], index, conv_kernel_size=WIDTH)
    handed = view.get_recurrent_state(index)
    if isinstance(handed, Growing):
        mixed = columns.sum(-1).T[..., None]
        return (handed.grow(advance, (torch.ones_like(mixed), mixed)))[0, :, 0]
    whole = torch.cat([torch.zeros(1, 1, WIDTH, dtype=torch.float64), columns], dim=-1)
    starts = range(whole.shape[-1] - len(new) - WIDTH, whole.shape[-1] - WIDTH)
    mixed = torch.stack([whole[0, 0, start : start + WIDTH + 1].sum() for start in starts])[None, :, None]
    memory = handed
    if isinstance(handed, Marking):
        memory = handed.memory
        handed.mark(advance((mixed[:, : handed.offset],) * 2, memory)[1])
    outputs, memory = advance((torch.ones_like(mixed), mixed), memory)
    view.update_recurrent_state(memory, index)
    return outputs[0, :, 0]


def forward(view: Any, new: Tensor, stop_before: int = len(TYPES)) -> Tensor:
    """All layers; what the last one makes of each token. Interrupted before a layer, if that is asked for."""
    for index, kind in enumerate(TYPES):
        if index == stop_before:
            raise KeyboardInterrupt
        if kind == "full_attention":
            view.update(new[None, None, :, None], new[None, None, :, None], index)
        else:
            outputs = layer_of(view, index, new)
    return outputs


def read(cache: RecurrentCache, tokens: list[int]) -> Tensor:
    with cache.read_prompt(len(tokens)) as view:
        return forward(view, numbers(tokens))


def grow(cache: RecurrentCache, tokens: list[int], parents: tuple[int, ...]) -> Tensor:
    with cache.read_text(len(tokens), ancestor_mask(parents), CPU) as view:
        return forward(view, numbers(tokens))


def numbers(tokens: list[int]) -> Tensor:
    return torch.tensor(tokens, dtype=torch.float64) / 7


def fresh(tokens: list[int]) -> Tensor:
    """What the last of some tokens is told, when they are read one by one and nothing else ever was."""
    cache = RecurrentCache(TYPES, 1)
    for token in tokens:
        said = grow(cache, [token], (-1,))
    return said[-1]


def close(one: Tensor, two: Tensor) -> bool:
    return bool(torch.allclose(one, two, rtol=0, atol=1e-12))


@st.composite
def rounds(draw: st.DrawFn) -> list[tuple[tuple[int, ...], int, int]]:
    """Trees, which node each is accepted up to, and into how many forwards it is cut."""
    made = []
    for _ in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 9))
        parents = (-1, *(draw(st.integers(0, node - 1)) for node in range(1, count)))
        made.append((parents, draw(st.integers(-1, count - 1)), draw(st.integers(0, count - 1))))
    return made


@settings(max_examples=25)
@given(rounds(), st.integers(1, 9))
def test_wherever_it_goes_on_from_it_is_as_if_nothing_else_had_been_read(rounds, num_prompt):
    cache, said = RecurrentCache(TYPES, 4), list(range(num_prompt))
    outputs = [read(cache, said)[-1]]
    assert close(outputs[0], fresh(said))
    for parents, node, cut in rounds:
        tokens = [10 * len(said) + index for index in range(len(parents))]
        mask = ancestor_mask(parents)
        found = [grow(cache, tokens[:cut], parents[:cut])] if cut else []
        with cache.read_text(len(tokens) - cut, mask[cut:], CPU) as view:
            found.append(forward(view, numbers(tokens[cut:])))
        path = []
        for index, output in enumerate(torch.cat(found)):
            branch = branch_of(parents, index)
            assert close(output, fresh(said + [tokens[each] for each in branch]))
            path = branch if index == node else path
        cache.keep(path, len(parents))
        said += [tokens[each] for each in path]
        assert (cache.length, cache.base) == (len(said), len(said))
        assert cache.layers[1].keys[0, 0, : len(said), 0].tolist() == numbers(said).tolist()
    assert close(grow(cache, [5], (-1,))[0], fresh([*said, 5]))


def branch_of(parents: tuple[int, ...], node: int) -> list[int]:
    return [] if node < 0 else [*branch_of(parents, parents[node]), node]


@settings(max_examples=25)
@given(st.integers(0, 8), st.integers(1, 6))
def test_it_goes_back_within_a_tree_or_to_the_mark_or_to_the_beginning(length, mark):
    cache = RecurrentCache(TYPES, 4)
    cache.mark(mark)
    read(cache, [1, 2, 3, 4, 5, 6])
    grow(cache, [7, 8, 9], (-1, 0, 1))
    cache.truncate(length)
    assert cache.length == (length if length >= 6 else mark if length >= mark else 0)
    left = list(range(1, 1 + cache.length))
    assert close(grow(cache, [9], (-1,))[0], fresh([*left, 9]))


def test_a_mark_that_was_gone_behind_is_forgotten():
    cache = RecurrentCache(TYPES, 4)
    cache.mark(3)
    read(cache, [1, 2, 3, 4, 5])
    cache.truncate(2)
    assert (cache.length, cache.marked) == (0, 0)
    read(cache, [7, 7])
    cache.truncate(1)
    assert cache.length == 0


@pytest.mark.parametrize("pieces", [[6], [1, 5], [3, 3], [4, 1, 1], [1] * 6])
def test_a_mark_is_made_whatever_pieces_the_prompt_comes_in(pieces):
    cache, tokens = RecurrentCache(TYPES, 4), [1, 2, 3, 4, 5, 6]
    cache.mark(4)
    start = 0
    for piece in pieces:
        said = read(cache, tokens[start : start + piece])[-1]
        start += piece
    assert close(said, fresh(tokens))
    assert cache.marked == 4
    cache.truncate(5)
    assert cache.length == 4
    assert close(grow(cache, [9], (-1,))[0], fresh([1, 2, 3, 4, 9]))


def test_it_begins_as_another_one_did_up_to_the_mark():
    other = RecurrentCache(TYPES, 4)
    other.mark(3)
    read(other, [1, 2, 3, 4, 5])
    for length, expected in ((2, 0), (3, 3), (5, 3)):
        cache = RecurrentCache(TYPES, 4)
        cache.extend(other, length)
        assert (cache.length, cache.base) == (expected, expected)
        assert close(grow(cache, [9], (-1,))[0], fresh([*[1, 2, 3][:expected], 9]))
    with pytest.raises(ValueError, match="begin as another one did"):
        other.extend(cache, 1)


@pytest.mark.parametrize("stop", range(len(TYPES)))
def test_interrupted_between_two_layers_it_is_as_it_was(stop):
    cache = RecurrentCache(TYPES, 4)
    read(cache, [1, 2])
    grow(cache, [3], (-1,))
    for reading in (cache.read_text(2, ancestor_mask((-1, 0)), CPU), cache.read_prompt(2)):
        with pytest.raises(KeyboardInterrupt), reading as view:
            forward(view, numbers([8, 9]), stop)
        assert cache.length == 3
    assert close(grow(cache, [4], (-1,))[0], fresh([1, 2, 3, 4]))


def test_a_path_that_is_no_branch_is_refused_and_nothing_is_changed():
    cache = RecurrentCache(TYPES, 4)
    read(cache, [1, 2])
    grow(cache, [3, 4, 5, 6], (-1, 0, 0, 1))
    for path in ((0, 2, 3), (1, 3), (0, 1, 2), (3,)):
        with pytest.raises(ValueError, match="no branch"):
            cache.keep(path, 4)
        assert (cache.length, cache.base) == (6, 2)
    with pytest.raises(ValueError, match="were folded"):
        cache.keep((), 5)
    with pytest.raises(ValueError, match="no branch"), cache.read_prompt(1):
        pass
    cache.keep((0, 1, 3), 4)
    assert close(grow(cache, [7], (-1,))[0], fresh([1, 2, 3, 4, 6, 7]))


def test_layers_that_were_passed_by_are_noticed():
    cache = RecurrentCache(TYPES, 4)
    with pytest.raises(ValueError, match="other tokens"), cache.read_text(1, None, CPU) as view:
        layer_of(view, 0, numbers([1]))
    assert cache.length == 0
    with pytest.raises(ValueError, match="not for its convolution"), cache.read_text(1, None, CPU) as view:
        view.get_recurrent_state(0).grow(advance, (torch.ones(1, 1, 1),) * 2)


def test_what_is_held_of_a_tree_is_its_inputs_and_the_states_of_its_last_level():
    cache = RecurrentCache(TYPES, 4)
    read(cache, [1, 2])
    kept = cache.state_bytes
    assert kept == 2 * 8 * (WIDTH + 1)
    grow(cache, [3, 4, 5, 6, 7], (-1, 0, 0, 0, 1))
    assert cache.state_bytes == kept + 2 * 8 * (5 * 2 + 1)  # a column and a key for each node, and one state
    cache.keep((0, 1, 4), 5)
    assert cache.state_bytes == kept
    grow(cache, [8, 9], (-1, -1))
    cache.keep((1,), 2)
    assert cache.state_bytes == kept
    assert all(layer.state.memory.untyped_storage().nbytes() == 8 for layer in cache._recurrent)
    assert cache.nbytes == kept + 2 * cache.layers[1].keys.nbytes


def test_transformers_finds_its_way():
    cache = RecurrentCache(TYPES, 4)
    read(cache, [1, 2])
    assert cache.get_seq_length() == 2
    assert cache.is_linear == [True, False, True]
    assert cache.capacity >= 2
    with pytest.raises(ValueError, match="layer 1 has no state"):
        cache.get_recurrent_state(1)
    with pytest.raises(ValueError, match="keeps no positions"):
        RecurrentCache(["linear_attention"], 4)
    with cache.read_text(1, None, CPU) as view:
        assert isinstance(view, TreeView)
        assert view.length == 2
        forward(view, numbers([3]))
        assert view.length == 3
    cache.mark(4)
    with cache.read_prompt(2) as view:
        assert isinstance(view, PromptView)
        forward(view, numbers([3, 4]))
    cache.reset()
    assert (cache.length, cache.base, cache.state_bytes) == (0, 0, 0)
