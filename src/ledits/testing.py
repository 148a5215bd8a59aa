"""A backbone for tests of your own code: every verb, an instant answer, no checkpoint, torch alone.

    from ledits import Editor
    from ledits.testing import ToyBackbone

    edited = Editor(ToyBackbone()).edit(picture, "+hat")

Its world is simple enough to be checked by hand. Latents are the picture's own pixels, so that nothing is lost between
picture and latents. Each word has a place and a colour, drawn from its letters; the "network" sees the colours of the
prompt's words in their places, and elsewhere the noisy picture itself, as far as its level lets it.
"""

import hashlib
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from ledits.backbones.schedule import from_config
from ledits.files.defaults import Defaults
from ledits.method.core import Prompt, Schedule

SCHEDULER = {"num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
DEFAULTS = Defaults(
    steps=4, described_scale=2.0, add_scale=5.0, add_threshold=0.75, remove_scale=5.0, remove_threshold=0.75,
    swap_new_scale=5.0, swap_new_threshold=0.75, swap_old_scale=5.0, swap_old_threshold=0.75,
)  # fmt: skip
LONGEST = 75  # words that a prompt may have
_CELL = 2  # pixels of a latent's side
_MAP = 2  # latents of a map cell's side


class ToyBackbone:
    """A `ledits.backbones.Backbone` without a network; `name` and `fingerprint` go into inversions and recipes."""

    multiple = _CELL * _MAP
    area = 64 * 64
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, name: str = "toy", *, defaults: Defaults = DEFAULTS) -> None:
        self.name, self.fingerprint = name, hashlib.sha256(name.encode()).hexdigest()[:32]
        self.defaults = defaults

    def schedule(self, steps: int, skip: float, height: int = 64, width: int = 64) -> Schedule:
        """The same for every size."""
        return from_config(SCHEDULER, steps, skip)

    def encode(self, images: Tensor) -> Tensor:
        """Pixels (b 3 H W) in -1..1 as latents (b 12 H/2 W/2), nothing lost."""
        return F.pixel_unshuffle(images.float(), _CELL)

    def decode(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x.float(), _CELL).clamp(-1, 1)

    @contextmanager
    def denoiser(
        self, schedule: Schedule, *, maps: bool, watch: Callable[[int], None] | None = None
    ) -> Generator["_Denoiser"]:
        yield _Denoiser(schedule, maps, watch)


class _Denoiser:
    """`core.Denoiser` in closed form."""

    def __init__(self, schedule: Schedule, maps: bool, watch: Callable[[int], None] | None) -> None:
        self.evaluations, self.precision = 0, 2**-17
        self._schedule, self._maps, self._watch = schedule, maps, watch

    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        s, b = self._schedule, x.shape[1]
        clean, maps = list[Tensor](), list[Tensor]()
        for prompt in prompts:
            texts = prompt if isinstance(prompt, tuple) else (prompt,) * b
            seen = [_seen(str(text), x.shape[-3:]) for text in texts]
            painted, place = (torch.stack(part) for part in zip(*seen, strict=True))
            # Of a picture whose pixels are unit Gaussians, alpha x / (alpha^2 + sigma^2) is the mean; what noise hides
            # of it, the words fill in.
            at = [
                s.alpha[i] * x[j] / (s.alpha[i] ** 2 + s.sigma[i] ** 2) + s.sigma[i] * painted
                for j, i in enumerate(levels)
            ]
            clean.append(torch.stack(at))
            maps.append(F.avg_pool2d(place, _MAP).expand(len(levels), *(-1,) * 3))
        self.evaluations += len(prompts) * len(levels) * b
        if self._watch is not None:
            self._watch(self.evaluations)
        return torch.stack(clean), torch.stack(maps) if self._maps else None


def _seen(text: str, shape: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The colours (c h w) of a text's words in their places, and how much of each place they take (h w) in 0..1."""
    words = text.replace(",", " ").split()
    if len(words) > LONGEST:
        raise ValueError(f"prompt {text!r} has {len(words)} words and the model reads {LONGEST}: shorten it")
    c, h, w = shape
    painted, left = torch.zeros(c, h, w), torch.ones(h, w)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, h), torch.linspace(0, 1, w), indexing="ij")
    for word in words:
        drawn = hashlib.sha256(word.encode()).digest()
        y, x = drawn[0] / 255, drawn[1] / 255
        place = 0.8 * torch.exp(-((rows - y).square() + (columns - x).square()) / (2 * 0.15**2))
        colour = torch.tensor([math.cos(byte) for byte in drawn[2 : 2 + c]])
        painted = painted + place * colour.view(-1, 1, 1)
        left = left * (1 - place)
    return painted, 1 - left
