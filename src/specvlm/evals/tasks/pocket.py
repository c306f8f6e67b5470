"""The held-out little world: films that no training ever saw, in the layout of VideoDetailCaption."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, final

from specvlm.errors import OptionError, brief
from specvlm.evals.rows import Row
from specvlm.evals.sample import Sample, Scores
from specvlm.evals.tasks.base import Task, register
from specvlm.evals.tasks.video_detail_caption import PATTERNS, VIDEOS, caption_sample
from specvlm.evals.writing import require_own_folder, require_regular, write_whole
from specvlm.pocket import HELD_OUT, demo_video
from specvlm.pocket.language import ask, score
from specvlm.pocket.world import make_scene
from specvlm.video.files.addresses import at_home

ROWS = "test.jsonl"


@register
@final
@dataclass(frozen=True, kw_only=True)
class Pocket(Task):
    """Films of the pocket pairs' own world, made here; the share of attributes that a description gets right.

    `data` is where they are filmed to, in the layout of VideoDetailCaption: a new or empty folder, or one that holds
    such films; what is there already stays. Errors: OptionError for a folder of anything else.
    """

    name: ClassVar[str] = "pocket"
    makes_data: ClassVar[bool] = True
    usual_num_samples: ClassVar[int] = 40

    def patterns(self, subset: str) -> Sequence[str]:
        return PATTERNS

    def samples(self, num_samples: int | None = None, order_seed: int | None = None) -> list[Sample]:
        """Of the first films, however many another run had made here."""
        num_films = self.usual_num_samples if num_samples is None else num_samples
        self.film(num_films)
        rows = [Row(str(number), _row(number)) for number in range(num_films)]
        if order_seed is not None:
            random.Random(order_seed).shuffle(rows)
        return [self._sample(row) for row in rows]

    def sample(self, row: Row) -> Sample:
        return caption_sample(self, row)

    def score(self, sample: Sample, text: str) -> Scores:
        number = int(Path(sample.video).stem.removeprefix("film_"))
        points = score(make_scene(HELD_OUT[number]), text)
        together = {"all": (sum(right for right, _ in points.values()), sum(asked for _, asked in points.values()))}
        return {name: (float(right), float(asked)) for name, (right, asked) in (points | together).items()}

    def film(self, num_films: int) -> None:
        """Write the first of the held-out films, one mp4 and one row each. Errors: OptionError."""
        if num_films > len(HELD_OUT):
            raise OptionError(f"num_samples must be at most {len(HELD_OUT)} here, and is {num_films}")
        folder = at_home(self.data)
        folder.mkdir(parents=True, exist_ok=True)
        if self._num_rows(folder) < num_films:  # before the films: by its rows the folder is known again after a kill
            rows = "".join(json.dumps(_row(number)) + "\n" for number in range(num_films))
            write_whole(folder / ROWS, rows)
        require_own_folder(folder / VIDEOS)
        for number in range(num_films):
            film = folder / VIDEOS / f"{_name(number)}.mp4"
            if not film.exists():  # whole, or not at all
                beside = film.with_name(f".{film.name}")
                beside.unlink(missing_ok=True)
                demo_video(beside, number).replace(film)

    def _num_rows(self, folder: Path) -> int:
        """How many films a folder has been begun for. Errors: OptionError if it holds anything that isn't ours."""
        others = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if not others:
            return 0
        if require_regular(folder / ROWS) is not None:
            lines = (folder / ROWS).read_text(encoding="utf-8", errors="replace").splitlines()
            if len(lines) <= len(HELD_OUT) and lines == [json.dumps(_row(number)) for number in range(len(lines))]:
                return len(lines)
        raise OptionError(
            f"data: {brief(folder)} holds {brief(others[0], 80)}, and task pocket makes its own films: name a new "
            "folder for them, or the task that your data is for, such as --task folder"
        )


def _name(number: int) -> str:
    return f"film_{number:06d}"


def _row(number: int) -> dict[str, Any]:
    question = ask(make_scene(HELD_OUT[number]), "detail", random.Random(number))
    return {"video_name": _name(number), "question": question.text, "answer": question.answer}
