"""load() and SpecVLM: a pair of models, ready to generate, stream and compare."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, final, overload
from weakref import WeakSet

import numpy as np
import torch
from torch import nn
from transformers import ProcessorMixin

from specvlm import pocket
from specvlm import video as videos
from specvlm.answering import request
from specvlm.answering.answer import Generation, answer, require_question, whole
from specvlm.answering.feature_cache import FeatureCache, Reading
from specvlm.answering.options import Options
from specvlm.answering.oracle import stock_answer
from specvlm.answering.pair import Draft, Pair, keep_one_tower
from specvlm.answering.stage import require_compile
from specvlm.answering.survey import Source, Survey, survey
from specvlm.comparing.compare import Comparison, compare
from specvlm.engine.stats import Stats
from specvlm.errors import PocketWarning
from specvlm.families import Family, PixelBudget
from specvlm.families.room.placement import Placement
from specvlm.prompts.prompt import Prompt
from specvlm.video.loading import load_before
from specvlm.video.sampling import Choose
from specvlm.video.screening.screening import Screening, Void
from specvlm.watching.watched import Watched

IN_MEMORY = (videos.Video, np.ndarray, torch.Tensor, list, tuple)
"""Frames that somebody has chosen already."""

POCKET = {"pocket": pocket.FAMILIES[0]} | {f"pocket-{family}": family for family in pocket.FAMILIES}
"""The embedded models, by the names that call for them."""


_TOLD: WeakSet[Family] = WeakSet()
"""Targets that were told of as toys."""

TOY = (
    "the embedded pocket pair is a toy that knows films of drawn shapes and nothing else: what it says of this video "
    "means nothing; name a real checkpoint as target"
)


def load(
    target: Source = "pocket",
    draft: Source | None = None,
    *,
    dtype: str | torch.dtype = "auto",
    device: str = "auto",
    device_map: str | dict | None = None,
    attn: str | None = None,
    processor: ProcessorMixin | None = None,
    compile: str = "auto",
    target_kwargs: Mapping[str, Any] | None = None,
    draft_kwargs: Mapping[str, Any] | None = None,
    context: int | None = None,
    feature_cache: FeatureCache | Path | str | None = None,
) -> SpecVLM:
    """Load a target and its draft.

    Each is a path, a Hub id or a model object of transformers, also one that peft gave adapters or torch.compile
    wrapped (an adapter's own folder is a path, too); `"pocket"` as target alone names the embedded pair, and
    `"pocket-qwen2_5_vl"` that of another family. Without a draft the target decodes by itself, through the same loop;
    with `draft="self"` it is its own draft, over a pruned copy of its own memory. Two vision towers with the same
    weights run once, and a draft that is loaded here gives up its copy.

    `device`: "auto" is the first GPU with room for both models, several GPUs where one hasn't enough, or else the CPU
    (`SpecVLM.placement` says which, and why); or a device such as "cuda:0" or "cpu". In its place `device_map` goes to
    `from_pretrained`. `dtype` ("auto": the checkpoint's, or float32 for an embedded model) and `attn` (the attention of
    stock `generate` and of the vision tower; decoding has its own) hold for both models, unless `target_kwargs` or
    `draft_kwargs` say otherwise: those take these three, and what else `from_pretrained` takes, such as `revision`,
    `token`, `max_memory` or `quantization_config` (also by name: "nf4", "int8", "float8"). `processor` is for model
    objects that came from no checkpoint. `compile`: what is done beforehand, so that rounds need less of Python:
    "graphs" (CUDA graphs), "inductor" (forwards are compiled too, in minutes, at the first answer), "none", or "auto":
    graphs on CUDA. `context`: so many tokens, of a prompt and its answer, must fit beside the weights. `feature_cache`:
    a folder that keeps what was decoded and seen for any later day (`FeatureCache` has its size); None: nothing is.

    No code that a checkpoint brings is run, unless `trust_remote_code` is among its keywords. Errors: ModelError for a
    checkpoint that can't be loaded, lacks weights or holds some that its model has no place for, isn't supported, can't
    fit into what is free, or doesn't fit its partner; OptionError.
    """
    return look(
        target,
        draft,
        dtype=dtype,
        device=device,
        device_map=device_map,
        attn=attn,
        processor=processor,
        compile=compile,
        target_kwargs=target_kwargs,
        draft_kwargs=draft_kwargs,
        context=context,
        feature_cache=feature_cache,
    ).load()


@final
@dataclass(frozen=True, eq=False)
class Outlook:
    """What `load` has found out about a pair before it reads a weight, ready to go on."""

    survey: Survey
    processor: ProcessorMixin | None
    compile: str
    may_free: bool
    """Whether the draft is ours, and may give up a tower that the target has too."""
    feature_cache: FeatureCache | None = None

    def load(self, on_model: Callable[[str], None] = lambda line: None) -> SpecVLM:
        """`on_model` is told in one line what is loaded next. Errors: ModelError, for what can't fit before anything is
        read; OptionError."""
        target, draft = self.survey.load(self.processor, on_model)
        if draft is None or draft == "self":
            return SpecVLM(target, draft, placement=self.survey.placement, feature_cache=self.feature_cache)
        vlm = SpecVLM(
            target,
            draft,
            compile=self.compile,
            placement=self.survey.placement,
            feature_cache=self.feature_cache,
        )
        if vlm.pair.one_tower and self.may_free:
            keep_one_tower(target, draft)
        return vlm


def look(
    target: Source = "pocket",
    draft: Source | None = None,
    *,
    dtype: str | torch.dtype = "auto",
    processor: ProcessorMixin | None = None,
    compile: str = "auto",
    feature_cache: FeatureCache | Path | str | None = None,
    **how: Any,
) -> Outlook:
    """What `load`, called with the same, finds out about a pair before it reads a weight: what it weighs, what is free
    here, and where it goes. Errors: as those of `load`, but for what can't fit."""
    if isinstance(target, str) and target in POCKET:
        draft = target if draft is None else draft
        dtype = "float32" if dtype == "auto" else dtype  # stored in half of that to be small, not to be fast
    require_compile(compile)  # before the models take their time
    features = FeatureCache.of(feature_cache)
    partner = draft if draft is None or draft == "self" else _locate(draft, "draft")
    found = survey(_locate(target, "target"), partner, dtype=dtype, processor=processor, **how)
    return Outlook(found, processor, compile, not isinstance(draft, nn.Module), features)


def _tell_of_the_toy(target: Family) -> None:
    """Say once of an embedded target that what is shown to it is none of its world (`PocketWarning`)."""
    if target not in _TOLD and pocket.is_embedded(target.name):
        _TOLD.add(target)
        warnings.warn(TOY, PocketWarning, stacklevel=2)


def _locate(source: Source, role: str) -> Source:
    return pocket.path(POCKET[source], role) if isinstance(source, str) and source in POCKET else source


class SpecVLM:
    """A target, a draft or none, and no state: any number of answers may be in flight, and none can see another."""

    def __init__(
        self,
        target: Family,
        draft: Draft = None,
        *,
        compile: str = "auto",
        placement: Placement | None = None,
        feature_cache: FeatureCache | None = None,
    ) -> None:
        """`compile` and `feature_cache` as in `load`; `placement` is where `load` has put the models, and why there.
        Errors: ModelError if the two can't work together; OptionError."""
        self.pair, self.placement, self.feature_cache = Pair.of(target, draft, compile), placement, feature_cache

    @property
    def target(self) -> Family:
        return self.pair.target

    @property
    def draft(self) -> Draft:
        return self.pair.draft

    @overload
    def generate(self, video: Any, question: str, options: Options | None = None, **overrides: Any) -> Generation: ...

    @overload
    def generate(
        self, video: Any, question: list[str] | tuple[str, ...], options: Options | None = None, **overrides: Any
    ) -> list[Generation]: ...

    def generate(
        self, video: Any, question: str | list[str] | tuple[str, ...], options: Options | None = None, **overrides: Any
    ) -> Generation | list[Generation]:
        """Answer a question about a video: the target's own tokens, sooner. A list of questions gets a list of answers:
        the video is decoded, seen and read once for all (`watch`), and each answer is as if it was asked alone.

        `video` is whatever `specvlm.video.load` takes, or None for text alone. `overrides` replace single `options`.
        Errors: OptionError, VideoError.
        """
        if not isinstance(question, (list, tuple)):
            return whole(self.stream(video, question, options, **overrides))
        options = Options.of(options, overrides)
        for each in question:
            require_question(each, options)
        watched = self.watch(video, options)
        return [watched.ask(each) for each in question]

    def stream(
        self, video: Any, question: str, options: Options | None = None, **overrides: Any
    ) -> Generator[str, None, Generation]:
        """`generate` as a generator of pieces of text, which join to the answer; its return value is the Generation.

        It may be closed at any time. Errors come with the first piece, not with the call.
        """
        options = Options.of(options, overrides)
        stats = request.start_clock(self.pair, options)
        if not self._comes_frame_by_frame(video, options):
            prompt = self.prepare(video, question, options, stats)
            return (yield from answer(self.pair, prompt, options, stats))
        require_question(question, options)
        load = partial(load_before, source=video, choose=self._rule(options), **options.reading)
        with Screening(load, on_work=partial(stats.draw, "decode_video")) as screening:
            try:
                prompt = self._prepare_screened(screening, question, options, stats)
                return (yield from answer(self.pair, prompt, options, stats))
            except Void as void:  # before the first token: it is said of the last frame at the latest
                video = void.video
        prompt = self._told(self._prepare_loaded([video], question, options, stats), stats)
        return (yield from answer(self.pair, prompt, options, stats))

    def autoregressive(self, video: Any, question: str, options: Options | None = None, **overrides: Any) -> Generation:
        """The target alone, by stock Hugging Face `generate`: the oracle, and the time to beat.

        Errors: OptionError, for whatever `generate` here refuses too; VideoError.
        """
        options, stats = Options.of(options, overrides), Stats(self.target.devices)
        return stock_answer(self.target, self.prepare(video, question, options, stats), options, stats)

    def watch(self, video: Any, options: Options | None = None, **overrides: Any) -> Watched:
        """A video that will be asked about more than once: the target decodes, sees and reads it for the first question
        alone.

        The options hold for every question that doesn't bring its own. Nothing is done yet, so that a video that can't
        be read is noticed by the first question. Errors: OptionError.
        """
        return Watched(self, video, Options.of(options, overrides))

    def load_video(self, source: Any, options: Options | None = None, **overrides: Any) -> videos.Video:
        """The frames of a video that the target would look at: as its own video processor chooses them.

        Frames that are in memory already are all taken, unless `num_frames` or `fps` say otherwise. `source_fps` gives
        a clock to pictures and arrays that have none; a source that has one is refused.
        Errors: OptionError, VideoError.
        """
        options = Options.of(options, overrides)
        rule = self._rule(options)
        if isinstance(source, IN_MEMORY) and options.num_frames is None and options.fps is None:
            clip = videos.load(source, source_fps=options.source_fps)
            patch_frames = getattr(self.target.video_processor, "temporal_patch_size", None) or 1
            too_short = len(clip.frames) < patch_frames
            return clip.sampled(rule) if too_short else clip  # the rule repeats what can't fill a temporal patch
        return videos.load(source, choose=rule, **options.reading)

    def once_chosen(self, options: Options) -> Options:
        """The options for asking about what `load_video` gave for these. Of the other videos the frames are chosen too.

        Errors: OptionError, VideoError.
        """
        more = tuple(self.load_video(source, options) for source in options.more_videos)
        return replace(options, num_frames=None, fps=None, source_fps=None, more_videos=more)

    def without_draft(self) -> SpecVLM:
        """The same target, decoding by itself."""
        return SpecVLM(self.target, feature_cache=self.feature_cache)

    def compare(
        self, video: Any, question: str, options: Options | None = None, *, repeats: int = 1, **overrides: Any
    ) -> Comparison:
        """Stock generate, plain speculation (ratio 0), SpecVLM, and SpecVLM planned, on one prompt. Those in the middle
        have trees of one shape, unless a plan is asked for. Errors: OptionError, VideoError."""
        return compare(self, video, question, Options.of(options, overrides), repeats=repeats)

    def prepare(self, video: Any, question: str, options: Options, stats: Stats) -> Prompt:
        """A question about a video, tokenised, with the pixels that it is about. Errors: OptionError, VideoError."""
        require_question(question, options)

        def read() -> Reading:
            return self._read(video, question, options, stats)

        cache = self.feature_cache
        read_so = read() if cache is None else cache.prepare(self.target, video, question, options, stats, read)
        return self._told(read_so, stats)

    def _told(self, reading: Reading, stats: Stats) -> Prompt:
        """What is to be said of the videos, said."""
        stats.damage = reading.damage
        if not reading.signed:
            _tell_of_the_toy(self.target)
        return reading.prompt

    def _read(self, video: Any, question: str, options: Options, stats: Stats) -> Reading:
        """From the sources themselves."""
        with stats.phase("decode_video"):
            sources = [source for source in (video, *options.more_videos) if source is not None]
            clips = [self.load_video(source, options) for source in sources]
        return self._prepare_loaded(clips, question, options, stats)

    def _prepare_loaded(self, clips: Sequence[videos.Clip], question: str, options: Options, stats: Stats) -> Reading:
        """A question about videos that are there, or all but their pixels."""
        with stats.phase("decode_video"):
            images = [videos.load_image(source) for source in options.images]
        with stats.phase("preprocess"):
            return prepared(self.target, clips, images, question, options)

    def _rule(self, options: Options) -> Choose:
        """The frames of a file that the target's own video processor would choose."""
        return self.target.sampling(num_frames=options.num_frames, fps=options.fps)

    def _comes_frame_by_frame(self, video: Any, options: Options) -> bool:
        """Whether frames are looked at while others are decoded: those of one video that isn't in memory, and that no
        cache may know."""
        is_alone = not (video is None or isinstance(video, IN_MEMORY) or options.more_videos)
        return is_alone and self.feature_cache is None and self.target.takes_frames_as_they_come

    def _prepare_screened(self, screening: Screening, question: str, options: Options, stats: Stats) -> Prompt:
        """A question about a video that is being decoded. Its pixels are made when the tower asks for them."""
        with stats.phase("decode_video", is_drawn=False):
            clip = screening.opening()
        prompt = self._told(self._prepare_loaded([clip], question, options, stats), stats)
        if isinstance(clip, videos.Video):
            return prompt
        frames = _waited_for(screening.frames(), stats)
        return self.target.arriving(prompt, frames, partial(stats.phase, "preprocess"))


def prepared(
    target: Family, clips: Sequence[videos.Clip], images: Sequence[Any], question: str, options: Options
) -> Reading:
    """What a family makes of videos and images that are there, and of a question about them. Errors: as those of
    `Family.prepare`."""
    prompt = target.prepare(
        clips,
        question,
        images=images,
        pixels=PixelBudget(options.min_pixels, options.max_pixels, options.total_pixels),
        system=options.system,
        history=options.history,
        lead=options.lead,
    )
    signed = not images and all(clip.comment == pocket.SIGNED for clip in clips)
    return Reading(prompt, signed, tuple(f"{clip.name}: {clip.damage}" for clip in clips if clip.damage))


def _waited_for(frames: Iterator[np.ndarray], stats: Stats) -> Iterator[np.ndarray]:
    """The same frames. Another thread decodes them, so that waiting is no work to be drawn."""
    end = object()
    while True:
        with stats.phase("decode_video", is_drawn=False):
            frame = next(frames, end)
        if frame is end:
            return
        assert isinstance(frame, np.ndarray)
        yield frame
