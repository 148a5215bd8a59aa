"""Pictures whose captions are known: some of the small scenes that come with us, which are no photographs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ledits.scenes.samples import PAIR, SAMPLES, SIDE

_SHOWN = (PAIR, "cat", "gift", "tree", "rocket", "panda")  # alike in nothing: each caption is wrong of the others


@dataclass(frozen=True)
class Known:
    """A picture whose caption is known, at the model's own size."""

    rgb: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
    caption: str
    sides: tuple[str, str] | None = None  # a word for what is on the left, and one for what is on the right

    @classmethod
    def scenes(cls, side: int) -> "list[Known]":
        """Scenes that differ in all that their captions say; the first has a thing on the left and one on the right."""
        found = list[Known]()
        for name in _SHOWN:
            shown = SAMPLES[name]
            rgb = Image.fromarray(shown.render(SIDE)).resize((side, side), Image.Resampling.BICUBIC)
            sides = (shown.objects[0].name, shown.objects[1].name) if name == PAIR else None
            found.append(cls(np.asarray(rgb), shown.caption(), sides))
        return found

    def tensor(self) -> Tensor:
        """(3 H W) in -1..1."""
        return torch.from_numpy(self.rgb.copy()).permute(2, 0, 1).float() / 127.5 - 1


def stacked(pictures: Sequence[Known]) -> Tensor:
    """(b 3 H W) in -1..1."""
    return torch.stack([each.tensor() for each in pictures])
