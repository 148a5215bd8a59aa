"""`ledits models`: what can be named with --model without a download, and the words of the bundled models."""

from pathlib import Path
from typing import Any

from ledits.cli.options import JsonOption
from ledits.cli.progress import answer
from ledits.files import checkpoints, configs


def models_command(as_json: JsonOption = False) -> None:
    """List the models that are here: the bundled ones, with the words they know, and those in the hub's cache."""
    bundled = [(name, folder) for name in checkpoints.IN_PACKAGE if (folder := checkpoints.bundled(name))]
    listed = [_said(name, folder) for name, folder in (*bundled, *checkpoints.cached())]
    lines, before = list[str](), None
    for model in listed:
        lines.append(f"{model['name']}  {model['family']}{'' if model['works'] else ', which ledits can not load'}")
        if model["words"] and model["words"] == before:
            lines.append("    the same small scenes")
        elif before := model["words"]:
            lines.append(f"    small scenes of these words only: {', '.join(model['words'])}")
    if not bundled:
        lines.append("The small models, scenes and scenes-flow, are not installed: pip install 'ledits[demo]'")
    lines.append("Any other: ledits edit PICTURE EDIT --model FOLDER, or --model OWNER/NAME of the hub.")
    answer({"models": listed}, "\n".join(lines), as_json=as_json)


def _said(name: str, folder: Path) -> dict[str, Any]:
    try:
        family, works = checkpoints.index(folder, name)["_class_name"], True
    except ValueError:
        family, works = _family(folder, name), False
    world = checkpoints.world(folder)
    return {
        "name": name, "family": family, "works": works, "folder": str(folder),
        "words": None if world is None else sorted(world.words),
    }  # fmt: skip


def _family(folder: Path, name: str) -> str:
    try:
        index = checkpoints.index_file(folder) or folder / "model_index.json"
        return str(configs.read_json(index, name).get("_class_name"))
    except ValueError:
        return "damaged"
