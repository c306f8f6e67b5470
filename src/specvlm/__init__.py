"""Lossless speculative decoding for Video-LLMs: the target model's exact answer, sooner."""

from specvlm.compare import Arm, Comparison
from specvlm.engine.stats import Stats
from specvlm.engine.tree import DraftTree, DynamicTree, TreeTemplate
from specvlm.errors import ModelError, OptionError, SpecVLMError, VideoError
from specvlm.options import Options
from specvlm.pipeline import Generation, SpecVLM, load

__all__ = [
    "Arm",
    "Comparison",
    "DraftTree",
    "DynamicTree",
    "Generation",
    "ModelError",
    "OptionError",
    "Options",
    "SpecVLM",
    "SpecVLMError",
    "Stats",
    "TreeTemplate",
    "VideoError",
    "load",
]
