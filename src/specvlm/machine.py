"""What a figure was measured on: the machine, and the versions of what ran there. Imports nothing of ours."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("specvlm", "torch", "transformers", "av")

WHERE_INSTALLED = ("triton",)
"""What PyTorch's builds for GPUs bring along, and others don't."""

ASK_FOR_DRIVER = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
MOST_SECONDS = 10.0
"""That an answer may take: a driver that hangs must not take a measurement with it."""


def machine(torch: ModuleType | Any = None) -> dict[str, Any]:
    """What a figure was measured on. `cuda` is None without a GPU. `torch` stands in for PyTorch itself."""
    if torch is None:
        import torch  # for which `specvlm --version` need not wait

    gpus = [_gpu(torch.cuda.get_device_properties(number)) for number in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": _cuda(torch) if gpus else None,
    }


def processor(found: Mapping[str, Any], devices: Iterable[Any]) -> str:
    """What works on these devices (of torch), as people call it: the GPUs among them or, if there are none, the CPU.
    `found` is what `machine` says."""
    gpus = [found["gpus"][device.index or 0]["name"] for device in devices if device.type == "cuda"]
    return " + ".join(gpus) or str(found["cpu"])


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()} | {name: version_of(name) for name in PACKAGES}
    for name in WHERE_INSTALLED:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def version_of(package: str) -> str:
    """`0+unknown` of a checkout that was never installed, on the path."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "0+unknown"


@functools.cache
def driver_version(command: tuple[str, ...] = ASK_FOR_DRIVER) -> str | None:
    """That of the NVIDIA driver, as its own tool says it; None where there is no tool, or no answer from it."""
    tool = shutil.which(command[0])
    if tool is None:
        return None
    try:
        said = subprocess.run(
            [tool, *command[1:]], capture_output=True, text=True, timeout=MOST_SECONDS, check=True
        ).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return next((line.strip() for line in said.splitlines() if line.strip()), None)


def _gpu(found: Any) -> dict[str, Any]:
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "compute_capability": f"{found.major}.{found.minor}",
    }


def _cuda(torch: Any) -> dict[str, str | None]:
    """What stands between PyTorch and its GPUs."""
    return {
        "driver": driver_version(),
        "runtime": torch.version.cuda,
        "cudnn": _cudnn_version(torch.backends.cudnn.version()),
    }


def _cudnn_version(number: int | None) -> str | None:
    """`91002`, as cuDNN has it, is 9.10.2; before 9 it had a digit less."""
    if number is None:
        return None
    major, rest = divmod(number, 10_000 if number >= 90_000 else 1000)
    return f"{major}.{rest // 100}.{rest % 100}"


def _cpu_name() -> str:
    """psutil doesn't know it, and on Linux Python's `platform` doesn't either."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
