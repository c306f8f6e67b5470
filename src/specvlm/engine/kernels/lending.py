"""Lending: what a library calls by name is replaced in one thread, for the length of a block.

No model is touched and no configuration. Whatever runs beside it in another thread, of the same model too, keeps the
library's own function, in the middle of a forward as well; when the last block has ended nothing is left behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, final

from torch.nn import functional

Function = Callable[..., Any]

_NONE = object()


@final
class Borrower:
    """The place where a library looks a function up: an attribute `name` of a module or an object."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name
        self._lock = threading.Lock()
        self._lent: dict[int, Function] = {}
        """By thread."""
        self._dispatch: Function | None = None
        self._before: Any = _NONE

    @contextmanager
    def lend(self, function: Function) -> Iterator[None]:
        """Inside the block, and in this thread alone, let the library call `function` in place of its own."""
        thread = threading.get_ident()
        with self._lock:
            if not self._lent:
                self._replace()
            outer = self._lent.get(thread)
            self._lent[thread] = function
        try:
            yield
        finally:
            with self._lock:
                if outer is None:
                    del self._lent[thread]
                else:
                    self._lent[thread] = outer
                if not self._lent:
                    self._restore()

    def _replace(self) -> None:
        # A method that the object inherits isn't its own: it is uncovered again, not set.
        self._before = vars(self._owner).get(self._name, _NONE)
        self._dispatch = partial(_dispatch, self._lent, getattr(self._owner, self._name))
        setattr(self._owner, self._name, self._dispatch)

    def _restore(self) -> None:
        if vars(self._owner).get(self._name) is not self._dispatch:
            return  # replaced once more meanwhile, by somebody who has it in hand
        if self._before is _NONE:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)


def _dispatch(lent: dict[int, Function], own: Function, /, *args: Any, **kwargs: Any) -> Any:
    return (lent.get(threading.get_ident()) or own)(*args, **kwargs)


LINEAR = Borrower(functional, "linear")
"""Where linear layers ask torch for their product."""
