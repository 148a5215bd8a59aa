"""What our own endpoints take, checked as it arrives."""

from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from ledits.asked.recipe import Edit, Kind, MaskRule, parse
from ledits.server.errors import Refused
from ledits.server.pictures import Format

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = _SHORT.maxlist = _SHORT.maxdict = 2

Words = Annotated[str, Field(max_length=300)]
LONGEST_SOURCE = 1000
Source = Annotated[str, Field(max_length=LONGEST_SOURCE)]
Loras = Annotated[str, Field(max_length=1000)]
LORAS = "which of the model's LoRAs, NAME[:WEIGHT] with commas between, or none; null: all, as loaded"

# Which words each kind of edit has.
_PARTS: dict[Kind, tuple[str, ...]] = {"add": ("new",), "remove": ("old",), "swap": ("old", "new"), "become": ("new",)}

# What is needed where pydantic's own words tell of its insides, by its kinds of complaints.
_NEEDED = {
    "model_attributes_type": "a JSON object with named fields is needed",
    "list_type": "a list is needed",
    "tuple_type": "a list is needed",
    "string_type": "a text is needed",
    "bool_type": "true or false is needed",
    "bool_parsing": "true or false is needed",
    "int_type": "a whole number is needed",
    "int_parsing": "a whole number is needed",
    "int_parsing_size": "a smaller number is needed",
    "int_from_float": "a whole number is needed",
    "string_pattern_mismatch": "auto, or a size such as 1024x768, is needed",  # no other field has a pattern
    "float_type": "a number is needed",
    "float_parsing": "a number is needed",
}

MOST = 100  # elements of a list, before the server's own limits are looked at

T = TypeVar("T", bound=BaseModel)


class Strict(BaseModel):
    """A field that isn't known is refused: what it asks for would be left out without a word."""

    model_config = ConfigDict(extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes true for the number 1, which nobody means by it."""
        given: list[Any] = value if isinstance(value, list) else [value]
        if cls.model_fields[str(info.field_name)].annotation is not bool and any(isinstance(v, bool) for v in given):
            raise ValueError("true and false are only for switches, and this is none")
        return value


class EditIn(Strict):
    """One edit in parts; what is null is left to the model. `first` and `last` are FIRST and END of the grammar."""

    kind: Kind
    old: Words = ""
    new: Words = ""
    scale: float | None = None
    threshold: float | None = None
    first: int | None = None
    last: int | None = None
    box: tuple[int, int, int, int] | None = Field(default=None, description="left, top, width, height in pixels")
    region: str | None = Field(default=None, description="a PNG of the picture's size, base64: white may change")
    muted: bool = False

    def edit(self) -> Edit:
        """The edit; ValueError where its parts don't make one."""
        for name, words in (("old", self.old.strip()), ("new", self.new.strip())):
            needed = name in _PARTS[self.kind]
            if words and not needed:
                raise ValueError(
                    f"an edit of kind {self.kind!r} has {_PARTS[self.kind][0]} alone, and {name} is {words!r}: leave "
                    f"{name} out, or choose the kind 'swap'"
                )
            if needed and not words:
                raise ValueError(f"an edit of kind {self.kind!r} needs {name}, which is missing: give its words")
        edit = Edit(
            self.kind, self.old.strip(), self.new.strip(), self.scale, self.threshold, self.first, self.last, self.box
        )
        # The grammar is the one judge of words and values.
        if (read := parse(str(edit))) != edit:
            raise ValueError(f"edit '{edit}' reads as '{read}': leave signs and numbers out of its words")
        return edit

    @classmethod
    def of(cls, edit: Edit) -> "EditIn":
        return cls(
            kind=edit.kind, old=edit.old, new=edit.new, scale=edit.scale, threshold=edit.threshold, first=edit.warmup,
            last=edit.cooldown, box=edit.box,
        )  # fmt: skip


EditText = Annotated[str, Field(max_length=1000)]
# Told apart before they are checked, so that a complaint is about the kind that was meant.
EditGiven = Annotated[
    Annotated[EditText, Tag("(text)")] | Annotated[EditIn, Tag("(parts)")],
    Discriminator(lambda given: "(text)" if isinstance(given, str) else "(parts)"),
]


class InversionIn(Strict):
    """The fields beside the picture's file."""

    source: Source = ""
    steps: int | None = Field(default=None, ge=1)
    skip: float | None = Field(default=None, ge=0, lt=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    source_scale: float | None = Field(default=None, ge=0, le=100, description="of guidance by the source")
    negative: Source | None = Field(default=None, description="a negative prompt, for inversion and replay")
    size: int | None = Field(default=None, ge=8, description="work at no more than size x size pixels")
    use_lora: Loras | None = Field(default=None, description=LORAS)
    model: Annotated[str, Field(max_length=200)] | None = None


class EditsIn(Strict):
    edits: list[EditGiven] = Field(max_length=MOST)
    region: str | None = Field(default=None, description="for edits without a region of their own")
    mask: MaskRule | None = Field(default=None, description="the rule of implicit masks, for edits by words")
    composite: bool = Field(
        default=False, description="keep the picture's own pixels away from the edits; outside a region, all of them"
    )
    format: Format = "png"
    previews: bool = Field(default=True, description="whether steps carry a preview")
    draft: int | None = Field(default=None, ge=1, description="edit with so many of the inversion's steps: faster")


class SheetIn(Strict):
    edits: list[EditGiven] = Field(max_length=MOST)
    scales: list[float] = Field(min_length=1, max_length=MOST, description="a column for each")
    thresholds: list[float | None] = Field(
        default=[None], min_length=1, max_length=MOST, description="a row for each; null: the usual"
    )
    region: str | None = None
    mask: MaskRule | None = None
    composite: bool = False
    format: Format = "jpeg"
    draft: int | None = Field(default=None, ge=1)


class ParseIn(Strict):
    text: Annotated[str, Field(max_length=32_000)]
    source: Source = ""
    model: Annotated[str, Field(max_length=200)] | None = None


def checked(kind: type[T], values: dict[str, Any]) -> T:
    """A model of the fields of a form; raises Refused with one sentence."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise refusal(list(error.errors())) from None


def refusal(errors: list[Any]) -> Refused:
    """The first of pydantic's complaints as a sentence."""
    first = errors[0]
    # Where it stands in the request, without pydantic's names of alternatives.
    parts = [str(part)[:100] for part in first["loc"] if part not in ("body", "query", "path")]
    name = ".".join(part for part in parts if part not in ("(text)", "(parts)"))
    if first["type"] == "extra_forbidden":
        return Refused(f"{name} is not a field of this request", param=name, code="unknown_parameter")
    if first["type"] == "missing":
        return Refused(f"{name or 'the body'} is missing", param=name or None, code="missing_parameter")
    given = _SHORT.repr(first.get("input"))
    said = _NEEDED.get(first["type"]) or str(first["msg"]).removeprefix("Value error, ")
    if parts[-1:] == ["(parts)"]:
        said = """a text such as '+hat', or an object such as {"kind": "add", "new": "hat"}, is needed"""
    said = said[0].lower() + said[1:]
    return Refused(
        f"{name or 'the body'} is {given}: {said}",
        param=name or None, code="invalid_value",
    )  # fmt: skip
