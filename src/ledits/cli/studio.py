"""`ledits studio`: the editor in the browser."""

import math
import os
import webbrowser
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ledits.cli.grouped import grouped
from ledits.cli.more_options import More
from ledits.cli.options import DeviceOption, DtypeOption
from ledits.cli.serve import check_all, loaded, named


@grouped
def studio_command(
    picture: Annotated[
        Path | None, typer.Argument(metavar="PICTURE", help="A picture to begin with.", show_default=False)
    ] = None,
    source: Annotated[
        str, typer.Option("--source", help="Caption of the picture. You can change it in the page.")
    ] = "",
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL|NAME=MODEL",
            help="A model to load, and its name if you want another; may be repeated. \\[default: scenes]",
        ),
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 7860,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in your browser.")] = True,
    store: Annotated[
        Path | None, typer.Option("--store", help="Folder for kept inversions. \\[default: in your cache]")
    ] = None,
    device: DeviceOption = None,
    dtype: DtypeOption = None,
    *,
    more: More,
) -> None:
    """Edit pictures in the browser, on this machine: ledits studio cat.png"""
    from ledits.server.listening import address, listen
    from ledits.server.settings import Limits, Settings, folder
    from ledits.studio.waiting import waiting

    for needed in ("fastapi", "uvicorn", "multipart", "prometheus_client"):
        if find_spec(needed) is None:
            raise ValueError(f"`ledits studio` needs {needed}: pip install 'ledits[serve]'")
    if picture is not None:
        from ledits.picture import image

        image.read(picture)  # what is wrong with it is said here, before a model is loaded
    models = named(
        [text if "=" in text else f"{text}={text}" for text in model or [os.environ.get("LEDITS_MODEL") or "scenes"]],
        "--model",
    )
    check_all(models, device, dtype)  # before the page opens
    # Whoever sits before it can cancel an edit, and large models take more than a server's minutes on a CPU.
    settings = Settings(folder=store or folder(), port=port, limits=Limits(job_seconds=math.inf))
    with listen(settings.host, port) as listening:
        # The page is there at once, and says itself that its model is still being loaded.
        with waiting(listening):
            at = address(listening, settings.host)
            typer.echo(f"ledits studio is at {at} (Ctrl+C ends it)", err=True)
            if browser:
                webbrowser.open(at)
            from ledits.server.run import serve
            from ledits.studio.page import page

            editors = loaded(models, device, dtype, more)
            about = page(editors, picture, source)
        serve(settings, editors, page=about, listening=listening)
