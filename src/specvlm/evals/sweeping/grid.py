"""Grid: every pruner at every ratio with every tree over every number of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast, final, get_args

from specvlm.answering.options import Options, TreeName
from specvlm.errors import OptionError, brief
from specvlm.evals.settings import DEFAULT, Setting

TREES = (*get_args(TreeName), "auto")


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """The axes of a sweep. Trees are names of `Options.tree`, or `auto`: planned (`Options.plan`). None in `frames`
    means whatever the options say, or else the checkpoint.

    Beside the grid stand stock generate, once for each number of frames, and plain speculation, once for each tree,
    which is ratio 0 of every pruner. Errors: OptionError for an axis without a value, or with one that doesn't exist.
    """

    pruners: tuple[str, ...]
    ratios: tuple[float, ...]
    trees: tuple[str, ...] = ("dynamic",)
    frames: tuple[int | None, ...] = (None,)

    def __post_init__(self) -> None:
        for name in ("pruners", "ratios", "trees", "frames"):
            values = tuple(dict.fromkeys(getattr(self, name)))
            if not values:
                raise OptionError(f"{name}: name at least one")
            object.__setattr__(self, name, values)
        for tree in self.trees:
            if tree not in TREES:
                raise OptionError(f"trees: there is no {brief(repr(tree))}; there are {', '.join(TREES)}")

    def settings(self, base: Options) -> tuple[Setting, ...]:
        """One for each point, with the options `base` otherwise. Errors: OptionError."""
        settings = []
        for frames, tree in product(self.frames, self.trees):
            options = _with_tree(base if frames is None else replace(base, num_frames=frames), tree)
            place = f"{'' if frames is None else f'{frames} frames, '}{tree}"
            references = ("ar", "sd") if tree == self.trees[0] else ("sd",)
            settings.append(Setting(options, references, place))
            for pruner, ratio in product(self.pruners, self.ratios):
                if ratio != 0:
                    pruning = replace(options, pruner=pruner, pruning_ratio=ratio)
                    settings.append(Setting(pruning, ("specvlm",), f"{place}, {pruner}, {ratio:g}"))
        return tuple(settings)


def _with_tree(options: Options, tree: str) -> Options:
    if tree == "auto":
        return replace(options, plan="auto", tree=None)
    return replace(options, plan="fixed", tree=cast(TreeName, tree))


@final
@dataclass(frozen=True)
class Point:
    """Where in the grid an answer was made. Stock generate has no tree, and is at no ratio; without a pruner, 0."""

    frames: int | None
    tree: str | None
    pruner: str | None
    ratio: float

    @classmethod
    def of(cls, options: Mapping[str, Any], arm: str) -> Point:
        """The point of an arm in a setting, whose options are as `Setting.to_json` writes them."""
        if arm == "ar":
            return cls(options["num_frames"], None, None, 0.0)
        tree = "auto" if options["plan"] == "auto" else options["tree"]
        if arm == "sd":
            return cls(options["num_frames"], tree, None, 0.0)
        return cls(options["num_frames"], tree, options["pruner"], options["pruning_ratio"])

    @property
    def group(self) -> str:
        """What is held against one stock generate: the points of as many frames."""
        return DEFAULT if self.frames is None else str(self.frames)

    @property
    def label(self) -> str:
        """Its name in the group."""
        if self.tree is None:
            return "ar"
        return f"{self.tree}, {'plain' if self.pruner is None else f'{self.pruner}, {self.ratio:g}'}"
