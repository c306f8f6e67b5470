"""Stage: a pair on one device, made ready to play rounds there, for all of its answers."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal, cast, final, get_args

from torch import nn

from specvlm.engine.caches.stacked_cache import Buffers, StackedCache
from specvlm.engine.rounds.arena import MAX_TABLES, Arena
from specvlm.engine.rounds.capture import cuda_graph
from specvlm.engine.rounds.compiled import CompiledDecoder
from specvlm.engine.rounds.round import DeviceDecoder
from specvlm.engine.snapshot import ModelSnapshot
from specvlm.errors import OptionError, brief
from specvlm.families.base import Family
from specvlm.families.checks.strangers import is_altered
from specvlm.families.device_decoder import HFDeviceDecoder

Compile = Literal["auto", "none", "graphs", "inductor"]
"""What is done beforehand, so that a round needs less of Python: `graphs`, it is captured as CUDA graphs; `inductor`,
forwards are compiled too, which takes a minute or so for each number of rows; `auto`, graphs on CUDA."""


def require_compile(compile: str) -> Compile:
    """Errors: OptionError for a name that there isn't."""
    if compile not in get_args(Compile):
        known = ", ".join(map(repr, get_args(Compile)))
        raise OptionError(f"compile must be one of {known}, not {brief(repr(compile))}")
    return cast(Compile, compile)


def resolved(compile: str, target: Family) -> Compile:
    """What `auto` comes to for this target. Errors: OptionError for a name that there isn't, or graphs without CUDA."""
    wanted = require_compile(compile)
    on_cuda = target.decoder.device.type == "cuda"
    if wanted == "auto":
        return "graphs" if on_cuda else "none"
    if wanted == "graphs" and not on_cuda:
        raise OptionError(
            f"compile='graphs' is for CUDA, and {target.name} is on {target.decoder.device}: leave it out, or take "
            "'inductor'"
        )
    return wanted


@final
@dataclass(frozen=True, eq=False)
class Stage:
    """Caches of target and draft, and where rounds over them are played."""

    arena: Arena
    buffers: tuple[Buffers, Buffers]
    _snapshot: ModelSnapshot | None
    compile: Compile = "none"
    why_not: str | None = None
    """What keeps rounds on the host nevertheless."""
    _models: tuple[nn.Module, ...] = ()
    """What the buffers have the sizes of."""

    @classmethod
    def of(cls, target: Family, draft: Family, compile: Compile) -> Stage:
        """Errors: ValueError, with the reason, for a model of which only the host can make a step."""
        mine, theirs = HFDeviceDecoder(target.decoder), HFDeviceDecoder(draft.decoder)
        num_spare = 0 if compile == "none" else MAX_TABLES
        capture = None if target.decoder.device.type != "cuda" or compile == "none" else cuda_graph
        ready: tuple[DeviceDecoder, DeviceDecoder] = (mine, theirs)
        if compile == "inductor":
            ready = (CompiledDecoder(mine), CompiledDecoder(theirs))
        models = _models(target, draft)
        altered = (family.name for family in (target, draft) if any(map(is_altered, family.decoder.parts)))
        first = None if compile == "none" else next(altered, None)
        return cls(
            Arena(*ready, capture, whole=compile == "inductor"),
            (mine.buffers(num_spare), theirs.buffers(num_spare)),
            None if compile == "none" else ModelSnapshot(*models),
            compile,
            None if first is None else f"{first}: what others do in its layers is done each time, and not captured",
            models,
        )

    def still_true(self, target: Family, draft: Family) -> bool:
        """Whether buffers are where the models are, and what was captured or compiled is of the weights they have."""
        fits = all(
            (buffers.device, buffers.dtype) == (family.decoder.device, family.decoder.dtype)
            for buffers, family in zip(self.buffers, (target, draft), strict=True)
        )
        fits = fits and all(map(operator.is_, self._models, _models(target, draft)))
        return fits and (self._snapshot is None or self._snapshot.still_true())

    def target_cache(self, capacity: int) -> StackedCache:
        return StackedCache(self.buffers[0], capacity)

    def draft_cache(self, capacity: int) -> StackedCache:
        return StackedCache(self.buffers[1], capacity)


def _models(target: Family, draft: Family) -> tuple[nn.Module, ...]:
    """What rounds call."""
    return target.decoder.language_model, target.decoder.head, draft.decoder.language_model, draft.decoder.head
