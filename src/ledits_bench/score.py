"""What an edited scene is worth: whether it shows what was asked for, and what it did to everything else.

The eye is ledits.scenes.recognise, which knows the art and nothing of any editor. Pictures are (H W 3) uint8 and masks
(H W) bool; differences are in the 0..255 of the pictures.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ledits import scenes
from ledits.scenes import HEADS, SIDE, Mask, Picture, Placed, Scene
from ledits.scenes.recognise import (
    RENDERS,
    SEEN,
    about,
    background_of,
    dressed,
    is_drawn,
    recognise,
    style_of,
    wearing_of,
)
from ledits_bench.cases import Case

# The share of an object's difference from its background that may be left where it was taken away: half its strength.
LEFT = 0.25
# What kept pixels count for: nothing at 15 dB, where a scene can't be told from another, all at 35 dB, about what the
# bundled model's autoencoder does to any picture.
WORTHLESS_DB, PERFECT_DB = 15.0, 35.0


@dataclass(frozen=True)
class Score:
    """One edited picture against its case; None where a measure has nothing to be taken of."""

    success: bool  # all of `met`
    met: dict[str, bool]  # each thing asked for: "dog", "no cat", "cat wearing a bow", "beach", "pixel art"
    kept: bool | None  # the objects that had nothing to do with it are recognised where they were
    psnr_source: float | None  # outside the true mask, in dB, against the source ...
    psnr_rebuilt: float | None  # ... and against the source after the autoencoder alone
    ssim_source: float | None
    ssim_rebuilt: float | None
    worst_source: int | None
    worst_rebuilt: int | None
    iou: float | None  # of where the method acted with the true mask
    twin_rms: float  # root mean square difference of the whole picture from the twin

    @property
    def worth(self) -> float:
        """Success with its bystanders, times how well the rest was kept; tuning picks settings by it."""
        if not self.success or self.kept is False:
            return 0.0
        if self.psnr_rebuilt is None:
            return 1.0
        return float(np.clip((self.psnr_rebuilt - WORTHLESS_DB) / (PERFECT_DB - WORTHLESS_DB), 0, 1))


def score(case: Case, picture: Picture, rebuilt: Picture, acted: Mask | None) -> Score:
    """`picture` is a method's answer, `rebuilt` the source after the autoencoder, `acted` where the method acted."""
    side = len(picture)
    source, mask = case.source.render(side), case.mask(side)
    seen, clean = scene_behind(case, picture)
    met = {placed.name: _wanted(case, picture, clean, placed) for placed in case.wanted()}
    met |= {f"no {placed.name}": _gone(case, picture, clean, placed) for placed in case.gone()}
    if case.twin.background != case.source.background:
        met[case.twin.background] = seen == case.twin.background
    met |= {placed.words(): wearing_of(picture, clean, placed) == placed.wearing for placed in case.dressed()}
    if case.twin.style != case.source.style:
        met[case.twin.style] = style_of(picture, case.source) == case.twin.style
        kept = [is_drawn(picture, case.twin, i) for i in range(len(case.twin.objects))]
    else:
        kept = [_is(picture, clean, placed) for placed in case.kept()]
    there = bool((~mask).any())
    return Score(
        success=all(met.values()),
        met=met,
        kept=all(kept) if kept else None,
        psnr_source=psnr(picture, source, ~mask) if there else None,
        psnr_rebuilt=psnr(picture, rebuilt, ~mask) if there else None,
        ssim_source=ssim(picture, source, ~mask) if there else None,
        ssim_rebuilt=ssim(picture, rebuilt, ~mask) if there else None,
        worst_source=worst(picture, source, ~mask) if there else None,
        worst_rebuilt=worst(picture, rebuilt, ~mask) if there else None,
        # An addition may lie anywhere in its half, so there is no one place for its mask to be.
        iou=iou(acted, mask) if acted is not None and case.kind != "add" else None,
        twin_rms=float(np.sqrt(np.square(picture.astype(float) - case.twin.render(side)).mean())),
    )


def eye(scene: Scene) -> tuple[int, int]:
    """How many of a clean scene's objects, clothes and background (or style) the recogniser sees right, of how many."""
    picture, clean = scene.render(), scenes.background(scene.background, scene.seed)
    if scene.style:
        right = [is_drawn(picture, scene, i) for i in range(len(scene.objects))]
        right.append(style_of(picture, scene.draw("")) == scene.style)
        return sum(right), len(right)
    right = [_is(picture, clean, placed) for placed in scene.objects]
    right += [wearing_of(picture, clean, placed) == placed.wearing for placed in scene.objects if placed.name in HEADS]
    right.append(background_of(picture, _background(scene)) == scene.background)
    return sum(right), len(right)


def scene_behind(case: Case, picture: Picture) -> tuple[str, Picture]:
    """The name and a clean picture of the background behind the objects.

    Where the edit asks for another one, its light and horizon are the method's to choose: the nearest render counts.
    """
    side = len(picture)
    if case.twin.background == case.source.background:
        return case.source.background, scenes.background(case.source.background, case.source.seed, side)
    visible = _background(case.source, side) & _background(case.twin, side)
    seen = background_of(picture, visible)
    renders = [scenes.background(seen, case.twin.seed, side), *_renders(seen, side)]
    errors = [np.square(picture[visible].astype(float) - render[visible]).mean() for render in renders]
    return seen, renders[int(np.argmin(errors))]


@cache
def _renders(background: str, side: int) -> list[Picture]:
    return [scenes.background(background, seed, side) for seed in range(RENDERS)]


def _background(scene: Scene, side: int = SIDE) -> Mask:
    return ~scene.mask(Scene((), scene.background, scene.seed, scene.style), side)


def _is(picture: Picture, clean: Picture, placed: Placed) -> bool:
    if placed.wearing:
        found = recognise(picture, clean, near=placed, looks=dressed(placed.wearing), sizes=about(placed))[0]
    else:
        found = recognise(picture, clean, near=placed)[0]
    return found.name == placed.name and found.explained >= SEEN


def _wanted(case: Case, picture: Picture, clean: Picture, placed: Placed) -> bool:
    if case.kind != "add":
        return _is(picture, clean, placed)
    found = recognise(np.where(case.mask(len(picture))[..., None], picture, clean), clean)[0]
    return found.name == placed.name and found.explained >= SEEN


def _gone(case: Case, picture: Picture, clean: Picture, placed: Placed) -> bool:
    """Nothing is recognised there, and no shapeless rest either."""
    if recognise(picture, clean, near=placed)[0].explained >= SEEN:
        return False
    side = len(picture)
    place = ~_background(Scene((placed,), case.source.background, case.source.seed), side)
    bare = scenes.background(case.source.background, case.source.seed, side)
    before = case.source.render(side)[place] - bare[place] * 1.0
    after = picture[place] - clean[place] * 1.0
    return bool(np.square(after).sum() <= LEFT * np.square(before).sum())


def psnr(a: Picture, b: Picture, where: Mask) -> float:
    """Peak signal-to-noise ratio in dB over the pixels of `where`; equal pixels count as 88.1 dB, not infinity."""
    error = np.square(a[where].astype(float) - b[where]).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-4)))


def worst(a: Picture, b: Picture, where: Mask) -> int:
    """The largest difference of any channel over the pixels of `where`."""
    return int(np.abs(a[where].astype(int) - b[where]).max())


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = int((a | b).sum())
    return float((a & b).sum() / union) if union else 1.0


def ssim(a: Picture, b: Picture, where: Mask) -> float:
    """Mean structural similarity over the pixels of `where` (Wang et al. 2004; 7x7 windows, per channel).

    Pixels elsewhere are made equal first, so that a window across an edit's edge does not count what it may change.
    """
    x = a.astype(float)
    y = np.where(where[..., None], b, a).astype(float)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = _box(x), _box(y)
    vx, vy, vxy = _box(x * x) - mx * mx, _box(y * y) - my * my, _box(x * y) - mx * my
    similarity = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(similarity[where].mean())


def _box(values: NDArray[np.float64], size: int = 7) -> NDArray[np.float64]:
    """Means over size x size windows around every pixel, the edges reflected."""
    height, width = values.shape[:2]
    padded = np.pad(values, ((size // 2,) * 2, (size // 2,) * 2, (0, 0)), mode="reflect")
    # Down, then across: whole slices are added, where a mean over windows visits each number size * size times.
    down = np.sum([padded[k : k + height] for k in range(size)], axis=0)
    return np.sum([down[:, k : k + width] for k in range(size)], axis=0) / size**2
