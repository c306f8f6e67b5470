"""Stock generate about one video that it reads once: the oracle of many questions, where a reading takes minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache

from specvlm.answering import Generation, stock_answer
from specvlm.engine.stats import Stats
from specvlm.options import Options

if TYPE_CHECKING:
    from specvlm.pipeline import SpecVLM


@final
class StockReading:
    """The first answer is stock `generate`'s to the whole prompt. For later ones it goes on from the keys and values
    that it kept itself, cut back to what both prompts begin with (transformers' own way to use a cache again).
    """

    def __init__(self, vlm: SpecVLM, video: Any, options: Options) -> None:
        self._vlm, self._video, self._options = vlm, video, options
        self._cache = self._empty()
        self._held: Int[Tensor, " held"] = torch.empty(0, dtype=torch.long)
        """The tokens whose keys and values the cache has."""

    def ask(self, question: str) -> Generation:
        """Errors: OptionError, VideoError."""
        stats = Stats()
        prompt = self._vlm.prepare(self._video, question, self._options, stats)
        kept = self._common(prompt.input_ids)
        if kept < prompt.split:  # a part of a video can't be read: its pixels go in as one
            self._cache, kept = self._empty(), 0
        if len(self._held) > kept > 0:
            self._cache.crop(kept - len(self._held))
        if kept:
            unread = {n: value for n, value in prompt.model_inputs.items() if not n.startswith("pixel_values")}
            prompt = replace(prompt, model_inputs=unread)
        answer = stock_answer(self._vlm.target, prompt, self._options, stats, past_key_values=self._cache)
        written = torch.cat([prompt.input_ids.cpu(), torch.tensor(answer.token_ids, dtype=torch.long)])
        self._held = written[: self._cache.get_seq_length()]  # the last token was never read
        return answer

    def _empty(self) -> DynamicCache:
        return DynamicCache(config=self._vlm.target.model.config.get_text_config())

    def _common(self, tokens: Int[Tensor, " L"]) -> int:
        """How many tokens of a prompt are held. Its last one is read again: something has to give logits."""
        most = min(len(self._held), len(tokens) - 1)
        same = self._held[:most] == tokens[:most].cpu()
        return int(same.cumprod(0).sum())
