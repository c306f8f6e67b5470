"""Where a pair goes: told from what it weighs and what is free, as data; no GPU is here, and none is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from specvlm.errors import ModelError
from specvlm.families.room.memory import Gpu, Memory
from specvlm.families.room.placement import WORKING, Placement, in_memory, place, require_room, single
from specvlm.families.room.weighing import Weight

GIB = 2**30
TARGET = Weight("big", torch.bfloat16, 60 * GIB, 2**18)
DRAFT = Weight("small", torch.bfloat16, 15 * GIB, 2**16)


def machine(*free: float, ram: int = 512) -> Memory:
    """With so many GiB free on each of its GPUs."""
    return Memory(ram * GIB, tuple(Gpu(number, "H100", int(each * GIB)) for number, each in enumerate(free)))


def test_without_a_gpu_it_is_the_cpu_and_said_so():
    assert place(machine(), TARGET, DRAFT) == Placement(None, None, "the CPU: torch finds no GPU here")


def test_one_gpu_that_fits_both_has_both():
    found = place(machine(79), TARGET, DRAFT, context=1000)
    assert (found.target, found.draft, found.max_memory) == ("cuda:0", "cuda:0", None)
    assert found.reason == "cuda:0 (H100): both models and 1000 tokens take 75.3 GiB of 79.0 GiB"


def test_it_is_the_first_that_does_whoever_has_the_others():
    assert place(machine(20, 79, 140), TARGET, DRAFT).target == "cuda:1"


def test_the_caches_count_and_what_forwards_take():
    just = (TARGET.with_cache(1000) + DRAFT.with_cache(1000) + WORKING) / GIB
    assert place(machine(just), TARGET, DRAFT, 1000).target == "cuda:0"
    assert place(machine(just - 0.001), TARGET, DRAFT, 1000).target == "cpu"
    assert place(machine(just), TARGET, DRAFT, 1100).target == "cpu"


def test_two_towers_are_there_while_both_are_loaded():
    tower = (((1, 1), torch.bfloat16),)
    alike = [replace(each, tower=tower, tower_weights=GIB) for each in (TARGET, DRAFT)]
    assert place(machine(77), *alike) == place(machine(77), TARGET, DRAFT)


def test_several_that_fit_it_together_share_the_target_and_one_has_the_draft():
    found = place(machine(40, 46, 40), TARGET, DRAFT)
    assert (found.target, found.draft) == ("auto", "cuda:1")
    assert "the target is spread over 3 GPUs by device_map, the draft is on cuda:1" in found.reason
    assert found.max_memory is not None
    assert found.max_memory.keys() == {0, 1, 2}
    assert sum(found.max_memory.values()) >= TARGET.weights
    assert found.max_memory[1] + DRAFT.with_cache(8192) + WORKING <= 46 * GIB
    assert all(room <= free * GIB - WORKING for room, free in zip(found.max_memory.values(), (40, 46, 40), strict=True))


def test_a_gpu_that_others_have_filled_takes_no_part():
    found = place(machine(40, 1, 60), TARGET, DRAFT)
    assert found.max_memory is not None
    assert found.max_memory.keys() == {0, 2}


def test_layers_are_not_cut():
    """So a few per cent are left over on each."""
    need = TARGET.with_cache(1000) / GIB
    halves = [0.5 * need + WORKING / GIB] * 2
    assert place(machine(*halves), TARGET, None, 1000).target == "cpu"
    assert place(machine(*(1.06 * each for each in halves)), TARGET, None, 1000).target == "auto"


def test_what_cannot_be_weighed_goes_to_the_first():
    assert (
        place(machine(79), None, None).reason == "cuda:0 (H100): what is loaded can't be weighed, and 79.0 GiB are free"
    )


def test_a_target_alone_is_spread_alone():
    found = place(machine(40, 40), TARGET, None)
    assert (found.target, found.draft) == ("auto", None)
    assert "draft" not in found.reason
    assert place(machine(79), None, DRAFT).draft == "cuda:0"


@pytest.mark.parametrize("free", [(24,), (24, 24), (10, 10, 10, 10)])
def test_where_nothing_fits_it_is_the_cpu_by_name(free):
    """By name, since some quantisations would go to a GPU by themselves."""
    found = place(machine(*free), TARGET, DRAFT)
    assert (found.target, found.draft) == ("cpu", "cpu")
    assert f"of {len(free)} GPU" in found.reason
    assert f"none has more than {free[0]:.1f} GiB free" in found.reason


def refusal(memory: Memory, *models: tuple[Weight, object], context: int = 0) -> str:
    with pytest.raises(ModelError) as caught:
        require_room(memory, models, context)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_fit_is_refused_with_advice():
    message = refusal(machine(ram=22), (TARGET, None), (DRAFT, None))
    for words in (
        "big (60.0 GiB in bfloat16) and small (15.0 GiB in bfloat16) need 75.0 GiB of memory at least, and 22.0 GiB of",
        "quantised weights",
        "or smaller models",
    ):
        assert words in message
    assert "dtype='bfloat16'" not in message
    assert "frames" not in message
    wide = replace(TARGET, dtype=torch.float32)
    assert "what would help is dtype='bfloat16', quantised" in refusal(machine(ram=22), (wide, "cpu"))
    assert "fewer frames" in refusal(machine(ram=62), (TARGET, None), context=20_000)
    packed = replace(TARGET, quantised=True)
    assert refusal(machine(24), (packed, "cuda:0")).endswith(
        "big (60.0 GiB in bfloat16, quantised) needs 60.0 GiB of memory at least, and 24.0 GiB on cuda:0 are free: "
        "what would help is smaller models"
    )
    assert "device_map='auto' over 2 GPUs" in refusal(machine(24, 70), (TARGET, "cuda:0"))


def test_weights_that_are_mapped_need_no_memory_of_whoever_asks_for_the_cpu():
    """They may be read from their file for each token: that is slow, and can be wanted."""
    mapped = replace(TARGET, mapped=True)
    assert "device='cpu' (--device cpu) by name, which reads what" in refusal(machine(ram=22), (mapped, None))
    assert "by name" not in refusal(machine(ram=22), (TARGET, None))
    assert "by name" not in refusal(machine(22), (mapped, "cuda:0"))
    require_room(machine(ram=22), [(in_memory(mapped, "cpu"), "cpu")])
    assert "small" in refusal(machine(ram=10), (in_memory(mapped, "cpu"), "cpu"), (in_memory(DRAFT, "cpu"), "cpu"))
    assert in_memory(mapped, "cuda:0") == mapped
    assert "fewer frames" in refusal(machine(ram=1), (in_memory(mapped, "cpu"), "cpu"), context=10_000)


def test_each_device_is_looked_at_by_itself():
    require_room(machine(61, 16, ram=1), [(TARGET, "cuda:0"), (DRAFT, "cuda:1")])
    assert "small (15.0 GiB" in refusal(machine(61, 14), (TARGET, {"": 0}), (DRAFT, {"": "cuda:1"}))


def test_a_tower_that_may_be_shared_is_not_held_against_them():
    tower = (((1, 1), torch.bfloat16),)
    alike = [(replace(each, tower=tower, tower_weights=GIB), None) for each in (TARGET, DRAFT)]
    require_room(machine(ram=74), alike)
    refusal(machine(ram=73), *alike)


@pytest.mark.parametrize("where", ["auto", "balanced", {"model": 0, "lm_head": "cpu"}, "meta", "mps", "disk"])
def test_what_merely_might_not_fit_is_let_pass(where):
    require_room(machine(1, ram=1), [(TARGET, where)])


@pytest.mark.parametrize(
    ("where", "device"),
    [
        (None, "cpu"),
        ("cuda", "cuda:0"),
        ({"": 1}, "cuda:1"),
        ({"": "cpu"}, "cpu"),
        ("auto", None),
        ({"a": 0, "b": 1}, None),
    ],
)
def test_a_device_map_of_one_device_is_that_device(where, device):
    found = single(where)
    assert (None if found is None else str(found)) == device
