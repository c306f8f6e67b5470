"""The little world: the same for the same seed, never twice the same, and easy to see."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from specvlm.errors import ModelError
from specvlm.pocket import FAMILIES, HELD_OUT, ROLES, demo_video, path
from specvlm.pocket.film import write_mp4
from specvlm.pocket.language import describe
from specvlm.pocket.world import BACKGROUNDS, COLOURS, PLACES, WHITE, Event, Scene, Thing, look, make_scene, render

MIDDLES = (np.arange(8) + 0.5) / 8


def test_a_scene_is_a_function_of_its_seed() -> None:
    for seed in range(50):
        assert make_scene(seed) == make_scene(seed)
        assert np.array_equal(render(make_scene(seed), MIDDLES), render(make_scene(seed), MIDDLES))


def test_no_two_descriptions_are_alike() -> None:
    descriptions = [describe(make_scene(seed)) for seed in [*range(3000), *HELD_OUT[:3000]]]
    # A film of one thing can come twice by chance; one of several can't, in so few.
    assert len(set(descriptions)) >= 0.999 * len(descriptions)


def test_things_never_share_a_place() -> None:
    for seed in range(500):
        scene = make_scene(seed)
        places = [thing.place for thing in scene.things]
        assert places == sorted(set(places))
        for event in scene.events:
            places[event.subject] = event.end
            assert len(set(places)) == len(places)
        assert tuple(places) == scene.final_places


def test_a_moving_thing_meets_what_is_ahead_of_it() -> None:
    met = [(scene, event) for scene in map(make_scene, range(500)) for event in scene.events if event.met is not None]
    assert len(met) > 50
    assert all(event.action.startswith("moves") and event.met != event.subject for _, event in met)


def test_every_thing_is_painted_where_it_is_said_to_be() -> None:
    for seed in range(100):
        scene = make_scene(seed)
        (frame,) = render(scene, [0.0])
        for thing in scene.things:
            cell = frame[thing.place // 3 * 32 :, thing.place % 3 * 32 :][:32, :32].astype(int)
            close = np.abs(cell - COLOURS[thing.colour]).max(-1) < 8
            assert close.sum() > 40, (seed, thing)
        empty = set(range(len(PLACES))) - {thing.place for thing in scene.things}
        for place in empty:
            cell = frame[place // 3 * 32 :, place % 3 * 32 :][2:30, 2:30].astype(int)
            assert np.abs(cell - BACKGROUNDS[scene.background]).max() < 8


@pytest.mark.parametrize(
    ("action", "change"),
    [
        ("moves right", lambda first, last, during: last.middle[0] == first.middle[0] + 64),
        ("grows", lambda first, last, during: last.diameter > first.diameter),
        ("blinks", lambda first, last, during: last == first and any(seen.rgb == WHITE for seen in during)),
        ("hides", lambda first, last, during: last == first and not all(seen.visible for seen in during)),
    ],
)
def test_an_action_shows_in_eight_frames(action: str, change) -> None:
    scene = Scene("black", (Thing("red", "ring", "small", 0),), (Event(0, action, 2 if "right" in action else 0),) * 1)
    first, *during, last = (look(scene, 0, moment) for moment in (0.0, *MIDDLES, 1.0))
    assert change(first, last, during)


def test_an_mp4_shows_the_same_film(tmp_path: Path) -> None:
    scene = make_scene(HELD_OUT[0])
    file = tmp_path / "film.mp4"
    write_mp4(scene, file, size=192, fps=10, seconds=2.0)
    with av.open(io.BytesIO(file.read_bytes())) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == 10
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    wanted = render(scene, np.arange(20) / 20, 192)
    assert frames.shape == wanted.shape
    assert np.abs(frames.astype(int) - wanted).mean() < 4


def test_the_demo_video_is_written_where_asked(tmp_path: Path) -> None:
    assert demo_video(tmp_path / "demo.mp4").stat().st_size > 2000


@pytest.mark.parametrize(("family", "role"), [("llava", "target"), ("llava_onevision", "verifier")])
def test_an_unknown_checkpoint_is_refused_by_name(family: str, role: str) -> None:
    with pytest.raises(ModelError, match=r"llava_onevision|target or a draft"):
        path(family, role)


def test_known_checkpoints_are_there() -> None:
    for family in FAMILIES:
        for role in ROLES:
            assert (path(family, role) / "model.safetensors").exists()
