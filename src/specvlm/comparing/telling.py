"""What is told of an exception in one line: on the command line, and in the record of a sample."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from specvlm.errors import SpecVLMError, brief

REASON = 500
"""Most characters that are quoted of what a library says."""

SIGNS = re.compile(
    r"out of memory|(?:can't|cannot|unable to|failed to) allocate|not enough memory|bad_alloc|"
    r"CUBLAS_STATUS_ALLOC_FAILED|invalid buffer size",
    re.IGNORECASE,
)
"""What the allocators of torch, its backends, numpy and C++ say, each in a RuntimeError or a MemoryError of its own."""

AMOUNT = re.compile(r"allocate (?P<size>[\d.]+) ?(?P<unit>bytes|[KMGTPE]i?B)", re.IGNORECASE)
"""How much was asked for, in torch's words and in numpy's."""

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

HELP = (
    "fewer frames (num_frames), a smaller max_new_tokens, a bigger pruning_ratio, dtype='bfloat16', or a device_map "
    "that spreads the models would need less"
)


def told(error: BaseException) -> str:
    """An error as a record keeps it: its kind and its reason."""
    return f"{type(error).__name__}: {brief(error, REASON)}".removesuffix(": ")


def shortage(error: BaseException) -> str | None:
    """If an error, or one that it was made of, is that memory ran out: how much was asked for, as far as it
    tells, and what would need less."""
    for each in _causes(error):
        if _is_shortage(each):
            said = str(each)
            found = AMOUNT.search(said)
            if found is not None:
                amount = f": {_readable(found['size'], found['unit'])} more did not fit{_place(said)}"
            else:
                amount = f": {brief(said)}" if said else ""
            named = f"{brief(error, REASON)}: " if isinstance(error, SpecVLMError) else ""
            return f"{named}out of memory{amount}; {HELP}"
    return None


def _is_shortage(error: BaseException) -> bool:
    """Of errors by their kind or, where a library has none of its own, by its words."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and SIGNS.search(str(error)) is not None


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def _readable(size: str, unit: str) -> str:
    """Bytes as a person counts them; what is counted so already stays."""
    if unit.lower() != "bytes":
        return f"{size} {unit}"
    power = (max(1, int(float(size))).bit_length() - 1) // 10
    return f"{float(size) / 1024**power:.4g} {UNITS[power]}"


def _place(said: str) -> str:
    """Where, as far as the message tells."""
    if "CPUAllocator" in said:
        return " into the memory of the CPU"
    if gpu := re.search(r"GPU (\d+)", said):
        return f" into the memory of GPU {gpu[1]}"
    return ""
