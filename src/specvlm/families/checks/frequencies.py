"""Rotary frequencies that hang on how long a forward is: up to which position they are those of any forward.

transformers works some of them out anew for each forward, from its furthest position (`dynamic_rope_update`). A guess
that lengthens a forward would turn the keys of all its tokens otherwise than stock `generate` turns them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Reach:
    """Forwards over fewer than `positions + 1` positions have one set of frequencies; longer ones have others."""

    kind: str
    positions: int


def positions_of(config: Any) -> int | None:
    """How many positions a language model was made for, by its config; None if that doesn't say.

    Where frequencies are stretched (YaRN, linear), `max_position_embeddings` may still be the length before that.
    """
    positions: int | None = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    parameters = getattr(config, "rope_parameters", None) or {}
    sets = [parameters, *(each for each in parameters.values() if isinstance(each, dict))]
    stretched = [
        int(each["factor"] * (each.get("original_max_position_embeddings") or positions))
        for each in sets
        if each.get("factor")
    ]
    return max([positions, *stretched])


def reach_of(language_model: nn.Module) -> Reach | None:
    """The shortest of a model's rotary embeddings; None if all their frequencies stay what they are."""
    return min(_reaches(language_model), key=lambda reach: reach.positions, default=None)


def _reaches(language_model: nn.Module) -> Iterator[Reach]:
    module: Any
    for module in language_model.modules():
        kinds = getattr(module, "rope_type", None)
        # Some models have a set for each type of layer, and then a dict of everything.
        for layer_type, kind in (kinds if isinstance(kinds, dict) else {None: kinds}).items():
            if not isinstance(kind, str):
                continue
            if "dynamic" in kind:
                # At the length itself, what an earlier and longer forward left on the module still counts.
                yield Reach(kind, module.original_max_seq_len - 1)
            elif kind == "longrope":
                parameters = module.config.rope_parameters
                parameters = parameters if layer_type is None else parameters[layer_type]
                yield Reach(kind, parameters["original_max_position_embeddings"])
