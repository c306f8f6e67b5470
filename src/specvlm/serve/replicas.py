"""The same app in several processes, on as many GPUs and machines, by Ray Serve: docs/distributed.md.

    serve run specvlm.serve.replicas:app target=path/to/target draft=path/to/draft num_replicas=8 num_gpus=1

A replica is a server by itself, behind the proxy of Ray's: with a pair, a memory of videos and a queue of its own. The
queue is short, for what is in it is lost with its replica; all others wait in the proxy, and are nobody's yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast, final

from pydantic import TypeAdapter, ValidationError
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig
from starlette.types import ASGIApp, Receive, Scope, Send

import specvlm
from specvlm.errors import OptionError, brief
from specvlm.serve.app import create_app
from specvlm.serve.requests.bodies import RETRY_SECONDS
from specvlm.serve.service import Service
from specvlm.serve.settings import Settings, called

AHEAD = 8
"""Requests that a replica has beside those that it answers: they are being sent, fetched, or next."""

REMEMBERED = 256
"""Videos of which a replica tells the proxy that it knows them."""


@final
@dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many there are, and what each has to itself."""

    num_replicas: int = 1
    num_gpus: float = 0.0
    num_cpus: float = 1.0


def app(told: Mapping[str, Any]) -> Application:
    """What `serve run` and a configuration of Ray Serve's name by its place. `told` may hold what `Replicas` and
    `Settings` have, and what `specvlm.load` takes: as the values that they are, or as texts.

    Errors: OptionError.
    """
    told = {"target": "pocket"} | dict(told)
    replicas, settings = _of(Replicas, told), _of(Settings, {"name": called(str(told["target"]))} | told)
    ours = {field.name for kind in (Replicas, Settings) for field in fields(kind)}
    return served({name: value for name, value in told.items() if name not in ours}, settings, replicas)


def served(pair: Mapping[str, Any], settings: Settings, replicas: Replicas) -> Application:
    """The app, to be run by `ray.serve.run`. `pair` is what `specvlm.load` is called with, by each replica."""
    own = replace(settings, max_waiting=AHEAD)

    def build() -> ASGIApp:
        vlm = specvlm.load(**pair)
        return Sticky(create_app(Service(vlm, own), own))

    deployment = serve.deployment(serve.ingress(build)()).options(
        name="specvlm",
        num_replicas=replicas.num_replicas,
        ray_actor_options={"num_gpus": replicas.num_gpus, "num_cpus": replicas.num_cpus},
        max_ongoing_requests=own.parallel + AHEAD,
        max_queued_requests=settings.max_waiting,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=RETRY_SECONDS),
    )
    return deployment.bind()


@final
class Sticky:
    """An app that tells the proxy of videos that it was asked about, by the names that requests give in a header
    (`serve_multiplexed_model_id`): requests of the same name are sent here as long as there is room."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (name := serve.get_multiplexed_model_id()):
            await _known(name)
        await self._inner(scope, receive, send)


async def _itself(name: str) -> str:
    return name


# Ray's annotation of what it makes of a function is that of a method's.
_known = cast("Callable[[str], Awaitable[str]]", serve.multiplexed(max_num_models_per_replica=REMEMBERED)(_itself))


def _of(kind: Any, told: Mapping[str, Any]) -> Any:
    """What was told of these fields. Errors: OptionError."""
    names = {field.name for field in fields(kind)}
    try:
        return TypeAdapter(kind).validate_python({name: told[name] for name in told if name in names})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise OptionError(f"{'.'.join(map(str, first['loc']))}: {brief(first['msg'])}") from None
