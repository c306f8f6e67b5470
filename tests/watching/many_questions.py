"""Questions about one video that want all sorts of things, and stock generate's answers to compare with."""

from __future__ import annotations

from typing import Any

import torch

import tiny
from parity.pairs import pair
from specvlm.answering.answer import Generation
from specvlm.answering.options import OF_GUESSES, Options
from specvlm.pipeline import SpecVLM
from specvlm.watching.watched import Watched

SAMPLED = {"do_sample": True, "temperature": 0.8, "seed": 7}

TURNS: list[tuple[str, dict[str, Any]]] = [
    ("what happens?", {"pruner": "verifier_guided"}),
    ("a ball?", SAMPLED),
    ("what happens?", {"pruner": "verifier_guided"}),
    ("what happens in the video ?", {"pruner": "similarity", "repetition_penalty": 1.3}),
    ("describe it in detail", {"pruner": "attention", **SAMPLED, "prefill_chunk": 7}),
    ("größer 深い", {"pruning_ratio": 0.0, "tree": "paper"}),
    ("and?", {"max_new_tokens": 1}),
    ("and?", {"max_new_tokens": 0}),
    ("and?", {"pruning_ratio": 1.0}),
]


def watcher(family: str = "qwen2_5_vl", draft: str | None = "close", dtype: torch.dtype = torch.float64) -> SpecVLM:
    """`draft`, by its eyes: `close` has its own, `kin` the target's, `self` is the target; None: nobody guesses."""
    return pair(draft, dtype, family) if draft else pair("close", dtype, family).without_draft()


def check(vlm: SpecVLM, watched: Watched, video: Any, question: str, **options: Any) -> Generation:
    """Ask, and compare with stock generate, which gets the video as it came."""
    right = vlm.autoregressive(video, question, Options(**options))
    ours = watched.ask(question, Options(**options))
    assert (ours.token_ids, ours.text, ours.finish_reason) == (right.token_ids, right.text, right.finish_reason)
    assert ours.stats.num_prompt_tokens == right.stats.num_prompt_tokens
    return ours


def check_turns(vlm: SpecVLM) -> int:
    """All TURNS about one video, some of them follow-ups. Returns how many guesses were accepted."""
    video, history, accepted = tiny.film(6, 1), (), 0
    watched = vlm.watch(video)
    for turn, (question, options) in enumerate(TURNS):
        told = {"max_new_tokens": 10, "pruning_ratio": 0.5, "history": history[: turn % 3]} | options
        if vlm.draft is None:  # whom nobody asks about guesses
            told = {name: value for name, value in told.items() if name not in OF_GUESSES}
        answer = check(vlm, watched, video, question, **told)
        accepted += answer.stats.num_accepted
        history = (*history, (question, answer.text))
    return accepted
