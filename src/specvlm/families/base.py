"""Family: the contract between the pipeline and one kind of Video-LLM."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

from specvlm.engine.decoder import Embeds
from specvlm.errors import ModelError, OptionError
from specvlm.families.decoder import HFDecoder
from specvlm.prompt import PositionPolicy, Prompt
from specvlm.video import Video

Turn = tuple[str, str]
"""A question about the video and its answer, from earlier in the conversation."""

Image = np.ndarray
"""`[H, W, 3]` uint8. (Not as a jaxtyping annotation: that would want all images of a prompt to be of one size.)"""


@dataclass(frozen=True)
class PixelBudget:
    """How large frames may be, as the Qwen processors know it; None: what the checkpoint's own processor says.

    `min_pixels` and `max_pixels` bound a frame (a whole video where the processor counts so), `total_pixels` a video.
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
    a part in. `states` are the family's own affair; `frame_ids` say which frames of the prompt they show, ascending."""

    frame_ids: Int[Tensor, " F"]
    states: tuple[Tensor, ...]


class Family(abc.ABC):
    """One loaded model of a family, with its processor. Holds no request's state and never changes the model."""

    model_type: ClassVar[str]
    positions: ClassVar[PositionPolicy]
    """Where a draft's kept tokens stand best, as measured on the pocket pair."""
    position_rows: ClassVar[int] = 1
    mask_by_layer_type: ClassVar[bool] = True

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
            model.model.language_model,
            model.lm_head,
            name,
            position_rows=self.position_rows,
            mask_by_layer_type=self.mask_by_layer_type,
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

    @abc.abstractmethod
    def prepare(
        self,
        videos: Sequence[Video],
        question: str,
        *,
        images: Sequence[Image] = (),
        pixels: PixelBudget = ANY_SIZE,
        system: str | None = None,
        history: Sequence[Turn] = (),
    ) -> Prompt:
        """Tokenise a question about videos and images, in the checkpoint's own chat template.

        They stand in front of the first question: videos, then images. Errors: OptionError, ModelError.
        """

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

    def _inputs(
        self,
        videos: Sequence[Video],
        images: Sequence[Image],
        question: str,
        system: str | None,
        history: Sequence[Turn],
        **kwargs: Any,
    ) -> Mapping[str, Any]:
        """Chat template and processor of the checkpoint: exactly what a user of transformers would write."""
        texts = [question, *(text for turn in history for text in turn), *([system] if system else [])]
        for token in (self.processor.video_token, self.processor.image_token):
            if any(token in text for text in texts):
                raise OptionError(
                    f"the text holds {token!r}, which is this model's place-holder for a video or image: reword it"
                )
        turns = [text for turn in history for text in turn] + [question]
        conversation: list[dict] = [_message("system", system)] if system else []
        conversation += [_message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(turns)]
        media = [{"type": "video"} for _ in videos] + [{"type": "image"} for _ in images]
        conversation[bool(system)]["content"][:0] = media
        text = self.processor.apply_chat_template(conversation, add_generation_prompt=True)
        if images:
            kwargs["images"] = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
        if videos:
            kwargs["videos"] = [torch.from_numpy(np.array(video.frames)).permute(0, 3, 1, 2) for video in videos]
        try:
            return self.processor(text=[text], do_sample_frames=False, return_tensors="pt", **kwargs)
        except ValueError as error:  # a picture that is 200 times as wide as high, say
            raise OptionError(f"the processor of {self.name} refuses this prompt: {error}") from error


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
