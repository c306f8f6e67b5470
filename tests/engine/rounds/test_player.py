"""Whole answers by rounds of the device, of fake models: those of plain decoding, by the rounds that the host plays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessorList, NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from engine.fakes import Language, embeds, prompt_positions, seen_in
from engine.rounds.fakes import FakeDeviceDecoder, StackedDecoder
from engine.test_loop import PROMPT, START, plain, told
from engine.trees import Path, shape, shape_options
from specvlm.engine.caches import stacked_cache
from specvlm.engine.caches.indexed_cache import IndexedCache
from specvlm.engine.caches.kv_cache import TreeCache
from specvlm.engine.drafting import ModelDrafter, NoDrafter
from specvlm.engine.loop import decode, first_token, prefill
from specvlm.engine.rounds.arena import Arena
from specvlm.engine.rounds.picking import Dice
from specvlm.engine.rounds.player import Player, why_not
from specvlm.engine.rounds.round import DeviceRound
from specvlm.engine.rounds.state import State
from specvlm.engine.sampling import Chooser
from specvlm.engine.sequence import Sequence, Stopping
from specvlm.engine.tree import DynamicTree, TreeShape, chain
from specvlm.planning.tree import PlannedTree

DEVICE, HOST = True, False


@dataclass
class Answer:
    """A whole answer, in which pieces it came, and who drafted it."""

    sequence: Sequence
    pieces: list[Path]
    drafter: ModelDrafter


@dataclass(frozen=True)
class Asked:
    """What is wanted of an answer; `turns` says whose each round is, over and over; buckets hold so many positions."""

    language: Language
    draft: Language
    shape: TreeShape
    stopping: Stopping
    chooser: Callable[[], Chooser]
    rows: int = 1
    turns: tuple[bool, ...] = (DEVICE,)
    bucket: int = 256

    def answer(self) -> Answer:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stacked_cache, "BUCKET", self.bucket)
            return self._answer()

    def _answer(self) -> Answer:
        """Caches have room for the prompt alone, up to a bucket's."""
        models = [StackedDecoder(language, rows=self.rows) for language in (self.language, self.draft)]
        target, draft = models
        positions = prompt_positions(START[self.rows], len(PROMPT))
        after, room = int(positions.max()) + 1, len(PROMPT)
        sequence = Sequence(PROMPT, after, target.new_cache(room), self.chooser(), self.stopping)
        pieces = [(first_token(sequence, prefill(target, sequence, embeds(PROMPT), positions)),)]
        cache = draft.new_cache(room)
        draft.prefill(embeds(PROMPT), positions, cache)
        drafter = ModelDrafter(draft, self.shape, cache, after, self.language.vocabulary)
        if sequence.finish_reason is None:
            assert why_not(sequence, drafter) is None
            pieces += decode(target, sequence, drafter, self.player(sequence, drafter))
        return Answer(sequence, pieces, drafter)

    def player(self, sequence: Sequence, drafter: ModelDrafter) -> Player:
        devices = [FakeDeviceDecoder(language, self.rows) for language in (self.language, self.draft)]
        player = Player(Arena(*devices), sequence, drafter)
        play, turns = player.play, cycle(self.turns)
        vars(player)["play"] = lambda: play() if next(turns) else None
        return player


def greedy() -> Chooser:
    return Chooser()


def sampled() -> Chooser:
    return Chooser(None, True, torch.Generator().manual_seed(0))


def penalised() -> Chooser:
    return Chooser(LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.5)]))


def both() -> Chooser:
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(1.5)])
    return Chooser(processors, True, torch.Generator().manual_seed(0))


stoppings = st.builds(Stopping, max_new_tokens=st.integers(1, 15), eos_ids=st.frozensets(st.integers(0, 5), max_size=2))


@given(
    options=shape_options,
    vocabulary=st.integers(1, 6),
    drafts=st.none() | st.integers(1, 6),
    noise=st.sampled_from([0.0, 0.5, 2.0, 50.0]),
    seed=st.integers(0, 999),
    stopping=stoppings,
    choose=st.sampled_from([greedy, sampled, penalised, both]),
    rows=st.sampled_from([1, 3]),
    turns=st.lists(st.booleans(), min_size=1, max_size=4),
    bucket=st.sampled_from([1, 3, 256]),
)
def test_an_answer_is_the_hosts_round_by_round(
    options, vocabulary, drafts, noise, seed, stopping, choose, rows, turns, bucket
):
    """Any tree, any draft, rounds of host and device in any order, caches that outgrow their buckets on the way."""
    language = Language(vocabulary, seed)
    draft = language.dialect(noise, vocabulary=drafts)
    ways = {"rows": rows, "bucket": bucket}
    device, host = (
        Asked(language, draft, shape(options), stopping, choose, turns=tuple(which), **ways).answer()
        for which in (turns, [HOST])
    )
    assert device.pieces == host.pieces
    assert device.sequence.tokens == host.sequence.tokens
    assert device.sequence.finish_reason == host.sequence.finish_reason
    assert device.sequence.stats.rounds == host.sequence.stats.rounds
    if choose in (greedy, sampled):
        assert (device.sequence.tokens, device.sequence.finish_reason) == plain(
            language, stopping, choose is sampled, rows
        )
    if (dice := device.sequence.chooser.generator) is not None:
        assert torch.equal(dice.get_state(), host.sequence.chooser.generator.get_state())
    # Both models hold the answer, but for what nobody has asked them about; and nothing else.
    assert seen_in(device.sequence.cache) == told(device.sequence.tokens[:-1], rows)
    for answer in (device, host):
        held = answer.drafter.cache.length - len(PROMPT)
        assert seen_in(answer.drafter.cache) == told(answer.sequence.tokens[:held], rows)
    assert device.drafter.cache.length == host.drafter.cache.length
    assert device.drafter.next_position == host.drafter.next_position
    assert device.drafter.unread == host.drafter.unread


LANGUAGE = Language(6, 4)
LONG = Asked(LANGUAGE, LANGUAGE.dialect(0.3), DynamicTree(4, 2, 8), Stopping(40), greedy, bucket=4)


def test_a_cache_outgrows_its_bucket_in_the_middle_of_an_answer():
    answer = LONG.answer()
    assert answer.sequence.tokens == plain(LANGUAGE, Stopping(40))[0]
    assert answer.sequence.cache.capacity > 40
    assert answer.sequence.stats.num_accepted > 5


def test_the_last_token_is_the_hosts():
    """No guess is wanted, and no draft is asked."""
    answer = Asked(LANGUAGE, LANGUAGE.dialect(0.0), chain(3), Stopping(6), greedy).answer()
    assert [len(each.path) for each in answer.sequence.stats.rounds] == [4, 1]
    assert answer.sequence.stats.rounds[-1].num_draft_forwards == 0


@pytest.mark.parametrize("options", [{"depth": 3, "width": 4, "num_nodes": 9}, [(0,), (3,), (3, 0)]], ids=str)
@pytest.mark.parametrize("vocabulary", [1, 2, 9])
def test_a_draft_that_has_fewer_words_than_a_node_has_children(options, vocabulary):
    """Or more than its target."""
    draft = LANGUAGE.dialect(0.3, vocabulary=vocabulary)
    device, host = (Asked(LANGUAGE, draft, shape(options), Stopping(9), greedy, turns=(turn,)).answer()
                    for turn in (DEVICE, HOST))  # fmt: skip
    assert device.sequence.tokens == plain(LANGUAGE, Stopping(9))[0]
    assert device.sequence.stats.rounds == host.sequence.stats.rounds


def broken(monkeypatch: pytest.MonkeyPatch, asked: Asked = LONG) -> Answer:
    """The answer with whatever was broken, caches apart that would have to grow for it."""
    answer = Asked(**{**vars(asked), "bucket": 256}).answer()
    monkeypatch.undo()
    return answer


def accepted(answer: Answer) -> int:
    return answer.sequence.stats.num_accepted


def shifted(name: str, by: int) -> Callable[..., None]:
    write = State.write

    def tell(self: State, **numbers: list[int]) -> None:
        write(self, **{key: [number + by for number in given] if key == name else given
                       for key, given in numbers.items()})  # fmt: skip

    return tell


@pytest.mark.parametrize(("name", "by"), [("target_length", -1), ("target_offset", 1), ("target_offset", -1)])
def test_a_target_that_is_told_wrong_answers_wrong(monkeypatch, name, by):
    """The control of the tests above."""
    monkeypatch.setattr(State, "write", shifted(name, by))
    assert broken(monkeypatch).sequence.tokens != LONG.answer().sequence.tokens


@pytest.mark.parametrize(("name", "by"), [("draft_length", -1), ("draft_offset", 1)])
def test_a_draft_that_is_told_wrong_guesses_worse_and_nothing_else(monkeypatch, name, by):
    monkeypatch.setattr(State, "write", shifted(name, by))
    answer, right = broken(monkeypatch), LONG.answer()
    assert answer.sequence.tokens == right.sequence.tokens
    assert accepted(answer) < accepted(right)


def test_rows_that_are_not_closed_up_make_an_answer_wrong(monkeypatch):
    monkeypatch.setattr(IndexedCache, "move", lambda self, source, destination: None)
    assert broken(monkeypatch).sequence.tokens != LONG.answer().sequence.tokens


def test_counters_that_stand_still_make_an_answer_wrong(monkeypatch):
    monkeypatch.setattr(DeviceRound, "_keep_target", lambda self, settled: None)
    assert broken(monkeypatch).sequence.tokens != LONG.answer().sequence.tokens


def test_an_end_that_is_ignored_makes_an_answer_too_long(monkeypatch):
    tokens = LONG.answer().sequence.tokens
    end = next(token for token in tokens[5:] if token not in tokens[:5])
    asked = Asked(**{**vars(LONG), "stopping": Stopping(40, frozenset({end}))})
    monkeypatch.setattr(State, "write", shifted("eos_ids", 99))
    answer, right = broken(monkeypatch, asked), asked.answer()
    assert right.sequence.finish_reason == "eos"
    assert len(answer.sequence.tokens) > len(right.sequence.tokens)


def test_dice_that_are_not_put_back_make_an_answer_wrong(monkeypatch):
    asked = Asked(**{**vars(LONG), "chooser": sampled})
    monkeypatch.setattr(Dice, "keep", lambda self, count: self.states.clear())
    answer, right = broken(monkeypatch, asked), asked.answer()
    assert right.sequence.tokens == plain(LANGUAGE, Stopping(40), do_sample=True)[0]
    assert answer.sequence.tokens != right.sequence.tokens


# --- what keeps an answer to the host -------------------------------------------------------------------------------


def stacked() -> TreeCache:
    return StackedDecoder(LANGUAGE).new_cache(9)


def asks(cache: TreeCache | None = None, chooser: Chooser | None = None, criterion: Any = None) -> Sequence:
    return Sequence(PROMPT, 4, cache or stacked(), chooser or Chooser(), Stopping(9, criterion=criterion))


def drafts(cache: TreeCache | None = None, shape: TreeShape | None = None) -> ModelDrafter:
    return ModelDrafter(StackedDecoder(LANGUAGE), shape or DynamicTree(), cache or stacked(), 4, 6)


def moved() -> TreeCache:
    """On another device."""
    cache = stacked()
    cache._lease.rows = cache.rows.to("meta")
    return cache


UNPLANNED = PlannedTree.__new__(PlannedTree)
FORBIDS = Chooser(LogitsProcessorList([NoRepeatNGramLogitsProcessor(2)]))
REASONS = {
    "there is no draft model": lambda: (asks(), NoDrafter()),
    "trees are a PlannedTree": lambda: (asks(), drafts(shape=UNPLANNED)),
    "a cache isn't of fixed capacity": lambda: (asks(TreeCache(2, 9)), drafts()),
    "the two models are on different devices": lambda: (asks(), drafts(moved())),
    "stopping criteria look at the text": lambda: (asks(criterion=lambda ids: False), drafts()),
    "what is too close to call is looked at again": lambda: (asks(chooser=Chooser(doubt=8.0)), drafts()),
    "NoRepeatNGramLogitsProcessor asks the host": lambda: (asks(chooser=FORBIDS), drafts()),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_only_the_host_can_do_is_named(reason):
    sequence, drafter = REASONS[reason]()
    assert why_not(sequence, drafter) == reason
    if isinstance(drafter, ModelDrafter):
        device = FakeDeviceDecoder(LANGUAGE)
        with pytest.raises(ValueError, match=reason):
            Player(Arena(device, device), sequence, drafter)


def test_a_drafts_own_cache_has_to_be_of_fixed_capacity_too():
    assert why_not(asks(), drafts(TreeCache(2, 9))) == "a cache isn't of fixed capacity"


def test_all_else_the_device_can_do():
    assert why_not(asks(), drafts()) is None
