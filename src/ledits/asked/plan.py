"""What an edit was asked to do, checked before anything is computed."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ledits.asked import contradictions, regions
from ledits.asked.recipe import Edit, MaskRule
from ledits.asked.regions import Regions
from ledits.asked.settings import Settings
from ledits.errors import LeditsError
from ledits.files.checkpoints import World
from ledits.files.defaults import Defaults
from ledits.language import changes, sentences, targets
from ledits.language.implied import Implied, implied

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
    # The model's, if it knows but a small one: it may have words for a place where nothing is left.
    world: World | None

    @classmethod
    def of(
        cls, edits: Iterable[Edit | str], settings: Settings, *, region: Regions, mask: MaskRule | None,
        composite: bool, drop_source_late: bool, width: int, height: int, world: World | None,
    ) -> "Plan":  # fmt: skip
        """The plan; ValueError for edits, masks or options that don't fit the mode or the picture."""
        asked = sentences.asked(edits, settings.source)
        if strange := [edit for edit in asked if not isinstance(edit, Edit)]:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"{strange[0]!r} is no edit: give each one by itself, such as edit('+hat', 'cat->dog')")
        if not asked:
            raise ValueError("no edit is given: add one, such as '+sunglasses', '-hat' or 'cat->dog'")
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
        plan = cls(
            edits=asked, masks=regions.each(region, asked, width, height), settings=settings, mask=mask,
            composite=composite, drop_source_late=drop_source_late, world=world,
        )  # fmt: skip
        plan.check_edits()
        contradictions.check(plan.edits, plan.masks)
        return plan

    @property
    def emptied(self) -> str | None:
        """How the model says that nothing is left in a place, such as "an empty {}"; None where it can't."""
        return self.world.emptied if self.world else None

    def check_edits(self) -> None:
        """Raise ValueError for edits that this mode or this caption can't carry out, or not together."""
        if self.settings.mode == "words":
            for edit in self.edits:
                if edit.kind == "become":
                    raise LeditsError(
                        f"edit '{edit}' says what the picture becomes, and not what it shows now",
                        "say that too, such as source='a cat on a beach'", option="source", given=str(edit),
                    )  # fmt: skip
        else:
            source = self.settings.source
            pair = changes.conflicts(source, self.targets())
            if pair and any(self.masks[k] is None for k in pair):
                raise targets.contradict(self.edits[pair[0]], self.edits[pair[1]], source)
        for k, edit in enumerate(self.edits):
            if any(edit == other and _equal(self.masks[k], self.masks[j]) for j, other in enumerate(self.edits[:k])):
                raise ValueError(f"edit '{edit}' is given twice: give it once, with a larger scale to have more of it")

    def rule(self, defaults: Defaults) -> MaskRule | None:
        """How masks are made; None with a caption, which finds its regions. Only a model with a scale for it locates
        edits by words of itself: all others do as the paper does.
        """
        if self.settings.mode == "caption" or self.mask is not None:
            return self.mask
        plain = not self.settings.negative and not self.settings.source_scale
        return "located" if plain and defaults.located_scale is not None else "intersect"

    def captions(self, defaults: Defaults) -> Implied | None:
        """The caption that edits start from, given or implied, and those after each of them alone; None where edits are
        the paper's, by words.
        """
        if self.settings.mode == "caption":
            return Implied(self.settings.source, self.targets())
        return implied(self.edits, self.world) if self.rule(defaults) == "located" else None

    def targets(self) -> list[str]:
        """The source caption after each edit alone; an edit of scale 0 leaves it as it is."""
        source = self.settings.source
        after = targets.targets(source, *self.edits, emptied=self.emptied)
        return [source if edit.scale == 0 else text for edit, text in zip(self.edits, after, strict=True)]

    def grouped(self, defaults: Defaults) -> "list[list[Concept]]":
        """The concepts of each edit: one, or by words two of a swap. What a person drew an edit fills."""
        edits = [
            edit if mask is None or edit.threshold is not None else replace(edit, threshold=0.0)
            for edit, mask in zip(self.edits, self.masks, strict=True)
        ]
        captions = self.captions(defaults)
        if captions is None:
            return [by_words(edit, defaults) for edit in edits]
        scale = defaults.described_scale
        if self.settings.mode == "words" and defaults.located_scale is not None:
            scale = defaults.located_scale
        return [[by_caption(edit, t, scale, defaults)] for edit, t in zip(edits, captions.targets, strict=True)]

    def check(self, defaults: Defaults) -> None:
        """Raise ValueError for an edit that the method could not carry out, before a long inversion."""
        from ledits.method.core import check_windows

        concepts = [concept for group in self.grouped(defaults) for concept in group]
        check_windows(concepts, self.settings.steps)


def by_words(edit: Edit, defaults: Defaults) -> "list[Concept]":
    """The concepts of an edit by words: one for an addition or a removal, two for a swap."""
    from ledits.method.core import Concept

    parts = {"add": ("add",), "remove": ("remove",), "swap": ("swap_old", "swap_new")}[edit.kind]
    concepts = list[Concept]()
    for part in parts:
        scale = _of(defaults, part, "scale")
        if edit.scale is not None:
            # One number for a swap: the new object gets it, the old one its usual share of it.
            scale = edit.scale * scale / _of(defaults, parts[-1], "scale")
        new = part in ("add", "swap_new")
        concepts.append(
            Concept(
                edit.new if new else edit.old,
                scale if new else -scale,
                _of(defaults, part, "threshold") if edit.threshold is None else edit.threshold,
                defaults.warmup if edit.warmup is None else edit.warmup,
                edit.cooldown,
            )
        )
    return concepts


def by_caption(edit: Edit, target: str, scale: float, defaults: Defaults) -> "Concept":
    """The concept of an edit whose region is found: the caption after it alone. Without a threshold it is found too."""
    from ledits.method.core import Concept

    warmup = defaults.warmup if edit.warmup is None else edit.warmup
    return Concept(target, scale if edit.scale is None else edit.scale, edit.threshold, warmup, edit.cooldown)


def _of(defaults: Defaults, part: str, what: str) -> float:
    """The scale or the threshold of a part of an edit by words."""
    return getattr(defaults, f"{part}_{what}")


def _equal(one: "regions.Mask | None", other: "regions.Mask | None") -> bool:
    return one is other or (one is not None and other is not None and np.array_equal(one, other))
