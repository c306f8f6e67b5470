"""Options of multiple choice questions: given in several forms, shown in several more."""

from __future__ import annotations

from specvlm.evals.grading.choices import LETTERS
from specvlm.evals.rows import UnreadableRowError


def letter_of(answer: str, choices: tuple[str, ...]) -> str:
    """The letter of the right option, which is given as its text or as a letter. Errors: UnreadableRowError."""
    if answer in choices:
        return LETTERS[choices.index(answer)]
    letter = answer.strip(" ().").upper()
    if len(letter) == 1 and letter in LETTERS[: len(choices)]:
        return letter
    raise UnreadableRowError(f"the answer {answer!r} is none of the options {', '.join(choices)}")


def listed(choices: tuple[str, ...], form: str) -> str:
    """Options, one a line, in a form such as "({letter}) {choice}". Errors: UnreadableRowError for more of them than
    there are letters."""
    if len(choices) > len(LETTERS):
        raise UnreadableRowError(f"there are {len(choices)} options, and letters for {len(LETTERS)}")
    return "\n".join(
        form.format(letter=letter, choice=choice) for letter, choice in zip(LETTERS, choices, strict=False)
    )


def without_letter(choice: str, letter: str) -> str:
    """The text of an option that may come with its letter: "A. a car" or "(A) a car"."""
    text = choice.strip()
    for mark in (f"({letter})", f"{letter}.", f"{letter})", f"{letter}:"):
        if text.startswith(mark):
            return text[len(mark) :].strip()
    return text
