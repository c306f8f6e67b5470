"""Lossless speculative decoding for Video-LLMs: the target model's exact answer, sooner."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from specvlm.machine import version_of

if TYPE_CHECKING:
    from specvlm.answering.answer import Generation
    from specvlm.answering.options import Options
    from specvlm.comparing.compare import Comparison
    from specvlm.comparing.record import Arm
    from specvlm.engine.stats import Stats
    from specvlm.engine.tree import DraftTree, DynamicTree, TreeTemplate
    from specvlm.errors import (
        LengthWarning,
        ModelError,
        OptionError,
        OptionWarning,
        PocketWarning,
        SpecVLMError,
        VideoError,
    )
    from specvlm.integrations.transformers_generate import custom_generate
    from specvlm.pipeline import SpecVLM, load
    from specvlm.watching.watch_list import WatchList
    from specvlm.watching.watched import Watched

__all__ = [
    "Arm",
    "Comparison",
    "DraftTree",
    "DynamicTree",
    "Generation",
    "LengthWarning",
    "ModelError",
    "OptionError",
    "OptionWarning",
    "Options",
    "PocketWarning",
    "SpecVLM",
    "SpecVLMError",
    "Stats",
    "TreeTemplate",
    "VideoError",
    "WatchList",
    "Watched",
    "__version__",
    "custom_generate",
    "load",
]

_HOMES = {
    "specvlm.answering.answer": ("Generation",),
    "specvlm.comparing.compare": ("Comparison",),
    "specvlm.comparing.record": ("Arm",),
    "specvlm.engine.stats": ("Stats",),
    "specvlm.engine.tree": ("DraftTree", "DynamicTree", "TreeTemplate"),
    "specvlm.errors": (
        "LengthWarning",
        "ModelError",
        "OptionError",
        "OptionWarning",
        "PocketWarning",
        "SpecVLMError",
        "VideoError",
    ),
    "specvlm.integrations.transformers_generate": ("custom_generate",),
    "specvlm.answering.options": ("Options",),
    "specvlm.pipeline": ("SpecVLM", "load"),
    "specvlm.watching.watch_list": ("WatchList",),
    "specvlm.watching.watched": ("Watched",),
}

__version__ = version_of("specvlm")


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `specvlm --help` has no use for PyTorch, and need not wait for it."""
    for home, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(home), name)
            return value
    if name == "pocket":
        return importlib.import_module("specvlm.pocket")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
