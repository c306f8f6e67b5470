"""specvlm chat: by lines that are piped in, and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import specvlm
import video_zoo
from specvlm.cli.commands import chat
from specvlm.pipeline import SpecVLM
from tiny import llava_model, llava_processor, noised

SMALL = {"num_frames": 4, "max_new_tokens": 12}
SPEED = r"^\d+ tokens, \d+ a second, \d+\.\d\d a forward of the target; the first after \d+\.\d\d s$"


@pytest.fixture(scope="module")
def vlm(pair: Path) -> SpecVLM:
    return specvlm.load(pair / "target", pair / "draft", dtype="float32")


def lines(*typed: str) -> bytes:
    return "".join(f"{each}\n" for each in typed).encode()


def test_each_question_follows_up_on_those_before_it(run: Callable, film: Path, small: list, vlm: SpecVLM):
    result = run("chat", film, *small, stdin=lines("what?", "", "who?", "/new", "who?"))
    assert result.exit_code == 0
    what, alone = vlm.generate(film, "what?", **SMALL).text, vlm.generate(film, "who?", **SMALL).text
    who = vlm.generate(film, "who?", history=(("what?", what),), **SMALL).text
    assert who != alone
    assert result.stdout == f"> what?\n{what}\n\n> who?\n{who}\n\n> who?\n{alone}\n"
    assert len(re.findall(SPEED, result.stderr, re.MULTILINE)) == 3


def test_another_video_is_another_talk(run: Callable, film: Path, small: list, vlm: SpecVLM, tmp_path: Path):
    other = video_zoo.write(tmp_path / "a film.mp4", 20)
    result = run("chat", film, *small, stdin=lines("what?", f"/video {other}", "what?"))
    first, second = (vlm.generate(each, "what?", **SMALL).text for each in (film, other))
    assert first != second
    assert result.stdout == f"> what?\n{first}\n\n> what?\n{second}\n"
    assert "Ask about a film.mp4." in result.stderr


def test_without_a_video_it_is_about_the_embedded_film(run: Callable, small: list, vlm: SpecVLM, tmp_path: Path):
    film = specvlm.pocket.demo_video(tmp_path / "film.mp4")
    assert run("chat", *small, stdin=lines("what?")).stdout == f"> what?\n{vlm.generate(film, 'what?', **SMALL).text}\n"


def test_what_is_no_question_stays_off_standard_output(run: Callable, film: Path, small: list):
    result = run("chat", film, *small, stdin=lines("/help", "what?", "/stats"))
    assert result.stdout.count("\n") == 2
    assert chat.HELP in result.stderr
    assert all(f"{name} " in chat.HELP for name in chat.COMMANDS)
    assert max(map(len, chat.HELP.splitlines())) <= 80
    assert "mean acceptance length" in result.stderr


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("/vidoe film.mp4", "error: there is no /vidoe: /video, /new, /stats, /help\n"),
        ("/video", "error: name a file: /video FILE\n"),
        ("/stats", "error: there is no answer yet: ask something\n"),
    ],
)
def test_piped_in_what_is_wrong_ends_it(run: Callable, film: Path, small: list, typed: str, said: str):
    result = run("chat", film, *small, stdin=lines(typed, "what?"))
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", said)


def test_standard_input_has_the_questions_and_no_video(run: Callable, film: Path):
    result = run("chat", "-", stdin=film.read_bytes())
    assert result.exit_code == 2
    assert result.stderr == "error: standard input has the questions: name a file as VIDEO, not '-'\n"


def test_a_file_that_is_not_there_is_noticed_before_the_models_are_loaded(run: Callable, tmp_path: Path):
    result = run("chat", tmp_path / "film.mp4", "--target", tmp_path / "no-model", stdin=b"")
    assert result.exit_code == 2
    assert "film.mp4" in result.stderr


class Terminal:
    """A program on a terminal of its own, which somebody sits at."""

    def __init__(self, descriptor: int, process: subprocess.Popen) -> None:
        self._descriptor, self.process, self.shown = descriptor, process, ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: str, seconds: float = 300) -> re.Match[str]:
        """Read until something new that matches is on the screen; what stands before its end is old from then on."""
        end = time.monotonic() + seconds
        while (found := re.search(pattern, self.shown, re.DOTALL)) is None:
            assert time.monotonic() < end, f"no {pattern!r} in {self.shown!r}"
            if select.select([self._descriptor], [], [], 1)[0]:
                with suppress(OSError):  # Linux's way to say that the program has ended
                    self.shown += os.read(self._descriptor, 65536).decode(errors="replace")
        self.shown = self.shown[found.end() :]
        return found


ON_A_TERMINAL = """
import fcntl, signal, termios
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background had it ignored
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # it is this program that Ctrl-C is for
from specvlm.cli import main
main()
"""


@contextmanager
def on_a_terminal(*arguments: object) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *map(str, arguments)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm", "COLUMNS": "200"},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Options for a pair whose answers end at the limit alone: late enough to be stopped before."""
    folder = tmp_path_factory.mktemp("talkative")
    model = llava_model(seed=1)
    for each, role in ((model, "target"), (noised(model, 0.05), "draft")):
        each.generation_config.eos_token_id = None
        each.save_pretrained(folder / role)
        llava_processor().save_pretrained(folder / role)
    return [
        *("--target", folder / "target", "--draft", folder / "draft", "--dtype", "float32"),
        *("--num-frames", 4, "--plan", "fixed", "--max-new-tokens", 600),
    ]


def test_ctrl_c_stops_an_answer_and_not_the_chat(film: Path, talkative: list):
    with on_a_terminal("chat", film, *talkative) as terminal:
        terminal.wait_for(r"Ask about film\.mp4\..*> ")
        terminal.type("wha")
        terminal.wait_for("wha")  # a signal between readline's prompt and its first look at the keys waits for a key
        terminal.type("\x03")
        terminal.wait_for(r"Ctrl-D ends the chat\..*> ")
        terminal.type("what?\r")
        terminal.wait_for(r"what\?\r\n.*[^\r\n]{20}")  # it has begun to answer
        terminal.type("\x03")
        terminal.wait_for(r"Stopped\. Follow-ups won't know of this question\..*> ")
        terminal.type("/stats\r")
        terminal.wait_for(r"error: there is no answer yet: ask something.*> ")
        terminal.type("/video nowhere.mp4\r")
        terminal.wait_for(r"error: [^\n]*nowhere\.mp4[^\n]*\n.*> ")
        terminal.type("\x1b[A\x1b[A\x1b[A\r")  # three up in the history: the question
        terminal.wait_for(r"600 tokens, \d+ a second.*> ")
        terminal.type("\x04")
        assert terminal.process.wait(60) == 0


def test_the_second_ctrl_c_waits_for_no_round():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), chat.interrupted() as stopped:  # noqa: PT012 the last line alone raises
        assert not stopped()
        signal.raise_signal(signal.SIGINT)
        assert stopped()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
