"""`ledits edit`: pictures in, edited pictures out."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ledits import suits
from ledits.checkpoints import BUNDLED
from ledits.cli import arguments
from ledits.cli.options import (
    FILES,
    INVERSION,
    PICTURE,
    AnywayOption,
    DeviceOption,
    DtypeOption,
    ForceOption,
    JsonOption,
    Mask,
    ModelOption,
    NegativeOption,
    QuietOption,
    SeedOption,
    SizeOption,
    SkipOption,
    SourceOption,
    SourceScaleOption,
    StepsOption,
    VerboseOption,
    check,
    load,
)  # fmt: skip
from ledits.cli.progress import answer, progress
from ledits.cli.request import Request
from ledits.files import image

if TYPE_CHECKING:
    from ledits.editor import Edited, Inversion

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PICTURE... EDIT...", show_default=False, help="Pictures, - for standard input; then edits."
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        rich_help_panel=FILES,
        help="A file, a folder for several pictures, or - for standard output. \\[default: PICTURE-edited, in the "
        "picture's format]",
    ),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option("--recipe", rich_help_panel=FILES, help="Repeat what made this picture, bit for bit."),
]
NoRecipe = Annotated[
    bool, typer.Option("--no-recipe", rich_help_panel=FILES, help="Don't write edits, caption and model into the file.")
]
Metadata = Annotated[
    bool,
    typer.Option("--keep-metadata", rich_help_panel=FILES, help="Keep the picture's EXIF: camera, date, place."),
]
Quality = Annotated[
    int | None,
    typer.Option(
        "--quality", rich_help_panel=FILES, help="Of JPEG and WebP, 1 to 100. \\[default: 95; WebP: lossless]"
    ),
]
Region = Annotated[
    Path | None,
    typer.Option(
        "--region", rich_help_panel=PICTURE, help="Where edits may act: a picture of the same size, white is open."
    ),
]
MaskOption = Annotated[
    Mask | None,
    typer.Option(
        "--mask",
        rich_help_panel=PICTURE,
        help="Without --source: which implicit mask keeps an edit in place. \\[default: intersect]",
    ),
]
Composite = Annotated[
    bool,
    typer.Option("--composite", rich_help_panel=PICTURE, help="Change nothing outside the masks, not by one bit."),
]
Thrifty = Annotated[
    bool,
    typer.Option(
        "--thrifty", "--drop-source-late", rich_help_panel=INVERSION,
        help="With --source: leave the caption out of later steps. Faster, and not quite the same.",
    ),
]  # fmt: skip
Kept = Annotated[
    Path | None,
    typer.Option("--inversion", rich_help_panel=FILES, help="Start from this inversion of the picture."),
]
Keep = Annotated[
    Path | None,
    typer.Option("--save-inversion", rich_help_panel=FILES, help="Keep the inversion for later edits."),
]
ShowMasks = Annotated[
    Path | None,
    typer.Option("--show-masks", rich_help_panel=FILES, help="Write a picture of where the edits acted."),
]


def edit_command(
    words: Words = None, source: SourceOption = None, region: Region = None, composite: Composite = False,
    mask: MaskOption = None, output: Output = None, model: ModelOption = None, device: DeviceOption = None,
    dtype: DtypeOption = None, anyway: AnywayOption = False, steps: StepsOption = None, skip: SkipOption = None,
    seed: SeedOption = None, size: SizeOption = None, source_scale: SourceScaleOption = None,
    negative: NegativeOption = None, thrifty: Thrifty = False, recipe: RecipeOption = None,
    no_recipe: NoRecipe = False, inversion: Kept = None, save_inversion: Keep = None, show_masks: ShowMasks = None,
    quality: Quality = None, keep_metadata: Metadata = False, force: ForceOption = False, as_json: JsonOption = False,
    quiet: QuietOption = False, verbose: VerboseOption = False,
) -> None:  # fmt: skip
    """Edit pictures with words: ledits edit cat.png 'cat->dog' -o dog.png

    \b
    +hat               adds a hat
    -hat               removes it
    'cat->dog'         puts a dog in the cat's place
    '->a dog at night' makes this the whole caption; needs --source
    +hat:8             with scale 8: how strong
    +hat@0.9           with threshold 0.9: the share of the picture left alone
    '+hat\\[2..40]'      acting from step 2 until before step 40
    '+hat|9,4,20,16'   inside a box: left, top, width, height in pixels

    Several edits go in one command. Quote what the shell would read: > | \\[. Edits get far better with --source, the
    picture's caption.
    """
    began = time.perf_counter()
    request = Request.of(
        (split := arguments.split(words or [])).edits,
        {"steps": steps, "skip": skip, "seed": seed, "source": source, "source_scale": source_scale,
         "negative": negative, "size": size},
        {"region": region, "mask": mask and mask.value, "composite": composite, "thrifty": thrifty},
        {"model": model, "device": device, "dtype": dtype},
        recipe=recipe, inversion=inversion,
    )  # fmt: skip
    folder = check(request.model, request.device, request.dtype)
    files = [(each, image.read(each.data), image.ending(each.data)) for each in split.sources]
    targets = arguments.outputs(split.sources, output, [ending for *_, ending in files])
    if len(files) > 1 and (save_inversion or show_masks or inversion):
        raise ValueError("--inversion, --save-inversion and --show-masks are for one picture at a time")
    arguments.check_outputs(targets, files, save_inversion, show_masks, force=force, quality=quality)
    plans = [request.plan(shown) for _, shown, _ in files]
    if not anyway and request.recipe is None:
        suits.check_words(request.model or BUNDLED, folder, request.edits, plans[0].settings.source)
    with progress(quiet=quiet, verbose=verbose, as_json=as_json) as report:
        report("loading the model")
        editor = load(request.model, request.device, request.dtype)
        for (each, shown, ending), target in zip(files, targets, strict=True):
            report(f"reading {each.name}")
            if request.inversion is not None:
                made = editor.open_inversion(request.inversion, shown)
            else:
                settings = request.settings or editor.settings(**request.options)
                request.fits(editor, shown, settings, anyway=anyway)
                made = editor.invert(shown, settings, progress=report.of("inverting"))
            replay = made.replay(request.plan(shown, made.settings))
            for step in replay:
                report("editing", step.index + 1, step.total)
            result = replay.result()
            written = None if no_recipe else result.recipe.to_json()
            kept = {"quality": quality, "metadata": image.read_metadata(each.data) if keep_metadata else None}
            if target is None:
                data = image.encode(Path(f"standard output{ending}"), result.rgb, shown.alpha, written, **kept)
                sys.stdout.buffer.write(data)
            else:
                image.write(target, result.rgb, shown.alpha, written, overwrite=force, **kept)
            if save_inversion is not None:
                made.save(save_inversion, overwrite=force)
            if show_masks is not None:
                image.write(show_masks, np.asarray(result.overlay), overwrite=force)
            done = summary(made, target, time.perf_counter() - began, result)
            answer(*done, as_json=as_json, quiet=quiet, err=target is None)
            began = time.perf_counter()


def summary(made: "Inversion", target: Path | None, seconds: float, result: "Edited") -> tuple[dict[str, Any], str]:
    """What was written and how, for scripts and for people."""
    evaluations = made.network_evaluations + result.network_evaluations
    recipe, name = result.recipe, "-" if target is None else str(target)
    values = {
        "output": name, "seconds": round(seconds, 3), "network_evaluations": evaluations,
        "steps": made.settings.steps, "seed": made.settings.seed, "edits": list(recipe.edits), "model": recipe.model,
        "device": str(made.editor.backbone.device), "dtype": recipe.dtype,
    }  # fmt: skip
    return values, f"{name}  {seconds:.1f} s, {evaluations} network evaluations"


edit_command.command_class = arguments.EditCommand  # pyright: ignore[reportFunctionMemberAccess]
