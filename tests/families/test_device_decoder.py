"""Steps of stock models at places which only the device knows; and that nobody asks the host in a round of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import tiny
from engine.rounds.host_reads import HostReadError, NoHostReads
from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.caches.stacked_cache import StackedCache
from specvlm.engine.rounds import round as rounds
from specvlm.engine.rounds.growing import Tree
from specvlm.engine.rounds.picking import Dice, Picking
from specvlm.engine.rounds.round import DeviceRound, Side
from specvlm.engine.rounds.selection import selection
from specvlm.engine.rounds.state import State
from specvlm.engine.tree import PAPER_TREE, DynamicTree, TreeShape, ancestor_mask
from specvlm.errors import ModelError
from specvlm.families.decoder import HFDecoder
from specvlm.families.device_decoder import HFDeviceDecoder
from tiny.sizes import Sizes

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HELD, ROOM = 20, 300
PARENTS = (-1, 0, 0, 1, 1, 4)


def decoder_of(model: PreTrainedModel) -> HFDeviceDecoder:
    return HFDeviceDecoder(tiny.family(model).decoder)


def held(decoder: HFDeviceDecoder, seed: int = 0) -> StackedCache:
    """Of a text that nobody has read, of HELD tokens."""
    cache = StackedCache(decoder.buffers(0), ROOM)
    cache.rows[:, :, :, :HELD].normal_(generator=torch.Generator().manual_seed(seed))
    cache.hold(HELD)
    return cache


def cache_of(decoder: HFDeviceDecoder, seed: int = 0) -> IndexedCache:
    return IndexedCache(held(decoder, seed).rows)


# --- the numbers ----------------------------------------------------------------------------------------------------


def step_at(decoder: HFDeviceDecoder, length: int = HELD, tail: Tensor | None = None, shift: int = 0) -> Tensor:
    """Logits of a tree of PARENTS, behind what is held; the bound lies behind places that were never written."""
    cache, nodes = cache_of(decoder), len(PARENTS)
    cache.slots, cache.bound = length + torch.arange(nodes), HELD + 2 * nodes
    depths = torch.tensor([0, 1, 1, 2, 2, 3])
    mask = ancestor_mask(PARENTS) if tail is None else tail
    return decoder.step_at(torch.arange(7, 7 + nodes), 40 + shift + depths, torch.tensor([length]), mask, cache)


def step(decoder: HFDecoder, device: HFDeviceDecoder) -> Tensor:
    """The same by the host."""
    mask = torch.cat([torch.ones(len(PARENTS), HELD, dtype=torch.bool), ancestor_mask(PARENTS)], dim=1)
    positions = 40 + torch.tensor([[0, 1, 1, 2, 2, 3]])
    return decoder.step(torch.arange(7, 7 + len(PARENTS)), positions, mask, held(device))


@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_a_step_is_the_hosts(family):
    """In float64, and with whatever is changed on purpose it isn't."""
    device = decoder_of(tiny.model(family, dtype=torch.float64))
    right, lost = step(device.decoder, device), ancestor_mask(PARENTS).clone()
    torch.testing.assert_close(step_at(device), right, rtol=1e-9, atol=1e-9)
    lost[5, 4] = False
    for other in (step_at(device, HELD - 1), step_at(device, tail=lost)):
        assert float((other - right).abs().max()) > 1e-3
    if family == "llava_onevision":  # what is held stands nowhere: turned together, a text says what it said
        assert float((step_at(device, shift=1) - right).abs().max()) > 1e-3


def test_a_window_that_is_too_short_is_refused_as_on_the_host():
    target, draft = tiny.model("llava_onevision"), tiny.model("llava_onevision", 1)
    config: Any = draft.model.language_model.config
    config.layer_types, config.sliding_window = ["sliding_attention"] * 3, 16
    vlm = tiny.pair(target, draft)
    for where in ("host", "device"):
        with pytest.raises(ModelError, match="sliding window of 16 positions"):
            vlm.generate(tiny.video(4), "what?", rounds=where, max_new_tokens=4)


# --- nobody asks ----------------------------------------------------------------------------------------------------


def device_round(
    target: HFDeviceDecoder, draft: HFDeviceDecoder, shape: TreeShape, device: torch.device, picking: Picking | None
) -> DeviceRound:
    choice, state = selection(shape, 320, device), State.on(device, 2)
    assert choice is not None
    for number in (state.target_length, state.draft_length):
        number.fill_(HELD)
    for number in (state.target_offset, state.draft_offset, state.num_waiting):
        number.fill_(1)
    state.waiting.fill_(9)
    sides = [Side(each, IndexedCache(StackedCache(each.buffers(0), ROOM).rows)) for each in (target, draft)]
    return DeviceRound(*sides, choice, state, 320, picking)


def picking(device: torch.device, dice: Dice | None = None) -> Picking:
    history, said = (torch.zeros(size, dtype=torch.long, device=device) for size in (60, 1))
    made = [RepetitionPenaltyLogitsProcessor(1.1), TemperatureLogitsWarper(0.7), TopKLogitsWarper(5)]
    return Picking(history, said, LogitsProcessorList([*made, TopPLogitsWarper(0.9), MinPLogitsWarper(0.1)]), dice)


def drawing(device: torch.device) -> Picking:
    return picking(device, Dice(torch.Generator()))


def play(made: DeviceRound) -> list[Tensor]:
    """A round, and all that it leaves behind."""
    tree = made.grow()
    report = made.settle(tree)
    return [report, tree.tokens, tree.mask, tree.fed, *vars(made.state).values(), made.target.cache.rows]


SHAPES = [DynamicTree(4, 2, 6), PAPER_TREE]
PICKS: list[Callable[[torch.device], Picking | None]] = [lambda device: None, picking, drawing]


@pytest.mark.parametrize("pick", PICKS, ids=["greedy", "processed", "sampled"])
@pytest.mark.parametrize("shape", SHAPES, ids=["dynamic", "paper"])
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_a_whole_round_asks_nothing_of_the_host(family, shape, pick):
    decoder = decoder_of(tiny.model(family))
    made = device_round(decoder, decoder, shape, CPU, pick(CPU))
    with NoHostReads():
        play(made)


def asks_once(monkeypatch: pytest.MonkeyPatch, ask: Callable[[Tree], Any]) -> None:
    grow = rounds.grow

    def asking(*given: Any) -> Tree:
        tree = grow(*given)
        ask(tree)
        return tree

    monkeypatch.setattr(rounds, "grow", asking)


ASKING: dict[str, Callable[[Tree], Any]] = {
    "item": lambda tree: tree.tokens.sum().item(),
    "bool": lambda tree: bool(tree.mask.all()),
    "mask": lambda tree: tree.tokens[tree.tokens > 3],
    "nonzero": lambda tree: tree.mask.nonzero(),
}


@pytest.mark.parametrize("ask", ASKING)
def test_one_that_asked_would_be_found(monkeypatch, ask):
    decoder = decoder_of(tiny.model("llava_onevision"))
    made = device_round(decoder, decoder, SHAPES[0], CPU, None)
    asks_once(monkeypatch, ASKING[ask])
    with NoHostReads(), pytest.raises(HostReadError):
        play(made)


def test_experts_that_are_looked_up_by_the_host_keep_a_model_there():
    """As transformers does it where it has no kernel: which experts are wanted, it asks."""
    model = tiny.model("qwen3_vl_moe")
    model.set_experts_implementation("eager")
    decoder = tiny.family(model).decoder
    reason = "which experts its tokens want is asked by the host (eager)"
    assert HFDeviceDecoder.why_not(decoder) == reason
    positions, mask = torch.tensor([[5]]), None
    with NoHostReads(), pytest.raises(HostReadError):
        decoder.step(torch.tensor([7]), positions, mask, decoder.new_cache(9))


# --- nor would it on a GPU ------------------------------------------------------------------------------------------


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeTensorMode:
    """Tensors that have a device, a shape and no numbers: no GPU is needed, and no numbers can be asked for."""
    # For its experts transformers asks how new the GPU is.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    return FakeTensorMode()


def on_gpu(family: str) -> HFDeviceDecoder:
    """Of a tiny model whose weights are bfloat16 fakes on a GPU. To be called among fakes."""
    with unset_fake_temporarily():  # their initialisation looks at numbers
        model: Any = tiny.BUILDERS[family].model(Sizes()).eval()
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=torch.bfloat16, device=CUDA)
                module._parameters[name] = nn.Parameter(fake, requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=CUDA)
    return decoder_of(model)


@pytest.mark.part(2)
@pytest.mark.parametrize("pick", PICKS[:2], ids=["greedy", "processed"])  # fakes draw from no generator
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_a_whole_round_stays_on_the_gpu(on_cuda, family, pick):
    with on_cuda:
        decoder = on_gpu(family)
        assert decoder.decoder.device.type == "cuda"
        for shape in SHAPES:
            made = device_round(decoder, decoder, shape, CUDA, pick(CUDA))
            with NoHostReads():
                left = play(made)
            assert {each.device.type for each in left} == {"cuda"}


@pytest.mark.parametrize("ask", ["item", "bool"])
def test_one_that_asked_would_have_no_answer(on_cuda, monkeypatch, ask):
    asks_once(monkeypatch, ASKING[ask])
    with on_cuda:
        decoder = on_gpu("llava_onevision")
        made = device_round(decoder, decoder, SHAPES[0], CUDA, None)
        with pytest.raises(DataDependentOutputException):
            play(made)


def test_a_tensor_that_is_carried_over_would_be_found(on_cuda, monkeypatch):
    asks_once(monkeypatch, lambda tree: tree.tokens.cpu())
    with on_cuda:
        decoder = on_gpu("llava_onevision")
        made = device_round(decoder, decoder, SHAPES[0], CUDA, None)
        with NoHostReads(), pytest.raises(HostReadError, match="from one device to another"):
            play(made)
