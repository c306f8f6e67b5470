"""One video, many questions: every kind of draft, in every family and dtype that answers exactly."""

from __future__ import annotations

import pytest
import torch

import tiny
from watching.many_questions import check_turns, watcher

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("draft", ["close", "kin", "self", None])
@pytest.mark.parametrize("family", tiny.BUILDERS)
def test_every_answer_is_that_of_stock_generate(family: str, draft: str | None, dtype: torch.dtype) -> None:
    assert check_turns(watcher(family, draft, dtype)) > 0 or draft is None
