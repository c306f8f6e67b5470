"""Token ids to text, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast


class TextStream:
    """Turns tokens into pieces of text as they come; a character spread over several tokens comes whole."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._ids: list[int] = []
        self._shown = ""

    def add(self, ids: Iterable[int]) -> str:
        """The text that `ids` add; may be empty."""
        return "".join(map(self.add_one, ids))

    def add_one(self, token: int) -> str:
        """The text that a token adds; may be empty."""
        self._ids.append(token)
        piece = self._stream.step(self._tokenizer.backend_tokenizer, token) or ""
        self._shown += piece
        return piece

    def finish(self) -> tuple[str, str]:
        """(what was not shown yet, the whole text): an answer cut inside a character ends in that character's stub."""
        whole = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        return (whole[len(self._shown) :] if whole.startswith(self._shown) else ""), whole
