"""Service: owns the pair of models, what is known of videos, and the queue of those who wait for an answer.

Answers are made one after another: decoding is bound by how fast weights come from memory, so two answers side by side
take twice as long each, hold two caches, and the first token of the second comes hardly sooner. `Settings.parallel`
lets more of them in, for machines where other work (video, long prompts on several GPUs) leaves the device idle.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast, final

from specvlm.answering.answer import Generation, Piece
from specvlm.answering.text import TextStream
from specvlm.engine.stats import timing_phases
from specvlm.errors import SpecVLMError
from specvlm.pipeline import SpecVLM
from specvlm.serve.errors import RefusedError, wrong
from specvlm.serve.media.decoding import Content, Decoder
from specvlm.serve.media.fetching import Fetcher
from specvlm.serve.media.guarded import Guarded
from specvlm.serve.media.sources import Clip, Sources, key_of
from specvlm.serve.metrics import Metrics
from specvlm.serve.requests.asking import Asked
from specvlm.serve.requests.bodies import RETRY_SECONDS, Budget, Held
from specvlm.serve.requests.parts import Conversation, Link
from specvlm.serve.settings import Settings
from specvlm.serve.stopping import Shown
from specvlm.serve.turn import CURRENT, Finished, GoneError, Seen, Turn
from specvlm.watching.watch_list import WatchList

log = logging.getLogger("specvlm.serve")


@final
class Service:
    """May be asked by any number of tasks of one event loop. `close` when it is no longer needed."""

    def __init__(self, vlm: SpecVLM, settings: Settings, fetcher: Fetcher | None = None) -> None:
        self.vlm, self.settings = vlm, settings
        self.fetcher = Fetcher(settings) if fetcher is None else fetcher
        self.sources = Sources(settings.source_bytes)
        self.decoder = Decoder(settings)
        self.guarded = Guarded(vlm, self.sources, self.decoder, settings)
        self.watched = WatchList(self.guarded, settings.memory_bytes)
        self.budget = Budget(settings.max_held_bytes)
        self.started = int(time.time())
        self._running: set[Turn] = set()
        self._turns: dict[Turn, asyncio.Task] = {}
        self.metrics = Metrics(
            {
                "vllm:num_requests_running": lambda: self.num_running,
                "vllm:num_requests_waiting": lambda: self.num_waiting,
                "specvlm:known_bytes": lambda: self.watched.nbytes,
                "specvlm:source_bytes": lambda: self.sources.nbytes,
                "specvlm:held_bytes": lambda: self.budget.nbytes,
            }
        )
        self._workers = ThreadPoolExecutor(settings.parallel, thread_name_prefix="specvlm-answer")

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        return max(0, len(self._turns) - self.num_running)

    async def close(self) -> None:
        """Give up what is being answered, and end."""
        for turn in list(self._turns):
            turn.give_up()
        if self._turns:
            await asyncio.wait(list(self._turns.values()))
        self._workers.shutdown()
        self.decoder.close()
        await self.fetcher.close()

    def begin(self, asked: Asked, held: Held) -> Turn:
        """An answer that begins when its turn comes, and tells of itself by `Turn.event`: the last is Finished or
        RefusedError. To be given up wherever it is left: that stops it within a round. `held` is released in the end.

        Errors: RefusedError (429) if too many wait.
        """
        if len(self._turns) >= self.settings.parallel + self.settings.max_waiting:
            raise RefusedError(
                429,
                "too many requests wait for an answer: come back later",
                code="queue_full",
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        turn = Turn(time.monotonic() + self.settings.request_seconds)
        self._turns[turn] = task = asyncio.create_task(self._serve(turn, asked, held))
        task.add_done_callback(lambda _: self._turns.pop(turn))
        return turn

    async def _serve(self, turn: Turn, asked: Asked, held: Held) -> None:
        task = cast(asyncio.Task, asyncio.current_task())
        try:
            async with AsyncExitStack() as stack:
                with turn.stopping_by(task.cancel):
                    shown = await stack.enter_async_context(self._shown(asked.talk, held))
                asked = replace(asked, talk=replace(asked.talk, videos=(), images=()))  # which held what was sent
                work = self._workers.submit(contextvars.copy_context().run, self._work, turn, asked, *shown)
                with turn.stopping_by(work.cancel):  # which does nothing once it has begun: then it asks by itself
                    await asyncio.wait([asyncio.wrap_future(work)])
        except RefusedError as refused:
            self.metrics.aborted("error")
            turn.events.put_nowait(refused)
        except asyncio.CancelledError:
            self.metrics.aborted("abort")
        except Exception as error:  # noqa: BLE001
            turn.events.put_nowait(self._failed(error))
        finally:
            held.release()

    @asynccontextmanager
    async def _shown(self, talk: Conversation, held: Held) -> AsyncIterator[tuple[tuple[Clip, ...], tuple[Clip, ...]]]:
        """The videos and images of a request, got from where they are, and in use for as long as it is answered."""
        keys: list[str] = []
        try:
            clips = [await self._got(link, keys, held) for link in talk.videos]
            images = [await self._got(link, keys, held) for link in talk.images]
            yield tuple(clips), tuple(images)
        finally:
            for key in keys:
                self.sources.give_back(key)

    async def _got(self, link: Link, keys: list[str], held: Held) -> Clip:
        if not link.addresses:
            key = self.sources.take_again(link.uuid or "")
            if key is None:
                raise wrong(link.param, f"{link.param}: no video of this uuid is here (any more): send it again")
        else:
            found = [await self.fetcher.get(address, link.param, held.take) for address in link.addresses]
            content: Content = found[0]
            if link.frames:
                content = tuple([await asyncio.to_thread(_read, each) for each in found])
            key = await asyncio.to_thread(key_of, content)
            self.sources.take(key, content, link.uuid)
        keys.append(key)
        most = link.sampling.get("max_frames")
        return Clip(key, most, is_image=link.param.endswith("image_url"))

    def _work(self, turn: Turn, asked: Asked, clips: tuple[Clip, ...], images: tuple[Clip, ...]) -> None:
        """Make one answer, in a worker's thread."""
        CURRENT.set(turn)
        self._running.add(turn)
        began = time.monotonic()
        try:
            turn.check()
            if asked.how.look:
                turn.tell(self._seen(asked, *clips))
                return
            self.metrics.begins(began - turn.begun)
            with timing_phases() if asked.how.trace else _nothing():
                generation, text = self._answered(turn, asked, clips, images)
            self.metrics.finished(generation, began - turn.begun)
            turn.tell(Finished(generation, text, self.guarded.warning(*clips, *images)))
        except GoneError:
            self.metrics.aborted("abort")
        except RefusedError as refused:
            self.metrics.aborted("error")
            turn.tell(refused)
        except SpecVLMError as error:
            self.metrics.aborted("error")
            turn.tell(wrong(None, str(error)))
        except MemoryError:
            self.metrics.aborted("error")
            turn.tell(RefusedError(503, "there is not enough memory for this request", code="out_of_memory"))
        except Exception as error:  # noqa: BLE001
            turn.tell(self._failed(error))
        finally:
            self._running.discard(turn)

    def _failed(self, error: Exception) -> RefusedError:
        """A bug. The log has where it happened, and not what it says: that may quote a request."""
        self.metrics.aborted("error")
        log.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        return RefusedError(500, "the server failed at this request", code="internal_error")

    def _seen(self, asked: Asked, *clips: Clip) -> Seen:
        if len(clips) != 1:
            raise wrong("messages", f"one video is looked at here, not {len(clips)}")
        video, prompt = self.guarded.look(clips[0], asked.talk.question, asked.options)
        return Seen(video, prompt, self.guarded.warning(*clips))

    def _answered(
        self, turn: Turn, asked: Asked, clips: tuple[Clip, ...], images: tuple[Clip, ...]
    ) -> tuple[Generation, str]:
        self.guarded.require_short(*asked.talk.texts)
        options = replace(asked.options, more_videos=clips[1:], images=images)
        watched = self.watched.watch(clips[0] if clips else None, options)
        shown = Shown(options.stop, turn.tell)
        if asked.arm == "ar":
            stream = TextStream(self.vlm.target.tokenizer)

            def heard(tokens: tuple[int, ...]) -> None:
                turn.check()
                shown.add(tuple(Piece(stream.add_one(token), "target") for token in tokens))

            generation = watched.autoregressive(asked.talk.question, options, on_tokens=heard)
            shown.add((Piece(stream.finish()[0], "target"),))
        else:
            rounds = watched.trace(asked.talk.question, options)
            with closing(rounds):
                generation = None
                while generation is None:
                    try:
                        shown.add(next(rounds))
                    except StopIteration as stop:
                        generation = stop.value
                    turn.check()
        return generation, shown.finish(generation)


def _read(picture: bytes | Path) -> bytes:
    return picture if isinstance(picture, bytes) else picture.read_bytes()


@contextmanager
def _nothing() -> Iterator[None]:
    yield
