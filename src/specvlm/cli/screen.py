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

PIPED_WIDTH = 100
"""Columns of a table that goes to a file: rich would guess 80, and cut."""


def console(*, stderr: bool) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPED_WIDTH, highlight=False, markup=False)


@contextmanager
def waiting(what: str) -> Iterator[Callable[[str], None]]:
    """Say on a terminal what takes so long: a line on standard error that goes away when it is done.

    Yields a function that says something else from then on.
    """
    if sys.stderr.isatty():
        with console(stderr=True).status(f"{what} ...") as line:
            yield lambda now: line.update(f"{now} ...")
    else:
        yield lambda now: None


def silence() -> None:
    """Keep the libraries' warnings and bars off the terminal: what matters is an error, and errors are ours to tell.

    Our own warnings are a line each.
    """
    import warnings

    from huggingface_hub import logging as hub_logging
    from transformers.utils import logging

    from specvlm.errors import LengthWarning

    warnings.simplefilter("ignore")
    warnings.simplefilter("always", LengthWarning)
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    hub_logging.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()


LINE = 1000
"""Most characters of a warning."""


def warn(message: str) -> None:
    """A line on standard error, whatever the names in it hold."""
    print(f"warning: {brief(message, LINE)}", file=sys.stderr)


def write_record(record: Any) -> None:
    """A JSON document of one line on standard output."""
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # JSON has escapes of its own, which every reader knows
        text = json.dumps(record, allow_nan=False)
    print(text, flush=True)
