"""The chooser: the token that the target itself emits after some text, greedily or by one random draw.

Both follow stock `generate` to the letter: logits in float32, transformers' own logits processors over the whole
history, then argmax or one `torch.multinomial` draw. Same processors, same seed, same tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

    def over(self, logits: Float[Tensor, "nodes vocab"], history: Int[Tensor, " length"]) -> Choose:
        """A function that chooses after any node of a tree whose root ends `history` (prompt and answer so far)."""
        if self.processors is None and not self.do_sample:
            best = logits.float().argmax(-1).tolist()  # one transfer for the whole tree
            return lambda node, tokens: best[node]

        def choose(node: int, tokens: tuple[int, ...]) -> int:
            # A processor that looks back must see the words of this very path, not those of its siblings.
            seen = torch.cat([history, history.new_tensor(tokens)])[None]
            return self.choose(logits[node], seen)

        return choose

    def choose(self, logits: Float[Tensor, " vocab"], seen: Int[Tensor, "1 length"]) -> int:
        """One token after the text `seen`."""
        scores = logits[None].to(dtype=torch.float32, copy=True)
        if self.processors is not None:
            scores = self.processors(seen.to(scores.device), scores)
        if not self.do_sample:
            return int(scores.argmax(-1))
        probabilities = scores.softmax(-1)
        return int(torch.multinomial(probabilities, num_samples=1, generator=self.generator))
