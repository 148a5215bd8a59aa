"""`ledits info`: what a file holds, a folder with a model, or a model of the hub."""

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ledits.cli.options import JsonOption
from ledits.cli.progress import answer
from ledits.files import checkpoints, describe, single, weights
from ledits.picture import header, image


def info_command(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="WHAT",
            help="A picture, an inversion, a model (folder, file, hub id, scenes), a LoRA, an embedding, ...",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Say what a picture, an inversion, a model or an addition to one is, and whether one can edit with it."""
    values: dict[str, object] = {"file": str(file)}
    if not file.exists() and (named := _model(str(file))) is not None:
        values |= describe.folder(named, str(file))
    elif file.is_dir():
        values |= describe.folder(file, str(file))
    elif file.is_file() and file.suffix in (*single.WEIGHTS, *single.PICKLES) and not _is_inversion(file):
        values |= describe.file(file)
    elif file.suffix == header.ENDING:
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
    answer(values, "\n".join(f"{key}: {_said(value)}" for key, value in values.items()), as_json=as_json)


def _said(value: object) -> str:
    """A value as people read it: a list with commas, parts with the kinds of weights that each has."""
    if isinstance(value, list):
        return ", ".join(map(str, cast("list[object]", value)))
    if isinstance(value, dict) and all("files" in str(each) for each in cast("dict[str, Any]", value).values()):
        lines = list[str]()
        for part, about in cast("dict[str, Any]", value).items():
            kinds = [f"{kind} {one['format']}, {one['MB']} MB" for kind, one in about["files"].items()]
            lines.append(f"\n  {part}: {'; '.join(kinds)}{', needs ' + about['needs'] if 'needs' in about else ''}")
        return "".join(lines)
    return str(value)


def _model(name: str) -> Path | None:
    """The folder of a model that is named; of one that the hub has, its settings alone. None for a file's name."""
    if name not in checkpoints.IN_PACKAGE and (name.count("/") != 1 or Path(name).parent.exists()):
        return None
    folder = checkpoints.find(name)
    if folder is None:
        from ledits.backbones import hub

        folder = hub.settings(name)
    return folder


def _is_inversion(file: Path) -> bool:
    return file.suffix == header.ENDING and "ledits" in weights.header(file).metadata
