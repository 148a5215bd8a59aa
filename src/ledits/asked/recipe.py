"""What was asked of a picture: edits as people type them, and the settings that repeat a result bit for bit.

    +sunglasses        add            -hat        remove            cat->dog        remove one, add the other
    "->a dog at night"                the whole picture becomes this

Each may end in :SCALE, @THRESHOLD, [FIRST..END] and |X,Y,WIDTH,HEIGHT, in any order: "+oil painting:12@0.5",
"-hat:6[3..40]", "+hat|120,40,200,160".
"""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ledits.asked.settings import Settings

Kind = Literal["add", "remove", "swap", "become"]
# "located": the region is found before editing, as with a caption. The others are the paper's, found anew in each
# step, as `method.core` has them, which loads torch: recipes are read without it.
MaskRule = Literal["located", "intersect", "attention", "noise", "none"]
MASK_RULES: tuple[MaskRule, ...] = get_args(MaskRule)
Box = tuple[int, int, int, int]
FORMAT = 3

_MODIFIER = re.compile(r"(:[^:@|\[\]]*|@[^:@|\[\]]*|\|[^:@|\[\]]*|\[[^\[\]]*\])$")
GRAMMAR = (
    "write +WORDS to add, -WORDS to remove or OLD->NEW to swap, such as '+red hat', '-hat', 'cat->dog' or, with "
    "values, 'cat->dog:8@0.8[2..40]'"
)


@dataclass(frozen=True)
class Edit:
    """One edit as asked for; None leaves a value to the model's defaults. As text it is what `ledits edit` takes.

    Args:
        kind: "add", "remove", "swap", or "become", which makes `new` the whole caption.
        old: what goes, for "remove" and "swap".
        new: what comes, for "add" and "swap"; all that is there after "become".
        scale: how strong the edit is, s_e of the paper's Eq. 12; 0 changes nothing, 5 to 15 are usual.
        threshold: the share of the picture that stays untouched, in (0, 1); lambda of the paper's Eq. 12.
        warmup: the first step in which it acts.
        cooldown: the first step in which it acts no more.
        box: where it may act: left, top, width, height in pixels of the picture.
    """

    kind: Kind
    old: str = ""
    new: str = ""
    scale: float | None = None
    threshold: float | None = None
    warmup: int | None = None
    cooldown: int | None = None
    box: Box | None = None

    @property
    def name(self) -> str:
        """The words alone: "+hat", "-hat", "cat->dog", "->a dog at night"."""
        return {"add": f"+{self.new}", "remove": f"-{self.old}"}.get(self.kind, f"{self.old}->{self.new}")

    def __str__(self) -> str:
        text = self.name
        text += f":{_exact(self.scale)}" if self.scale is not None else ""
        text += f"@{_exact(self.threshold)}" if self.threshold is not None else ""
        if self.warmup is not None or self.cooldown is not None:
            text += f"[{'' if self.warmup is None else self.warmup}..{'' if self.cooldown is None else self.cooldown}]"
        return text + (f"|{','.join(map(str, self.box))}" if self.box else "")


def _exact(number: float) -> str:
    """A number that reads back as itself: repr, without the ".0" of whole numbers."""
    return repr(float(number)).removesuffix(".0")


def parse(text: str) -> Edit:
    """The edit that a person typed; ValueError, one sentence, for what is none. Ranges are the concepts' to check."""
    body, values = text.strip(), dict[str, str]()
    while match := _MODIFIER.search(body):
        mark, body = match[0], body[: match.start()].rstrip()
        if mark[0] in values:
            raise ValueError(f"edit {text!r} has two values for '{mark[0]}': give each once")
        values[mark[0]] = mark[1:].rstrip("]").strip()
    old, arrow, new = (part.strip() for part in body.partition("->"))
    sign, words = body[:1], body[1:].strip()
    if arrow:
        if not new or old[:1] in ("+", "-"):
            raise ValueError(f"edit {text!r} needs plain words on both sides of '->': {GRAMMAR}")
        edit = Edit("swap", old=old, new=new) if old else Edit("become", new=new)
    elif sign and sign in "+-":
        if not words:
            raise ValueError(f"edit {text!r} names nothing: {GRAMMAR}")
        edit = Edit("add", new=words) if sign == "+" else Edit("remove", old=words)
    elif body:
        raise ValueError(f"edit {text!r} doesn't say what to do with {body!r}: {GRAMMAR}")
    else:
        raise ValueError(f"an empty edit: {GRAMMAR}")
    warmup, dots, cooldown = values.get("[", "..").partition("..")
    if not dots:
        raise ValueError(f"edit {text!r}: steps are written [FIRST..END], such as [2..40], [2..] or [..40]")
    first, end = _whole(text, warmup), _whole(text, cooldown)
    if end is not None and end <= (first or 0):
        raise ValueError(f"edit {text!r} acts in no step: [FIRST..END] must begin at 0 or later and end after that")
    return Edit(
        edit.kind, edit.old, edit.new,
        scale=_number(text, "scale", values.get(":")),
        threshold=_number(text, "threshold", values.get("@")),
        warmup=first,
        cooldown=end,
        box=_box(text, values.get("|")),
    )  # fmt: skip


def _number(text: str, what: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"edit {text!r}: its {what} {value!r} is no number, such as 8 or 0.5") from None
    if not math.isfinite(number):
        raise ValueError(f"edit {text!r}: its {what} {value!r} is not finite: give a number such as 8 or 0.5")
    if what == "threshold" and not 0 <= number < 1:
        raise ValueError(
            f"edit {text!r}: threshold {value} must lie between 0 and 1, 0 itself accepted, such as 0.9 for a small "
            "object and 0 for a style"
        )
    return number


def _whole(text: str, value: str) -> int | None:
    if not value.strip():
        return None
    if not value.strip().isdecimal() or len(value.strip()) > 9:
        raise ValueError(f"edit {text!r}: step {value!r} is no whole number, such as 2")
    return int(value)


def _box(text: str, value: str | None) -> Box | None:
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if len(parts) != 4 or not all(part.isdecimal() and len(part) < 8 for part in parts) or "0" in parts[2:]:
        raise ValueError(
            f"edit {text!r}: region {value!r} is no box: write |LEFT,TOP,WIDTH,HEIGHT in pixels, such as |9,4,20,16"
        )
    left, top, width, height = map(int, parts)
    return left, top, width, height


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that, with the same picture, makes the same result: it is written into the result's file.

    `Editor.repeat` makes the result again, and `Recipe.from_json` reads what `to_json` writes.
    """

    edits: tuple[str, ...]
    regions: tuple[str | None, ...]  # of each edit, a mask at the picture's size as base64 of a PNG; None: everywhere
    model: str
    fingerprint: str
    settings: Settings
    mask: MaskRule | None  # None: edits with a caption, which find their regions
    composite: bool
    drop_source_late: bool
    dtype: str
    device: str
    levels: tuple[int, ...] | None = None  # of a draft: which of the settings' steps it has
    additions: tuple[str, ...] = ()  # to the checkpoint, each by its hash
    targets: tuple[str, ...] = ()  # of each edit, the caption that the network was told; none for the paper's edits
    format: int = FORMAT

    def to_json(self) -> dict[str, object]:
        """What JSON can hold of it."""
        said: dict[str, object] = {**asdict(self), "edits": list(self.edits), "regions": list(self.regions)}
        # Recipes from before there were these lack them.
        for name, value in (("levels", self.levels), ("additions", self.additions), ("targets", self.targets)):
            said.pop(name)
            if value:
                said[name] = list(value)
        return said

    def check_targets(self, told: Sequence[str]) -> None:
        """Raise ValueError where the network would be told another caption now than it was then."""
        for edit, then, now in zip(self.edits, self.targets, told, strict=False):
            if now != then:
                raise ValueError(
                    f"the recipe's edit {edit!r} told the network {then!r}, and this ledits tells it {now!r}: to "
                    f"repeat it, give the edit as '->{then}', with source {self.settings.source!r}"
                )

    def masks(self) -> list[bytes | None]:
        """The region of each edit as the bytes of a PNG; ValueError for what is no base64."""
        try:
            return [None if text is None else base64.b64decode(text, validate=True) for text in self.regions]
        except ValueError:
            raise ValueError("a region in the recipe is no base64 of a PNG: the recipe is damaged") from None

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> "Recipe":
        """The recipe read from `where`; ValueError for one of another format, with parts missing or of wrong types."""
        if value.get("format") != FORMAT:
            raise ValueError(
                f"{where} holds a recipe of format {value.get('format')!r}, and this ledits reads format {FORMAT}"
            )
        names = {field.name for field in fields(cls)} - {"levels"}
        try:
            value = {"additions": [], "targets": [], **value}
            if set(value) - {"levels"} != names:
                raise ValueError(f"it must have exactly {', '.join(sorted(names))}")
            additions = _texts(value, "additions")
            if None in additions:
                raise ValueError("its additions must be a list of texts")
            edits, regions = _texts(value, "edits"), _texts(value, "regions")
            if not edits or None in edits or len(regions) != len(edits):
                raise ValueError("its edits must be a list of texts, with one region, or null, for each")
            targets = _texts(value, "targets")
            if None in targets or len(targets) not in (0, len(edits)):
                raise ValueError("its targets must be a list of texts, one for each edit, or none")
            for name in ("model", "fingerprint", "dtype", "device"):
                if not isinstance(value[name], str) or not value[name]:
                    raise ValueError(f"its {name} is {value[name]!r}, where a text is needed")
            for name in ("composite", "drop_source_late"):
                if not isinstance(value[name], bool):
                    raise ValueError(f"its {name} is {value[name]!r}, where true or false is needed")
            settings = Settings.from_json(value["settings"])
            levels = checked_levels(value.get("levels"), settings.steps)
            if value["mask"] not in ((None,) if settings.mode == "caption" else MASK_RULES):
                accepted = "null" if settings.mode == "caption" else " or ".join(MASK_RULES)
                raise ValueError(f"its mask is {value['mask']!r}, where {accepted} is needed")
            for edit in edits:
                parse(str(edit))
        except ValueError as error:
            raise ValueError(f"{where} holds a damaged recipe: {error}") from None
        plain = {name: value[name] for name in names - {"edits", "regions", "settings", "additions", "targets"}}
        return cls(
            edits=tuple(map(str, edits)), regions=tuple(regions), settings=settings, levels=levels,
            additions=tuple(map(str, additions)), targets=tuple(map(str, targets)), **plain,
        )  # fmt: skip


def checked_levels(value: object, steps: int) -> tuple[int, ...] | None:
    """Which steps a draft has, from a file; ValueError, half a sentence, for what can't be."""
    if value is None:
        return None
    listed: list[Any] = value if isinstance(value, list) else []
    whole = all(isinstance(level, int) and not isinstance(level, bool) for level in listed)
    if not listed or not whole or sorted(set(listed)) != listed or listed[0] < 0 or listed[-1] >= steps:
        raise ValueError(f"its levels are {str(value)[:80]}, where rising numbers from 0 to {steps - 1} are needed")
    return tuple(listed)


def _texts(value: Mapping[str, Any], name: str) -> list[str | None]:
    listed: object = value[name]
    if not isinstance(listed, list) or not all(text is None or isinstance(text, str) for text in listed):  # pyright: ignore[reportUnknownVariableType]
        raise ValueError(f"its {name} must be a list of texts")
    return listed  # pyright: ignore[reportUnknownVariableType]
