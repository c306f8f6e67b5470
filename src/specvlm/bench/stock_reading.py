"""Stock generate about one video that it reads once: the oracle of many questions, where a reading takes minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from transformers import DynamicCache

from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.answering.oracle import stock_answer
from specvlm.engine.stats import Stats
from specvlm.families.releases import with_cache
from specvlm.watching.kept import Held

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
        self._held: Held | None = None

    def ask(self, question: str) -> Generation:
        """Errors: OptionError, VideoError."""
        stats = Stats(self._vlm.target.devices)
        prompt = self._vlm.prepare(self._video, question, self._options, stats)
        # A prompt's last token is read again: something has to give logits.
        kept = min(self._held.shared(prompt), prompt.num_tokens - 1) if self._held else 0
        if kept < prompt.split:  # a part of a video can't be read: its pixels go in as one
            self._cache, kept = self._empty(), 0
        excess = self._cache.get_seq_length() - kept
        if excess:
            self._cache.crop(-excess)
        if kept:
            unread = {n: value for n, value in prompt.model_inputs.items() if not n.startswith("pixel_values")}
            prompt = replace(prompt, model_inputs=unread)
        cache: dict[str, Any] = with_cache(self._vlm.target.model.forward, self._cache)
        answer = stock_answer(self._vlm.target, prompt, self._options, stats, **cache)
        self._held = Held.of(prompt, answer.token_ids).first(self._cache.get_seq_length())  # the last was never read
        return answer

    def _empty(self) -> DynamicCache:
        return DynamicCache(config=self._vlm.target.model.config.get_text_config())
