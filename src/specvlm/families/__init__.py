"""Everything that knows a model family. A family is one file, named after the `model_type` of transformers."""

from specvlm.families.base import Family, PixelBudget, Turn
from specvlm.families.loading import FAMILIES, family_of, load_family
from specvlm.families.pair import Draft, Pair, check_forwards, check_layout

__all__ = [
    "FAMILIES",
    "Draft",
    "Family",
    "Pair",
    "PixelBudget",
    "Turn",
    "check_forwards",
    "check_layout",
    "family_of",
    "load_family",
]
