"""What `ledits edit` writes: the result, and what else was asked for; checked before anything is computed."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ledits.asked.plan import Plan
from ledits.asked.regions import to_text
from ledits.cli.arguments import Source
from ledits.files import atomic
from ledits.picture import header, image

if TYPE_CHECKING:
    from ledits.editor import Edited


@dataclass(frozen=True, kw_only=True)
class Results:
    """Where results go beside the pictures, and how pictures are written."""

    inversion: Path | None
    masks: Path | None
    recipe: bool
    metadata: bool
    quality: int | None
    force: bool

    def check(
        self, targets: Sequence[Path | None], files: Sequence[tuple[Source, image.Picture, str]],
        plans: Sequence[Plan], *, one: bool,
    ) -> None:  # fmt: skip
        """Raise ValueError where something could not be written; `one`: an inversion is given, of one picture."""
        if len(files) > 1 and (self.inversion or self.masks or one):
            raise ValueError("--inversion, --save-inversion and --show-masks are for one picture at a time")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"--quality {self.quality}: a number from 1 to 100 is needed, 95 is usual")
        if None in targets and sys.stdout.isatty():
            raise ValueError("a picture is no text for a terminal: send standard output to a file, or name one with -o")
        seen = set[Path]()
        for path in [*targets, self.inversion, self.masks]:
            # A folder by another way, such as sub/../out.png, is the same one.
            place = None if path is None else path.parent.resolve() / path.name
            if place in seen:
                raise ValueError(f"two outputs have the same name, {path}: give each its own")
            seen.update([] if place is None else [place])
        for path, (source, shown, ending), plan in zip(targets, files, plans, strict=True):
            if path is not None:
                image.check_writable(path, overwrite=self.force, alpha=shown.alpha is not None)
            name = path or Path(f"standard output{ending}")
            if self.quality is not None:
                image.check_quality(name)
            if self.recipe and any(mask is not None for mask in plan.masks):
                # Painted regions make a recipe long; a JPEG of one pixel holds as much of it as a large one.
                recipe = {"regions": list(map(to_text, plan.masks)), "the rest, at most": " " * 4000}
                metadata = image.read_metadata(source.data) if self.metadata else None
                try:
                    image.encode(name, np.zeros((1, 1, 3), np.uint8), None, recipe, metadata=metadata)
                except ValueError as error:
                    raise ValueError(f"{str(error).rstrip('.')}, or leave the recipe out with --no-recipe") from None
        if self.masks is not None:
            image.check_writable(self.masks, overwrite=self.force)
        if self.inversion is not None:
            atomic.check_writable(self.inversion, (header.ENDING,), overwrite=self.force)

    def write(self, result: "Edited", target: Path | None, source: Source, ending: str) -> None:
        """The picture, to a file or to standard output, and what else was asked for."""
        alpha = result.inversion.picture.alpha
        recipe = result.recipe.to_json() if self.recipe else None
        metadata = image.read_metadata(source.data) if self.metadata else None
        if target is None:
            name = Path(f"standard output{ending}")
            data = image.encode(name, result.rgb, alpha, recipe, quality=self.quality, metadata=metadata)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            image.write(
                target, result.rgb, alpha, recipe, overwrite=self.force, quality=self.quality, metadata=metadata
            )
        if self.inversion is not None:
            result.inversion.save(self.inversion, overwrite=self.force)
        if self.masks is not None:
            image.write(self.masks, np.asarray(result.overlay), overwrite=self.force)

    def said(self, result: "Edited", target: Path | None, seconds: float) -> tuple[dict[str, Any], str]:
        """What was written and how, for scripts and for people."""
        made, recipe, name = result.inversion, result.recipe, "-" if target is None else str(target)
        evaluations = made.network_evaluations + result.network_evaluations
        values = {
            "output": name, "seconds": round(seconds, 3), "network_evaluations": evaluations,
            "steps": made.settings.steps, "seed": made.settings.seed, "edits": list(recipe.edits),
            "targets": result.targets,
            "model": recipe.model, "device": str(made.editor.backbone.device), "dtype": recipe.dtype,
        }  # fmt: skip
        return values, f"{name}  {seconds:.1f} s, {evaluations} network evaluations"
