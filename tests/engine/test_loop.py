"""The loop with fake models: whatever is drafted, the answer is that of plain decoding, and no work is thrown away."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.fakes import FakeDecoder, Language, Seen, behind, embeds, prompt_positions, seen_in
from engine.trees import Path, shape, shape_options
from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.drafting import ModelDrafter, NoDrafter
from specvlm.engine.loop import decode, first_token, prefill
from specvlm.engine.sampling import Chooser
from specvlm.engine.sequence import Sequence, Stopping
from specvlm.engine.tree import PAPER_TREE, TreeShape, chain

PROMPT = torch.tensor([3, 1, 4, 1])
START = {1: torch.tensor([0]), 3: torch.tensor([0, 5, 2])}


@dataclass
class Answer:
    """A whole answer: what was emitted, in which pieces, and everything that took part."""

    sequence: Sequence
    pieces: list[Path]
    target: FakeDecoder
    draft: FakeDecoder | None


def told(tokens: list[int], rows: int = 1) -> Seen:
    """Prompt and answer, as a model should see them."""
    positions = behind(prompt_positions(START[rows], len(PROMPT)), len(tokens))
    return Seen((*PROMPT.tolist(), *tokens), tuple(map(tuple, positions.tolist())))


def drafting(draft: FakeDecoder, tree_shape: TreeShape, positions: Tensor, vocab_size: int) -> ModelDrafter:
    """A drafter whose draft has read the prompt."""
    cache = draft.new_cache(99)
    draft.prefill(embeds(PROMPT), positions, cache)
    return ModelDrafter(draft, tree_shape, cache, int(positions.max()) + 1, vocab_size)


def chooser(do_sample: bool, doubt: float = 0.0) -> Chooser:
    return Chooser(None, do_sample, torch.Generator().manual_seed(0), doubt)


def answer(
    language: Language,
    draft_language: Language | None,
    options,
    stopping: Stopping,
    *,
    do_sample: bool = False,
    rows: int = 1,
    room: int | None = None,
    chunk: int | None = None,
    doubt: float = 0.0,
    kind: type[FakeDecoder] = FakeDecoder,
) -> Answer:
    """Prefill and decode with fake models, the target of a `kind`. `room`: of the caches, so small that they grow."""
    target, pieces = kind(language, rows=rows), []
    positions = prompt_positions(START[rows], len(PROMPT))
    cache = target.new_cache(room or 99)
    sequence = Sequence(PROMPT, int(positions.max()) + 1, cache, chooser(do_sample, doubt), stopping)
    logits = prefill(target, sequence, embeds(PROMPT), positions, chunk=chunk)
    pieces.append((first_token(sequence, logits),))
    drafter, draft = NoDrafter(), None
    if draft_language is not None and sequence.finish_reason is None:
        draft = FakeDecoder(draft_language, capacity=room, rows=rows)
        drafter = drafting(draft, shape(options), positions, language.vocabulary)
    pieces += decode(target, sequence, drafter)
    return Answer(sequence, pieces, target, draft)


def plain(language: Language, stopping: Stopping, do_sample: bool = False, rows: int = 1) -> tuple[list[int], str]:
    """One token after another: what `answer` has to equal."""
    tokens, choose = [], chooser(do_sample)
    while True:
        seen = told(tokens, rows)
        text = seen.tokens
        tokens.append(choose.choose(language.logits(seen), torch.tensor([text])))
        if tokens[-1] in stopping.eos_ids:
            return tokens, "eos"
        if stopping.criterion is not None and stopping.criterion(torch.tensor([(*text, tokens[-1])])):
            return tokens, "stop"
        if len(tokens) == stopping.max_new_tokens:
            return tokens, "length"


def ends_with(*tokens: int):
    return lambda ids: ids[0, -len(tokens) :].tolist() == list(tokens)


stoppings = st.builds(
    Stopping,
    max_new_tokens=st.integers(1, 15),
    eos_ids=st.frozensets(st.integers(0, 5), max_size=2),
    criterion=st.none() | st.builds(ends_with, st.integers(0, 3), st.integers(0, 3)),
)


@given(
    options=shape_options,
    vocabulary=st.integers(1, 6),
    noise=st.sampled_from([0.0, 0.5, 2.0, 50.0]),
    seed=st.integers(0, 999),
    stopping=stoppings,
    do_sample=st.booleans(),
    rows=st.sampled_from([1, 3]),
    room=st.none() | st.integers(1, 9),
    chunk=st.none() | st.integers(1, 5),
)
def test_the_answer_is_that_of_plain_decoding(options, vocabulary, noise, seed, stopping, do_sample, rows, room, chunk):
    """Any tree, any draft, greedy or sampled, stopped anywhere: the same tokens, for the same reason."""
    language = Language(vocabulary, seed)
    made = answer(
        language, language.dialect(noise), options, stopping, do_sample=do_sample, rows=rows, room=room, chunk=chunk
    )
    tokens, reason = plain(language, stopping, do_sample, rows)
    assert made.sequence.tokens == tokens
    assert made.sequence.finish_reason == reason
    assert [token for piece in made.pieces for token in piece] == tokens
    # The target holds everything but the last token, which nobody asked it about.
    assert seen_in(made.sequence.cache) == told(tokens[:-1], rows)


class Rounding(FakeDecoder):
    """Forwards are a little off, as those of low precision are by other kernels than stock ones."""

    OFF = 0.1

    def step(self, tokens: Tensor, positions: Tensor, mask: Tensor | None, cache, *, as_stock: bool = False) -> Tensor:
        logits = super().step(tokens, positions, mask, cache)
        if len(tokens) > 1 or not as_stock:
            noise = torch.Generator().manual_seed(int(tokens.sum()))
            logits += self.OFF * torch.rand(logits.shape, generator=noise, dtype=logits.dtype)
        return logits


EVERYTHING = 1e18
"""A doubt, in roundings of float64, that leaves nothing to a forward over several rows."""


@given(
    options=shape_options,
    vocabulary=st.integers(2, 6),
    noise=st.sampled_from([0.0, 0.5, 50.0]),
    seed=st.integers(0, 999),
    stopping=stoppings,
    rows=st.sampled_from([1, 3]),
    doubt=st.sampled_from([1e14, EVERYTHING]),
)
def test_a_second_look_changes_nothing_where_forwards_agree(options, vocabulary, noise, seed, stopping, rows, doubt):
    language = Language(vocabulary, seed)
    made = answer(language, language.dialect(noise), options, stopping, rows=rows, doubt=doubt)
    assert (made.sequence.tokens, made.sequence.finish_reason) == plain(language, stopping, rows=rows)
    assert seen_in(made.sequence.cache) == told(made.sequence.tokens[:-1], rows)
    looks = [len(forward) == 1 for forward in made.target.steps]
    stats = made.sequence.stats
    assert len(looks) == stats.num_rounds + stats.num_second_looks
    if doubt == EVERYTHING:
        assert stats.num_accepted == 0
        assert stats.num_second_looks == sum(each.num_drafted > 0 for each in stats.rounds)


def test_a_second_look_decides_what_rounding_would_have_turned():
    """And without one, some answers are turned: the rounding is not too small to see."""
    turned = 0
    for seed in range(30):
        language, stopping = Language(6, seed), Stopping(30)
        right = plain(language, stopping)
        close = Rounding.OFF / torch.finfo(torch.float64).eps
        strict = answer(language, language.dialect(0.1), PAPER_TREE, stopping, doubt=5 * close, kind=Rounding)
        assert (strict.sequence.tokens, strict.sequence.finish_reason) == right
        assert strict.sequence.stats.num_accepted > 0
        lax = answer(language, language.dialect(0.1), PAPER_TREE, stopping, kind=Rounding)
        turned += lax.sequence.tokens != right[0]
    assert turned > 3


@given(shape_options, st.integers(2, 6), st.sampled_from([0.0, 0.5, 50.0]), st.integers(0, 999), st.integers(1, 15))
def test_a_criterion_is_asked_once_for_each_token_in_order(options, vocabulary, noise, seed, ends_at):
    """As stock generate asks it: one that counts its calls ends the answer where it would end there."""
    language, asked = Language(vocabulary, seed), []

    def criterion(ids: Tensor) -> bool:
        asked.append(tuple(ids[0].tolist()))
        return len(asked) == ends_at

    made = answer(language, language.dialect(noise), options, Stopping(20, criterion=criterion))
    tokens = made.sequence.tokens
    assert asked == [(*PROMPT.tolist(), *tokens[: i + 1]) for i in range(len(tokens))]
    assert (len(tokens), made.sequence.finish_reason) == (ends_at, "stop")


@given(shape_options, st.integers(2, 6), st.sampled_from([0.0, 0.5, 50.0]), st.integers(0, 999), stoppings)
def test_no_work_is_thrown_away(options, vocabulary, noise, seed, stopping):
    """One target forward a round, no draft forward after the last one, none where only one token is left."""
    language = Language(vocabulary, seed)
    order: list[str] = []

    class Logged(FakeDecoder):
        def step(self, *args, **more):
            order.append("draft" if self.language.parent else "target")
            return super().step(*args, **more)

    target = Logged(language)
    positions = prompt_positions(START[1], len(PROMPT))
    sequence = Sequence(PROMPT, len(PROMPT), target.new_cache(99), Chooser(), stopping)
    first_token(sequence, prefill(target, sequence, embeds(PROMPT), positions))
    drafter = drafting(Logged(language.dialect(noise)), shape(options), positions, vocabulary)
    for piece in decode(target, sequence, drafter):
        num_left = stopping.max_new_tokens - (len(sequence.tokens) - len(piece))
        assert order.pop() == "target"
        assert set(order) <= {"draft"}
        assert len(order) <= num_left - 1  # a level of the tree for each token that may still come, but the last
        order.clear()
    assert not order
    assert sequence.stats.num_rounds == len(target.steps)
    nodes = [len(forward) for forward in target.steps]
    assert sequence.stats.num_drafted == sum(nodes) - len(nodes)
    assert sequence.stats.num_rounds + sequence.stats.num_accepted == len(sequence.tokens) - 1


@pytest.mark.parametrize("tree_shape", [PAPER_TREE, chain(5)], ids=["paper", "chain"])
def test_a_draft_that_is_the_target_gets_five_of_five_accepted(tree_shape):
    language = Language(50, seed=3)
    made = answer(language, language.dialect(0.0), tree_shape, Stopping(31))
    assert [len(piece) for piece in made.pieces] == [1, 6, 6, 6, 6, 6]
    assert made.sequence.stats.accepted_per_depth == [5] * 5


def test_without_a_draft_each_round_is_one_token():
    language = Language(50, seed=3)
    made = answer(language, None, None, Stopping(9))
    assert [len(piece) for piece in made.pieces] == [1] * 9
    assert [len(forward) for forward in made.target.steps] == [1] * 8


@pytest.mark.parametrize("chunk", [None, 1, 2, 3, 4, 99])
@pytest.mark.parametrize("records", [False, True])
def test_a_prompt_is_read_once_in_order_and_in_one_piece_unless_a_chunk_is_smaller(chunk, records):
    decoder = FakeDecoder(Language(9))
    sequence = Sequence(PROMPT, 4, decoder.new_cache(9), Chooser(), Stopping(1))
    recorder = ScoreRecorder(torch.tensor([0]), 2) if records else None
    positions = prompt_positions(START[1], len(PROMPT))
    logits = prefill(decoder, sequence, embeds(PROMPT), positions, recorder, chunk)
    assert torch.equal(logits, decoder.language.logits(told([])))
    assert seen_in(sequence.cache) == told([])
    size = min(chunk or 99, len(PROMPT))
    assert [len(piece) for piece in decoder.prefills] == [size] * (len(PROMPT) // size) + [len(PROMPT) % size] * (
        len(PROMPT) % size > 0
    )


def test_an_answer_that_ends_with_its_first_token_costs_no_forward():
    language = Language(9, seed=1)
    first = plain(language, Stopping(1))[0][0]
    made = answer(language, language.dialect(0.0), PAPER_TREE, Stopping(20, frozenset({first})))
    assert made.sequence.tokens == [first]
    assert made.sequence.finish_reason == "eos"
    assert made.target.steps == []
    assert made.draft is None


def test_a_loop_that_is_left_half_way_leaves_the_sequence_whole():
    """Whoever stops listening after any piece finds the tokens of exactly the pieces that were yielded."""
    language = Language(50, seed=3)
    target, positions = FakeDecoder(language), prompt_positions(START[1], len(PROMPT))
    sequence = Sequence(PROMPT, len(PROMPT), target.new_cache(99), Chooser(), Stopping(40))
    first = first_token(sequence, prefill(target, sequence, embeds(PROMPT), positions))
    drafter = drafting(FakeDecoder(language.dialect(0.5)), PAPER_TREE, positions, 50)
    pieces = decode(target, sequence, drafter)
    heard = [first, *next(pieces), *next(pieces)]
    pieces.close()
    assert sequence.tokens == heard
    assert sequence.cache.length == len(PROMPT) + len(heard) - 1
    assert sequence.finish_reason is None
