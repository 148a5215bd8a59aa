"""Where checkpoints lie and what their files say, without torch: folders, the hub's cache, the words they know."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

# In the package: the one that is used where none is named, and all of them.
BUNDLED = "scenes"
IN_PACKAGE = (BUNDLED, "scenes-flow")
FAMILIES = (
    "StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "LEditsPPPipelineStableDiffusion",
    "StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "LEditsPPPipelineStableDiffusionXL",
    "LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline",
)  # fmt: skip
# What our pipelines save of families that are read by way of diffusers' own.
_OURS = {
    "LEditsPPPipelineStableDiffusion3": "StableDiffusion3Pipeline", "LEditsPPPipelineFlux": "FluxPipeline",
    "LEditsPPPipelineIF": "IFPipeline",
}  # fmt: skip
# Read by way of diffusers' own pipelines.
BY_PIPELINE = (
    "IFPipeline", "StableDiffusion3Pipeline", "FluxPipeline", "ChromaPipeline", "ZImagePipeline", "QwenImagePipeline",
    "Flux2KleinPipeline", "Flux2Pipeline", "SanaPipeline", "PixArtSigmaPipeline", "Lumina2Pipeline",
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """What a model of a small world knows: it can neither draw nor mean anything else. ledits.json says it."""

    words: frozenset[str]
    least_psnr: float  # dB between a picture of this world and what the autoencoder makes of it
    most_lost: float = 1.0  # share of the differences between its neighbouring pixels that are lost on the way
    emptied: str | None = None  # how a caption says that nothing is in a place: "an empty {}"
    places: Mapping[str, str] = field(default_factory=dict)  # by their last word: "beach" is "on a {}"
    worn: frozenset[str] = frozenset()  # what is worn, by its last word: "hat"

    def place(self, words: str) -> str:
        """The place that words name, as a caption says it: "in the snow" of "snow"; "" where it is none."""
        name = re.sub(r"^(an?|the) ", "", words)
        said = self.places.get(name.rsplit(" ", 1)[-1].lower(), "") if name.count(" ") < 2 else ""
        return re.sub(r"\ba (?=[aeiou])", "an ", said.format(name)) if said else ""

    def is_worn(self, words: str) -> bool:
        return words.rsplit(" ", 1)[-1].lower() in self.worn


def find(model: str) -> Path | None:
    """The folder of a model on this machine; None for a hub id, which may have to be downloaded.

    Raises ValueError for what is neither a folder nor a hub id.
    """
    if not model.strip():
        raise ValueError(f"the model's name is empty: give {BUNDLED!r}, a folder, or a hub id such as owner/name")
    if len(model) > 1000:
        raise ValueError(f"the model's name has {len(model)} letters: give a folder, or a hub id such as owner/name")
    if model in IN_PACKAGE:
        return Path(__file__).parents[1] / "models" / model
    try:
        path = Path(model).expanduser()
        if path.is_dir():
            return path
        there = path.exists()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a null byte, or of a home that is not there
        there = False
    if there:
        raise ValueError(
            f"model {model!r} is a file: a folder in diffusers' layout or a hub id such as owner/name is needed"
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or model.startswith("."):
        raise ValueError(f"model {model!r}: there is no such folder, and a hub id has the form owner/name")
    return None


def short(model: str) -> str:
    """A model's name as files that may be given away hold it: a folder's own name, without the path to it."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not os.path.isdir(model):
        return model
    return os.path.basename(os.path.abspath(os.path.expanduser(model)))


def index(folder: Path, model: str) -> dict[str, Any]:
    """What model_index.json holds; ValueError, one sentence, where it can't be read or is of a family not known."""
    value = read_json(folder / "model_index.json", model)
    value["_class_name"] = family = _OURS.get(str(value.get("_class_name")), value.get("_class_name"))
    if family not in (*FAMILIES, *BY_PIPELINE):
        raise ValueError(
            f"model {model!r} is a {family}: checkpoints of StableDiffusionPipeline (SD 1.x and 2.x), "
            f"StableDiffusionXLPipeline, LatentConsistencyModelPipeline, {', '.join(BY_PIPELINE)} are accepted"
        )
    return value


def read_json(path: Path, model: str) -> dict[str, Any]:
    """One of a checkpoint's JSON files, which must hold an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if any(path.parent.glob("*.ckpt")) or any(path.parent.glob("*.safetensors")):
            raise ValueError(
                f"model {model!r} is a single-file checkpoint: convert it to diffusers' layout "
                "(StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)) and pass the folder"
            ) from None
        raise ValueError(f"model {model!r} has no {path.name}: a folder in diffusers' layout is needed") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"model {model!r}: {path.name} can't be read: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"model {model!r}: {path.name} holds no object")
    return value  # pyright: ignore[reportUnknownVariableType]


@cache
def world(folder: Path) -> World | None:
    """The small world that a model was made for; None for all other models."""
    try:
        said = json.loads((folder / "ledits.json").read_text(encoding="utf-8"))["world"]
        return World(
            frozenset(map(str, said["words"])), float(said["least_psnr"]), float(said["most_lost"]),
            said.get("emptied"), dict(said.get("places", {})), frozenset(map(str, said.get("worn", ()))),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def cached() -> Iterator[tuple[str, Path]]:
    """The hub's models in this machine's cache, their ids and folders, in the order of their ids."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    for folder in sorted(Path(os.environ.get("HF_HUB_CACHE") or home / "hub").glob("models--*--*")):
        snapshots = sorted(folder.glob("snapshots/*/model_index.json"), key=lambda path: path.stat().st_mtime)
        if snapshots:
            yield folder.name.removeprefix("models--").replace("--", "/"), snapshots[-1].parent
