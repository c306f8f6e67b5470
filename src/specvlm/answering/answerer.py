"""Answerer: all that watching and comparing see of `SpecVLM`, which offers both, and so stands above them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from specvlm.answering.answer import Generation
from specvlm.answering.options import Options
from specvlm.answering.pair import Draft, Pair
from specvlm.engine.stats import Stats
from specvlm.families import Family
from specvlm.prompts.prompt import Prompt


@runtime_checkable
class Answerer(Protocol):
    """A pair of models that answers questions about videos: `SpecVLM` says how."""

    @property
    def pair(self) -> Pair: ...
    @property
    def target(self) -> Family: ...
    @property
    def draft(self) -> Draft: ...

    def prepare(self, video: Any, question: str, options: Options, stats: Stats) -> Prompt: ...
    def generate(self, video: Any, question: str, options: Options) -> Generation: ...
    def autoregressive(self, video: Any, question: str, options: Options) -> Generation: ...
    def without_draft(self) -> Answerer: ...
