"""One video, many questions: always the answer of stock generate, for the price of the text that is new."""

from __future__ import annotations

import copy
import gc
import random
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch

import tiny
from specvlm.answering import request
from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.engine.attention import ScoreRecorder
from specvlm.engine.caches.kv_cache import GROWTH_BLOCK, TreeCache
from specvlm.errors import OptionError, VideoError
from specvlm.families import Family
from specvlm.families.decoder import HFDecoder
from specvlm.pipeline import SpecVLM
from specvlm.prompts.lead import Slot
from specvlm.watching.kept import Held
from specvlm.watching.watched import Watched
from watching.many_questions import check, check_turns, watcher

DRAFTS = ("close", "kin", "self", None)

two_families = pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
"""One that numbers its tokens and one with M-RoPE, each with a chat template of its own."""
any_draft = pytest.mark.parametrize(
    ("family", "draft"),
    [("llava_onevision", "close"), ("qwen3_vl", "close"), *(("qwen2_5_vl", draft) for draft in DRAFTS)],
)
"""Every kind of draft, and every kind of family: parity has them all."""


class Work:
    """What models did: rows that decoders were given, frames that towers were, frames that processors were."""

    def __init__(self) -> None:
        self.rows: list[tuple[HFDecoder, int]] = []
        self.frames: list[tuple[Family, int]] = []
        self.prepared: list[Family] = []
        self.tower_calls: dict[Family, int] = {}

    def prefilled(self, family: Family) -> int:
        """Rows of the first forward: what was read of the prompt."""
        return next(rows for decoder, rows in self.rows if decoder is family.decoder)


@contextmanager
def counted(vlm: SpecVLM) -> Iterator[Work]:
    work = Work()
    families = [family for family in (vlm.target, vlm.draft) if isinstance(family, Family)]
    work.tower_calls = dict.fromkeys(families, 0)
    hooks = []
    for family in families:

        def seen(*_: Any, family: Family = family) -> None:
            work.tower_calls[family] += 1

        seen.__module__ = "torch.utils.flop_counter"  # one that looks on: another's would have all read anew
        hooks += [module.register_forward_pre_hook(seen) for module in leaves(family)]
    with pytest.MonkeyPatch.context() as patch:
        forward, see, prompt = HFDecoder._forward, type(vlm.target).see, Family._prompt

        def counting_forward(self: HFDecoder, embeds: Any, *more: Any, **ways: Any) -> Any:
            work.rows.append((self, len(embeds)))
            return forward(self, embeds, *more, **ways)

        def counting_see(self: Family, prompt: Any) -> Any:
            found = see(self, prompt)
            work.frames.append((self, len(found.frame_ids)))
            return found

        def counting_prompt(self: Family, *arguments: Any, **more: Any) -> Any:
            work.prepared.append(self)
            return prompt(self, *arguments, **more)

        patch.setattr(HFDecoder, "_forward", counting_forward)
        for owner in {type(family) for family in families}:
            patch.setattr(owner, "see", counting_see)
        patch.setattr(Family, "_prompt", counting_prompt)
        try:
            yield work
        finally:
            for hook in hooks:
                hook.remove()


def leaves(family: Family) -> list[torch.nn.Module]:
    """Modules of the vision tower that compute something themselves."""
    return [module for part in family.tower for module in part.modules() if isinstance(module, torch.nn.Linear)]


# --- the same answers -----------------------------------------------------------------------------------------------


@pytest.mark.part(2)
@any_draft
def test_every_answer_is_that_of_stock_generate(family: str, draft: str | None) -> None:
    assert check_turns(watcher(family, draft)) > 0 or draft is None


@pytest.mark.parametrize("pruner", ["frames", "similarity", "verifier_guided"])
def test_the_draft_keeps_what_it_would_have_kept(pruner: str) -> None:
    """And so guesses the same, whether its pruner looks at nothing, at features or at scores."""
    vlm, video = watcher(), tiny.film(8, 2)
    asked = Options(pruner=pruner, pruning_ratio=0.6, plan="fixed", max_new_tokens=16)
    watched = vlm.watch(video, asked)
    for question in ("a red ball?", "what happens?"):
        ours = watched.ask(question)
        alone = vlm.generate(video, question, asked)
        kept, guesses = zip(*((each.stats.kept, trees(each)) for each in (ours, alone)), strict=True)
        assert torch.equal(*kept)
        assert guesses[0] == guesses[1] != []


def trees(answer: Generation) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [(each.tree.tokens, each.path) for each in answer.stats.rounds]


@two_families
def test_scores_are_those_of_a_prompt_that_is_read_at_once(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorders: list[ScoreRecorder] = []

    class Remembered(ScoreRecorder):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            recorders.append(self)

    monkeypatch.setattr(request, "ScoreRecorder", Remembered)
    vlm, video = watcher(family), tiny.film(6, 1)
    options = {"pruner": "attention", "pruning_ratio": 0.5, "max_new_tokens": 4, "history": (("who?", "a ball"),)}
    watched = vlm.watch(video, **options)
    for question in ("what happens?", "a ball?", "a ball?"):
        watched.ask(question)
        vlm.generate(video, question, **options)
        ours, alone = recorders[-2].scores(), recorders[-1].scores()
        assert torch.allclose(ours, alone, rtol=0, atol=1e-12)
        assert ours.max() > 1e-3


@two_families
def test_a_conversation(family: str) -> None:
    """Follow-ups are read from where the last answer ended, as far as it is told the way it was said."""
    vlm, video = watcher(family), tiny.film(6, 3)
    watched, history = vlm.watch(video, max_new_tokens=12), ()
    for question in ("what happens?", "what is a red ball?", "and then?", "describe it"):
        answer = check(vlm, watched, video, question, history=history, max_new_tokens=12)
        history = (*history, (question, answer.text))


def test_an_answer_that_ends_at_once() -> None:
    video = tiny.film(6, 1)
    first = watcher(draft=None).generate(video, "what happens?", max_new_tokens=1).token_ids[0]
    ending: Any = copy.deepcopy(watcher().target.model)
    ending.generation_config.eos_token_id = [first, 2]
    vlm = tiny.pair(ending, tiny.noised(ending, 0.02))
    watched = vlm.watch(video)
    for question in ("what happens?", "what happens?", "a red ball?"):
        check(vlm, watched, video, question, max_new_tokens=12)
    assert watched.ask("what happens?").token_ids == (first,)


def test_another_system_prompt_is_read_with_the_video_but_nothing_is_seen_again() -> None:
    vlm, video = watcher(), tiny.film(6, 1)
    watched = vlm.watch(video, max_new_tokens=8)
    watched.ask("what happens?")
    for system in ("be brief", None):
        right = vlm.autoregressive(video, "what happens?", system=system, max_new_tokens=8)
        with counted(vlm) as work:
            answer = watched.ask("what happens?", system=system)
        assert answer.token_ids == right.token_ids
        assert (work.tower_calls[vlm.target], work.prepared) == (0, [])
        assert work.prefilled(vlm.target) > answer.stats.num_video_tokens


@two_families
def test_text_alone(family: str) -> None:
    vlm = watcher(family)
    watched = vlm.watch(None, max_new_tokens=12)
    for history in ((), (("who?", "a ball"),), ()):
        check(vlm, watched, None, "what happens?", history=history, max_new_tokens=12)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_several_videos_and_images(family: str) -> None:
    vlm, video = watcher(family), tiny.film(4, 1)
    media = {"more_videos": (tiny.film(3, 51, height=32),), "images": (tiny.image(1), tiny.image(2, 16, 32))}
    watched = vlm.watch(video, **media)
    for question, again in (("what happens?", media), ("a ball?", {})):
        right = vlm.autoregressive(video, question, Options(**media, max_new_tokens=8))
        assert watched.ask(question, Options(**again, max_new_tokens=8)).token_ids == right.token_ids


@two_families
def test_text_in_front_of_the_video_may_differ_from_question_to_question(family: str) -> None:
    vlm, video = watcher(family), tiny.film(6, 1)
    watched = vlm.watch(video, max_new_tokens=8)
    for question, lead in (("a ball?", ()), ("a ball?", ("look at", Slot.VIDEO)), ("", ("what happens?", Slot.VIDEO))):
        right = vlm.autoregressive(video, question, lead=lead, max_new_tokens=8)
        assert watched.ask(question, lead=lead).token_ids == right.token_ids
    assert vlm.generate(video, "", lead=lead, max_new_tokens=8).token_ids == right.token_ids
    with pytest.raises(OptionError, match="the question is empty"):
        watched.ask("", lead=lead, history=(("", "a ball"),))


def test_what_was_read_about_another_video_gives_other_answers() -> None:
    """Negative control: were the cache not looked at, or the wrong one, nobody would notice in the tests above."""
    vlm, video, other = watcher(), tiny.film(6, 1), tiny.film(6, 2)
    watched, wrong = vlm.watch(video, max_new_tokens=12), vlm.watch(other, max_new_tokens=12)
    right = watched.ask("what happens?")
    wrong.ask("what happens?")
    swapped = watched._recall()._known
    assert swapped is not None
    swapped._kept = wrong._recall()._known._kept  # type: ignore[union-attr]
    assert watched.ask("what happens?").token_ids != right.token_ids


def test_shared_tokens_stand_at_the_same_places() -> None:
    """A video at another frame rate has the same ids and, in Qwen2.5-VL, other positions."""
    family = watcher().target
    fast, slow = (family.prepare([tiny.film(8, 1, fps=fps)], "what happens?") for fps in (2.0, 0.25))
    assert torch.equal(fast.input_ids, slow.input_ids)
    held = Held(fast.input_ids, fast.position_ids)
    assert held.shared(fast) == fast.num_tokens
    shared = held.shared(slow)
    assert 0 < shared < fast.split
    assert torch.equal(fast.position_ids[:, :shared], slow.position_ids[:, :shared])
    assert not torch.equal(fast.position_ids[:, shared], slow.position_ids[:, shared])
    assert held.first(5).shared(fast) == 5
    assert held.first(0).shared(fast) == 0


# --- what it costs --------------------------------------------------------------------------------------------------


@any_draft
def test_later_questions_pay_for_their_own_text_alone(family: str, draft: str | None) -> None:
    vlm = watcher(family, draft)
    watched = vlm.watch(tiny.film(6, 1), max_new_tokens=12)
    with counted(vlm) as work:
        first = watched.ask("what happens?")
    assert work.prepared == [vlm.target]
    assert work.tower_calls[vlm.target] > 0
    assert work.prefilled(vlm.target) == first.stats.num_prompt_tokens
    assert {"decode_video", "vision_target"} <= first.stats.phases.keys()

    after_video = 0
    for question, options in [("a red ball?", {}), ("and?", {"pruner": "attention", "pruning_ratio": 0.5})]:
        with counted(vlm) as work:
            answer = watched.ask(question, **options)
        prompt = vlm.target.prepare([tiny.film(6, 1)], question)
        after_video = prompt.num_tokens - prompt.split
        assert (work.tower_calls[vlm.target], work.prepared) == (0, [])
        assert 0 < work.prefilled(vlm.target) <= after_video < answer.stats.num_video_tokens + after_video
        assert not {"decode_video", "vision_target"} & answer.stats.phases.keys()
        assert answer.stats.phases.keys() >= {"preprocess", "prefill_target"}
    # The last one scored: it read all of the text.
    assert draft is None or work.prefilled(vlm.target) == after_video


def test_a_follow_up_pays_for_what_is_new_in_it() -> None:
    vlm, video = watcher(draft="self"), tiny.film(6, 1)
    watched = vlm.watch(video)
    said = "a red ball rolls to the left and stops. " * 20
    watched.ask("what happens?", history=(("who?", said),), max_new_tokens=1)
    with counted(vlm) as work:
        check(vlm, watched, video, "describe it", history=(("who?", said), ("and?", "a ball")), max_new_tokens=8)
    own = vlm.target.tokenizer("and?a balldescribe it")["input_ids"]
    assert work.prefilled(vlm.target) < len(own) + 30
    with counted(vlm) as work:
        check(vlm, watched, video, "describe it", history=(("who?", said), ("and?", "a ball")), max_new_tokens=8)
    assert work.prefilled(vlm.target) == 1


def test_a_draft_with_eyes_of_its_own_looks_at_each_frame_once() -> None:
    vlm, video = watcher(), tiny.film(16, 1)
    watched = vlm.watch(video, pruner="random", pruning_ratio=0.9, max_new_tokens=4)
    frames: list[int] = []
    for question in ("what happens?", "a ball?", "what?", "describe it"):
        with counted(vlm) as work:
            watched.ask(question, pruner=f"random(seed={len(frames)})")
        frames.append(sum(n for family, n in work.frames if family is vlm.draft))
    assert 0 < frames[0] < 8
    assert 0 < sum(frames[1:]) <= 8 - frames[0]
    with counted(vlm) as work:
        watched.ask("what?", vision="full")
        watched.ask("and?", vision="full")
    assert sum(n for family, n in work.frames if family is vlm.draft) == 8 - sum(frames)


def test_only_a_cache_that_is_too_small_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = watcher(draft=None)
    watched = vlm.watch(tiny.film(6, 1), max_new_tokens=12)
    watched.ask("what happens?")
    layer = watched._recall()._known._kept.cache.layers[0]  # type: ignore[union-attr]
    place = layer.keys.data_ptr()
    watched.ask("what happens? " * 8)
    watched.ask("a ball?")
    assert layer.keys.data_ptr() == place
    assert layer.capacity % GROWTH_BLOCK == 0
    watched.ask("what happens? " * 200)
    assert layer.keys.data_ptr() != place


def test_the_oracle_pays_for_everything_but_the_pixels() -> None:
    vlm, video = watcher(), tiny.film(6, 1)
    watched = vlm.watch(video, max_new_tokens=12)
    answer = watched.ask("what happens?")
    with counted(vlm) as work:
        right = watched.autoregressive("what happens?")
    assert right.token_ids == answer.token_ids
    assert work.tower_calls[vlm.target] > 0
    assert work.prepared == []
    assert right.stats.phases.keys() >= {"prefill_target", "verify"}


# --- several answers in flight --------------------------------------------------------------------------------------

QUESTIONS = ("what happens?", "a red ball?", "what happens in the video ?", "and then?")


@lru_cache
def expected(draft: str | None = "close") -> dict[str, tuple[str, tuple[int, ...]]]:
    vlm = watcher(draft=draft)
    answers = {question: vlm.generate(tiny.film(6, 1), question, max_new_tokens=12) for question in QUESTIONS}
    return {question: (answer.text, answer.token_ids) for question, answer in answers.items()}


def finish(stream: Generator[str, None, Generation], said: str = "") -> tuple[str, tuple[int, ...]]:
    answer = None
    while answer is None:
        piece, answer = step(stream)
        said += piece
    assert said == answer.text
    return said, answer.token_ids


def step(stream: Generator[str, None, Generation]) -> tuple[str, Generation | None]:
    try:
        return next(stream), None
    except StopIteration as stop:
        return "", stop.value


@pytest.mark.part(2)
@pytest.mark.parametrize(("seed", "draft"), [(0, "close"), (1, "close"), (2, "self"), (3, None)])
def test_streams_that_begin_pause_and_are_given_up_at_any_time(seed: int, draft: str | None) -> None:
    vlm, chance = watcher(draft=draft), random.Random(seed)
    watched = vlm.watch(tiny.film(6, 1), max_new_tokens=12)
    streams: list[list[Any]] = []
    finished = 0
    for _ in range(60):
        move = chance.random()
        if move < 0.25 and len(streams) < 4:
            question = chance.choice(QUESTIONS)
            streams.append([question, watched.stream(question), ""])
        elif move < 0.32 and streams:
            streams.pop(chance.randrange(len(streams)))[1].close()
        elif move < 0.36 and streams:
            streams.pop(chance.randrange(len(streams)))  # nobody closes it but the garbage collector
            gc.collect()
        elif move < 0.4:
            watched.forget()
        elif streams:
            place = chance.randrange(len(streams))
            question, stream, said = streams[place]
            piece, answer = step(stream)
            streams[place][2] = said + piece
            if answer is not None:
                assert (said, answer.token_ids) == expected(draft)[question]
                streams.pop(place)
                finished += 1
    for question, stream, said in streams:
        assert finish(stream, said) == expected(draft)[question]
        finished += 1
    assert finished > 0


def test_two_streams_in_turn() -> None:
    watched = watcher().watch(tiny.film(6, 1), max_new_tokens=12)
    first, second = (watched.stream(question) for question in QUESTIONS[:2])
    said = next(first)
    other = next(second)
    assert finish(first, said) == expected()[QUESTIONS[0]]
    third = watched.stream(QUESTIONS[2])  # writes where the first one wrote, while the second goes on with its copy
    more = next(third)
    assert finish(second, other) == expected()[QUESTIONS[1]]
    assert finish(third, more) == expected()[QUESTIONS[2]]


def test_an_answer_in_flight_keeps_the_cache_and_another_copies_it() -> None:
    vlm = watcher()
    watched = vlm.watch(tiny.film(6, 1), max_new_tokens=12)
    stream = watched.stream(QUESTIONS[0])
    next(stream)
    with counted(vlm) as work:
        finish(watched.stream(QUESTIONS[1]))
    assert work.tower_calls[vlm.target] == 0
    assert work.prefilled(vlm.target) < 40
    size = watched.nbytes
    stream.close()
    assert watched.nbytes == size
    with counted(vlm) as work:
        assert finish(watched.stream(QUESTIONS[0])) == expected()[QUESTIONS[0]]
    assert work.prefilled(vlm.target) == 1


def test_an_abandoned_stream_leaves_nothing_behind() -> None:
    vlm = watcher()
    watched = vlm.watch(tiny.film(6, 1), max_new_tokens=12)
    watched.ask(QUESTIONS[0])
    gc.collect()
    caches, size = count(TreeCache), watched.nbytes
    for pieces in (0, 1, 2, 4):
        stream, another = watched.stream(QUESTIONS[1]), watched.stream(QUESTIONS[2])
        for _ in range(pieces):
            next(stream)
            next(another)
        del stream, another
    gc.collect()
    assert (count(TreeCache), watched.nbytes) == (caches, size)
    assert not watched._recall()._known._kept.lent  # type: ignore[union-attr]
    watched.forget()
    gc.collect()
    assert (count(TreeCache), watched.nbytes) == (caches - 1, 0)


def count(kind: type) -> int:
    return sum(type(thing) is kind for thing in gc.get_objects())


def test_threads_that_ask_at_once() -> None:
    """All begin together: one decodes and reads the video, the others wait for it."""
    vlm, right = watcher(), expected()
    # Trees that experience chooses may be wider than the video is long, and would be taken for readings of it.
    watched, found = vlm.watch(tiny.film(6, 1), max_new_tokens=12, tree="chain", depth=4), {}
    start = threading.Barrier(len(QUESTIONS))

    def ask(question: str) -> None:
        start.wait()
        for turn in range(3):
            found[question, turn] = finish(watched.stream(question))

    with counted(vlm) as work:
        threads = [threading.Thread(target=ask, args=(question,)) for question in QUESTIONS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {(question, turn): right[question] for question in QUESTIONS for turn in range(3)}
    assert work.prepared == [vlm.target]
    assert sum(n for family, n in work.frames if family is vlm.target) == 3
    video = vlm.target.prepare([tiny.film(6, 1)], "?").split
    assert sum(rows > video for decoder, rows in work.rows if decoder is vlm.target.decoder) == 1


@pytest.mark.parametrize(
    ("error", "place"), [(RuntimeError, 0), (RuntimeError, 1), (KeyboardInterrupt, 0), (KeyboardInterrupt, 3)]
)
def test_an_error_at_any_forward_spoils_nothing(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException], place: int
) -> None:
    vlm, calls, original = watcher(), [], HFDecoder._forward
    watched = vlm.watch(tiny.film(6, 1), max_new_tokens=12)
    watched.ask(QUESTIONS[0])

    def fail_once(self: HFDecoder, *arguments: Any, **ways: Any) -> Any:
        if self is vlm.target.decoder:
            calls.append(None)
            if len(calls) == place + 1:
                original(self, *arguments, **ways)
                raise error
        return original(self, *arguments, **ways)

    monkeypatch.setattr(HFDecoder, "_forward", fail_once)
    with pytest.raises(error):
        watched.ask(QUESTIONS[1])
    with counted(vlm) as work:
        watched.ask(QUESTIONS[2])
    assert work.prefilled(vlm.target) < 40  # what was read before the error is still there
    for question in QUESTIONS:
        assert finish(watched.stream(question)) == expected()[question]


# --- what it takes --------------------------------------------------------------------------------------------------


def _caches() -> list[TreeCache]:
    return [thing for thing in gc.get_objects() if type(thing) is TreeCache]


def test_what_is_kept_is_counted() -> None:
    vlm = watcher(draft=None)
    watched = vlm.watch(tiny.film(6, 1), max_new_tokens=12)
    assert watched.nbytes == 0
    others = _caches()  # of whatever else is alive in this process
    watched.ask("what happens?")
    prompt = vlm.target.prepare([tiny.film(6, 1)], "what happens?")
    (kept,) = [cache for cache in _caches() if cache.length and not any(cache is other for other in others)]
    seen = vlm.target.see(prompt)
    expected = sum(tensor.nbytes for tensor in (*prompt.model_inputs.values(), *seen.states)) + kept.nbytes
    assert watched.nbytes == expected
    watched.forget()
    assert watched.nbytes == 0
    assert watched.ask("what happens?").stats.phases.keys() >= {"decode_video", "vision_target"}


def test_options_of_watch_hold_for_every_question_that_brings_none() -> None:
    watched = watcher().watch(tiny.film(6, 1), Options(max_new_tokens=5), pruning_ratio=0.5)
    assert len(watched.ask("what happens?").token_ids) == 5
    assert len(watched.ask("what happens?", max_new_tokens=3).token_ids) == 3
    assert len(watched.ask("what happens?", Options(max_new_tokens=4)).token_ids) == 4
    assert watched.ask("what happens?").stats.num_kept == watched.ask("what happens?").stats.num_video_tokens // 2


@pytest.mark.parametrize(
    "options", [{"num_frames": 4}, {"fps": 1.0}, {"max_pixels": 512}, {"images": (tiny.image(1),)}], ids=str
)
def test_what_there_is_to_see_is_settled(options: dict) -> None:
    vlm, film = watcher(), tiny.film(8, 1)
    free, settled = vlm.watch(film, max_new_tokens=6), vlm.watch(film, **options, max_new_tokens=6)
    free.ask("what happens?")
    with pytest.raises(OptionError, match=f"{next(iter(options))} is the same for every question"):
        free.ask("what happens?", **options)
    right = vlm.generate(film, "what happens?", **options, max_new_tokens=6)
    for again in ({}, copy.deepcopy(options), options):
        answer = settled.ask("what happens?", **again)
        assert answer.token_ids == right.token_ids
        assert answer.stats.num_video_tokens == right.stats.num_video_tokens


@pytest.mark.parametrize("call", ["ask", "stream", "autoregressive"])
def test_refusals(call: str) -> None:
    def ask(watched: Watched, *arguments: Any, **options: Any) -> Any:
        answer = getattr(watched, call)(*arguments, **options)
        return answer if call != "stream" else finish(answer)

    watched = watcher().watch(tiny.film(6, 1), max_new_tokens=6)
    for _ in range(2):  # before it has seen the video, and after
        with pytest.raises(OptionError, match="the question is empty"):
            ask(watched, " ")
        with pytest.raises(OptionError, match="no option 'max_tokens'"):
            ask(watched, "what?", max_tokens=3)
        ask(watched, "what?")
    with pytest.raises(OptionError, match="place-holder"):
        ask(watched, "what is a <|video_pad|>?")
    with pytest.raises(VideoError, match="no such file"):
        ask(watcher().watch("no such file.mp4"), "what?")
    with pytest.raises(OptionError, match="no option"):
        watcher().watch(tiny.film(6, 1), frames=3)


def test_a_tokenizer_that_joins_text_and_video_is_no_danger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then every question is answered from scratch."""
    monkeypatch.setattr(Family, "reworded", lambda *arguments, **more: None)
    vlm, video = watcher(), tiny.film(6, 1)
    watched = vlm.watch(video, max_new_tokens=8)
    for question in QUESTIONS:
        with counted(vlm) as work:
            answer = watched.ask(question)
        assert answer.token_ids == vlm.autoregressive(video, question, max_new_tokens=8).token_ids
        assert work.prepared == [vlm.target]
        assert work.prefilled(vlm.target) == answer.stats.num_prompt_tokens
