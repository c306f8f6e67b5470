"""How a command ends: an exit code that means one thing, and one line about what went wrong."""

from __future__ import annotations

import errno
import os
import select
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import typer

from specvlm.comparing.telling import shortage, told
from specvlm.errors import SpecVLMError, brief

DIFFERS = 1
"""An answer differs from stock generate's where it must not. Nothing else ends with it."""
REFUSED = 2
"""What was given is wrong, or the machine has no room for it."""
BUG = 70
"""Something that should not happen (`EX_SOFTWARE` of sysexits.h)."""
CLOSED = 141
"""Nobody reads standard output any more: as the shell tells of a program that SIGPIPE ended."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write can end with."""

MISUSE = 600
"""Most characters of a line about what typer refuses."""
LINE = 2000
"""Most characters of a line about what went wrong. Inputs are cut where they are quoted; this is for the rest."""


@contextmanager
def ending(*, debug: bool = False) -> Iterator[None]:
    """Turn what goes wrong in the block into a line and `typer.Exit`; with `debug`, behind its traceback.

    Ctrl-C passes: typer ends it with 130.
    """
    _escape_what_has_no_code()
    try:
        yield
        sys.stdout.flush()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich's way to end, which lets go of standard output itself
            raise typer.Exit(CLOSED) from None
        raise
    except Exception as error:
        if _is_misuse(error):
            _say(brief(_misuse(error), MISUSE))
            raise typer.Exit(REFUSED) from None
        if isinstance(error, typer.Abort) or hasattr(error, "exit_code"):  # what typer itself ends with
            _let_go()
            raise
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            raise typer.Exit(CLOSED) from None
        if debug:
            traceback.print_exc()
        code, line = code_and_line(error)
        _say(brief(line, LINE))
        _let_go()
        raise typer.Exit(code) from None


def stand_in_for_closed_streams() -> None:
    """What a shell has closed (`>&-`) would be opened again as the next file, and be written into.

    Nothing is said by a command that nobody can hear; one that can't answer is refused.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            if name == "stdout":
                _say("standard output is closed: there is nowhere to write an answer to")
                sys.exit(REFUSED)
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _say(line: str) -> None:
    """The line about what went wrong, if there is anywhere to write it to."""
    with suppress(OSError, AttributeError):
        print(f"error: {line}", file=sys.stderr, flush=True)


def _let_go() -> None:
    """Of what can't be written to, a full disk or device: the interpreter would try again at its end, and complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError, AttributeError):
                _redirect(stream)


def _redirect(stream: TextIO) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _is_misuse(error: Any) -> bool:
    """Whether typer refuses what was typed; an empty command line is none, but asks for help. The class that typer
    raises is click's, or a copy of its own: so it is known by what it offers."""
    return hasattr(error, "format_message") and type(error).__name__ != "NoArgsIsHelpError"


def _misuse(error: Any) -> str:
    """What typer says of it, and where help is."""
    context = getattr(error, "ctx", None)
    said = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's words, which help nobody
    return f"{said} (see {context.command_path} --help)" if context is not None else said


def code_and_line(error: Exception) -> tuple[int, str]:
    """The exit code of an error, and what is said of it."""
    if (missing := shortage(error)) is not None:
        return REFUSED, missing
    if isinstance(error, SpecVLMError):
        return REFUSED, str(error)
    if isinstance(error, OSError) and error.strerror:
        name = _file_of(error)
        return REFUSED, f"{name}{error.strerror}"
    return BUG, f"{told(error)} (which should not happen; `specvlm --debug ...` shows where it did)"


def _file_of(error: OSError) -> str:
    """What an error of the system is about: of a stream it doesn't say."""
    if error.filename is not None:
        named = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else error.filename
        return f"{brief(named)}: "
    return "standard output: " if error.errno in NO_ROOM else ""  # files are named by whoever writes them


def _escape_what_has_no_code() -> None:
    """A name that is no UTF-8, or a letter that the terminal's encoding lacks, shall not end a command."""
    if sys.stdout.errors == "strict":
        with suppress(AttributeError):  # somebody else's stream
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _nobody_reads() -> bool:
    """Whether our own output is what is closed; then nothing more is written to it, at the very end either."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _is_closed(stream)]
    for stream in closed:
        _redirect(stream)
    return bool(closed)


def _is_closed(stream: TextIO) -> bool:
    """Whether a pipe has lost its reader. What was written in vain doesn't tell: a second flush finds nothing to do."""
    try:
        watched = select.poll()
        watched.register(stream.fileno(), 0)
        return any(events & select.POLLERR for _, events in watched.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call on this system, or no real file
        return False
