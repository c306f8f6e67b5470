"""Everything that knows a model family. A family is one file, named after the `model_type` of transformers."""

from specvlm.families.base import Family, PixelBudget, Turn
from specvlm.families.loading import FAMILIES, family_of, load_family

__all__ = ["FAMILIES", "Family", "PixelBudget", "Turn", "family_of", "load_family"]
