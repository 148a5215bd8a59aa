"""Every family in every number format: a replay through an edit of scale 0 ends on the picture, whatever the settings.

By default each family and format has one combination of the others, chosen so that every two values of any two meet in
one of them. All 72 for each family and format, two to four minutes of a core for a family:

    LEDITS_GRID=all pytest tests/test_families_grid.py -k sd3
"""

import os
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import pytest
import torch

import tiny_families
from ledits.backbones import load
from ledits.backbones.network import PRECISION
from ledits.method import core

from conftest import asked_again, relative, seeded

FORMATS = ("float32", "bfloat16", "float16")
LEFT = {"float32": 0.0, "bfloat16": 2.0**-7, "float16": 2.0**-10}  # of the picture, where nothing is asked for
SETTINGS = list(
    product(
        (4, 1, 28),  # steps
        (0.0, 0.15, 0.5),  # skip
        ((16, 16), (16, 24)),  # height and width, square and not
        (1, 3),  # pictures
        (False, True),  # whether the picture has a caption
    )
)


def pairs(row: tuple[Any, ...]) -> set[Any]:
    return set(combinations(enumerate(row), 2))


def cover() -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Settings for each family and format: those in which most values meet that have not met before."""
    chosen, met = dict[tuple[Any, ...], tuple[Any, ...]](), set[Any]()
    for case in product(tiny_families.MAKE, FORMATS):
        chosen[case] = max(SETTINGS, key=lambda settings: len(pairs((*case, *settings)) - met))
        met |= pairs((*case, *chosen[case]))
    return chosen


COVER = cover()


@pytest.fixture(scope="module", params=tiny_families.MAKE)
def family(request, tmp_path_factory):
    """A family's name and a checkpoint of it."""
    path = tmp_path_factory.mktemp("grid") / request.param
    tiny_families.make(request.param).save_pretrained(path)
    return request.param, str(path)


def test_every_two_values_of_two_settings_meet():
    rows = [(*case, *settings) for case, settings in COVER.items()]
    whole = [(*case, *settings) for case, settings in product(COVER, SETTINGS)]
    assert set().union(*map(pairs, rows)) == set().union(*map(pairs, whole))


@pytest.mark.parametrize("dtype", FORMATS)
def test_a_replay_is_exact_and_recording_changes_nothing(family, dtype):
    name, folder = family
    backbone, precision = load(folder, device="cpu", dtype=dtype), PRECISION[getattr(torch, dtype)]
    for settings in SETTINGS if os.environ.get("LEDITS_GRID") == "all" else [COVER[name, dtype]]:
        steps, skip, sides, b, captioned = settings
        schedule = backbone.schedule(steps, skip, *sides)
        x0 = backbone.encode(torch.rand(b, 3, *sides, generator=seeded(0)) * 2 - 1)
        noise = torch.randn(steps, *x0.shape, generator=seeded(1))
        with backbone.denoiser(schedule, maps=False) as denoise:
            inversion = core.invert(denoise, schedule, x0, noise, base_prompt="a cat" if captioned else "")
            plain, _ = denoise(inversion.x[:-1], range(steps), ["a dog"])
            assert denoise.precision >= precision  # more where the network predicts noise
        assert not torch.equal(plain[0], inversion.denoised), settings  # with another scale it is an edit
        with backbone.denoiser(schedule, maps=True) as denoise:
            recorded, maps = denoise(inversion.x[:-1], range(steps), ["a dog"])
            assert torch.equal(recorded, plain), settings
            assert maps.max() > 0
            for order in (1, 2):  # of a single step they are one and the same: there is nothing to extrapolate from
                last = asked_again(denoise, replace(inversion, schedule=replace(schedule, order=order)))
                error = relative(last, x0)
                # Nothing holds this replay on its path: in half precision what rounding leaves adds up over its steps.
                assert error <= LEFT[dtype], (settings, order, error)
