"""Token ids to text, piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, final

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerFast

BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""How tokenizers with byte fallback write a byte of a character that they have no token for."""


class TextStream:
    """Turns tokens into pieces of text as they come; a character spread over several tokens comes whole."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._stream = _ByteRuns(tokenizer) if falls_back_to_bytes(tokenizer) else _Characters(tokenizer)
        self._ids: list[int] = []
        self._shown = ""

    def add(self, ids: Iterable[int]) -> str:
        """The text that `ids` add; may be empty."""
        return "".join(map(self.add_one, ids))

    def add_one(self, token: int) -> str:
        """The text that a token adds; may be empty."""
        self._ids.append(token)
        piece = self._stream.step(token)
        self._shown += piece
        return piece

    def finish(self) -> tuple[str, str]:
        """(what was not shown yet, the whole text): an answer cut inside a character ends in that character's stub."""
        whole = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        return (whole[len(self._shown) :] if whole.startswith(self._shown) else ""), whole


def falls_back_to_bytes(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether tokens such as `<0xE4>` are bytes of a character, as in Llama 2, Mistral, Gemma and Phi-3."""
    decoder: Any = tokenizer.backend_tokenizer.decoder
    return decoder is not None and b'"ByteFallback"' in decoder.__getstate__()


@final
class _Characters:
    """What the tokenizers library makes of tokens one by one."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer, self._stream = tokenizer.backend_tokenizer, DecodeStream(skip_special_tokens=True)

    def step(self, token: int) -> str:
        return self._stream.step(self._tokenizer, token) or ""


@final
class _ByteRuns:
    """The same with byte fallback. A run of bytes is text if all of it is UTF-8, and else not one character of it is:
    nothing can be shown of a run before it has ended. Tokens that aren't shown don't end it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer.backend_tokenizer
        self._hidden = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._ids: list[int] = []
        """From the last token with text of its own on: what stands first may lose its blank."""
        self._num_shown = 0
        """Characters of theirs that were shown."""

    def step(self, token: int) -> str:
        self._ids.append(token)
        word = self._tokenizer.id_to_token(token)
        if word is None or token in self._hidden or BYTE.fullmatch(word):
            return ""
        piece = self._decoded()[self._num_shown :]
        if piece:
            self._ids = [token]
            self._num_shown = len(self._decoded())
        return piece

    def _decoded(self) -> str:
        return self._tokenizer.decode(self._ids, skip_special_tokens=True)
