"""What was gained, and at what loss: as the figures have it, whatever they are."""

from __future__ import annotations

import pytest

from specvlm.comparing.arms import WAYS
from specvlm.comparing.headline import fastest, headline
from specvlm.comparing.words import WORDS, words


def arm(name: str, end_to_end: float | None, decoding: float | None = 4.0) -> dict:
    return {"arm": name, "end_to_end_speedup": end_to_end, "decode_speedup": decoding}


def test_every_arm_has_words():
    assert WORDS.keys() == WAYS.keys()
    assert words("specvlm@0.95") == "SpecVLM, 95 % pruned"
    assert words("no arm") == "no arm"


def test_the_fastest_is_who_answers_soonest_and_never_stock_itself():
    arms = [arm("ar", 9.0), arm("sd", 2.0, 8.0), arm("auto", 3.0), arm("ar-no-cudnn", 5.0), arm("loop", None)]
    assert fastest(arms) == arms[2]
    assert fastest(arms[:1]) is None


@pytest.mark.parametrize(
    ("best", "compared", "different", "says", "lossless"),
    [
        (arm("auto", 2.5, 3.25), 12, 0,
         ("Answers came 2.50 times as fast as from stock generate (SpecVLM), and were decoded 3.25 times as fast; "
         "at no loss: all 12 answers are the same, token by token."), True),
        (arm("auto", 2.5, None), 1, 0,
         ("Answers came 2.50 times as fast as from stock generate (SpecVLM); "
         "at no loss: the answer is the same, token by token."), True),
        (arm("auto", 2.5, 3.25), 12, 2,
         ("Answers came 2.50 times as fast as from stock generate (SpecVLM), and were decoded 3.25 times as fast; "
         "2 of 12 answers differ from its own."), False),
        (arm("auto", 0.8, 0.7), 3, 0,
         ("Nothing was faster than stock generate: the nearest was 0.80 times as fast (SpecVLM); "
         "at no loss: all 3 answers are the same, token by token."), True),
        (arm("auto", 2.5, 3.25), 0, 0,
         ("Answers came 2.50 times as fast as from stock generate (SpecVLM), and were decoded 3.25 times as fast; "
         "no answer could be compared with it."), True),
        (None, 0, 0, "Nothing was held against stock generate, so neither gain nor loss is known.", True),
    ],
)  # fmt: skip
def test_the_sentence_says_what_the_figures_say(best, compared, different, says, lossless):
    told = headline("SpecVLM", best, compared, different)
    assert (told.text, told.lossless) == (says, lossless)
