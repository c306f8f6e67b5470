"""Published benchmarks in small: their real layouts and columns, about films of the pocket pairs' world."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets

from specvlm.pocket import HELD_OUT, demo_video
from specvlm.pocket.language import describe
from specvlm.pocket.world import COLOURS, make_scene

NUM_FILMS = 3


def colours(number: int) -> tuple[str, list[str], str]:
    """A question of multiple choice about a film, its four options, and the right one."""
    right = make_scene(HELD_OUT[number]).things[0].colour
    wrong = [
        colour for colour in COLOURS if colour not in {thing.colour for thing in make_scene(HELD_OUT[number]).things}
    ]
    options = [*wrong[:3]]
    options.insert(number % 4, right)
    return "Which of these colours does a shape have?", options, right


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows).to_parquet(str(path))


def film(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    demo_video(path, number)


def video_detail_caption(root: Path) -> Path:
    names = [f"v_-{number}pq" for number in range(NUM_FILMS)]
    rows = [
        {
            "video_name": name,
            "question": "Please provide a detailed description of the video.",
            "answer": describe(make_scene(HELD_OUT[number])),
        }
        for number, name in enumerate(names)
    ]
    parquet(root / "data" / "test-00000-of-00001.parquet", rows)
    for number, name in enumerate(names):
        film(root / "Test_Videos" / f"{name}.mp4", number)
    return root


def mvbench(root: Path) -> Path:
    """Two subsets with one file name between them, in the folders that the archives unpack to."""
    for subset, folder in (("action_antonym", "ssv2_video_mp4"), ("object_shuffle", "perception/videos")):
        rows = []
        for number in range(2):
            question, options, right = colours(number)
            rows.append({"video": f"{number}.mp4", "question": question, "candidates": options, "answer": right})
            film(root / "video" / folder / f"{number}.mp4", number)
        (root / "json").mkdir(exist_ok=True)
        (root / "json" / f"{subset}.json").write_text(json.dumps(rows))
    return root


def mlvu(root: Path) -> Path:
    rows = []
    for number in range(NUM_FILMS):
        question, options, right = colours(number)
        lines = "\n".join(f"({letter}) {option}" for letter, option in zip("ABCD", options, strict=True))
        rows.append(
            {
                "video_name": f"movie_{number}.mp4",
                "duration": 4.0,
                "question": f"{question}\n{lines}",
                "answer": "ABCD"[options.index(right)],
                "task_type": ("plotQA", "count")[number % 2],
            }
        )
        film(root / "video_part_1" / f"movie_{number}.mp4", number)
    parquet(root / "mlvu" / "test-00000-of-00001.parquet", rows)
    return root


def longvideobench(root: Path) -> Path:
    rows = []
    for number in range(NUM_FILMS):
        question, options, right = colours(number)
        rows.append(
            {
                "video_id": f"id{number}",
                "id": f"id{number}_0",
                "video_path": f"id{number}.mp4",
                "subtitle_path": f"id{number}_en.json",
                "correct_choice": options.index(right),
                "question": question,
                **{f"option{n}": option for n, option in enumerate([*options, "N/A"])},
                "duration": 4.0,
                "duration_group": 15,
                "question_category": "S2E",
                "topic_category": "KH-Knowledge-History",
                "starting_timestamp_for_subtitles": 0.0,
            }
        )
        film(root / "videos" / f"id{number}.mp4", number)
        (root / "subtitles").mkdir(exist_ok=True)
        subtitles = [{"timestamp": [0.0, 2.0], "text": "Look at this."}]
        (root / "subtitles" / f"id{number}_en.json").write_text(json.dumps(subtitles))
    parquet(root / "validation-00000-of-00001.parquet", rows)
    parquet(root / "test-00000-of-00001.parquet", [{**row, "correct_choice": -1} for row in rows])
    return root


def videomme(root: Path) -> Path:
    rows = []
    for number in range(NUM_FILMS):
        question, options, right = colours(number)
        rows.append(
            {
                "video_id": f"{number:03d}",
                "duration": "short",
                "domain": "Knowledge",
                "sub_category": "Geography",
                "url": f"https://www.youtube.com/watch?v=yt-{number}",
                "videoID": f"yt-{number}",
                "question_id": f"{number:03d}-1",
                "task_type": "Attribute Perception",
                "question": question,
                "options": [f"{letter}. {option}." for letter, option in zip("ABCD", options, strict=True)],
                "answer": "ABCD"[options.index(right)],
            }
        )
        film(root / "data" / f"yt-{number}.mp4", number)
    parquet(root / "videomme" / "test-00000-of-00001.parquet", rows)
    return root


def folder(root: Path) -> Path:
    """Three videos, and questions of three kinds in a csv."""
    lines = ["video,question,answer,candidates"]
    for number in range(NUM_FILMS):
        film(root / "clips" / f"{number}.mp4", number)
    question, options, right = colours(1)
    lines.append(f'clips/0.mp4,"Describe the video in detail.","{describe(make_scene(HELD_OUT[0]))}",')
    lines.append(f"clips/1.mp4,{question},{right},{'|'.join(options)}")
    lines.append("2.mp4,How many shapes are there?,,")
    (root / "questions.csv").write_text("\n".join(lines) + "\n")
    return root


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    make.__name__: make for make in (video_detail_caption, mvbench, mlvu, longvideobench, videomme, folder)
}
SUBSETS = {"mvbench": ("action_antonym", "object_shuffle")}
"""Those that there are here."""
