"""What `ledits edit` is asked for, from its options, a recipe or an inversion; checked without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledits.asked.plan import Plan
from ledits.asked.recipe import Edit, MaskRule, Recipe, parse
from ledits.asked.settings import InvertOptions, Settings
from ledits.cli.progress import Progress
from ledits.files.checkpoints import BUNDLED
from ledits.files.defaults import Defaults
from ledits.language import sentences
from ledits.picture import header, image
from ledits.scenes import suits

if TYPE_CHECKING:
    from ledits.editor import Edited, Editor

UNKNOWN = Defaults(steps=1_000_000, skip=0.5, described_skip=0.5)
"""Stands in for a model's defaults where settings are checked before the model is loaded."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Edits, and the settings that are said or fixed by a file."""

    edits: tuple[Edit, ...]
    options: InvertOptions
    settings: Settings | None  # of the recipe or the inversion
    recipe: Recipe | None
    inversion: Path | None
    region: Any
    mask: MaskRule | None
    composite: bool
    thrifty: bool
    model: str | None
    device: str | None
    dtype: str | None

    @classmethod
    def of(
        cls, edits: Sequence[Edit | str], options: InvertOptions, how: Mapping[str, Any], model: Mapping[str, Any],
        *, recipe: Path | None, inversion: Path | None,
    ) -> "Request":  # fmt: skip
        """`how`: region, mask, composite and thrifty; `model`: model, device and dtype, as the options say."""
        if recipe is not None and inversion is not None:
            raise ValueError("--inversion fixes --recipe: leave it out")
        found: Recipe | None = None
        settings: Settings | None = None
        made_with, where = BUNDLED, recipe or inversion
        if recipe is not None:
            _fixed("--recipe", {**asdict(options), **how, "edits": edits})
            found = read(recipe)
            how = {
                "region": found.masks(), "mask": found.mask, "composite": found.composite,
                "thrifty": found.drop_source_late,
            }  # fmt: skip
            model = {"model": model["model"], "device": model["device"] or found.device,
                     "dtype": model["dtype"] or found.dtype}  # fmt: skip
            edits, settings, made_with = found.edits, found.settings, found.model
        elif inversion is not None:
            _fixed("--inversion", asdict(options))
            value = header.header(inversion)
            try:
                settings, made_with = Settings.from_json(value.get("settings")), str(value.get("model"))
            except ValueError as error:
                raise ValueError(f"{inversion} is a damaged inversion ({error}): make it again") from None
        if where is not None and model["model"] is None and made_with != BUNDLED:
            raise ValueError(
                f"{where} was made with model {made_with!r}: say --model {made_with} to load it, if you trust it"
            )
        source = settings.source if settings else options.source or ""
        asked = tuple(map(parse, found.edits)) if found else sentences.asked(edits, source)
        return cls(edits=asked, options=options, settings=settings, recipe=found, inversion=inversion, **how, **model)

    def plan(self, shown: image.Picture, settings: Settings | None = None) -> Plan:
        """The plan for one picture; ValueError for edits or options that don't fit it, also before there is a model."""
        height, width, _ = shown.rgb.shape
        settings = settings or self.settings or Settings.resolve(UNKNOWN, 64**2, self.options)
        return Plan.of(
            self.edits, settings, region=self.region, mask=self.mask, composite=self.composite,
            drop_source_late=self.thrifty, width=width, height=height, world=suits.world(self.model or BUNDLED),
        )  # fmt: skip

    def edit(self, editor: "Editor", shown: image.Picture, report: Progress, *, anyway: bool) -> "Edited":
        """One picture, inverted and edited; what only the model can refuse is refused before the long inversion."""
        if self.inversion is not None:
            made = editor.open_inversion(self.inversion, shown, anyway=anyway)
        else:
            settings = self.settings or editor.settings(**asdict(self.options))
            self.plan(shown, settings).check(editor.backbone.defaults)
            if self.recipe is not None:
                editor.check_recipe(self.recipe)
            anyway = anyway or self.recipe is not None
            made = editor.invert(shown, settings, progress=report.of("inverting"), anyway=anyway)
            if self.recipe is not None and self.recipe.levels is not None:
                made = made.only(self.recipe.levels)
        plan = self.plan(shown, made.settings)
        plan.check(editor.backbone.defaults)
        replay = made.replay(plan)
        if self.recipe is not None:
            self.recipe.check_targets(replay.targets)
        for edit, target in zip(plan.edits, replay.targets, strict=bool(replay.targets)):
            report.note(f"{edit} tells the network: {target}")
        for step in replay:
            report("editing", step.index + 1, step.total)
        return replay.result()


def read(path: Path) -> Recipe:
    """The recipe in a picture that ledits wrote."""
    found = image.read_recipe(path)
    if found is None:
        raise ValueError(f"{path} holds no recipe of ledits: pass a picture that `ledits edit` wrote")
    return Recipe.from_json(found, str(path))


def _fixed(what: str, given: Mapping[str, Any]) -> None:
    """Raise ValueError where something is said that a file has settled already."""
    said = [(name, value) for name, value in given.items() if value is not None and value is not False and value != []]
    names = [name if name == "edits" else f"--{name.replace('_', '-')}" for name, _ in said]
    if names:
        raise ValueError(f"{what} fixes {', '.join(names)}: leave {'them' if len(names) > 1 else 'it'} out")
