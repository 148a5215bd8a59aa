"""How a picture is inverted: settled once against a model's defaults, then carried by inversion and recipe alike."""

import math
import re
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, TypeVar

from ledits.asked.loading import chosen
from ledits.files.defaults import Defaults

T = TypeVar("T")
Mode = Literal["words", "caption"]


@dataclass(frozen=True, kw_only=True)
class InvertOptions:
    """What may be said of an inversion, on every surface; None is left to the model."""

    source: str | None = None  # caption of the picture
    steps: int | None = None  # noise levels
    skip: float | None = None  # share of the noisiest levels left out, 0 to below 1
    seed: int | None = None  # of the noise
    source_scale: float | None = None  # of classifier-free guidance by the source
    negative: str | None = None  # negative prompt
    size: int | None = None  # work at no more than size x size pixels
    use_lora: str | None = None  # which of the loaded LoRAs: "NAME[:WEIGHT], ...", or "none"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that the inversion of a picture depends on, apart from the model and the picture.

    Args:
        steps: how many noise levels are inverted and replayed, from 1; 20 to 50 are usual.
        skip: the share of the noisiest levels that is left out, from 0 to below 1. More keeps more of the picture.
        seed: of the noise, a whole number of 64 bits.
        source: the picture's caption. With it, and no `source_scale`, edits rewrite the caption.
        source_scale: classifier-free guidance by the source, from 0 (none), as in diffusers; 3.5 is usual there.
        negative: a negative prompt; it takes the empty prompt's place, by words.
        area: how many pixels are worked at, at most; None takes the picture's own size.
        use_lora: which of the loaded LoRAs, such as "detail:0.5, style" or "none"; "" takes all as they were loaded.

    Raises ValueError for a value out of its range, and for two that exclude each other.
    """

    steps: int
    skip: float
    seed: int = 0
    source: str = ""
    source_scale: float = 0.0
    negative: str = ""
    area: int | None = None
    use_lora: str = ""

    @property
    def mode(self) -> Mode:
        """ "caption": edits rewrite the source caption. "words": the paper; a source only guides, by its scale."""
        return "caption" if self.source and not self.source_scale else "words"

    def __post_init__(self) -> None:
        for what, text in (("source", self.source), ("negative prompt", self.negative)):
            if re.search("[\ud800-\udfff]", text):
                raise ValueError(f"the {what} {text!a} holds half a character, which no file can: write it again")
        if self.steps < 1:
            raise ValueError(f"{self.steps} steps: at least 1 is needed, 20 to 50 are usual")
        if not 0 <= self.skip < 1:
            raise ValueError(
                f"skip {self.skip}: it is the share of the noisiest steps left out, from 0 to below 1, such as 0.15"
            )
        if not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed {self.seed}: a whole number of at most 64 bits is needed, such as 0")
        if not 0 <= self.source_scale < math.inf or (self.source_scale and not self.source):
            raise ValueError(f"source scale {self.source_scale}: a number from 0 is needed, and a source with it")
        if self.area is not None and self.area < 64:
            raise ValueError(f"an area of {self.area} pixels is too small to work at: at least 64 (8 x 8) are needed")
        if self.use_lora:
            chosen(self.use_lora)
        if self.mode == "caption" and self.negative:
            raise ValueError(
                f"negative prompt {self.negative!r} with source {self.source!r}: edits with a caption move away from "
                "the caption, so leave the negative prompt out, or give the source a scale"
            )

    @classmethod
    def resolve(cls, defaults: Defaults, own_area: int, asked: InvertOptions) -> "Settings":
        """What was asked for, and the model's defaults for the rest; `own_area`: the pixels that it was trained at.

        Raises ValueError for a value out of its range.
        """
        if asked.size is not None and asked.size < 8:
            raise ValueError(f"size {asked.size}: at least 8 pixels are needed, 512 is usual")
        if (asked.source or "").strip().lower() == "auto":
            raise ValueError(
                "source 'auto' is for the command line: write what the picture shows, or have the caption written "
                "first (in Python Editor.caption, over HTTP POST /v1/captions)"
            )
        captioned = asked.source and not asked.source_scale
        return cls(
            steps=defaults.steps if asked.steps is None else asked.steps,
            skip=(defaults.described_skip if captioned else defaults.skip) if asked.skip is None else asked.skip,
            seed=asked.seed or 0,
            source=asked.source or "",
            source_scale=asked.source_scale or 0.0,
            negative=asked.negative or "",
            area=own_area if asked.size is None else asked.size**2,
            use_lora=asked.use_lora or "",
        )

    @classmethod
    def from_json(cls, value: object) -> "Settings":
        """Settings read from a file; ValueError where a field is missing, unknown, or of another type."""
        return checked(cls, value, "settings")


_KINDS: dict[str, tuple[type, ...]] = {
    "int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "int | None": (int, type(None)),
}  # fmt: skip


def checked(kind: type[T], value: object, what: str) -> T:
    """A dataclass of plain fields from JSON; ValueError, half a sentence, where `value` is not its fields.

    One with a default may be left out: files that were written before there was such a field do.
    """
    # A union is no class, but from Python 3.14 on it has a name, and that is "Union".
    names = {
        field.name: field.type.__name__ if isinstance(field.type, type) else str(field.type)
        for field in fields(kind)  # pyright: ignore[reportArgumentType]
    }
    needed = {field.name for field in fields(kind) if field.default is MISSING}  # pyright: ignore[reportArgumentType]
    if not isinstance(value, dict) or not needed <= set(value) <= set(names):  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(
            f"its {what} must have {', '.join(sorted(needed))}, and nothing but {', '.join(sorted(names))}"
        )
    items: dict[str, Any] = value
    for name, given in items.items():
        field_type = names[name]
        accepted = _KINDS["int | None"] if "None" in field_type else _KINDS[field_type]
        if not isinstance(given, accepted) or (isinstance(given, bool) and bool not in accepted):
            raise ValueError(f"its {name} is {given!r}, of another type than {field_type}")
        if isinstance(given, float) and not math.isfinite(given):
            raise ValueError(f"its {name} is {given}: a finite number is needed")
    return kind(**items)
