"""Measure the way from a file to the first token, stage by stage, beside every other reader that is installed.

Films are rendered once and read by all readers in turns. What follows is measured with an embedded pair: from the file,
as specvlm answers, and from frames that are there already, which is what anybody else's frames would wait for.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from specvlm import pocket, video
from specvlm.answering.options import Options
from specvlm.bench.reading.films import FILMS, FPS, rendered
from specvlm.bench.reading.readers import OWN, Reader, installed, reader_versions, straight
from specvlm.comparing.compare import require_repeats
from specvlm.comparing.telling import told
from specvlm.engine.stats import timing_phases
from specvlm.errors import OptionError, brief
from specvlm.machine import machine, versions
from specvlm.pipeline import SpecVLM, load

FAMILY = "qwen2_5_vl"
QUESTION = "Describe the video in detail."
STAGES = ("preprocess", "vision_target", "prefill_target")
"""Phases between the frames and the first token."""


@dataclass(frozen=True)
class Setup:
    """What is measured: `num_frames` evenly spread over films of `seconds`, in so many turns."""

    films: tuple[str, ...] = tuple(FILMS)
    seconds: float = 120.0
    num_frames: int = 64
    repeats: int = 5
    folder: Path | None = None
    """Where films are kept, and found again; None: nowhere."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.films if name not in FILMS]
        if unknown or not self.films:
            raise OptionError(f"film must be one of {', '.join(map(repr, FILMS))}, not {brief(repr(unknown))}")
        require_repeats(self.repeats)
        if not 1 <= self.num_frames <= self.seconds * FPS:
            most = round(self.seconds * FPS)
            raise OptionError(f"film-frames must be from 1 to the {most} of {self.seconds:g} s, not {self.num_frames}")


@dataclass(frozen=True)
class Line:
    """One reader on one film: seconds of each turn."""

    reader: str
    seconds: tuple[float, ...]
    same: bool
    """Whether its frames are those of a straight decode, to the bit."""
    problem: str | None = None
    """Why there are no frames: peers may be built without what a film needs."""


def measured(path: Path, readers: Mapping[str, Reader], places: Sequence[int], repeats: int) -> list[Line]:
    """All readers on one film, in turns. Of the first turn nothing is kept but what was read: it warms up. A peer that
    can't read it is left out of the turns behind."""
    right = straight(path, places)
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    same, problems = dict.fromkeys(readers, True), {}
    for turn in range(1 + repeats):
        for name in [each for each in readers if each not in problems][:: 1 if turn % 2 else -1]:
            start = time.perf_counter()
            try:
                frames = readers[name](path, places)
            except Exception as error:
                if name == OWN:
                    raise
                seconds[name], same[name], problems[name] = [], False, told(error)
                continue
            if turn:
                seconds[name].append(time.perf_counter() - start)
            same[name] &= np.array_equal(frames, right)
    return [Line(name, tuple(seconds[name]), same[name], problems.get(name)) for name in readers]


@timing_phases()
def first_token(vlm: SpecVLM, path: Path, num_frames: int, repeats: int) -> dict[str, Any]:
    """Seconds to the first token, of each turn: from the file, and from its frames; and the stages behind these."""
    options = Options(num_frames=num_frames, max_new_tokens=2, do_sample=False, plan="fixed")
    frames = video.load(path, num_frames=num_frames)
    from_file, from_frames = [], []
    for turn in range(1 + repeats):
        for source, kept in ((path, from_file), (frames, from_frames)):
            stats = vlm.generate(source, QUESTION, options).stats
            if turn:
                kept.append(stats)
    return {
        "from_file": [stats.ttft_seconds for stats in from_file],
        "from_frames": [stats.ttft_seconds for stats in from_frames],
        "stages": {name: statistics.median(stats.phases.get(name, 0.0) for stats in from_frames) for name in STAGES},
    }


def run(
    setup: Setup,
    count: Callable[[int, int], object] = lambda done, total: None,
    on_film: Callable[[dict[str, Any]], object] = lambda document: None,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All films, as a document. `count` is told how many of how many are done, and `on_film` after each the document as
    far as it is: minutes of measuring outlive whatever ends them. Films that are in a document that is `known` aren't
    measured again, if it is of the same setup, machine and versions."""
    places = np.linspace(0, round(setup.seconds * FPS) - 1, setup.num_frames, dtype=int).tolist()
    vlm = load(pocket.path(FAMILY, "target"), pocket.path(FAMILY, "draft"))
    about = {name: getattr(setup, name) for name in ("seconds", "num_frames", "repeats")}
    document: dict[str, Any] = {
        "reading": about | {"date": datetime.now(UTC).isoformat(timespec="minutes"), "pair": f"pocket-{FAMILY}"},
        "films": [],
        "machine": machine(),
        "versions": versions() | reader_versions(),
    }
    found = _measured_before(known, document)
    left = [name for name in setup.films if name not in found]
    document["films"] = _in_order(found)
    with tempfile.TemporaryDirectory() as temporary:
        folder = setup.folder or Path(temporary)
        for done, name in enumerate(left, len(setup.films) - len(left)):
            count(done, len(setup.films))
            path = folder / f"{name} {setup.seconds:g} s.{FILMS[name].suffix}"
            if not path.exists():
                rendered(FILMS[name], setup.seconds, path.with_name(f"unfinished {path.name}")).rename(path)
            lines = [asdict(line) for line in measured(path, installed(), places, setup.repeats)]
            answered = first_token(vlm, path, setup.num_frames, setup.repeats)
            found[name] = {"film": name, "bytes": path.stat().st_size, "readers": lines, "first_token": answered}
            document["films"] = _in_order(found)
            on_film(document)
        count(len(setup.films), len(setup.films))
    return document


def _in_order(found: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [found[name] for name in FILMS if name in found]


def _measured_before(known: Mapping[str, Any] | None, document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The films of a document that was begun as another one is, by their names."""
    if known is None or not known.keys() >= document.keys() or _undated(known) != _undated(document):
        return {}
    return {film["film"]: film for film in known["films"]}


def _undated(document: Mapping[str, Any]) -> Any:
    about = {name: value for name, value in document["reading"].items() if name != "date"}
    return json.loads(json.dumps([about, document["machine"], document["versions"]]))  # as it is read again
