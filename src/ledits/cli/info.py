"""`ledits info`: what a file holds."""

from pathlib import Path
from typing import Annotated

import typer

from ledits.cli.options import JsonOption
from ledits.cli.progress import answer
from ledits.files import header, image


def info_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture or an inversion.")],
    as_json: JsonOption = False,
) -> None:
    """Say what a picture or an inversion holds: its size, and the recipe that made it."""
    values: dict[str, object] = {"file": str(file)}
    if file.suffix == header.ENDING:
        found = header.header(file)
        levels = found.get("t")
        values |= {"kind": "inversion", "steps": len(levels) if isinstance(levels, list) else None}
        values |= {key: value for key, value in found.items() if key not in ("t", "alpha", "sigma")}
    else:
        shown = image.read(file)
        height, width, _ = shown.rgb.shape
        values |= {
            "kind": "picture", "width": width, "height": height, "alpha": shown.alpha is not None,
            "sha256": shown.sha256, "recipe": image.read_recipe(file),
        }  # fmt: skip
    answer(values, "\n".join(f"{key}: {value}" for key, value in values.items()), as_json=as_json)
