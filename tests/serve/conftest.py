"""One pocket pair and one service for all tests of serving, and films for them to be asked about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import MIB, Fixture
from specvlm import load, pocket
from specvlm.pipeline import SpecVLM
from specvlm.serve.app import create_app
from specvlm.serve.service import Service
from specvlm.serve.settings import Settings


@pytest.fixture(scope="session")
def vlm() -> SpecVLM:
    return load()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the server may read files of: a film, and a link to what lies outside."""
    place = tmp_path_factory.mktemp("media")
    pocket.demo_video(place / "film.mp4", 0)
    pocket.demo_video(place.parent / "secret.mp4", 1)
    (place / "link.mp4").symlink_to(place.parent / "secret.mp4")
    return place


@pytest.fixture(scope="session")
def served(vlm: SpecVLM, folder: Path) -> Iterator[Fixture]:
    settings = Settings(
        name="pocket", allowed_media_path=folder, max_video_bytes=MIB, max_body_bytes=2 * MIB, max_videos=4,
        max_question_bytes=4096, max_new_tokens=64, max_frames=64, max_frame_pixels=2**20, max_pixels=2**23,
        max_prompt_tokens=2000, max_video_seconds=60, body_seconds=2, request_seconds=900, max_waiting=8,
    )  # fmt: skip
    service = Service(vlm, settings)
    yield Fixture(vlm, service, create_app(service, settings), folder / "film.mp4")
    service.decoder.close()
