"""The bytes that a forward has to read are those that stock models do read; the bounds follow from them by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import nn

import tiny
from bench.small import SAME_HEADS, TIED, small
from specvlm.bench import roofline
from specvlm.bench.roofline import (
    PUBLISHED,
    Answer,
    Demand,
    Machine,
    Work,
    bounds,
    limit_seconds,
    matmul_flops,
    measure,
    phases,
    plain_seconds,
    predicted_speedup,
    read_bandwidth,
    seconds_by_clock,
    seconds_by_events,
    seconds_on,
)
from specvlm.bench.widened.shapes import ON_PAPER, PAIRS, SHAPES
from specvlm.bench.widened.widening import widen
from specvlm.engine.decoder import Embeds

BF16 = torch.bfloat16
MACHINE = Machine("made up", 10e9, 1e12)
DEMAND = Demand(weight_bytes=1000, kv_bytes=10, token_flops=500, head_flops=100, pair_flops=8)
DRAFT = Demand(weight_bytes=100, kv_bytes=2, token_flops=50, head_flops=20, pair_flops=4)
SLOW = Machine("slow memory", bandwidth=1.0, flops=1e9)


@torch.no_grad()
def weights_read(model: nn.Module) -> int:
    """Bytes of all weights of the modules that a forward over one token calls, the embedding table left out."""
    read: dict[int, int] = {}
    text = model.model.language_model

    def note(module: nn.Module, *_: object) -> None:
        for weight in module.parameters(recurse=False):
            read[weight.data_ptr()] = weight.nbytes

    called = [module for module in (*text.modules(), model.lm_head) if not isinstance(module, nn.Embedding)]
    hooks = [module.register_forward_pre_hook(note) for module in called]
    model.lm_head(text(input_ids=torch.tensor([[5]])).last_hidden_state)
    for hook in hooks:
        hook.remove()
    return sum(read.values())


@pytest.mark.parametrize("family", tiny.BUILDERS)
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_weights_are_those_that_a_stock_forward_reads(family, dtype):
    model = tiny.model(family, dtype=dtype)
    experts = [weight for name, weight in model.named_parameters() if ".experts." in name]
    idle = sum(weight.nbytes for weight in experts) // 2  # two of four are chosen
    assert bool(experts) == (family == "qwen3_vl_moe")
    assert Demand.of_model(model).weight_bytes == weights_read(model) - idle


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_keys_and_values_are_those_in_the_cache(family):
    model = tiny.model(family, dtype=BF16)
    decoder = tiny.family(model).decoder
    cache = decoder.new_cache(12)
    rows = 1 if family == "llava_onevision" else 3
    decoder.prefill(Embeds(decoder.embed(torch.arange(12))), torch.arange(12).expand(rows, -1), cache)
    assert 12 * Demand.of_model(model).kv_bytes == cache.nbytes


@pytest.mark.parametrize(("name", "shape"), [("llava_onevision", SAME_HEADS), ("qwen2_5_vl, tied", TIED)])
def test_a_shape_demands_what_a_model_of_it_does(name, shape):
    assert Demand.of_model(widen(small(name), shape)) == Demand.of_shape(shape, BF16)


def test_one_forward_by_hand():
    assert DEMAND.forward(1, 0) == Work(1000, 500 + 100 + 8)
    assert DEMAND.forward(1, 7) == Work(1000 + 70, 500 + 100 + 8 * 8)
    assert DEMAND.forward(3, 7) == Work(1000 + 70, 3 * 600 + 8 * (8 + 9 + 10))
    assert DEMAND.prefill(5) == Work(1000, 5 * 500 + 100 + 8 * 15)


@pytest.mark.parametrize(("prompt_len", "num_tokens"), [(1, 2), (6, 4), (3000, 128)])
def test_plain_decoding_is_the_sum_of_its_forwards(prompt_len, num_tokens):
    each = [DEMAND.forward(1, prompt_len + i) for i in range(num_tokens - 1)]
    whole = DEMAND.decode(prompt_len, num_tokens, num_tokens - 1)
    assert whole.bytes == sum(work.bytes for work in each)
    assert whole.flops == sum(work.flops for work in each)


def test_speculation_is_the_sum_of_its_rounds():
    # 1 + 5 rounds of 4 tokens
    each = [DEMAND.forward(9, 50 + 4 * i) for i in range(5)]
    whole = DEMAND.decode(50, 21, 5, rows=9)
    assert whole.bytes == pytest.approx(sum(work.bytes for work in each))
    assert whole.flops == pytest.approx(sum(work.flops for work in each))


def test_an_answer_of_one_token_decodes_nothing():
    assert DEMAND.decode(50, 1, 0) == Work()


def test_a_machine_waits_for_what_takes_longer():
    assert MACHINE.seconds(Work(10e9, 0.5e12)) == 1.0
    assert MACHINE.seconds(Work(5e9, 2e12)) == 2.0
    assert MACHINE.seconds(Work(1, 2) + Work(3, 4) * 2) == MACHINE.seconds(Work(7, 10))


def test_with_a_free_draft_the_limit_is_the_acceptance_but_for_the_cache():
    assert limit_seconds(DEMAND, SLOW, 100, 41, 1) == plain_seconds(DEMAND, SLOW, 100, 41)
    without_cache = replace(DEMAND, kv_bytes=0)
    plain = plain_seconds(without_cache, SLOW, 100, 41)
    assert plain / limit_seconds(without_cache, SLOW, 100, 41, 4) == pytest.approx(4)


def test_phases_are_those_of_the_answer():
    answer = Answer(
        num_prompt_tokens=100,
        num_draft_prompt_tokens=20,
        num_tokens=21,
        num_rounds=5,
        num_draft_forwards=15,
        num_nodes=9,
    )
    work = phases(DEMAND, DRAFT, answer)
    assert work["prefill_target"] == DEMAND.prefill(100)
    assert work["prefill_draft"] == DRAFT.prefill(20)
    assert work["verify"] == DEMAND.decode(100, 21, 5, 9)
    assert work["draft"].bytes == pytest.approx(15 * 100 + 2 * 15 * (20 + (20 - 20 / 15) / 2))
    assert bounds(SLOW, work) == {name: SLOW.seconds(each) for name, each in work.items()}
    assert phases(DEMAND, None, answer).keys() == {"prefill_target", "verify"}


def test_a_draft_costs_something_and_less_with_a_shorter_prompt():
    answer = Answer(3000, 300, 129, 32, 160, 26)
    target, draft = (Demand.of_shape(shape, BF16) for shape in PAIRS["llava-onevision-7b+0.5b"][:2])
    machine = PUBLISHED["L40S"]
    limit = plain_seconds(target, machine, 3000, 129) / limit_seconds(target, machine, 3000, 129, 4)
    speedups = [
        predicted_speedup(target, draft, machine, replace(answer, num_draft_prompt_tokens=length))
        for length in (3000, 300)
    ]
    assert 1 < speedups[0] < speedups[1] < limit < 4.01


def test_real_shapes_take_as_long_as_their_gigabytes():
    demand = Demand.of_shape(SHAPES["qwen2.5-vl-7b"], BF16)
    assert plain_seconds(demand, Machine("20 GB/s", 20e9, 1e15), 3000, 2) == pytest.approx(0.716, abs=0.01)
    for target, draft, _ in ON_PAPER.values():
        assert Demand.of_shape(target, BF16).weight_bytes > 4 * Demand.of_shape(draft, BF16).weight_bytes


def test_the_best_of_several_reads_counts(monkeypatch):
    clock = count(step=0.5)
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: float(next(clock)))
    assert read_bandwidth(8 << 20, repeats=2) == (8 << 20) / 0.5
    assert matmul_flops(64, repeats=2) == 2 * 64**3 / 0.5


def test_measuring_finds_a_machine():
    machine = measure("here", num_bytes=8 << 20, side=128, repeats=2)
    assert machine.name == "here"
    assert 1e7 < machine.bandwidth < 1e14
    assert 1e7 < machine.flops < 1e16


class Event:
    """A GPU's, on a machine without one: when each was recorded, and whether its time was waited for."""

    log: list[str]

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.at = -1
        self.reached = False

    def record(self) -> None:
        self.log.append("event")
        self.at = len(self.log)

    def synchronize(self) -> None:
        self.reached = True

    def elapsed_time(self, end: Event) -> float:
        assert end.reached, "torch refuses to tell of what hasn't happened"
        return 1000.0 * (end.at - self.at)  # milliseconds


def test_a_gpu_is_timed_by_its_own_clock(monkeypatch):
    monkeypatch.setattr(Event, "log", [], raising=False)
    assert seconds_by_events(lambda: Event.log.append("work"), Event) == 2.0
    assert Event.log == ["event", "work", "event"]
    assert seconds_on(torch.device("cuda:1")) is seconds_by_events
    assert seconds_on(torch.device("cpu")) is seconds_by_clock
