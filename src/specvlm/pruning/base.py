"""The contract of a pruner: which of the M video tokens does the draft get to see?

Pruning can't change an answer, only how well the draft guesses it, so a pruner is free to be wrong; it is
not free to be vague. Every method keeps exactly K tokens (`none` excepted), in sequence order, and makes the
same choice for the same input: ties go to the lower index.

Axes: M video tokens, K kept ones, D hidden size.
"""

from __future__ import annotations

import abc
import inspect
import math
from dataclasses import dataclass, fields
from fractions import Fraction
from numbers import Real
from typing import ClassVar, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.errors import OptionError

Number = float | int
"""What a ratio may be given as; beartype takes no int for a float."""


@dataclass(frozen=True, eq=False)
class PruningContext:
    """All that a pruner may look at. Tensors may be on any device, and are never written to.

    `scores` are the target's text-to-video attention as recorded (finite, non-negative, of any scale),
    `features` the target's video embeddings after its projector; each may be absent, and a method that needs
    it says so in `needs_scores` or `needs_features`. `frame_ids` and `place_ids` are those of `Prompt`.
    """

    num_keep: int
    frame_ids: Int[Tensor, " M"]
    place_ids: Int[Tensor, " M"]
    scores: Float[Tensor, " M"] | None = None
    features: Float[Tensor, "M D"] | None = None

    def __post_init__(self) -> None:
        M = self.num_tokens
        if not 0 <= self.num_keep <= M:
            raise OptionError(f"num_keep must be from 0 to the {M} video tokens, not {self.num_keep}")
        for name in ("place_ids", "scores", "features"):
            value = getattr(self, name)
            if value is not None and len(value) != M:
                raise OptionError(f"{name} must have {M} rows, one for each video token, not {len(value)}")

    @property
    def num_tokens(self) -> int:
        return self.frame_ids.shape[0]


class Pruner(abc.ABC):
    """One way to choose. A subclass is a final frozen dataclass whose fields are its options.

    The first line of its docstring is its line in lists, so it says the mechanism in one sentence.
    """

    __slots__ = ()
    name: ClassVar[str]
    needs_scores: ClassVar[bool] = False
    needs_features: ClassVar[bool] = False

    @abc.abstractmethod
    def select(self, context: PruningContext) -> Int[Tensor, " K"]:
        """Indices of the video tokens to keep: sorted, unique, always on the CPU."""

    def stages(self, context: PruningContext) -> tuple[Int[Tensor, " _"], ...]:
        """What `select` keeps, by the stage of the method that keeps it: each sorted, none in common."""
        return (self.select(context),)

    @classmethod
    def summary(cls) -> str:
        """The mechanism in one line."""
        return (inspect.getdoc(cls) or cls.name).splitlines()[0]

    def __str__(self) -> str:
        """The text form that `make_pruner` reads back."""
        options = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))  # type: ignore[arg-type]
        return f"{self.name}({options})" if options else self.name

    def scores_of(self, context: PruningContext) -> Float[Tensor, " M"]:
        """The scores in float64 on the CPU: exact for every recorded dtype, one ranking for every device."""
        if context.scores is None:
            if context.num_tokens:
                raise OptionError(f"pruner {self.name!r} needs the target's attention scores, and got none")
            return torch.empty(0, dtype=torch.float64)
        scores = context.scores.detach().cpu().double()
        if not bool((scores.isfinite() & (scores >= 0)).all()):
            raise OptionError(f"pruner {self.name!r} needs finite scores of at least 0, and got others")
        return scores

    def directions_of(self, context: PruningContext) -> Float[Tensor, "M D"]:
        """The features as float32 unit vectors on their own device (a zero vector stays zero)."""
        if context.features is None:
            if context.num_tokens:
                raise OptionError(f"pruner {self.name!r} needs the target's video features, and got none")
            return torch.empty(0, 1)
        features = context.features.detach().float()
        if not bool(features.isfinite().all()):
            raise OptionError(f"pruner {self.name!r} needs finite features, and got others")
        return torch.nn.functional.normalize(features, dim=-1)


PRUNERS: dict[str, type[Pruner]] = {}
"""Every method by its name."""

PrunerType = TypeVar("PrunerType", bound=type[Pruner])


def register(pruner: PrunerType) -> PrunerType:
    """Make a method known by its name, to the command line and everyone else."""
    PRUNERS[pruner.name] = pruner
    return pruner


def share(name: str, value: object) -> Fraction:
    """Option `name`, a number from 0 to 1, as the decimal that was typed: 1/10, not the float beside it."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise OptionError(f"{name} must be a number from 0 to 1, not {value!r}")
    return Fraction(repr(float(value)))


def round_half_up(value: Fraction) -> int:
    """The nearest whole number; a half goes up, always (Python's `round` sends it to the even side)."""
    return math.floor(value + Fraction(1, 2))


def num_to_keep(num_tokens: int, pruning_ratio: Number) -> int:
    """How many of `num_tokens` stay when the fraction `pruning_ratio` (0 to 1 inclusive) is removed.

    To the nearest, half up, in decimal: of 5 tokens 0.9 keeps 1, where floats see 0.49999 and keep none.
    """
    return round_half_up(num_tokens * (1 - share("pruning_ratio", pruning_ratio)))


def even_picks(num_items: int, num_picks: int) -> Int[Tensor, " picks"]:
    """`num_picks` of `num_items` at an even stride, both ends included (a single pick is the middle one).

    The i-th is the floor of i (num_items - 1) / (num_picks - 1), so gaps differ by one at the most.
    """
    if num_picks == 1:
        return torch.tensor([(num_items - 1) // 2])
    return torch.arange(num_picks) * (num_items - 1) // max(num_picks - 1, 1)


def ranking(values: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Indices from the highest value to the lowest; of equal values, the lower index first."""
    return values.sort(descending=True, stable=True).indices
