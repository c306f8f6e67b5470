"""Bodies of requests: read within a time, as large as one may be, and as many as there is room for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import final

from fastapi import Request
from starlette.requests import ClientDisconnect

from specvlm.serve.errors import RefusedError
from specvlm.serve.settings import Settings

RETRY_SECONDS = 5
"""When somebody for whom there is no room is told to come back."""


@final
@dataclass
class Budget:
    """Bytes that strangers have sent, and that are in use."""

    max_bytes: int
    nbytes: int = 0


@final
@dataclass
class Held:
    """What one request has of a budget, until it is released. For one event loop."""

    budget: Budget
    nbytes: int = 0

    def take(self, nbytes: int) -> None:
        """Errors: RefusedError (429), when too much is in use."""
        if self.budget.nbytes + nbytes > self.budget.max_bytes:
            told = "too much is being sent to this server: come back later"
            raise RefusedError(429, told, code="too_busy", headers={"Retry-After": str(RETRY_SECONDS)})
        self.budget.nbytes += nbytes
        self.nbytes += nbytes

    def release(self) -> None:
        """Once is enough, twice does no harm."""
        self.budget.nbytes -= self.nbytes
        self.nbytes = 0


async def read(request: Request, settings: Settings, held: Held) -> bytes:
    """The body of a request. Errors: RefusedError."""
    most, pieces = settings.max_body_bytes, []
    too_large = RefusedError(413, f"a request may have {most} bytes here", headers={"Connection": "close"})
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise too_large
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for piece in request.stream():
                if held.nbytes + len(piece) > most:
                    raise too_large
                held.take(len(piece))
                pieces.append(piece)
    except TimeoutError:
        late = f"a request must be sent within {settings.body_seconds:g} seconds"
        raise RefusedError(408, late, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise RefusedError(499, "the client has gone") from None
    return b"".join(pieces)
