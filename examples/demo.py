"""Edit the sample pictures with the bundled model, and put what happened on one sheet.

    python examples/demo.py [FOLDER]

Writes demo/NAME.png for each edit and demo/sheet.png: source, reconstruction, mask, edited.
"""

import sys
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from PIL import Image, ImageDraw, ImageFont

from ledits import editing
from ledits.backbones import load
from ledits.files import image
from ledits.method import core
from ledits.recipe import parse

PICTURES = Path(__file__).parent / "pictures"
# Name: picture, what it shows, edits.
EDITS = {
    "swap": ("cat", "a cat on a meadow", ["cat->dog"]),
    "swap-far": ("rocket", "a rocket under a night sky", ["rocket->balloon"]),
    "one-of-two": ("pair", "a fox and a star on a blue background", ["fox->owl"]),
    "colour": ("heart", "a red heart on a white background", ["red heart->blue heart"]),
    "addition": ("panda", "a panda in the snow", ["->a crown to the right of a panda in the snow"]),
    "removal": ("gift", "a gift on a beach", ["->an empty beach"]),
    "background": ("rocket", "a rocket under a night sky", ["->a rocket at sunset@0.2"]),
    "two-at-once": ("pair", "a fox and a star on a blue background", ["fox->cat", "star->sunflower"]),
}
ZOOM, LABEL = 3, 22


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    diffusers.utils.logging.set_verbosity_error()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    began = time.perf_counter()
    backbone = load()
    print(f"{backbone.name} loaded in {time.perf_counter() - began:.1f} s on {backbone.device}")
    rows = []
    for name, (picture, source, edits) in EDITS.items():
        began = time.perf_counter()
        shown = image.read(PICTURES / f"{picture}.png")
        d = backbone.defaults
        settings = editing.Settings(int(d["steps"]), d["described_skip"], source=source, area=backbone.area)
        inversion, origin, evaluations = editing.invert(backbone, shown, settings)
        asked = editing.concepts([parse(text) for text in edits], d, source)
        x, masks, count = inversion.x[-1], [], 0
        for step, count in editing.replay(backbone, inversion, asked, None):  # noqa: B007
            x = step.x
            masks.append(step.masks[:, 0])
        result = editing.to_picture(backbone, x, origin)
        seconds = time.perf_counter() - began
        image.write(folder / f"{name}.png", result, overwrite=True)
        overlay = editing.overlay(shown.rgb, torch.stack(masks).mean(0), origin)
        rows.append(
            (f"{picture}: {'  '.join(edits)}", [shown.rgb, rebuilt(backbone, inversion, origin), overlay, result])
        )
        print(f"{folder / name}.png  {'  '.join(edits)}  {seconds:.1f} s, {evaluations + count} network evaluations")
    sheet(rows).save(folder / "sheet.png")
    print(f"{folder}/sheet.png  source, reconstruction, mask, edited")


def rebuilt(backbone: object, inversion: core.Inversion, origin: object) -> np.ndarray:
    """The picture replayed with the network asked again at every level, which an edit of scale 0 makes it."""
    for step, _ in editing.replay(backbone, inversion, [core.Concept("", 0.0)], "none"):  # noqa: B007
        pass
    return editing.to_picture(backbone, step.x, origin)


def sheet(rows: list[tuple[str, list[np.ndarray]]]) -> Image.Image:
    """Two columns of labelled rows of four pictures."""
    side, half = 64 * ZOOM, (len(rows) + 1) // 2
    width, height = 4 * side + 16, side + LABEL + 10
    page = Image.new("RGB", (2 * width - 16, half * height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for k, (label, pictures) in enumerate(rows):
        left, top = (k // half) * width, (k % half) * height
        draw.text((left + 2, top + 2), label, "black", font)
        for j, picture in enumerate(pictures):
            cell = Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)
            page.paste(cell, (left + j * side, top + LABEL))
    return page


if __name__ == "__main__":
    main()
