"""How long one forward takes behind a long prompt, by its rows: our target's, and stock transformers' one row."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.caches.recurrent_cache import RECURRENT
from specvlm.engine.decoder import Decoder
from specvlm.engine.stats import synchronize
from specvlm.families import Family
from specvlm.families.releases import with_cache

ROWS = (1, 2, 4, 8, 16, 26, 32, 48, 64)
"""26: the paper's tree and its root."""

STOCK = "stock"
OURS = "ours"


@dataclass(frozen=True)
class Step:
    """A forward over `rows` tokens behind `cached` ones, with logits for all of them. `seconds` is a median."""

    loop: str
    rows: int
    cached: int
    seconds: float
    least: float
    most: float


@torch.inference_mode()
def measure_steps(family: Family, cached: int, rows: Sequence[int] = ROWS, repeats: int = 5) -> list[Step]:
    """Stock transformers' step over one row, and ours over each count of `rows`, in turns after a warm-up.

    What is cached is noise: only the time to look at it matters. Our rows are a chain.
    """
    stock, ours = stock_cache(family, cached), our_cache(family, cached, max(rows))
    steps: dict[tuple[str, int], Callable[[], None]] = {(STOCK, 1): lambda: stock_step(family, stock, cached)}
    for count in rows:
        steps[OURS, count] = _our_step(family.decoder, ours, cached, count)
    devices = family.devices
    seconds: dict[tuple[str, int], list[float]] = {step: [] for step in steps}
    for turn in range(repeats + 1):
        for step, run in steps.items():
            start = time.perf_counter()
            run()
            synchronize(devices)
            if turn:
                seconds[step].append(time.perf_counter() - start)
    return [
        Step(loop, count, cached, statistics.median(times), min(times), max(times))
        for (loop, count), times in seconds.items()
    ]


def _noise(family: Family, cached: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys and values for each layer that attends."""
    model: Any = family.model
    text = model.config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    shape = (1, text.num_key_value_heads, cached, head_dim)
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    for _ in range(len(kinds) - kinds.count(RECURRENT)):
        keys, values = (torch.randn(shape, dtype=model.dtype, device=model.device) for _ in range(2))
        yield keys, values


def stock_cache(family: Family, cached: int) -> DynamicCache:
    """A cache of transformers' with noise in it. Layers that fold what they read have read one token: behind any
    number of them their state is as large."""
    cache = DynamicCache(config=family.model.config.get_text_config())
    if family.decoder.folds:
        family.decoder.stock_step(0, 0, cache)
    attending = [layer for layer in cache.layers if isinstance(layer, DynamicLayer)]
    for layer, (keys, values) in zip(attending, _noise(family, cached - cache.get_seq_length()), strict=True):
        layer.update(keys, values)
    return cache


def stock_step(family: Family, cache: DynamicCache, cached: int) -> None:
    """One row of stock transformers', of which nothing but states is left behind."""
    model: Any = family.model
    tokens = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    text = model.model.language_model
    model.lm_head(text(input_ids=tokens, use_cache=True, **with_cache(text.forward, cache)).last_hidden_state)
    beyond = cached - cache.get_seq_length()
    for layer in cache.layers:
        if isinstance(layer, DynamicLayer):  # a state goes on, and is as large as before
            layer.crop(beyond)


def our_cache(family: Family, cached: int, room: int) -> TreeCache:
    """A cache of ours with noise in so many positions, and room for more behind them."""
    cache = family.decoder.new_cache(cached + room)
    if family.decoder.folds:
        family.decoder.step(torch.zeros(1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long), None, cache)
        cache.keep((0,), 1)
    for layer, (keys, values) in zip(cache.attention, _noise(family, cached - cache.length), strict=True):
        layer.update(keys, values)
    cache.pretend(cached)
    return cache


def _our_step(decoder: Decoder, cache: TreeCache, cached: int, rows: int) -> Callable[[], None]:
    tokens, positions = torch.arange(rows), cached + torch.arange(rows)[None]
    mask = torch.ones(rows, rows, dtype=torch.bool).tril_() if rows > 1 else None

    def run() -> None:
        decoder.step(tokens, positions, mask, cache)
        cache.truncate(cached)

    return run
