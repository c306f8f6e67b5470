"""lend_attention: a loan is for one thread and one block; no model notices, and stock forwards beside it are stock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache, partial

import pytest
import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import tiny
from specvlm.engine.attention import attention_forward, lend_attention

IMPLEMENTATIONS = ["sdpa", "eager"]
INPUT = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@lru_cache
def model(name: str, implementation: str):
    """Of LLaVA's language model masks may come in a dict; Qwen3-VL's makes its own."""
    made = tiny.model(name, dtype=torch.float64)
    made.set_attn_implementation(implementation)
    return made


every_model = pytest.mark.parametrize(
    ("name", "implementation"), [(name, each) for name in ("llava_onevision", "qwen3_vl") for each in IMPLEMENTATIONS]
)


def forward(stock) -> Tensor:
    with torch.no_grad():
        return stock.model.language_model(inputs_embeds=INPUT).last_hidden_state


def nothing_is_lent() -> bool:
    return "get_interface" not in vars(ALL_ATTENTION_FUNCTIONS)


class Counting:
    """Attention that does its work and counts."""

    def __init__(self) -> None:
        self.num_calls = 0

    def __call__(self, *args, **kwargs):
        self.num_calls += 1
        return attention_forward(*args, **kwargs)


def zeros(module, query, key, value, *args, **kwargs):
    """Attention that nobody could take for the model's own."""
    return torch.zeros_like(query).transpose(1, 2).contiguous(), None


@every_model
def test_inside_a_model_attends_with_what_was_lent_and_afterwards_with_its_own(name, implementation):
    stock, counting = model(name, implementation), Counting()
    before, right = tiny.fingerprint(stock), forward(stock)
    with lend_attention(counting):
        # Eager attention takes its softmax in float32, whatever the model computes in.
        assert torch.allclose(forward(stock), right, rtol=0, atol=1e-5 if implementation == "eager" else 1e-12)
        assert tiny.fingerprint(stock) == before  # not even meanwhile
    assert counting.num_calls == 3
    assert nothing_is_lent()
    assert torch.equal(forward(stock), right)
    assert counting.num_calls == 3
    assert tiny.fingerprint(stock) == before


def test_it_is_taken_back_after_an_error_too():
    stock = model("qwen3_vl", "sdpa")
    right = forward(stock)
    with pytest.raises(KeyboardInterrupt), lend_attention(zeros):
        raise KeyboardInterrupt
    assert nothing_is_lent()
    assert torch.equal(forward(stock), right)


def test_blocks_may_be_nested():
    stock, outer, inner = model("qwen3_vl", "sdpa"), Counting(), Counting()
    with lend_attention(outer):
        with lend_attention(inner):
            forward(stock)
        forward(stock)
        assert not nothing_is_lent()
    assert (outer.num_calls, inner.num_calls) == (3, 3)
    assert nothing_is_lent()


def in_a_thread(run: Callable[[], object]) -> None:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@contextmanager
def lent_elsewhere() -> Iterator[Callable[[], None]]:
    """Another thread lends until it is called off."""
    lent, off = threading.Event(), threading.Event()

    def lend() -> None:
        with lend_attention(zeros):
            lent.set()
            off.wait(60)

    thread = threading.Thread(target=lend)

    def call_off() -> None:
        off.set()
        thread.join()

    thread.start()
    lent.wait(60)
    try:
        yield call_off
    finally:
        call_off()


@every_model
def test_a_stock_forward_in_another_thread_is_stock_to_the_bit(name, implementation):
    stock = model(name, implementation)
    right = forward(stock)
    with lent_elsewhere():
        assert torch.equal(forward(stock), right)
    assert nothing_is_lent()


@every_model
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("begins", [False, True], ids=["ends", "begins"])
def test_also_when_the_loan_begins_or_ends_in_the_middle_of_it(name, implementation, layer, begins):
    """Masks made for one attention function and read by another: eager would attend to the future, and say nothing."""
    stock = model(name, implementation)
    right, changed = forward(stock), []
    with ExitStack() as stack:
        change = partial(stack.enter_context, lent_elsewhere()) if begins else stack.enter_context(lent_elsewhere())
        hook = stock.model.language_model.layers[layer].register_forward_pre_hook(lambda *_: changed.append(change()))
        stack.callback(hook.remove)
        assert torch.equal(forward(stock), right)
    assert len(changed) == 1
    assert nothing_is_lent()


def test_threads_that_overlap_have_each_their_own():
    """The first to come is the first to leave, while the second is still inside."""
    stock, mine, theirs = model("llava_onevision", "sdpa"), Counting(), Counting()
    with lent_elsewhere() as call_off, lend_attention(mine):
        call_off()
        in_a_thread(partial(forward, stock))
        forward(stock)
        assert mine.num_calls == 3
        with lend_attention(theirs):
            forward(stock)
    assert theirs.num_calls == 3
    assert nothing_is_lent()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_many_threads_lending_and_not_disturb_nobody(implementation):
    stock, nothing = model("qwen3_vl", implementation), nullcontext()
    right, wrong = forward(stock), []
    with lend_attention(attention_forward):
        ours = forward(stock)

    def come_and_go(lends: bool) -> None:
        for _ in range(40):
            with lend_attention(attention_forward) if lends else nothing:
                got = forward(stock)
            if not torch.equal(got, ours if lends else right):
                wrong.append(lends)

    threads = [threading.Thread(target=come_and_go, args=(number % 2 == 0,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert nothing_is_lent()
