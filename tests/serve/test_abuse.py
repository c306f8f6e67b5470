"""Sixty bad requests: each gets the right status and one line, and nothing is read that shouldn't be."""

from __future__ import annotations

import base64
import io
import ipaddress
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import av
import numpy as np
import pytest
from PIL import Image

from serving import CHAT, MIB, Fixture, about, text_of, together, until, video
from specvlm.errors import VideoError
from specvlm.serve.app import create_app
from specvlm.serve.media.decoding import Decoder
from specvlm.serve.media.fetching import Fetcher, is_public
from specvlm.watching.watched import Watched

OK = base64.b64encode(b"no video at all").decode()


def _talk(*turns: Any) -> dict[str, Any]:
    return about() | {"messages": list(turns)}


def _user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def _url(address: Any) -> dict[str, Any]:
    return about(video(address))


def _image(width: int, height: int) -> str:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return "data:video/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


BODIES: dict[str, tuple[Any, int]] = {
    # what is no request
    "nothing": (b"", 400),
    "no JSON": (b"{", 400),
    "a list": (b"[]", 400),
    "a number": (b"1e999", 400),
    "nested deep": (b"[" * 100_000, 400),
    "nested deep inside": (b'{"messages":' + b'{"a":' * 50_000, 400),
    "bytes that are no UTF-8": (b'{"messages": "\xff\xfe"}', 400),
    "half a letter": (b'{"messages":[{"role":"user","content":"\\ud800"}]}', 400),
    "too large": (b" " * (2 * MIB + 1), 413),
    # turns
    "no messages": ({}, 400),
    "empty messages": (_talk(), 400),
    "messages that are text": ({"messages": "hello"}, 400),
    "messages without a role": ({"messages": [{"content": "hello"}]}, 400),
    "an unknown role": (_talk({"role": "wizard", "content": "hello"}), 400),
    "a tool's turn": (_talk(_user("a"), {"role": "tool", "content": "b"}), 400),
    "two turns of the user": (_talk(_user("a"), _user("b")), 400),
    "an answer first": (_talk({"role": "assistant", "content": "a"}, _user("b")), 400),
    "an answer last": (_talk(_user("a"), {"role": "assistant", "content": "b"}), 400),
    "a system turn behind": (_talk(_user("a"), {"role": "system", "content": "b"}), 400),
    "a video in the system turn": (_talk({"role": "system", "content": [video("data:,")]}, _user("b")), 400),
    "no content": (_talk({"role": "user"}), 400),
    "an empty question": (_talk(_user("  ")), 400),
    "a question of a megabyte": (_talk(_user("why " * (MIB // 4))), 413),
    "a question of many tokens": (_talk(_user("? " * 2040)), 400),
    "the place of a video in the text": (_talk(_user("<video>")), 400),
    # parts
    "a part without a type": (about({"text": "a"}), 400),
    "an unknown part": (about({"type": "hologram", "hologram": "x"}), 400),
    "audio": (about({"type": "input_audio", "input_audio": {"data": OK, "format": "wav"}}), 400),
    "a part that is a number": (_talk(_user([1])), 400),
    "text that is none": (about({"type": "text", "text": 5}), 400),
    "a video that is a number": (_url(5), 400),
    "a video that is nothing": (_url(None), 400),
    "a video that is empty": (_url(""), 400),
    "a file by its id": (about({"type": "file", "file": {"file_id": "file-1"}}), 400),
    "a file that is a text": (about({"type": "file", "file": {"file_data": f"data:text/plain;base64,{OK}"}}), 400),
    "an empty list of frames": (about({"type": "video", "video": []}), 400),
    "a list of too many frames": (about({"type": "video", "video": [f"data:image/png;base64,{OK}"] * 65}), 400),
    "too many videos": (about(*[video(f"data:video/mp4;base64,{OK}")] * 5), 400),
    "an image, which this model doesn't take": (
        about({"type": "image_url", "image_url": {"url": _image(8, 8).replace("video/jpeg", "image/png")}}),
        400,
    ),
    # data
    "broken base64": (_url("data:video/mp4;base64,AAA?"), 400),
    "base64 with letters of other scripts": (_url("data:video/mp4;base64,äöü="), 400),
    "data without base64": (_url("data:video/mp4,AAAA"), 400),
    "data without a comma": (_url("data:video/mp4;base64"), 400),
    "data of another type": (_url(f"data:text/html;base64,{OK}"), 400),
    "data that is no video": (_url(f"data:video/mp4;base64,{OK}"), 400),
    "data that is empty": (_url("data:video/mp4;base64,"), 400),
    "data that is too large": (_url("data:video/mp4;base64," + "A" * (MIB * 4 // 3 + 8)), 413),
    "a playlist that names a file": (
        _url("data:video/mp4;base64," + base64.b64encode(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n").decode()),
        400,
    ),
    "a picture of many pixels": (_url(_image(4000, 4000)), 400),
    # addresses
    "another scheme": (_url("ftp://example.com/a.mp4"), 400),
    "a scheme of FFmpeg": (_url("concat:/etc/hostname"), 400),
    "a bare path": (_url("/etc/hostname"), 400),
    "an address without a host": (_url("http:///a.mp4"), 400),
    "a user in the address": (_url("http://user:pass@example.com/a.mp4"), 400),
    "a port that is none": (_url("http://example.com:99999999/a.mp4"), 400),
    "a file outside": (_url("file:///etc/hostname"), 400),
    "a file of another host": (_url("file://elsewhere/a.mp4"), 400),
    "a file that has a zero in its name": (_url("file:///a%00b"), 400),
    # options
    "another model": (about(model="gpt-4"), 404),
    "more tokens than allowed": (about(max_tokens=65), 400),
    "fewer tokens than none": (about(max_tokens=-1), 400),
    "a temperature below 0": (about(temperature=-1), 400),
    "a temperature that leaves nothing to draw": (about(temperature=1e-300), 400),
    "a penalty that leaves nothing to draw": (about(repetition_penalty=1e-40), 400),
    "a temperature that is text": (about(temperature="hot"), 400),
    "a seed that is too large": (about(seed=2**63), 400),
    "two answers": (about(n=2), 400),
    "logprobs": (about(logprobs=True), 400),
    "tools": (about(tools=[{"type": "function"}]), 400),
    "JSON alone": (about(response_format={"type": "json_object"}), 400),
    "penalties": (about(frequency_penalty=0.5), 400),
    "frames by number and by rate": (about(media_io_kwargs={"video": {"fps": 1, "num_frames": 2}}), 400),
    "too many frames": (about(media_io_kwargs={"video": {"num_frames": 65}}), 400),
    "an unknown arm": (about(specvlm={"arm": "magic"}), 400),
    "an unknown option": (about(specvlm={"warp": 9}), 400),
    "an option of the wrong type": (about(specvlm={"pruning_ratio": "most"}), 400),
    "history beside the messages": (about(specvlm={"history": [["a", "b"]]}), 400),
    "a tree of a billion nodes": (about(specvlm={"num_nodes": 10**9}), 400),
    "a pruner that isn't there": (about(specvlm={"pruner": "__import__('os')"}), 400),
}


def refusal(response: Any, status: int) -> str:
    """What an envelope says: one short line, without a path or a traceback."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    message = error["message"]
    assert message
    assert "\n" not in message
    assert len(message) < 500
    assert "Traceback" not in message
    assert "/tmp" not in message
    return message


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_request_is_refused_in_one_line(served, name):
    body, status = BODIES[name]
    refusal(served.ask(body), status)


def test_links_out_of_the_folder_lead_nowhere(served):
    for name in ("link.mp4", "../secret.mp4", "%2e%2e/secret.mp4", "missing.mp4", "."):
        message = refusal(served.ask(_url(f"{served.film.parent.as_uri()}/{name}")), 400)
        assert message.endswith("there is no such file in the folder that this server reads")


def test_a_pipe_in_the_folder_is_not_waited_for(served):
    pipe = served.film.parent / "pipe.mp4"
    os.mkfifo(pipe)
    try:
        refusal(served.ask(_url(pipe.as_uri())), 400)
    finally:
        pipe.unlink()


def test_a_file_of_frames_that_are_too_large_is_refused_before_any_is_decoded(served, tmp_path):
    film = tmp_path / "large.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", rate=1)
        stream.width, stream.height, stream.pix_fmt = 2048, 1024, "yuv420p"
        for _ in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((1024, 2048, 3), np.uint8))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    address = "data:video/mp4;base64," + base64.b64encode(film.read_bytes()).decode()
    assert "pixels" in refusal(served.ask(_url(address)), 400)


class Host(BaseHTTPRequestHandler):
    """A harmless host on loopback, that notes what it is asked for."""

    asked: ClassVar[list[tuple[str, str]]] = []
    film: ClassVar[bytes] = b""

    def do_GET(self) -> None:
        self.asked.append((self.headers["host"], self.path))
        path, _, place = self.path.removeprefix("/").partition("?")
        if path == "to":
            self._say(302, b"", location=place)
        elif path == "missing":
            self._say(404, b"")
        elif path == "large":
            self._say(200, b"x" * 10, length=10**10)
        elif path == "endless":
            self.send_response(200)
            self.end_headers()
            with_hope = b"x" * 2**16
            try:
                while True:
                    self.wfile.write(with_hope)
            except OSError:
                self.asked.append(("hung up", self.path))
        else:
            self._say(200, self.film)

    def _say(self, status: int, content: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(content) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def host(served: Fixture) -> Iterator[int]:
    """The port of a host on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Host)
    Host.film = served.film.read_bytes()
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


NAMES = {"public.test": "127.0.0.1", "sub.public.test": "127.0.0.1", "private.test": "10.0.0.1"}
"""Who is where. The rules of this test take loopback for public, and nothing else."""


async def look_up(name: str, port: int) -> list[str]:
    return ["127.0.0.1", "10.0.0.1"] if name == "both.test" else [NAMES.get(name, name)]


@contextmanager
def reachable(served: Fixture, **settings: Any) -> Iterator[None]:
    """A block in which the service fetches, with loopback in the place of the world."""
    Host.asked.clear()
    found = served.service.fetcher
    rules = replace(served.service.settings, **settings)
    served.service.fetcher = Fetcher(rules, look_up=look_up, may_connect=lambda address: address.is_loopback)
    try:
        yield
    finally:
        served.service.fetcher = found


def test_a_film_is_fetched_from_the_address_that_was_checked(served, host):
    with reachable(served):
        fetched = served.ask(_url(f"http://public.test:{host}/film.mp4"))
    assert text_of(fetched) == text_of(served.ask(_url(served.data)))
    assert Host.asked == [(f"public.test:{host}", "/film.mp4")]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("http://private.test:{port}/a", "no public address"),
        ("http://both.test:{port}/a", "no public address"),
        ("http://public.test:{port}/to?http://private.test:{port}/a", "no public address"),
        ("http://public.test:{port}/to?file:///etc/hostname", "expected an address"),
        ("http://public.test:{port}/to?http://public.test:{port}/to?to?to?to?a", "more than 3 times"),
        ("http://public.test:{port}/missing", "status 404"),
        ("http://public.test:1/a", "can't be fetched"),
    ],
)
def test_where_an_address_leads_is_looked_at_each_time(served, host, path, said):
    with reachable(served):
        assert said in refusal(served.ask(_url(path.format(port=host))), 400)
    assert all(path.startswith(("/to?", "/missing")) for _, path in Host.asked)


@pytest.mark.parametrize("path", ["large", "endless"])
def test_no_more_is_read_of_a_host_than_a_video_may_have(served, host, path):
    with reachable(served):
        refusal(served.ask(_url(f"http://public.test:{host}/{path}")), 413)
    if path == "endless":
        until(lambda: ("hung up", "/endless") in Host.asked)
    assert served.service.budget.nbytes == 0


def test_only_named_hosts_are_asked_where_there_are_names(served, host):
    with reachable(served, allowed_media_domains=("public.test",)):
        assert served.ask(_url(f"http://sub.public.test:{host}/film.mp4")).status_code == 200
        for name in ("notpublic.test", "public.test.private.test", "127.0.0.1"):
            assert "nothing is fetched from that host" in refusal(served.ask(_url(f"http://{name}:{host}/a")), 400)
    assert len(Host.asked) == 1


def test_nothing_is_fetched_where_it_is_off(served, host):
    with reachable(served, fetch=False):
        refusal(served.ask(_url(f"http://public.test:{host}/film.mp4")), 400)
    assert Host.asked == []


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_the_real_rules_never_reach_loopback(served, host, name):
    Host.asked.clear()
    refusal(served.ask(_url(f"http://{name}:{host}/film.mp4")), 400)
    assert Host.asked == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("10.1.2.3", False), ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False),
        ("100.64.0.1", False), ("127.0.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("192.0.2.1", False), ("::", False), ("::1", False), ("fe80::1", False),
        ("fc00::1", False), ("fec0::1", False), ("ff02::1", False), ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False), ("2002:a00:1::", False), ("2001:db8::1", False), ("fd00:ec2::254", False),
        ("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address, public):
    assert is_public(ipaddress.ip_address(address)) is public


def test_a_key_is_wanted_for_all_but_health(served):
    service = served.service
    app = create_app(service, replace(service.settings, api_key="secret"))
    guarded = replace(served, app=app)
    assert "API key" in refusal(guarded.ask(about()), 401)
    assert "API key" in refusal(guarded.ask(about(), authorization="Bearer wrong"), 401)
    assert "API key" in refusal(guarded.ask(about(), authorization="Bearer s\u00e9cret".encode("latin-1")), 401)
    assert guarded.ask(about(max_tokens=1), authorization="Bearer secret").status_code == 200

    async def got() -> list[int]:
        async with guarded.client() as client:
            return [(await client.get(path)).status_code for path in ("/v1/models", "/metrics", "/health", "/nowhere")]

    assert together([got()])[0] == [401, 401, 200, 404]


def test_pages_of_others_may_not_ask_unless_they_are_named(served):
    def allowed(app: Any) -> str | None:
        async def asked() -> str | None:
            async with replace(served, app=app).client() as client:
                headers = {"origin": "https://page.test", "access-control-request-method": "POST"}
                return (await client.options(CHAT, headers=headers)).headers.get("access-control-allow-origin")

        return together([asked()])[0]

    settings = replace(served.service.settings, allowed_origins=("https://page.test",))
    assert allowed(served.app) is None
    assert allowed(create_app(served.service, settings)) == "https://page.test"


def test_a_bug_is_told_without_what_was_asked(served, monkeypatch, caplog):
    def fail(_: Any, question: str, *more: Any) -> None:
        raise KeyError(question)

    monkeypatch.setattr(Watched, "trace", fail)
    response = served.ask(about(question="a secret question"))
    assert refusal(response, 500) == "the server failed at this request"
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


def test_nothing_of_a_request_is_logged(served, caplog):
    with caplog.at_level("INFO"):
        text_of(served.ask(about(video(served.data), question="a secret question", max_tokens=2)))
        refusal(served.ask(about(question="a secret question", specvlm={"warp": 9})), 400)
    assert "secret" not in caplog.text


def test_a_decoder_that_takes_too_long_is_ended_and_the_next_one_works(served):
    service = served.service
    decoder = Decoder(replace(service.settings, decode_seconds=0.3))

    def slow(timeline: Any) -> Any:
        return np.zeros(1, np.int64)

    try:
        decoder.warm_up()
        first = decoder._process
        content = served.film.read_bytes()
        assert decoder.video(content, slow).frames.shape[0] == 1
        os.kill(first.pid, signal.SIGSTOP)  # as one does that is lost in a file
        with pytest.raises(VideoError, match=r"more than 0.3 seconds"):
            decoder.video(content, slow)
        assert not first.is_alive()
        assert decoder.video(content, slow).frames.shape[0] == 1
        os.kill(decoder._process.pid, signal.SIGKILL)
        decoder._process.join()
        assert decoder.video(content, slow).frames.shape[0] == 1
    finally:
        decoder.close()
