"""What a text model's config says of its layers: how far back each of them looks.

Some configs name the kind of each layer, others have one kind for all and give it away by a window's length: the words
by which transformers masks (`create_masks_for_generate`).
"""

from __future__ import annotations

from typing import Any

from specvlm.errors import ModelError

WINDOW, CHUNK = "sliding_window", "attention_chunk_size"
"""Settings that keep attention from looking all the way back."""


def names_types(config: Any) -> bool:
    """Whether the config of a text model names the kind of each layer: such a model takes a mask for each kind."""
    return bool(getattr(config, "layer_types", None))


def layer_types_of(config: Any) -> tuple[str, ...]:
    """The kind of each layer of a text model, in transformers' words."""
    if names_types(config):
        return tuple(config.layer_types)
    if _values(config, WINDOW):
        only = "sliding_attention"
    else:
        only = "chunked_attention" if _values(config, CHUNK) else "full_attention"
    return (only,) * config.num_hidden_layers


def window_of(config: Any) -> int | None:
    """The length of the shortest sliding window; None if no layer has one."""
    return min(_values(config, WINDOW), default=None)


def refuse_looking_ahead(config: Any, name: str) -> None:
    """Errors: ModelError for a text model that transformers masks so that each token sees those behind it too."""
    if getattr(config, "is_causal", True) is False:
        raise ModelError(
            f"{name}: its text model has is_causal=False and looks ahead; only causal attention can be verified"
        )


def _values(config: Any, name: str) -> list[int]:
    """What a setting is in the layers that have it. Where it differs from layer to layer only theirs can be asked."""
    differs = name in (getattr(config, "per_layer_attributes", None) or ())
    found = [getattr(each, name, None) for each in (config.per_layer_config if differs else [config])]
    return [value for value in found if value is not None]
