"""`ledits studio`: the editor in the browser."""

import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ledits.cli.more_options import More, with_more
from ledits.cli.options import DeviceOption, DtypeOption
from ledits.cli.serve import loaded, named


@with_more
def studio_command(
    picture: Annotated[Path | None, typer.Argument(help="A picture to begin with.", show_default=False)] = None,
    source: Annotated[str, typer.Option("--source", help="What the picture shows; the page can change it.")] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", help="A model to load, or NAME=MODEL to name it; may be given again. [default: scenes]"
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 7860,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder of kept inversions. [default: in the user's cache]")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    *,
    more: More,
) -> None:
    """Edit pictures in the browser, on this machine: ledits studio cat.png"""
    from ledits.picture import image
    from ledits.server.settings import Settings, folder

    if picture is not None:
        image.read(picture)  # what is wrong with it is said here, before a model is loaded
    try:
        from ledits import studio
        from ledits.server.run import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"`ledits studio` needs {error.name}: pip install 'ledits[serve]'") from None
    settings = Settings(folder=store or folder(), port=port)
    models = named(
        [text if "=" in text else f"{text}={text}" for text in model or [os.environ.get("LEDITS_MODEL") or "scenes"]],
        "--model",
    )
    editors = loaded(models, device, dtype, more)

    def started(address: str) -> None:
        typer.echo(f"ledits studio is at {address} (Ctrl+C ends it)", err=True)
        if browser:
            webbrowser.open(address)

    serve(settings, editors, page=studio.page(editors, picture, source), started=started)
