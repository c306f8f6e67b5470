"""Picking the target's tokens in tensors, by the processors and the dice that stock `generate` has.

`torch.multinomial` asks the host whether its probabilities are any. What it computes for one draw is an exponential
race, which is run here without the question: the same numbers from the same generator, hence the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from specvlm.engine.sampling import Processor
from specvlm.engine.sequence import Sequence

IN_TENSORS = (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
"""Processors that never ask the host, and to whom it is one how often a token has been said, and where."""


def keeps_to_the_host(processors: Iterable[Any]) -> str | None:
    """The name of a processor that can't be asked in tensors alone, or None."""
    for each in processors:
        if type(each) not in IN_TENSORS or getattr(each, "prompt_ignore_length", None):
            return type(each).__name__
    return None


@final
@dataclass(eq=False)
class Dice:
    """A random generator whose draws can be put back. Its state is the host's, on every device."""

    generator: torch.Generator
    states: list[Tensor] = field(default_factory=list)
    """After each draw since the last `keep`."""

    @classmethod
    def on(cls, device: torch.device, generator: torch.Generator | None) -> Dice:
        """`generator`, or else the one that `generate` draws from."""
        if generator is not None:
            return cls(generator)
        if device.type == "cuda":
            return cls(torch.cuda.default_generators[device.index or 0])
        return cls(torch.default_generator)

    def draw(self, probabilities: Float[Tensor, "1 vocab"]) -> Int[Tensor, " 1"]:
        race = torch.empty_like(probabilities).exponential_(1, generator=self.generator)
        self.states.append(self.generator.get_state())
        return probabilities.div(race).argmax(-1)

    def keep(self, count: int) -> None:
        """Put all draws back but for the first `count` (1 or more) since the last time."""
        self.generator.set_state(self.states[count - 1])
        self.states.clear()


@final
@dataclass(frozen=True, eq=False)
class Picking:
    """How the target takes one token after the other (a `Pick`)."""

    history: Int[Tensor, " capacity"]
    """Prompt and answer, and behind them a token of theirs, which is there already."""
    said: Int[Tensor, " 1"]
    """How many tokens of it there are."""
    processors: Processor | None = None
    dice: Dice | None = None
    """None: the likeliest token is taken."""

    @classmethod
    def of(cls, sequence: Sequence, device: torch.device) -> Picking | None:
        """None where the likeliest tokens are looked up all at once."""
        chooser = sequence.chooser
        if chooser.processors is None and not chooser.do_sample:
            return None
        room = len(sequence.prompt_ids) + 2 * sequence.stopping.max_new_tokens  # a round may write beyond the end
        with torch.inference_mode(False):
            history, said = (torch.zeros(size, dtype=torch.long, device=device) for size in (room, 1))
        dice = Dice.on(device, chooser.generator) if chooser.do_sample else None
        return cls(history, said, chooser.processors, dice)

    def write(self, history: Int[Tensor, " length"]) -> None:
        """Set prompt and answer."""
        self.history.copy_(history[-1:].expand(len(self.history)))
        self.history[: len(history)] = history
        self.said.fill_(len(history))

    def __call__(self, logits: Float[Tensor, "1 vocab"], tokens: Int[Tensor, " said"]) -> Int[Tensor, " 1"]:
        scores = logits.to(dtype=torch.float32, copy=True)
        if self.processors is not None:
            scores = self.processors(torch.cat([self.history, tokens])[None], scores)
        return scores.argmax(-1) if self.dice is None else self.dice.draw(scores.softmax(-1))

    def append(self, tokens: Int[Tensor, " longest"], count: Int[Tensor, " 1"]) -> None:
        """Note the first `count` of `tokens` as said."""
        order = torch.arange(len(tokens), device=tokens.device)
        self.history.index_copy_(0, self.said + order, torch.where(order < count, tokens, tokens[:1]))
        self.said.add_(count)
