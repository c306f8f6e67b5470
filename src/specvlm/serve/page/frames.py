"""What a model looks at, as a browser shows it: frames, and which video tokens lie on each."""

from __future__ import annotations

from typing import Any

from specvlm.explain.page import picture
from specvlm.explain.places import sights
from specvlm.serve.turn import Seen

WIDTH = 192
"""Most pixels across a frame: some 6 kB each."""


def shown(seen: Seen) -> dict[str, Any]:
    """Frames in order: each a data URL, when it begins, and the video tokens on it, as rows of their numbers."""
    frames = [
        {"picture": picture(sight.frames[0], WIDTH), "seconds": sight.seconds, "tokens": sight.tokens.tolist()}
        for sight in sights(seen.video, seen.prompt)
    ]
    return {"num_tokens": seen.prompt.num_video_tokens, "frames": frames, "warning": seen.warning}
