"""Later steps without the source's caption: what that leaves as it was, and what it costs."""

import pytest
import torch

from ledits.method import caption as described
from ledits.method import regions
from ledits.method.core import Concept
from test_described import STEPS, inverted, run


def thriftily(model, inversion, concepts):
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        steps = list(described.edit(denoise, inversion, concepts, drop_source_late=True))
        evaluations = denoise.evaluations
        return regions.find(denoise, inversion, concepts), steps, evaluations


def test_edits_by_their_captions_alone_are_the_same(random_model):
    """At scale 1 guidance is the edit's own prediction, whoever asks for the source's: no approximation at all."""
    inversion = inverted(random_model(), 2)
    asked = [Concept("a dog", 1.0, 0.6), Concept("a star", 1.0, 0.9)]
    (_, plain, more), (_, steps, fewer) = (each(random_model(), inversion, asked) for each in (run, thriftily))
    assert (steps[-1].x - plain[-1].x).abs().max() <= 1e-4
    assert (plain[-1].x - inversion.x[-1]).abs().max() > 0.1
    assert fewer < more


def test_stronger_edits_are_not(random_model):
    inversion = inverted(random_model())
    (_, plain, _), (_, steps, _) = (
        each(random_model(), inversion, [Concept("a dog", 6.0)]) for each in (run, thriftily)
    )
    for one, other in zip(plain[:3], steps[:3], strict=True):
        assert torch.equal(one.x, other.x)
    assert (plain[-1].x - steps[-1].x).abs().max() > 1e-3


@pytest.mark.parametrize("asked", [[], [Concept("a dog", 0.0)], [Concept("a dog", 0.0), Concept("a star", 0.0)]])
def test_no_edit_gives_the_picture_back(random_model, asked):
    inversion = inverted(random_model())
    _, steps, evaluations = thriftily(random_model(), inversion, asked)
    assert torch.equal(steps[-1].x, inversion.x[-1])
    assert evaluations == run(random_model(), inversion, asked)[2]


def test_nothing_changes_outside_the_regions(random_model):
    inversion = inverted(random_model())
    located, steps, _ = thriftily(random_model(), inversion, [Concept("a dog", 6.0, 0.7), Concept("a star", 6.0, 0.9)])
    outside = (sum(concept.region for concept in located) == 0).expand_as(steps[-1].x)
    for step in steps:
        assert torch.equal(step.x[outside], inversion.x[step.i + 1][outside])


@pytest.mark.parametrize(("edits", "warmup", "cooldown"), [(1, 0, None), (2, 0, None), (2, 1, None), (2, 0, 4)])
def test_what_is_evaluated(random_model, edits, warmup, cooldown):
    """The source's caption at each step after the first in the first half, and after edits have ended."""
    inversion = inverted(random_model())
    asked = [Concept(text, 4.0, None, warmup, cooldown) for text in ("a dog", "a star")[:edits]]
    evaluations = thriftily(random_model(), inversion, asked)[2]
    acting, first = (cooldown or STEPS) - warmup, (STEPS + 1) // 2
    source = first - warmup - 1 + (STEPS - cooldown if cooldown else 0)
    assert evaluations == 3 * edits + acting * edits + source
