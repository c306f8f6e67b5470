"""How well the pocket pair sees, and how pruning changes what is accepted: `python -m specvlm.bench.pocket_pairs`.

Accuracy is measured on held-out films through the checkpoint's own processor and stock `generate`; acceptance through
`specvlm.load(...).generate`, the road that every user takes. The tables replace those in docs/pocket.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoProcessor

from specvlm import pocket, video
from specvlm.pipeline import load
from specvlm.pocket.film import write_mp4
from specvlm.pocket.language import ATTRIBUTES, KINDS, ask, score
from specvlm.pocket.recipe.models import architecture
from specvlm.pocket.world import Scene, make_scene, render
from specvlm.pruning import PRUNERS
from specvlm.video import Video

log = logging.getLogger("specvlm.bench.pocket_pairs")

RATIOS = (0.0, 0.5, 0.75, 0.9, 0.95)
FILM_FPS, FILM_SECONDS = 24, 4.0
"""Those of `write_mp4`."""
BEGIN, END = "<!-- {name} -->", "<!-- end of {name} -->"


def film(scene: Scene, num_frames: int) -> Video:
    """Frames at the middles of `num_frames` equal parts of a film."""
    moments = (np.arange(num_frames) + 0.5) / num_frames
    return Video(render(scene, moments), moments * FILM_SECONDS, FILM_SECONDS, FILM_FPS, comment=pocket.SIGNED)


def film_after_codec(scene: Scene, num_frames: int) -> Video:
    """The same film as an mp4, read back by the library's own loader."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_mp4(scene, path, fps=FILM_FPS, seconds=FILM_SECONDS)
        return video.load(path, num_frames=num_frames)


class Reader:
    """A checkpoint of the pocket pair that answers by stock `generate`."""

    def __init__(self, family: str, path: Path, dtype: torch.dtype) -> None:
        model_class: Any = architecture(family).model_class
        self.model: Any = model_class.from_pretrained(path, dtype=dtype).eval()
        self.processor = AutoProcessor.from_pretrained(path, trust_remote_code=False)

    def inputs(self, films: Sequence[Video], question: str) -> Any:
        """One question about each of several films of as many frames, with the films' own clocks."""
        text = {"type": "text", "text": question}
        chats = [
            [{"role": "user", "content": [{"type": "video", "video": np.array(film.frames)}, text]}] for film in films
        ]
        inputs = self.processor.apply_chat_template(
            chats,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"do_sample_frames": False, "video_metadata": [_metadata(film) for film in films]},
        )
        inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(self.model.dtype)
        return inputs

    def answer(self, films: Sequence[Video], question: str) -> list[str]:
        """Greedy answers."""
        inputs = self.inputs(films, question)
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, do_sample=False, max_new_tokens=192)
        return self.processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _metadata(film: Any) -> dict[str, Any]:
    """The clock of a film that has one, as transformers wants it."""
    return {
        "total_num_frames": round(film.duration * film.source_fps),
        "fps": float(film.source_fps),
        "frames_indices": [float(second * film.source_fps) for second in film.timestamps],
        "duration": film.duration,
    }


def accuracy(reader: Reader, seeds: Sequence[int], num_frames: int, *, shift: int = 0, coded: bool = False) -> dict:
    """Share of attributes right in detailed descriptions, each and together, and of answers right to the letter.

    With `shift`, the model is shown the film of the scene `shift` places further: what is right then is luck.
    """
    totals = {attribute: [0, 0] for attribute in ATTRIBUTES}
    exact = 0
    filmed = film_after_codec if coded else film
    for chunk in _chunks(range(len(seeds)), 50):
        scenes = [make_scene(seeds[i]) for i in chunk]
        films = [filmed(make_scene(seeds[(i + shift) % len(seeds)]), num_frames) for i in chunk]
        question = ask(scenes[0], "detail", random.Random(chunk[0])).text
        for scene, answer in zip(scenes, reader.answer(films, question), strict=True):
            exact += answer == ask(scene, "detail", random.Random(0)).answer
            for attribute, (right, asked) in score(scene, answer).items():
                totals[attribute][0] += right
                totals[attribute][1] += asked
    shares = {attribute: right / asked for attribute, (right, asked) in totals.items()}
    together = [sum(column) for column in zip(*totals.values(), strict=True)]
    return shares | {"all": together[0] / together[1], "exact": exact / len(seeds)}


def short_answers(reader: Reader, seeds: Sequence[int], num_frames: int) -> dict[str, float]:
    """Share of the short questions, by kind, whose answer is right to the letter (one question a film)."""
    result = {}
    for kind in KINDS[1:]:
        right = 0
        for seed in seeds:
            question = ask(make_scene(seed), kind, random.Random(seed))
            right += reader.answer([film(make_scene(seed), num_frames)], question.text) == [question.answer]
        result[kind] = right / len(seeds)
    return result


Arm = tuple[str, float, str]
"""Pruner, ratio, positions."""


def acceptance(
    arms: Iterable[Arm], family: str, seeds: Sequence[int], num_frames: int, tree: str, dtype: torch.dtype
) -> dict[Arm, float]:
    """Mean acceptance length, bonus included, of each arm over one long prompt a seed.

    The mean is over rounds: tokens emitted after the first, of all prompts, per target forward.
    """
    pair = load(pocket.path(family, "target"), pocket.path(family, "draft"), dtype=dtype)
    result = {}
    for pruner, ratio, positions in arms:
        tokens = rounds = 0
        for seed in seeds:
            scene = make_scene(seed)
            stats = pair.generate(
                film(scene, num_frames),
                ask(scene, "detail", random.Random(seed)).text,
                num_frames=num_frames,
                pruner=pruner,
                pruning_ratio=ratio,
                positions=positions,
                tree=tree,
                do_sample=False,
            ).stats
            tokens += stats.num_tokens - 1
            rounds += stats.num_rounds
        result[pruner, ratio, positions] = tokens / max(rounds, 1)
        log.info("%s at %s, %s: %.2f", pruner, ratio, positions, result[pruner, ratio, positions])
    return result


def accuracy_table(rows: dict[str, dict[str, float]]) -> str:
    names = [*ATTRIBUTES, "all", "exact"]
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for label, row in rows.items():
        lines.append(f"| {label} | " + " | ".join(f"{100 * row[name]:.1f}" for name in names) + " |")
    return "\n".join(lines)


def acceptance_table(result: dict[Arm, float], ratios: Sequence[float]) -> str:
    lines = [
        "| pruner | positions | " + " | ".join(f"{ratio:g}" for ratio in ratios) + " |",
        "|---|---|" + "---:|" * len(ratios),
    ]
    for pruner, positions in dict.fromkeys((pruner, positions) for pruner, _, positions in result):
        figures = [result.get((pruner, ratio, positions)) for ratio in ratios]
        cells = " | ".join("" if figure is None else f"{figure:.2f}" for figure in figures)
        lines.append(f"| `{pruner}` | {positions} | {cells} |")
    return "\n".join(lines)


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands between the two comments of `name` in a page."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, rest = page.read_text().split(begin)
    after = rest.split(end)[1]
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _chunks(items: Sequence, size: int) -> Iterable[Sequence]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _worker() -> None:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("transformers").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=pocket.FAMILIES, default="llava_onevision", help="which pair to measure")
    parser.add_argument("--films", type=int, default=300, help="held-out films to describe (default 300)")
    parser.add_argument("--prompts", type=int, default=100, help="held-out prompts for acceptance (default 100)")
    parser.add_argument("--frames", type=int, default=16, help="frames a film (default 16)")
    parser.add_argument("--tree", default="paper", help="draft tree for acceptance (default paper)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--pruner", action="append", help="only these pruners (repeatable; default all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes for acceptance")
    parser.add_argument("--only", choices=("accuracy", "acceptance"), help="measure one of the two")
    parser.add_argument("--page", type=Path, help="page whose tables to replace, such as docs/pocket.md")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    dtype = getattr(torch, options.dtype)
    family = options.family
    record: dict = {"family": family, "films": options.films, "prompts": options.prompts, "frames": options.frames}

    if options.only != "acceptance":
        seeds, rows = pocket.HELD_OUT[: options.films], {}
        for role in pocket.ROLES:
            reader = Reader(family, pocket.path(family, role), dtype)
            rows[role] = accuracy(reader, seeds, options.frames)
            rows[f"{role}, after H.264"] = accuracy(reader, seeds[: len(seeds) // 3 or 1], options.frames, coded=True)
            rows[f"{role}, another video's pixels"] = accuracy(reader, seeds, options.frames, shift=1)
            record[f"{role}_short_answers"] = short_answers(reader, seeds[: len(seeds) // 3 or 1], options.frames)
            log.info("%s short answers: %s", role, record[f"{role}_short_answers"])
        record["accuracy"] = rows
        table = accuracy_table(rows)
        log.info("%s", table)
        if options.page:
            put(options.page, f"accuracy {family}", table)

    if options.only != "accuracy":
        seeds = pocket.HELD_OUT[1000 : 1000 + options.prompts]
        names = options.pruner or [name for name in PRUNERS if name != "none"]
        arms = [("none", 0.0, "original"), ("random", 1.0, "original")] + [
            (name, ratio, positions) for name in names for positions in ("original", "compact") for ratio in RATIOS[1:]
        ]
        result = dict.fromkeys(arms, 0.0)
        measure = partial(
            acceptance, family=family, seeds=seeds, num_frames=options.frames, tree=options.tree, dtype=dtype
        )
        with ProcessPoolExecutor(options.workers, get_context("spawn"), _worker) as pool:
            for part in pool.map(measure, ([arm] for arm in arms)):
                result |= part
        record["acceptance"] = [[*arm, length] for arm, length in result.items()]
        table = acceptance_table(result, (*RATIOS, 1.0))
        log.info("%s", table)
        if options.page:
            put(options.page, f"acceptance {family}", table)
    if options.json:
        sys.stdout.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
