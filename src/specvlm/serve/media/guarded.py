"""Guarded: a pair of models that looks at what strangers send, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from specvlm import pocket
from specvlm.answering import request
from specvlm.answering.answer import Generation, answer, whole
from specvlm.answering.feature_cache import FeatureCache, Reading
from specvlm.answering.options import Options
from specvlm.answering.oracle import stock_answer
from specvlm.answering.pair import Draft, Pair
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError, VideoError
from specvlm.families import Family
from specvlm.pipeline import TOY, SpecVLM, prepared
from specvlm.prompts.prompt import Prompt
from specvlm.serve.media.decoding import Decoder
from specvlm.serve.media.sources import Clip, Sources
from specvlm.serve.settings import Settings
from specvlm.serve.turn import check
from specvlm.video import Video
from specvlm.video.sampling import Choose, Timeline

REMEMBERED = 4096
"""Videos of which it is remembered whether the embedded pair knows their world."""


@final
class Guarded:
    """`SpecVLM`, whose videos are `Clip`s: they are decoded here, and no more of them than the settings allow."""

    def __init__(self, vlm: SpecVLM, sources: Sources, decoder: Decoder, settings: Settings) -> None:
        self.vlm, self._sources, self._decoder, self._settings = vlm, sources, decoder, settings
        self._is_toy = pocket.is_embedded(vlm.target.name)
        self._strange: dict[str, bool] = {}

    @property
    def pair(self) -> Pair:
        return self.vlm.pair

    @property
    def target(self) -> Family:
        return self.vlm.target

    @property
    def draft(self) -> Draft:
        return self.vlm.draft

    def prepare(self, video: Any, question: str, options: Options, stats: Stats) -> Prompt:
        """As `SpecVLM.prepare`. Errors: OptionError, VideoError; RefusedError and GoneError, between its steps."""
        check()
        clips = [clip for clip in (video, *options.more_videos, *options.images) if clip is not None]
        read = partial(self._read, video, question, options, stats)
        # A cache knows what options say of frames; a part's own bound isn't among them.
        if self.vlm.feature_cache is None or any(clip.max_frames is not None for clip in clips):
            reading = read()
        else:
            reading = self._recalled(self.vlm.feature_cache, clips, question, options, stats, read)
            for clip in clips if self._is_toy else ():
                self._strange.setdefault(clip.key, not reading.signed)
        self._require_short(reading.prompt.num_tokens, "ask about fewer or smaller frames")
        check()
        stats.damage = reading.damage
        return reading.prompt

    def _recalled(
        self,
        cache: FeatureCache,
        clips: Sequence[Clip],
        question: str,
        options: Options,
        stats: Stats,
        read: Callable[[], Reading],
    ) -> Reading:
        """What a cache knows of clips by what was sent, or else what `read` makes of them."""
        sent = [self._sources[clip.key] for clip in clips]
        last = len(sent) - len(options.images)
        images = tuple(each[0] if isinstance(each, tuple) else each for each in sent[last:])
        told = replace(options, more_videos=tuple(sent[1:last]), images=images)
        return cache.prepare(self.target, sent[0] if last else None, question, told, stats, read)

    def _read(self, video: Clip | None, question: str, options: Options, stats: Stats) -> Reading:
        """From the sources themselves."""
        with stats.phase("decode_video"):
            clips = [self._load(clip, options) for clip in (video, *options.more_videos) if clip is not None]
            images = [self._image(clip) for clip in options.images]
        check()
        with stats.phase("preprocess"):
            return prepared(self.target, clips, images, question, options)

    def look(self, clip: Clip, question: str, options: Options) -> tuple[Video, Prompt]:
        """A video as the target looks at it, with the prompt of a question about it. Errors: as `prepare`."""
        check()
        video = self._load(clip, options)
        check()
        prompt = prepared(self.target, [video], [], question, replace(options, system=None, history=(), lead=())).prompt
        self._require_short(prompt.num_tokens, "ask about fewer or smaller frames")
        return video, prompt

    def require_short(self, *texts: str) -> None:
        """Errors: OptionError, for more text than a prompt may have; before it is known whether a video is."""
        tokens = sum(len(self.target.tokenizer(text)["input_ids"]) for text in texts)
        self._require_short(tokens, "ask about less text")

    def _require_short(self, num_tokens: int, instead: str) -> None:
        most = self._settings.max_prompt_tokens
        if num_tokens > most:
            raise OptionError(f"the prompt has {num_tokens} tokens, and {most} are allowed here: {instead}")

    def warning(self, *clips: Clip) -> str | None:
        """What is to be said of an answer about these, once they were decoded."""
        return TOY if self._is_toy and any(self._strange.get(clip.key, clip.is_image) for clip in clips) else None

    def generate(self, video: Any, question: str, options: Options) -> Generation:
        stats = request.start_clock(self.pair, options)
        return whole(answer(self.pair, self.prepare(video, question, options, stats), options, stats))

    def autoregressive(self, video: Any, question: str, options: Options) -> Generation:
        stats = Stats(self.target.devices)
        return stock_answer(self.target, self.prepare(video, question, options, stats), options, stats)

    def without_draft(self) -> Guarded:
        return Guarded(self.vlm.without_draft(), self._sources, self._decoder, self._settings)

    def _load(self, clip: Clip, options: Options) -> Video:
        rule = self.target.sampling(num_frames=options.num_frames, fps=options.fps, max_frames=clip.max_frames)
        video = self._decoder.video(self._sources[clip.key], self._bounded(rule), options.reading)
        self._remember(clip, video)
        return video

    def _image(self, clip: Clip) -> Any:
        return self._decoder.image(self._sources[clip.key])

    def _bounded(self, rule: Choose) -> Choose:
        def choose(timeline: Timeline) -> Int64[np.ndarray, " chosen"]:
            most = self._settings.max_video_seconds
            if timeline.duration is not None and timeline.duration > most:
                raise VideoError(f"the video lasts {timeline.duration:.0f} seconds, and {most:g} are allowed here")
            chosen = rule(timeline)
            if len(chosen) > self._settings.max_frames:
                raise OptionError(
                    f"{len(chosen)} frames are asked for, and {self._settings.max_frames} are allowed here"
                )
            return chosen

        return choose

    def _remember(self, clip: Clip, video: Video) -> None:
        if self._is_toy:
            self._strange.pop(clip.key, None)
            self._strange[clip.key] = video.comment != pocket.SIGNED
            while len(self._strange) > REMEMBERED:
                self._strange.pop(next(iter(self._strange)))
