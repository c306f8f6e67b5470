"""Measuring what forwards cost here, once: the result stays on disk, under all that it hangs on."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch

from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.decoder import Decoder
from specvlm.engine.stats import synchronize
from specvlm.families import Family
from specvlm.machine import machine, versions
from specvlm.planning import disk
from specvlm.planning.costs import Costs, PairCosts

log = logging.getLogger(__name__)

ROWS = (1, 2, 4, 6, 8, 12, 16, 17, 24, 32, 33, 48, 64, 256)
"""Counts of rows: those of trees, and one from which the time to read a prompt is reckoned. Kernels take rows in blocks
of 16, or of 32: one row more than that can cost as much as a block more."""

LONG_ROWS = (1, 8, 32)
"""Counts of rows that are measured behind a long cache too."""

SHORT, LONG = 64, 4096
"""Cached tokens."""

TURNS, MOST_TURNS = 3, 15
"""All counts of rows come once in a turn, so that a disturbance doesn't hit one of them alone."""

ENOUGH_SECONDS, MOST_SECONDS = 0.5, 30.0
"""Turns go on for so long, and on while the machine is restless: short forwards are easily disturbed. After so long
they end, even the first one."""

BURST, BURST_SECONDS = 5, 0.02
"""Short forwards come so many times in a row, or for so long: in a round a draft's steps follow each other, and find
its weights in the CPU's caches, where one behind a forward over 256 rows doesn't."""

TOO_RESTLESS = 1.5
"""How many times as long as the least the middle time may be: of a measurement that is worth keeping."""

FORMAT = 5
"""Of the files, of the way to measure and of specvlm's own kernels: another number, and all is measured again."""


def pair_costs(
    target: Family,
    draft: Family | Literal["self"] | None,
    *,
    fresh: bool = False,
    on_model: Callable[[], None] = lambda: None,
) -> PairCosts:
    """Those of both models, from disk if they were measured before on such a machine; `fresh` measures again.
    `on_model` is called when those of a model are known."""
    measured = costs(target, fresh=fresh)
    on_model()
    if isinstance(draft, Family):
        of_draft = costs(draft, fresh=fresh)
        on_model()
        return PairCosts(measured, of_draft)
    return PairCosts(measured, measured, draft_reads=False)


def costs(family: Family, *, fresh: bool = False) -> Costs:
    """What forwards of a model cost on this machine. Nothing about the model may be changed meanwhile."""
    under = facts(family)
    known = None if fresh else disk.read(under, _known)
    if known is None:
        log.info("measuring what forwards of %s cost on this machine: once, and kept on disk", family.name)
        known, unrest = measure(family.decoder)
        if unrest < TOO_RESTLESS:
            disk.write(under, asdict(known))
        else:
            log.info("this machine was busy with something else: what was measured is rough, and isn't kept")
    return known


def _known(costs: Any) -> Costs:
    return Costs(tuple(costs["rows"]), tuple(costs["base"]), costs["per_token"], costs["per_pair"])


def measure(
    decoder: Decoder, rows: Sequence[int] = ROWS, lengths: tuple[int, int] = (SHORT, LONG)
) -> tuple[Costs, float]:
    """Time forwards over trees behind a short and a long cache. Takes a second, or a minute where a forward does.

    Returns the costs, by the least time of each forward, since a disturbance only ever makes it longer; and how many
    times as long the middle one was, on the whole.
    """
    times: dict[tuple[int, int], list[float]] = {}
    for length in lengths:
        counts = rows if length == lengths[0] else [count for count in rows if count in LONG_ROWS]
        times |= {(count, length): each for count, each in _time(decoder, counts, length).items()}
    return Costs.fit({point: min(each) for point, each in times.items()}), _unrest(times.values())


def _unrest(times: Iterable[Sequence[float]]) -> float:
    return statistics.median(statistics.median(each) / min(each) for each in times)


def _time(decoder: Decoder, counts: Sequence[int], length: int) -> dict[int, list[float]]:
    """Seconds of forwards over so many rows behind `length` tokens."""
    cache, begun = _filled(decoder, length, max(counts)), time.perf_counter()
    times: dict[int, list[float]] = {count: [] for count in counts}
    for turn in range(1 + MOST_TURNS):
        for count in counts:
            burst = _burst(decoder, cache, length, count)
            if turn:  # the first one warms up
                times[count] += burst
        passed = time.perf_counter() - begun
        enough = turn >= TURNS and passed > ENOUGH_SECONDS and _unrest(times.values()) < TOO_RESTLESS
        if enough or (turn and passed > MOST_SECONDS):
            break
    return times


def _burst(decoder: Decoder, cache: TreeCache, length: int, count: int) -> list[float]:
    times: list[float] = []
    while len(times) < BURST and sum(times) < BURST_SECONDS:
        start = time.perf_counter()
        _step(decoder, cache, length, count)
        times.append(time.perf_counter() - start)
    return times


def _filled(decoder: Decoder, length: int, room: int) -> TreeCache:
    """A cache with so many tokens in it, of which only the time to look at them matters."""
    cache = decoder.new_cache(0)
    cache.reserve(length + room)  # even if no answer of this model may be that long
    decoder.step(torch.zeros(1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long), None, cache)
    cache.keep((0,), 1)
    for layer in cache.attention:
        dice = torch.Generator(layer.keys.device).manual_seed(0)  # the global one belongs to whoever samples
        layer.keys.normal_(generator=dice)
        layer.values.normal_(generator=dice)
    cache.pretend(length)
    return cache


def _step(decoder: Decoder, cache: TreeCache, length: int, count: int) -> None:
    """One forward over a chain of different tokens (the same one would go to the same experts), undone."""
    mask = torch.ones(count, count, dtype=torch.bool).tril_() if count > 1 else None
    places = torch.arange(count)
    # All at position 0: that costs the same, and some models keep frequencies for the furthest that they have seen.
    logits = decoder.step(places % decoder.vocab_size, torch.zeros_like(places)[None], mask, cache)
    synchronize((logits.device,))
    cache.truncate(length)


def facts(family: Family) -> dict[str, Any]:
    """All that a forward's time hangs on."""
    model = family.model
    devices = getattr(model, "hf_device_map", None) or model.device
    return {
        "format": FORMAT,
        "rows": ROWS,
        "machine": machine(),
        "versions": versions(),
        "model": type(model).__name__,
        "config": model.config.get_text_config().to_diff_dict(),
        "dtype": str(model.dtype),
        "devices": str(devices),
        "packed": family.decoder.packed,
    }
