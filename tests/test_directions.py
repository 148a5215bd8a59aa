"""Several captioned edits at once: what each moves towards and away from, when, and what that may not change."""

import dataclasses

import numpy as np
import pytest
import torch

from ledits import Editor
from ledits.language.several import told
from ledits.method import caption
from ledits.method.core import Concept
from ledits.method.told import Told, for_pictures
from test_described import STEPS, inverted

SOURCE, OWN = "a cat", ("a dog", "a star")
BOTH, OTHERS = "a dog and a star", ("a star and no cat", "a dog and no sky")
TOLD = [Told(own, own, BOTH, other, SOURCE, SOURCE, SOURCE) for own, other in zip(OWN, OTHERS, strict=True)]


class Heard:
    """A denoiser that writes down what it is asked for, of another one."""

    def __init__(self, denoise) -> None:
        self.denoise, self.asked = denoise, []
        self.precision = denoise.precision

    @property
    def evaluations(self):
        return self.denoise.evaluations

    def __call__(self, x, levels, prompts):
        self.asked.append((levels[0] if len(levels) == 1 else None, list(prompts)))
        return self.denoise(x, levels, prompts)


def halves():
    left = torch.zeros(1, 1, 16, 16)
    left[..., :8] = 1
    return left, 1 - left


def edits(scale=3.0, **given):
    """A dog on the left, a star on the right: their regions are given, and filled."""
    return [Concept(text, scale, 0.0, region=region, **given) for text, region in zip(OWN, halves(), strict=True)]


def run(model, inversion, asked, said=TOLD, **given):
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        heard = Heard(denoise)
        steps = list(caption.edit(heard, inversion, asked, said, **given))
        return steps, [(i, set(prompts)) for i, prompts in heard.asked if i is not None]


def test_each_begins_alone_and_then_moves_from_the_caption_after_the_others(random_model):
    """In the first step the path has the source's answer; later the source is not asked for at all."""
    _, asked = run(random_model(), inverted(random_model()), edits())
    early, late = {SOURCE, *OWN}, {BOTH, *OTHERS}
    assert asked == [(0, set(OWN)), (1, early), (2, late), (3, late), (4, late)]


def test_a_late_step_moves_each_region_from_its_own_caption(random_model):
    """x0 = away + scale (towards - away) in each region: base cancels where a mask is 1."""
    inversion, model = inverted(random_model()), random_model()
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        steps = list(caption.edit(denoise, inversion, edits(), TOLD))
        (both, *away), _ = denoise(steps[2].x[None], [3], [BOTH, *OTHERS])
    for region, start in zip(halves(), away, strict=True):
        inside = region.expand_as(steps[3].x0) > 0
        assert torch.allclose(steps[3].x0[inside], (start[0] + 3 * (both[0] - start[0]))[inside], atol=1e-4)


def test_an_edit_of_scale_0_changes_nothing_and_nothing_changes_outside(random_model):
    inversion = inverted(random_model())
    steps, asked = run(random_model(), inversion, edits(0.0))
    assert torch.equal(steps[-1].x, inversion.x[-1])
    assert asked == []
    first, second = edits()
    right = second.region.clone()
    right[..., 12:] = 0
    steps, _ = run(random_model(), inversion, [first, dataclasses.replace(second, region=right)])
    assert torch.equal(steps[-1].x[..., 12:], inversion.x[-1][..., 12:])
    assert (steps[-1].x[..., :12] != inversion.x[-1][..., :12]).float().mean() > 0.9


def test_there_is_no_cliff_at_scale_1(random_model):
    """Half an edit is half as far, by the same directions: results go on from .99 to 1 to 1.01."""
    inversion = inverted(random_model())
    low, one, high = (run(random_model(), inversion, edits(scale))[0][-1].x for scale in (0.99, 1.0, 1.01))
    assert (high - one).norm() < 1.5 * (one - low).norm() + 1e-4
    assert (one - low).norm() < 0.1 * (one - inversion.x[-1]).norm()


def test_the_order_of_edits_is_irrelevant_and_a_batch_equals_one_by_one(random_model):
    inversion, asked = inverted(random_model(), 2), edits()
    both, back = run(random_model(), inversion, asked)[0], run(random_model(), inversion, asked[::-1], TOLD[::-1])[0]
    assert (both[-1].x - back[-1].x).abs().max() <= 1e-4
    assert torch.equal(both[-1].masks, back[-1].masks.flip(0))
    for k in range(2):
        alone, _ = run(random_model(), inverted(random_model(), seed=k), asked)
        assert (alone[-1].x[0] - both[-1].x[k]).abs().max() <= 1e-4


def test_an_edit_that_acts_for_a_while_takes_its_turns_in_its_own_steps(random_model):
    first, second = edits()
    _, asked = run(random_model(), inverted(random_model()), [first, dataclasses.replace(second, cooldown=3)])
    assert asked[2:] == [(2, {BOTH, *OTHERS}), (3, {BOTH, OTHERS[0]}), (4, {BOTH, OTHERS[0]})]


def test_a_step_has_one_mask_for_each_edit(random_model):
    steps, _ = run(random_model(), inverted(random_model()), edits())
    for step in steps:
        assert torch.equal(step.masks, torch.cat([region[:, 0] for region in halves()])[:, None])


def test_the_source_can_be_dropped_late_of_several_edits_too(random_model):
    """In the second half one answer for all edits is all that is asked for."""
    _, asked = run(random_model(), inverted(random_model()), edits(), drop_source_late=True)
    assert asked[3:] == [(3, {BOTH}), (4, {BOTH})]


@pytest.mark.parametrize(
    ("source", "targets", "expected"),
    [
        ("a cat on a beach", ["a dog on a beach"],
         [("a dog on a beach", "a dog on a beach", "a cat on a beach")]),
        # Things that "and" joins: each is told of alone, in the place of all of them ...
        ("a cat and a hat", ["a dog and a hat", "a cat and a crown"],
         [("a dog and a dog", "a dog and a dog", "a dog and a crown"),
          ("a crown and a crown", "a crown and a crown", "a dog and a crown")]),
        ("a cat, a fox and a hat", ["an owl, a fox and a hat", "a cat, a fox and a tie"],
         [("an owl, an owl and an owl", "an owl, an owl and an owl", "an owl, a fox and a tie"),
          ("a tie, a tie and a tie", "a tie, a tie and a tie", "an owl, a fox and a tie")]),
        # ... one that goes of what is left without any of them ...
        ("a cat, a fox and a hat on a bed", ["an owl, a fox and a hat on a bed", "a cat and a fox on a bed"],
         [("an owl, an owl and an owl on a bed", "an owl and an owl on a bed", "an owl and a fox on a bed"),
          ("an empty bed", "an empty bed", "an owl, a fox and a hat on a bed")]),
        ("a cat and a fox on a bed", ["a cat on a bed", "a cat and a fox on a beach"],
         [("an empty bed", "an empty beach", "a cat and a fox on a beach"),
          ("a cat and a fox on a beach", "a cat on a beach", "a cat on a bed")]),
        ("we see a cat, a fox and a hat in a row", ["we see a cat and a hat in a row"],
         [("an empty background", "an empty background", "we see a cat, a fox and a hat in a row")]),
        ("a car in front of a house", ["a house"], [("a house", "a house", "a car in front of a house")]),
        # A verb that agrees with what is left is no edit of its own.
        ("a cat and a dog are sleeping on a bed", ["a cat is sleeping on a bed"],
         [("an empty bed", "an empty bed", "a cat and a dog are sleeping on a bed")]),
        # ... and what hangs together otherwise by whole captions.
        ("a man riding a horse", ["a robot riding a horse", "a man riding a zebra"],
         [("a robot riding a horse", "a robot riding a zebra", "a man riding a zebra"),
          ("a man riding a zebra", "a robot riding a zebra", "a robot riding a horse")]),
        ("a cat on a beach", ["a dog on a beach", "a cat in the rain"],
         [("a dog on a beach", "a dog in the rain", "a cat in the rain"),
          ("a cat in the rain", "a dog in the rain", "a dog on a beach")]),
        ("a cat on a beach", ["a pencil sketch of a cat on a beach", "a dog on a beach"],
         [("a pencil sketch of a cat on a beach", "a pencil sketch of a dog on a beach", "a dog on a beach"),
          ("a dog on a beach", "a pencil sketch of a dog on a beach", "a pencil sketch of a cat on a beach")]),
        # What changes the same words in two ways goes on alone.
        ("a cat", ["a dog", "a star"], [("a dog", "a dog", "a cat"), ("a star", "a star", "a cat")]),
    ],
)  # fmt: skip
def test_what_each_edit_is_told(source, targets, expected):
    """What it moves towards, first and later, and what it then moves away from; whatever the order of edits."""
    found = told(source, targets, "an empty {}")
    assert [(t.early, t.late, t.away) for t in found] == expected
    assert told(source, targets[::-1], "an empty {}") == found[::-1]


def test_a_thing_that_comes_beside_others_keeps_clear_of_them():
    source = "a cat on a beach"
    beside = ["a star to the left of a cat on a beach", "a cat and a star on a beach"]
    worn = ["a cat wearing a hat on a beach", "a cat on a beach, sunglasses", "a painting of a cat on a beach"]
    assert [t.clear for text in beside for t in told(source, [text], "an empty {}")] == ["an empty beach"] * 2
    assert [t.clear for t in told("a cat in a box", ["a cat and a star in a box"])] == [
        ""
    ]  # no rule knows what is left
    assert [t.clear for text in worn for t in told(source, [text])] == [source] * 3


def test_several_things_are_told_apart_by_what_each_is():
    """What changes and what stays, each in the place of all of them; where no things are joined there is none."""
    source = "a cat, a fox and a hat on a bed"
    targets = ["a dog, a fox and a hat on a bed", "a cat and a hat on a bed", "a cat, a fox and a hat in the rain"]
    hats = ("a hat, a hat and a hat on a bed",)
    own = [("a cat, a cat and a cat on a bed", hats), ("a fox, a fox and a fox on a bed", hats), (source, ())]
    assert [(t.own, t.stays) for t in told(source, targets)] == own
    (apart,) = told("a woman in a red dress and a hat", ["a man in a red dress and a hat"])
    assert (apart.own, apart.stays) == ("a woman in a red dress and a hat", ())


def test_what_goes_alone_takes_its_edge_along():
    source = "a cat and a hat on a bed"
    removal, swap = "a cat on a bed", "a dog and a hat on a bed"
    assert [t.wide for t in told(source, [removal])] == [True]
    assert [t.wide for t in told(source, [removal, swap])] == [False, False]
    assert [t.wide for t in told("a cat on a beach", ["an empty beach"])] == [True]


def test_pictures_have_as_many_things_as_they_have():
    """In a batch of pictures one with fewer things says nothing of more."""
    sources, edits = ["a cat and a hat on a bed", "a cat on a bed"], [["a cat and a tie on a bed"], ["a dog on a bed"]]
    (both,) = for_pictures([told(*each) for each in zip(sources, edits, strict=True)], sources)
    assert both.target == ("a cat and a tie on a bed", "a dog on a bed")
    assert both.stays == (("a cat and a cat on a bed", "a cat on a bed"),)


def test_editor_gives_the_same_for_an_edit_and_for_the_caption_after_it(random_model):
    """However several edits are said, and whichever of them comes first."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    inversion = Editor(random_model()).invert(picture, source="a cat, a fox and a hat on a bed", steps=STEPS)
    said = [["cat->owl", "-hat", "fox->dog"], ["fox->dog", "->a cat and a fox on a bed", "cat->owl"]]
    said.append(["->an owl, a fox and a hat on a bed", "->a cat, a dog and a hat on a bed", "-hat"])
    first, *others = (inversion.edit(*edits).rgb for edits in said)
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("source", "edits", "things"),
    [("a cat", ["cat->dog"], 0), ("a cat and a hat", ["cat->dog"], 2),
     ("a cat and a hat", ["cat->dog", "hat->crown"], 2), ("a cat on a mat and a hat", ["cat->dog"], 0)],
)  # fmt: skip
def test_what_regions_cost(random_model, source, edits, things):
    """Every second level for each edit, every sixth for each of joined things, without the noisiest third."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    inversion = Editor(random_model()).invert(picture, source=source, steps=24, skip=0.0)
    replay = 24 * (len(edits) + 1) - 1
    assert inversion.edit(*edits).network_evaluations == replay + 12 * len(edits) + 3 * things
