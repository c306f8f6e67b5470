"""What a pair takes over from another family's committed pair: language models, and what eyes should show to them.

A Qwen2 decoder of the same size stands in both, so words, grammar and how to tell of a film need not be learned twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

from specvlm import pocket
from specvlm.pocket.recipe.architecture import ATTENTION, CELLS, Architecture, Role


@dataclass(frozen=True, slots=True)
class Inheritance:
    """`lender` gives its committed pair; `names` tells which of its tokens a token of another name goes on from."""

    lender: Architecture
    names: tuple[tuple[str, str], ...]

    def model(self, role: Role) -> Any:
        return self.lender.load(pocket.path(self.lender.model_type, role))

    def language(self, role: Role, heir: Any, tokenizer: Any) -> None:
        """Put the lender's language model in place of the heir's. Tokens that the lender has not keep their rows."""
        path = pocket.path(self.lender.model_type, role)
        rows = token_rows(tokenizer, AutoTokenizer.from_pretrained(path, trust_remote_code=False), dict(self.names))
        ours = heir.model.language_model
        state = self.model(role).model.language_model.state_dict()
        embeddings = ours.embed_tokens.weight.detach().clone()
        embeddings[list(rows)] = state["embed_tokens.weight"][list(rows.values())]
        ours.load_state_dict(state | {"embed_tokens.weight": embeddings})
        heir.set_attn_implementation(ATTENTION)

    @torch.no_grad()
    def features(self, model: Any, pixels: Tensor) -> Tensor:
        """What the lender's eyes make of frames `[B, T, 3, H, W]`, each by itself: the mean over T, `[B, 9, 256]`."""
        seen = self.lender.features(model, pixels.flatten(0, 1)[:, None])[:, :CELLS]
        return seen.unflatten(0, pixels.shape[:2]).mean(1)


def token_rows(tokenizer: Any, lender: Any, names: dict[str, str]) -> dict[int, int]:
    """Which row of the lender's embeddings each of ours starts from."""
    known = lender.get_vocab()
    wanted = {row: names.get(token, token) for token, row in tokenizer.get_vocab().items()}
    return {row: known[token] for row, token in sorted(wanted.items()) if token in known}
