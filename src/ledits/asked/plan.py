"""What an edit was asked to do, checked before anything is computed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledits.asked import contradictions, regions
from ledits.asked.recipe import Edit, MaskRule, parse
from ledits.asked.regions import Regions
from ledits.asked.settings import Settings
from ledits.errors import LeditsError
from ledits.language import concepts

if TYPE_CHECKING:
    from ledits.method.core import Concept


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Edits, where each may act, and how masks are made."""

    edits: tuple[Edit, ...]
    masks: tuple[regions.Mask | None, ...]  # of each edit, (H W) float32 in 0..1; None: everywhere
    settings: Settings
    mask: MaskRule | None  # what was asked for; None: `rule`'s to choose
    composite: bool
    drop_source_late: bool

    @classmethod
    def of(
        cls, edits: Iterable[Edit | str], settings: Settings, *, region: Regions, mask: MaskRule | None,
        composite: bool, drop_source_late: bool, width: int, height: int,
    ) -> "Plan":  # fmt: skip
        """The plan; ValueError for edits, masks or options that don't fit the mode or the picture."""
        asked = tuple(parse(edit) if isinstance(edit, str) else edit for edit in edits)
        if strange := [edit for edit in asked if not isinstance(edit, Edit)]:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"{strange[0]!r} is no edit: give each one by itself, such as edit('+hat', 'cat->dog')")
        if not asked:
            raise ValueError("no edit is given: add one, such as '+sunglasses', '-hat' or 'cat->dog'")
        for edit in asked:
            concepts.check(edit, settings)
        captioned = settings.mode == "caption"
        if captioned and mask is not None:
            raise LeditsError(
                f"mask {mask!r} is for edits by words, and with a source caption the regions are found without it",
                "leave the mask out", option="mask", given=mask, accepted="None",
            )  # fmt: skip
        if mask == "located" and (settings.negative or settings.source_scale):
            raise ValueError(
                "mask 'located' takes what the edits say as the caption: leave the negative prompt and the source's "
                "scale out, or choose another mask, such as intersect"
            )
        if drop_source_late and not captioned:
            raise LeditsError(
                "dropping the source late needs a source caption", "give one, such as source='a cat on a beach'",
                option="source",
            )  # fmt: skip
        masks = regions.each(region, asked, width, height)
        contradictions.check(asked, masks)
        return cls(
            edits=asked,
            masks=masks,
            settings=settings,
            mask=mask,
            composite=composite,
            drop_source_late=drop_source_late,
        )

    def rule(self, defaults: Mapping[str, float]) -> MaskRule | None:
        """How masks are made; None with a caption, which finds its regions. Only a model with a scale for it locates
        edits by words of itself: all others do as the paper does.
        """
        if self.settings.mode == "caption" or self.mask is not None:
            return self.mask
        plain = not self.settings.negative and not self.settings.source_scale
        return "located" if plain and "located_scale" in defaults else "intersect"

    def base_prompt(self, defaults: Mapping[str, float]) -> str:
        """What the edits start from: the caption, given or implied, or the negative prompt."""
        if self.settings.mode == "caption":
            return self.settings.source
        return concepts.implied(self.edits) if self.rule(defaults) == "located" else self.settings.negative

    def grouped(self, defaults: Mapping[str, float]) -> "list[list[Concept]]":
        """The concepts of each edit."""
        match self.rule(defaults):
            case None:
                return [concepts.by_caption(edit, defaults, self.settings.source) for edit in self.edits]
            case "located":
                return concepts.by_implied_caption(self.edits, defaults)
            case _:
                return [concepts.by_words(edit, defaults) for edit in self.edits]

    def told(self) -> concepts.Told:
        """What the network is told of each edit, where regions are found."""
        captioned = self.settings.mode == "caption"
        return concepts.told(self.edits, self.settings.source) if captioned else concepts.told_by_words(self.edits)

    def other_reading(self, defaults: Mapping[str, float]) -> concepts.Reading | None:
        """Another way to read edits by words that are located, if there is one."""
        return concepts.other_reading(self.edits) if self.rule(defaults) == "located" else None

    def check(self, defaults: Mapping[str, float]) -> None:
        """Raise ValueError for an edit that the method could not carry out, before a long inversion."""
        from ledits.method.core import check_windows

        check_windows(self.concepts(defaults), self.settings.steps)

    def concepts(self, defaults: Mapping[str, float]) -> "list[Concept]":
        return [concept for group in self.grouped(defaults) for concept in group]
