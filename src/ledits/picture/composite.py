"""An edit laid onto the picture it came from: where no mask let anything through, not a bit of it changes.

A region that a person drew is a promise: nothing outside it moves, so that its edge is softened on its inner side.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from ledits.picture.frame import Frame

_VISIBLE = 24
"""Grey values of 255: from this change on, a pixel and its neighbours within 2 show something new."""


def weights(
    masks: Sequence[Tensor], frame: Frame, regions: Sequence[NDArray[np.float32] | None]
) -> NDArray[np.float32]:  # fmt: skip
    """How much of the edit each pixel of the original takes, (H W) in 0..1, of the masks (k h w) of all steps.

    1 where any mask was open at any step, falling to 0 over one cell of the latents around it, for the decoder carries
    what happens in a cell that far. `regions` has the region (H W) that was drawn for each of the k masks, None where
    there was none: beyond it the weight is 0, and on its inner side it falls to that over a quarter of a cell.
    """
    taken = np.zeros((frame.height, frame.width), np.float32)
    if not masks:
        return taken
    used = torch.stack(list(masks)).amax(0)
    # Those of one region together, and no region more than once: at 12 megapixels each costs a second.
    for region in {id(each): each for each in regions}.values():
        own = used[torch.tensor([each is region for each in regions])].amax(0)
        soft = spread(own, frame.padded_height, frame.padded_width)
        seen = soft[: frame.working_height, : frame.working_width].cpu().numpy()
        size = (frame.width, frame.height)
        weight = np.asarray(Image.fromarray(seen).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)
        if region is not None:
            cell = frame.padded_height / own.shape[0] * frame.height / frame.working_height
            weight = np.minimum(weight, within(region, round(cell / 8)))
        taken = np.maximum(taken, weight)
    return taken


def within(region: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """A region (H W) in 0..1 that falls to 0 over 2 * radius pixels on its inner side, and is nowhere above itself."""
    if radius < 1:
        return region
    shrunk = (_least(region, radius) * 255).round().astype(np.uint8)
    if not shrunk.any():  # nowhere so wide
        return region
    soft = np.asarray(Image.fromarray(shrunk).filter(ImageFilter.BoxBlur(radius))) / np.float32(255)
    return np.minimum(region, soft)


def _least(values: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """The least of all values within `radius` of each; the picture's border is no edge."""
    for axis in (0, 1):
        wide = np.pad(values, [(radius, radius) if k == axis else (0, 0) for k in (0, 1)], mode="edge")
        wide, reach = np.moveaxis(wide, axis, 0), 1  # how many values each one is the least of by now
        while reach < 2 * radius + 1:
            step = min(reach, 2 * radius + 1 - reach)
            wide, reach = np.minimum(wide[:-step], wide[step:]), reach + step
        values = np.moveaxis(wide, 0, axis)
    return values


def spread(used: Tensor, height: int, width: int) -> Tensor:
    """A mask of cells (h w) and one cell around it, falling to 0 there, over height x width pixels."""
    wide = F.max_pool2d(used.clamp(0, 1).float()[None, None], 3, stride=1, padding=1)
    return F.interpolate(wide, (height, width), mode="bilinear")[0, 0]


def onto(
    source: NDArray[np.uint8], edited: NDArray[np.uint8], rebuilt: NDArray[np.uint8], weight: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """The edited picture where weight (H W) is 1, the source where it is 0, all (H W 3).

    `rebuilt` is the source through the autoencoder: the detail that it lost is added again where the edit left the
    picture as it was. Where the edit drew something new, the old detail would be a ghost on it.
    """
    change = torch.from_numpy(np.abs(edited.astype(np.float32) - rebuilt).max(2))
    near = F.max_pool2d(change[None, None], 5, stride=1, padding=2)[0, 0].numpy()
    same = 1 - (near / _VISIBLE).clip(0, 1)
    restored = edited + same[..., None] * (source.astype(np.float32) - rebuilt)
    blended = source + weight[..., None] * (restored - source)
    return blended.round().clip(0, 255).astype(np.uint8)
