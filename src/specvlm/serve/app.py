"""The app: routes, who may call them, and how much they may send."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

import specvlm
from specvlm.serve.errors import RefusedError
from specvlm.serve.page import router
from specvlm.serve.requests.asking import How, understood
from specvlm.serve.requests.bodies import Held, read
from specvlm.serve.requests.schema import ChatRequest, parse
from specvlm.serve.service import Service
from specvlm.serve.settings import Settings
from specvlm.serve.telling import Teller
from specvlm.serve.turn import Finished, Seen, Turn

log = logging.getLogger("specvlm.serve")
T = TypeVar("T")

SMALL = 2**16
"""Bytes of a body that keep nobody waiting while they are parsed."""


def create_app(service: Service, settings: Settings) -> FastAPI:
    """The API over a service, which it closes when it ends itself."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warm = asyncio.create_task(asyncio.to_thread(service.decoder.warm_up))
        yield
        await asyncio.gather(warm, return_exceptions=True)  # whoever needs it is told what is wrong
        await service.close()

    app = FastAPI(title="specvlm", version=specvlm.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.allowed_origins), allow_methods=["*"], allow_headers=["*"]
        )

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return JSONResponse(error.envelope(), error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def not_there(request: Request, error: HTTPException) -> JSONResponse:
        wanted = RefusedError(error.status_code, str(error.detail).lower(), headers=error.headers)
        return await refused(request, wanted)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return await refused(request, RefusedError(500, "the server failed at this request", code="internal_error"))

    def require_key(request: Request) -> None:
        if settings.api_key is None:
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode("utf-8"), f"Bearer {settings.api_key}".encode()):
            told = "the API key is wrong or missing: send it as `Authorization: Bearer KEY`"
            raise RefusedError(401, told, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        require_key(request)
        page = await asyncio.to_thread(service.metrics.page)
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/models")
    async def models(request: Request) -> dict:
        require_key(request)
        return {"object": "list", "data": [_model()]}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> dict:
        require_key(request)
        if name != settings.name:
            raise RefusedError(404, f"there is no such model here; there is {settings.name}", code="model_not_found")
        return _model()

    def _model() -> dict:
        return {"id": settings.name, "object": "model", "created": service.started, "owned_by": "specvlm"}

    schema = {"content": {"application/json": {"schema": ChatRequest.model_json_schema()}}, "required": True}

    @app.post("/v1/chat/completions", openapi_extra={"requestBody": schema}, response_model=None)
    async def chat(request: Request) -> Response:
        require_key(request)
        held = Held(service.budget)
        try:
            turn, how = await _begun(request, held)
        except BaseException:
            held.release()
            raise
        teller = Teller(how, settings.name)
        try:
            if not how.stream:
                return JSONResponse(teller.whole(await while_there(request, _last(turn, Finished))))
            first = await while_there(request, turn.event())
            if isinstance(first, RefusedError):
                raise first
            assert not isinstance(first, Seen)
        except BaseException:
            turn.give_up()
            raise
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies shall pass on what they get
        return StreamingResponse(teller.stream(turn, first), media_type="text/event-stream", headers=headers)

    async def _begun(request: Request, held: Held, *, look: bool = False) -> tuple[Turn, How]:
        """The body is in use for as long as the turn is, and no longer by us."""
        body = await read(request, settings, held)
        wanted = await asyncio.to_thread(parse, body) if len(body) > SMALL else parse(body)
        asked = understood(wanted, settings)
        if look:
            asked = replace(asked, how=How(look=True))
        return service.begin(asked, held), asked.how

    async def look(request: Request) -> Seen:
        """What the model looks at of the video that a request is about. Errors: RefusedError."""
        require_key(request)
        held = Held(service.budget)
        try:
            turn, _ = await _begun(request, held, look=True)
        except BaseException:
            held.release()
            raise
        try:
            return await while_there(request, _last(turn, Seen))
        finally:
            turn.give_up()

    app.include_router(router(service.vlm, look))
    return app


async def _last(turn: Turn, kind: type[T]) -> T:
    """The event of this kind, which is the last one. Errors: RefusedError."""
    while True:
        event = await turn.event()
        if isinstance(event, RefusedError):
            raise event
        if isinstance(event, kind):
            return event


async def while_there(request: Request, awaited: Awaitable[T]) -> T:
    """What it gives, unless the client goes away first. Errors: RefusedError (499), which nobody reads."""
    work = asyncio.ensure_future(awaited)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise RefusedError(499, "the client has gone")
        return work.result()
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.wait([work, gone])


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
