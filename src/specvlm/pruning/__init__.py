"""Which video tokens the draft gets to see."""

from specvlm.pruning.base import PRUNERS, Pruner, PruningContext, num_to_keep, register
from specvlm.pruning.clips import num_kept_tokens, select_per_clip, select_per_head
from specvlm.pruning.methods.attention import Attention
from specvlm.pruning.methods.attention_reverse import AttentionReverse
from specvlm.pruning.methods.diverse import Diverse
from specvlm.pruning.methods.frames import Frames
from specvlm.pruning.methods.guided_focus import GuidedFocus
from specvlm.pruning.methods.guided_frames import GuidedFrames
from specvlm.pruning.methods.none import KeepAll
from specvlm.pruning.methods.random import Random
from specvlm.pruning.methods.similarity import Similarity
from specvlm.pruning.methods.uniform import Uniform
from specvlm.pruning.methods.verifier_guided import VerifierGuided
from specvlm.pruning.methods.window import Window
from specvlm.pruning.parsing import make_pruner

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
