"""Shown: what of an answer its reader gets to see. A stop string ends it, and isn't shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from specvlm.answering.answer import Generation, Piece


@final
class Shown:
    """Passes pieces on as soon as no stop string can begin in them. The tokens of the answer are the same."""

    def __init__(self, stop: Sequence[str], tell: Callable[[tuple[Piece, ...]], None]) -> None:
        self._stop, self._tell = tuple(stop), tell
        self._held_back = max((len(each) for each in stop), default=1) - 1
        self._waiting: list[Piece] = []
        self._shown = ""

    def add(self, pieces: tuple[Piece, ...]) -> None:
        self._waiting += pieces
        text = "".join(piece.text for piece in self._waiting)
        self._pass_on(len(text) - self._held_back if self._find(text) is None else self._find(text) or 0)

    def finish(self, generation: Generation) -> str:
        """Pass on what is left. Returns all that was shown."""
        text = "".join(piece.text for piece in self._waiting)
        end = self._find(text) if generation.finish_reason == "stop" else None
        self._pass_on(len(text) if end is None else end)
        return self._shown

    def _find(self, text: str) -> int | None:
        """Where the first stop string begins."""
        places = [place for each in self._stop if (place := text.find(each)) >= 0]
        return min(places, default=None)

    def _pass_on(self, length: int) -> None:
        """Of what waits, so many letters, and pieces without any that come before them."""
        ready: list[Piece] = []
        while self._waiting and len(self._waiting[0].text) <= length:
            piece = self._waiting.pop(0)
            length -= len(piece.text)
            ready.append(piece)
        if self._waiting and length > 0:
            first = self._waiting[0]
            ready.append(Piece(first.text[:length], first.by))
            self._waiting[0] = Piece(first.text[length:], first.by)
        if ready:
            self._shown += "".join(piece.text for piece in ready)
            self._tell(tuple(ready))
