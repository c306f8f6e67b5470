"""Family: the contract between the pipeline and one kind of Video-LLM."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, ProcessorMixin

from specvlm.errors import ModelError, OptionError
from specvlm.families.decoder import HFDecoder
from specvlm.prompt import Prompt
from specvlm.video import Video

Turn = tuple[str, str]
"""A question about the video and its answer, from earlier in the conversation."""


class Family(abc.ABC):
    """One loaded model of a family, with its processor. Holds no request's state and never changes the model."""

    model_type: ClassVar[str]

    def __init__(self, model: PreTrainedModel, processor: ProcessorMixin | None, name: str) -> None:
        """Without a processor it takes prompts that are tokenised already (`prompt_from_inputs`), and makes none.

        Errors: ModelError for a model or processor that lacks what answering takes.
        """
        if not hasattr(model, "lm_head"):
            raise ModelError(f"{name} is a {type(model).__name__}, which has no output head: load the whole model")
        if processor is not None and processor.chat_template is None:
            raise ModelError(f"{name}: its processor has no chat template, and so can't put a question")
        self.model, self.name, self._processor = model, name, processor
        self.decoder = HFDecoder(model.model.language_model, model.lm_head, name)
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

    @abc.abstractmethod
    def prepare(
        self, video: Video | None, question: str, *, system: str | None = None, history: Sequence[Turn] = ()
    ) -> Prompt:
        """Tokenise a question about a video, in the checkpoint's own chat template. Errors: OptionError, ModelError."""

    @abc.abstractmethod
    def prompt_from_inputs(self, inputs: Mapping[str, Tensor]) -> Prompt:
        """The Prompt of what the model's own processor returned (batch of one)."""

    @abc.abstractmethod
    def embed(self, prompt: Prompt) -> Float[Tensor, "L D"]:
        """Embeddings of the prompt, video tokens included; runs the vision tower over the frames that it mentions."""

    @property
    @abc.abstractmethod
    def layout(self) -> Mapping[str, object]:
        """What decides how many tokens a video becomes and what they look like; a pair must agree on it."""

    def _inputs(
        self,
        video: Video | None,
        question: str,
        system: str | None,
        history: Sequence[Turn],
        video_token: str,
    ) -> Mapping[str, Tensor]:
        """Chat template and processor of the checkpoint: exactly what a user of transformers would write."""
        texts = [question, *(text for turn in history for text in turn), *([system] if system else [])]
        if any(video_token in text for text in texts):
            raise OptionError(
                f"the text holds {video_token!r}, which is this model's place-holder for a video: reword it"
            )
        turns = [text for turn in history for text in turn] + [question]
        conversation: list[dict] = [_message("system", system)] if system else []
        conversation += [_message("user" if i % 2 == 0 else "assistant", text) for i, text in enumerate(turns)]
        if video is not None:
            conversation[bool(system)]["content"].insert(0, {"type": "video"})
        text = self.processor.apply_chat_template(conversation, add_generation_prompt=True)
        videos = {} if video is None else {"videos": [torch.from_numpy(np.array(video.frames)).permute(0, 3, 1, 2)]}
        return self.processor(text=[text], do_sample_frames=False, return_tensors="pt", **videos)


def _message(role: str, text: str) -> dict:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def check_pair(target: Family, draft: Family) -> None:
    """Refuse a draft that can't speak for the target. Errors: ModelError, naming what differs."""
    check_layout(target, draft)
    mine, theirs = target.tokenizer.get_vocab(), draft.tokenizer.get_vocab()
    if mine != theirs:
        odd = min(
            (t for t in mine.keys() | theirs.keys() if mine.get(t) != theirs.get(t)),
            key=lambda t: (len(t), t),
        )
        raise ModelError(
            f"target {target.name} and draft {draft.name} have different tokenizers: {odd!r} is "
            f"{mine.get(odd)} in one and {theirs.get(odd)} in the other; use a draft with the target's tokenizer"
        )


def check_layout(target: Family, draft: Family) -> None:
    """The part of `check_pair` that needs no tokenizer: do both see a prompt alike? Errors: ModelError."""
    if target.model_type != draft.model_type:
        raise ModelError(
            f"target {target.name} is a {target.model_type} and draft {draft.name} a {draft.model_type}: "
            "both must be of one family"
        )
    for key, value in target.layout.items():
        if draft.layout.get(key) != value:
            raise ModelError(
                f"target {target.name} and draft {draft.name} see a video differently: {key} is {value} in one and "
                f"{draft.layout.get(key)} in the other"
            )
