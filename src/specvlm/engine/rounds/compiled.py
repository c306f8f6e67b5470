"""Compiled steps: a model's forward over a fixed number of rows, run once, written down, and made faster by inductor.

torch's own tracer breaks at transformers' decorators. So the forward is run on tensors without contents that record
what is done to them (`make_fx`): whatever Python decides is decided then, and a read by the host is an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, final

from jaxtyping import Bool, Float, Int
from torch import Tensor

from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.rounds.round import DeviceDecoder

log = logging.getLogger(__name__)

Step = Callable[..., Any]


@final
@dataclass(eq=False)
class CompiledDecoder:
    """A DeviceDecoder whose steps are compiled when a number of rows is met for the first time.

    A cache may be another one each time, of the same shape; weights are looked up where they are, and may be written
    to, but not replaced.
    """

    decoder: DeviceDecoder
    seconds: float = 0.0
    """Spent compiling so far."""
    compiled: dict[tuple[Any, ...], Step] = field(default_factory=dict)
    """By the shapes of what a step is given."""

    def step_at(
        self,
        tokens: Int[Tensor, " rows"],
        positions: Int[Tensor, " rows"],
        length: Int[Tensor, " 1"],
        tail: Bool[Tensor, "rows tail"],
        cache: IndexedCache,
    ) -> Float[Tensor, "rows vocab"]:
        given = [each.contiguous() for each in (tokens, positions, length, tail, cache.slots, cache.rows)]
        key = (cache.bound, *(each.shape for each in given))
        if key not in self.compiled:
            began = time.perf_counter()
            self.compiled[key] = self._compile(given, cache)
            self.seconds += time.perf_counter() - began
        return self.compiled[key](*given)

    def _compile(self, given: list[Tensor], cache: IndexedCache) -> Step:
        def step(
            tokens: Tensor, positions: Tensor, length: Tensor, tail: Tensor, slots: Tensor, rows: Tensor
        ) -> Tensor:
            return self.decoder.step_at(tokens, positions, length, tail, _in_place_of(cache, rows, slots))

        # Not at the top: they take seconds to import.
        import torch._inductor
        from torch.fx.experimental.proxy_tensor import make_fx

        try:
            recorded = make_fx(step, tracing_mode="fake", _allow_non_fake_inputs=True)(*given)
            with _as_eager_rounds():
                compiled: Any = torch._inductor.compile(recorded, given)  # type: ignore[arg-type]
        except RuntimeError as error:  # such as a step that asks the host in its middle; no compiler
            log.warning("forwards are run without being compiled: %s", str(error).partition("\n")[0])
            return step
        return lambda *tensors: _only(compiled(*tensors))


def _in_place_of(cache: IndexedCache, rows: Tensor, slots: Tensor) -> IndexedCache:
    other = IndexedCache(rows)
    other.bound, other.slots = cache.bound, slots
    return other


def _only(output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) else output


def _as_eager_rounds() -> AbstractContextManager[None]:
    """In half precision, a number that eager torch would write down is rounded, though fused code needn't write it."""
    import torch._inductor.config as inductor

    return inductor.patch(emulate_precision_casts=True)
