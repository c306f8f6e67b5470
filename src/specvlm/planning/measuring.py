"""Measuring what forwards cost here, once: the result stays on disk, under all that it hangs on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from specvlm.compare import machine, versions
from specvlm.engine.decoder import Decoder
from specvlm.engine.kv_cache import TreeCache
from specvlm.engine.stats import synchronize
from specvlm.families import Family, Pair
from specvlm.planning.costs import Costs
from specvlm.planning.planner import PairCosts

log = logging.getLogger(__name__)

ROWS = (1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64)
LONG_ROWS = (1, 8, 32)
"""Counts of rows that are measured behind a long cache too."""

SHORT, LONG = 64, 4096
"""Cached tokens."""

TURNS = 3
"""All counts of rows come once in a turn, so that a disturbance doesn't hit one of them alone."""

ENOUGH_SECONDS, MOST_TURNS = 0.5, 15
"""Turns go on for so long, or so many times: short forwards are easily disturbed."""

FORMAT = 1
"""Of the files, and of the way to measure: another number, and all is measured again."""


def pair_costs(pair: Pair, *, fresh: bool = False) -> PairCosts:
    """Those of both models, from disk if they were measured before on such a machine; `fresh` measures again."""
    target = costs(pair.target, fresh=fresh)
    return PairCosts(target, costs(pair.draft, fresh=fresh) if isinstance(pair.draft, Family) else target)


def costs(family: Family, *, fresh: bool = False) -> Costs:
    """What forwards of a model cost on this machine. Nothing about it may be changed meanwhile."""
    facts = _facts(family)
    path = folder() / f"{hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:24]}.json"
    if not fresh:
        with suppress(OSError, ValueError, KeyError, TypeError):  # not there, or not whole
            known = json.loads(path.read_text())["costs"]
            return Costs(tuple(known["rows"]), tuple(known["base"]), known["per_token"], known["per_pair"])
    log.info("measuring what forwards of %s cost on this machine", family.name)
    measured = measure(family.decoder)
    with suppress(OSError):  # a disk that can't be written to costs time, not the answer
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(f".{os.getpid()}")
        whole.write_text(json.dumps({"costs": asdict(measured), "facts": facts}, indent=1, default=str))
        whole.replace(path)
    return measured


def folder() -> Path:
    """Where costs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "specvlm" / "costs"


def measure(decoder: Decoder, rows: Sequence[int] = ROWS, lengths: tuple[int, int] = (SHORT, LONG)) -> Costs:
    """Time forwards over trees behind a short and a long cache. Takes a second, or a minute where a forward does."""
    seconds: dict[tuple[int, int], float] = {}
    for length in lengths:
        cache = _filled(decoder, length, max(rows))
        counts = rows if length == lengths[0] else [count for count in LONG_ROWS if count in rows]
        times: dict[int, list[float]] = {count: [] for count in counts}
        begun = time.perf_counter()
        for turn in range(1 + MOST_TURNS):
            for count in counts:
                start = time.perf_counter()
                _step(decoder, cache, length, count)
                if turn:  # the first one warms up
                    times[count].append(time.perf_counter() - start)
            if turn >= TURNS and time.perf_counter() - begun > ENOUGH_SECONDS:
                break
        seconds |= {(count, length): statistics.median(each) for count, each in times.items()}
    return Costs.fit(seconds)


def _filled(decoder: Decoder, length: int, room: int) -> TreeCache:
    """A cache with so many tokens in it, of which only the time to look at them matters."""
    cache = decoder.new_cache(length + room)
    _step(decoder, cache, 0, 1)
    for layer in cache.layers:
        layer.keys.normal_()
        layer.values.normal_()
        layer.length = length
    return cache


def _step(decoder: Decoder, cache: TreeCache, length: int, count: int) -> None:
    """One forward over a chain, undone."""
    mask = None
    if count > 1:
        mask = torch.ones(count, length + count, dtype=torch.bool).tril_(length)
    decoder.step(torch.arange(count), length + torch.arange(count)[None], mask, cache)
    synchronize()
    cache.truncate(length)


def _facts(family: Family) -> dict[str, Any]:
    """All that a forward's time hangs on."""
    model = family.model
    devices = getattr(model, "hf_device_map", None) or model.device
    return {
        "format": FORMAT,
        "machine": machine(),
        "versions": versions(),
        "model": type(model).__name__,
        "config": model.config.get_text_config().to_diff_dict(),
        "dtype": str(model.dtype),
        "devices": str(devices),
    }
