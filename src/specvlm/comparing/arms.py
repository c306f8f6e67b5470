"""Arms: the ways to answer that can be compared, by name. A name may carry a pruning ratio: `specvlm@0.5`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from specvlm.answering.answer import Generation
from specvlm.answering.answerer import Answerer
from specvlm.answering.options import Options
from specvlm.comparing import stock
from specvlm.engine.stats import timing_phases
from specvlm.errors import OptionError, brief
from specvlm.watching.shared_reading import SharedReading


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
    compiles: bool = False
    """Whether stock generate compiles something on a GPU before it answers."""

    @property
    def first_is_slow(self) -> bool:
        """Whether, on a GPU, the first answer of a length may take longer than all that follow: our own loop's too."""
        return self.compiles or self.answer is None

    @property
    def prunes(self) -> bool:
        """Whether a pruning ratio can be chosen for it."""
        return self.needs_draft and not self.may_refuse and "pruning_ratio" not in self.overrides

    def asked(self, options: Options) -> Options:
        """What it is asked with. Trees are fixed where nobody asked for a plan: `auto` stands beside the others, to
        show what that brings."""
        asked = replace(options if self.needs_draft else options.without_guesses(), **self.overrides)
        return replace(asked, plan=asked.plan or "fixed")

    def run(
        self, vlm: Answerer, video: Any, question: str, options: Options, reading: SharedReading | None = None
    ) -> Generation:
        """Answer, with the seconds of each phase. `reading` is one of this video, if there is one to share.

        Errors: OptionError, VideoError.
        """
        asked = self.asked(options)
        with timing_phases():
            if self.answer is not None:
                return self.answer(vlm, video, question, asked)
            pair = vlm if self.needs_draft else vlm.without_draft()
            return pair.generate(video, question, asked) if reading is None else reading.ask(pair, question, asked)


def _speculation(summary: str, **overrides: Any) -> Way:
    return Way(summary, overrides=overrides)


_FIXED: dict[str, Any] = {"plan": "fixed", "num_nodes": None, "width": None}

WAYS: dict[str, Way] = {
    "ar": Way(
        "the target alone, by stock Hugging Face generate; identical and speedups are against it.",
        stock.plain,
        needs_draft=False,
    ),
    "ar-no-cudnn": Way(
        "ar without cuDNN's attention, where a GPU would use it; speedups are against the faster of the two.",
        stock.without_cudnn,
        needs_draft=False,
    ),
    "ar-static": Way(
        'the target alone, by stock Hugging Face generate(cache_implementation="static"), which a GPU compiles for.',
        stock.static,
        needs_draft=False,
        may_refuse=True,
        compiles=True,
    ),
    "assisted": Way(
        "stock Hugging Face generate(assistant_model=draft), whose assistant never receives the video.",
        stock.assisted,
        may_refuse=True,
    ),
    "assisted-static": Way(
        'assisted, with cache_implementation="static".',
        stock.assisted_static,
        may_refuse=True,
        compiles=True,
    ),
    "prompt_lookup": Way(
        f"stock Hugging Face generate(prompt_lookup_num_tokens={stock.LOOKED_UP_TOKENS}): guesses that repeat earlier "
        "text.",
        stock.looking_up,
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
        tree=None,
        depth=None,
        num_nodes=None,
        width=None,
    ),
    "strict": _speculation(
        "specvlm that takes a second look at what is too close to call in low precision.", strict=True
    ),
}


PLAIN = ("ar", "ar-no-cudnn")
"""Stock generate without any help: what there is to be faster than."""


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


def planned(arms: Iterable[str], options: Options) -> Options | None:
    """What one of these arms is asked with whose trees are planned, if there is one. Errors: OptionError."""
    ways = [way for way in map(find, arms) if way.needs_draft and way.answer is None]
    return next((asked for way in ways if (asked := way.asked(options)).planned), None)
