"""Whose attention it is that ours takes the place of: transformers' own, or somebody's who means it.

What transformers has under these names computes one and the same function, up to rounding, and so do we. What anybody
else has registered, or a keyword that we don't know, would be lost without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from specvlm.errors import ModelError

NAMES = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")
"""The implementations that transformers brings along, those for paged caches left out."""

KNOWN = frozenset(("query", "key", "value", "attention_mask", "scaling", "dropout"))
"""Keywords that our own function takes."""

IN_THE_MASK = frozenset(("cache_position", "is_causal", "position_ids", "sliding_window", "use_cache"))
"""Keywords that say nothing which isn't in a mask already."""

UNDERSTOOD = KNOWN | IN_THE_MASK

TORCHS = torch._C._nn.scaled_dot_product_attention  # type: ignore[attr-defined]
"""The kernel, where nobody puts another one in its place."""


def refuse_foreign(model_name: str, asked: str | None, default: Callable[..., Any] | None = None) -> None:
    """`asked` is the implementation that a layer wants, `default` the one in its own file, which is called eager.

    Errors: ModelError unless both function and mask are transformers' own, and torch's kernel is torch's.
    """
    name = asked or "eager"
    found = [ALL_ATTENTION_FUNCTIONS.get(name, default), ALL_MASK_ATTENTION_FUNCTIONS.get(name)]
    if name not in NAMES or not all(each is None or _is_stock(each) for each in found):
        what = name if name not in NAMES else f"{name}, registered anew,"
        raise ModelError(
            f"{model_name} attends with {what} which isn't transformers' own: specvlm has an attention of its own and "
            'would leave it out; load the model with attn_implementation="sdpa"'
        )
    if name == "sdpa" and functional.scaled_dot_product_attention is not TORCHS:
        raise ModelError(
            f"{model_name} attends with a torch.nn.functional.scaled_dot_product_attention that isn't torch's own: "
            "specvlm would leave it out; put torch's back"
        )


@final
class ForeignRefused:
    """`refuse_foreign` for the layers of one forward, which mostly ask for the same, one after the other."""

    __slots__ = ("_answered", "_model_name")

    def __init__(self, model_name: str) -> None:
        self._model_name = model_name
        self._answered: tuple[Any, ...] = ()

    def __call__(self, *asked: Any) -> None:
        if asked != self._answered:
            refuse_foreign(self._model_name, *asked)
            self._answered = asked


@lru_cache(maxsize=64)  # asked in every forward
def _is_stock(function: Callable[..., Any]) -> bool:
    """A wrapper may bear the name and the `__module__` of what it wraps; where it was written it can't hide."""
    return isinstance(function, FunctionType) and function.__globals__["__name__"].partition(".")[0] == "transformers"


def refuse_odd_keywords(model_name: str, module: nn.Module, keywords: Mapping[str, Any]) -> None:
    """Errors: ModelError for what a layer wants of its attention beside a causal softmax of scaled products."""
    for keyword in keywords.keys() - UNDERSTOOD:
        if keywords[keyword] is not None and keywords[keyword] is not False:
            raise ModelError(
                f"{model_name}: {type(module).__name__} wants {keyword} of its attention, which specvlm's doesn't have"
            )
    causal = keywords.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        raise ModelError(f"{model_name}: {type(module).__name__} looks ahead; only causal attention can be verified")


def refuse_own_mask(model_name: str, module: nn.Module, mask: Any) -> None:
    """Errors: ModelError for a mask that a layer has made by itself, of what it reads: models are handed none, or one
    without a number in it."""
    if mask is not None and not (isinstance(mask, Tensor) and mask.numel() == 0):
        raise ModelError(
            f"{model_name}: {type(module).__name__} makes a mask of its own, which specvlm's attention would leave out"
        )


@final
class AskedAttention:
    """An attention function of ours, lent for one forward: it refuses odd keywords and masks, and notes that it was
    asked."""

    __slots__ = ("_function", "_model_name", "was_asked")

    def __init__(self, model_name: str, function: Callable[..., tuple[Tensor, Any]]) -> None:
        self._model_name, self._function = model_name, function
        self.was_asked = False

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any = None,
        *more: Any,
        **kwargs: Any,
    ) -> tuple[Tensor, Any]:
        self.was_asked = True
        refuse_own_mask(self._model_name, module, attention_mask)
        refuse_odd_keywords(self._model_name, module, kwargs)
        return self._function(module, query, key, value, None, *more, **kwargs)
