"""What a command is given, looked at before the models are loaded, which can take minutes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from specvlm.cli.screen import waiting

if TYPE_CHECKING:
    from specvlm.answering.options import Options


def opened(video: str) -> str | bytes:
    """What to look at: a path, or what comes on standard input."""
    return sys.stdin.buffer.read() if video == "-" else video


def look_at(source: str | bytes | None, options: Options, *questions: str, known: bool = False) -> None:
    """Errors: VideoError for what is no video or no picture, or has no clock for a rate; OptionError for what is no
    question. Clips that are `known` to be some aren't looked at."""
    with waiting("Looking for the video"):
        from specvlm import video

        for each in [] if known else [source, *options.more_videos]:
            if each is not None:
                video.load(each, fps=options.fps, max_frames=1, source_fps=options.source_fps)
        for each in [] if known else options.images:
            video.load_image(each)
        from specvlm.answering.answer import require_question  # behind the videos: it waits for transformers

        for question in questions:
            require_question(question)
