"""Watched: one video, many questions. It is decoded, seen and read by the target once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, final

from specvlm.answering import request
from specvlm.answering.answer import Generation, Rounds, in_rounds, require_question, texts, whole
from specvlm.answering.answerer import Answerer
from specvlm.answering.feature_cache import CHOOSING
from specvlm.answering.options import Options
from specvlm.answering.oracle import OnTokens, stock_answer
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError
from specvlm.families import Family
from specvlm.prompts.prompt import Prompt
from specvlm.video.identity import identity
from specvlm.watching.kept import Known

SETTLED = (*CHOOSING, "more_videos", "images")
"""Options that say what there is to see: every question is about the same."""


@final
class Memory:
    """Room for what is known of one video. Empty until the first question, and whenever it was told to forget.

    `on_end` is called after every answer, finished or given up: by the garbage collector too, at any moment.
    """

    def __init__(self, on_end: Callable[[], None] = lambda: None) -> None:
        self.on_end = on_end
        self._known: Known | None = None
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        known = self._known
        return 0 if known is None else known.nbytes

    def forget(self) -> None:
        """Answers in flight end as they would have."""
        self._known = None

    def ask(
        self, target: Family, question: str, options: Options, stats: Stats, prepare: Callable[[], Prompt]
    ) -> tuple[Known, Prompt]:
        """What is known, and the question's prompt: by `prepare` if it is the first, or nothing can be saved.

        What the target knew before its weights or adapters were changed is forgotten; the pixels are the same.
        """
        with self._lock:
            known, prompt = self._known, None
            if known is not None:
                stats.damage = known.damage
                with stats.phase("preprocess"):
                    prompt = target.reworded(
                        known.prompt, question, system=options.system, history=options.history, lead=options.lead
                    )
            if known is None or prompt is None:
                prompt = prepare()
                known = None
            if known is None or not known.still_true():
                known = self._known = Known(prompt, target, stats.damage)
            return known, prompt


@final
class Watched:
    """A video that may be asked about again and again, by several threads at once too.

    Each answer is the target's own, as of `SpecVLM.generate`. The first question pays for the video; from then on the
    target reads the text behind it alone: of a follow-up (`history`) only what is new, unless the pruner scores by all
    text behind the video. Scores, pruning and the draft's prompt are made for each question.

    Kept until `forget`, or until nobody holds this object: the pixels, what vision towers made of them, and the
    target's keys and values (of the last question's system prompt: another one is read with the video again).
    """

    def __init__(self, vlm: Answerer, video: Any, options: Options, recall: Callable[[], Memory] | None = None) -> None:
        """`recall` finds what is known, which others may know too; without one, it is this object's own."""
        self._vlm, self._video, self._options = vlm, video, options
        memory = Memory()
        self._recall = recall or (lambda: memory)

    def ask(self, question: str, options: Options | None = None, **overrides: Any) -> Generation:
        """Answer a question. `options` are those of `watch` if there are none here; `overrides` replace single ones.

        Errors: VideoError; OptionError, also for an option that `watch` has settled (`SETTLED`) and that differs.
        """
        return whole(self.stream(question, options, **overrides))

    def stream(
        self, question: str, options: Options | None = None, **overrides: Any
    ) -> Generator[str, None, Generation]:
        """`ask` as a generator of pieces of text, as `SpecVLM.stream`. It may be closed at any time."""
        return (yield from texts(self.trace(question, options, **overrides)))

    def trace(self, question: str, options: Options | None = None, **overrides: Any) -> Rounds:
        """`stream` token by token, round by round: what each adds to the text, and whether it was guessed."""
        options = self._settled(options, overrides)
        stats = request.start_clock(self._vlm.pair, options)
        with self._asked(question, options, stats) as (known, prompt):
            return (yield from in_rounds(self._vlm.pair, prompt, options, stats, known.run))

    def autoregressive(
        self, question: str, options: Options | None = None, *, on_tokens: OnTokens | None = None, **overrides: Any
    ) -> Generation:
        """The target alone, by stock Hugging Face `generate`, which sees and reads everything: the oracle. `on_tokens`
        is told of tokens as they come, and ends the answer by raising something."""
        options, stats = self._settled(options, overrides), Stats(self._vlm.target.devices)
        with self._asked(question, options, stats) as (_, prompt):
            return stock_answer(self._vlm.target, prompt, options, stats, on_tokens=on_tokens)

    @property
    def nbytes(self) -> int:
        """Bytes that are kept between questions."""
        return self._recall().nbytes

    def forget(self) -> None:
        """Free what is kept. The next question begins with the video again."""
        self._recall().forget()

    @contextmanager
    def _asked(self, question: str, options: Options, stats: Stats) -> Iterator[tuple[Known, Prompt]]:
        require_question(question, options)
        memory = self._recall()
        try:
            prepare = partial(self._vlm.prepare, self._video, question, options, stats)
            yield memory.ask(self._vlm.target, question, options, stats, prepare)
        finally:
            memory.on_end()

    def _settled(self, options: Options | None, overrides: dict[str, Any]) -> Options:
        """The options of one question, with those that `watch` has settled."""
        asked = Options.of(self._options if options is None else options, overrides)
        settled = {name: getattr(self._options, name) for name in SETTLED}
        for name, value in settled.items():
            given = getattr(asked, name)
            if given not in (None, ()) and given is not value and identity(given) != identity(value):
                raise OptionError(f"{name} is the same for every question about a video: give {given!r} to watch()")
        return replace(asked, **settled)
