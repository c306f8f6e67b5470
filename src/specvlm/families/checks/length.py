"""Text that is longer than all positions of its model: refused before anything is made of it.

A video that takes a prompt past its model's positions is another matter: stock `generate` answers it, and so does
specvlm (`LengthWarning`). Text alone that does is a book or a mistake, and costs gigabytes before it fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from specvlm.errors import OptionError
from specvlm.families.checks.frequencies import positions_of


def require_fitting(texts: Iterable[str], tokenizer: Any, config: Any, name: str) -> None:
    """Errors: OptionError if these texts have more tokens than the language model of this `config` has positions.

    What is short in bytes is not looked at, for a token has one at least; and what is too long in letters for any
    tokens of this tokenizer isn't tokenised to be refused.
    """
    texts, positions = list(texts), positions_of(config)
    if positions is None or sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) <= positions:
        return
    longest = max(map(len, tokenizer.get_vocab()))
    least = sum(map(len, texts)) // longest
    found = least if least > positions else sum(len(tokenizer.tokenize(text)) for text in texts)
    if found > positions:
        tokens = f"{'more than ' if found == least else ''}{found}"
        raise OptionError(
            f"the text takes {tokens} tokens, and {name} was made for {positions} positions, with the video's among "
            "them: ask in fewer words, or with a shorter system prompt or history"
        )
