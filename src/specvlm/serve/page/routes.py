"""Where a browser finds the page, and what it asks for beside answers."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from specvlm import pocket
from specvlm.pipeline import SpecVLM
from specvlm.serve.page.document import document, policy
from specvlm.serve.page.frames import shown
from specvlm.serve.turn import Seen


def router(vlm: SpecVLM, look: Callable[[Request], Awaitable[Seen]]) -> APIRouter:
    """The page about a pair of models, the film of the demo, and what the models look at of a video: `look` finds out
    by a request with the body of a chat completion."""
    routes, page = APIRouter(include_in_schema=False), document(vlm)
    headers = {
        "Content-Security-Policy": policy(page),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }

    @routes.get("/", response_class=HTMLResponse)
    async def root() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    @routes.get("/demo-film")
    async def demo_film() -> Response:
        return Response(await asyncio.to_thread(filmed), media_type="video/mp4")

    @routes.post("/frames")
    async def frames(request: Request) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(shown, await look(request)))

    return routes


@functools.cache
def filmed() -> bytes:
    """The film that the page offers, as mp4."""
    with TemporaryDirectory() as folder:
        return pocket.demo_video(Path(folder) / "film.mp4", pocket.FILMED, lit=True).read_bytes()
