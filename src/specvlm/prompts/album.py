"""Album: where what was made of a prompt's clips is kept on disk; and inputs whose pixels are still there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, final

import torch
from torch import Tensor

from specvlm.prompts.disk import Disk, Entry, key


@final
@dataclass(frozen=True)
class Album:
    """A folder's entries about the clips of one prompt, and of all that differ in nothing but words. `source` names
    what the clips hold, `clips` also how their frames were chosen and prepared."""

    disk: Disk
    source: str
    clips: str

    def recall(self, facts: Mapping[str, Any]) -> Entry | None:
        """What was kept under these facts, as JSON has them."""
        return self.disk.read(self._name(facts))

    def keep(self, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], **told: Any) -> None:
        self.disk.write(self._name(facts), tensors, told)

    def _name(self, facts: Mapping[str, Any]) -> str:
        return f"{self.source}-{key([self.clips, facts])}"


@final
class Late:
    """Tensors that are fetched when somebody looks at the first of them, once."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], fetch: Callable[[], Mapping[str, Tensor]]) -> None:
        self.shapes, self._fetch = shapes, fetch
        self._found: Mapping[str, Tensor] | None = None
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Tensor:
        with self._lock:
            if self._found is None:
                self._found = self._fetch()
            return self._found[name]

    @property
    def nbytes(self) -> int:
        """Bytes that are held already."""
        return 0 if self._found is None else sum(tensor.nbytes for tensor in self._found.values())

    def stand_ins(self) -> dict[str, Tensor]:
        """Tensors of the right shapes that take no room. Whoever computes with one gets NaN, nothing plausible."""
        return {name: torch.tensor(nan).expand(shape) for name, shape in self.shapes.items()}


@final
class LateInputs(Mapping[str, Tensor]):
    """What a processor made, as `Prompt.model_inputs` has it: some at hand, and some fetched when it is looked at."""

    def __init__(self, at_hand: Mapping[str, Tensor], late: Late) -> None:
        self._at_hand = {name: tensor for name, tensor in at_hand.items() if name not in late.shapes}
        self.late = late

    def __getitem__(self, name: str) -> Tensor:
        return self.late[name] if name in self.late.shapes else self._at_hand[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._at_hand, *self.late.shapes))

    def __len__(self) -> int:
        return len(self._at_hand) + len(self.late.shapes)

    def without_pixels(self) -> dict[str, Tensor]:
        """With stand-ins for what is late."""
        return self._at_hand | self.late.stand_ins()

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._at_hand.values()) + self.late.nbytes


def stood_in(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs to make others of that differ in words alone: nothing is fetched for that."""
    return inputs.without_pixels() if isinstance(inputs, LateInputs) else dict(inputs)


def late_as(before: Mapping[str, Tensor], inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Inputs that were made of `stood_in(before)`, with its pixels in the place of stand-ins."""
    return LateInputs(inputs, before.late) if isinstance(before, LateInputs) else inputs


def nbytes(inputs: Mapping[str, Tensor]) -> int:
    """Bytes of memory that inputs hold."""
    return inputs.nbytes if isinstance(inputs, LateInputs) else sum(tensor.nbytes for tensor in inputs.values())
