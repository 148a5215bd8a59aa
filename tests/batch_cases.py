"""Two hundred rows as people have them: mixed formats, ten broken pictures, five bad recipes, repeated rows."""

import csv
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from ledits import scenes
from ledits.scenes.samples import SIDE

RECIPES = (
    {"edits": "cat->dog", "source": "a cat"}, {"edits": "+hat"}, {"edits": "-cat"}, {"edits": "cat->dog; +hat:6"},
    {"edits": "->a dog at night", "source": "a cat"}, {"edits": "+sun@0.8", "seed": "3"},
)  # fmt: skip
BAD = (
    {"edits": "dog"}, {"edits": "cat->dog@2"}, {"edits": ""}, {"edits": "cat->dog", "steps": "0"},
    {"edits": "cat->dog[9..]"},
)  # fmt: skip
BROKEN = 10


def pictures(folder: Path, count: int) -> list[str]:
    """Scenes in formats, modes and sizes of all kinds."""
    rng, names = np.random.default_rng(7), list[str]()
    kinds = ("png", "jpg", "webp", "tiff", "bmp", "gif", "rgba.png", "grey.png", "wide.png", "16.png", "cmyk.jpg")
    for k, kind in zip(range(count), itertools.cycle(kinds)):
        picture = Image.fromarray(scenes.sample(rng, 1).render(SIDE))
        if kind.startswith("rgba"):
            picture.putalpha(200)
        picture = picture.convert("L") if kind.startswith("grey") else picture
        picture = picture.convert("CMYK") if kind.startswith("cmyk") else picture
        picture = picture.resize((90, 50)) if kind.startswith("wide") else picture
        if kind.startswith("16"):
            picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
        names.append(f"picture {k}.{kind}")
        picture.save(folder / names[-1])
    return names


def broken(folder: Path) -> list[str]:
    """Ten that are no pictures."""
    whole = (folder / "picture 0.png").read_bytes()
    Image.new("RGB", (4, 4)).save(folder / "small.png")
    frames = [Image.new("RGB", (16, 16), (k * 90, 0, 0)) for k in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "folder.png").mkdir()
    contents = {
        "cut.png": whole[: len(whole) // 2], "empty.png": b"", "text.jpg": b"no picture", "zeros.webp": bytes(500),
        "head.jpg": (folder / "picture 1.jpg").read_bytes()[:200], "flipped.png": whole[:60] + bytes(40) + whole[100:],
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [*contents, "missing.png", "small.png", "moving.gif", "folder.png"]


def write(folder: Path, rows: int = 200) -> Path:
    """The manifest of `rows` rows: all but fifteen of them good, a tenth of these repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    good = rows - BROKEN - len(BAD)
    names = pictures(folder, max(11, good // 6))
    table = [{"picture": name, **recipe} for name in names for recipe in RECIPES]
    table = table[: good - good // 10]
    table += [dict(table[k * 3 % len(table)]) for k in range(good - len(table))]
    table += [{"picture": name, **RECIPES[1]} for name in broken(folder)]
    table += [{"picture": names[0], **recipe} for recipe in BAD]
    order = np.random.default_rng(1).permutation(len(table))
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["picture", "edits", "source", "seed", "steps"], restval="")
        writer.writeheader()
        writer.writerows(table[int(k)] for k in order)
    return path
