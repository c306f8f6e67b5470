"""How near a description comes to a reference text.

chrF++ of each (Popović, WMT 2017) and BLEU of all (Papineni et al., ACL 2002), by sacrebleu: it is kept up, and needs
neither Java nor a download, unlike METEOR, SPICE and the tokenizer of CIDEr.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from specvlm.errors import OptionError
from specvlm.evals.sample import Sample, Scores


def score_caption(sample: Sample, text: str) -> Scores:
    """Nothing where there is no reference. Errors: OptionError if sacrebleu isn't installed."""
    if not sample.answer:
        return {}
    return {"chrF++": (sacrebleu().sentence_chrf(text, [sample.answer], word_order=2).score, 100.0)}


def score_captions(answers: Sequence[tuple[Sample, str]]) -> Scores:
    """Of all descriptions together. Errors: OptionError if sacrebleu isn't installed."""
    graded = [(text, sample.answer) for sample, text in answers if sample.answer]
    if not graded:
        return {}
    texts, references = zip(*graded, strict=True)
    return {"BLEU": (sacrebleu().corpus_bleu(texts, [references]).score, 100.0)}


def sacrebleu() -> Any:
    """The library of that name. Errors: OptionError if it isn't installed."""
    try:
        import sacrebleu as library
    except ImportError:
        raise OptionError("descriptions are graded by sacrebleu: pip install 'specvlm[eval]'") from None
    return library
