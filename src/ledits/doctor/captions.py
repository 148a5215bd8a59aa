"""Whether a network is told what its pictures show: whether each caption explains its own picture.

Some pictures are noised, and the network sees each of them with its own caption, with those of some others, and with
none. Where text and network belong together, nearly every picture is explained best by its own, and captions leave less
unknown than none do. Where words mean something else to the network than to the text encoder, a picture's own caption
is as good as any other's.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from ledits.backbones.network import NetworkBackbone
from ledits.doctor.known import Known
from ledits.doctor.readings import Reading, at, noised, read_as

_RATIOS = (0.7, 0.3)  # of alpha to sigma: with less noise a picture speaks for itself
_FURTHER = (1, 2, 5)  # pictures on, whose captions each picture is seen with too
# Shares of pictures that their own caption explains best of these four. By chance it is a quarter of them; of twelve,
# more than the second in 1 of 70 models, and the first in 1 of 2,500.
_RIGHT, _CHANCE = 0.7, 0.55


@dataclass(frozen=True)
class Told:
    """What captions do for their pictures."""

    best: float  # share of pictures that their own caption explains best
    gain: float  # of what is left unknown without a caption, the share that a picture's own takes away
    moved: float  # how far captions change what is seen, over what is seen

    @property
    def deaf(self) -> bool:
        return self.moved < 1e-4

    @property
    def right(self) -> bool:
        return self.gain > 0 and self.best >= _RIGHT

    @property
    def wrong(self) -> bool:
        return self.deaf or self.best < (_CHANCE if self.gain > 0 else _RIGHT)


def ask(
    backbone: NetworkBackbone, x0: Tensor, pictures: Sequence[Known], reading: Reading, *, only: str = ""
) -> Told:  # fmt: skip
    """What the captions of pictures do for them; x0 (b c h w) are their latents. `only` one of several text encoders is
    told them, the others of nothing.
    """
    schedule, x0 = at(reading, _RATIOS), reading.size * x0
    with _deaf(backbone, but=only) if only else nullcontext():
        texts = [backbone.prompts.embed(each.caption) for each in pictures]
    dealt = [tuple(texts[(k + by) % len(texts)] for k in range(len(texts))) for by in (0, *_FURTHER)]
    with read_as(backbone, reading), backbone.denoiser(schedule, maps=False) as denoise:
        seen = denoise(noised(x0, schedule, 1), range(len(schedule)), ["", *dealt])[0]  # (ways n b c h w)
    errors = (seen - x0).square().flatten(3).mean(-1)
    shares = (errors / errors[0]).mean(1)[1:]  # of what is left without a caption; (ways b)
    best = mean(float(each) for each in shares.argmin(0) == 0)
    moved = float((seen[1:] - seen[0]).norm() / (seen[0].norm() * len(dealt) ** 0.5 + torch.finfo(torch.float32).tiny))
    return Told(best, 1 - float(shares[0].mean()), moved)


def misled(backbone: NetworkBackbone, x0: Tensor, pictures: Sequence[Known], reading: Reading) -> str:
    """Which of several text encoders says nothing of the pictures when it alone is told their captions, while another
    one does; "" where there is none.
    """
    names = _encoders(backbone)
    if len(names) < 2:
        return ""
    best = {name: ask(backbone, x0, pictures, reading, only=name).best for name in names}
    worst = min(names, key=lambda name: best[name])
    return worst if best[worst] < _CHANCE <= max(best.values()) else ""


def _encoders(backbone: NetworkBackbone) -> dict[str, torch.nn.Module]:
    parts = backbone.made_of[1] if backbone.made_of else {}
    return {n: each for n, each in parts.items() if n.startswith("text_encoder") and isinstance(each, torch.nn.Module)}


@contextmanager
def _deaf(backbone: NetworkBackbone, but: str) -> Generator[None]:
    """While all text encoders but one answer as to the empty prompt, whatever they are told."""
    others = [each for name, each in _encoders(backbone).items() if name != but]
    empty = dict[torch.nn.Module, Any]()
    hooks = [each.register_forward_hook(lambda module, _, out: empty.setdefault(module, out)) for each in others]
    try:
        backbone.prompts.embed("")
        yield
    finally:
        for hook in hooks:
            hook.remove()
