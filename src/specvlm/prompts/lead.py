"""Lead: what stands in front of a question in its turn, in order."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

from specvlm.errors import OptionError


class Slot(Enum):
    """Where a video or an image stands: the first of these is that of the first video or image, and so on."""

    VIDEO = "video"
    IMAGE = "image"


Lead = Sequence[str | Slot]


def says_something(lead: Lead) -> bool:
    """Whether there is text in it."""
    return any(isinstance(each, str) and each.strip() for each in lead)


def parts(lead: Lead, num_videos: int, num_images: int) -> list[dict[str, Any]]:
    """It as parts of a message of transformers; without a lead, all videos and then all images.

    Errors: OptionError for one that has a slot too many, or none for something to look at.
    """
    if not lead:
        lead = [Slot.VIDEO] * num_videos + [Slot.IMAGE] * num_images
    for slot, number in ((Slot.VIDEO, num_videos), (Slot.IMAGE, num_images)):
        if (slots := sum(each is slot for each in lead)) != number:
            raise OptionError(f"lead has {slots} slots for {number} {slot.value}s: it must have one for each")
    return [{"type": each.value} if isinstance(each, Slot) else {"type": "text", "text": each} for each in lead]
