"""In what the releases of transformers that we allow differ: the one place that knows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import transformers
from packaging.version import Version
from transformers.cache_utils import Cache

from specvlm.errors import ModelError, OptionError

HERE = Version(transformers.__version__)

CACHE_NAMES = ("cache", "past_key_values")
"""What forwards call their cache: `cache` from 5.24.0 on, `past_key_values` before."""

CHUNKS_SEE_WRONG = Version("5.23.0") > HERE
"""Whether stock `generate`, when it reads a prompt in chunks, hands each chunk the first features of the video."""

ASSISTS_WITH_STATIC = Version("5.24.0") <= HERE
"""Whether stock `generate` can be assisted with a static cache: such a cache can be cropped."""

STATES_ARE_ASKED_FOR = Version("5.24.0") <= HERE
"""Whether recurrent layers ask their cache for their states by the methods that ours has."""

ADAPTERS_COME_ALONG = Version("5.23.0") > HERE
"""Whether a checkpoint with an adapter in its own folder can't be loaded without it."""

SINCE = {"qwen3_5": "5.24.0", "qwen3_5_moe": "5.24.0", "smolvlm": "5.23.0"}
"""Families that need a newer release than the oldest that we allow: recurrent layers that ask for their states, and a
SmolVLM processor that doesn't take the frames of a video for videos."""


def is_too_old_for(model_type: str) -> bool:
    """Whether this release can't answer with such a model as stock `generate` should."""
    return model_type in SINCE and Version(SINCE[model_type]) > HERE


def refuse_too_old(model_type: str, name: str) -> None:
    """Errors: ModelError for a model of a kind that needs a newer release; `name` is what the error calls it."""
    if is_too_old_for(model_type):
        raise ModelError(f"{name} is a {model_type}, which needs transformers >= {SINCE[model_type]}; here is {HERE}")


def refuse_wrong_chunks(chunk_size: int | None, num_video_tokens: int) -> None:
    """Errors: OptionError where stock `generate` with this `prefill_chunk_size` would read another video."""
    if chunk_size is not None and num_video_tokens and CHUNKS_SEE_WRONG:
        raise OptionError(
            f"prefill_chunk_size={chunk_size}: generate of transformers {transformers.__version__} hands each "
            "chunk the first features of the video, so its own answer is wrong; leave it out, or use 5.23.0 or newer"
        )


def refuse_static_assistance() -> None:
    """Errors: OptionError where stock `generate` has no assistant for a static cache."""
    if not ASSISTS_WITH_STATIC:
        raise OptionError(
            f"transformers {transformers.__version__} can't crop a static cache, and takes no assistant with one: "
            "5.24.0 or newer can"
        )


def cache_name(forward: Callable[..., Any]) -> str:
    """What `forward`, of a model or of a language model, calls the cache that it is given.

    Its signature says so. To try a name wouldn't do: before 5.24.0 forwards take `cache=` among their other keywords,
    and compute without one. Errors: TypeError for a forward that takes no cache.
    """
    parameters = inspect.signature(forward).parameters
    for name in CACHE_NAMES:
        if name in parameters:
            return name
    raise TypeError(f"{getattr(forward, '__qualname__', forward)} takes no cache by any of the names {CACHE_NAMES}")


def with_cache(forward: Callable[..., Any], cache: Cache) -> dict[str, Cache]:
    """`cache` as a keyword argument of `forward`, or of the `generate` of a model that has this `forward`."""
    return {cache_name(forward): cache}


def cache_in(named: Mapping[str, Any]) -> Any:
    """The cache among what a forward has returned, or among the keywords that `generate` has prepared; or None."""
    return next((named[name] for name in CACHE_NAMES if named.get(name) is not None), None)
