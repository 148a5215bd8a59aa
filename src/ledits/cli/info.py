"""`ledits info`: what a file holds, or a folder with a model."""

from pathlib import Path
from typing import Annotated

import typer

from ledits.cli.options import JsonOption
from ledits.cli.progress import answer
from ledits.files import checkpoints
from ledits.picture import header, image


def info_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A picture, an inversion, a model's folder, or scenes.")],
    as_json: JsonOption = False,
) -> None:
    """Say what a picture, an inversion or a model's folder holds."""
    values: dict[str, object] = {"file": str(file)}
    named = checkpoints.find(str(file)) if str(file) in checkpoints.IN_PACKAGE and not file.exists() else None
    if named or file.is_dir():
        values |= {"kind": "model", **_model(named or file)}
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
    answer(values, "\n".join(f"{key}: {value}" for key, value in values.items()), as_json=as_json)


def _model(folder: Path) -> dict[str, object]:
    """The family of a checkpoint, its parts with the size of their weights, and what may be asked of it."""
    index = checkpoints.index(folder, str(folder))
    parts = {
        part: sum(path.stat().st_size for path in (folder / part).glob("*.safetensors"))
        for part, kind in index.items()
        if isinstance(kind, list) and (folder / part).is_dir()
    }
    weights = {part: f"{size / 1e6:.0f} MB" for part, size in parts.items() if size}
    known = checkpoints.world(folder)
    return {
        "family": str(index["_class_name"]), "weights": weights, "edits": "by words, and with a caption",
        "words": sorted(known.words) if known else "any",
    }  # fmt: skip
