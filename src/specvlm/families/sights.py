"""Sights: no frame goes through the same vision tower twice."""

from __future__ import annotations

import threading
from typing import final

import torch

from specvlm.engine.snapshot import ModelSnapshot
from specvlm.families.base import Family, Seen
from specvlm.families.kept.seeing import seen
from specvlm.prompts.prompt import Prompt


@final
class Sights:
    """What models have seen so far of the clips of one prompt, or of several that differ in nothing but words.

    May be asked by several threads: one that wants frames which another is looking at waits for them.
    """

    def __init__(self) -> None:
        self._seen: dict[Family, Seen] = {}
        self._towers: dict[Family, ModelSnapshot] = {}
        self._lock = threading.Lock()

    def of(self, family: Family, prompt: Prompt) -> Seen:
        """The frames that a prompt mentions, and perhaps more, as the family's vision tower sees them."""
        with self._lock:
            known = self._seen.get(family)
            if known is None:
                found = seen(family, prompt)
            else:
                new = torch.isin(prompt.frame_ids, known.frame_ids, invert=True).nonzero()[:, 0]
                found = known.joined(seen(family, prompt.prune(new, "original"))) if len(new) else known
            self._seen[family] = found
            return found

    def forget_unless_still_true(self, family: Family) -> None:
        """Forget what a family's tower saw before its weights or adapters were changed. For sights that are kept."""
        with self._lock:
            tower = self._towers.get(family)
            if tower is None or not tower.still_true():
                self._seen.pop(family, None)
                self._towers[family] = ModelSnapshot(*family.tower)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(state.nbytes for seen in list(self._seen.values()) for state in seen.states)
