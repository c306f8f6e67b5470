"""Disk: what is read is what was written, or nothing; and it takes no more room than it may."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from specvlm.prompts.disk import ABANDONED, SUFFIX, UNFINISHED, Disk, UnbelievableError

TENSORS = {
    "half": torch.randn(3, 5).to(torch.bfloat16),
    "whole": torch.randn(2, 3, 4),
    "ids": torch.arange(7),
    "nobody": torch.zeros(0, 4),
    "nothing": torch.tensor(float("nan")),
    "flags": torch.tensor([True, False]),
}


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path, 1 << 20)


def files(disk: Disk) -> list[str]:
    return sorted(path.name.removesuffix(SUFFIX) for path in disk.folder.iterdir())


def whole(disk: Disk, name: str) -> dict[str, torch.Tensor] | None:
    """All of an entry, if there is one to believe."""
    try:
        entry = disk.read(name)
        return None if entry is None else {key: entry.tensor(key) for key in entry.shapes}
    except UnbelievableError:
        return None


def test_what_was_written_comes_back_to_the_bit(disk: Disk) -> None:
    disk.write("a", {**TENSORS, "turned": TENSORS["whole"].transpose(0, 2)}, {"text": "größer", "list": [1, None]})
    entry = disk.read("a")
    assert entry is not None
    assert entry.told == {"text": "größer", "list": [1, None]}
    assert entry.shapes == {name: tuple(tensor.shape) for name, tensor in TENSORS.items()} | {"turned": (4, 3, 2)}
    for name, tensor in TENSORS.items():
        found = entry.tensor(name)
        assert found.dtype == tensor.dtype
        assert torch.equal(found.nan_to_num(), tensor.nan_to_num())
    assert torch.equal(entry.tensor("turned"), TENSORS["whole"].transpose(0, 2))
    assert disk.read("b") is None


def test_no_byte_can_be_another(disk: Disk) -> None:
    """Wherever it is: in the header, in what was told, in the numbers. Padding of the header alone may be."""
    disk.write("a", TENSORS, {"text": "told"})
    path = disk.folder / f"a{SUFFIX}"
    sound = path.read_bytes()
    right = {name: tensor.nan_to_num() for name, tensor in TENSORS.items()}
    believed = 0
    for place in range(0, len(sound), 31):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        if (found := whole(disk, "a")) is not None:
            assert found.keys() == right.keys()
            assert all(torch.equal(found[name].nan_to_num(), right[name]) for name in right)
            believed += 1
        else:
            assert not path.exists()
    assert believed < 5


@pytest.mark.parametrize("left", [0, 4, 8, 100, 0.5, 0.999])
def test_what_was_cut_off_is_removed(disk: Disk, left: float) -> None:
    disk.write("a", TENSORS, {})
    path = disk.folder / f"a{SUFFIX}"
    size = path.stat().st_size
    os.truncate(path, int(left if left >= 1 or left == 0 else left * size))
    assert disk.read("a") is None
    assert files(disk) == []


def test_an_entry_is_believed_under_its_own_name_alone(disk: Disk) -> None:
    disk.write("a", TENSORS, {})
    (disk.folder / f"a{SUFFIX}").rename(disk.folder / f"b{SUFFIX}")
    assert disk.read("b") is None
    assert files(disk) == []


def test_other_tensors_under_the_same_seal_are_not_believed(disk: Disk) -> None:
    disk.write("a", TENSORS, {})
    path = disk.folder / f"a{SUFFIX}"
    with safe_open(path, framework="pt") as file:
        written = file.metadata()
    save_file(load_file(path) | {"ids": torch.arange(7) + 1}, path, written)
    entry = disk.read("a")
    assert entry is not None
    assert torch.equal(entry.tensor("flags"), TENSORS["flags"])
    with pytest.raises(UnbelievableError):
        entry.tensor("ids")
    assert files(disk) == []


def test_an_open_entry_outlives_its_file(disk: Disk) -> None:
    disk.write("a", TENSORS, {})
    entry = disk.read("a")
    assert entry is not None
    (disk.folder / f"a{SUFFIX}").unlink()
    assert torch.equal(entry.tensor("ids"), TENSORS["ids"])


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 30_000)
    for number, name in enumerate("abc"):
        disk.write(name, {"x": torch.zeros(2000)}, {})
        os.utime(tmp_path / f"{name}{SUFFIX}", (number, number))
    assert disk.read("a") is not None  # used now
    disk.write("d", {"x": torch.zeros(2000)}, {})
    assert files(disk) == ["a", "c", "d"]
    assert disk.nbytes <= 30_000


def test_what_is_too_large_by_itself_drives_nothing_out(tmp_path: Path) -> None:
    disk = Disk(tmp_path, 10_000)
    disk.write("a", {"x": torch.zeros(2000)}, {})
    disk.write("b", {"x": torch.zeros(3000)}, {})
    assert files(disk) == ["a"]


def test_what_a_killed_process_left_is_removed_in_time(disk: Disk) -> None:
    old, fresh = (disk.folder / f"{name}.1-ab{UNFINISHED}" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    long_ago = time.time() - ABANDONED - 1
    os.utime(old, (long_ago, long_ago))
    disk.write("a", TENSORS, {})
    assert files(disk) == ["a", fresh.name]


def test_a_disk_that_fails_costs_nothing_but_time(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    disk.write("a", TENSORS, {})
    assert files(disk) == []
    gone = Disk(disk.folder / "gone", 1 << 20)
    gone.write("a", TENSORS, {})
    assert gone.read("a") is None


def test_knows_by_the_beginning_of_a_name(disk: Disk) -> None:
    disk.write("film-a", TENSORS, {})
    assert disk.knows("film-")
    assert not disk.knows("films-")
