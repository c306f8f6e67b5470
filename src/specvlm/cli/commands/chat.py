"""specvlm chat: questions and follow-ups about a video, until nobody asks any more."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from specvlm.cli.commands.generate import decode, tell
from specvlm.cli.ending import code_and_line
from specvlm.cli.inputs import look_at, standard_input, typed_lines
from specvlm.cli.options import Answer, Models, spread
from specvlm.cli.screen import console, note, waiting, warn
from specvlm.errors import OptionError, SpecVLMError, brief

if TYPE_CHECKING:
    from specvlm.answering.answer import Generation
    from specvlm.answering.options import Options
    from specvlm.pipeline import SpecVLM

PROMPT = "> "
HELP = """\
/video FILE  talk about this video from now on
/new         forget what was said, and go on with the same video
/stats       where the time of the last answer went, and what was accepted
/help        this
All else is a question. Ctrl-C stops an answer (twice: the chat), Ctrl-D ends."""
"""No line longer than 80."""


@spread
def chat(
    video: Annotated[
        str | None,
        typer.Argument(
            metavar="VIDEO",
            help="A video file, or its `file:` or `data:` URI; or a folder of pictures (default: a film that the "
            "embedded pair has never seen).",
        ),
    ] = None,
    *,
    models: Models,
    answer: Answer,
) -> None:
    """Ask about a video and follow up, on a terminal or by lines of standard input, with the speed of each answer.

    Each question follows up on those before it and their answers. `/video FILE` takes another video, `/new` forgets
    what was said, `/stats` shows where the time of the last answer went, `/help` all of this. Ctrl-C stops an answer
    and not the chat, Ctrl-D ends it. The video is decoded, seen and read once.

    \b
    Examples:
      specvlm chat film.mp4
      specvlm chat film.mp4 < questions.txt       # one a line
    """
    options = answer.options()
    if video == "-":
        raise OptionError("standard input has the questions: name a file as VIDEO, not '-'")
    look_at(video, options)
    talk = _Talk(models.load(options), options)
    talk.watch(video)
    on_terminal = standard_input().isatty()
    if on_terminal:
        note(f"Ask about {talk.name}. /help says what else can be typed.")
    for line in _typed() if on_terminal else _echoed():
        with _going_on() if on_terminal else nullcontext():
            talk.take(line)


@final
class _Talk:
    """What is talked about, what was said, and the last answer."""

    def __init__(self, vlm: SpecVLM, options: Options) -> None:
        self._vlm, self._options = vlm, options
        self._last: Generation | None = None

    def watch(self, video: str | None) -> None:
        """Another video, about which nothing was said yet; None: the embedded film."""
        with _embedded() if video is None else nullcontext(video) as source:
            clip, asked, _ = decode(self._vlm, source, self._options)
        self.name = "the embedded film" if video is None else brief(Path(video).name)
        self._watched, self._asked = self._vlm.watch(clip, asked), asked

    def take(self, line: str) -> None:
        """A question, or what begins with a stroke. Errors: OptionError, VideoError."""
        if not line.startswith("/"):
            self._answer(line)
            return
        name, _, rest = line.partition(" ")
        if name not in COMMANDS:
            raise OptionError(f"there is no {brief(name)}: {', '.join(COMMANDS)}")
        COMMANDS[name](self, rest.strip())

    def _answer(self, question: str) -> None:
        with interrupted() as stopped:
            generation = tell(_until(stopped, self._watched.stream(question, self._asked)), sys.stdout)
        if generation is None:
            note("Stopped. Follow-ups won't know of this question.")
            return
        self._last = generation
        if not self._asked.history:
            for damage in generation.stats.damage:
                warn(damage)
        self._asked = replace(self._asked, history=(*self._asked.history, (question, generation.text)))
        console(stderr=True).print(speed(generation), style="dim")

    def video(self, name: str) -> None:
        if not name:
            raise OptionError("name a file: /video FILE")
        try:
            self.watch(name)
        except KeyboardInterrupt:  # nothing has changed before all is known of the other one
            note(f"Stopped. This is still about {self.name}.")
        else:
            note(f"Ask about {self.name}.")

    def new(self, _: str) -> None:
        self._asked = replace(self._asked, history=self._options.history)
        note("Forgotten.")

    def stats(self, _: str) -> None:
        if self._last is None:
            raise OptionError("there is no answer yet: ask something")
        from specvlm.cli import tables

        console(stderr=True).print(tables.of_stats(self._last.stats))

    def help(self, _: str) -> None:
        console(stderr=True).print(HELP)


COMMANDS: dict[str, Callable[[_Talk, str], None]] = {
    "/video": _Talk.video,
    "/new": _Talk.new,
    "/stats": _Talk.stats,
    "/help": _Talk.help,
}


def speed(generation: Generation) -> str:
    """How fast an answer was, in a line."""
    stats = generation.stats
    return (
        f"{stats.num_tokens} tokens, {stats.tokens_per_second:.0f} a second, {stats.mean_acceptance_length:.2f} a "
        f"forward of the target; the first after {stats.ttft_seconds:.2f} s"
    )


def _until(
    stopped: Callable[[], bool], pieces: Generator[str, None, Generation]
) -> Generator[str, None, Generation | None]:
    """The pieces of an answer until it is stopped, between two rounds: then what it returns is None."""
    with closing(pieces):
        while not stopped():
            try:
                piece = next(pieces)
            except StopIteration as stop:
                return stop.value
            yield piece
    return None


@contextmanager
def interrupted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C in the block is asked for, and breaks nothing off; the second one does."""
    pressed: list[int] = []

    def press(number: int, frame: Any) -> None:
        if pressed:
            signal.default_int_handler(number, frame)
        pressed.append(number)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _going_on() -> Iterator[None]:
    """Say what goes wrong in the block, and leave it at that."""
    try:
        yield
    except (SpecVLMError, OSError, MemoryError, RuntimeError) as error:
        note(f"error: {code_and_line(error)[1]}")


@contextmanager
def _embedded() -> Iterator[str]:
    """The film of the demo, as long as the block."""
    with TemporaryDirectory() as folder:
        with waiting("Filming a video that the models have never seen"):
            from specvlm import pocket

            film = pocket.demo_video(Path(folder) / "film.mp4")
        yield str(film)


def _typed() -> Iterator[str]:
    """Lines from a terminal, with the editing and the history that the system has for them. Ctrl-C empties the line."""
    if sys.stdout.isatty():
        with suppress(ImportError):
            import readline  # noqa: F401  # input() knows of it from then on
    while True:
        try:
            line = _line()
        except KeyboardInterrupt:
            print("\nCtrl-D ends the chat.", file=sys.stderr)
            continue
        except EOFError:
            print(file=sys.stderr)
            return
        if line.strip():
            yield line.strip()


def _line() -> str:
    """One line; where the answers go to a file, the prompt doesn't."""
    if sys.stdout.isatty():
        return input(PROMPT)
    print(PROMPT, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _echoed() -> Iterator[str]:
    """Lines that nobody types, with the questions among them shown above their answers."""
    first = True
    for line in map(str.strip, typed_lines()):
        if line and not line.startswith("/"):
            print("" if first else "\n", f"{PROMPT}{line}", sep="", flush=True)
            first = False
        if line:
            yield line
