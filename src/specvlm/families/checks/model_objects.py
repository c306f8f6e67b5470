"""Model objects as their owners hand them over: wrapped, adapted, compiled, hooked. Taken where the answer is stock's.

`generate` calls a model as a whole; specvlm calls its parts: the language model, the head, what makes tokens of frames.
So what an owner put inside those is followed, and what was put around them would be passed by: it is refused by name.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from functools import lru_cache
from types import FunctionType
from typing import Any

from torch import nn
from transformers import GenerationMixin, PreTrainedModel

from specvlm.errors import ModelError
from specvlm.families.checks.strangers import hooks_on_all, is_known_code, moves_alone, of_others, package_of

FOLLOWED_ADAPTERS = (
    "ADALORA", "BOFT", "C3A", "DELORA", "FOURIERFT", "GRALORA", "HRA", "IA3", "LN_TUNING", "LOHA", "LOKR", "LORA",
    "MISS", "OFT", "RANDLORA", "ROAD", "SHIRA", "TRAINABLE_TOKENS", "VBLORA", "VERA",
)  # fmt: skip
"""Those of peft that take the place of layers and treat each row of theirs by itself, whatever stands beside it."""

UNMOVED = (nn.Identity, nn.Linear, nn.Embedding, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
"""Modules to which training or not is all the same. An adapter that was just attached has many in training mode."""

_METHODS = (FunctionType, classmethod, staticmethod, property)

CALLED = ("__call__", "forward", "get_input_embeddings")
"""Methods that any forward goes through."""

WRAPPERS = ("DataParallel", "DistributedDataParallel")


def unwrapped(source: nn.Module, role: str) -> PreTrainedModel:
    """The model of transformers that answers when `generate` of `source` is called. `role` is its name in errors.

    Errors: ModelError for an adapter, or for a wrapper, that answers in a way of its own.
    """
    if isinstance(source, PreTrainedModel):
        return source
    parts, kind = source._modules, type(source).__name__
    if isinstance(inner := parts.get("_orig_mod"), nn.Module):  # of torch.compile, whose `generate` is this one's
        return unwrapped(inner, role)
    peft = sys.modules.get("peft")  # whoever has an object of its has imported it
    if peft is not None and isinstance(source, (peft.PeftModel, peft.PeftMixedModel)):
        wrapper: Any = source
        refuse_adapters(wrapper.peft_config, role)
        return unwrapped(wrapper.base_model.model, role)
    if kind in WRAPPERS:
        raise ModelError(f"{role} is wrapped in {kind}: pass the model inside it, its .module")
    if kind == "FullyShardedDataParallel":
        raise ModelError(f"{role} is wrapped in {kind}, which keeps its weights in pieces: load its checkpoint instead")
    raise ModelError(f"{role} must be a loaded transformers model, not a {kind}")


UNPACKS = "ct_decompress_hook"
"""Where compressed-tensors notes on a model that its first forward unpacks it."""


def refuse_unless_followed(model: PreTrainedModel, name: str, taken_apart: Collection[str] = ()) -> None:
    """Is all that `generate` would do in what specvlm calls? Takes a millisecond: owners change models at any time.

    `taken_apart`: those parts of `model.model` that are called, but whose output isn't taken as it is. Errors:
    ModelError, naming what is not, and what would be right.
    """
    refuse_packed(model, name)
    if (hook := next(hooks_on_all(), None)) is not None:
        raise ModelError(
            f"torch calls the hook {getattr(hook, '__qualname__', type(hook).__name__)} around every module, and of "
            f"{name} specvlm calls the parts alone: remove it, or hook its layers"
        )
    if any(base.__name__ == "FSDPModule" for base in type(model).__mro__):
        raise ModelError(f"{name} is sharded by fully_shard, in pieces of weights: load its checkpoint instead")
    for part in model.modules():
        state = vars(part)
        if adapters := state.get("peft_config") or state.get("_peft_config"):
            refuse_adapters(adapters, _called(part, model, name))
            if part is not model and package_of(part) == "peft":
                raise ModelError(
                    f"{_called(part, model, name)} is wrapped in {type(part).__name__}, which specvlm can't look into: "
                    "give the adapter to the whole model"
                )
        if part.training and not _is_unmoved(part):
            raise ModelError(f"{_called(part, model, name)} is in training mode: call model.eval() first")
        if _is_compiled(part):
            raise ModelError(
                f"{_called(part, model, name)} is compiled, and specvlm runs a model's parts as they are written: pass "
                "a model without compile()"
            )
    cores = [part for path, part in model.named_children() if path == "model"]
    for part in (model, *cores):
        if part._forward_hooks or part._forward_pre_hooks:
            raise ModelError(
                f"{_called(part, model, name)} has a forward hook, which specvlm would pass by: remove it, or hook its "
                "layers"
            )
        _refuse_others_code(next(_own_methods(part), None), _called(part, model, name))
    for part in (part for core in cores for path, part in core.named_children() if path in taken_apart):
        if any(of_others(part._forward_hooks)):
            raise ModelError(
                f"{_called(part, model, name)} has a forward hook, of whose output specvlm would take a part alone: "
                "remove it, or hook the parts inside it"
            )
        own = next((method for method in _own_methods(part) if method in CALLED), None)
        _refuse_others_code(own, _called(part, model, name))


def refuse_packed(model: PreTrainedModel, name: str) -> None:
    """Errors: ModelError for weights that compressed-tensors unpacks in the first forward of the whole model: whoever
    calls its layers finds none there."""
    if UNPACKS in vars(model):
        raise ModelError(
            f"{name} unpacks its weights in its first forward, which specvlm would pass by: load it with "
            "quantization_config=CompressedTensorsConfig(dequantize=True), which unpacks them at once"
        )


def refuse_adapters(configs: dict[str, Any], name: str) -> None:
    """Adapters of peft by their configs. Errors: ModelError for a kind that specvlm can't follow."""
    for adapter, config in configs.items():
        kind = str(getattr(config.peft_type, "value", config.peft_type))
        if kind not in FOLLOWED_ADAPTERS or getattr(config, "alora_invocation_tokens", None):
            kind = f"{kind} with alora_invocation_tokens" if kind in FOLLOWED_ADAPTERS else kind
            raise ModelError(
                f"{name} has the adapter {adapter!r} of type {kind}, which specvlm can't follow; it follows those that "
                f"take the place of layers: {', '.join(FOLLOWED_ADAPTERS)}"
            )


def _is_unmoved(module: nn.Module) -> bool:
    kind = type(module)
    if kind in UNMOVED or (isinstance(module, nn.Dropout) and module.p == 0):
        return True
    return kind.__module__.startswith(
        ("peft.tuners.lora.", "peft.utils.")
    )  # what drops out in those is a part of its own


def _is_compiled(module: nn.Module) -> bool:
    """By `module.compile()`, `torch.compile(module)` or `module.forward = torch.compile(module.forward)`."""
    return (
        module._compiled_call_impl is not None
        or "_orig_mod" in module._modules
        or hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")
    )


def _refuse_others_code(method: str | None, what: str) -> None:
    if method is not None:
        raise ModelError(
            f"{what} has a {method} of its own, which specvlm would pass by: pass a model with that of transformers"
        )


def _own_methods(part: nn.Module) -> Iterator[str]:
    """Methods that decide about answers and that aren't those of transformers: a subclass's, the object's own, or put
    in the place of transformers' own."""
    classes = type(part).__mro__
    stock = next(each for each in classes if _is_stock(each))
    names = _deciding(stock)
    for each in classes[: classes.index(stock)]:
        yield from sorted(names & vars(each).keys())
    for name in sorted(names & vars(part).keys()):
        value = vars(part)[name]
        stands_there = getattr(value, "__func__", value) is getattr(type(part), name)
        if callable(value) and not stands_there and not (name == "forward" and moves_alone(part)):
            yield name
    yield from (name for name in sorted(names) if not is_known_code(getattr(stock, name, None)))


@lru_cache
def _deciding(stock: type) -> frozenset[str]:
    """The methods of a class of transformers that `generate`, or a forward, may go through."""
    found = {
        name
        for each in (GenerationMixin, stock)
        for name, value in vars(each).items()
        if isinstance(value, _METHODS) and name[:2] != "__"
    }
    return frozenset(found.union(CALLED))


def _is_stock(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("transformers", "torch")


def _called(part: nn.Module, model: nn.Module, name: str) -> str:
    """What to call a part of a model in an error."""
    if part is model:
        return name
    return f"{name}: its part {next(path for path, module in model.named_modules() if module is part)}"
