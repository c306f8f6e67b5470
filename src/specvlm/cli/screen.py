"""How the commands speak: to a reader on a terminal, to a file, to another program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from specvlm.errors import brief

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

PIPED_WIDTH = 80
"""Columns of what goes to a file or to another program."""


def console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPED_WIDTH, highlight=False, markup=False)


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Say on a terminal what takes so long: a line on standard error that goes away when it is done.

    Yields a function that says something else from then on. Within another block it says it on that one's line.
    """
    if not sys.stderr.isatty():
        yield lambda now: None
    elif _SAID:
        outer = _SAID[-1]
        outer.update(f"{what} ...")
        yield lambda now: outer.update(f"{now} ...")
    else:
        sys.stderr.write(f"{what} ...\r")  # rich, which comes next, takes a moment to load
        sys.stderr.flush()
        with console(stderr=True).status(f"{what} ...") as line:
            _SAID.append(line)
            try:
                yield lambda now: line.update(f"{now} ...")
            finally:
                _SAID.pop()


_SAID: list[Status] = []
"""The line that is on the screen, if there is one: two at once would write over each other."""


def silence() -> None:
    """Keep the libraries' warnings and bars off the terminal: what matters is an error, and errors are ours to tell.

    Our own warnings are a line each.
    """
    import logging as python_logging
    import warnings

    from huggingface_hub import logging as hub_logging
    from transformers.utils import logging

    from specvlm.errors import LengthWarning, OptionWarning, PocketWarning

    python_logging.getLogger("bitsandbytes").setLevel(python_logging.ERROR)
    warnings.simplefilter("ignore")
    for ours in (LengthWarning, OptionWarning, PocketWarning):
        warnings.simplefilter("always", ours)
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    hub_logging.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def bars() -> Iterator[None]:
    """Let the libraries' bars through for the block, if there is a terminal to draw them on: for what takes minutes."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        yield
        return
    logging.enable_progress_bar()
    try:
        yield
    finally:
        logging.disable_progress_bar()


LINE = 1000
"""Most characters of a warning."""


def warn(message: str) -> None:
    """A line on standard error, whatever the names in it hold."""
    print(f"warning: {brief(message, LINE)}", file=sys.stderr)


def note(message: str) -> None:
    """A line on standard error that nobody has to act on."""
    print(brief(message, LINE), file=sys.stderr, flush=True)


def write_record(record: Any) -> None:
    """A JSON document of one line on standard output."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # JSON has escapes of its own, which every reader knows
        text = json.dumps(record, allow_nan=False)
    print(text, flush=True)
