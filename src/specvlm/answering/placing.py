"""Where an answer's rounds are played: on the device by tensors alone, or, where that can't be, on the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from specvlm.answering.options import Options
from specvlm.answering.pair import Pair
from specvlm.answering.stage import Stage
from specvlm.engine.drafting import Drafter, ModelDrafter
from specvlm.engine.rounds.player import Player, why_never, why_not
from specvlm.engine.sequence import Sequence
from specvlm.families.checks.strangers import may_draw
from specvlm.families.device_decoder import HFDeviceDecoder


@final
@dataclass(frozen=True, eq=False)
class Place:
    """`stage` None: rounds are the host's, for the `reason`."""

    stage: Stage | None
    reason: str | None = None

    def stage_of(self, sequence: Sequence) -> Stage | None:
        """Where the rounds of this answer are played if a model guesses for it, in trees that the device can grow."""
        return self.stage if why_never(sequence) is None else None

    def player(self, sequence: Sequence, drafter: Drafter) -> Player | None:
        """Whoever plays the rounds of this answer on the device; or None, and the statistics say why."""
        reason = self.reason or why_not(sequence, drafter)
        sequence.stats.on_host_because = reason
        if reason is not None or self.stage is None or not isinstance(drafter, ModelDrafter):
            return None
        return Player(self.stage.arena, sequence, drafter)


def place(pair: Pair, options: Options) -> Place:
    """Before there is a cache: what the models and the options allow."""
    draft, device = pair.draft, pair.target.decoder.device
    if draft is None or draft == "self":
        return Place(None, "there is no draft model")
    by_default = "device" if device.type == "cuda" or pair.compile != "none" else "host"
    if (options.rounds or by_default) == "host":
        return Place(None, "asked for" if options.rounds else f"on {device.type} that is the default")
    for family in (pair.target, draft):
        reason = HFDeviceDecoder.why_not(family.decoder)
        if reason is not None:
            return Place(None, f"{family.name}: {reason}")
    if device != draft.decoder.device:
        return Place(None, "the two models are on different devices")
    if may_draw(draft.model):
        return Place(None, f"{draft.name}: somebody else's code runs in it")
    stage = pair.stage(draft)
    return Place(stage) if stage.why_not is None else Place(None, stage.why_not)
