"""What is said about a scene: questions, their answers, and how right somebody else's answer is.

An answer is a function of scene and question: things in reading order of their first places, events in order
of time, one way to say each. A fixed wording is what makes an answer gradable, and a draft model useful.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

from specvlm.pocket.world import ACTIONS, COLOURS, PLACES, SHAPES, SIZES, Event, Scene

ATTRIBUTES = ("colour", "size", "shape", "place", "motion", "order")
KINDS = ("detail", "happens", "count", "order", "colour", "place")

_NUMBERS = ("no shapes", "one shape", "two shapes", "three shapes")
_OPENERS = ("First", "Then", "Finally")

_WORDINGS = {
    "detail": (
        "Describe the video in detail.",
        "Please describe this video in detail.",
        "What can you see in this video? Tell me everything.",
        "Give a full description of the video.",
        "Tell me in detail what the video shows.",
    ),
    "happens": (
        "What happens to the {name}?",
        "What does the {name} do?",
        "Tell me what the {name} does in the video.",
    ),
    "count": ("How many shapes are there?", "How many shapes can you see in the video?", "Count the shapes."),
    "order": (
        "In which order do things happen?",
        "What happens, and in which order?",
        "List the events in order.",
    ),
    "colour": (
        "What colour is the shape in the {place} at the start?",
        "Which colour does the shape in the {place} have at first?",
    ),
    "place": ("Where is the {name} at the end?", "Where does the {name} end up?"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question about a scene with its true answer. `kind` is one of `KINDS`."""

    kind: str
    text: str
    answer: str


def name(scene: Scene, index: int) -> str:
    thing = scene.things[index]
    return f"{thing.colour} {thing.shape}"


def describe(scene: Scene) -> str:
    """The answer to "describe the video in detail": every attribute of the scene, in 60 to 150 tokens."""
    said = [f"The video shows {_NUMBERS[len(scene.things)]} on a {scene.background} background."]
    said += [
        f"In the {PLACES[thing.place]} there is a {thing.size} {thing.colour} {thing.shape}." for thing in scene.things
    ]
    said += [
        f"{opener}, the {name(scene, event.subject)} {_deed(scene, event)}."
        for opener, event in zip(_OPENERS, scene.events, strict=False)
    ]
    ends = [
        f"the {name(scene, index)} is {size} and in the {PLACES[place]}"
        for index, (size, place) in enumerate(zip(scene.final_sizes, scene.final_places, strict=True))
    ]
    return " ".join([*said, f"At the end, {_join(ends)}."])


def ask(scene: Scene, kind: str, rng: random.Random) -> Question:
    """A question of this kind about this scene, about a thing and in a wording that `rng` picks."""
    index = rng.randrange(len(scene.things))
    wording = rng.choice(_WORDINGS[kind])
    text = wording.format(name=name(scene, index), place=PLACES[scene.things[index].place])
    return Question(kind, text, _ANSWERS[kind](scene, index))


def _deed(scene: Scene, event: Event) -> str:
    if event.action.startswith("moves"):
        meeting = "" if event.met is None else f" and meets the {name(scene, event.met)}"
        return f"{event.action} to the {PLACES[event.end]}{meeting}"
    return {
        "grows": "grows and becomes large",
        "shrinks": "shrinks and becomes small",
        "blinks": "blinks white two times",
        "hides": "hides for a while and comes back",
    }[event.action]


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f", and {parts[-1]}"


def _happens(scene: Scene, index: int) -> str:
    deeds = [_deed(scene, event) for event in scene.events if event.subject == index]
    if not deeds:
        return f"The {name(scene, index)} does nothing at all."
    return f"The {name(scene, index)} {', then it '.join(deeds)}."


def _order(scene: Scene, index: int) -> str:
    events = [f"the {name(scene, event.subject)} {event.action}" for event in scene.events]
    return f"First {', then '.join(events)}."


_ANSWERS: dict[str, Callable[[Scene, int], str]] = {
    "detail": lambda scene, index: describe(scene),
    "happens": _happens,
    "count": lambda scene, index: f"There {'is' if len(scene.things) == 1 else 'are'} {_NUMBERS[len(scene.things)]}.",
    "order": _order,
    "colour": lambda scene, index: (
        f"The shape in the {PLACES[scene.things[index].place]} is {scene.things[index].colour}."
    ),
    "place": lambda scene, index: (
        f"At the end, the {name(scene, index)} is in the {PLACES[scene.final_places[index]]}."
    ),
}


def _any(words: tuple[str, ...] | dict) -> str:
    return "(" + "|".join(words) + ")"


_THING = re.compile(rf"[Ii]n the {_any(PLACES)} there is a {_any(SIZES)} {_any(COLOURS)} {_any(SHAPES)}\b")
_EVENT = re.compile(rf"{_any(_OPENERS)}, the {_any(COLOURS)} {_any(SHAPES)} {_any(ACTIONS)}\b")


def score(scene: Scene, answer: str) -> dict[str, tuple[int, int]]:
    """How many attributes a detailed answer gets right: {attribute: (right, asked)} for each of `ATTRIBUTES`.

    Things that the answer names are paired with the scene's so that most attributes agree; its events are paired with
    the scene's by their turn. `motion` asks what is done at each turn, `order` who does it (whatever name the answer
    gave that thing). What is left out counts as wrong, and so does what is made up: `asked` is the larger number.
    """
    claimed = [(colour, size, shape, place) for place, size, colour, shape in _THING.findall(answer)]
    true = [(thing.colour, thing.size, thing.shape, PLACES[thing.place]) for thing in scene.things]
    pairs = _best_pairs(true, claimed)
    asked = max(len(true), len(claimed))
    result = {
        attribute: (sum(true[i][n] == claimed[j][n] for i, j in pairs), asked)
        for n, attribute in enumerate(ATTRIBUTES[:4])
    }

    told = _EVENT.findall(answer)
    partner = {(claimed[j][0], claimed[j][2]): i for i, j in pairs}
    turns = list(zip(scene.events, told, strict=False))
    asked = max(len(scene.events), len(told))
    result["motion"] = (sum(event.action == action for event, (_, _, _, action) in turns), asked)
    result["order"] = (
        sum(event.subject == partner.get((colour, shape)) for event, (_, colour, shape, _) in turns),
        asked,
    )
    return result


def _best_pairs(true: list[tuple], claimed: list[tuple]) -> list[tuple[int, int]]:
    """The pairing (index of true, index of claimed) under which most attributes agree."""
    claimed = claimed[: 2 * len(COLOURS)]  # an endless answer must not take forever to grade: the rest is wrong anyway
    agree = [[sum(a == b for a, b in zip(t, c, strict=True)) for c in claimed] for t in true]
    few, many = sorted((range(len(true)), range(len(claimed))), key=len)
    swapped = len(claimed) < len(true)
    best = max(
        permutations(many, len(few)),
        key=lambda chosen: sum(agree[m][f] if swapped else agree[f][m] for f, m in zip(few, chosen, strict=True)),
    )
    return [(m, f) if swapped else (f, m) for f, m in zip(few, best, strict=True)]
