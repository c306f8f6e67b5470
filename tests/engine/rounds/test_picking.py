"""The target's token in tensors: stock's processors, and stock's dice, whose draws can be put back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from engine.rounds.host_reads import HostReadError, NoHostReads
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.rounds.picking import IN_TENSORS, Dice, Picking, keeps_to_the_host
from specvlm.engine.sampling import Chooser
from specvlm.engine.sequence import Sequence, Stopping

CPU = torch.device("cpu")
MADE: dict[type, tuple[Any, ...]] = {
    MinPLogitsWarper: (0.05,),
    RepetitionPenaltyLogitsProcessor: (1.3,),
    TemperatureLogitsWarper: (0.7,),
    TopKLogitsWarper: (7,),
    TopPLogitsWarper: (0.8,),
}
VOCABULARY = 40


def dice(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(seed: int, size: int = VOCABULARY) -> torch.Tensor:
    return 3 * torch.randn(1, size, generator=dice(seed))


@given(
    size=st.sampled_from([1, 2, 3, 7, 320, 5000]),
    seed=st.integers(0, 2**31),
    kept=st.integers(0, 7),
    wide=st.booleans(),
)
def test_a_draw_is_that_of_multinomial_and_leaves_the_same_dice(size, seed, kept, wide):
    scores = row(seed, size).to(torch.float64 if wide else torch.float32)
    if 0 < kept < size:
        scores = scores.masked_fill(scores < scores.topk(kept).values[:, -1:], float("-inf"))
    ours, theirs = Dice(dice(seed)), dice(seed)
    for _ in range(4):
        right = torch.multinomial(scores.softmax(-1), num_samples=1, generator=theirs)
        assert ours.draw(scores.softmax(-1)).tolist() == right[0].tolist()
        assert torch.equal(ours.generator.get_state(), theirs.get_state())


@pytest.mark.parametrize("kept", [1, 3, 6])
@pytest.mark.parametrize("own", [True, False])
def test_draws_that_were_not_wanted_are_put_back(own, kept):
    torch.manual_seed(4)
    theirs = dice(4)
    ours = Dice.on(CPU, dice(4) if own else None)
    for _ in range(3):  # rounds
        for step in range(6):
            ours.draw(row(step).softmax(-1))
        ours.keep(kept)
        for step in range(kept):
            torch.multinomial(row(step).softmax(-1), 1, generator=theirs)
        assert torch.equal(ours.generator.get_state(), theirs.get_state())
    assert (ours.generator is torch.default_generator) == (not own)


def test_dice_that_keep_everything_would_be_noticed():
    ours, theirs = Dice(dice(1)), dice(1)
    for _ in range(2):
        ours.draw(row(0).softmax(-1))
    torch.multinomial(row(0).softmax(-1), 1, generator=theirs)
    assert not torch.equal(ours.generator.get_state(), theirs.get_state())


def test_these_are_all_processors_that_are_let_in():
    assert set(MADE) == set(IN_TENSORS)


@pytest.mark.parametrize("kind", MADE)
def test_they_ask_nothing_of_the_host(kind):
    history, scores = torch.arange(9)[None], row(1)
    with NoHostReads():
        kind(*MADE[kind])(history, scores)


def test_nor_does_a_draw_and_multinomial_would():
    scores = row(1).softmax(-1)
    with NoHostReads():
        Dice(dice(1)).draw(scores)
        with pytest.raises(HostReadError):
            torch.multinomial(scores, 1)


@pytest.mark.parametrize("asks", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero(), bool])
def test_whoever_asks_is_found(asks):
    numbers = torch.ones(1)
    with NoHostReads(), pytest.raises(HostReadError):
        asks(numbers)


@given(
    history=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12),
    more=st.integers(0, 9),
    kinds=st.sets(st.sampled_from(sorted(MADE, key=str)), min_size=1),
    seed=st.integers(0, 999),
)
def test_to_them_it_is_one_how_often_a_token_was_said_and_where(history, more, kinds, seed):
    """So that history may be filled up with one of its tokens."""
    processors = LogitsProcessorList([kind(*MADE[kind]) for kind in sorted(kinds, key=str)])
    padded = torch.tensor([[*history, *history[-1:] * more]])
    plain = processors(torch.tensor([history]), row(seed))
    assert torch.equal(processors(padded, row(seed)), plain)
    assert torch.equal(processors(padded.flip(1), row(seed)), plain)


def sequence(prompt: list[int], max_new_tokens: int, chooser: Chooser) -> Sequence:
    return Sequence(torch.tensor(prompt), len(prompt), TreeCache(1, 1), chooser, Stopping(max_new_tokens))


def likely(**more: Any) -> Chooser:
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.5), TopKLogitsWarper(5)])
    return Chooser(processors, **more)


@pytest.mark.parametrize("do_sample", [False, True])
def test_a_pick_is_the_choosers(do_sample):
    """Round after round, with what each of them has said."""
    answer = sequence([1, 2, 3], 40, likely(do_sample=do_sample, generator=dice(2)))
    picking = Picking.of(answer, CPU)
    other = likely(do_sample=do_sample, generator=dice(2))
    picking.write(answer.history())
    for turn in range(6):
        said: list[int] = []
        for step in range(4):
            token = picking(row(10 * turn + step), torch.tensor(said, dtype=torch.long))
            right = other.choose(row(10 * turn + step)[0], answer.history(tuple(said))[None])
            assert token.tolist() == [right]
            said.append(right)
        picking.append(torch.tensor([*said, 39, 39]), torch.tensor([4]))
        answer.emit(tuple(said))
        assert int(picking.said) == len(answer.history())
        assert picking.history[: int(picking.said)].tolist() == answer.history().tolist()
        assert set(picking.history.tolist()) == set(answer.history().tolist())
        if picking.dice is not None:
            picking.dice.keep(4)


def test_what_is_written_anew_forgets_what_was_there():
    answer = sequence([1, 2], 3, likely())
    picking = Picking.of(answer, CPU)
    for history in ([5, 6, 7], [8], [1, 2, 3, 4]):
        picking.write(torch.tensor(history))
        assert int(picking.said) == len(history)
        assert set(picking.history.tolist()) == set(history)


def test_the_likeliest_of_plain_logits_needs_nobody():
    assert Picking.of(sequence([1], 3, Chooser()), CPU) is None
    assert Picking.of(sequence([1], 3, Chooser(do_sample=True)), CPU) is not None
    assert Picking.of(sequence([1], 3, likely()), CPU).dice is None


class Mine(TopKLogitsWarper):
    """Somebody's own."""


@pytest.mark.parametrize(
    ("processor", "name"),
    [
        (NoRepeatNGramLogitsProcessor(2), "NoRepeatNGramLogitsProcessor"),
        (TypicalLogitsWarper(0.5), "TypicalLogitsWarper"),
        (RepetitionPenaltyLogitsProcessor(1.2, prompt_ignore_length=3), "RepetitionPenaltyLogitsProcessor"),
        (Mine(3), "Mine"),
    ],
)
def test_others_keep_an_answer_to_the_host_by_name(processor, name):
    assert keeps_to_the_host([TopKLogitsWarper(3), processor]) == name


def test_none_keeps_it_there_if_all_are_known():
    assert keeps_to_the_host([kind(*given) for kind, given in MADE.items()]) is None
    assert keeps_to_the_host([]) is None
