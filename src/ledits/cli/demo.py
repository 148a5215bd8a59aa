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
    from ledits.scenes.samples import DEMO, NEXT, SAMPLES, draw

    samples = {name: draw(name) for name in SAMPLES}
    for name in [*samples, *DEMO, "sheet"]:
        image.check_writable(folder / f"{name}.png", overwrite=force)
    for name, rgb in samples.items():
        image.write(folder / f"{name}.png", rgb, overwrite=force)
    rows = list[tuple[str, list[Image.Image]]]()
    with progress(quiet=quiet) as report:
        report("loading the model")
        editor = load(More().loading(None, device, dtype))
        for k, (name, (picture, source, edits)) in enumerate(DEMO.items()):
            began = time.perf_counter()
            report(name, k, len(DEMO))
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
        typer.echo(f"Next: ledits edit {folder}/{NEXT}; or ledits studio")


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
