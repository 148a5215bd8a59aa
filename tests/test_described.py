"""Edits of a described picture: where they act, what stays as it was to the last bit, and what they cost."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch

from ledits import editor, scenes
from ledits.asked.settings import Settings
from ledits.method import caption as described
from ledits.method import core
from ledits.method import regions as finding
from ledits.method.core import Concept
from ledits.method.told import Told, for_pictures
from ledits.scenes import Placed, Scene
from ledits.scenes.recognise import recognise
from ledits.scenes.samples import SIDE

STEPS = 5
PATHS = ("x", "denoised", "base_denoised")


def inverted(model, b: int = 1, null: object = "a cat", seed: int = 0, drawn: int = 0):
    """The schedule and inversion of b pictures, each with noise of its own."""
    schedule = model.schedule(STEPS, 0.15)
    x0 = torch.cat([torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed + k)) for k in range(b)])
    noise = torch.cat([editor.noise(len(schedule), x0.shape[1:], seed + k + drawn) for k in range(b)], 1)
    with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:
        return core.invert(denoise, schedule, x0, noise, base_prompt=null)


def run(model, inversion, concepts):
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        steps = list(described.edit(denoise, inversion, concepts))
        evaluations = denoise.evaluations
        return finding.find(denoise, inversion, concepts), steps, evaluations


def test_nothing_changes_outside_the_regions(random_model):
    inversion = inverted(random_model())
    (concept,), steps, _ = run(random_model(), inversion, [Concept("a dog", 6.0, 0.7)])
    outside = (concept.region == 0).expand_as(steps[-1].x)
    for step in steps:
        assert torch.equal(step.x[outside], inversion.x[step.i + 1][outside])
    assert (steps[-1].x[~outside] != inversion.x[-1][~outside]).float().mean() > 0.9


@pytest.mark.parametrize(
    "still", [Concept("a dog", 0.0, None), Concept("a dog", 0.0, 0.5), Concept("a cat", 6.0, None)]
)
def test_what_guides_nothing_opens_nothing(random_model, still):
    """An edit of scale 0, or one that asks for what is there; beside another edit too, and in a batch."""
    inversion = inverted(random_model())
    (concept,), steps, evaluations = run(random_model(), inversion, [still])
    assert torch.equal(steps[-1].x, inversion.x[-1])
    assert (concept.region.sum(), evaluations) == (0, 0)
    dog = Concept("a dog", 6.0, 0.7)
    (_, alone, _), (_, both, _) = (run(random_model(), inversion, each) for each in ([dog], [dog, still]))
    assert torch.equal(both[-1].x, alone[-1].x)
    two = inverted(random_model(), 2, ("a cat", "snow"))
    _, steps, _ = run(random_model(), two, [Concept(("a dog", "snow"), 6.0, None)])
    assert torch.equal(steps[-1].x[1], two.x[-1][1])
    assert not torch.equal(steps[-1].x[0], two.x[-1][0])


def test_a_threshold_is_the_share_left_alone(random_model):
    inversion = inverted(random_model(), 2)
    for threshold in (0.25, 0.5, 0.75):
        (concept,), _, _ = run(random_model(), inversion, [Concept("a dog", 4.0, threshold)])
        assert concept.region.shape == (2, 1, 16, 16)
        assert (concept.region.mean((1, 2, 3)) - (1 - threshold)).abs().max() <= 1 / 256


def test_batch_equals_one_by_one(random_model):
    nulls, targets = ("a cat", "snow"), ("a dog", "beach")
    both = inverted(random_model(), 2, nulls)
    _, steps, _ = run(random_model(), both, [Concept(targets, 5.0, 0.6), Concept("a star", 3.0, 0.9)])
    for k in range(2):
        alone = inverted(random_model(), 1, nulls[k], seed=k)
        _, one, _ = run(random_model(), alone, [Concept(targets[k], 5.0, 0.6), Concept("a star", 3.0, 0.9)])
        assert (one[-1].x[0] - steps[-1].x[k]).abs().max() <= 1e-4


def test_the_order_of_edits_is_irrelevant(random_model):
    inversion = inverted(random_model())
    asked = [Concept("a dog", 5.0, 0.6), Concept("a star", 3.0, 0.9), Concept("snow", 4.0, 0.3)]
    (_, forth, _), (_, back, _) = (run(random_model(), inversion, each) for each in (asked, asked[::-1]))
    assert (forth[-1].x - back[-1].x).abs().max() <= 1e-5


def test_regions_do_not_meet_and_the_smaller_one_has_the_place(random_model):
    large, small = torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    large[..., :12] = 1
    small[..., 8:] = 1
    asked = [Concept("a dog", 4.0, 1e-6, region=large), Concept("a star", 4.0, 1e-6, region=small)]
    (first, second), _, _ = run(random_model(), inverted(random_model()), asked)
    # A threshold leaves one cell of each alone.
    assert (second.region <= small).all() and second.region.sum() == small.sum() - 1  # noqa: PT018
    assert torch.equal(first.region * second.region, torch.zeros_like(small))
    assert ((large * (1 - second.region)) - first.region).sum() <= 1


def test_a_region_of_the_user_bounds_the_one_that_is_found(random_model):
    region = torch.zeros(1, 1, 32, 32)
    region[..., :16, :] = 1
    (concept,), steps, _ = run(random_model(), inverted(random_model()), [Concept("a dog", 4.0, None, region=region)])
    assert 0 < concept.region[..., :8, :].sum() < 8 * 16
    assert not concept.region[..., 8:, :].any()
    assert steps[-1].masks.shape == (1, 1, 16, 16)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("edits", [1, 2])
def test_what_is_evaluated(random_model, warmup, edits):
    """Every second level for each edit to find its place; then the source and each edit at every step it acts in.

    In the first of them the inversion knows what the source's answer is.
    """
    inversion = inverted(random_model())
    asked = [Concept(text, 4.0, None, warmup) for text in ("a dog", "a star")[:edits]]
    _, steps, evaluations = run(random_model(), inversion, asked)
    assert len(steps) == STEPS
    assert evaluations == 3 * edits + (STEPS - warmup) * (edits + 1) - 1


def test_no_edits_cost_nothing(random_model):
    inversion = inverted(random_model())
    located, steps, evaluations = run(random_model(), inversion, [])
    assert (located, evaluations) == ([], 0)
    assert torch.equal(steps[-1].x, inversion.x[-1])


def test_otsu_splits_where_the_values_do():
    values = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    values[0, :2] += 3
    values[1, :, 5:] += 2
    split = finding.otsu(values, torch.ones_like(values))
    assert torch.equal(split[0], (values[0] >= 3).float())
    assert torch.equal(split[1], (values[1] >= 2).float())
    best = max(values[0].unique()[1:].tolist(), key=lambda cut: between(values[0], cut))
    assert torch.equal(split[0], (values[0] >= best).float())
    assert finding.otsu(torch.ones(1, 4, 4), torch.ones(1, 4, 4)).all()  # nothing to tell apart


def test_an_edit_of_most_of_the_picture_takes_all_that_it_moves():
    """A background changes, and of a thing before it little is certain: there a prediction moves too."""
    level = torch.linspace(1.0, 0.1, 9)[:, None, None, None]
    thing = torch.zeros(1, 1, 16, 16)
    thing[..., 5:11, 5:11] = 1
    error = level * (0.3 + 3 * thing)
    background = level**2 * (1 + 0.2 * thing)
    free = torch.ones(1, 16, 16)
    moved, excess, look = finding.taken(background, error, free)
    assert moved[0, 0, :4].all()
    assert not moved[0, 0, 6:10, 6:10].any()
    assert excess > finding._WHOLE
    assert not look.any()
    # It is so of what large things leave, and within a region too; a thing is no background.
    half = (torch.arange(16) < 7)[:, None].float()
    assert finding.taken(half * 2, error * 0 + 1, free)[1] > finding._WHOLE
    assert finding.taken(half * 2, error * 0 + 1, half.expand(1, 16, 16))[1].isinf().all()
    assert finding.taken(thing[0] * 0.5, error * 0 + 1, free)[1] < finding._WHOLE
    style, excess, look = finding.taken(torch.ones_like(error), error, free)  # as much at each level
    assert look.all()
    assert style[0, 0, :4].all()
    assert excess.isinf().all()
    assert not finding.taken(error * 0, error * 0, free)[0].any()


def test_of_several_edits_one_is_of_the_background(random_model, monkeypatch):
    """It moves the most, and a thing moves some of what is around it; what goes is a thing, and a style is of all."""
    model, inversion = random_model(), inverted(random_model())
    everywhere, of = torch.ones(1, 1, 16, 16), iter([0.2, 0.3, 0.4, 0.2, 0.3, torch.inf])

    def taken(*_):
        return everywhere, torch.full((1, 1, 1, 1), next(of)), torch.zeros(1, 1, 1, 1, dtype=torch.bool)

    monkeypatch.setattr(finding, "taken", taken)
    monkeypatch.setattr(finding, "make_disjoint", list)  # so that what each has found is seen
    concepts = [Concept(prompt, 2.0, None) for prompt in ("a dog", "a car", "a bird")]
    said = [Told.of(c.prompt, "a cat") for c in concepts]
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        for gone, whole in ((True, [False, True, False]), (False, [False, True, True])):
            said[2] = said[2]._replace(goes=gone)
            found = finding.find(denoise, inversion, concepts, said)
            assert [bool((c.region == 1).all()) for c in found] == whole


def test_what_a_caption_lists_is_rather_not_the_background(random_model, monkeypatch):
    """An apple in a heart's place once moved more than a new background did, and got all of the picture."""
    model, inversion = random_model(), inverted(random_model())
    everywhere = torch.ones(1, 1, 16, 16)
    concepts = [Concept(prompt, 2.0, None) for prompt in ("a dog", "a beach")]
    said = [Told.of(c.prompt, "a cat")._replace(thing=c.prompt == "a dog") for c in concepts]
    monkeypatch.setattr(finding, "make_disjoint", list)
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        for excess, whole in (
            ((0.19, 0.1), [False, True]),
            ((0.19, 0.05), [False, False]),
            ((0.1, 0.05), [False, False]),
        ):
            of = iter(excess)

            def taken(*_, of=of):
                return everywhere, torch.full((1, 1, 1, 1), next(of)), torch.zeros(1, 1, 1, 1, dtype=torch.bool)

            monkeypatch.setattr(finding, "taken", taken)
            found = finding.find(denoise, inversion, concepts, said)
            assert [bool((c.region == 1).all()) for c in found] == whole


def test_what_is_called_a_background_is_one_however_little_it_moves(random_model, monkeypatch):
    model, inversion = random_model(), inverted(random_model())
    concepts = [Concept(prompt, 2.0, None) for prompt in ("a dog", "a beach")]
    said = [Told.of(c.prompt, "a cat")._replace(ground=c.prompt == "a beach") for c in concepts]
    monkeypatch.setattr(finding, "make_disjoint", list)
    # It moves enough for a style, too, and is none.
    for excess, late in ((0.19, False), (0.19, True), (0.01, False)):
        of = iter((excess, 0.02))

        def taken(*_, of=of, late=late):
            return torch.ones(1, 1, 16, 16), torch.full((1, 1, 1, 1), next(of)), torch.full((1, 1, 1, 1), late)

        monkeypatch.setattr(finding, "taken", taken)
        with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
            dog, beach = finding.find(denoise, inversion, concepts, said)
        assert bool((beach.region == 1).all())
        assert bool(beach.ground.all())
        assert not bool(dog.ground.any())


def test_what_is_worn_is_found_where_it_is_and_where_what_comes_will_be(random_model):
    """A region has both places, is found with the same answers a second time, and in a batch as alone."""
    model, base = random_model(), ("a cat", "an owl")
    both, (first, second) = inverted(model, 2, base), (inverted(model, 1, name, k) for k, name in enumerate(base))
    asked = Concept("a dog", 2.0, None)

    def place(path, of, bare):
        said = [Told.of("a dog", of)._replace(bare=bare)]
        with torch.inference_mode(), model.denoiser(path.schedule, maps=False) as denoise:
            known = finding.Known()
            (found,) = finding.find(denoise, path, [asked], said, known)
            before = denoise.evaluations
            (again,) = finding.find(denoise, path, [asked], said, known)
            assert torch.equal(found.region, again.region)
            return found.region, denoise.evaluations - before, known

    plain, _, _ = place(first, "a cat", "a cat")
    with_both, more, known = place(first, "a cat", "a fox")
    comes = finding.otsu(known.between["a dog", "a fox"].mean(0), torch.ones(1, 16, 16))[:, None]
    assert torch.equal(with_both, plain.maximum(comes))
    assert more == 0
    assert with_both.sum() > plain.sum()
    other, _, _ = place(second, "an owl", "an owl")  # of the second picture nothing is worn
    together, _, _ = place(both, base, ("a fox", "an owl"))
    assert torch.equal(together, torch.cat([with_both, other]))


def test_what_a_picture_gives_up_does_not_depend_on_those_beside_it(random_model, monkeypatch):
    """Once one of a batch that put a thing beside another kept the others from taking a whole background."""
    everywhere = torch.ones(1, 16, 16)
    much, yes = torch.full((2, 1, 1, 1), torch.inf), torch.ones(2, 1, 1, 1, dtype=torch.bool)
    monkeypatch.setattr(finding, "taken", lambda *_: (everywhere.expand(2, 1, 16, 16), much, yes))
    model, base = random_model(), ("a cat", "a cat")
    inversion = inverted(model, 2, base)
    said = [Told(*[("b", "c")] * 3, base, ("a cat", ""), base, base)]
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        (both,) = finding.find(denoise, inversion, [Concept(("b", "c"), 2.0, None)], said, None)
    assert bool((both.concept.region[0] == 1).all())
    assert not bool((both.concept.region[1] == 1).all())
    assert both.looks.flatten().tolist() == [True, False]
    assert not both.ground.any()  # how a picture looks is not what is behind


@pytest.fixture
def behind(monkeypatch):
    """Every edit is of a background, which is found in the upper half of the first two thirds of a picture."""
    region = torch.zeros(1, 1, 16, 16)
    region[..., :8, :10] = 1

    def taken(apart, *_):
        size = apart.shape[1]
        still = torch.zeros(size, 1, 1, 1)
        return region.expand(size, 1, 16, 16), still + 0.5, still > 0

    monkeypatch.setattr(finding, "taken", taken)
    return region


def test_a_new_background_begins_with_noise_alone(random_model, behind):
    """The noisiest level still shows how bright a picture is: a white wall became a pale sky instead of a night."""
    model, inversion = random_model(), inverted(random_model())
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        found = finding.find(denoise, inversion, [Concept("a dog", 2.0, None)], None, None)
    begin = described._begin(inversion, found)
    noise = inversion.x[0] - inversion.schedule.alpha[0] * inversion.x[-1]
    inside = behind.bool().expand_as(begin)
    assert torch.allclose(begin[inside], noise[inside], atol=1e-5)
    assert torch.equal(begin[~inside], inversion.x[0][~inside])
    # Of a path that has more noise than the schedule says (TurboEdit) it is the path's own share that goes.
    s = inversion.schedule
    noised = replace(inversion, schedule=replace(s, noised=(tuple(a / 2 for a in s.alpha), s.sigma)))
    more = described._begin(noised, found)
    assert torch.allclose(more[inside], (begin + inversion.schedule.alpha[0] / 2 * inversion.x[-1])[inside], atol=1e-5)
    for kept in ({"warmup": 1}, {"scale": -2.0}):  # much is seen by then; what moves away is to stay otherwise
        assert described._begin(inversion, [found[0]._replace(concept=replace(found[0].concept, **kept))]) is None


def test_of_few_levels_none_is_of_a_background(random_model, behind):
    """They can't tell it from a style, which keeps what stands where."""
    model = random_model()
    schedule, x0, noise = model.schedule(4, 0.1), torch.randn(1, 4, 16, 16), torch.randn(4, 1, 4, 16, 16)
    with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:
        inversion = core.invert(denoise, schedule, x0, noise, base_prompt="a cat")
        (place,) = finding.find(denoise, inversion, [Concept("a dog", 2.0, None)], None, None)
    assert not place.ground.any()


def test_a_soft_region_is_reported_as_it_is_and_kept_to(random_model, behind, monkeypatch):
    """It was multiplied by itself, and cells beside it were given up whole."""
    model, inversion = random_model(), inverted(random_model())
    monkeypatch.setattr(described, "_moved", lambda step, *_: torch.ones_like(step.x[:, :1]))
    half = torch.full((1, 1, 16, 16), 0.5)
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        *_, last = described.edit(denoise, inversion, [Concept("a dog", 2.0, None, region=half)])
    assert set(last.masks.unique().tolist()) == {0.0, 0.5}


def test_a_background_grows_to_the_edges_of_things_and_nothing_else_changes(random_model, behind, monkeypatch):
    """Once what was behind stayed as a seam around each thing. Where it ends shows when most of it has changed."""
    model, inversion = random_model(), inverted(random_model(), 2)
    monkeypatch.setattr(described, "_moved", lambda step, *_: (torch.arange(16) < 11).to(step.x)[None, None, None])
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        steps = list(described.edit(denoise, inversion, [Concept("a dog", 2.0, None)]))
    region = behind[0, 0].bool()
    grown = torch.zeros(16, 16, dtype=torch.bool)
    grown[:10, :11] = True  # two cells down, and one to the side
    first, last = steps[0], steps[-1]
    assert torch.equal(first.masks[0, 0] > 0, region)
    assert torch.equal(last.masks[0, 0] > 0, grown)
    for step in steps:
        on_path = (step.x == inversion.x[step.i + 1]).all(1)[0]
        assert on_path[~grown].all()
    # A box that was drawn is not left, and another edit's place is not taken.
    box = torch.zeros(1, 1, 16, 16)
    box[..., :9, :] = 1
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        boxed = list(described.edit(denoise, inversion, [Concept("a dog", 2.0, None, region=box)]))
    assert not (boxed[-1].masks[0, 0] > 0)[9:].any()
    assert (boxed[-1].masks[0, 0] > 0)[8].any()


def test_a_thing_that_comes_grows_to_its_own_edge_and_one_that_changes_does_not(random_model, monkeypatch):
    """A top hat was cut off where its region ended. Cells beside two edits stay: both would move them."""
    model, inversion = random_model(), inverted(random_model())
    regions = [torch.zeros(1, 1, 16, 16) for _ in range(2)]
    regions[0][..., 4:8, 2:6] = regions[1][..., 4:8, 8:12] = 1  # two cells apart
    concepts = [Concept("a hat", 2.0, None, region=regions[0]), Concept("a bow", 2.0, None, region=regions[1])]
    comes = Told.of("a hat", "a cat")._replace(comes=True)
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        found = finding.find(denoise, inversion, concepts, None, None)
    found = [p._replace(region=r, free=r * 0 + 1) for p, r in zip(found, regions, strict=True)]
    edge, none = described._edges(found, [comes, Told.of("a bow", "a cat")])
    assert none is None
    assert edge[0, 0].sum() == 8 * 8 - 4 * 4
    both = described._edges(found, [comes, comes])
    for own in both:
        assert not own[..., 6:8].any()
        assert own.sum() == 8 * 6 - 4 * 4
    given = found[0]._replace(concept=replace(found[0].concept, threshold=0.8))
    assert described._edges([given], [comes]) == [None]  # the share that was given is kept to


def test_what_moves_half_as_much_as_a_background_is_of_it(random_model, behind):
    model, inversion = random_model(), inverted(random_model(), 2)
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        (place,) = finding.find(denoise, inversion, [Concept("a dog", 2.0, None)], None, None)
        step = next(iter(described.edit(denoise, inversion, [Concept("a dog", 2.0, None)])))
    change = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1) * (behind + torch.linspace(0, 1, 16) * (1 - behind))
    moved = described._moved(replace(step, x0=inversion.x[-1] + change), inversion, place)
    assert moved[:, :, :8, :10].all()
    assert torch.equal(moved[0, 0, 12] > 0, torch.linspace(0, 1, 16) > 0.5)
    assert torch.equal(moved[0], moved[1])  # of each picture by its own background


@pytest.mark.parametrize(("looks", "first"), [([False], 0), ([True], 2)])
def test_a_style_begins_late_and_a_thing_at_once(random_model, looks, first):
    inversion = inverted(random_model())
    said = Told.of("b", "a cat")
    spans = described.spans(Concept("b", 2.0), said, inversion, looks)
    assert [(c.prompt, c.warmup, c.cooldown) for c in spans] == [("b", first, STEPS)]
    (early,) = described.spans(Concept("b", 2.0, cooldown=1), said, inversion, looks)  # there is no later step
    assert (early.warmup, early.cooldown) == (0, 1)


def test_a_style_of_one_picture_of_two_leaves_the_other_alone(random_model):
    inversion = inverted(random_model(), 2, ("a cat", "a cat"))
    said = Told.of(("b", "c"), ("a cat", "a cat"))
    early, late = described.spans(Concept(("b", "c"), 2.0), said, inversion, [True, False])
    assert (early.prompt, late.prompt) == (("a cat", "c"), ("b", "c"))


def between(values: torch.Tensor, cut: float) -> float:
    low, high = values[values < cut], values[values >= cut]
    return float(len(low) * len(high) * (low.mean() - high.mean()) ** 2)


def told(base, *edits):
    """What is told of edits: (target, clear, own), None for what says nothing."""
    return [Told(target, target, target, base, clear or base, own or base, base) for target, clear, own in edits]


def test_a_region_keeps_clear_of_what_is_there(random_model):
    """Of one picture of a batch alone, as if it were alone."""
    model, base = random_model(), ("a cat", "a fox")
    inversion = inverted(model, 2, base)
    asked = Concept(("a dog", "an owl"), 3.0, None)
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:

        def region(concept, clear):
            (found,) = finding.find(denoise, inversion, [concept], told(base, (concept.prompt, clear, None)))
            return found.region

        free, there = region(asked, None), region(replace(asked, prompt=("a dog", "a hat")), None)
        clear, given = region(asked, ("a cat", "a hat")), replace(asked, threshold=0.3)
        # What a person asks for by a share is theirs to say.
        assert torch.equal(region(given, ("a cat", "a hat")), region(given, None))
    assert torch.equal(clear[0], free[0])
    assert (clear[1] * there[1]).sum() == 0
    assert (free[1] * there[1]).sum() > 0
    assert clear[1].sum() > 0


def test_regions_of_several_things_are_shared_out(random_model):
    """Each cell goes to the thing whose own caption predicts what the picture's does, and whose edit moves it, whatever
    their order.
    """
    model, base = random_model(), "a cat and a fox"
    inversion = inverted(model, 2, base)
    asked = [Concept("a dog and a fox", 3.0, None), Concept("a cat and an owl", 3.0, None), Concept("night", 3.0, 0.0)]
    own = ["a cat and a cat", "a fox and a fox", base]
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:

        def regions(order):
            said = told(base, *((asked[k].prompt, None, own[k]) for k in order))
            return [c.region for c in finding.find(denoise, inversion, [asked[k] for k in order], said)]

        plain = [c.region for c in finding.find(denoise, inversion, asked)]
        shared, back, (first,) = regions([0, 1, 2]), regions([2, 1, 0]), regions([0])
        (alone,) = finding.find(denoise, inversion, asked[:1])
        predicted, _ = denoise(inversion.x[[2]].float(), [2], own[:2])
        far = (predicted - inversion.base_denoised[[2]].float()).abs().sum(3).mean(1)
        levels = range(0, len(inversion.schedule), 2)
        changed, _ = denoise(inversion.x[levels].float(), levels, [each.prompt for each in asked[:2]])
        moves = core.smooth(
            (changed - inversion.base_denoised[levels].float()).abs().sum(3).mean(1).flatten(0, 1)[:, None]
        )
        share = (moves / moves.amax((1, 2, 3), keepdim=True)).unflatten(0, (2, -1))
    assert all(torch.equal(one, other) for one, other in zip(shared, back[::-1], strict=True))
    assert torch.equal(first, alone.region)
    less, more = (core.smooth(core.smooth(far[k][:, None])) / share[k] for k in range(2))
    nearer = less < more
    assert not shared[0][~nearer].any()
    assert not shared[1][nearer].any()
    assert torch.equal(shared[0] + shared[1] > 0, (plain[0] + plain[1] + shared[0] + shared[1]) > 0)


def test_what_changes_several_things_is_several_edits(random_model):
    """The same bits, whatever edits it is beside; not where a share of the picture is given, which is of the whole."""
    model, base = random_model(), ("a cat and a fox", "a cat")
    inversion = inverted(model, 2, base)
    one, other, star = ("a dog and a fox", "a dog"), ("a cat and an owl", "a cat"), "a star"
    whole = Told.of(("a dog and an owl", "a dog"), base)._replace(parts=(Told.of(one, base), Told.of(other, base)))
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:

        def replayed(*edits, threshold=None):
            asked = [Concept(told.target, 4.0, threshold) for told in edits]
            return list(described.edit(denoise, inversion, asked, edits))[-1]

        together, apart = replayed(whole, Told.of(star, base)), replayed(*whole.parts, Told.of(star, base))
        given = [replayed(told, threshold=0.5).x for told in (whole, whole._replace(parts=()))]
    assert torch.equal(together.x, apart.x)
    assert torch.equal(together.masks[0], apart.masks[:2].amax(0))
    assert torch.equal(*given)
    # Of many pictures, each in as many parts as it has.
    first, second = Told.of("x", "a"), Told.of("y", "b")._replace(parts=(Told.of("y1", "b"), Told.of("y2", "b")))
    (both,) = for_pictures([[first], [second]], ["a", "b"])
    assert [part.target for part in both.parts] == [("x", "y1"), ("a", "y2")]


def test_what_goes_leaves_no_noise_of_its_own(random_model):
    """Its place is drawn with noise that has nothing of the picture in it; of one picture of a batch alone."""
    model, base = random_model(), "a cat"
    inversion = inverted(model, 2, base, drawn=100)
    schedule, picture = inversion.schedule, inversion.x[-1].flatten()
    for i in range(len(schedule) - 1):
        fresh = described._fresh(inversion, i).flatten()
        assert fresh.std().item() == pytest.approx(schedule.std(i), rel=0.1)
        assert abs(torch.corrcoef(torch.stack([fresh, picture]))[0, 1]) < 0.1
    with torch.inference_mode(), model.denoiser(schedule, maps=False) as denoise:

        def replayed(goes, pictures=slice(None)):
            own = replace(inversion, **{name: getattr(inversion, name)[:, pictures] for name in PATHS})
            said = [Told.of("an empty beach", base)._replace(goes=goes)]
            return list(described.edit(denoise, own, [Concept("an empty beach", 3.0, 0.5)], said))

        plain, gone, one = replayed(False), replayed(True), replayed((False, True))
        alone = replayed(True, slice(1, 2))
    late = described._late(Concept("x"), STEPS)
    assert all(torch.equal(plain[i].x, gone[i].x) for i in range(late))
    outside = (gone[-1].masks[0] == 0)[:, None].expand_as(gone[-1].x)
    assert torch.equal(gone[-1].x[outside], inversion.x[-1][outside])
    assert (gone[-1].x - plain[-1].x).abs().amax() > 0.1
    assert torch.equal(one[-1].x[0], plain[-1].x[0])
    assert torch.equal(one[-1].x[1], gone[-1].x[1])
    assert (alone[-1].x[0] - gone[-1].x[1]).abs().max() <= 1e-4


def test_what_goes_has_a_cell_more_about_it(random_model):
    """Not where a share of the picture is asked for, nor outside a region that is given."""
    model, base = random_model(), "a cat"
    inversion, allowed = inverted(model, 2, base), torch.zeros(1, 1, 16, 16)
    allowed[..., :8, :] = 0.5
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:

        def region(wide, **given):
            asked = Concept("an empty beach", 3.0, **{"threshold": None, **given})
            said = [Told.of(asked.prompt, base)._replace(wide=wide)]
            return finding.find(denoise, inversion, [asked], said)[0].region

        plain, wide, one = region(False), region(True), region((False, True))
        given = region(True, region=allowed)
        assert torch.equal(region(False, threshold=0.5), region(True, threshold=0.5))
    assert torch.equal(wide, torch.nn.functional.max_pool2d(plain, 3, 1, 1))
    assert wide.sum() > plain.sum()
    assert torch.equal(one[0], plain[0])
    assert torch.equal(one[1], wide[1])
    assert set(given.unique().tolist()) == {0.0, 0.5}
    assert not given[..., 8:, :].any()


def test_a_share_of_nothing_fills_the_region_that_is_given(random_model):
    region = torch.zeros(1, 1, 32, 32)
    region[..., :16, :] = 1
    (concept,), _, _ = run(random_model(), inverted(random_model()), [Concept("a dog", 4.0, 0.0, region=region)])
    assert torch.equal(concept.region, region[..., ::2, ::2])


def test_a_described_picture_has_no_negative_prompt():
    with pytest.raises(ValueError, match="leave the negative prompt out"):
        Settings(steps=5, skip=0.1, source="a cat", negative="dark")
    assert Settings(steps=5, skip=0.1, source="a cat", source_scale=2.0, negative="dark").mode == "words"


def test_one_of_two_objects_changes_and_the_other_stays(bundled):
    """On scenes that training never saw: the object asked for, its neighbour, and the rest nearly as it was.

    From the default's more noise, .05, two of these four fail, though swaps in the benchmark do not (docs/log).
    """
    seen, others, preserved = 0, 0, []
    for background, seed in (("white", 901), ("meadow", 902), ("snow", 903), ("gray", 904)):
        scene = Scene((Placed("cat", 17, 33, 26), Placed("red apple", 47, 31, 26)), background, seed)
        settings = {"source": scene.caption(), "steps": 25, "skip": 0.1, "seed": seed}
        done = editor.Editor(bundled).edit(scene.render(SIDE), "cat->dog", **settings)
        result, rebuilt = done.rgb.astype(float), np.asarray(done.reconstruction, float)
        clean = scenes.background(background, seed, SIDE)
        found = [recognise(result.astype(np.uint8), clean, near=placed)[0].name for placed in scene.objects]
        seen, others = seen + (found[0] == "dog"), others + (found[1] == "red apple")
        outside = ~scene.mask(scene.swap(0, "dog"), SIDE)
        preserved.append(10 * np.log10(255**2 / np.square(result[outside] - rebuilt[outside]).mean()))
    assert seen >= 3
    assert others == 4
    assert np.mean(preserved) >= 25


def test_half_precision_storage_changes_nothing_outside(random_model):
    """What the path was rounded to for storage is what is kept."""
    inversion = inverted(random_model())
    half = dataclasses.replace(
        inversion,
        x=inversion.x.half(),
        denoised=inversion.denoised.half(),
        base_denoised=inversion.base_denoised.half(),
    )
    (concept,), steps, _ = run(random_model(), half, [Concept("a dog", 6.0, 0.7)])
    outside = (concept.region == 0).expand_as(steps[-1].x)
    assert torch.equal(steps[-1].x[outside], half.x[-1].float()[outside])
