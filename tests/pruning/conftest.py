"""What the pruner tests share."""

from __future__ import annotations

import jaxtyping
import pytest


@pytest.fixture
def unchecked_annotations(monkeypatch):
    """The library as its users run it: what has the wrong type gets as far as the library's own errors."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
