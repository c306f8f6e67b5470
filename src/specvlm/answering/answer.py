"""From a tokenised prompt to a finished answer, as text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import torch

from specvlm.answering import request
from specvlm.answering.options import Options, is_text
from specvlm.answering.pair import Pair
from specvlm.answering.recipe import prepare_generation
from specvlm.answering.text import TextStream
from specvlm.engine.sequence import FinishReason, Sequence
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError, brief
from specvlm.prompts.lead import says_something
from specvlm.prompts.prompt import Prompt

Run = Callable[[Pair, Prompt, Options, Sequence], Iterator[tuple[int, ...]]]
"""What writes an answer: `request.run`, or something that leads to it."""


@dataclass(frozen=True)
class Generation:
    """One finished answer. `token_ids` include the end token if the model emitted one; `text` doesn't show it."""

    token_ids: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    stats: Stats


@dataclass(frozen=True)
class Piece:
    """The text that a token adds to an answer, which may be empty; and who had it first: a guess of the draft that was
    accepted, or the target itself."""

    text: str
    by: Literal["target", "draft"]


Rounds = Generator[tuple[Piece, ...], None, Generation]
"""An answer as it comes: the tokens of the prompt's forward, then of each round. The return value is all of it."""


def require_question(question: str, options: Options | None = None) -> None:
    """Errors: OptionError if nothing is asked, or what is no text."""
    if not isinstance(question, str):
        raise OptionError(
            f"the question must be one text here, not {brief(repr(question))}: `generate` takes a list of them, "
            "and `watch` knows a video from one to the next"
        )
    led_to = options is not None and not options.history and says_something(options.lead)
    if not question.strip() and not led_to:
        raise OptionError("the question is empty: ask something")
    if not is_text(question):
        raise OptionError(
            f"the question {brief(repr(question))} holds half a letter: it came from bytes that are no UTF-8"
        )


def answer(
    pair: Pair, prompt: Prompt, options: Options, stats: Stats, run: Run = request.run
) -> Generator[str, None, Generation]:
    """The answer in pieces of text, which join to it; the return value is the Generation. Errors: OptionError."""
    return (yield from texts(in_rounds(pair, prompt, options, stats, run)))


def texts(rounds: Rounds) -> Generator[str, None, Generation]:
    """The text alone of each round that has some. Closing it closes the answer."""
    with closing(rounds):
        while True:
            try:
                pieces = next(rounds)
            except StopIteration as stop:
                return stop.value
            if text := "".join(piece.text for piece in pieces):
                yield text


def in_rounds(pair: Pair, prompt: Prompt, options: Options, stats: Stats, run: Run = request.run) -> Rounds:
    """The answer round by round: of each, all tokens but the last were guessed. Errors: OptionError."""
    recipe = prepare_generation(pair.target, prompt.input_ids, options)
    generator = None
    if options.seed is not None:
        generator = torch.Generator(pair.target.decoder.device).manual_seed(options.seed)
    sequence = request.begin(pair, prompt, recipe, options, stats, generator)
    stream = TextStream(pair.target.tokenizer)
    for tokens in run(pair, prompt, options, sequence):
        guesses = tuple(Piece(stream.add_one(token), "draft") for token in tokens[:-1])
        yield (*guesses, Piece(stream.add_one(tokens[-1]), "target"))
    rest, text = stream.finish()
    if rest:
        yield (Piece(rest, "target"),)
    assert sequence.finish_reason is not None
    stats.finish(len(sequence.tokens))
    return Generation(tuple(sequence.tokens), text, sequence.finish_reason, stats)


def whole(pieces: Generator[str, None, Generation]) -> Generation:
    """An answer that nobody wants to see before it is finished."""
    while True:
        try:
            next(pieces)
        except StopIteration as stop:
            return stop.value
