"""An edit laid onto the picture it came from: where no mask let anything through, not a bit of it changes."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ledits.picture.frame import Frame

_VISIBLE = 24
"""Grey values of 255: from this change on, a pixel and its neighbours within 2 show something new."""


def weights(masks: Sequence[Tensor], frame: Frame) -> NDArray[np.float32]:
    """How much of the edit each pixel of the original takes, (H W) in 0..1, of the masks (k h w) of all steps.

    1 where any mask was open at any step, falling to 0 over one cell of the latents around it, for the decoder carries
    what happens in a cell that far.
    """
    if not masks:
        return np.zeros((frame.height, frame.width), np.float32)
    soft = spread(torch.stack(list(masks)).amax((0, 1)), frame.padded_height, frame.padded_width)
    seen = soft[: frame.working_height, : frame.working_width].cpu().numpy()
    size = (frame.width, frame.height)
    return np.asarray(Image.fromarray(seen).resize(size, Image.Resampling.BILINEAR)).clip(0, 1)


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
