"""WatchList: many videos, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from functools import partial
from typing import Any, final

from specvlm.answering.answerer import Answerer
from specvlm.answering.options import Options
from specvlm.errors import OptionError
from specvlm.video.identity import identity
from specvlm.watching.watched import SETTLED, Memory, Watched

MAX_EMPTY = 64
"""Videos of which nothing is known, not yet or not any more, whose place is kept."""


@final
class WatchList:
    """The videos that were asked about last, as many as `max_bytes` hold: those asked about least recently go first.

    Bytes are those of `Watched.nbytes`; answers in flight come on top, and a video that is too large by itself isn't
    kept at all. May be used by several threads.
    """

    def __init__(self, vlm: Answerer, max_bytes: int) -> None:
        """Errors: OptionError."""
        if max_bytes < 0:
            raise OptionError(f"max_bytes must be 0 or more, not {max_bytes}")
        self._vlm, self.max_bytes = vlm, max_bytes
        self._memories: dict[Hashable, Memory] = {}
        self._lock = threading.RLock()  # an answer may be collected, and so end, while its own thread is in here

    def watch(self, video: Any, options: Options | None = None, **overrides: Any) -> Watched:
        """`SpecVLM.watch`; what is known of the same video (`video.identity`), seen by the same options, is used again.

        The result may be kept: its next question finds what is known then. Errors: OptionError.
        """
        options = Options.of(options, overrides)
        key = (identity(video), *(identity(getattr(options, name)) for name in SETTLED))
        return Watched(self._vlm, video, options, partial(self._recall, key))

    @property
    def nbytes(self) -> int:
        """Bytes that are kept between questions."""
        with self._lock:
            return self._sum()

    def __len__(self) -> int:
        """Videos of which something is known."""
        with self._lock:
            return sum(memory.nbytes > 0 for memory in list(self._memories.values()))

    def _recall(self, key: Hashable) -> Memory:
        with self._lock:
            memory = self._memories.pop(key, None) or Memory(self._trim)
            self._memories[key] = memory  # the last one is the most recent
            return memory

    def _trim(self) -> None:
        with self._lock:
            empty = [key for key, memory in list(self._memories.items()) if memory.nbytes == 0]
            for key in empty[:-MAX_EMPTY]:
                self._memories.pop(key, None)
            for key in list(self._memories):
                if self._sum() <= self.max_bytes:
                    return
                self._memories.pop(key, None)

    def _sum(self) -> int:
        return sum(memory.nbytes for memory in list(self._memories.values()))
