"""What every test shares. The hook that checks shape annotations is switched on in pyproject.toml."""

from __future__ import annotations

import os

from hypothesis import settings

# No test may need the network. huggingface_hub reads this when it is imported, so it stands before any test.
os.environ["HF_HUB_OFFLINE"] = "1"

# A first forward is slow and a shared machine is slower: a deadline per example would fail at random.
settings.register_profile("specvlm", deadline=None)
settings.load_profile("specvlm")
