"""Disk: where measurements are kept, each under all the facts that it hangs on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from platformdirs import user_cache_path

Known = TypeVar("Known")


def folder() -> Path:
    """Where costs are kept: where the system wants caches. Errors: RuntimeError where there is no home."""
    path = user_cache_path("specvlm", appauthor=False) / "costs"
    if not path.is_absolute():  # "~", and nobody knows whose: it would be a folder of that name in the present one
        raise RuntimeError(f"there is no home to keep measurements in, but {path}")
    return path


def read(facts: dict[str, Any], make: Callable[[Any], Known]) -> Known | None:
    """What `make` makes of the costs that were written under these facts; None if there is nothing, or nothing whole.

    `make` may raise ValueError, KeyError or TypeError at whatever else stands there.
    """
    with suppress(OSError, RuntimeError, ValueError, KeyError, TypeError):
        return make(json.loads(_file(facts).read_text())["costs"])
    return None


def write(facts: dict[str, Any], costs: dict[str, Any]) -> None:
    """A disk that can't be written to costs time, not the answer."""
    with suppress(OSError, RuntimeError):
        path = _file(facts)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(f".{os.getpid()}")
        whole.write_text(json.dumps({"costs": costs, "facts": facts}, indent=1, default=str))
        whole.replace(path)


def _file(facts: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
    return folder() / f"{key[:24]}.json"
