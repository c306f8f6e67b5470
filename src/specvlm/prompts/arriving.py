"""Arriving: what the processor makes of a video, while its frames are still being decoded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

from torch import Tensor


@final
class Arriving(Mapping[str, Tensor]):
    """Inputs for a model, of which one tensor of pixels is filled in batches, in order, as it is asked for.

    Whoever takes a tensor by its name gets it whole. Taken by one thread at a time. Errors: those of the batches.
    """

    def __init__(self, inputs: Mapping[str, Tensor], name: str, rows: Tensor, batches: Iterator[Tensor]) -> None:
        """`rows` is a view of the tensor called `name` whose rows the batches are, all of them."""
        self.name = name
        self._inputs, self._rows, self._batches, self._num_filled = inputs, rows, batches, 0

    def until(self, stop: int) -> Tensor:
        """The tensor, of which no more than the first `stop` rows need be right."""
        while self._num_filled < stop:
            batch = next(self._batches)
            self._rows[self._num_filled : self._num_filled + len(batch)] = batch
            self._num_filled += len(batch)
        return self._inputs[self.name]

    def __getitem__(self, name: str) -> Tensor:
        return self.until(len(self._rows)) if name == self.name else self._inputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inputs)

    def __len__(self) -> int:
        return len(self._inputs)
