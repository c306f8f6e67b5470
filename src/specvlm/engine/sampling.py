"""The chooser: the token that the target itself emits after some text, greedily or by one random draw.

Both follow stock `generate` to the letter: logits in float32, transformers' own logits processors over the whole
history, then argmax or one `torch.multinomial` draw. Same processors, same seed, same tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from specvlm.engine.verification import Choose

Processor = Callable[[Int[Tensor, "1 length"], Float[Tensor, "1 vocab"]], Float[Tensor, "1 vocab"]]


@dataclass
class Chooser:
    """How the target picks a token. `generator` None draws from torch's global generator, as `generate` does."""

    processors: Processor | None = None
    do_sample: bool = False
    generator: torch.Generator | None = None
    doubt: float = 0.0
    """Greedy choices from a forward over several rows are left open where the two best scores differ by less than so
    many units of rounding (the dtype's epsilon times the best score)."""

    def over(self, logits: Float[Tensor, "nodes vocab"], history: Callable[[], Int[Tensor, " length"]]) -> Choose:
        """A function that chooses after any node of a tree whose root ends the `history`, prompt and answer so far.
        Greedy choices without processors don't ask for it."""
        margin = self.doubt * torch.finfo(logits.dtype).eps if self.doubt and len(logits) > 1 else 0.0
        if self.processors is None and not self.do_sample:
            choices = logits.float().argmax(-1).tolist()  # one transfer for the whole tree
            if margin:
                close = _too_close(logits.float(), margin)
                choices = [None if doubtful else token for token, doubtful in zip(choices, close, strict=True)]
            return lambda node, tokens: choices[node]
        return partial(self._choose_after, logits, history(), margin)

    def choose(self, logits: Float[Tensor, " vocab"], seen: Int[Tensor, "1 length"]) -> int:
        """One token after the text `seen`, whatever the doubt."""
        return self._pick(self._scores(logits, seen))

    def _choose_after(
        self,
        logits: Float[Tensor, "nodes vocab"],
        history: Int[Tensor, " length"],
        margin: float,
        node: int,
        tokens: tuple[int, ...],
    ) -> int | None:
        # A processor that looks back must see the words of this very path, not those of its siblings.
        seen = torch.cat([history, history.new_tensor(tokens)])[None]
        scores = self._scores(logits[node], seen)
        return None if margin and _too_close(scores, margin)[0] else self._pick(scores)

    def _scores(self, logits: Float[Tensor, " vocab"], seen: Int[Tensor, "1 length"]) -> Float[Tensor, "1 vocab"]:
        scores = logits[None].to(dtype=torch.float32, copy=True)
        return scores if self.processors is None else self.processors(seen.to(scores.device), scores)

    def _pick(self, scores: Float[Tensor, "1 vocab"]) -> int:
        if not self.do_sample:
            return int(scores.argmax(-1))
        return int(torch.multinomial(scores.softmax(-1), num_samples=1, generator=self.generator))


def _too_close(scores: Float[Tensor, "rows vocab"], margin: float) -> list[bool]:
    """For each row, whether the second best score is within `margin` times the best one of it (or of 1, if that is
    more: what went into a score near zero was no smaller for that)."""
    if scores.shape[-1] < 2:
        return [False] * len(scores)
    first, second = scores.topk(2, dim=-1).values.unbind(-1)
    return (first - second < margin * first.abs().clamp(min=1)).tolist()
