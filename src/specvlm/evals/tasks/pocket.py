"""The held-out little world: films that no training ever saw, in the layout of VideoDetailCaption."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from specvlm.evals.rows import Row
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import Task, register
from specvlm.evals.tasks.video_detail_caption import PATTERNS, VIDEOS, caption_sample
from specvlm.evals.writing import write_whole
from specvlm.pocket import HELD_OUT, demo_video
from specvlm.pocket.language import ask, score
from specvlm.pocket.world import make_scene

DEFAULT_NUM_FILMS = 40


@register
@final
@dataclass(frozen=True, kw_only=True)
class Pocket(Task):
    """Films of the pocket pairs' own world, made here; the share of attributes that a description gets right.

    `data` is where they are filmed to, in the layout of VideoDetailCaption; what is there already stays.
    """

    name: ClassVar[str] = "pocket"
    makes_data: ClassVar[bool] = True

    def patterns(self, subset: str) -> Sequence[str]:
        return PATTERNS

    def samples(self, num_samples: int | None = None, order_seed: int | None = None) -> list[Sample]:
        self.film(DEFAULT_NUM_FILMS if num_samples is None else num_samples)
        return super().samples(num_samples, order_seed)

    def sample(self, row: Row) -> Sample:
        return caption_sample(self, row)

    def score(self, sample: Sample, text: str) -> Scores:
        number = int(Path(sample.video).stem.removeprefix("film_"))
        points = score(make_scene(HELD_OUT[number]), text)
        together = {"all": (sum(right for right, _ in points.values()), sum(asked for _, asked in points.values()))}
        return {name: (float(right), float(asked)) for name, (right, asked) in (points | together).items()}

    def film(self, num_films: int) -> None:
        """Write the first of the held-out films, one mp4 and one row each."""
        folder = Path(self.data).expanduser()
        (folder / VIDEOS).mkdir(parents=True, exist_ok=True)
        for number in range(num_films):
            film = folder / VIDEOS / f"{_name(number)}.mp4"
            if not film.exists():
                demo_video(film.with_name(f".{film.name}"), number).replace(
                    film
                )  # a film is there whole, or not at all
        rows = "".join(json.dumps(_row(number)) + "\n" for number in range(num_films))
        write_whole(folder / "test.jsonl", rows)


def _name(number: int) -> str:
    return f"film_{number:06d}"


def _row(number: int) -> dict[str, Any]:
    question = ask(make_scene(HELD_OUT[number]), "detail", random.Random(number))
    return {"video_name": _name(number), "question": question.text, "answer": question.answer}
