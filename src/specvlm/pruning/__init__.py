"""Which video tokens the draft gets to see."""

from specvlm.pruning.attention import Attention
from specvlm.pruning.attention_reverse import AttentionReverse
from specvlm.pruning.base import PRUNERS, Pruner, PruningContext, num_to_keep, register
from specvlm.pruning.clips import num_kept_tokens, select_per_clip, select_per_head
from specvlm.pruning.diverse import Diverse
from specvlm.pruning.frames import Frames
from specvlm.pruning.guided_focus import GuidedFocus
from specvlm.pruning.guided_frames import GuidedFrames
from specvlm.pruning.none import KeepAll
from specvlm.pruning.parsing import make_pruner
from specvlm.pruning.random import Random
from specvlm.pruning.similarity import Similarity
from specvlm.pruning.uniform import Uniform
from specvlm.pruning.verifier_guided import VerifierGuided
from specvlm.pruning.window import Window

__all__ = [
    "PRUNERS",
    "Attention",
    "AttentionReverse",
    "Diverse",
    "Frames",
    "GuidedFocus",
    "GuidedFrames",
    "KeepAll",
    "Pruner",
    "PruningContext",
    "Random",
    "Similarity",
    "Uniform",
    "VerifierGuided",
    "Window",
    "make_pruner",
    "num_kept_tokens",
    "num_to_keep",
    "register",
    "select_per_clip",
    "select_per_head",
]
