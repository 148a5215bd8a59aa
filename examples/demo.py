"""Edit the sample pictures with the bundled model, and put what happened on one sheet.

    python examples/demo.py [FOLDER]

Writes demo/NAME.png for each edit and demo/sheet.png: source, reconstruction, mask, edited.
"""

import sys
import time
from pathlib import Path

import diffusers
import numpy as np
import transformers
from PIL import Image, ImageDraw, ImageFont

from ledits import Editor

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
    editor = Editor()
    print(f"{editor.backbone.name} loaded in {time.perf_counter() - began:.1f} s on {editor.backbone.device}")
    rows = []
    for name, (picture, source, edits) in EDITS.items():
        began = time.perf_counter()
        inversion = editor.invert(PICTURES / f"{picture}.png", source=source)
        result = inversion.edit(*edits)
        seconds = time.perf_counter() - began
        result.save(folder / f"{name}.png", overwrite=True)
        # Replayed with the network asked again at every level.
        rebuilt = inversion.decoded(inversion.replayed())
        pictures = [inversion.picture.rgb, rebuilt, np.asarray(result.overlay), result.rgb]
        rows.append((f"{picture}: {'  '.join(edits)}", pictures))
        count = inversion.network_evaluations + result.network_evaluations
        print(f"{folder / name}.png  {'  '.join(edits)}  {seconds:.1f} s, {count} network evaluations")
    sheet(rows).save(folder / "sheet.png")
    print(f"{folder}/sheet.png  source, reconstruction, mask, edited")


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
