"""Setting: one way to ask, and in which arms. A run has one; a sweep has many."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, final

from specvlm.answering.options import Options
from specvlm.comparing.arms import find
from specvlm.comparing.compare import ARMS
from specvlm.errors import OptionError

if TYPE_CHECKING:
    from specvlm.pipeline import SpecVLM

DEFAULT = "default"


@final
@dataclass(frozen=True)
class Setting:
    """Options that every sample is asked with in some of `specvlm.comparing.arms`, under a name that its records carry.

    The arm `ar` runs first, for the others are compared with it. Answers are greedy and seeded unless asked otherwise:
    a benchmark measures the model, and arms have to throw the same dice.

    Errors: OptionError.
    """

    options: Options
    arms: tuple[str, ...] = ARMS
    name: str = DEFAULT

    def __post_init__(self) -> None:
        if not self.arms:
            raise OptionError("arms: name at least one, such as specvlm")
        for arm in self.arms:
            find(arm)
        arms = sorted(dict.fromkeys(self.arms), key=lambda arm: arm != "ar")
        object.__setattr__(self, "arms", tuple(arms))
        draws = bool(self.options.draws)
        seed = 0 if self.options.seed is None else self.options.seed
        object.__setattr__(self, "options", replace(self.options, do_sample=draws, seed=seed))

    def require(self, vlm: SpecVLM) -> None:
        """Errors: OptionError for an arm that these models can't run."""
        for arm in self.arms:
            if find(arm).needs_draft and vlm.draft is None:
                raise OptionError(f"arm {arm!r} needs a draft model, and none was loaded")

    def to_json(self) -> dict[str, Any]:
        """All of it, ready for `json.dumps`."""
        options = {field.name: _plain(getattr(self.options, field.name)) for field in fields(self.options)}
        return {"name": self.name, "arms": list(self.arms), "options": options}


def _plain(value: Any) -> Any:
    """An option as JSON has it; an object such as a pruner by its text form."""
    if is_dataclass(value):
        return str(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value
