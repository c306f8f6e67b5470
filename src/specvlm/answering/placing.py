"""Where an answer's rounds are played: on the device by tensors alone, or, where that can't be, on the host."""

from __future__ import annotations

from dataclasses import dataclass

from specvlm.answering.options import Options
from specvlm.answering.pair import Pair
from specvlm.engine.drafting import Drafter, ModelDrafter
from specvlm.engine.rounds.player import Player, why_not
from specvlm.engine.sequence import Sequence
from specvlm.families.device_decoder import HFDeviceDecoder


@dataclass(frozen=True, eq=False)
class Place:
    """`decoders` are those of target and draft on the device; None: rounds are the host's, for the `reason`."""

    decoders: tuple[HFDeviceDecoder, HFDeviceDecoder] | None
    reason: str | None = None


def place(pair: Pair, options: Options) -> Place:
    """Before there is a cache: what the models and the options allow."""
    draft = pair.draft
    wanted = options.rounds or ("device" if pair.target.decoder.device.type == "cuda" else "host")
    if wanted == "host":
        return Place(None, "asked for" if options.rounds else "on this device they are as fast there")
    if draft is None or draft == "self":
        return Place(None, "there is no draft model")
    for family in (pair.target, draft):
        reason = HFDeviceDecoder.why_not(family.decoder)
        if reason is not None:
            return Place(None, f"{family.name}: {reason}")
    if pair.target.decoder.device != draft.decoder.device:
        return Place(None, "the two models are on different devices")
    return Place((HFDeviceDecoder(pair.target.decoder), HFDeviceDecoder(draft.decoder)))


def player(placed: Place, sequence: Sequence, drafter: Drafter) -> Player | None:
    """Whoever plays the rounds of this answer on the device; or None, and the statistics say why."""
    reason = placed.reason or why_not(sequence, drafter)
    sequence.stats.on_host_because = reason
    if reason is not None or placed.decoders is None or not isinstance(drafter, ModelDrafter):
        return None
    target, draft = placed.decoders
    return Player(target, draft, sequence, drafter)
