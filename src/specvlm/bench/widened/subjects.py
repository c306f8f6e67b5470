"""What is measured: the embedded pairs, and the same widened into the shapes of published ones."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import nn

from specvlm import pocket
from specvlm.bench.widened.blank_frames import learn_detector
from specvlm.bench.widened.shapes import PAIRS, Pair
from specvlm.bench.widened.widening import widen
from specvlm.errors import OptionError, brief
from specvlm.families import Family
from specvlm.pipeline import POCKET, SpecVLM, load

HOSTILE = "pocket-hostile"

NAMES = (*(f"pocket-{family}" for family in pocket.FAMILIES), HOSTILE, *PAIRS)

IS_EMBEDDED = (
    "The embedded pair: a few million parameters that describe films of a little world, in words that are easy to "
    "guess. Its speedups are those of this pair on this machine, and tell nothing of models with billions of them."
)
IS_HOSTILE = (
    "The embedded LLaVA-OneVision pair with a draft that is sure of itself and always wrong: it says the token whose "
    "number follows that of the one it means. Nothing can be won here; what is measured is what is lost."
)
IS_WIDENED = (
    "A widened pair, no published checkpoint: two language models of exactly the published shapes, so that weights, "
    "caches and forwards cost here what they cost there, which compute what the embedded pair computes. So costs are "
    "those of the real shapes; answers, and how often the draft agrees, are those of the embedded pair. The vision "
    "tower stays the embedded pair's small one, which takes a real tower's time out of the time to the first token. "
    "The embedded pair knows films of 32 frames: what a longer one has more is a still picture, which is decoded, "
    "seen, prefilled, cached and read like all else, and to which no token pays attention. A real video has more to "
    "tell a draft, and more to lose by pruning."
)
IS_YOURS = (
    "Two checkpoints as they are. They are asked about a film of the embedded pairs' little world: how often the draft "
    "agrees with the target hangs on what is asked, and is another for other videos."
)


@final
@dataclass(frozen=True)
class Subject:
    """A pair of models that is ready to be measured. `about` says what it is and what it is not."""

    name: str
    vlm: SpecVLM
    about: str
    widened: bool = False
    slow: bool = False
    """Whether it may take minutes to read a whole prompt, on a CPU."""


def require(name: str) -> None:
    """Errors: OptionError if there is no pair of this name."""
    if name not in NAMES:
        raise OptionError(f"there is no pair {brief(repr(name))} to measure; there are {', '.join(NAMES)}")


def build(name: str, dtype: torch.dtype, device_map: str | None = None, compile: str = "auto") -> Subject:
    """The pair of this name, from weights that come with the package, on whatever device. `compile` as in
    `specvlm.load`. Errors: OptionError if there is none."""
    require(name)
    if name in PAIRS:
        return widened(name, PAIRS[name], dtype, device_map, compile)
    if name == HOSTILE:
        return hostile(dtype, device_map, compile)
    return Subject(name, embedded(POCKET[name], dtype, device_map, compile), IS_EMBEDDED)


def loaded(
    name: str, target: str, draft: str, dtype: torch.dtype, device_map: str | None = None, compile: str = "auto"
) -> Subject:
    """Any pair of checkpoints: paths, Hub ids, or `self` as draft. Errors: ModelError, OptionError."""
    pair = load(target, draft, dtype=dtype, device_map=device_map, compile=compile)
    return Subject(name, pair, IS_YOURS, slow=True)


def name_of(target: str, draft: str) -> str:
    """What two checkpoints are called together, in a file's name too."""
    return f"{Path(target).name}+{Path(draft).name}"


def embedded(family: str, dtype: torch.dtype, device_map: str | None = None, compile: str = "auto") -> SpecVLM:
    target, draft = (pocket.path(family, role) for role in pocket.ROLES)
    return load(target, draft, dtype=dtype, device_map=device_map, compile=compile)


def hostile(dtype: torch.dtype, device_map: str | None = None, compile: str = "auto") -> Subject:
    """The rows of the draft's output head are moved on by one."""
    vlm = embedded("llava_onevision", dtype, device_map, compile)
    assert isinstance(vlm.draft, Family)
    head: Any = vlm.draft.model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().roll(1, 0))  # a tensor of its own: the input table stays
    return Subject(HOSTILE, vlm, IS_HOSTILE)


def widened(name: str, pair: Pair, dtype: torch.dtype, device_map: str | None = None, compile: str = "auto") -> Subject:
    """Both models are built where they will run, once each; nothing of them is there twice. They pass over blank
    frames."""
    small = embedded(pair.family, dtype, device_map)
    draft = small.draft
    assert isinstance(draft, Family)
    models = [
        widen(family.model, shape, detector=learn_detector(family.model), dtype=dtype)
        for family, shape in ((small.target, pair.target), (draft, pair.draft))
    ]
    wide = load(*models, processor=small.target.processor, compile=compile)
    return Subject(name, wide, IS_WIDENED, widened=True, slow=True)


def without_end(subject: Subject) -> None:
    """Take the end of the answer from both models, so that every arm, stock ones too, goes on to `max_new_tokens`.

    The models are the subject's own. What is said behind the end was never learnt: acceptance there means little.
    """
    for family in (subject.vlm.target, subject.vlm.draft):
        if isinstance(family, Family):
            model: Any = family.model
            model.generation_config = copy.deepcopy(model.generation_config)
            model.generation_config.eos_token_id = None
