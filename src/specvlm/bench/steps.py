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

from specvlm.engine.caches.kv_cache import TreeCache
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

    What is cached is noise: only the time to look at it matters.
    """
    stock, ours = _stock_cache(family, cached), _our_cache(family, cached, max(rows))
    steps: dict[tuple[str, int], Callable[[], None]] = {(STOCK, 1): lambda: _stock_step(family, stock, cached)}
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
    """Keys and values for each layer."""
    model: Any = family.model
    text = model.config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    shape = (1, text.num_key_value_heads, cached, head_dim)
    for _ in range(text.num_hidden_layers):
        keys, values = (torch.randn(shape, dtype=model.dtype, device=model.device) for _ in range(2))
        yield keys, values


def _stock_cache(family: Family, cached: int) -> DynamicCache:
    cache = DynamicCache(config=family.model.config.get_text_config())
    for layer, (keys, values) in enumerate(_noise(family, cached)):
        cache.update(keys, values, layer)
    return cache


def _stock_step(family: Family, cache: DynamicCache, cached: int) -> None:
    model: Any = family.model
    tokens = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    text = model.model.language_model
    model.lm_head(text(input_ids=tokens, use_cache=True, **with_cache(text.forward, cache)).last_hidden_state)
    cache.crop(cached - cache.get_seq_length())


def _our_cache(family: Family, cached: int, room: int) -> TreeCache:
    cache = family.decoder.new_cache(cached + room)
    for layer, (keys, values) in zip(cache.layers, _noise(family, cached), strict=True):
        layer.update(keys, values)
    return cache


def _our_step(decoder: Decoder, cache: TreeCache, cached: int, rows: int) -> Callable[[], None]:
    tokens, positions = torch.arange(rows), cached + torch.arange(rows)[None]
    mask = torch.ones(rows, rows, dtype=torch.bool).tril_() if rows > 1 else None

    def run() -> None:
        decoder.step(tokens, positions, mask, cache)
        cache.truncate(cached)

    return run
