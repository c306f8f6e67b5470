"""Whether a checkpoint held its model's weights, all of them and no others: transformers fills up what is missing with
random numbers, leaves out what is too much, and only warns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from specvlm.errors import brief

NAMED = 3
"""Weights that a message names of each kind."""

UNREAD = re.compile(
    r"(^|\.)mtp\."  # heads that predict several tokens: stock generate doesn't use them
    r"|(^|\.)vision_tower\.(vision_model\.)?head\."  # where SigLIP pools what it sees, which no token comes from
    r"|(^|\.)(inv_freq|position_ids)$"  # made anew from the config
    r"|\.[kv]_scale$"  # for a cache in 8 bits, which transformers doesn't keep
)
"""Weights that a checkpoint may hold beside those of its model."""


def wrong_weights(info: Mapping[str, Collection[Any]], model: nn.Module) -> str | None:
    """What is wrong with the weights that a model was loaded from, by transformers' `output_loading_info`; None if
    nothing is.

    Tied weights are not missing: transformers has taken them from their partner. A part that the model hasn't got at
    all, such as a reward head, is harmless; more layers, or the scales of weights that the config doesn't call
    quantised, are not: they would have changed the answer.
    """
    parts = {part for name in model.state_dict() for part in name.split(".")}
    unexpected = [
        name for name in info["unexpected_keys"] if not UNREAD.search(name) and name.partition(".")[0] in parts
    ]
    resized = [
        f"{name}: {list(found)} instead of {list(expected)}" for name, found, expected in info["mismatched_keys"]
    ]
    found = [
        _named(info["missing_keys"], "it lacks {} of its model"),
        _named(resized, "it holds {} of another size"),
        _named(unexpected, "it holds {} that its model has no place for"),
    ]
    return "; ".join(filter(None, found)) or None


def _named(names: Collection[str], what: str) -> str | None:
    if not names:
        return None
    shown = ", ".join(brief(name, 100) for name in sorted(names)[:NAMED])
    more = ", ..." if len(names) > NAMED else ""
    return f"{what.format(f'{len(names)} weight' + 's' * (len(names) > 1))} ({shown}{more})"
