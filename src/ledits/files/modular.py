"""A modular repository's index, modular_model_index.json: which class each part is of, and where it lies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from ledits.files import cache, configs, families

INDEX = "modular_model_index.json"
# Distilled checkpoints have classes of their own, but for FLUX.2 klein, whose base model has one.
_DISTILLED = re.compile(r".*(Turbo|Distilled)ModularPipeline|Flux2KleinModularPipeline")


@dataclass(frozen=True)
class Place:
    """Where a part lies: in a folder of a repository, or in the repository itself, where `folder` is empty."""

    repository: str  # a hub id, or the path at which it was saved; empty: the repository that the index is of
    folder: str
    revision: str | None

    def __str__(self) -> str:
        at = f" at {self.revision}" if self.revision else ""
        return f"{self.repository}/{self.folder}".rstrip("/") + at

    def is_of_hub(self) -> bool:
        return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", self.repository) is not None

    def beside(self, index: Path, part: str) -> Path | None:
        """The part's folder in the repository whose index lies in the folder `index`; None where it lies elsewhere.

        What a copy of a repository has in it is read there, though its index still names the repository.
        """
        own, there = cache.repository(index), index / (self.folder or part)
        if not self.repository:
            return there
        if own is not None:
            return there if self.repository == own and there.is_dir() else None
        needed = "*.json" if families.is_words(part) or part == "scheduler" else "*.safetensors*"
        return there if any(there.glob(needed)) else None

    def cached(self) -> Path | None:
        """Its folder in the hub's cache; None where it is not there."""
        if not self.is_of_hub():
            return None
        home, commit = cache.hub() / f"models--{self.repository.replace('/', '--')}", self.revision or "main"
        reference = home / "refs" / commit
        if reference.is_file():
            commit = reference.read_text(encoding="utf-8").strip()
        there = home / "snapshots" / commit / self.folder
        return there if there.is_dir() else None


def read(path: Path, model: str) -> tuple[dict[str, Any], dict[str, Place]]:
    """The index as model_index.json would have it, and the places of its parts; ValueError, one sentence, for names
    that are no places.
    """
    index, places = configs.config(path, model), dict[str, Place]()
    for part, said in list(index.items()):
        entry = cast("list[Any]", said) if isinstance(said, list) else []
        if len(entry) != 3 or not isinstance(entry[2], dict):
            continue
        spec = cast("dict[str, Any]", entry[2])
        # A part that was not loaded when its index was saved has its class in the hint alone.
        index[part] = entry[:2] if entry[0] is not None else spec.get("type_hint") or [None, None]
        # Its key had another name at first.
        repository = spec.get("pretrained_model_name_or_path") or spec.get("repo")
        places[part] = _place(repository, spec, part, f"model {model!r}: {part} in its {path.name}")
    return told(str(index.get("_class_name")), index), places


def told(pipeline: str, index: Mapping[str, Any]) -> dict[str, Any]:
    """A pipeline's configuration with "is_distilled", where its class says so and nothing else does."""
    return {"is_distilled": True, **index} if _DISTILLED.fullmatch(pipeline) else dict(index)


def _place(repository: object, spec: Mapping[str, Any], part: str, what: str) -> Place:
    folder, revision = spec.get("subfolder"), spec.get("revision")
    for each in (repository, folder, revision):
        if each is not None and not isinstance(each, str):
            raise ValueError(f"{what} has {str(each)[:80]!r}, where the name of a repository or a folder is needed")
    folder = str(folder or ("" if repository else part))
    for each in filter(None, (folder, revision)):
        if not re.fullmatch(r"[\w./-]+", each) or ".." in each or PurePosixPath(each).is_absolute():
            raise ValueError(f"{what} has {each[:80]!r}, which is no folder of a repository and no revision of one")
    return Place(str(repository or ""), folder, revision)
