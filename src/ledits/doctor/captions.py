"""Whether a network is told what its pictures show: whether each caption explains its own picture.

Some pictures are noised, and the network sees each of them with its own caption, with those of the others, and with
none. Where text and network belong together, captions leave less unknown than none do, and of all the ways to deal
them out among the pictures the right one is about the best. Where words mean something else to the network than to the
text encoder, the right way is any of them, and captions mislead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import factorial

import torch
from torch import Tensor

from ledits.backbones.network import NetworkBackbone
from ledits.doctor.known import Known
from ledits.doctor.readings import Reading, at, noised, read_as

_RATIOS = (0.7, 0.3)  # of alpha to sigma: with less noise a picture speaks for itself
# Of all ways to deal captions out the share that may be better than the right one, where text and network belong
# together; and the share from which on the right one is like any other.
_RIGHT, _CHANCE = 0.01, 0.05


@dataclass(frozen=True)
class Told:
    """What captions do for their pictures."""

    gain: float  # of what is left unknown without a caption, the share that a picture's own takes away
    better: float  # of other ways to deal the captions out, the share that explains the pictures better
    moved: float  # how far captions change what is seen, over what is seen

    @property
    def deaf(self) -> bool:
        return self.moved < 1e-4

    @property
    def right(self) -> bool:
        return self.gain > 0 and self.better <= _RIGHT

    @property
    def wrong(self) -> bool:
        return self.deaf or self.better > (_CHANCE if self.gain > 0 else _RIGHT)


def ask(backbone: NetworkBackbone, x0: Tensor, pictures: Sequence[Known], reading: Reading) -> Told:
    """What the captions of pictures do for them; x0 (b c h w) are their latents."""
    schedule, x0 = at(reading, _RATIOS), reading.size * x0
    said = ["", *(each.caption for each in pictures)]
    with read_as(backbone, reading), backbone.denoiser(schedule, maps=False) as denoise:
        seen = denoise(noised(x0, schedule, 1), range(len(schedule)), said)[0]  # (texts n b c h w)
    errors = (seen - x0).square().flatten(3).mean(-1)
    shares = (errors / errors[0]).mean(1)  # of what is left without a caption; (texts b)
    table = shares[1:].T  # (pictures, captions)
    count = len(pictures)
    right = float(table.trace())
    ways = [sum(float(table[i, way[i]]) for i in range(count)) for way in permutations(range(count))]
    better = sum(way < right for way in ways) / max(1, factorial(count) - 1)
    moved = float((seen[1:] - seen[0]).norm() / (seen[0].norm() * count**0.5 + torch.finfo(torch.float32).tiny))
    return Told(1 - right / count, better, moved)
