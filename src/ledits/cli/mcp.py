"""`ledits mcp`: tools for chat programs and agents, over standard input."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from ledits.cli.grouped import grouped
from ledits.cli.more_options import More
from ledits.cli.options import DeviceOption, DtypeOption
from ledits.cli.serve import check_all, loaded, named


@grouped
def mcp_command(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Pictures below these may be read, and results written there."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="MODEL|NAME=MODEL",
            help="A model to load, and its name if you want another; may be repeated. \\[default: scenes]",
        ),
    ] = None,
    device: DeviceOption = None, dtype: DtypeOption = None, *, more: More,
) -> None:  # fmt: skip
    """Offer edits to a chat program or an agent by the Model Context Protocol: ledits mcp ~/Pictures

    The chat program starts this command itself. For a program that uses HTTP, run ledits serve
    --mcp ~/Pictures, which offers the tools at /mcp.
    """
    try:
        from ledits.mcp.folders import Folders
        from ledits.mcp.serving import over_standard_input
    except ModuleNotFoundError as error:
        raise ValueError(f"`ledits mcp` needs {error.name}: pip install 'ledits[mcp]'") from None
    from ledits.server.settings import Limits

    opened = Folders(folders)
    models = named([text if "=" in text else f"{text}={text}" for text in model or ["scenes"]], "--model")
    # Standard output is the protocol's.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    Image.MAX_IMAGE_PIXELS = Limits().pixels
    check_all(models, device, dtype)
    over_standard_input(loaded(models, device, dtype, more), opened)
