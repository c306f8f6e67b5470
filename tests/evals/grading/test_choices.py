"""Nasty answers: each is parsed to the one option that it names, or to none."""

from __future__ import annotations

import pytest

from specvlm.evals.grading.choices import parse_choice

THINGS = ("a red car", "a blue car", "a dark blue car", "an aeroplane")

RIGHT = {
    # a letter and nothing else
    "B": "B",
    "b": "B",
    "(B)": "B",
    "B.": "B",
    " b) ": "B",
    "**B**": "B",
    "[C]": "C",
    "'D'": "D",
    # a letter to begin with
    "(B) a blue car": "B",
    "B. a blue car": "B",
    "B: because it is blue": "B",
    "b) a blue car": "B",
    "D. A aeroplane": "D",
    "A. A car of the colour red": "A",
    "B. a red car": "B",  # the letter is what was asked for
    "C) not a blue car": "C",
    # a letter that is said to be the answer
    "The answer is (b) because it is blue.": "B",
    "The correct answer is B": "B",
    "the answer is b.": "B",
    "Best option: (C)": "C",
    "Answer: D": "D",
    "My answer would be C.": "C",
    "Option A": "A",
    "Option A shows a car.": "A",
    "I would choose D, the plane.": "D",
    "The answer is A because the car is red.": "A",
    "After looking at a frame, the best choice is option B.": "B",
    "The answer is B, not A.": "B",
    # a letter that can't be a word
    "I think it must be C": "C",
    "It is (a), I suppose": "A",
    "Definitely B!": "B",
    "It is A.": "A",
    # the text of an option
    "a blue car": "B",
    "A Blue Car.": "B",
    "It shows a red car on a road.": "A",
    "It shows a dark blue car.": "C",  # which isn't a blue car
    "There is an aeroplane": "D",
    # what is denied
    "Not A, but B.": "B",
    "It is not (A), it is (C).": "C",
    "The answer is not B. It is C.": "C",
    "(A) is wrong, (B) is right.": "B",
    "It isn't a red car but an aeroplane.": "D",
    "The car is not moving so the answer is B": "B",
    "A is incorrect. C.": "C",
    "B can't be right; D is.": "D",
}

NOTHING = (
    "",
    "   ",
    "?",
    "I don't know.",
    "Option A or B",
    "A or B",
    "(A) or (B)",
    "A and B",
    "Both (A) and (D)",
    "A. B. C. D.",
    "The answer is A or C.",
    "Neither (A) nor (B).",
    "It is not B.",
    "B is wrong.",
    "E",  # there is no such option
    "The answer is a man in a car.",
    "A man is driving.",
    "I am a model.",
    "A car.",
    "Cabbage",  # has letters, but isn't one
    "It may be a red car or an aeroplane.",
    "It is not a red car.",
    "a red cart",
    "Bus, Cab, Dinghy",
)


@pytest.mark.parametrize(("answer", "letter"), RIGHT.items())
def test_names_one(answer: str, letter: str) -> None:
    assert parse_choice(answer, THINGS) == letter


@pytest.mark.parametrize("answer", NOTHING)
def test_names_none_or_two(answer: str) -> None:
    assert parse_choice(answer, THINGS) is None


@pytest.mark.parametrize(
    ("answer", "choices", "letter"),
    [
        ("He runs carefully.", ("car", "runs"), "B"),
        ("4", ("3", "4", "14"), "B"),
        ("There are 4.", ("3", "4", "14"), "B"),
        ("There are 14 of them", ("3", "4", "14"), "C"),
        ("About 4.5 metres", ("3", "4", "14"), None),
        ("Four or so", ("3", "4", "14"), None),
        ("Vitamin C", ("Vitamin A", "Vitamin C", "Iron", "Zinc"), "B"),
        ("They mention vitamin C there", ("Vitamin A", "Vitamin C", "Iron", "Zinc"), "B"),
        ("The answer is vitamin A.", ("Iron", "Vitamin A", "Vitamin C"), "B"),
        ("Yes, he does not stop.", ("No", "Yes"), "B"),
        ("No.", ("Yes", "No"), "B"),
        ("He did not move.", ("He moved", "He did not move"), "B"),
        ("not moving", ("moving", "not moving"), "B"),
        ("It is not moving", ("moving", "standing"), None),
        ("the same", ("the same", "The same."), None),  # two options that can't be told apart
        ("anything", (), None),
        ("F", ("1", "2", "3", "4", "5", "6"), "F"),
        ("up", ("up", "up and down"), "A"),
        ("It goes up and down", ("up", "up and down"), "B"),
        ("$5 (five)", ("$5", "$50"), "A"),
    ],
)
def test_options_of_all_kinds(answer: str, choices: tuple[str, ...], letter: str | None) -> None:
    assert parse_choice(answer, choices) == letter


@pytest.mark.parametrize("pattern", ["{}", "({})", "{}.", "The answer is {}.", "Option {}", "Best option: ({})"])
@pytest.mark.parametrize("letter", "ABCDEF")
def test_every_letter_is_alike(pattern: str, letter: str) -> None:
    choices = ("red", "green", "blue", "white", "black", "grey")
    assert parse_choice(pattern.format(letter), choices) == letter
    assert parse_choice(pattern.format(letter.lower()), choices) in (letter, None)
