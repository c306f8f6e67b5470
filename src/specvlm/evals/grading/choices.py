"""Which option an answer names: exact parsing of multiple choice answers. What names none, or two, is no answer."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from specvlm.evals.sample import Sample, Scores

LETTERS = string.ascii_uppercase

Span = tuple[int, int]
Mentions = dict[str, list[Span]]
"""Where each letter, or the option that it stands for, is mentioned."""

_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|cannot|without|except|excluding|rather than|instead of|rule[sd]? out|eliminated?)\b"
    r"|n['’]t\b)(?:(?!\b(?:but|so|and|or|then|thus|hence|therefore|because|since|however)\b)[^.;:!?,]){0,40}$",
    re.IGNORECASE,
)
_DENIED_BEHIND = re.compile(
    r"""^[\s)\]"'’.:]*(?:(?:is|are|was|were|would be|seems|looks|can be)\s+"""
    r"(?:(?:clearly|definitely|obviously|also|all|both)\s+)?(?:not|wrong|incorrect|false|ruled out|impossible)"
    r"|isn['’]t|aren['’]t|wasn['’]t|can['’]t be|cannot be)\b",
    re.IGNORECASE,
)
_AND_ANOTHER = r"""[)\]"']?\s*(?:or|and|/|&|,)\s*(?:(?i:option)\s+)?[(\["']?(?P<letter>[{letters}])(?![\w'’])"""


def parse_choice(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the one option that an answer names ("A" is the first of `choices`), or None.

    What is looked for, and the first that is found decides:

    1. nothing but a letter, or nothing but the text of an option: "(B)", "b.", "a red car";
    2. a marked letter to begin with: "(B) a red car", "B. a red car", "B: ...";
    3. a letter that is said to be the answer: "the answer is (b)", "Option C", "I choose D";
    4. any other letter that can't be a word: "(B)", "it must be C";
    5. the text of an option, as whole words; of two that overlap, the longer.

    What is denied doesn't count ("not B", "A is wrong"). Two different ones at the same place in this list are no
    answer: None, never a guess.
    """
    text = re.sub(r"\s+", " ", text.replace("*", "").replace("`", "")).strip()
    letters = LETTERS[: len(choices)]
    if not text or not letters:
        return None
    if lone := re.fullmatch(rf"[\W_]*([{letters}])[\W_]*", text, re.IGNORECASE):
        return lone[1].upper()
    same = {letter for letter, choice in zip(letters, choices, strict=False) if _plain(choice) == _plain(text)}
    if same and _plain(text):
        return _only(same)
    named = _named(text, choices)
    for mentions in (_opening(text, letters), _stated(text, letters, named), _marked(text, letters, named), named):
        affirmed = {letter for letter, spans in mentions.items() if any(not _denied(text, span) for span in spans)}
        if affirmed:
            return _only(affirmed)
    return None


def score_choice(sample: Sample, text: str) -> Scores:
    """`accuracy`: the right option is named; `understood`: any option is. Nothing if the right one isn't known."""
    if not sample.answer:
        return {}
    chosen = parse_choice(text, sample.choices)
    return {"accuracy": (float(chosen == sample.answer), 1.0), "understood": (float(chosen is not None), 1.0)}


def _only(letters: set[str]) -> str | None:
    return next(iter(letters)) if len(letters) == 1 else None


def _opening(text: str, letters: str) -> Mentions:
    """A letter at the very beginning that is marked as one, and isn't the first of several."""
    either = letters + letters.lower()
    match = re.match(rf"[\"']?(?:\((?P<one>[{either}])\)|(?P<two>[{either}])\s?(?:[):\]]|\.(?!\w)))", text)
    if match is None:
        return {}
    another = rf"\s*(?:{_AND_ANOTHER.format(letters=letters)}|[(\[]?[{letters}][.)\]])"
    if re.match(another, text[match.end() :]):
        return {}
    group = "one" if match["one"] else "two"
    return {match[group].upper(): [match.span(group)]}


def _stated(text: str, letters: str, named: Mentions) -> Mentions:
    """Letters behind a word that announces one, and those that are joined to them: "option A or B"."""
    small = letters.lower()
    announced = (
        r"\b(?i:answers?|options?|choices?|choose|select|pick|go with)\b"
        r"(?i:\s+(?:is|are|would be|should be|must be|will be|to be|option|choice|letter))*\s*[:=]?\s*"
    )
    patterns = (
        rf"{announced}[(\[\"'](?P<letter>[{letters}{small}])[)\]\"']",
        # "The answer is A man": a letter that may be an article has to be marked, or to end a phrase.
        rf"{announced}(?P<letter>(?!A (?!because|since|as|and|or|for|but)[a-z])[{letters}])(?![\w'’])",
        rf"{announced}(?P<letter>[{small}])(?=\s*(?:[.):,;!\]]|$))",
        rf"\b(?i:options?|choices?) (?P<letter>[{letters}])(?![\w'’])",  # no article stands behind these words
    )
    found = _find(patterns, text, named)
    for _, end in [span for spans in found.values() for span in spans]:
        if another := re.match(_AND_ANOTHER.format(letters=letters), text[end:]):
            found.setdefault(another["letter"], []).append((end + another.start("letter"), end + another.end("letter")))
    return found


def _marked(text: str, letters: str, named: Mentions) -> Mentions:
    """Letters in brackets, and capitals that stand alone; A and I, being words, only where a phrase ends."""
    patterns = (
        rf"[(\[](?P<letter>[{letters}{letters.lower()}])[)\]]",
        rf"(?<![\w'’-])(?P<letter>(?![AI])[{letters}])(?![\w'’-])",
        rf"(?<![\w'’-])(?P<letter>(?=[AI])[{letters}])(?=\s*(?:[.,;:!?)]|$|(?:or|and) [(]?[{letters}]\b))",
    )
    return _find(patterns, text, named)


def _find(patterns: Sequence[str], text: str, named: Mentions) -> Mentions:
    """Letters that the patterns find, but for those that are part of an option's own text, as in "vitamin C"."""
    covers = [cover for spans in named.values() for cover in spans]
    found: Mentions = {}
    for pattern in patterns:
        for match in re.finditer(pattern, text):
            start, end = match.span("letter")
            if not any(s <= start and end <= e and e - s > 1 for s, e in covers):
                found.setdefault(match["letter"].upper(), []).append((start, end))
    return found


def _named(text: str, choices: Sequence[str]) -> Mentions:
    """Where the texts of options stand as whole words. One inside another is only the longer one."""
    places: list[tuple[Span, str]] = []
    for letter, choice in zip(LETTERS, choices, strict=False):
        if words := choice.strip().rstrip(".").split():
            pattern = r"\s+".join(map(re.escape, words))
            whole = rf"(?<!\w)(?<!\d[.,]){pattern}(?!\w)(?![.,]\d)"  # 5 is neither in 15 nor in 0.5 or 5.5
            places += [(match.span(), letter) for match in re.finditer(whole, text, re.IGNORECASE)]
    found: Mentions = {}
    for (start, end), letter in places:
        if not any(s <= start and end <= e and (s, e) != (start, end) for (s, e), _ in places):
            found.setdefault(letter, []).append((start, end))
    return found


def _denied(text: str, span: Span) -> bool:
    before, behind = text[: span[0]].rstrip("([\"'"), text[span[1] :]
    return _DENIED_BEFORE.search(before) is not None or _DENIED_BEHIND.match(behind) is not None


def _plain(text: str) -> str:
    """Words alone, for comparing: no case, no punctuation at the ends."""
    return re.sub(r"\s+", " ", text).strip(" .,;:!?\"'()[]").casefold()
