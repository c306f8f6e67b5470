"""Options: every knob of one answer, checked when it is made.

A field's type and its text stand in its annotation, and PyTorch is imported when the first answer is asked for: so the
command line makes its options of the fields themselves, and its help waits for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from specvlm.errors import OptionError, brief
from specvlm.names import VideoBackend
from specvlm.prompts.lead import Slot
from specvlm.prompts.policy import PositionPolicy

if TYPE_CHECKING:
    from specvlm.engine.tree import TreeShape
    from specvlm.pruning import Pruner

Plan = Literal["fixed", "auto"]
TreeName = Literal["dynamic", "paper", "chain"]
VisionPolicy = Literal["auto", "shared", "spared", "full"]
SelfScope = Literal["prompt", "head"]
RoundPolicy = Literal["device", "host"]

LARGEST_TREE = 1024
"""Most levels, branches and guesses of a tree that can be asked for: forwards of more cost more than they can bring."""

OF_DRAWS = ("temperature", "top_k", "top_p", "min_p")
"""Options that say how tokens are drawn."""

OF_GUESSES = (
    *("pruner", "pruning_ratio", "positions", "prune_images", "vision", "self_scope"),
    *("tree", "depth", "num_nodes", "width"),
)
"""Options that say how a draft guesses."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What one answer may be asked with. None means: what the checkpoint's own generation config says.

    Errors: OptionError, naming the option, the value and what would be right.
    """

    num_frames: Annotated[
        int | None, "Frames taken evenly from the video (default 32 when `fps` isn't given either)."
    ] = None
    fps: Annotated[float | None, "Frames per second taken from the video, instead of `num_frames`."] = None
    source_fps: Annotated[
        float | None,
        "Frames per second at which pictures were taken: for a folder or list of them, which doesn't say (a video "
        "file does).",
    ] = None
    min_pixels: Annotated[
        int | None,
        "Frames are enlarged to at least this many pixels (Qwen-VL; default: as the checkpoint's processor does).",
    ] = None
    max_pixels: Annotated[
        int | None,
        "Frames are shrunk to at most this many pixels (Qwen-VL; default: as the checkpoint's processor does).",
    ] = None
    total_pixels: Annotated[
        int | None,
        "Most pixels of all frames of a video together, as qwen-vl-utils counts them (Qwen-VL; default: no bound).",
    ] = None
    video_backend: Annotated[
        VideoBackend,
        "Who decodes a video file: `pyav`, which is right everywhere and decodes nothing in vain; `straight`, PyAV "
        "over every frame of it, so that damage anywhere is told of; `torchcodec`, which may round colours otherwise; "
        "`auto`: `pyav`.",
    ] = "auto"
    more_videos: Annotated[tuple[Any, ...], "More videos for the same question, behind the first (Qwen-VL)."] = ()
    images: Annotated[tuple[Any, ...], "Images for the same question, behind the videos (Qwen-VL)."] = ()
    system: Annotated[
        str | None,
        "System prompt, in front of the conversation; an empty one is an empty turn (default: as the chat template "
        "has it).",
    ] = None
    history: Annotated[tuple[tuple[str, str], ...], "Earlier questions about this video and their answers."] = ()
    lead: Annotated[
        tuple[str | Slot, ...],
        "What stands in front of the first question, in order: texts, and a `Slot` for each video and image; the "
        "question may be empty then (default: all videos, then all images).",
    ] = ()

    pruner: Annotated[
        str | Pruner,
        "Which video tokens the draft keeps: a name from `specvlm pruners`, alone or as `name(option=value)`.",
    ] = "frames"
    pruning_ratio: Annotated[
        float | None,
        "Fraction of the video tokens that the draft never sees (default: 0.9, or as the plan finds best).",
    ] = None
    positions: Annotated[
        PositionPolicy | None,
        "Where the draft's kept tokens stand: at their `original` positions, or `compact`, closed up (default: as the "
        "model's family does best).",
    ] = None
    prune_images: Annotated[bool, "Prune images too, each like a video of one frame."] = False
    vision: Annotated[
        VisionPolicy,
        "How the draft sees: `shared`, through the target's eyes, if both have the same vision tower; `spared`, with "
        "its own tower on the frames of kept tokens alone; `full`, on all frames; `auto`: shared if possible, else "
        "spared.",
    ] = "auto"
    self_scope: Annotated[
        SelfScope,
        "What a target that is its own draft keeps: the same tokens everywhere (`prompt`), or in each layer and head "
        "those that it looks at there (`head`).",
    ] = "prompt"
    plan: Annotated[
        Plan | None,
        "`auto`: pruning ratio and trees as they pay best on this machine, by what forwards cost here (measured at "
        "first use, and kept on disk) and by what guesses have been worth so far; and no guesses where they don't pay. "
        "`fixed`: every tree as `tree` says (default: `auto`, or `fixed` where `tree`, `depth`, `num_nodes` or `width` "
        "is given).",
    ] = None
    tree: Annotated[
        TreeName | TreeShape | Sequence[Sequence[int]] | None,
        "The draft tree: `dynamic`, `paper` (25 nodes), `chain`, or a list of paths of ranks: [[0], [1], [0, 0]] "
        "(default: `dynamic`, if trees are fixed).",
    ] = None
    depth: Annotated[
        int | None,
        "Most levels of the draft tree (default: 6 of the dynamic tree, 5 of the others).",
    ] = None
    num_nodes: Annotated[int | None, "Node budget of the dynamic tree (default 12)."] = None
    width: Annotated[int | None, "Branches at each level of the dynamic tree (default 2)."] = None

    max_new_tokens: Annotated[
        int | None, "Most tokens of an answer (default: as the checkpoint's generation config says, or 256)."
    ] = None
    do_sample: Annotated[
        bool | None,
        "Draw each token from the target's distribution, or always take the likeliest one (default: draw if "
        "`temperature`, `top_k`, `top_p` or `min_p` is given).",
    ] = None
    temperature: Annotated[
        float | None,
        "Flattens (above 1) or sharpens (below 1) the distribution that is drawn from; 0: the likeliest token, always.",
    ] = None
    top_k: Annotated[int | None, "Draw among this many of the likeliest tokens; 0: among all."] = None
    top_p: Annotated[float | None, "Draw among the likeliest tokens that together have this probability."] = None
    min_p: Annotated[float | None, "Draw among tokens at least this likely, relative to the likeliest one."] = None
    repetition_penalty: Annotated[
        float | None, "Above 1 makes tokens that are in the prompt or the answer already less likely."
    ] = None
    stop: Annotated[tuple[str, ...], "Strings that end the answer."] = ()
    seed: Annotated[
        int | None,
        "Seed of the answer's own random generator (default: torch's global one is drawn from, as `generate` does).",
    ] = None

    rounds: Annotated[
        RoundPolicy | None,
        "Where rounds are played: on the `device`, by tensors alone, where models and options allow it, or on the "
        "`host` (default: the device where the target is on CUDA). Answers are the same.",
    ] = None
    strict: Annotated[
        bool,
        "Decide what is too close to call, when several tokens are verified at once, by a forward over one token as "
        "plain decoding does it: for bfloat16 and float16, where the two may round differently (greedy answers only).",
    ] = False
    prefill_chunk: Annotated[int | None, "Most prompt tokens in one forward (default: all of them)."] = None

    def __post_init__(self) -> None:
        if self.num_frames is not None and self.fps is not None:
            raise OptionError("give num_frames or fps, not both")
        for name in ("num_frames", "prefill_chunk", "min_pixels", "max_pixels", "total_pixels"):
            self._check(name, lambda value: _is_int(value) and value >= 1, "a whole number of 1 or more")
        for name in ("depth", "num_nodes", "width"):
            self._check(
                name,
                lambda value: _is_int(value) and 1 <= value <= LARGEST_TREE,
                f"a whole number from 1 to {LARGEST_TREE}",
            )
        for name in ("max_new_tokens", "top_k"):
            self._check(name, lambda value: _is_int(value) and value >= 0, "a whole number of 0 or more")
        self._check("seed", lambda value: _is_int(value) and 0 <= value < 2**63, "a whole number from 0 to 2^63 - 1")
        for name in ("fps", "source_fps", "repetition_penalty"):
            self._check(name, _is_above_0, "a number above 0")
        self._check("temperature", lambda value: _is_number(value) and value >= 0, "a number of 0 or more")
        self._check("top_p", lambda value: _is_number(value) and 0 < value <= 1, "a number above 0, up to 1")
        for name in ("min_p", "pruning_ratio"):
            self._check(name, lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise OptionError(f"min_pixels must not be above max_pixels, and {self.min_pixels} > {self.max_pixels}")
        choosable = {"plan": Plan, "positions": PositionPolicy, "vision": VisionPolicy}
        choosable |= {"self_scope": SelfScope, "rounds": RoundPolicy, "video_backend": VideoBackend}
        for name, choices in choosable.items():
            self._check(name, get_args(choices).__contains__, " or ".join(map(repr, get_args(choices))))
        for name in ("more_videos", "images"):
            self._check(name, lambda value: isinstance(value, (tuple, list)), "a tuple, even of one")
        for name in ("prune_images", "strict"):
            self._check(name, lambda value: isinstance(value, bool), "True or False")
        if isinstance(self.stop, str):
            example = self.stop or "."
            raise OptionError(f"stop must be a tuple of strings, such as ({example!r},), not the string {self.stop!r}")
        self._check("stop", lambda value: _is_row(value, lambda s: is_text(s) and s), "a tuple of strings, none empty")
        self._check("do_sample", lambda value: isinstance(value, bool), "True or False")
        self._check("system", is_text, "a text")
        self._check("history", lambda value: _is_row(value, _is_turn), "pairs of a question and its answer")
        self._check("lead", lambda value: _is_row(value, _is_part), "a tuple of texts and Places")
        if self.temperature == 0 and self.do_sample:
            raise OptionError(
                "temperature=0 always takes the likeliest token, and do_sample=True draws: give one of them"
            )
        self.make_pruner()
        self.tree_shape()
        if self.plan == "auto" and (given := self._of_a_tree()):
            raise OptionError(f"plan='auto' chooses the tree by itself: leave {given[0]} out, or take plan='fixed'")

    def _check(self, name: str, is_right: Any, right: str) -> None:
        value = getattr(self, name)
        if value is not None and not is_right(value):
            raise OptionError(f"{name} must be {right}, not {brief(repr(value))}")

    @classmethod
    def of(cls, options: Options | None, overrides: dict[str, Any]) -> Options:
        """`options` with some of them replaced. Errors: OptionError for a name that doesn't exist."""
        known = [field.name for field in fields(cls)]
        for name in overrides:
            if name not in known:
                raise OptionError(f"there is no option {name!r}; there are {', '.join(known)}")
        base = {} if options is None else {name: getattr(options, name) for name in known}
        return cls(**base | overrides)

    @property
    def fixed_pruning_ratio(self) -> float:
        """What was asked for, or else the paper's (arXiv:2508.16201)."""
        return 0.9 if self.pruning_ratio is None else self.pruning_ratio

    @property
    def reading(self) -> dict[str, Any]:
        """What `video.load` is told about a source, besides which frames are wanted."""
        return {"source_fps": self.source_fps, "backend": self.video_backend}

    @property
    def planned(self) -> bool:
        """Whether trees are planned, rather than all of one shape."""
        return self.plan == "auto" or (self.plan is None and not self._of_a_tree())

    @property
    def draws(self) -> bool | None:
        """Whether tokens are drawn; None: as the checkpoint's own generation config says."""
        if self.do_sample is not None or self.temperature == 0:
            return bool(self.do_sample)
        return True if any(getattr(self, name) is not None for name in OF_DRAWS) else None

    def at_most(self, count: int) -> int:
        """So many tokens, or fewer if fewer were asked for."""
        return count if self.max_new_tokens is None else min(count, self.max_new_tokens)

    def idle(self, *, drafts: bool) -> list[str]:
        """What was given and does nothing, a line each: of draws where there are none, of guesses without a draft."""
        lines = []
        drawn = [name for name in OF_DRAWS if getattr(self, name) is not None]
        if self.do_sample is False and drawn and self.temperature != 0:
            lines.append(f"{', '.join(drawn)}: nothing is drawn with do_sample=False, which takes the likeliest token")
        guessed = [name for name in OF_GUESSES if getattr(self, name) != getattr(type(self), name)]
        if guessed and not drafts:
            lines.append(f"{', '.join(guessed)}: nothing is guessed without a draft")
        return lines

    def without_guesses(self) -> Options:
        """The same where nobody drafts."""
        return replace(self, **{name: getattr(type(self), name) for name in OF_GUESSES})

    def _of_a_tree(self) -> list[str]:
        """What was given of a tree."""
        return [name for name in ("tree", "depth", "num_nodes", "width") if getattr(self, name) is not None]

    def make_pruner(self) -> Pruner:
        from specvlm.pruning import make_pruner

        return make_pruner(self.pruner)

    def tree_shape(self) -> TreeShape:
        """The shape that `tree`, `depth`, `num_nodes` and `width` describe together."""
        from specvlm.engine.tree import PAPER_TREE, DynamicTree, TreeShape, TreeTemplate, chain

        tree = "dynamic" if self.tree is None else self.tree
        if tree != "dynamic":
            for name in ("num_nodes", "width"):
                if getattr(self, name) is not None:
                    raise OptionError(f"{name} belongs to the dynamic tree, and tree is {brief(repr(tree))}")
        if isinstance(tree, TreeShape):
            shape = tree
        elif tree == "chain":
            shape = chain(self.depth or 5)
        elif tree == "paper":
            shape = PAPER_TREE
        elif tree == "dynamic":
            given = {"depth": self.depth, "width": self.width, "num_nodes": self.num_nodes}
            shape = DynamicTree(**{name: value for name, value in given.items() if value is not None})
        elif isinstance(tree, str):
            raise OptionError(f"tree must be 'dynamic', 'paper', 'chain' or a list of paths, not {brief(repr(tree))}")
        else:
            try:
                shape = TreeTemplate.from_paths(tree)
            except (ValueError, TypeError) as error:
                raise OptionError(f"tree: {error}") from None
        return shape if self.depth is None else shape.cut(self.depth)

    def generate_kwargs(self) -> dict[str, Any]:
        """What stock `generate` must be called with to be asked the same. Without a `max_new_tokens` it would take its
        own default of 20 (`recipe.with_length` says how many are meant)."""
        names = ("repetition_penalty", "max_new_tokens")
        names = names if self.temperature == 0 else (*OF_DRAWS, *names)
        asked = {name: getattr(self, name) for name in names} | {"do_sample": self.draws}
        given = {name: value for name, value in asked.items() if value is not None}
        return given | ({"stop_strings": list(self.stop)} if self.stop else {})


def is_text(value: object) -> bool:
    """Whether it is a string of letters alone: bytes that are no UTF-8 come from the shell as halves of letters, which
    no tokenizer takes."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_above_0(value: object) -> bool:
    return _is_number(value) and value > 0  # type: ignore[operator]


def _is_row(value: object, is_right: Callable[[Any], Any]) -> bool:
    return isinstance(value, (tuple, list)) and all(is_right(item) for item in value)


def _is_part(value: Any) -> bool:
    return isinstance(value, Slot) or is_text(value)


def _is_turn(value: object) -> bool:
    return _is_row(value, is_text) and len(value) == 2  # type: ignore[arg-type]
