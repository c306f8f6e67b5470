"""Code that stock `generate` would not run may throw torch's global dice: sampled answers don't notice."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, final

import pytest
import torch
from torch import nn

import tiny
from integrations.calls import draft, same, target
from specvlm import DynamicTree, Options
from specvlm.answering.dice import AsideDrafter, aside
from specvlm.answering.placing import place
from specvlm.engine.drafting import NoDrafter
from specvlm.engine.tree import TreeShape
from specvlm.engine.verification import Verdict
from specvlm.pruning import Pruner, PruningContext


@final
@dataclass(frozen=True)
class Lottery(Pruner):
    """Keeps whatever torch's global dice say."""

    name = "lottery"

    def select(self, context: PruningContext):
        return torch.randperm(context.num_tokens)[: context.num_keep].sort().values


@final
@dataclass(frozen=True)
class Whim(TreeShape):
    """As deep as torch's global dice say."""

    @property
    def max_nodes(self) -> int:
        return 5

    def cut(self, max_depth: int) -> TreeShape:
        return self

    def sprout(self, root: int, max_depth: int):
        deep = 1 + int(torch.randint(3, ()))
        return DynamicTree(depth=deep, width=1, num_nodes=deep).sprout(root, max_depth)


class Noise(nn.Module):
    """A stranger's dropout, which never asks whether it is in training."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, hidden):
        return nn.functional.dropout(self.inner(hidden), 0.1, training=True)


@contextmanager
def hooked() -> Iterator[Any]:
    """The draft, one of whose layers adds noise."""
    layer: Any = draft().model.language_model.layers[0].mlp
    handle = layer.register_forward_hook(lambda module, args, output: output + 1e-3 * torch.randn_like(output))
    try:
        yield draft()
    finally:
        handle.remove()


@contextmanager
def rebuilt() -> Iterator[Any]:
    """A copy of the draft that has a layer of a stranger's."""
    model: Any = copy.deepcopy(draft())
    layer = model.model.language_model.layers[1]
    layer.mlp = Noise(layer.mlp)
    yield model.eval()


STRANGERS = {
    "a pruner": lambda: nullcontext({"pruner": Lottery()}),
    "a tree": lambda: nullcontext({"tree": Whim()}),
    "a hook": hooked,
    "a layer": rebuilt,
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("sampling", [{}, {"do_sample": True, "temperature": 0.6}], ids=["greedy", "sampled"])
def test_dice_lie_as_stock_leaves_them_whoever_throws_them_meanwhile(stranger, sampling):
    """`same` compares the tokens, and the state of the generator after them."""
    with STRANGERS[stranger]() as given:
        ours = given if isinstance(given, dict) else {"draft_model": given}
        _, stats = same(ours={"plan": None if "tree" in ours else "auto"} | ours, max_new_tokens=16, **sampling)
        assert stats.num_drafted > 0


def test_a_stranger_s_draft_keeps_rounds_on_the_host():
    pair, options = tiny.pair(target(), draft()).pair, Options(rounds="device")
    assert place(pair, options).stage is not None
    with hooked():
        assert place(pair, options).reason == "tiny draft: somebody else's code runs in it"


def test_where_there_is_no_stranger_the_dice_are_left_to_other_threads():
    pair = tiny.pair(target(), draft()).pair
    assert aside(pair, Options(pruner="random").make_pruner(), DynamicTree()) is nullcontext
    assert aside(pair, Lottery()) is not nullcontext
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert aside(pair) is not nullcontext
    finally:
        handle.remove()


def test_a_drafter_with_its_dice_put_aside_is_the_same_drafter():
    entered = []

    @contextmanager
    def note() -> Iterator[None]:
        entered.append(None)
        yield

    drafter = AsideDrafter(NoDrafter(), note)
    assert (drafter.max_nodes, drafter.num_forwards) == (1, 0)
    assert drafter.propose(7, 3).tokens == (7,)
    drafter.accept(Verdict((0,), 5))
    assert len(entered) == 2
