"""Make the pictures of the project page again: python docs/pictures.py [PAGE ...], such as "method", or "studio".

A page's own Python is run from top to bottom, and `![...](pictures/PAGE/NAME.png)` on it shows the variable NAME of
that run: a picture, a list of them, or a dict of them by their labels. So what a page shows is what its code makes.
Pixels are enlarged as squares, never blurred. The screenshots are made by docs/studio/screenshots.py; charts and tables
of benchmarks by `ledits bench report` and benchmarks/growth.py, for they are measurements.
"""

import os
import re
import sys
import tempfile
import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

DOCS = Path(__file__).parent
CELL, GAP, LABEL = 256, 16, 40  # pixels: of a picture's longer side once enlarged, between two, and under one
GREY = (128, 128, 128, 255)  # of labels: legible on white and on black
_FENCE = re.compile(r"(?:^ *<!-- needs: (\w+) -->\n+)?^( *)```(\w*)[^\n]*\n(.*?)^\2```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Fenced code of a page."""

    language: str
    code: str
    line: int
    needs: str  # "hub", "network", ...: what is not here, as a comment above the block says; "" for most


def pages() -> dict[str, Path]:
    """Every page by its name, such as "method" or "scenes/report"."""
    return {
        path.relative_to(DOCS).with_suffix("").as_posix(): path
        for path in sorted(DOCS.rglob("*.md"))
        if "log" not in path.relative_to(DOCS).parts
    }


def blocks(path: Path) -> Iterator[Block]:
    text = path.read_text()
    for match in _FENCE.finditer(text):
        line = text[: match.start(4)].count("\n")
        yield Block(match[3], textwrap.dedent(match[4]), line, match[1] or "")


def run(path: Path, without: Collection[str] = ("hub", "network", "photograph", "server")) -> dict[str, Any]:
    """The variables after a page's Python has run in this folder, but for blocks that need what is not here."""
    variables: dict[str, Any] = {}
    for block in blocks(path):
        if block.language == "python" and block.needs not in without:
            # Lines are counted as in the page, so that a traceback shows the right one.
            exec(compile("\n" * block.line + block.code, str(path), "exec"), variables)
    return variables


def shown(path: Path) -> list[str]:
    """The names of the variables that a page shows."""
    page = path.relative_to(DOCS).with_suffix("").as_posix()
    return list(dict.fromkeys(re.findall(rf"pictures/{re.escape(page)}/(\w+)\.png", path.read_text())))


def strip(value: Any) -> Image.Image:
    """Pictures side by side with their labels below, on no ground of their own."""
    if isinstance(value, Image.Image):
        value = [value]
    labelled = list(value.items()) if isinstance(value, dict) else [("", picture) for picture in value]
    pictures = [(label, enlarged(picture)) for label, picture in labelled]
    height = max(picture.height for _, picture in pictures)
    below = LABEL if any(label for label, _ in pictures) else 0
    width = sum(picture.width for _, picture in pictures) + GAP * (len(pictures) - 1)
    page = Image.new("RGBA", (width, height + below))
    draw, left = ImageDraw.Draw(page), 0
    for label, picture in pictures:
        page.paste(picture, (left, 0))
        font = ImageFont.load_default(24)
        while draw.textlength(label, font) > picture.width + GAP:
            font = ImageFont.load_default(font.size - 1)
        draw.text((left + picture.width / 2, height + 10), label, GREY, font, anchor="ma")
        left += picture.width + GAP
    return page


def enlarged(picture: Image.Image) -> Image.Image:
    zoom = max(1, CELL // max(picture.size))
    size = (picture.width * zoom, picture.height * zoom)
    return picture.convert("RGBA").resize(size, Image.Resampling.NEAREST)


def samples(folder: Path) -> None:
    """What the pages' code reads: the demo's pictures, and one by the name of a photograph."""
    from ledits.scenes.samples import SAMPLES, draw

    (folder / "demo").mkdir()
    for name in SAMPLES:
        Image.fromarray(draw(name)).save(folder / "demo" / f"{name}.png")
    Image.fromarray(draw("cat")).save(folder / "photo.jpg", quality=95)


def main(names: list[str]) -> None:
    for name, path in pages().items():
        if (names and name not in names) or not (wanted := shown(path)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            here = Path.cwd()
            os.chdir(folder)
            try:
                samples(Path(folder))
                variables = run(path)
            finally:
                os.chdir(here)
        target = DOCS / "pictures" / name
        target.mkdir(parents=True, exist_ok=True)
        for old in target.glob("*.png"):
            old.unlink()
        for variable in wanted:
            strip(variables[variable]).save(target / f"{variable}.png", optimize=True)
            print(target / f"{variable}.png")
    if not names or "studio" in names:
        sys.path.insert(0, str(DOCS / "studio"))
        import screenshots

        screenshots.main()


if __name__ == "__main__":
    main(sys.argv[1:])
