"""Grading: the truth scores everything, another scene's truth little, and nonsense is survived."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specvlm.pocket.language import ATTRIBUTES, KINDS, ask, describe, score
from specvlm.pocket.world import make_scene

THREE = next(seed for seed in range(100) if len(make_scene(seed).things) == 3)


def share(scene, answer: str) -> float:
    right, asked = (sum(column) for column in zip(*score(scene, answer).values(), strict=True))
    return right / asked


def test_the_truth_scores_everything() -> None:
    for seed in range(300):
        scene = make_scene(seed)
        assert all(right == asked > 0 for right, asked in score(scene, describe(scene)).values())


def test_another_scenes_truth_scores_little() -> None:
    shares = [share(make_scene(seed), describe(make_scene(seed + 10_000))) for seed in range(400)]
    assert 0.1 < sum(shares) / len(shares) < 0.35


@pytest.mark.parametrize("answer", ["", " ", "The", "In the top left there is", "\x00" * 50, "video " * 5000])
def test_nonsense_scores_nothing(answer: str) -> None:
    assert share(make_scene(THREE), answer) == 0


def test_saying_everything_is_no_way_to_be_right() -> None:
    scene = make_scene(THREE)
    everything = " ".join(describe(make_scene(seed)) for seed in range(300)) + " " + describe(scene)
    assert share(scene, everything) < 0.05


def test_a_missing_thing_costs_its_attributes() -> None:
    scene = make_scene(THREE)
    first, *others = describe(scene).split(". ")
    shortened = ". ".join([first, *others[1:]])
    marks = score(scene, shortened)
    assert marks["colour"] == (2, 3)
    assert marks["motion"][0] == marks["motion"][1]


def test_order_forgives_a_wrong_name_but_not_a_wrong_turn() -> None:
    scene = next(
        s for s in map(make_scene, range(200)) if len(s.things) == 2 and s.events[0].subject != s.events[1].subject
    )
    thing = scene.things[0]
    other = next(c for c in ("red", "blue", "pink") if c not in {t.colour for t in scene.things})
    renamed = describe(scene).replace(f"{thing.colour} {thing.shape}", f"{other} {thing.shape}")
    marks = score(scene, renamed)
    assert marks["colour"][0] == marks["colour"][1] - 1
    assert marks["order"][0] == marks["order"][1]
    one, two = (f"{t.colour} {t.shape}" for t in scene.things)
    swapped = (
        describe(scene).replace(f", the {one}", ", the @").replace(f", the {two}", f", the {one}").replace("@", two)
    )
    assert score(scene, swapped)["order"][0] < len(scene.events)


@given(st.integers(0, 10**6), st.lists(st.sampled_from(sorted(set(describe(make_scene(THREE)).split()))), max_size=80))
def test_marks_are_never_more_than_asked(seed: int, words: list[str]) -> None:
    marks = score(make_scene(seed), " ".join(words))
    assert set(marks) == set(ATTRIBUTES)
    assert all(0 <= right <= asked for right, asked in marks.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_question_has_several_wordings_and_one_answer(kind: str) -> None:
    scene = make_scene(THREE)
    asked = [ask(scene, kind, random.Random(seed)) for seed in range(60)]
    assert len({question.text for question in asked}) >= 2
    if kind in ("detail", "count", "order"):
        assert len({question.answer for question in asked}) == 1
    assert all(question.answer.endswith(".") for question in asked)
