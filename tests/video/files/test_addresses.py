"""Where a video may be said to be: paths, `file:` and `data:` URIs, and nowhere else."""

from __future__ import annotations

import base64
import os
import socket
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import video_zoo as zoo
from specvlm.errors import SpecVLMError, VideoError
from specvlm.video import load, load_image
from specvlm.video.backends import require_backend
from specvlm.video.files.addresses import resolved
from specvlm.video.identity import identity


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film whose name has to be escaped in an address."""
    return zoo.write(tmp_path_factory.mktemp("films") / "a film: 100% #1 \N{SNOWMAN}?.mp4", 6)


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stills") / "a still.png"
    Image.fromarray(zoo.picture(37)).save(path)
    return path


def refused(source: object) -> str:
    """The message, one line, with which `source` is refused as a video; as a picture and in a list it is, too."""
    with pytest.raises(VideoError):
        load_image(source)
    with pytest.raises(VideoError):
        load([source])
    with pytest.raises(VideoError) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("begins", ["file://", "file://localhost", "file:", "FILE://", "File://LocalHost"])
def test_a_file_uri_is_the_file_that_it_names(begins: str, film: Path, still: Path) -> None:
    assert zoo.indices_of(load(begins + quote(str(film))).frames) == list(range(6))
    assert zoo.index_of(load_image(begins + quote(str(still)))) == 37
    assert load(film.as_uri(), num_frames=1).name == str(film)
    assert zoo.indices_of(load([begins + quote(str(still))]).frames) == [37]
    assert zoo.indices_of(load(begins + quote(str(still.parent))).frames) == [37]  # a folder of pictures
    assert identity(begins + quote(str(film))) == identity(film)


def test_a_file_that_has_changed_is_another_one_by_its_uri_too(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"one")
    before = identity(path.as_uri())
    path.write_bytes(b"three")
    assert identity(path.as_uri()) != before


def test_a_name_that_is_no_text(tmp_path: Path, still: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    path.write_bytes(still.read_bytes())
    assert zoo.index_of(load_image(path.as_uri())) == 37
    path.write_bytes(b"no picture")
    with pytest.raises(VideoError) as caught:
        load_image(path)
    str(caught.value).encode()  # it can be printed


@pytest.mark.parametrize("kind", ["video/mp4", "video/mp4;codecs=avc1", "application/octet-stream", ""])
def test_a_data_uri_is_the_bytes_that_it_holds(kind: str, film: Path, still: Path) -> None:
    data = film.read_bytes()
    coded = base64.b64encode(data).decode()
    lines = "\n".join(coded[start : start + 76] for start in range(0, len(coded), 76))
    for address in (
        f"data:{kind};base64,{coded}",
        f"DATA:{kind};BASE64,{coded.rstrip('=')}",
        f"data:{kind};base64,{lines}\n",
        f"data:{kind};base64,{quote(coded, safe='')}",
        f"data:{kind},{quote(data, safe='')}",
    ):
        video = load(address)
        assert zoo.indices_of(video.frames) == list(range(6))
        assert len(video.name) < 100
        assert identity(address) == identity(data)
    picture = f"data:image/png;base64,{base64.b64encode(still.read_bytes()).decode()}"
    assert np.array_equal(load_image(picture), load_image(still))
    assert zoo.indices_of(load([picture, str(still)]).frames) == [37, 37]


@given(st.binary(max_size=200), st.booleans())
def test_whatever_a_data_uri_holds_comes_out(data: bytes, is_plain: bool) -> None:
    address = f"data:,{quote(data)}" if is_plain else f"data:;base64,{base64.b64encode(data).decode()}"
    assert resolved(address) == data


@given(st.text(max_size=60), st.sampled_from(["file:", "file://", "file:///", "data:", "data:;base64,", "http:", ""]))
def test_whatever_an_address_says_only_our_errors_come_out(text: str, begins: str) -> None:
    with pytest.raises(SpecVLMError) as caught:
        load_image(begins + text)
    assert "\n" not in str(caught.value)
    identity(begins + text)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("data:video/mp4;base64", "comma"),
        ("data:", "comma"),
        ("data:video/mp4;base64,", "is empty"),
        ("data:video/mp4;base64,@@@@", "base64"),
        ("data:video/mp4;base64,A", "base64"),
        ("data:video/mp4;base64,_-_-", "base64"),
        ("data:video/mp4;base64,AAAA\N{SNOWMAN}", "base64"),
        ("data:text/plain,hello", "is a text file"),
        ("file://server/share/film.mp4", "'server'"),
        ("file:film.mp4", "from the root on"),
        ("file:///no/such%20film.mp4", "there is no file '/no/such film.mp4'"),
        ("file:///%00", "there is no file"),
        ("file://", "neither"),
    ],
)
def test_addresses_that_hold_nothing(address: str, words: str) -> None:
    with pytest.raises(VideoError, match="pictures|" + words.replace("(", r"\(")):
        load(address)
    if words != "neither":
        assert words in refused(address)


SCHEMES = ["http", "https", "HTTPS", "ftp", "s3", "gs", "hf", "rtsp", "rtmp", "udp", "smb", "sftp", "gopher", "blob"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_other_schemes_are_refused_by_name(scheme: str) -> None:
    message = refused(f"{scheme}://someone:secret@example.org/{'x' * 5000}.mp4?token=secret")
    assert f"{scheme.lower()}://" in message
    assert "fetched" in message
    assert "secret" not in message
    assert "xxx" not in message


def test_ffmpeg_opens_no_address(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part.ts").write_bytes(film.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        here = f"127.0.0.1:{server.getsockname()[1]}/film.mp4"
        addresses = [f"{scheme}://{here}" for scheme in ("http", "tcp", "rtmp", "ftp", "rtsp", "icecast")]
        addresses += [f"{scheme}:http://{here}" for scheme in ("async", "cache", "concat", "hls", "crypto")]
        addresses += [f"http:{here}", "concat:part.ts|part.ts", "async:part.ts", "subfile,,start,0,end,99,,:part.ts"]
        addresses += ["pipe:0", "fd:0", "lavfi:testsrc", "cache:part.ts", "md5:part.ts"]
        for address in addresses:
            message = refused(address)
            assert "part.ts|" not in message
            assert "127.0.0.1" not in message
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()


@pytest.mark.parametrize("name", ["talk: part 1.mp4", "talk:1.mp4", "concat:a.mp4", "data:film.mp4", "C:film.mp4"])
def test_a_file_whose_name_has_a_colon_is_a_file(name: str, film: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(film.read_bytes())
    assert len(load(name).frames) == 6


def test_drives_of_windows_are_no_schemes() -> None:
    for path in (r"C:\films\one.mp4", "d:/films/one.mp4"):
        assert resolved(path) == path
        assert "there is no file" in refused(path)


def test_messages_quote_a_line_at_most(tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(8):
        folder /= "folder" * 30
    folder.mkdir(parents=True)
    (folder / "film.mp4").write_bytes(b"no video")
    for source in (folder / "film.mp4", folder / "none.mp4", "/x" * 3000, "x" * 3000, "a\nb" * 500):
        refused(source)
    assert "film.mp4" in refused(folder / "film.mp4")
    with (folder / "film.mp4").open("rb") as file:
        refused(file)
    for option in ("num_frames", "fps", "source_fps"):
        with pytest.raises(SpecVLMError) as caught:
            load(folder, **{option: -(10**999)})
        assert len(str(caught.value)) < 400
    with pytest.raises(SpecVLMError) as caught:
        require_backend("y" * 5000)
    assert len(str(caught.value)) < 400
    with pytest.raises(SpecVLMError) as caught:
        load(np.zeros((9, 4, 4, 3), np.uint8), choose=lambda timeline: list(range(5000)))
    assert len(str(caught.value)) < 400
