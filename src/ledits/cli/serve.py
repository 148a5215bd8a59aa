"""`ledits serve`: the editor over HTTP."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ledits.cli.edit_options import AssistantOption
from ledits.cli.grouped import grouped
from ledits.cli.more_options import More
from ledits.cli.options import DeviceOption, DtypeOption, check, load

if TYPE_CHECKING:
    from ledits.editor import Editor


@grouped
def serve_command(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="MODEL|NAME=MODEL",
            help="A model to load, and its name if you want another; may be repeated. \\[default: scenes]",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on. Any other than the default needs LEDITS_API_KEY.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    alias: Annotated[
        list[str] | None,
        typer.Option(
            "--alias", metavar="NAME=MODEL",
            help="Another name by which clients may ask for a model; '*=MODEL' takes any other name. May be repeated.",
        ),
    ] = None,
    assistant: AssistantOption = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse a size whose shape is not the picture's. Without it the size is fitted."),
    ] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-origin", metavar="URL",
            help="A site whose pages may call the server, such as https://a.example; may be repeated.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", metavar="NAME", help="A name by which clients call this server; may be repeated."
        ),
    ] = None,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder for kept inversions. \\[default: in your cache]")
    ] = None,
    store_size: Annotated[int, typer.Option("--store-size", min=1, help="MiB that this folder may hold.")] = 2048,
    queue: Annotated[int, typer.Option("--queue", min=1, help="How many edits may wait.")] = 32,
    key_queue: Annotated[
        int, typer.Option("--key-queue", min=1, help="How many edits of one key may wait or run.")
    ] = 16,
    upload: Annotated[int, typer.Option("--upload", min=1, help="Size in MiB of one request.")] = 50,
    pixels: Annotated[int, typer.Option("--pixels", min=64, help="How many pixels one picture may have.")] = 40_000_000,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How many seconds one edit may take.")] = 300.0,
    tools: Annotated[
        list[Path] | None,
        typer.Option(
            "--mcp", metavar="FOLDER",
            help="Offer the tools of `ledits mcp` at /mcp, for pictures in this folder; may be repeated.",
        ),
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    *,
    more: More,
) -> None:  # fmt: skip
    """Serve edits over HTTP, for OpenAI's clients and any other: ledits serve --port 8000

    Set LEDITS_API_KEY to the key that clients must send; put commas between several keys.
    """
    from ledits.server.settings import MIB, Limits, Settings, folder

    keys = tuple(key.strip() for key in os.environ.get("LEDITS_API_KEY", "").split(",") if key.strip())
    settings = Settings(
        folder=store or folder(), host=host, port=port, keys=keys, origins=tuple(allow_origin or ()),
        hosts=tuple(allow_host or ()), aliases=named(alias or [], "--alias"), strict=strict, tools=tuple(tools or ()),
        assistant=assistant or "",
        limits=Limits(
            upload_bytes=upload * MIB, pixels=pixels, jobs=queue, job_seconds=seconds, store_bytes=store_size * MIB,
            key_jobs=key_queue,
        ),
    )  # fmt: skip
    usual = [os.environ.get("LEDITS_MODEL") or "scenes"]
    models = named([text if "=" in text else f"{text}={text}" for text in model or usual], "--model")
    try:
        from ledits.server.run import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"`ledits serve` needs {error.name}: pip install 'ledits[serve]'") from None
    check_all(models, device, dtype)
    typer.echo(f"ledits loads {', '.join(models)}", err=True)
    editors = loaded(models, device, dtype, more)
    serve(settings, editors, started=lambda at: typer.echo(f"ledits serves {', '.join(models)} at {at}", err=True))


def check_all(models: Mapping[str, str], device: str | None, dtype: str | None) -> None:
    """Raise ValueError for a model that can't be loaded, before the first of them is."""
    for where in models.values():
        check(where, device, dtype)


def loaded(models: Mapping[str, str], device: str | None, dtype: str | None, more: More) -> "dict[str, Editor]":
    """The models by name, loaded in a thread that then ends.

    OpenMP keeps a team for each thread that ever computed. Once these are more than the cores all of them sleep between
    two loops, and an edit of the small model in the server's own thread took 2.4 times as long.
    """
    with ThreadPoolExecutor(1) as apart:
        editors = {name: apart.submit(load, more.loading(where, device, dtype)) for name, where in models.items()}
        return {name: editor.result() for name, editor in editors.items()}


def named(texts: list[str], option: str) -> dict[str, str]:
    """NAME=VALUE texts by name; ValueError for one without a name, or a name given twice."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name or not value or name in pairs:
            raise ValueError(f"{option} {text!r}: write NAME=MODEL, each name once")
        pairs[name] = value
    return pairs
