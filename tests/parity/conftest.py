"""Compares with stock generate, and counts; the sum over all workers is told at the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from specvlm.answering.options import Options
from specvlm.pipeline import Generation, SpecVLM

Same = Callable[..., Generation]


@pytest.fixture
def same(record_property: Callable[[str, object], None]) -> Iterator[Same]:
    """`same(vlm, video, question, **options)`: our answer, after it was found equal to stock generate's. `right` is
    that, where it is known already."""
    compared, different = 0, []

    def compare(
        vlm: SpecVLM, video: Any, question: str = "what happens?", *, right: Generation | None = None, **options: Any
    ) -> Generation:
        nonlocal compared
        if right is None:
            right = vlm.autoregressive(video, question, Options(**options))
        ours = vlm.generate(video, question, Options(**options))
        compared += 1
        if ours.token_ids != right.token_ids or (ours.text, ours.finish_reason) != (right.text, right.finish_reason):
            different.append((options, right.token_ids, ours.token_ids, right.finish_reason, ours.finish_reason))
        return ours

    yield compare
    record_property("compared", compared)
    record_property("different", len(different))
    assert not different, f"{len(different)} of {compared} answers differ from stock generate's, first {different[0]}"
