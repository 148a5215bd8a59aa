"""An independent eye for scenes: which object, worn thing, background and style explains a picture best.

Nothing here is learned. Every object is painted on the known clean background at every place and size, and the winner
is the one that takes away most of the picture's squared difference from that background. Painting the wrong thing costs
as much as leaving the right thing out, so a small object cannot win by hiding in a flat part of a larger one, and a
ghost at less than half its strength does not count as the object. Styles do not add up like paint: there the whole
scene is drawn with every answer, and the nearest picture wins.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ledits.scenes import (
    ACCESSORIES,
    BACKGROUNDS,
    COLOURED,
    HEADS,
    OBJECTS,
    ROOM,
    SIDE,
    SIZES,
    Mask,
    Picture,
    Placed,
    Scene,
    background,
    sprite,
)
from ledits.scenes.style import STYLES

# An object that explains a smaller share of the difference than this is not there.
SEEN = 0.3
# How far from a known place an object's centre is looked for, and how far past the object's edge the picture is taken
# into account (a pair's other object begins about there), in 1/64 of the picture's side.
REACH, RIM = 8, 3
# Renders of each background that are compared, and the squared difference at which a pixel counts as plainly wrong:
# past it, what an edit left behind would outweigh the rest.
RENDERS, WRONG = 12, 60.0**2


class Found(NamedTuple):
    """An object where it fits best: centre and longer side in 1/64 of the picture's side, and the share it explains.

    `explained` is 1 for a perfect picture of this object alone, 0 where painting it would only make matters worse.
    """

    name: str
    x: int
    y: int
    size: int
    explained: float
    wearing: str = ""


# What may be looked for: an object and what it wears, "" for nothing.
Look = tuple[str, str]
BARE: tuple[Look, ...] = tuple((name, "") for name in OBJECTS)


class _Kernels(NamedTuple):
    """Every look at every size, in the order of `keys`, as correlation kernels of a `side` x `side` picture."""

    keys: list[tuple[Look, int]]
    spectra: NDArray[np.complex64]  # (k, 8, side, side // 2 + 1), conjugated: 2aT, -2a, 2aaT, -aa
    energy: NDArray[np.float32]  # (k): the sum of (aT)^2
    shape: NDArray[np.int64]  # (2, k): height and width in pixels
    centre: NDArray[np.float64]  # (2, k): of the object, from the top left corner of it and what it wears


def recognise(
    picture: Picture,
    background: Picture,
    *,
    near: Placed | None = None,
    looks: tuple[Look, ...] = BARE,
    sizes: Sequence[int] = range(min(SIZES[3]), max(SIZES[1]) + 1, 2),
) -> list[Found]:
    """Looks by how well they explain the picture, best first; each once, at its best place and size.

    `near` asks what is at a known place: only centres close to it count, and only the picture around it, up to the top
    of a hat where `looks` has hats. Pictures of twice the scenes' own side, or more, are looked at at that side.
    """
    picture, background = _small(picture), _small(background)
    side = len(picture)
    if picture.shape != (side, side, 3) or background.shape != picture.shape:
        raise ValueError(f"Picture and background must be equal squares, not {picture.shape} and {background.shape}.")
    if not sizes or min(sizes) < 1 or max(sizes) > SIDE:
        raise ValueError(f"Sizes must lie in 1..{SIDE}, not {list(sizes)}.")
    kernels = _kernels(side, tuple(sizes), looks)
    clean = background.astype(np.float32)
    rest = picture.astype(np.float32) - clean
    # The light may have shifted as a whole; objects cover less than half of any scene.
    rest -= np.median(rest, axis=(0, 1))
    pixels = np.arange(side)
    first = pixels * np.ones((2, len(kernels.keys), 1))  # top and left edge of a kernel, for each place
    allowed = first <= side - kernels.shape[..., None]
    if near is not None:
        middle = np.array([[near.y], [near.x]]) * side / SIDE
        reach = (near.size / 2 + RIM) * side / SIDE
        window = np.abs(pixels + 0.5 - middle) <= reach
        if any(wearing for _, wearing in looks):
            window[0] |= (pixels < middle[0]) & (pixels + 0.5 >= middle[0] - (ROOM * near.size + RIM) * side / SIDE)
        rest *= (window[0][:, None] & window[1])[..., None]
        allowed &= np.abs(first + kernels.centre[..., None] - middle[..., None]) <= REACH * side / SIDE

    # |rest|^2 - |rest - a (T - B)|^2, expanded so that each term is a fixed kernel against one channel of the picture.
    product, square = (rest * clean).sum(-1, keepdims=True), (clean**2).sum(-1, keepdims=True)
    channels = np.concatenate([rest, product, clean, square], axis=-1)
    spectrum = np.fft.rfft2(channels, axes=(0, 1)).astype(np.complex64).transpose(2, 0, 1)
    gain = np.fft.irfft2(np.einsum("kcij,cij->kij", kernels.spectra, spectrum), s=(side, side))
    gain -= kernels.energy[:, None, None]
    gain[~(allowed[0][:, :, None] & allowed[1][:, None, :])] = -np.inf

    total = float((rest**2).sum()) or 1.0
    gain = gain.reshape(len(kernels.keys), -1)
    best = gain.max(-1)
    found: dict[Look, Found] = {}
    for k in map(int, np.argsort(-best)):
        look, size = kernels.keys[k]
        if look in found or best[k] == -np.inf:
            continue
        top, left = divmod(int(gain[k].argmax()), side)
        y, x = ((top, left) + kernels.centre[:, k]) * SIDE / side
        found[look] = Found(look[0], round(x), round(y), size, max(0.0, float(best[k]) / total), look[1])
    if not found:
        raise ValueError(f"No object of the sizes {list(sizes)} fits into the picture near {near}.")
    return list(found.values())


def wearing_of(picture: Picture, background: Picture, placed: Placed) -> str:
    """What the animal at a known place wears, of ACCESSORIES, or ""."""
    looks = tuple((placed.name, wearing) for wearing in ("", *ACCESSORIES))
    return recognise(picture, background, near=placed, looks=looks, sizes=about(placed))[0].wearing


def about(placed: Placed) -> range:
    """The sizes in which an object of a known size is looked for."""
    return range(placed.size - 2, placed.size + 3, 2)


def dressed(wearing: str) -> tuple[Look, ...]:
    """Every object, with `wearing` on those that can wear it."""
    return tuple((name, wearing if name in HEADS else "") for name in OBJECTS)


def style_of(picture: Picture, scene: Scene) -> str:
    """The style, of STYLES or "", in which a known scene looks most like the picture."""
    return min(("", *STYLES), key=lambda style: _distance(picture, scene.draw(style)))


def is_drawn(picture: Picture, scene: Scene, index: int) -> bool:
    """Whether an object of a known scene, whatever its style, is what the picture shows in its place.

    Every other object is drawn there in turn, and none. Where there are no colours those that differ in colour alone
    count as one.
    """
    placed = scene.objects[index]
    look = (np.abs(np.arange(SIDE) + 0.5 - np.array([[placed.y], [placed.x]])) <= placed.size / 2 + RIM).astype(bool)
    window = look[0][:, None] & look[1]
    small = _small(picture)
    alike = next((row for row in COLOURED if placed.name in row and scene.style in STYLES[:2]), (placed.name,))
    answers = {name: scene.swap(index, name) for name in OBJECTS if name not in alike or name == placed.name}
    answers[""] = scene.remove(index)
    best = min(answers, key=lambda name: _distance(small, answers[name], window))
    return best == placed.name


def _distance(picture: Picture, scene: Scene, window: Mask | None = None) -> float:
    """Mean squared difference from a scene, whatever light shifts as a whole; plainly wrong counts as just wrong."""
    difference = picture.astype(np.float32) - scene.render(len(picture))
    difference -= np.median(difference, axis=(0, 1)).clip(-8, 8)
    wrong = np.minimum(difference**2, WRONG).mean(-1)
    return float(wrong.mean() if window is None else wrong[window].mean())


def _small(picture: Picture) -> Picture:
    """A picture of n times the scenes' own side at that side, by means."""
    side = len(picture)
    if side <= SIDE or side % SIDE or picture.shape != (side, side, 3):
        return picture
    n = side // SIDE
    return (picture.reshape(SIDE, n, SIDE, n, 3).mean((1, 3)) + 0.5).astype(np.uint8)


def background_of(picture: Picture, mask: Mask) -> str:
    """The background, of BACKGROUNDS, that the pixels under `mask` look most like."""
    if mask.shape != picture.shape[:2] or not mask.any():
        raise ValueError("The mask must have the picture's height and width, and at least one pixel in it.")
    difference = picture[mask].astype(np.float32) - _backgrounds(len(picture))[:, :, mask]
    # Light between that of the renders: the same for all pixels and colours, never enough to turn gray into white.
    difference -= np.median(difference.mean(-1), axis=-1).clip(-8, 8)[..., None, None]
    distance = np.minimum((difference**2).mean(-1), WRONG).mean(-1)
    return BACKGROUNDS[int(distance.min(1).argmin())]


@cache
def _backgrounds(side: int) -> Picture:
    """Each of BACKGROUNDS under several lights and horizons, (n, RENDERS, side, side, 3)."""
    return np.array([[background(name, seed, side) for seed in range(RENDERS)] for name in BACKGROUNDS])


@cache
def _kernels(side: int, sizes: tuple[int, ...], looks: tuple[Look, ...]) -> _Kernels:
    keys = [(look, size) for look in looks for size in sizes]
    spectra = np.empty((len(keys), 8, side, side // 2 + 1), np.complex64)
    energy = np.empty(len(keys), np.float32)
    shape, centre = np.empty((2, len(keys)), np.int64), np.empty((2, len(keys)))
    for k, ((name, wearing), size) in enumerate(keys):
        colour, opacity, centre[:, k] = sprite(name, size, wearing, side)
        shape[:, k] = opacity.shape
        a = opacity[..., None]
        painted = a * colour
        energy[k] = (painted**2).sum()
        stack = np.concatenate([2 * painted, -2 * a, 2 * a * painted, -(a**2)], axis=-1)
        spectra[k] = np.fft.rfft2(stack, s=(side, side), axes=(0, 1)).conj().transpose(2, 0, 1)
    return _Kernels(keys, spectra, energy, shape, centre)
