"""Tiny random models of every family, with processors of their own: no download, and forwards of milliseconds.

`tiny.model(family, seed, **sizes)`, `tiny.processor(family)`; a file for what is special about each family.
"""

from tiny.fingerprint import fingerprint
from tiny.footage import film, half_still, image, video
from tiny.make import (
    BUILDERS,
    MORE,
    QWEN,
    RECURRENT,
    family,
    llava_model,
    llava_processor,
    model,
    noised,
    pair,
    processor,
)
from tiny.words import VOCABULARY, token_id, tokenizer

llava, llava_pair = family, pair

__all__ = [
    "BUILDERS",
    "MORE",
    "QWEN",
    "RECURRENT",
    "VOCABULARY",
    "family",
    "film",
    "fingerprint",
    "half_still",
    "image",
    "llava",
    "llava_model",
    "llava_pair",
    "llava_processor",
    "model",
    "noised",
    "pair",
    "processor",
    "token_id",
    "tokenizer",
    "video",
]
