"""A job is one picture with one recipe. Its id follows from what it is, so a run knows which jobs are done.

    id = the first 64 bits of sha256(picture's bytes, recipe, model's fingerprint, format of jobs), 16 hex digits

Two of a million jobs share an id by chance with odds of 3e-8.
"""

import hashlib
import json
import re
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from ledits.asked.recipe import MaskRule
from ledits.asked.settings import InvertOptions, Settings
from ledits.files.defaults import Defaults
from ledits.language import sentences

FORMAT = 1  # of jobs: raised when the same recipe begins to make other bytes
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")
PREVIEWS = ".ledits/previews"
TEMPLATE = "{folder}/{stem}-{id}.png"
_LONGEST_NAME = 255  # bytes
# Settings that are younger than the ids: at their defaults they are left out, so that what is done stays done.
_FIRST = ("steps", "skip", "seed", "source", "source_scale", "negative", "area")
_LATER = {each.name: each.default for each in fields(Settings) if each.name not in _FIRST}
_HALF = re.compile("[\ud800-\udfff]")  # of a character
_FIELDS = ("folder", "id", "row", "stem")
# The id stands right before the ending, so one listing of names says what is done.
_DONE = re.compile(r"([0-9a-f]{16})\.(?:png|jpe?g|webp|tiff?)$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Ask(InvertOptions):
    """What a row asks for beside its picture and edits, named as on the command line; None is the model's default."""

    mask: MaskRule | None = None
    composite: bool | None = None
    drop_source_late: bool | None = None


@dataclass(frozen=True)
class Row:
    """A row of the manifest: a job, or what is wrong with it."""

    number: int  # from 1, without the header
    picture: str  # as written
    path: str  # where it is: an absolute path or a URL
    edits: tuple[str, ...]
    ask: Ask = field(default_factory=Ask)
    problem: str = ""
    other: Mapping[str, Any] = field(default_factory=dict[str, Any])  # columns that mean nothing here, for the table


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the first worker says of the model that it loaded."""

    name: str
    fingerprint: str
    defaults: Defaults
    area: int
    dtype: str  # as asked for; "auto" may differ between kinds of machines

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Model":
        fields: dict[str, Any] = {**value, "defaults": Defaults(**value["defaults"])}
        return cls(**fields)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A row that can be worked on, as it is sent to a worker (JSON)."""

    id: str
    row: int
    picture: str
    path: str
    sha256: str  # of the picture's bytes
    edits: tuple[str, ...]
    settings: dict[str, Any]
    mask: str | None
    composite: bool
    drop_source_late: bool
    output: str  # its name in the place of outputs

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Job":
        fields: dict[str, Any] = {**value, "edits": tuple(value["edits"])}
        return cls(**fields)


@dataclass(frozen=True)
class _Resolved:
    edits: tuple[str, ...]
    settings: dict[str, Any]
    text: str  # of all that makes the recipe
    inversion: str  # of all that makes the inversion


class Planner:
    """Makes jobs of rows, for one model and one template of names."""

    def __init__(self, model: Model, template: str) -> None:
        self.model, self.template = model, template
        self._ending = PurePosixPath(template).suffix.lower()
        # Rows mostly repeat a few recipes, and resolving one costs more than the rest of a row.
        self._resolved = lru_cache(maxsize=4096)(self._resolve)

    def job(self, row: Row, sha256: str) -> Job:
        """The job of a row whose picture has this hash; ValueError, one sentence, for a recipe that is none."""
        identity, resolved = self.identity(row, sha256), self._resolved(row.edits, row.ask)
        return Job(
            id=identity, row=row.number, picture=row.picture, path=row.path, sha256=sha256, edits=resolved.edits,
            settings=resolved.settings, mask=row.ask.mask, composite=bool(row.ask.composite),
            drop_source_late=bool(row.ask.drop_source_late), output=output_name(self.template, row, identity),
        )  # fmt: skip

    def identity(self, row: Row, sha256: str) -> str:
        """The id of that job, which costs less than the job."""
        text = self._resolved(row.edits, row.ask).text
        return hashlib.sha256(f"{FORMAT}\n{sha256}\n{text}".encode()).hexdigest()[:16]

    def group(self, row: Row, sha256: str) -> str:
        """What jobs that share an inversion have in common."""
        return sha256 + self._resolved(row.edits, row.ask).inversion

    def _resolve(self, edits: tuple[str, ...], ask: Ask) -> _Resolved:
        if not edits:
            raise ValueError("no edit is given: add one, such as '+sunglasses', '-hat' or 'cat->dog'")
        canonical = tuple(map(str, sentences.asked(edits, ask.source or "")))
        settings = asdict(Settings.resolve(self.model.defaults, self.model.area, ask))
        said = {name: value for name, value in settings.items() if value != _LATER.get(name, ...)}
        recipe = {
            "edits": canonical, "settings": said, "mask": ask.mask, "composite": bool(ask.composite),
            "drop_source_late": bool(ask.drop_source_late), "fingerprint": self.model.fingerprint,
            "dtype": self.model.dtype, "ending": self._ending,
        }  # fmt: skip
        text, inversion = (json.dumps(value, sort_keys=True) for value in (recipe, said))
        return _Resolved(canonical, settings, text, inversion)


def failed_id(row: Row, problem: str) -> str:
    """The id of a row that can't become a job. Once it is mended it is another one."""
    text = json.dumps([FORMAT, row.picture, row.edits, asdict(row.ask), problem])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_template(template: str) -> None:
    """Raise ValueError for a template that names no file below the output folder, or that does not end in the id."""
    example = "such as '{folder}/{stem}-{id}.png'"
    try:
        parts = [(name, form) for _, name, form, _ in string.Formatter().parse(template) if name is not None]
        unknown = [name for name, _ in parts if name not in _FIELDS]
        if unknown:
            raise ValueError(f"{{{unknown[0]}}} is unknown, and {', '.join(f'{{{f}}}' for f in _FIELDS)} are known")
        name = template.format(folder="a", stem="b", row=1, id="c")
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise ValueError(f"name {template!r}: {error}; write one {example}") from None
    ending = PurePosixPath(template).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"name {template!r} must end in {', '.join(ENDINGS)}, {example}")
    if not template[: -len(ending)].endswith("{id}"):
        raise ValueError(
            f"name {template!r} must end in {{id}} and an ending, by which finished jobs are known, {example}"
        )
    if name.startswith("/") or "\\" in name or any(part.startswith(".") for part in PurePosixPath(name).parts):
        raise ValueError(f"name {template!r} leads out of the output folder or hides in it: write one {example}")


def output_name(template: str, row: Row, identity: str) -> str:
    """The name of a row's output, within the place of outputs; ValueError for one that no file can have."""
    parents, _, name = row.picture.split("://", 1)[-1].rpartition("/")
    # Folders of the picture as written, without what leads out or hides them from the listing of what is done.
    parts = [part.lstrip(".") for part in parents.split("/")]
    folder = "/".join(part for part in parts if part)
    # File systems take 255 bytes a name.
    stem = name.lstrip(".").rpartition(".")[0] or name.lstrip(".") or "picture"
    if len(stem) > 50:
        stem = stem.encode(errors="replace")[:150].decode(errors="ignore")
    name = template.format(folder=folder, stem=stem, row=row.number, id=identity)
    # Names that are no UTF-8 can't go into buckets and pages.
    name = _HALF.sub("_", name.replace("//", "/").lstrip("/"))
    if (length := max(len(part.encode()) for part in name.split("/"))) > _LONGEST_NAME:
        raise ValueError(
            f"its output would have a name of {length} bytes, and files have {_LONGEST_NAME} at most: shorten its name "
            "or the template of names"
        )
    return name


def finished_id(name: str) -> str | None:
    """The id of the job whose output has this name, None for a name of another kind."""
    match = _DONE.search(name)
    return match[1].lower() if match else None
