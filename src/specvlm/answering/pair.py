"""Pair: a target and what guesses for it, found fit for each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import zip_longest
from threading import Lock
from typing import Literal

import torch
from torch import Tensor, nn

from specvlm.answering.stage import Compile, Stage, resolved
from specvlm.errors import ModelError
from specvlm.families.base import Family
from specvlm.families.probe import require_fit, require_own_attention
from specvlm.planning import measuring
from specvlm.planning.deciding import AnswerPlanner
from specvlm.planning.planner import Planner
from specvlm.planning.rounds import measuring as round_measuring
from specvlm.planning.rounds.planner import DevicePlanner

PLAIN = (torch.Tensor, nn.Parameter)
"""Kinds of weights that say all by themselves, and can be compared."""

Draft = Family | Literal["self"] | None
"""A model of the target's family, the target itself over a pruned copy of its own memory, or nobody."""

Planners = dict[tuple[bool, Compile | None, bool], AnswerPlanner]
"""By whether tokens are drawn, how the device's rounds are compiled (None: they are the host's), and if captured."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A target and its draft. `one_tower`: their vision towers have the same weights, so what one saw both know."""

    target: Family
    draft: Draft = None
    one_tower: bool = False
    compile: Compile = "none"
    """What is done beforehand, so that rounds on the device need less of Python."""
    planners: Planners = field(default_factory=dict, repr=False)
    """What plans have learnt of the two. Whoever makes many pairs of them may give each the same."""
    _stages: list[Stage] = field(default_factory=list, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @classmethod
    def of(cls, target: Family, draft: Draft, compile: str = "none") -> Pair:
        """Check that they fit, and compare their towers once. Errors: ModelError, naming what differs, or what keeps
        trees from being verified (`probe`); OptionError for a `compile` that can't be."""
        compiled = resolved(compile, target)
        if draft == "self" and target.decoder.folds:
            raise ModelError(
                f"{target.name} can't be its own draft: most of its layers fold the video into a state, out of which "
                "no token can be left; give a smaller model of its kind"
            )
        if draft is not None and draft != "self":
            check_layout(target, draft)
            check_tokenizer(target, draft)
        check_forwards(target, draft)
        if draft is None or draft == "self":
            return cls(target, draft, draft == "self", compiled)
        draft.decoder.pack()  # it is smaller than the target, and runs more often
        return cls(target, draft, same_tower(target, draft), compiled)

    @property
    def models(self) -> tuple[nn.Module, ...]:
        """Of target and draft, each once."""
        return tuple(family.model for family in (self.target, self.draft) if isinstance(family, Family))

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """All that work for an answer."""
        families = [family for family in (self.target, self.draft) if isinstance(family, Family)]
        return tuple(dict.fromkeys(device for family in families for device in family.devices))

    def planner(self, do_sample: bool, stage: Stage | None = None, *, picks: bool = False) -> AnswerPlanner:
        """What was learnt about this pair: of greedy answers, or of sampled ones; of rounds on a `stage`, or of the
        host's. Measures the machine if need be.

        `picks`: tokens are drawn, or reckoned one by one, by what is of one answer alone: no round is captured.
        """
        captured = stage is not None and stage.arena.captures and not picks
        key = (do_sample, None if stage is None else stage.compile, captured)
        with self._lock:
            if key not in self.planners:
                self.planners[key] = self._new_planner(stage, captured)
            return self.planners[key]

    def _new_planner(self, stage: Stage | None, captured: bool) -> AnswerPlanner:
        others = list(self.planners.values())
        costs = others[0].measured if others else measuring.pair_costs(self.target, self.draft)
        if stage is None or not isinstance(self.draft, Family):
            return Planner(costs)
        alike = (each.rounds for each in others if isinstance(each, DevicePlanner) and each.rounds.captured == captured)
        rounds = next(alike, None) or round_measuring.round_costs(self.target, self.draft, stage, captured=captured)
        return DevicePlanner(costs, rounds=rounds)

    def stage(self, draft: Family) -> Stage:
        """Where rounds on the device are played, with this draft, for all answers while weights stay as they are."""
        with self._lock:
            if not (self._stages and self._stages[0].still_true(self.target, draft)):
                self._stages[:] = [Stage.of(self.target, draft, self.compile)]
            return self._stages[0]


def check_forwards(target: Family, draft: Draft) -> None:
    """Can the target's words be told from trees, and the draft be run as we run it? Errors: ModelError."""
    require_fit(target)
    if draft is not None and draft != "self":
        require_own_attention(draft)


def check_layout(target: Family, draft: Family) -> None:
    """Do both see a prompt alike? Errors: ModelError."""
    if target.model_type != draft.model_type:
        raise ModelError(
            f"target {target.name} is a {target.model_type} and draft {draft.name} a {draft.model_type}: "
            "both must be of one family"
        )
    for key, value in target.layout.items():
        if draft.layout.get(key) != value:
            raise ModelError(
                f"target {target.name} and draft {draft.name} see a video differently: {key} is {value} in one and "
                f"{draft.layout.get(key)} in the other"
            )


def check_tokenizer(target: Family, draft: Family) -> None:
    """Do both write alike? Errors: ModelError with a token that they disagree about."""
    mine, theirs = target.tokenizer.get_vocab(), draft.tokenizer.get_vocab()
    if mine != theirs:
        odd = min(
            (t for t in mine.keys() | theirs.keys() if mine.get(t) != theirs.get(t)),
            key=lambda t: (len(t), t),
        )
        raise ModelError(
            f"target {target.name} and draft {draft.name} have different tokenizers: {odd!r} is "
            f"{mine.get(odd)} in one and {theirs.get(odd)} in the other; use a draft with the target's tokenizer"
        )


def same_tower(target: Family, draft: Family) -> bool:
    """Have their vision towers the same weights, of the same dtype, on the same device? Ends at the first difference.

    That both are run alike is what `check_layout` tells. Quantised weights are no plain tensors, and are not compared:
    some can't be, and of others the scales lie elsewhere.
    """
    return all(
        type(mine) is type(theirs)
        and type(mine) in PLAIN
        and mine is not None
        and theirs is not None
        and (mine.shape, mine.dtype, mine.device) == (theirs.shape, theirs.dtype, theirs.device)
        and (mine.data_ptr() == theirs.data_ptr() or torch.equal(mine, theirs))
        for mine, theirs in zip_longest(_weights(target), _weights(draft))
    )


def keep_one_tower(target: Family, draft: Family) -> None:
    """Let the draft's tower use the target's weights, which are equal, and free its own. For a draft that is ours."""
    for mine, theirs in zip(_weights(target), _weights(draft), strict=True):
        theirs.data = mine.data


def _weights(family: Family) -> list[Tensor]:
    return [tensor for module in family.tower for tensor in (*module.parameters(), *module.buffers())]
