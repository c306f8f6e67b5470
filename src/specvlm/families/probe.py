"""The probe: are a model's rows of a forward independent of each other, as a tree takes them to be?

They are in every model whose layers read one row at a time. They aren't where a layer looks at all rows at once: to
scale them together before it rounds them, to take the columns out in which any of them is large, to share experts of
limited capacity out. A guess would then change the numbers of the tokens beside it, and no error would say so. So some
rows are computed together and alone, once for each model, before any answer is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from specvlm.engine.decoder import Embeds
from specvlm.engine.tree import DraftTree
from specvlm.errors import ModelError, brief
from specvlm.families.base import Family
from specvlm.families.checks.model_objects import refuse_packed

PARENTS = (-1, 0, 0, 1, 2, 0)
"""Of the tree. The root and the last node are watched; the others are none of their business."""

COMPANIONS = ((8, 8, 8, 8), (15, 22, 29, 36))
"""Tokens of those others: once all are the watched one itself, as rows that compete for the same experts are."""

WATCHED = (1, 8)
"""Tokens of the root and the last node."""

MUCH = {torch.float64: 1e-2, torch.float32: 1e-2}
"""By how much logits may differ, of their own size, when they are computed otherwise: rows together or alone, by this
attention or that. Wide enough for TF32."""

MUCH_ROUNDED = 0.3
"""The same in bfloat16 and float16, over all layers of a deep model."""

LITTLE = 1e-4
"""And when nothing changes but the numbers in other rows: then the same kernels make the same sums, which are mostly
the same to the bit."""

LINEAR = 4e-3
"""How much one row of a linear layer may change when others do. Those that round all rows by one scale, or take
columns out, change by 8e-3 and more; all others by nothing."""

COARSE, ROUGH = 1.5e-2, 0.2
"""How far a layer may be from linear: those that compute in bfloat16 are by 5e-3, in float8 by 3e-2; what is further
off isn't meant to be linear."""

_FAILURES = (RuntimeError, AssertionError, AttributeError, TypeError, LookupError, ValueError)
"""What layers say of a shape, a mode or a cache that they can't do: quantised ones, or such as keep another memory."""

_FOUND_FIT: WeakKeyDictionary[PreTrainedModel, tuple[object, ...]] = WeakKeyDictionary()
"""Models that were probed, as they were then."""

_TRIED: WeakKeyDictionary[PreTrainedModel, tuple[object, ...]] = WeakKeyDictionary()
"""Drafts that were, which takes less."""


def require_fit(target: Family) -> None:
    """May forwards over trees tell what this target says? Takes a few small forwards, once for each model.

    Errors: ModelError that names what is in the way: an attention that isn't transformers' own, layers that let rows
    see each other, that round so coarsely that float32 is float32 in name alone, or that can't be run at all.
    """
    if _FOUND_FIT.get(target.model) == _signature(target) or target.decoder.embedding_is_meta:
        return  # where there are no weights nothing is answered
    refuse_packed(target.model, target.name)
    try:
        for name, layer in _odd_products(target):
            _look_at(target, name, layer)
        _look_at_trees(target)
        _look_at_a_frame(target)
    except ModelError:
        raise
    except _FAILURES as error:
        raise _not_run(target, error) from error
    _FOUND_FIT[target.model] = _signature(target)


def require_own_attention(draft: Family) -> None:
    """A draft may be of any kind, but for an attention that ours can't take the place of. Errors: ModelError."""
    signature = _signature(draft)
    if signature in (_FOUND_FIT.get(draft.model), _TRIED.get(draft.model)) or draft.decoder.embedding_is_meta:
        return
    refuse_packed(draft.model, draft.name)
    try:
        _tree(draft.decoder, COMPANIONS[0])
        _look_at_a_frame(draft)
    except ModelError:
        raise
    except _FAILURES as error:
        raise _not_run(draft, error) from error
    _TRIED[draft.model] = signature


def _signature(family: Family) -> tuple[object, ...]:
    """What changes when layers are exchanged, quantised or hooked. Cheap enough for every call."""
    return tuple(
        (
            type(layer),
            type(weight := layer._parameters.get("weight")),
            getattr(weight, "dtype", None),
            _is_hooked(layer),
            tuple(layer._forward_pre_hooks),
            tuple(layer._forward_hooks),
        )
        for part in _parts(family).values()
        for layer in part.modules()
    )


def _parts(family: Family) -> dict[str, nn.Module]:
    """What a step runs through, by names in the model."""
    return {f"model.{family.text_part}": family.decoder.language_model, "lm_head": family.decoder.head}


def _is_hooked(layer: nn.Module) -> bool:
    """Does anybody change what goes in or comes out? (accelerate brings weights in, and leaves numbers alone.)"""
    replaced = "forward" in vars(layer) and not hasattr(layer, "_hf_hook")
    return replaced or bool(layer._forward_hooks or layer._forward_pre_hooks)


def _odd_products(family: Family) -> Iterator[tuple[str, nn.Module]]:
    """Linear layers that are not simply torch's, with their names."""
    for prefix, part in _parts(family).items():
        for name, layer in part.named_modules(prefix=prefix):
            if not isinstance(getattr(layer, "in_features", None), int):
                continue
            weight = getattr(layer, "weight", None)
            plain = type(layer) is nn.Linear and type(weight) is nn.Parameter and weight.is_floating_point()
            if not plain or _is_hooked(layer):
                yield name, layer


@torch.no_grad()  # not in inference mode: some layers rearrange their weights when they are first used
def _look_at(family: Family, name: str, layer: nn.Module) -> None:
    """A linear layer by itself, where rows can be chosen that give it away."""
    dtype, width = family.decoder.dtype, int(layer.in_features)  # type: ignore[arg-type]
    weights = [tensor for tensor in layer.parameters() if not tensor.is_meta]
    device = weights[0].device if weights else family.decoder.device
    dice = torch.Generator().manual_seed(0)  # the global one belongs to whoever samples
    noise, other, signs = torch.randn(3, width, generator=dice).to(device, dtype)
    # Rows that are large everywhere spoil a scale that all share, and have every column taken out by LLM.int8(), which
    # rounds what is left: in a row of small numbers and one that is 500 times as large, the small ones vanish.
    uneven = 0.01 * signs.sign()
    uneven[0] = 5.5
    calm = _rows(layer, uneven, noise, noise, uneven)
    loud = _rows(layer, uneven, noise, 100 * noise.sign(), 50 * other.sign())
    if calm is None or loud is None:
        return  # it wants something else than rows: the look at trees is left
    weight = getattr(layer, "weight", None)
    kind = type(layer).__name__ + (f" of {type(weight).__name__}" if isinstance(weight, Tensor) else "")
    if _apart(calm[:2], loud[:2]) > LINEAR:
        raise ModelError(
            f"{family.name}: {name} ({kind}) makes other numbers of a row when other rows are beside it, so that "
            "guesses can't be verified together; quantise weights alone (nf4, int8 or float8 weight-only), or nothing"
        )
    if dtype in MUCH and _takes_steps(layer, noise, other):
        raise ModelError(
            f"{family.name}: {name} ({kind}) rounds what it reads to so few steps that answers in {dtype} hang on the "
            "last bit of every number; quantise weights alone (nf4, int8 or float8 weight-only), or load it in bfloat16"
        )


def _takes_steps(layer: nn.Module, one: Float[Tensor, " in"], two: Float[Tensor, " in"]) -> bool:
    """Does a linear layer round what it reads to steps, so that of two numbers as good as equal one may go up and one
    down? Floats keep what is small beside what is large, integers don't; float8 alone is coarse in itself."""
    sums = _rows(layer, one + two, one, two, 0 * one)
    small, spikes = 0.01 * two.sign(), torch.zeros_like(one)
    spikes[::32] = 5.5  # in every group, if groups of columns have scales of their own
    small[::32] = 0.0
    moved = _rows(layer, spikes + small, spikes - small, small, -small)
    if sums is None or moved is None or (off := _apart(sums[0], sums[1] + sums[2] - sums[3])) > ROUGH:
        return False  # it isn't linear: a router, say, which the look at trees is left
    return off > COARSE or float((moved[0] - moved[1]).norm() / (moved[2] - moved[3]).norm()) < 0.5


def _rows(layer: nn.Module, *rows: Tensor) -> Float[Tensor, "rows out"] | None:
    """What a layer makes of some rows; None if it doesn't take rows, or doesn't give any."""
    with suppress(TypeError, ValueError, RuntimeError):
        output = layer(torch.stack(rows)[None])
        if isinstance(output, Tensor) and output.shape[:2] == (1, len(rows)):
            return output[0].double()
    return None


def _look_at_trees(family: Family) -> None:
    """A tree's logits, beside those of the same tokens one by one as stock `generate` reads them."""
    decoder = family.decoder
    together, swapped = (_tree(decoder, companions) for companions in COMPANIONS)
    cache = decoder.stock_cache()
    alone = torch.stack([decoder.stock_step(token, place, cache) for place, token in enumerate(WATCHED)]).double()
    rounded = MUCH.get(decoder.dtype, MUCH_ROUNDED)
    _require(family, _apart(together, alone), rounded, "as part of a tree than by themselves")
    change = _apart(together, swapped)
    if change > LITTLE:
        # Kernels that add in any order differ from themselves; rows that go to experts are multiplied in groups.
        routes = any("experts" in name for name, _ in family.decoder.language_model.named_modules())
        noise = _apart(together, _tree(decoder, COMPANIONS[0]))
        allowed = rounded if routes else max(LITTLE, 4 * noise)
        _require(family, change, allowed, "when tokens change that they don't see")


def _look_at_a_frame(family: Family) -> None:
    """Does the language model read rows that are no token's, as those of a video are? Some look each token's id up in
    a further table, and can't find it where there is none."""
    decoder = family.decoder
    if "per_layer_inputs" in inspect.signature(decoder.language_model.forward).parameters:
        between = decoder.embed(torch.tensor(WATCHED)).mean(0, keepdim=True)
        decoder.prefill(Embeds(between), torch.tensor([[0]]), decoder.new_cache(0))


def _not_run(family: Family, error: Exception) -> ModelError:
    return ModelError(f"{family.name} can't be run over a tree: {type(error).__name__}: {brief(error, 300)}")


def _tree(decoder: Any, companions: Sequence[int]) -> Float[Tensor, "2 vocab"]:
    """Logits of what is watched."""
    tree = DraftTree((WATCHED[0], *companions, WATCHED[1]), PARENTS)
    logits = decoder.step(torch.tensor(tree.tokens), torch.tensor([tree.depths]), tree.mask, decoder.new_cache(0))
    return logits[[0, -1]].double()


def _apart(one: Tensor, two: Tensor) -> float:
    """The largest difference of two rows, of their own size. What isn't a number is as far off as can be."""
    one, two = (each.reshape(-1, each.shape[-1]) for each in (one, two))
    distance = (one - two).norm(dim=-1) / (one - one.mean(-1, keepdim=True)).norm(dim=-1).clamp(min=1e-30)
    return float(distance.nan_to_num(float("inf")).max())


def _require(family: Family, change: float, allowed: float, when: str) -> None:
    if change > allowed:
        raise ModelError(
            f"{family.name} can't be verified as a tree: the logits of a token are others by {change:.1%} {when} "
            f"(rounding explains {allowed:.1%}); load it without what makes its layers look at all rows at once"
        )
