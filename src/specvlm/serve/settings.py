"""Settings: what a server lets in, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from specvlm.errors import OptionError

MIB = 2**20
Seconds = float | int


def called(target: str) -> str:
    """What clients call a model, if nobody says otherwise."""
    return target.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one server does and doesn't do. Errors: OptionError, for a bound that lets nothing in."""

    name: str = "specvlm"
    """What the pair is called in `/v1/models`, and in requests."""
    api_key: str | None = None
    """What clients have to know; None: nothing."""
    allowed_media_path: Path | None = None
    """The folder that `file://` addresses may name files in; None: there are none."""
    allowed_media_domains: tuple[str, ...] = ()
    """The hosts that videos are fetched from; none: any that has a public address."""
    allowed_origins: tuple[str, ...] = ()
    """Pages of other sites that may ask from a browser (CORS); none: none."""
    fetch: bool = True
    """Whether anything is fetched at all."""

    parallel: int = 1
    """Answers that are made at once."""
    max_waiting: int = 64
    """Requests that wait for their turn; more are told to come back."""
    max_body_bytes: int = 192 * MIB
    """Of one request; of all that are held at once, `max_held_bytes`."""
    max_held_bytes: int = 1024 * MIB
    body_seconds: Seconds = 60.0
    """How long a client may take to send a request."""
    request_seconds: Seconds = 300.0
    """From the request to the last token of its answer."""

    max_video_bytes: int = 128 * MIB
    max_video_seconds: Seconds = 3600.0
    """How long a video may last."""
    max_frames: int = 256
    """Frames that are looked at, of all videos and images of a request."""
    max_frame_pixels: int = 4096 * 2304
    max_pixels: int = 2**27
    """Of all frames that are looked at: 64 in full HD."""
    decode_seconds: Seconds = 60.0
    """How long it may take to decode a video."""
    fetch_seconds: Seconds = 30.0
    max_redirects: int = 3
    max_videos: int = 8
    """Videos and images of a request, and addresses of frames in a list: `max_frames`."""

    max_prompt_tokens: int = 32768
    max_question_bytes: int = 256 * 1024
    """Of all text in a conversation."""
    max_new_tokens: int = 4096
    default_new_tokens: int = 512

    memory_bytes: int = 1024 * MIB
    """Of what is kept of videos, to answer the next question about them: what was seen and what was read."""
    source_bytes: int = 512 * MIB
    """Of videos as they were sent, for questions that name them by `uuid`."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
                raise OptionError(f"{name} must be 0 or more, not {value}")
        for name in ("parallel", "max_frames", "max_new_tokens", "default_new_tokens"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.api_key is not None and not self.api_key.strip():
            raise OptionError("the API key is empty: leave it out, or give one")
        if self.allowed_media_path is not None and not self.allowed_media_path.is_dir():
            raise OptionError(f"allowed_media_path is no folder: {self.allowed_media_path}")
