"""`ledits demo`: the sample pictures, edited by the bundled model, and a sheet of what happened."""

import time
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image, ImageDraw, ImageFont

from ledits.cli.more_options import More
from ledits.cli.options import DeviceOption, DtypeOption, ForceOption, QuietOption, check, load
from ledits.cli.progress import progress
from ledits.picture import image

# Name: picture, what it shows ("": edited by words alone), edits.
EDITS = {
    "swap": ("cat", "a cat on a meadow", ["cat->dog"]),
    "swap-far": ("rocket", "a rocket under a night sky", ["rocket->balloon"]),
    "one-of-two": ("pair", "a fox and a star on a blue background", ["fox->owl"]),
    "two-at-once": ("pair", "a fox and a star on a blue background", ["fox->cat", "star->sunflower"]),
    "colour": ("heart", "a red heart on a white background", ["red heart->blue heart"]),
    "by-words": ("cat", "", ["+sunglasses"]),
    "hat": ("panda", "a panda in the snow", ["->a panda wearing a top hat in the snow"]),
    "addition": ("panda", "a panda in the snow", ["->a tree to the right of a panda in the snow"]),
    "removal": ("gift", "a gift on a beach", ["->an empty beach"]),
    "background": ("rocket", "a rocket under a night sky", ["->a rocket at sunset@0.2"]),
    "sketch": ("cat", "a cat on a meadow", ["->a pencil sketch of a cat on a meadow@0"]),
    "black-and-white": ("tree", "a tree at sunset", ["->a black and white photo of a tree at sunset@0"]),
}
LABEL = 22


def demo_command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the pictures go.")] = Path("ledits-demo"),
    device: DeviceOption = None, dtype: DtypeOption = None, force: ForceOption = False, quiet: QuietOption = False,
) -> None:  # fmt: skip
    """Edit the sample pictures with the bundled model: no download, no picture of your own."""
    check(None, device, dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} can't be made a folder ({error.strerror}): choose another name") from None
    from ledits.scenes.samples import SAMPLES, draw

    samples = {name: draw(name) for name in SAMPLES}
    for name in [*samples, *EDITS, "sheet"]:
        image.check_writable(folder / f"{name}.png", overwrite=force)
    for name, rgb in samples.items():
        image.write(folder / f"{name}.png", rgb, overwrite=force)
    rows = list[tuple[str, list[Image.Image]]]()
    with progress(quiet=quiet) as report:
        report("loading the model")
        editor = load(More().loading(None, device, dtype))
        for k, (name, (picture, source, edits)) in enumerate(EDITS.items()):
            began = time.perf_counter()
            report(name, k, len(EDITS))
            made = editor.invert(samples[picture], source=source)
            result = made.edit(*edits)
            result.save(folder / f"{name}.png", overwrite=force)
            rebuilt = Image.fromarray(made.decoded(made.replayed()))
            shown = Image.fromarray(samples[picture])
            rows.append((f"{picture}: {'  '.join(edits)}", [shown, rebuilt, result.overlay, result.image]))
            seconds, evaluations = time.perf_counter() - began, made.network_evaluations + result.network_evaluations
            if not quiet:
                typer.echo(f"{folder / name}.png  {'  '.join(edits)}  {seconds:.1f} s, {evaluations} evaluations")
    image.write(folder / "sheet.png", image.take(sheet(rows)).rgb, overwrite=force)
    if not quiet:
        typer.echo(f"{folder / 'sheet.png'}  source, reconstruction, mask, edited")
        cat = folder / "cat.png"
        typer.echo(f"Next: ledits edit {cat} 'cat->dog' --source 'a cat on a meadow' -o dog.png; or ledits studio")


def sheet(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Two columns of labelled rows of four pictures."""
    side, half = rows[0][1][0].width, (len(rows) + 1) // 2
    width, height = 4 * side + 16, side + LABEL + 10
    page = Image.new("RGB", (2 * width - 16, half * height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for k, (label, pictures) in enumerate(rows):
        left, top = (k // half) * width, (k % half) * height
        draw.text((left + 2, top + 2), label, "black", font)
        for j, picture in enumerate(pictures):
            page.paste(picture, (left + j * side, top + LABEL))
    return page
