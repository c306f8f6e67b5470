"""What cases are made of: a film of the pocket world, and stock generate's answer about it."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

QUESTION = "Describe the video in detail."
TOKENS = 8
"""Of an answer: as few as tell it from another one."""

FILM = "film.mp4"
ANSWERING = ["--max-new-tokens", str(TOKENS), "--device", "cpu", "--plan", "fixed"]
"""Options of a short answer for which nothing is measured before."""

WRONG_ANYWHERE: dict[str, Any] = {
    "null": None,
    "empty": "",
    "word": "a word",
    "lines": "two\nlines\x1b[31m",
    "lone": "\ud800",
    "minus": -1,
    "zero": 0,
    "half": 0.5,
    "nan": float("nan"),
    "inf": float("inf"),
    "true": True,
    "list": [],
    "object": {},
}
"""What hardly a field of a JSON file should hold."""


@cache
def film() -> bytes:
    """A film that the embedded pair has never seen."""
    from specvlm import pocket

    with tempfile.TemporaryDirectory() as folder:
        return pocket.demo_video(Path(folder) / FILM).read_bytes()


@cache
def answer(question: str = QUESTION) -> str:
    """What stock generate says of the film in `TOKENS` tokens."""
    import specvlm

    vlm = specvlm.load("pocket", device="cpu")
    return vlm.autoregressive(film(), question, max_new_tokens=TOKENS).text


def put_film(folder: Path) -> None:
    """`make` for a command that looks at the film."""
    (folder / FILM).write_bytes(film())


def warm_up() -> None:
    """Import and make whatever cases have in common, so that processes forked afterwards have it. One thread: those of
    a pool are not there any more behind a fork."""
    import importlib
    import pkgutil

    import specvlm
    from specvlm.cli.screen import silence

    silence()
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(specvlm.__path__, "specvlm."):
        if not module.name.startswith("specvlm.integrations") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    answer()
