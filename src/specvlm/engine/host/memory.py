"""The host's memory: how much is free, and how much this process has.

psutil asks the system, whichever it is. Two things it leaves out, and they are read here: how much the container may
take that the process runs in, and the most that was resident since the last peak was forgotten.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

PROCESS = Path("proc/self")
GROUPS = Path("sys/fs/cgroup")


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that could be had without swapping; 0 where the system doesn't tell. `root` is that of the file system."""
    try:
        available = psutil.virtual_memory().available
    except (OSError, psutil.Error):
        return 0
    return max(0, min([available, *_left_to_containers(root)]))


def resident_memory() -> int:
    """Bytes of memory that this process has."""
    return psutil.Process().memory_info().rss


def peak_resident_memory() -> int:
    """The most bytes since `forget_peak`; where the system can't forget (anywhere but Linux), since the process began.

    psutil knows the peak on Windows alone. What `getrusage` calls so on Linux can be that of the process which started
    this one: hence this one's own mark, where there is one.
    """
    status = Path("/", PROCESS, "status")
    if status.exists():
        mark = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
        return 1024 * int(mark.split()[1])
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # Unix alone has it

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def forget_peak() -> None:
    """What is resident now is the peak from here on. It is the whole process's mark."""
    with suppress(OSError):  # not Linux, or not allowed
        Path("/", PROCESS, "clear_refs").write_text("5")


def _left_to_containers(root: Path) -> Iterator[int]:
    """Bytes that each control group around this process may still take: psutil, like the kernel's own `MemAvailable`,
    tells of the whole machine, and who takes more than the group's is killed.

    Source: the kernel's admin-guide, cgroup-v2.rst and cgroup-v1/memory.rst.
    """
    with suppress(OSError):
        for line in (root / PROCESS / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                names = ("memory.max", "memory.current", "inactive_file")
                yield from _left(root / GROUPS, path, *names)
            elif "memory" in controllers.split(","):
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                yield from _left(root / GROUPS / "memory", path, *names)


def _left(mount: Path, path: str, limit: str, used: str, cold: str) -> Iterator[int]:
    """By the group's own limit and by those of the groups around it. Seen from inside a container, the path may be that
    outside of it: then `mount` is the group itself."""
    group = mount / path.lstrip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(mount):
            return
        with suppress(OSError, ValueError, KeyError):  # no limit: no such file, or "max" in it
            most = int((folder / limit).read_text())
            kept = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield most - int((folder / used).read_text()) + int(kept[cold])
