"""Memory: what is free is what the tightest limit leaves, and a peak can be forgotten."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import psutil
import pytest

from specvlm.engine.host.memory import forget_peak, free_memory, peak_resident_memory, resident_memory

MB = 1 << 20

NAMES = {
    1: ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
}


def system(root: Path, version: int, path: str, limits: dict[str, str], *, used: int = 5 * MB, cold: int = MB) -> Path:
    """As much of a system as is read: this process in one control group, and limits of some of the groups."""
    mount, limit, current, inactive = NAMES[version]
    (root / "proc/self").mkdir(parents=True)
    mine = f"0::{path}\n" if version == 2 else f"7:cpu,cpuacct:/elsewhere\n4:memory:{path}\n0::/\n"
    (root / "proc/self/cgroup").write_text(mine)
    for group, most in limits.items():
        folder = root / mount / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / limit).write_text(f"{most}\n")
        (folder / current).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"active_file 77\n{inactive} {cold}\n")
    return root


def test_free_memory_is_some_of_the_machines():
    assert 0 < free_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize("version", NAMES)
class TestContainers:
    def test_a_limit_leaves_what_is_not_used_and_what_could_be_dropped(self, version, tmp_path):
        assert free_memory(system(tmp_path, version, "/mine", {"mine": str(20 * MB)})) == 16 * MB

    def test_the_tightest_around_it_counts(self, version, tmp_path):
        limits = {".": str(90 * MB), "outer": str(12 * MB), "outer/mine": str(30 * MB), "other": str(6 * MB)}
        assert free_memory(system(tmp_path, version, "/outer/mine", limits)) == 8 * MB

    def test_a_path_that_is_known_only_outside_means_the_mount_itself(self, version, tmp_path):
        assert free_memory(system(tmp_path, version, "/docker/4711", {".": str(20 * MB)})) == 16 * MB

    def test_one_that_is_full_leaves_nothing(self, version, tmp_path):
        assert free_memory(system(tmp_path, version, "/", {".": str(3 * MB)})) == 0

    @pytest.mark.parametrize("most", ["max", "9223372036854771712", "rubbish"])
    def test_no_limit_is_none(self, version, most, tmp_path):
        root = system(tmp_path, version, "/mine", {"mine": most})
        assert free_memory(root) > psutil.virtual_memory().total / 100

    def test_what_is_only_half_there_is_no_limit(self, version, tmp_path):
        root = system(tmp_path, version, "/mine", {"mine": str(20 * MB)})
        (root / NAMES[version][0] / "mine" / NAMES[version][2]).unlink()
        assert free_memory(root) > psutil.virtual_memory().total / 100


def test_without_control_groups_it_is_the_machines(tmp_path):
    assert free_memory(tmp_path) > psutil.virtual_memory().total / 100


def test_a_peak_is_at_least_what_is_there_and_can_be_forgotten():
    ballast = mmap.mmap(-1, 64 * MB)  # its pages go back at once, which those of the heap needn't
    ballast.write(b"\1" * (64 * MB))
    assert resident_memory() > 64 * MB
    peak = peak_resident_memory()
    assert 64 * MB < peak < 1 << 40
    ballast.close()
    forget_peak()
    assert resident_memory() - 8 * MB <= peak_resident_memory() <= peak - (48 * MB if sys.platform == "linux" else 0)
