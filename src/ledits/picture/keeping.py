"""What another editor changed by accident goes back: its result laid onto the original where it was meant to change.

    keep("photo.jpg", "edited.png").save("kept.png")

Editors that draw the whole picture anew move it by a pixel, scale it, tint it, and redraw what nobody asked for. The
result is brought into line with the original (`picture.align`), what changed on purpose is found, or a mask says it,
and only that is taken over, with soft edges inside. Outside, every bit is the original's. No model, and no torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ledits.asked import regions
from ledits.picture import align, image
from ledits.picture.align import Colours, Floats, Place

_FINEST = 2048  # pixels of the longer side at which changes are looked for
# In standard deviations of what fits: from here on a neighbourhood has changed, and, beside one, a pixel. The second
# pair is for pictures that an editor has drawn anew, in which whole things are to be found, and not every pixel.
_SURE, _LIKELY = (5.0, 4.0), (2.5, 1.7)
_SEEN = 6 / 255  # no smaller change is one that somebody wanted
_NO_BETTER = 1.15
_ASPECT = 0.03  # by how much the shapes of the two pictures may differ


@dataclass(frozen=True, eq=False)
class Kept:
    """The original with the change, and how it was found."""

    rgb: NDArray[np.uint8]  # (H W 3)
    alpha: NDArray[np.uint8] | None  # the original's
    weight: Floats  # (H W): how much of the other picture each pixel is, 0 to 1
    place: Place  # where the original lay in the other picture

    @property
    def image(self) -> Image.Image:
        """The result, with the original's alpha."""
        return Image.fromarray(self.rgb if self.alpha is None else np.dstack([self.rgb, self.alpha]))

    @property
    def mask(self) -> Image.Image:
        """Where the change is: greyscale, white is the other picture."""
        return Image.fromarray((self.weight * 255).round().astype(np.uint8))

    @property
    def share(self) -> float:
        """The share of the picture that changed, 0 to 1."""
        return float((self.weight > 0).mean())

    @property
    def shift(self) -> tuple[float, float]:
        """By how many of the original's pixels the other picture's centre had moved, to the right and down."""
        (height, width), at = self.weight.shape, self.place
        return (
            (at.left + at.width / 2 - 0.5) * width / at.width,
            (at.top + at.height / 2 - 0.5) * height / at.height,
        )

    @property
    def scale(self) -> tuple[float, float]:
        """By how much it had been enlarged, in width and in height, apart from its number of pixels."""
        return self.place.width, self.place.height

    def save(self, path: Path | str, *, overwrite: bool = False) -> None:
        """Write the result; the ending names the format. ValueError where it can't be written."""
        image.write(Path(path), self.rgb, self.alpha, overwrite=overwrite)


def keep(before: Any, after: Any, mask: Any = None) -> Kept:
    """`before` with what changed on purpose in `after`; both are pictures of any kind that `ledits.edit` takes.

    `mask` says where it may change: a mask of `before`'s size, white is open, or a box (left, top, width, height); None
    finds it. Raises ValueError, one sentence, where the two don't show the same picture.
    """
    original, other = image.take(before), image.take(after)
    height, width, _ = original.rgb.shape
    rows, columns, _ = other.rgb.shape
    if abs(np.log((columns / rows) / (width / height))) > _ASPECT:
        raise ValueError(
            f"the edited picture is {columns}x{rows} pixels and the original {width}x{height}, of another shape: "
            "crop it as the original is"
        )
    given = None if mask is None else regions.mask_of(mask, width, height)
    if given is not None and not given.any():
        raise ValueError("the mask is black everywhere, so nothing could change: paint white where it may")
    first, second = _floats(original.rgb), _floats(other.rgb)
    # At the coarser one's number of pixels: finer detail is in one of them alone, and is no change.
    shrink = min(1.0, columns / width, _FINEST / max(width, height))
    size = max(8, round(width * shrink)), max(8, round(height * shrink))
    coarse = first if shrink == 1 else align.taken(first, align.WHOLE, *size)
    region = weight = None if given is None else _soft(_scaled(given, size) > 0.5, grow=False)
    at, tint, laid = align.place(first, second), align.SAME, coarse
    # Place and colours are known better once what changed is left out of them.
    for _ in range(3):
        laid = align.taken(second, at, *size)
        tint = align.colours(coarse, laid, None if region is None else region > 0)
        if given is None:
            region = weight = _found(coarse, laid, tint, align.covered(at, size, other.rgb.shape))
        at = align.place(first, second, at, tint, region)
    # Where little is left to go by, a drift that explains no more than none does is none.
    if _misfit(coarse, second, align.WHOLE, region) < _NO_BETTER * _misfit(coarse, second, at, region) + 1e-6:
        at = align.WHOLE
        laid = align.taken(second, at, *size)
        tint = align.colours(coarse, laid, None if region is None else region > 0)
        if given is None:
            weight = _found(coarse, laid, tint, align.covered(at, size, other.rgb.shape))
    assert weight is not None
    if given is not None and not weight.any():
        raise ValueError("the mask is too thin to have soft edges inside: paint it some pixels wider")
    apart, plain = _size(_apart(coarse, tint(laid), align.SAME)), np.sqrt(((coarse - coarse.mean((0, 1))) ** 2).mean(2))
    if given is None and np.median(apart) > max(0.5 * float(np.median(plain)), _SEEN):
        raise ValueError(
            "the two pictures don't lie on each other: pass the original first, then what was made of it, or give a "
            "mask of what may change"
        )
    if (weight > 0).mean() > 0.9 and given is None:
        raise ValueError(
            f"{(weight > 0).mean():.0%} of the picture changed, so there is nothing to keep: give a mask of what may "
            "change"
        )
    weight = _scaled(weight, (width, height)).clip(0, 1) if shrink < 1 else weight
    weight = weight if given is None else np.minimum(weight, given)
    mixed = first + weight[..., None] * (tint(align.taken(second, at, width, height)) - first)
    return Kept((mixed * 255).round().clip(0, 255).astype(np.uint8), original.alpha, weight, at)


def _found(before: Floats, after: Floats, tint: Colours, covered: NDArray[np.bool_]) -> Floats:
    """How much of `after`, which lies on `before`, each pixel takes: what changed on purpose (H W) in 0..1."""
    apart = np.where(covered[..., None], _apart(before, after, tint), 0)
    residual = _size(apart)
    # Where all else fits to a grey value or two the edge of a change is known to the pixel. Where an editor has drawn
    # everything anew it isn't, and a seam would show.
    unsure = float(((np.quantile(residual, 0.75) * 255 - 2.2) / 2).clip(0, 1))
    changed = _changed(apart, np.minimum(_most(_slope(before)), 2 * _most(_slope(tint(after)))), unsure) & covered
    return (((1 - unsure) * changed + unsure * _soft(changed, grow=True)) * covered).astype(np.float32)


def _misfit(before: Floats, after: Floats, at: Place, region: Floats | None) -> float:
    """How badly the edges of the two pictures fit where `after` lies at a place, outside of what changed."""
    height, width, _ = before.shape
    laid = align.taken(after, at, width, height)
    tint = align.colours(before, laid, None if region is None else region > 0)
    slope = _slope(before) if region is None else np.where(region > 0, 0, _slope(before))
    steep = slope >= max(float(np.quantile(slope, 0.9)), 1e-6)
    return float(np.median(_size(_apart(before, laid, tint))[steep])) if steep.any() else 0.0


def _apart(before: Floats, after: Floats, tint: Colours) -> Floats:
    """How far the colours of the two are apart (H W 3), but for what may be so because they were cut off."""
    apart = tint(after) - before
    cut = align.clipped(after) & ((apart < 0) == (after > 0.5))
    return np.where(cut, 0, apart)


def _size(apart: Floats) -> Floats:
    """Root mean square of the channels (H W)."""
    return np.sqrt((apart**2).mean(2))


def _changed(apart: Floats, slope: Floats, unsure: float) -> NDArray[np.bool_]:
    """Where two pictures differ, by (H W 3), more than they do where they fit.

    Of what fits, edges differ most: a pixel's place is known no better there than anywhere. `slope` is how steep they
    are, `unsure` from 0 to 1 how much an editor drew anew.
    """
    # Resampled once more, a sharp edge gets too bright on one side and too dark on the other: blurred, that is gone.
    smooth, residual = _size(align.blurred(apart)), _size(apart)
    very, rather = (exact + unsure * (anew - exact) for exact, anew in (_SURE, _LIKELY))
    usual, steep = np.median(residual), slope > np.quantile(slope, 0.75)
    floor = max(1.4826 * float(usual), 1 / 255)
    # Of what is steep much may have changed: the better quarter says how far from its place a pixel is.
    off = smooth[steep] / np.maximum(slope[steep], 1e-6) if steep.any() else np.zeros(1)
    share = min(4 * float(np.quantile(off, 0.25)), 0.5)
    surprise = (smooth / np.sqrt(floor**2 + (share * slope) ** 2)).astype(np.float32)
    side = max(residual.shape)
    near = max(1, round(side / 256))
    sure = (_blurred(surprise, 2 * near) > very) & (_blurred(smooth, 2 * near) > _SEEN)
    if not sure.any():
        return sure
    likely = (_blurred(surprise, max(1, near // 2)) > rather) & (residual > _SEEN / 2)
    changed = _spread(likely & _spread(sure, 6 * near), near)
    # Resampling draws a sharp edge over a pixel or two. At the rim, what differs by much less than its neighbours do
    # lies outside.
    rim, most = _spread(~changed, near + 6), residual
    for _ in range(near + 3):
        most = _most(most)
    own = likely & (residual > 0.17 * most)
    own &= ~_spread(~own, 1) | (residual > 0.4 * _most(residual))
    within = changed & (~rim | own)
    # What the new thing has in common with the old one, within it, is part of it.
    return _filled(_closed(within, near + round(unsure * side / 40)))


def _soft(changed: NDArray[np.bool_], *, grow: bool) -> Floats:
    """A weight that is 0 outside of what changed and rises to 1 within; `grow`: within a rim around it."""
    rim = max(1, round(max(changed.shape) / 500))
    if grow:
        changed = _spread(changed, 2 * rim)
    inner = ~_spread(~changed, rim)
    soft = _blurred(inner.astype(np.float32), rim)
    return np.where(changed, soft, 0).astype(np.float32)


def _slope(rgb: Floats) -> Floats:
    dy, dx = np.gradient(rgb.mean(2))
    return np.hypot(dx, dy)


def _most(values: Floats) -> Floats:
    """The largest of the 3 x 3 values around each."""
    padded = np.pad(values, 1, mode="edge")
    across = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])


def _spread(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """A mask and what lies within `radius` pixels of it, in rows and columns."""
    return _blurred(mask.astype(np.float32), radius) > 1e-4 / (2 * radius + 1) ** 2 if radius else mask


def _closed(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """A mask with its gaps filled that are no wider than twice `radius`."""
    height, width = mask.shape
    return ~_spread(~_spread(np.pad(mask, radius), radius), radius)[radius : radius + height, radius : radius + width]


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask with its holes: what no way that is free of it joins to the picture's edge."""
    free = Image.fromarray(np.pad(np.where(mask, 0, 255).astype(np.uint8), 1, constant_values=255)).copy()
    ImageDraw.floodfill(free, (0, 0), 128)
    return np.asarray(free)[1:-1, 1:-1] != 128


def _blurred(values: Floats, radius: int) -> Floats:
    """The mean of the square of 2 radius + 1 pixels around each; the edge repeats."""
    for axis in (0, 1):
        padding = [(radius + 1, radius) if axis == k else (0, 0) for k in (0, 1)]
        sums = np.pad(values.astype(np.float64), padding, mode="edge").cumsum(axis)
        lengths = values.shape[axis]
        values = (
            (sums.take(range(2 * radius + 1, 2 * radius + 1 + lengths), axis) - sums.take(range(lengths), axis))
            / (2 * radius + 1)
        ).astype(np.float32)
    return values


def _scaled(mask: Floats, size: tuple[int, int]) -> Floats:
    return np.asarray(Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))


def _floats(rgb: NDArray[np.uint8]) -> Floats:
    return rgb.astype(np.float32) / np.float32(255)
