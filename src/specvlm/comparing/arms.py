"""Arms: the ways to answer that can be compared, by name. A name may carry a pruning ratio: `specvlm@0.5`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from specvlm.answering.answer import Generation
from specvlm.answering.answerer import Answerer
from specvlm.answering.options import Options
from specvlm.answering.oracle import stock_answer
from specvlm.answering.recipe import prepare_generation
from specvlm.engine.stats import Stats
from specvlm.errors import OptionError, brief
from specvlm.families import Family
from specvlm.watching.shared_reading import SharedReading

LOOKED_UP_TOKENS = 10
"""`prompt_lookup_num_tokens` of the arm `prompt_lookup`: what transformers' own documentation uses."""


@dataclass(frozen=True)
class Way:
    """One way to answer."""

    summary: str
    answer: Callable[[Answerer, Any, str, Options], Generation] | None = None
    """None: by specvlm's own loop, which can go on from what another way has read of a video."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    """Options that make it what it is, whatever was asked for."""
    needs_draft: bool = True
    may_refuse: bool = False
    """Whether the pair may be none that it can work with, which is then what there is to report."""

    @property
    def prunes(self) -> bool:
        """Whether a pruning ratio can be chosen for it."""
        return self.needs_draft and not self.may_refuse and "pruning_ratio" not in self.overrides

    def run(
        self, vlm: Answerer, video: Any, question: str, options: Options, reading: SharedReading | None = None
    ) -> Generation:
        """`reading` is one of this video, if there is one to share. Errors: OptionError, VideoError."""
        asked = replace(options, **self.overrides)
        if self.answer is not None:
            return self.answer(vlm, video, question, asked)
        pair = vlm if self.needs_draft else vlm.without_draft()
        return pair.generate(video, question, asked) if reading is None else reading.ask(pair, question, asked)


def _plain(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    return vlm.autoregressive(video, question, options)


def _speculation(summary: str, **overrides: Any) -> Way:
    return Way(summary, overrides=overrides)


def _looking_up(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    return _aided(vlm, video, question, options, {"prompt_lookup_num_tokens": LOOKED_UP_TOKENS})


def _assisted(vlm: Answerer, video: Any, question: str, options: Options) -> Generation:
    """As its documentation says: a second model and, where the models' tables differ in size, a second tokenizer."""
    draft = vlm.draft
    if draft is None or draft == "self":
        raise OptionError("transformers' assistant is another model: the target can't be its own")
    aids: dict[str, Any] = {"assistant_model": draft.model}
    tables = {family.model.config.get_text_config().vocab_size for family in (vlm.target, draft)}
    if len(tables) > 1:
        aids["assistant_tokenizer"] = draft.tokenizer
    with _config_as_found(draft), draft.as_found():
        return _aided(vlm, video, question, options, aids)


def _aided(vlm: Answerer, video: Any, question: str, options: Options, aids: Mapping[str, Any]) -> Generation:
    """Stock `generate` with a help of its own against the wait."""
    stats = Stats()
    prompt = vlm.prepare(video, question, options, stats)
    if prepare_generation(vlm.target, prompt.input_ids, options).config.do_sample:
        raise OptionError("transformers draws other random numbers when it speculates: only greedy answers compare")
    return stock_answer(vlm.target, prompt, options, stats, **aids)


@contextmanager
def _config_as_found(draft: Family) -> Iterator[None]:
    """transformers writes what it learns about an assistant into its generation config."""
    model: Any = draft.model
    found = model.generation_config
    model.generation_config = copy.deepcopy(found)
    try:
        yield
    finally:
        model.generation_config = found


_FIXED: dict[str, Any] = {"plan": "fixed", "num_nodes": None, "width": None}

WAYS: dict[str, Way] = {
    "ar": Way(
        "the target alone, by stock Hugging Face generate; identical and speedups are against it.",
        _plain,
        needs_draft=False,
    ),
    "assisted": Way(
        "stock Hugging Face generate(assistant_model=draft), whose assistant never receives the video.",
        _assisted,
        may_refuse=True,
    ),
    "prompt_lookup": Way(
        f"stock Hugging Face generate(prompt_lookup_num_tokens={LOOKED_UP_TOKENS}): guesses that repeat earlier text.",
        _looking_up,
        needs_draft=False,
        may_refuse=True,
    ),
    "loop": Way("the target alone, by specvlm's own loop.", needs_draft=False),
    "sd": _speculation("speculative decoding whose draft sees the whole video.", pruning_ratio=0.0),
    "specvlm": _speculation("speculative decoding whose draft sees the kept video tokens only."),
    "chain": _speculation("specvlm with guesses in a row, no branches.", **_FIXED, tree="chain"),
    "paper": _speculation("specvlm with the paper's tree of 25 nodes.", **_FIXED, tree="paper"),
    "dynamic": _speculation("specvlm with the dynamic tree of its defaults.", **_FIXED, tree="dynamic", depth=None),
    "auto": _speculation(
        "specvlm that plans its trees, and the ratio if none is given, by what forwards cost here.",
        plan="auto",
        tree="dynamic",
        depth=None,
        num_nodes=None,
        width=None,
    ),
    "strict": _speculation(
        "specvlm that takes a second look at what is too close to call in low precision.", strict=True
    ),
}


def find(name: str) -> Way:
    """The way of this name, with its ratio if it carries one. Errors: OptionError."""
    base, at, ratio = name.partition("@")
    if base not in WAYS:
        raise OptionError(
            f"there is no arm {brief(repr(name))}; there are {', '.join(WAYS)}, and specvlm@0.5 for a ratio of 0.5"
        )
    way = WAYS[base]
    if not at:
        return way
    if not way.prunes:
        raise OptionError(f"{brief(repr(name))}: the arm {base} takes no pruning ratio; leave out what follows the @")
    try:
        return replace(way, overrides={**way.overrides, "pruning_ratio": float(ratio)})
    except ValueError:
        told = brief(repr(name))
        raise OptionError(
            f"{told}: behind the @ stands a pruning ratio such as 0.9, not {brief(repr(ratio))}"
        ) from None
