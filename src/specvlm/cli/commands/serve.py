"""specvlm serve: the engine behind the API of OpenAI, for everybody who knows its address."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from specvlm.cli.options import Features, Loading, spread
from specvlm.cli.screen import note, waiting
from specvlm.errors import OptionError

MIB = 2**20
BOUNDS = "Bounds"
CONNECTIONS = 1024
"""Clients that may be connected at once; more are sent away."""


@spread
def serve(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The model whose answers they are: a path, a Hub id, or `pocket`.")
    ] = "pocket",
    draft: Annotated[
        str | None, typer.Argument(metavar="DRAFT", help="The small model that guesses; or `self`.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen at; `0.0.0.0`: at all that there are.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at; 0: any that is free.")] = 8000,
    name: Annotated[str | None, typer.Option(help="What clients call the model (default: TARGET's last part).")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="SPECVLM_API_KEY", help="What clients have to know (default: nothing).")
    ] = None,
    allowed_media_path: Annotated[
        Path | None, typer.Option(help="The folder that `file://` addresses may name videos in (default: none).")
    ] = None,
    allowed_media_domain: Annotated[
        list[str] | None,
        typer.Option(help="A host that videos may be fetched from (default: any with a public address)."),
    ] = None,
    fetch: Annotated[bool, typer.Option(help="Whether videos are fetched from `https://` addresses at all.")] = True,
    allowed_origin: Annotated[
        list[str] | None, typer.Option(help="A site whose pages may ask from a browser (default: none).")
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Answers that are made at once.", rich_help_panel=BOUNDS)] = 1,
    max_waiting: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; more are told to come back.", rich_help_panel=BOUNDS)
    ] = 64,
    request_seconds: Annotated[
        float, typer.Option(min=1, help="Most seconds from a request to its last token.", rich_help_panel=BOUNDS)
    ] = 300,
    max_video_mib: Annotated[int, typer.Option(min=1, help="Most MiB of a video.", rich_help_panel=BOUNDS)] = 128,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Most tokens that a request may ask for.", rich_help_panel=BOUNDS)
    ] = 4096,
    memory_mib: Annotated[
        int, typer.Option(min=0, help="MiB of what is kept of videos for further questions.", rich_help_panel=BOUNDS)
    ] = 1024,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Log who asked for which path, with its status. Never what.")
    ] = False,
    *,
    models: Loading,
    features: Features,
) -> None:
    """Answer questions about videos over HTTP, as OpenAI's chat completions do: docs/serve.md.

    Without TARGET the embedded pair answers, which knows films of drawn shapes alone.

    \b
    Examples:
      specvlm serve
      specvlm serve path/to/target path/to/draft --api-key secret
    """
    with waiting("Loading"):
        try:
            import uvicorn

            from specvlm.serve.app import create_app
            from specvlm.serve.service import Service
            from specvlm.serve.settings import Settings, called
        except ModuleNotFoundError as error:
            raise OptionError(f"serving needs {error.name}: pip install 'specvlm[serve]'") from None
    settings = Settings(
        name=name or called(target),
        api_key=api_key,
        allowed_media_path=allowed_media_path,
        allowed_media_domains=tuple(allowed_media_domain or ()),
        allowed_origins=tuple(allowed_origin or ()),
        fetch=fetch,
        parallel=parallel,
        max_waiting=max_waiting,
        request_seconds=request_seconds,
        max_video_bytes=max_video_mib * MIB,
        max_body_bytes=max_video_mib * MIB * 4 // 3 + 4 * MIB,
        max_new_tokens=max_new_tokens,
        memory_bytes=memory_mib * MIB,
    )
    service = Service(models.load(target, draft, features.cache()), settings)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        create_app(service, settings),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=2**16,
    )
    if log_requests:
        config.access_log = True
        logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    note(f"{settings.name} answers at http://{host}:{port}/v1 (Ctrl-C ends it)")
    uvicorn.Server(config).run()
