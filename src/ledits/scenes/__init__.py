"""Captioned scenes whose every edit has a known answer: the world of the bundled model.

A scene is zero to three objects (Fluent emoji art, MIT, see art/NOTICE) on a plain colour or a simple landscape; an
animal may wear something, and the whole may be drawn in a style. The composer knows the caption, which pixels an edit
may change, and what the edited picture must look like (its twin). Pictures are uint8 arrays (H, W, 3), masks are bool
arrays (H, W).
"""

import zlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ledits.scenes.style import STYLES, restyle, spread

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SIDE = 64
OBJECTS = (
    "cat", "dog", "fox", "panda", "frog", "pig", "rabbit", "penguin", "owl", "fish", "butterfly", "turtle",
    "red apple", "green apple", "banana", "strawberry", "pizza", "donut", "red heart", "blue heart", "yellow heart",
    "green heart", "star", "sunflower", "balloon", "gift", "crown", "ball", "rocket", "car", "tree", "mushroom",
)  # fmt: skip
# Objects that differ in colour alone; an edit between two of a row is a colour change.
COLOURED = (("red heart", "blue heart", "yellow heart", "green heart"), ("red apple", "green apple"))
PLAIN = {
    "white": (240, 240, 240), "gray": (128, 128, 128), "pink": (244, 170, 200), "orange": (240, 150, 60),
    "yellow": (245, 220, 100), "green": (110, 190, 110), "blue": (90, 140, 230), "purple": (150, 100, 200),
}  # fmt: skip
LANDSCAPES = {
    "meadow": "on a meadow",
    "beach": "on a beach",
    "snow": "in the snow",
    "night sky": "under a night sky",
    "sunset": "at sunset",
}
BACKGROUNDS = (*PLAIN, *LANDSCAPES)
ACCESSORIES = ("sunglasses", "top hat", "crown", "bow")


class Head(NamedTuple):
    """Where an animal wears things, in shares of its art's longer side, from the art's centre (y down)."""

    eyes: float  # height of the eyes
    apart: float  # width of sunglasses that cover them
    top: float  # height of the crown of the head, between the ears
    hat: float  # width of a hat


# Read off each animal's art. Fish and turtle look sideways, and a butterfly has no face: they wear nothing.
HEADS = {
    "cat": Head(0.045, 0.60, -0.275, 0.46),
    "dog": Head(-0.11, 0.52, -0.425, 0.44),
    "fox": Head(0.09, 0.60, -0.28, 0.44),
    "panda": Head(-0.02, 0.70, -0.43, 0.48),
    "frog": Head(-0.265, 0.86, -0.42, 0.46),
    "pig": Head(-0.045, 0.64, -0.43, 0.46),
    "rabbit": Head(0.085, 0.52, -0.21, 0.44),
    "penguin": Head(-0.31, 0.36, -0.47, 0.38),
    "owl": Head(-0.235, 0.76, -0.45, 0.44),
}
# Room above the centre that a hat may need, in shares of the animal's size.
ROOM = 0.85
# Row and column of the night sky's stars, in 1/64 of the picture's side.
STARS = (
    (4, 9),
    (7, 40),
    (10, 22),
    (13, 57),
    (18, 5),
    (21, 33),
    (26, 48),
    (31, 14),
    (37, 60),
    (44, 27),
    (52, 6),
    (57, 44),
)
# Sizes (longer side of the art, 1/64 of the picture's side) by number of objects in the scene.
SIZES = {1: range(28, 41, 2), 2: range(24, 31, 2), 3: range(18, 21, 2)}


class Placed(NamedTuple):
    """One object: its centre and longer side in 1/64 of the picture's side, and what it wears, of ACCESSORIES or ""."""

    name: str
    x: int
    y: int
    size: int
    wearing: str = ""

    def words(self) -> str:
        """The object in a caption, without its article: "cat wearing a top hat"."""
        return f"{self.name} {wearing(self.wearing)}" if self.wearing else self.name


@dataclass(frozen=True)
class Scene:
    """Objects drawn in order over a background, in a style of STYLES or none; `seed` fixes light and horizon."""

    objects: tuple[Placed, ...]
    background: str
    seed: int
    style: str = ""

    def render(self, side: int = SIDE) -> Picture:
        """The picture, (side, side, 3) uint8."""
        picture = background(self.background, self.seed, side).astype(np.float32)
        for piece in (piece for placed in self.objects for piece in _pieces(placed)):
            rgb, alpha, rows, columns = _stamp(piece, side)
            picture[rows, columns] += alpha[..., None] * (rgb - picture[rows, columns])
        return restyle((picture + 0.5).clip(0, 255).astype(np.uint8), self.style)

    def caption(self) -> str:
        """Everything in the scene, without positions: "pixel art of a cat wearing a bow and a star on a beach"."""
        if not self.objects:
            return self.empty()
        return self.styled(f"{listed([a(o.words()) for o in self.objects])} {where(self.background)}")

    def empty(self) -> str:
        """What is left when every object is taken away: "an empty beach"."""
        return self.styled("empty snow" if self.background == "snow" else f"an empty {noun(self.background)}")

    def captions(self, rng: np.random.Generator) -> str:
        """One training caption: full, with positions, objects alone, what is worn alone, background or style alone, or
        with something after a comma, as "+bow" writes it.

        An object that is there is never left out of a caption that names another, nor what it wears out of one that
        names it, nor the style out of any: that would teach the model to ignore words. "an empty beach" is said of
        empty scenes only, so "beach" alone says nothing about objects, nor does "wearing a bow" of what is beside.
        """
        if rng.random() < 0.1 and (appended := self._appended(rng)):
            return appended
        kind = rng.random()
        if self.style and rng.random() < 0.06:
            return self.styled()
        if not self.objects:
            return self.empty() if kind < 0.8 else self._backdrop(rng)
        if kind < 0.10:
            return self._backdrop(rng)
        objects = [self.objects[i] for i in rng.permutation(len(self.objects))]
        dressed = [placed.wearing for placed in objects if placed.wearing]
        if len(dressed) == 1 and rng.random() < 0.25:
            (worn,) = dressed
            # "a crown" is an object of its own.
            if worn == "crown" or rng.random() < 0.6:
                return self.styled(f"an animal {wearing(worn)}" if self.style else wearing(worn))
            return self.styled(_with_article(worn) if self.style or rng.random() < 0.5 else worn)
        names = [o.words() if kind < 0.18 and len(objects) == 1 else a(o.words()) for o in objects]
        placed = rng.random() < 0.35
        if placed and len(objects) == 2:
            side = "left" if objects[0].x < objects[1].x else "right"
            what = f"{names[0]} to the {side} of {names[1]}"
        elif placed and len(objects) == 1 and abs(objects[0].x - 32) > 7:
            what = f"{names[0]} on the {'left' if objects[0].x < 32 else 'right'}"
        else:
            what = listed(names)
        return self.styled(what if kind < 0.35 else f"{what} {where(self.background)}")

    def _appended(self, rng: np.random.Generator) -> str:
        """The caption without one thing, and that thing after a comma; "" where there is nothing to leave out."""
        whole = [(self.draw(""), self.style if rng.random() < 0.5 else _with_article(self.style))] if self.style else []
        for i, placed in enumerate(self.objects):
            if worn := placed.wearing:
                alone = worn != "crown" and rng.random() < 0.7  # "a crown" is an object of its own
                bare = self.put(i, placed._replace(wearing=""))
                whole.append((bare, (worn if rng.random() < 0.5 else _with_article(worn)) if alone else wearing(worn)))
            if len(self.objects) > 1:
                whole.append((self.remove(i), placed.words() if rng.random() < 0.5 else a(placed.words())))
        if not whole:
            return ""
        rest, left_out = whole[int(rng.integers(len(whole)))]
        if not rest.objects:
            return f"{rest.empty()}, {left_out}"
        named = listed([a(o.words()) for o in rest.objects])
        return f"{rest.caption() if rng.random() < 0.6 else rest.styled(named)}, {left_out}"

    def _backdrop(self, rng: np.random.Generator) -> str:
        return where(self.background) if not self.style and rng.random() >= 0.5 else self.backdrop()

    def backdrop(self) -> str:
        """The background alone, which says nothing about objects: "beach", "pixel art of a beach"."""
        if not self.style:
            return noun(self.background)
        return self.styled("snow" if self.background == "snow" else a(noun(self.background)))

    def styled(self, what: str = "") -> str:
        """`what` with the scene's style before it."""
        if not self.style:
            return what
        name = _with_article(self.style)
        return f"{name} of {what}" if what else name

    def swap(self, index: int, name: str) -> "Scene":
        """The twin with object `index` replaced, at the same place and size; what it wears stays where that fits."""
        old = self.objects[index]
        return self.put(index, old._replace(name=name, wearing=old.wearing if name in HEADS else ""))

    def wear(self, index: int, accessory: str) -> "Scene":
        """The twin in which object `index` wears `accessory`, "" for nothing, and nothing else."""
        if accessory and (accessory not in ACCESSORIES or self.objects[index].name not in HEADS):
            raise ValueError(
                f"{self.objects[index].name} wearing {accessory}: {', '.join(HEADS)} wear {', '.join(ACCESSORIES)}"
            )
        return self.put(index, self.objects[index]._replace(wearing=accessory))

    def put(self, index: int, placed: Placed) -> "Scene":
        """The scene with another object in the place of number `index`."""
        return replace(self, objects=(*self.objects[:index], placed, *self.objects[index + 1 :]))

    def remove(self, index: int) -> "Scene":
        """The twin without object `index`."""
        return replace(self, objects=self.objects[:index] + self.objects[index + 1 :])

    def add(self, placed: Placed) -> "Scene":
        """The twin with one more object, in front."""
        return replace(self, objects=(*self.objects, placed))

    def move(self, background: str) -> "Scene":
        """The twin on another background."""
        return replace(self, background=background)

    def draw(self, style: str) -> "Scene":
        """The twin in another style, "" for none."""
        return replace(self, style=style)

    def mask(self, twin: "Scene", side: int = SIDE) -> Mask:
        """The pixels that an edit from this scene to `twin` may change, (side, side) bool.

        Whatever differs in what is drawn, whether or not it shows in colour: the objects of one that are not in the
        other where neither is covered, the whole background when that changes, and everything when the style does.
        """
        if self.style != twin.style:
            return np.ones((side, side), bool)
        ours, theirs = ({p for placed in scene.objects for p in _pieces(placed)} for scene in (self, twin))
        changed = np.zeros((side, side), bool)
        for piece in ours ^ theirs:
            _, alpha, rows, columns = _stamp(piece, side)
            changed[rows, columns] |= alpha > 0
        if self.background != twin.background:
            kept = np.zeros((side, side), bool)
            for piece in ours & theirs:
                _, alpha, rows, columns = _stamp(piece, side)
                kept[rows, columns] |= alpha == 1
            changed |= ~kept
        return spread(changed, self.style)


def sample(rng: np.random.Generator, count: int | None = None, *, held_out: bool | None = False) -> Scene:
    """A random scene of `count` objects (None: any).

    `held_out` False leaves out the pairs that training never sees, True gives only scenes with such a pair, None both.
    """
    if count not in (None, 0, *SIZES) or (count == 0 and held_out):
        raise ValueError(
            f"no scenes of {count} objects with held_out={held_out}: 0 to {max(SIZES)} objects, a pair needs one"
        )
    while True:
        n = int(rng.choice(4, p=[0.12, 0.50, 0.32, 0.06])) if count is None else count
        names = [OBJECTS[i] for i in rng.permutation(len(OBJECTS))[:n]]
        where = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
        unseen = any(held_out_pair(a, b) for i, a in enumerate(names) for b in (*names[i + 1 :], where))
        if held_out is None or unseen == held_out:
            return Scene(layout(rng, names), where, int(rng.integers(2**31)))


def dress(rng: np.random.Generator, scene: Scene, *, held_out: bool | None = False) -> Scene:
    """The scene with things worn and a style, as often as the model is to see them.

    `held_out` False leaves out animals with what training never shows them wearing.
    """
    share = (0, 0.45, 0.35, 0.2)[len(scene.objects)]
    for i, placed in enumerate(scene.objects):
        if placed.name not in HEADS or rng.random() >= share:
            continue
        choice = [name for name in ACCESSORIES if held_out is None or not held_out_pair(placed.name, name)]
        scene = scene.put(i, room(placed)).wear(i, str(rng.choice(choice)))
    return scene.draw(str(rng.choice(list(STYLES)))) if rng.random() < 0.2 else scene


def room(placed: Placed) -> Placed:
    """The object far enough down for a hat."""
    return placed._replace(y=max(placed.y, int(np.ceil(ROOM * placed.size))))


def layout(rng: np.random.Generator, names: list[str]) -> tuple[Placed, ...]:
    """Places for named objects: one anywhere, two side by side, three in a row; never overlapping."""
    n = len(names)
    # A quarter of the single objects keep to one side at the size of a pair, so that there is room to add another.
    aside = n == 1 and rng.random() < 0.25
    slots = 2 if aside else n
    columns = rng.permutation(slots)[:n]
    placed: list[Placed] = []
    for name, column in zip(names, columns, strict=True):
        size = int(rng.choice(SIZES[slots]))
        low, high = 64 * column / slots, 64 * (column + 1) / slots
        margin = size / 2 + (2 if slots == 1 else 0.5)
        x = rng.uniform(low + margin, max(high - margin, low + margin))
        y = rng.uniform(size / 2 + 4, 60 - size / 2)
        placed.append(Placed(name, round(x), round(y), size))
    return tuple(placed)


def held_out_pair(a: str, b: str) -> bool:
    """Whether two objects, or an object and a background, are kept apart in training: one pair in twelve."""
    return zlib.crc32(" + ".join(sorted((a, b))).encode()) % 12 == 0


def noun(background: str) -> str:
    """The background's own name: "beach", "blue background"."""
    return background if background in LANDSCAPES else f"{background} background"


def where(background: str) -> str:
    """The background as a place: "on a beach", "on a blue background"."""
    return LANDSCAPES.get(background) or f"on {a(noun(background))}"


def wearing(accessory: str) -> str:
    """What an animal has on, in a caption: "wearing a top hat"."""
    return f"wearing {_with_article(accessory)}"


def a(name: str) -> str:
    """With its article: "an owl"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _with_article(name: str) -> str:
    """As `a`, but for words that have none: "sunglasses", "pixel art"."""
    return name if name in ("sunglasses", "pixel art") else a(name)


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


@cache
def art(name: str, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An object's colours (h, w, 3) in 0..255 and opacity (h, w) in 0..1, `size` pixels on the longer side."""
    image = Image.open(Path(__file__).parent / "art" / f"{name.replace(' ', '_')}.png").convert("RGBa")
    scale = size / max(image.size)
    image = image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.BOX
    )
    values = np.asarray(image.convert("RGBA"), np.float32)
    return values[..., :3], (values[..., 3] / 255).astype(np.float32)


class _Piece(NamedTuple):
    """One picture of art, where it is drawn; as Placed, but in fractions of 1/64 too."""

    name: str
    x: float
    y: float
    size: float


def _pieces(placed: Placed) -> tuple[_Piece, ...]:
    """The object, and what it wears in front of it."""
    body = _Piece(placed.name, placed.x, placed.y, placed.size)
    if not placed.wearing:
        return (body,)
    head = HEADS[placed.name]
    # Width of what is worn, the middle of its height, both in shares of the animal's size. A hat's brim and a crown's
    # rim come down over the head a little, a bow sits on it.
    width, height = {
        "sunglasses": (head.apart, head.eyes),
        "top hat": (head.hat, head.top - 0.36 * head.hat),
        "crown": (0.9 * head.hat, head.top - 0.28 * head.hat),
        "bow": (0.9 * head.hat, head.top - 0.10 * head.hat),
    }[placed.wearing]
    return body, _Piece(placed.wearing, placed.x, placed.y + height * placed.size, width * placed.size)


def _stamp(piece: _Piece, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32], slice, slice]:
    rgb, alpha = art(piece.name, max(1, round(piece.size * side / 64)))
    height, width = alpha.shape
    top, left = round(piece.y * side / 64 - height / 2), round(piece.x * side / 64 - width / 2)
    y, x = slice(max(0, -top), side - top), slice(max(0, -left), side - left)
    rows, columns = slice(max(0, top), min(side, top + height)), slice(max(0, left), min(side, left + width))
    return rgb[y, x], alpha[y, x], rows, columns


def sprite(
    name: str, size: int, wearing: str, side: int = SIDE
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[float, float]]:
    """An object with what it wears as one piece of art: colours, opacity, and the object's own centre (y, x) in it.

    `size` is in 1/64 of the picture's side; the rest is as in `art`.
    """
    if not wearing:
        rgb, alpha = art(name, round(size * side / 64))
        return rgb, alpha, (alpha.shape[0] / 2, alpha.shape[1] / 2)
    # Drawn on a canvas large enough for any hat, at its middle.
    canvas = 2 * side
    rgb, alpha = np.zeros((canvas, canvas, 3), np.float32), np.zeros((canvas, canvas), np.float32)
    for piece in _pieces(Placed(name, 64, 64, size, wearing)):
        half = piece._replace(x=piece.x / 2, y=piece.y / 2, size=piece.size / 2)
        colour, opacity, rows, columns = _stamp(half, canvas)
        over = opacity[..., None]
        below = rgb[rows, columns] * alpha[rows, columns, None]
        alpha[rows, columns] = opacity + (1 - opacity) * alpha[rows, columns]
        rgb[rows, columns] = (over * colour + (1 - over) * below) / alpha[rows, columns, None].clip(1e-6)
    rows, columns = (np.nonzero(alpha.any(axis))[0] for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return rgb[box], alpha[box], (float(side - rows[0]), float(side - columns[0]))


def background(name: str, seed: int, side: int = SIDE) -> Picture:
    """A background without objects: a colour under soft light, or sky and ground that meet at a horizon."""
    rng = np.random.default_rng(seed)
    light, tilt, horizon = rng.uniform(-8, 8), rng.uniform(-10, 10), rng.uniform(0.52, 0.62)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)[:, :, :, None] / side
    if name in PLAIN:
        picture = np.asarray(PLAIN[name], np.float32) + light + tilt * (y - 0.5)
    elif name == "meadow":
        ground = horizon + 0.03 * np.sin(6 * x + light)
        picture = _blend(y, ground, _fade(y, (120, 180, 240), (205, 230, 250)), _fade(y, (130, 200, 90), (60, 140, 50)))
    elif name == "beach":
        picture = _blend(
            y, horizon, _fade(y, (110, 200, 240), (220, 240, 250)), _fade(y, (20, 130, 180), (40, 160, 190))
        )
        picture = _blend(
            y, horizon + 0.14 + 0.02 * np.sin(5 * x + light), picture, _fade(y, (245, 225, 170), (225, 195, 130))
        )
    elif name == "snow":
        ground = horizon + 0.05 * np.sin(4 * x + light)
        picture = _blend(
            y, ground, _fade(y, (150, 170, 200), (200, 212, 228)), _fade(y, (250, 252, 255), (225, 235, 250))
        )
    elif name == "sunset":
        picture = _blend(
            y, horizon, _fade(y / 0.6, (90, 50, 120), (255, 150, 60)), _fade(y, (110, 50, 60), (40, 20, 40))
        )
    else:
        picture = _fade(y, (10, 12, 45), (45, 50, 110)) * np.ones_like(x)
        for row, column in STARS:
            row, column = row * side // 64, column * side // 64
            picture[row : row + side // 64, column : column + side // 64] = (190, 190, 180)
    return (np.broadcast_to(picture, (side, side, 3)) + 0.5).clip(0, 255).astype(np.uint8)


def _fade(y: NDArray[np.float32], top: tuple[int, int, int], bottom: tuple[int, int, int]) -> NDArray[np.float32]:
    """A vertical gradient; `y` runs from 0 at the top edge to 1 at the bottom."""
    y = y.clip(0, 1)
    return np.asarray((1 - y) * np.asarray(top) + y * np.asarray(bottom), np.float32)


def _blend(
    y: NDArray[np.float32],
    horizon: float | NDArray[np.floating],
    above: NDArray[np.float32],
    below: NDArray[np.float32],
) -> NDArray[np.float32]:
    """`above` over `below`, meeting at `horizon` across about one pixel of a 64-pixel picture."""
    share = np.asarray(((y - horizon) * 48 + 0.5).clip(0, 1), np.float32)
    return np.asarray((1 - share) * above + share * below, np.float32)
