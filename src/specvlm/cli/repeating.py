"""The command that is running, as a shell would be given it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextvars import ContextVar

_GIVEN: ContextVar[tuple[str, ...]] = ContextVar("what the command line was", default=())


def remember(given: Sequence[str]) -> None:
    """Note what follows the program's name, before anything is made of it."""
    _GIVEN.set(tuple(given))


def command_line() -> str:
    """Word for word what was asked, quoted; empty if no command line was."""
    return shlex.join(["specvlm", *_GIVEN.get()]) if _GIVEN.get() else ""
