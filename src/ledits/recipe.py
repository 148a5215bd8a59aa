"""What was asked of a picture: edits as people type them, and the settings that repeat a result bit for bit.

    +sunglasses        add            -hat        remove            cat->dog        remove one, add the other
    "->a dog at night"                the whole picture becomes this

Each may end in :SCALE, @THRESHOLD and [WARMUP..COOLDOWN], in any order: "+oil painting:12@0.5", "-hat:6[3..40]".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Kind = Literal["add", "remove", "swap", "become"]
FORMAT = 2

_MODIFIER = re.compile(r"(:[^:@\[\]]*|@[^:@\[\]]*|\[[^\[\]]*\])$")
_GRAMMAR = (
    "write +WORDS to add, -WORDS to remove or OLD->NEW to swap, such as '+red hat', '-hat' or 'cat->dog:8@0.8[2..40]'"
)


@dataclass(frozen=True)
class Edit:
    """One edit as asked for; None leaves the value to the model's defaults."""

    kind: Kind
    old: str = ""  # what goes, for "remove" and "swap"
    new: str = ""  # what comes, for "add" and "swap"; all that is there after "become"
    scale: float | None = None
    threshold: float | None = None
    warmup: int | None = None
    cooldown: int | None = None

    @property
    def name(self) -> str:
        """The words alone: "+hat", "-hat", "cat->dog", "->a dog at night"."""
        return {"add": f"+{self.new}", "remove": f"-{self.old}"}.get(self.kind, f"{self.old}->{self.new}")

    def __str__(self) -> str:
        text = self.name
        text += f":{self.scale:g}" if self.scale is not None else ""
        text += f"@{self.threshold:g}" if self.threshold is not None else ""
        if self.warmup is not None or self.cooldown is not None:
            text += f"[{'' if self.warmup is None else self.warmup}..{'' if self.cooldown is None else self.cooldown}]"
        return text


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
            raise ValueError(f"edit {text!r} needs plain words on both sides of '->': {_GRAMMAR}")
        edit = Edit("swap", old=old, new=new) if old else Edit("become", new=new)
    elif sign and sign in "+-":
        if not words:
            raise ValueError(f"edit {text!r} names nothing: {_GRAMMAR}")
        edit = Edit("add", new=words) if sign == "+" else Edit("remove", old=words)
    elif body:
        raise ValueError(f"edit {text!r} doesn't say what to do with {body!r}: {_GRAMMAR}")
    else:
        raise ValueError(f"an empty edit: {_GRAMMAR}")
    warmup, dots, cooldown = values.get("[", "..").partition("..")
    if not dots:
        raise ValueError(f"edit {text!r}: steps are written [FIRST..END], such as [2..40], [2..] or [..40]")
    return Edit(
        edit.kind, edit.old, edit.new,
        scale=_number(text, "scale", values.get(":")),
        threshold=_number(text, "threshold", values.get("@")),
        warmup=_whole(text, warmup),
        cooldown=_whole(text, cooldown),
    )  # fmt: skip


def _number(text: str, what: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"edit {text!r}: its {what} {value!r} is no number, such as 8 or 0.5") from None


def _whole(text: str, value: str) -> int | None:
    if not value.strip():
        return None
    if not value.strip().isdecimal():
        raise ValueError(f"edit {text!r}: step {value!r} is no whole number, such as 2")
    return int(value)


@dataclass(frozen=True)
class Recipe:
    """Everything that, with the same picture, makes the same result: it is written into the file."""

    edits: tuple[str, ...]
    model: str
    fingerprint: str
    steps: int
    skip: float
    seed: int
    mask: str
    source: str
    source_scale: float
    negative: str
    area: int | None
    dtype: str
    device: str
    composite: bool
    thrifty: bool = False
    format: int = FORMAT

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "edits": list(self.edits)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str) -> "Recipe":
        """The recipe read from `where`; ValueError for one of another format or with parts missing."""
        if value.get("format") != FORMAT:
            raise ValueError(
                f"{where} holds a recipe of format {value.get('format')!r}, and this ledits reads format {FORMAT}"
            )
        names = {field.name for field in fields(cls)}
        edits: object = value.get("edits")
        # Whether a picture was made thriftily is younger than the format.
        if {*value, "thrifty"} != names or not isinstance(edits, Sequence) or isinstance(edits, str):
            raise ValueError(f"{where} holds a damaged recipe: it must have exactly {', '.join(sorted(names))}")
        read: dict[str, Any] = {**value, "edits": tuple(str(edit) for edit in edits)}
        return cls(**read)
