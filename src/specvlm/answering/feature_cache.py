"""FeatureCache: videos that were decoded and seen once need not be again, on any other day."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

from torch import Tensor

from specvlm.answering.options import Options
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError, VideoError, brief
from specvlm.families import Family
from specvlm.families.kept.circumstances import of_preparing
from specvlm.prompts.album import Album, Late, LateInputs
from specvlm.prompts.disk import Disk, UnbelievableError, key
from specvlm.prompts.prompt import Prompt
from specvlm.video.files.addresses import at_home
from specvlm.video.identity import content, identity

CHOOSING = ("num_frames", "fps", "source_fps", "video_backend", "min_pixels", "max_pixels", "total_pixels")
"""Options that say which frames are looked at, and how large."""

DEFAULT_GB = 20.0

PREPARED = {"what": "prepared"}
"""The entry of a prompt as its processor made it."""

PIXELS = "pixel_values"
"""What a processor calls what the tower reads: most of an entry, and looked at by nobody who knows the features."""

NAMED = 16
"""Digits that name what clips hold."""


@final
@dataclass(frozen=True)
class Reading:
    """A prompt, and what is to be told of the videos that it was made of."""

    prompt: Prompt
    signed: bool
    """Whether all of it is of the pocket world."""
    damage: tuple[str, ...] = ()
    """What was found missing in them, a line each."""


@final
@dataclass(frozen=True)
class FeatureCache:
    """A folder that keeps what processors and vision towers made of videos and images: `max_gb` (of 10^9 bytes) at
    most, of which what was used least recently goes first. Any number of processes may share it.

    An entry is used where all is the same that its numbers hang on: what the video holds (not where it is, or how it
    is called), which frames and pixels were chosen, the processor, the tower's weights, dtype and device, threads, and
    the versions of all packages with a part in it. Whatever isn't whole is removed, and made again.

    Errors: OptionError for a folder that can't be made or written to, or for no room.
    """

    folder: Path | str
    max_gb: float = DEFAULT_GB
    _read: dict[Hashable, str] = field(default_factory=dict, repr=False, compare=False)
    """What files held that this process has hashed."""

    def __post_init__(self) -> None:
        if not self.max_gb > 0:
            raise OptionError(f"a feature cache must have room for more than {self.max_gb:g} GB")
        folder = at_home(self.folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OptionError(f"{brief(folder)} can't hold a feature cache: {error.strerror}; name another") from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OptionError(
                f"{brief(folder)} can't hold a feature cache: it can't be written to; name another folder"
            )
        object.__setattr__(self, "folder", folder)

    @classmethod
    def of(cls, given: FeatureCache | Path | str | None) -> FeatureCache | None:
        """Errors: OptionError."""
        return given if given is None or isinstance(given, FeatureCache) else cls(given)

    @property
    def disk(self) -> Disk:
        return Disk(Path(self.folder), int(self.max_gb * 1e9))

    def knows(self, video: Any, options: Options) -> bool:
        """Whether these clips were prepared before, for whatever model: then they can be read."""
        contents = self._contents(_sources(video, options))
        return contents is not None and self.disk.knows(f"{key(contents, NAMED)}-")

    def prepare(
        self, target: Family, video: Any, question: str, options: Options, stats: Stats, read: Callable[[], Reading]
    ) -> Reading:
        """What `read` makes of a question about a video and of all others among the options: without it, as far as they
        were prepared before. Pixels are fetched from the disk when somebody looks at them, or made by `read` if they
        aren't whole there.

        Errors: those of `read`; VideoError for a video that has changed before its pixels were looked at.
        """
        sources = _sources(video, options)
        stamps = _stamps(sources)
        with stats.phase("decode_video"):
            album = self._album(target, sources, options)
        if album is None:
            return read()
        with stats.phase("preprocess"):
            known = self._known(album, target, sources, question, options, read)
        if known is not None:
            return known
        made = read()
        if _stamps(sources) != stamps:  # what was decoded may not be what was hashed
            return made
        told = {"text": made.prompt.text, "signed": made.signed, "damage": list(made.damage)}
        album.keep(PREPARED, made.prompt.model_inputs, **told)
        return replace(made, prompt=replace(made.prompt, album=album))

    def _known(
        self,
        album: Album,
        target: Family,
        sources: Sequence[Any],
        question: str,
        options: Options,
        read: Callable[[], Reading],
    ) -> Reading | None:
        entry = album.recall(PREPARED)
        if entry is None:
            return None
        try:
            at_hand = {name: entry.tensor(name) for name in entry.shapes if not name.startswith(PIXELS)}
        except UnbelievableError:
            return None
        shapes = {name: shape for name, shape in entry.shapes.items() if name.startswith(PIXELS)}

        def fetch() -> dict[str, Tensor]:
            try:
                return {name: entry.tensor(name) for name in shapes}
            except UnbelievableError:
                made = read().prompt.model_inputs
            if self._album(target, sources, options) != album:
                raise VideoError("the video has changed since it was asked about: ask again")
            return {name: made[name] for name in shapes}

        late = Late(shapes, fetch)
        before = target.prompt_from_inputs(at_hand | late.stand_ins())
        before = replace(before, model_inputs=LateInputs(at_hand, late), text=entry.told["text"], album=album)
        prompt = target.reworded(before, question, system=options.system, history=options.history, lead=options.lead)
        return None if prompt is None else Reading(prompt, entry.told["signed"], tuple(entry.told["damage"]))

    def _album(self, target: Family, sources: Sequence[Any], options: Options) -> Album | None:
        """None for sources that can't be told by what they hold."""
        contents = self._contents(sources)
        if contents is None:
            return None
        chosen = {name: repr(getattr(options, name)) for name in CHOOSING}
        facts = [contents, len(options.images), chosen, of_preparing(target)]
        return Album(self.disk, key(contents, NAMED), key(facts))

    def _contents(self, sources: Sequence[Any]) -> list[str] | None:
        found = [self._content(source) for source in sources]
        return [each for each in found if each is not None] if found and None not in found else None

    def _content(self, source: Any) -> str | None:
        """Files aren't read again by this process as long as their sizes and times of change stay."""
        if not isinstance(source, (str, os.PathLike)):
            return content(source)
        stamp = identity(source)
        if (found := self._read.get(stamp)) is None:
            found = content(source)
            if found is not None and identity(source) == stamp:
                self._read[stamp] = found
        return found


def _sources(video: Any, options: Options) -> list[Any]:
    """All clips, in the order of the prompt."""
    return [source for source in (video, *options.more_videos, *options.images) if source is not None]


def _stamps(sources: Sequence[Any]) -> list[Hashable]:
    """What files among them look like from outside."""
    return [identity(source) for source in sources if isinstance(source, (str, os.PathLike))]
