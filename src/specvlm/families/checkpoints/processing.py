"""What a checkpoint's files say of how its pictures and frames are prepared: types are looked at when they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from specvlm.errors import brief

MOST = 2**31 - 1


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MOST and isfinite(value)


def _is_numbers(value: Any) -> bool:
    return _is_number(value) or (isinstance(value, (list, tuple)) and all(map(_is_number, value)))


def _is_switch(value: Any) -> bool:
    return isinstance(value, bool)


def _is_size(value: Any) -> bool:
    sizes = (
        vars(value).values() if hasattr(value, "__dict__") else value.values() if isinstance(value, dict) else [value]
    )
    return all(each is None or _is_whole(each) for each in sizes)


def _is_filter(value: Any) -> bool:
    return not isinstance(value, bool) and value in (0, 1, 2, 3, 4, 5)


FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(
        ("temporal_patch_size", "merge_size", "num_frames", "min_frames", "max_frames"),
        (_is_whole, "a whole number of 1 or more"),
    ),
    **dict.fromkeys(("fps", "rescale_factor"), (_is_number, "a number")),
    **dict.fromkeys(("image_mean", "image_std"), (_is_numbers, "a list of numbers")),
    **dict.fromkeys(
        ("do_convert_rgb", "do_normalize", "do_rescale", "do_resize", "do_sample_frames", "do_center_crop", "do_pad"),
        (_is_switch, "true or false"),
    ),
    "size": (_is_size, "lengths of 1 or more"),
    "crop_size": (_is_size, "lengths of 1 or more"),
    "resample": (_is_filter, "a filter of Pillow's, 0 to 5"),
}
"""Fields that the processors of pictures and of videos share: what each may be, where it is given at all."""


def wrong_field(part: Any) -> str | None:
    """The first field of a processor's part that isn't what it should be; None if all are."""
    for name, (is_right, right) in FIELDS.items():
        value = getattr(part, name, None)
        try:
            if value is None or is_right(value):
                continue
        except (TypeError, ValueError, OverflowError):
            pass
        return f"{name} should be {right}, not {brief(repr(value), 80)}"
    return None
