"""What a command is given, looked at before the models are loaded, which can take minutes."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from specvlm.cli.screen import waiting
from specvlm.errors import OptionError

if TYPE_CHECKING:
    from specvlm.answering.options import Options


MOST_BYTES = 2**30
"""Of a video on standard input, which is held in memory."""
LONGEST = 2**20
"""Characters of a line of standard input."""
PIECE = 2**20


def opened(video: str) -> str | bytes:
    """What to look at: a path, or what comes on standard input. Errors: OptionError if that doesn't end in time."""
    if video != "-":
        return video
    read, source = io.BytesIO(), standard_input().buffer
    while piece := source.read(PIECE):
        read.write(piece)
        if read.tell() > MOST_BYTES:
            raise OptionError(f"the video on standard input has more than {MOST_BYTES >> 20} MiB: give it as a file")
    return read.getvalue()


def typed_lines() -> Iterator[str]:
    """The lines of standard input. What is no UTF-8 in them is there as halves of letters, which are told of where they
    are used. Errors: OptionError for a line without an end."""
    source = standard_input()
    if isinstance(source, io.TextIOWrapper):
        source.reconfigure(errors="surrogateescape")
    while line := source.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise OptionError(f"a line of standard input has more than {LONGEST} characters: a question is one line")
        yield line


def standard_input() -> TextIO:
    """Errors: OptionError if it is closed."""
    if sys.stdin is None:
        raise OptionError("standard input is closed: there is nothing to read")
    return sys.stdin


def look_at(source: str | bytes | None, options: Options, *questions: str, known: bool = False) -> None:
    """Errors: VideoError for what is no video or no picture, or has no clock for a rate; OptionError for what is no
    question. Clips that are `known` to be some aren't looked at."""
    with waiting("Looking for the video"):
        from specvlm import video
        from specvlm.video.backends import require_backend

        require_backend(options.video_backend)
        for each in [] if known else [source, *options.more_videos]:
            if each is not None:
                video.load(each, fps=options.fps, max_frames=1, source_fps=options.source_fps)
        for each in [] if known else options.images:
            video.load_image(each)
        from specvlm.answering.answer import require_question  # behind the videos: it waits for transformers

        for question in questions:
            require_question(question)
