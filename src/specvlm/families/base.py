"""Family: the contract between the pipeline and one kind of Video-LLM."""

from __future__ import annotations

import abc
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

from specvlm.engine.decoder import Embeds
from specvlm.errors import ModelError, OptionError, brief
from specvlm.families.checks.length import require_fitting
from specvlm.families.decoder import HFDecoder
from specvlm.families.pixels import batches, frame_by_frame, unfilled
from specvlm.prompts.album import late_as, stood_in
from specvlm.prompts.arriving import Arriving
from specvlm.prompts.lead import Lead, parts, says_something
from specvlm.prompts.policy import PositionPolicy
from specvlm.prompts.prompt import Prompt
from specvlm.video import Clip
from specvlm.video.processor_sampling import clocked_sampling, processor_sampling
from specvlm.video.sampling import Choose, Rate

Turn = tuple[str, str]
"""A question about the video and its answer, from earlier in the conversation."""

Image = np.ndarray
"""`[H, W, 3]` uint8. (Not as a jaxtyping annotation: that would want all images of a prompt to be of one size.)"""


@dataclass(frozen=True)
class PixelBudget:
    """How large frames may be, as the Qwen processors know it; None: what the checkpoint's own processor says.

    `min_pixels` and `max_pixels` bound a frame (a whole video where the processor counts so), `total_pixels` a video.
    Each of several videos has it to itself.
    """

    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None

    def given(self) -> dict[str, int]:
        return {name: value for name, value in vars(self).items() if value is not None}


ANY_SIZE = PixelBudget()


@dataclass(frozen=True, eq=False)
class Seen:
    """What a vision tower made of some frames: as far as possible before anything that the language model's width plays
    a part in. `states` are the family's own affair, but for this: each has `sizes[i]` rows for the frame `frame_ids[i]`
    of the prompt, one frame behind the other, ascending."""

    frame_ids: Int[Tensor, " F"]
    states: tuple[Tensor, ...]
    sizes: Int[Tensor, " F"]

    def joined(self, other: Seen) -> Seen:
        """This and what was seen of other frames."""
        if not len(self.frame_ids) or not len(other.frame_ids):
            return self if len(self.frame_ids) else other
        frame_ids, order = torch.cat([self.frame_ids, other.frame_ids]).sort()
        states = []
        for mine, theirs in zip(self.states, other.states, strict=True):
            pieces = [*mine.split(self.sizes.tolist()), *theirs.split(other.sizes.tolist())]
            states.append(torch.cat([pieces[place] for place in order.tolist()]))
        return Seen(frame_ids, tuple(states), torch.cat([self.sizes, other.sizes])[order])


TEXT = {"attention_mask": 1, "mm_token_type_ids": 0}
"""What processors say of each token of text, beside its id."""


@dataclass(frozen=True, eq=False)
class Around:
    """The text of a prompt: tokens in front of its first clip and behind its last, and all that stands between."""

    before: Int[Tensor, " b"]
    between: str
    after: Int[Tensor, " a"]


class Family(abc.ABC):
    """One loaded model of a family, with its processor. Holds no request's state and never changes the model."""

    model_type: ClassVar[str]
    positions: ClassVar[PositionPolicy]
    """Where a draft's kept tokens stand best, as measured on the pocket pair."""
    position_rows: ClassVar[int] = 1
    mask_by_layer_type: ClassVar[bool] = True
    heeds: ClassVar[Collection[str] | None] = None
    """The options of sampling that its video processor heeds, if that goes by the clock, whatever is asked for."""
    text_part: ClassVar[str] = "language_model"
    """What the model calls its language model."""
    taken_apart: ClassVar[Collection[str]] = ()
    """Parts of `model.model` that are called, but whose output isn't taken as `generate` takes it."""

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin | None, name: str) -> None:
        """Without a processor it takes prompts that are tokenised already (`prompt_from_inputs`), and makes none.

        Errors: ModelError for a model or processor that lacks what answering takes.
        """
        if not hasattr(model, "lm_head"):
            raise ModelError(f"{name} is a {type(model).__name__}, which has no output head: load the whole model")
        if processor is not None and processor.chat_template is None:
            raise ModelError(f"{name}: its processor has no chat template, and so can't put a question")
        self.model, self.name, self._processor = model, name, processor
        self.decoder = HFDecoder(
            model,
            name,
            position_rows=self.position_rows,
            mask_by_layer_type=self.mask_by_layer_type,
            text_part=self.text_part,
        )
        # Refuses by name a model whose layers can't be rolled back, before any work is done.
        self.decoder.new_cache(0)

    @property
    def processor(self) -> Any:  # what it offers beside the base class differs from family to family
        """Errors: ModelError if the family was made without one."""
        if self._processor is None:
            raise ModelError(f"{self.name} came without a processor: it only takes prompts that are tokenised already")
        return self._processor

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Where it works: where its weights are."""
        weights = [weight.device for weight in self.model.parameters()]
        there = tuple(device for device in dict.fromkeys(weights) if device.type != "meta")  # such wait elsewhere
        return there or (self.decoder.device,)

    @property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self.processor.tokenizer

    @property
    def video_processor(self) -> Any:
        """The part of the processor that chooses and prepares frames."""
        return self.processor.video_processor

    @property
    def vocab_size(self) -> int:
        """Ids below this one mean something: published checkpoints pad their embedding with rows that mean nothing."""
        size = self.decoder.vocab_size
        return size if self._processor is None else min(size, max(self.tokenizer.get_vocab().values()) + 1)

    def sampling(
        self, *, num_frames: int | None = None, fps: Rate | None = None, max_frames: int | None = None
    ) -> Choose:
        """Which frames of a video the checkpoint's own processor would look at (`video.processor_sampling`).

        Errors: OptionError, also for an option that the processor doesn't heed.
        """
        if self.heeds is not None:
            return clocked_sampling(
                self.video_processor, self.heeds, num_frames=num_frames, fps=fps, max_frames=max_frames
            )
        return processor_sampling(self.video_processor, num_frames=num_frames, fps=fps, max_frames=max_frames)

    @abc.abstractmethod
    def prepare(
        self,
        videos: Sequence[Clip],
        question: str,
        *,
        images: Sequence[Image] = (),
        pixels: PixelBudget = ANY_SIZE,
        system: str | None = None,
        history: Sequence[Turn] = (),
        lead: Lead = (),
    ) -> Prompt:
        """Tokenise a question about videos and images, in the checkpoint's own chat template.

        They stand in front of the first question: videos, then images, or as `lead` has them, with text before and
        between them. Of a reel, whose frames are still to come, the
        prompt's pixels have no values: see `arriving`. Errors: OptionError, ModelError.
        """

    @property
    def takes_frames_as_they_come(self) -> bool:
        """Whether its processor prepares each frame, or each pair of them, by itself."""
        return frame_by_frame(self.video_processor)

    def arriving(
        self,
        prompt: Prompt,
        frames: Iterator[Image],
        timed: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> Prompt:
        """A prompt about one reel with its pixels, made of the `frames` in batches as they are asked for, each within a
        context if that is to be `timed`. For a family that `takes_frames_as_they_come`."""
        name = "pixel_values_videos"
        inputs = dict(prompt.model_inputs)
        rows, height, width = self._pixel_rows(inputs)
        made = batches(self.video_processor, frames, height, width, timed)
        return replace(prompt, model_inputs=Arriving(inputs, name, rows, made))

    def _pixel_rows(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, int, int]:
        """The pixels of a prompt's only video, row by row as batches of frames fill them, and how high and wide its
        frames are by then. Errors: ModelError for a family whose processor wants all frames at once."""
        raise ModelError(f"the processor of {self.name} prepares whole videos, and no frames of one")

    def reworded(
        self,
        prompt: Prompt,
        question: str,
        *,
        system: str | None = None,
        history: Sequence[Turn] = (),
        lead: Lead = (),
    ) -> Prompt | None:
        """What `prepare` would make of another question about the same videos and images, without touching a frame.

        Only the text in front of the first of them and behind the last is tokenised. None where that could differ
        from tokenising the whole: a tokenizer that joins text and clips, or a `prompt` that `prepare` didn't make.
        Errors: OptionError.
        """
        if prompt.text is None:
            return None
        num_videos, num_images = (prompt.text.count(token) for token in self._place_holders)
        text = self._text(num_videos, num_images, question, system, history, lead)
        if num_videos + num_images == 0:
            return self.prepare((), question, system=system, history=history, lead=lead)
        old, new = self._around(prompt.text), self._around(text)
        ids = prompt.model_inputs["input_ids"][0]
        start, end = len(old.before), len(ids) - len(old.after)
        if new.between != old.between or not torch.equal(torch.cat([old.before, ids[start:end], old.after]), ids):
            return None
        # Tokenizers cut a text at their added tokens before they do anything else, and each piece is a world by itself.
        cuts = self.tokenizer.added_tokens_decoder.keys()
        if any(cuts.isdisjoint(ids[max(0, seam - 1) : seam + 1].tolist()) for seam in (start, end)):
            return None
        inputs = stood_in(prompt.model_inputs)
        inputs["input_ids"] = torch.cat([new.before, ids[start:end], new.after])[None]
        for name in inputs.keys() & TEXT.keys():
            middle = inputs[name][:, start:end]
            inputs[name] = nn.functional.pad(middle, (len(new.before), len(new.after)), value=TEXT[name])
        other = self.prompt_from_inputs(inputs)
        inputs = late_as(prompt.model_inputs, other.model_inputs)
        return replace(other, model_inputs=inputs, text=text, album=prompt.album)

    @abc.abstractmethod
    def prompt_from_inputs(self, inputs: Mapping[str, Tensor]) -> Prompt:
        """The Prompt of what the model's own processor returned (batch of one)."""

    @abc.abstractmethod
    def see(self, prompt: Prompt) -> Seen:
        """Run the vision tower over the frames that the prompt still mentions."""

    @abc.abstractmethod
    def embed(self, prompt: Prompt, seen: Seen) -> Embeds:
        """What the language model reads of the prompt. `seen` may come from a model with the same tower, and hold more
        frames than the prompt mentions."""

    @property
    @abc.abstractmethod
    def tower(self) -> Sequence[nn.Module]:
        """What `see` runs: two models whose towers have equal weights can use each other's `Seen`."""

    @property
    @abc.abstractmethod
    def layout(self) -> Mapping[str, object]:
        """What decides how many tokens a video becomes and what they look like; a pair must agree on it."""

    def as_found(self) -> AbstractContextManager[None]:
        """Around calls of stock `generate`: what those leave on the model is put back."""
        return _restored(self.model.model, "rope_deltas") if hasattr(self.model.model, "rope_deltas") else nullcontext()

    def _prompt(
        self,
        videos: Sequence[Clip],
        images: Sequence[Image],
        question: str,
        system: str | None,
        history: Sequence[Turn],
        lead: Lead,
        processor: Any = None,
        **kwargs: Any,
    ) -> Prompt:
        """Chat template and processor of the checkpoint: exactly what a user of transformers would write.

        `processor` may be another one to ask in its place.
        """
        processor = self.processor if processor is None else processor
        text = self._text(len(videos), len(images), question, system, history, lead)
        if images:
            kwargs["images"] = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
        if videos:
            kwargs["videos"] = [video.tensor() for video in videos]
        try:
            inputs = processor(text=[text], do_sample_frames=False, return_tensors="pt", **kwargs)
            inputs = unfilled(inputs, pinned=any(device.type == "cuda" for device in self.devices))
        except ValueError as error:  # a picture that is 200 times as wide as high, say
            raise OptionError(f"the processor of {self.name} refuses this prompt: {brief(error, 500)}") from error
        except (TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
            said = f"{type(error).__name__}: {brief(error, 500)}"
            raise ModelError(
                f"the processor of {self.name} fails at this prompt, its files are damaged: {said}"
            ) from error
        return replace(self.prompt_from_inputs(inputs), text=text)

    @property
    def _place_holders(self) -> tuple[str, str]:
        """What stands for a video, and for an image, until the processor has counted their tokens."""
        return self.processor.video_token, self.processor.image_token

    def _text(
        self, num_videos: int, num_images: int, question: str, system: str | None, history: Sequence[Turn], lead: Lead
    ) -> str:
        """The conversation in the checkpoint's own chat template. Errors: OptionError."""
        texts = [question, *(text for turn in history for text in turn), *([] if system is None else [system])]
        texts += [each for each in lead if isinstance(each, str)]
        for token in self._place_holders:
            if any(token in text for text in texts):
                raise OptionError(
                    f"the text holds {token!r}, which is this model's place-holder for a video or image: reword it"
                )
        require_fitting(texts, self.tokenizer, self.model.config.get_text_config(), self.name)
        turns = [text for turn in history for text in turn] + [question]
        spoken = [_message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(turns)]
        if not turns[0] and says_something(lead):
            spoken[0]["content"] = []  # an empty text is none, where some templates begin a line for each
        spoken[0]["content"][:0] = parts(lead, num_videos, num_images)
        # An empty system prompt is one: many templates put a default where there is none.
        before = [] if system is None else [_message("system", system)]
        try:
            return self.processor.apply_chat_template(before + spoken, add_generation_prompt=True)
        except Exception as error:  # a template is code, and may end in any way
            said = brief(error, 500) or type(error).__name__
            raise ModelError(f"{self.name}: its chat template can't put this question: {said}") from error

    def _around(self, text: str) -> Around:
        """The tokens of what stands around the place-holders of a text that has some."""
        places = list(re.finditer("|".join(map(re.escape, self._place_holders)), text))
        first, last = places[0], places[-1]
        # Tokenised with the place-holder at their side, where some tokenizers strip blanks or add one.
        before = self.tokenizer(text[: first.end()])["input_ids"][:-1]
        after = self.tokenizer(text[last.start() :], add_special_tokens=False)["input_ids"][1:]
        return Around(
            before=torch.tensor(before, dtype=torch.long),
            between=text[first.start() : last.end()],
            after=torch.tensor(after, dtype=torch.long),
        )


def _message(role: str, text: str) -> dict:
    return {"role": role, "content": [{"type": "text", "text": text}]}


@contextmanager
def _restored(owner: Any, name: str) -> Iterator[None]:
    value = getattr(owner, name)
    try:
        yield
    finally:
        setattr(owner, name, value)


def plain(value: Any) -> object:
    """A processor's setting as something that compares by value."""
    if isinstance(value, (list, tuple)):
        return tuple(value)
    return dict(value) if hasattr(value, "keys") else value
