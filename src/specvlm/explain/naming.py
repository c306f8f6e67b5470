"""What people call a model."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Literal

from specvlm import pocket
from specvlm.families import Family


def name_of(model: Family | Literal["self"] | None) -> str:
    """An embedded model by what calls for it, one of a folder by the folder's name, any other by its id on the Hub."""
    if not isinstance(model, Family):
        return "the target itself, over a part of its own memory"
    name = str(model.model.name_or_path or type(model.model).__name__)
    for family, role in product(pocket.FAMILIES, pocket.ROLES):
        if name == str(pocket.path(family, role)):
            return f"pocket-{family}, its {role}"
    return Path(name).name if Path(name).is_dir() else name
