"""Scenes for training on captions as people write them: some show several of a kind, some show sizes that have a name.

`sample` draws what the benchmark asks about, and its draws are fixed. What "two stars" and "a small cat" need comes
from here.
"""

import numpy as np

from ledits import scenes
from ledits.scenes import BACKGROUNDS, OBJECTS, Placed, Scene

# Shares of scenes with several of a kind, and of scenes with a size that is plainly big or small.
OF_A_KIND, SIZED = 0.12, 0.13
# Longer sides, in 1/64 of the picture's side, of what is plainly big or small: alone, and beside another.
BIG, SMALL, BIG_BESIDE = range(40, 45, 2), range(16, 21, 2), range(34, 39, 2)


def sample(rng: np.random.Generator, count: int, *, held_out: bool = False) -> Scene:
    """A scene of `count` objects, not dressed yet; see `scenes.sample` for `held_out`."""
    kind = rng.random()
    while True:
        if kind < OF_A_KIND and count > 1:
            scene = _of_a_kind(rng, count)
        elif kind > 1 - SIZED and count in (1, 2):
            scene = _sized(rng, count)
        else:
            return scenes.sample(rng, count, held_out=held_out)
        if has_held_out_pair(scene) == held_out:
            return scene


def has_held_out_pair(scene: Scene) -> bool:
    """Whether training never shows two of the scene's objects together, or one on its background."""
    names = [placed.name for placed in scene.objects]
    return any(scenes.held_out_pair(a, b) for i, a in enumerate(names) for b in (*names[i + 1 :], scene.background))


def _of_a_kind(rng: np.random.Generator, count: int) -> Scene:
    """Two of a kind, three of a kind, or two of a kind and something else."""
    one, other = (OBJECTS[i] for i in rng.permutation(len(OBJECTS))[:2])
    names = [one] * count if count == 2 or rng.random() < 0.4 else [one, one, other]
    return Scene(scenes.layout(rng, names), _background(rng), int(rng.integers(2**31)))


def _sized(rng: np.random.Generator, count: int) -> Scene:
    """One big or small object, or a big one beside a small one."""
    names = [OBJECTS[i] for i in rng.permutation(len(OBJECTS))[:count]]
    if count == 1:
        size = int(rng.choice(BIG if rng.random() < 0.5 else SMALL))
        placed = [Placed(names[0], round(rng.uniform(size / 2 + 2, 62 - size / 2)), _height(rng, size), size)]
    else:
        sizes = int(rng.choice(BIG_BESIDE)), int(rng.choice(SMALL))
        # The room that both leave free goes to the left edge, between them and to the right edge.
        gaps = rng.dirichlet((1, 1, 1)) * (64 - sum(sizes) - 2)
        first, second = rng.permutation(2)
        x = 1 + gaps[0] + sizes[first] / 2
        beside = x + sizes[first] / 2 + gaps[1] + sizes[second] / 2
        placed = [
            Placed(names[i], round(at), _height(rng, sizes[i]), sizes[i]) for i, at in ((first, x), (second, beside))
        ]
    return Scene(tuple(placed), _background(rng), int(rng.integers(2**31)))


def _height(rng: np.random.Generator, size: int) -> int:
    return round(rng.uniform(size / 2 + 4, 60 - size / 2))


def _background(rng: np.random.Generator) -> str:
    return BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
