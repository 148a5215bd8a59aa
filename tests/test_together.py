"""Several captioned edits at once: what each is told of the others, when, and what that may not change."""

import dataclasses

import numpy as np
import pytest
import torch

from ledits import Editor
from ledits import editor as module
from ledits.asked.recipe import parse
from ledits.language import concepts
from ledits.method import caption
from ledits.method.core import Concept
from ledits.method.thrift import Thrifty
from ledits.method.together import Together
from test_described import inverted

SOURCE, OWN = "a cat", ("a dog", "a star")
BOTH, OTHERS = "a dog and a star", ["a star and no cat", "a dog and no sky"]
CAPTIONS = (list(OWN), [BOTH, BOTH], OTHERS)


class Heard:
    """A denoiser that writes down what it is asked for; a prompt's prediction is its place in `seen`."""

    precision = 1e-6

    def __init__(self, x) -> None:
        self.evaluations, self.asked, self.like, self.seen = 0, [], x, {}

    def __call__(self, x, levels, prompts):
        self.asked.append((levels[0], list(prompts)))
        self.evaluations += len(prompts) * len(levels)
        values = [self.seen.setdefault(prompt, float(len(self.seen) + 1)) for prompt in prompts]
        return torch.stack([torch.full_like(x, value) for value in values]), None


def halves():
    left = torch.zeros(1, 1, 16, 16)
    left[..., :8] = 1
    return left, 1 - left


def run(model, inversion, asked, captions=CAPTIONS):
    with torch.inference_mode(), model.denoiser(inversion.schedule, maps=False) as denoise:
        steps = list(caption.edit(Together(denoise, inversion, asked, *captions), inversion, asked))
        return steps[-1].x, denoise.evaluations


def test_each_begins_alone_and_is_then_told_of_the_others(random_model):
    inversion = inverted(random_model())
    asked = [Concept(text, 3.0, None, region=region) for text, region in zip(OWN, halves(), strict=True)]
    heard = Heard(inversion.x[0])
    list(caption.edit(Together(heard, inversion, asked, *CAPTIONS), inversion, asked))
    joined = {BOTH, *OTHERS}
    alone = [i for i, prompts in heard.asked if set(prompts) <= {SOURCE, *OWN}]
    together = [i for i, prompts in heard.asked if set(prompts) == joined]
    assert alone == [0, 1]
    assert together == [2, 3, 4]
    assert heard.evaluations == 2 + 4 * 3  # in the first step the source is known; then one for each edit and one more


def test_each_region_is_moved_from_the_caption_without_its_own_edit(random_model):
    inversion = inverted(random_model())
    asked = [Concept(text, 3.0, None, region=region) for text, region in zip(OWN, halves(), strict=True)]
    heard = Heard(inversion.x[0])
    denoise = Together(heard, inversion, asked, *CAPTIONS)
    (base, dog, star), _ = denoise(inversion.x[3][None].float(), [3], [SOURCE, *OWN])
    assert torch.equal(dog, star)
    assert (dog == heard.seen[BOTH]).all()
    assert (base[..., :8] == heard.seen[OTHERS[0]]).all()
    assert (base[..., 8:] == heard.seen[OTHERS[1]]).all()


def test_an_edit_of_scale_0_changes_nothing_and_nothing_changes_outside(random_model):
    inversion, (left, right) = inverted(random_model()), halves()
    still = [Concept(OWN[0], 0.0, None, region=left), Concept(OWN[1], 0.0, None, region=right)]
    x, _ = run(random_model(), inversion, still)
    assert torch.equal(x, inversion.x[-1])
    right[..., 12:] = 0
    moved = [dataclasses.replace(c, scale=3.0, region=region) for c, region in zip(still, (left, right), strict=True)]
    x, _ = run(random_model(), inversion, moved)
    assert torch.equal(x[..., 12:], inversion.x[-1][..., 12:])
    assert (x[..., :12] != inversion.x[-1][..., :12]).float().mean() > 0.9


def test_the_order_of_edits_is_irrelevant_and_a_batch_equals_one_by_one(random_model):
    inversion, (left, right) = inverted(random_model(), 2), halves()
    asked = [Concept(OWN[0], 3.0, None, region=left), Concept(OWN[1], 2.0, None, region=right)]
    both, _ = run(random_model(), inversion, asked)
    back, _ = run(random_model(), inversion, asked[::-1], tuple(captions[::-1] for captions in CAPTIONS))
    assert (both - back).abs().max() <= 1e-4
    for k in range(2):
        alone, _ = run(random_model(), inverted(random_model(), seed=k), asked)
        assert (alone[0] - both[k]).abs().max() <= 1e-4


def test_early_too_an_edit_may_be_told_something_else(random_model):
    inversion = inverted(random_model())
    asked = [Concept(text, 3.0, None, region=region) for text, region in zip(OWN, halves(), strict=True)]
    heard = Heard(inversion.x[0])
    denoise = Together(heard, inversion, asked, ["a dog", "nothing"], [BOTH, "nothing"], OTHERS)
    (base, dog, star), _ = denoise(inversion.x[0][None].float(), [0], [SOURCE, *OWN])
    assert heard.asked == [(0, ["a dog", "nothing", SOURCE])]
    assert (star == heard.seen["nothing"]).all()
    assert (dog == heard.seen["a dog"]).all()
    assert (base == heard.seen[SOURCE]).all()
    (_, dog, star), _ = denoise(inversion.x[3][None].float(), [3], [SOURCE, *OWN])
    assert (star == heard.seen["nothing"]).all()
    assert (dog == heard.seen[BOTH]).all()


def test_an_edit_that_acts_for_a_while_leaves_the_captions_as_they_were(random_model):
    inversion = inverted(random_model())
    asked = [Concept(OWN[0], 3.0, None, region=halves()[0]), Concept(OWN[1], 3.0, None, 0, 3, halves()[1])]
    heard = Heard(inversion.x[0])
    list(caption.edit(Together(heard, inversion, asked, *CAPTIONS), inversion, asked))
    told = {i: set(prompts) for i, prompts in heard.asked}
    assert told[2] == {BOTH, *OTHERS}
    assert told[3] == told[4] == {SOURCE, OWN[0]}


@pytest.mark.parametrize(
    ("edits", "source", "expected"),
    [
        (
            ["cat->dog"],
            "a cat on a beach",
            [("a cat on a beach", "a dog on a beach", "a dog on a beach", "a cat on a beach")],
        ),
        # Of several things that change each is told of in every place ...
        (
            ["cat->dog", "hat->crown"],
            "a cat and a hat",
            [
                ("a cat and a hat", "a dog and a dog", "a dog and a dog", "a dog and a crown"),
                ("a cat and a hat", "a crown and a crown", "a crown and a crown", "a dog and a crown"),
            ],
        ),
        # ... in its new place, and by what it is alone where a caption is of one thing ...
        (
            ["cat->dog", "->a cat and a hat in the snow"],
            "a cat and a hat on a beach",
            [
                (
                    "a cat and a hat on a beach",
                    "a dog and a dog on a beach",
                    "a dog and a dog in the snow",
                    "a dog and a hat in the snow",
                ),
                (
                    "a cat and a hat on a beach",
                    "a cat and a hat in the snow",
                    "a dog and a hat in the snow",
                    "a dog and a hat on a beach",
                ),
            ],
        ),
        (
            ["man->robot", "horse->zebra"],
            "a man riding a horse and a cat",
            [
                (
                    "a man riding a horse and a cat",
                    "a robot riding a horse and a cat",
                    "a robot riding a zebra and a cat",
                    "a man riding a zebra and a cat",
                ),
                (
                    "a man riding a horse and a cat",
                    "a man riding a zebra and a cat",
                    "a robot riding a zebra and a cat",
                    "a robot riding a horse and a cat",
                ),
            ],
        ),
        # What goes is told of the empty place at first, by whatever words it goes ...
        (
            ["cat->dog", "-hat"],
            "a cat and a hat on a beach",
            [
                ("a cat and a hat on a beach", *["a dog and a dog on a beach"] * 2, "a dog on a beach"),
                ("a cat and a hat on a beach", "an empty beach", "a dog on a beach", "a dog and a hat on a beach"),
            ],
        ),
        (
            ["->a cat in the snow"],
            "a cat and a hat in the snow",
            [("a cat and a hat in the snow", "empty snow", "a cat in the snow", "a cat and a hat in the snow")],
        ),
        # ... and what comes, beside what is there, keeps clear of that.
        (
            ["+a star to the left of a cat"],
            "a cat on a beach",
            [("an empty beach", *["a star to the left of a cat on a beach"] * 2, "a cat on a beach")],
        ),
        (
            ["->a cat and a star on a beach"],
            "a cat on a beach",
            [("an empty beach", *["a cat and a star on a beach"] * 2, "a cat on a beach")],
        ),
        # Not what is worn, nor what moves.
        (
            ["->a cat wearing a bow on a beach"],
            "a cat on a beach",
            [("a cat on a beach", *["a cat wearing a bow on a beach"] * 2, "a cat on a beach")],
        ),
        (
            ["->a cat in the snow"],
            "a cat and a hat on a beach",
            [("a cat and a hat on a beach", *["a cat in the snow"] * 2, "a cat and a hat on a beach")],
        ),
        (
            ["cat->dog", "->a cat in the snow"],
            "a cat on a beach",
            [
                ("a cat on a beach", "a dog on a beach", "a dog in the snow", "a cat in the snow"),
                ("a cat on a beach", "a cat in the snow", "a dog in the snow", "a dog on a beach"),
            ],
        ),
        # What no caption can say together goes on alone.
        (["->a dog", "->a star"], "a cat", [("a cat", text, text, "a cat") for text in ("a dog", "a star")]),
        (["->a star", "cat->dog"], "a cat", [("a cat", text, text, "a cat") for text in ("a star", "a dog")]),
    ],
)
def test_what_each_edit_is_told(edits, source, expected):
    """What it keeps clear of, and the captions after it alone, after all edits, and after all the others."""
    parsed = [parse(edit) for edit in edits]
    assert said(concepts.told(parsed, source)) == expected
    assert said(concepts.told(parsed[::-1], source)) == expected[::-1]


def said(told):
    return list(zip(told.apart, told.alone, told.after_all, told.after_others, strict=True))


def test_several_edits_are_told_apart_by_what_each_changes():
    source = "a cat, a fox and a hat on a beach"
    told = concepts.told([parse(text) for text in ("cat->dog", "-fox", "->a cat, a fox and a hat in the snow")], source)
    assert told.own == ["a cat, a cat and a cat on a beach", "a fox, a fox and a fox on a beach", source]
    assert not any(told.goes)
    assert told.stays == ["a hat, a hat and a hat on a beach"]
    assert concepts.told_by_words([parse("cat->dog"), parse("-fox")]).own == ["a cat and a cat", "a fox and a fox"]


def test_one_edit_is_told_apart_from_what_stays():
    def beside(edit, source):
        told = concepts.told([parse(edit)], source)
        return told.own, told.goes, told.stays

    source = "a cat and a hat on a beach"
    own, hat = "a cat and a cat on a beach", "a hat and a hat on a beach"
    assert beside("cat->dog", source) == ([own], [False], [hat])
    assert beside("->a hat on a beach", source) == ([own], [True], [hat])
    # One thing has nothing beside it; of two that go at once, or of another place, no one thing's caption is known.
    assert beside("-cat", "a cat on a beach") == (["a cat on a beach"], [True], [])
    assert beside("->an empty beach", source) == ([source], [True], [])
    assert beside("->a cat and a hat in the snow", source) == ([source], [False], [])
    moved = concepts.told_by_words([parse("cat->dog"), parse("snow->a dog and a star on a beach")])
    assert moved.stays == ["a star and a star in the snow"]


def test_what_each_edit_is_told_by_words():
    told = concepts.told_by_words([parse(text) for text in ("cat->dog", "fox->owl", "+a star")])
    implied, every = "a cat and a fox", "a dog, an owl and a star"
    assert said(told) == [
        (implied, *["a dog and a dog"] * 2, every),
        (implied, *["an owl and an owl"] * 2, every),
        (implied, "a cat, a fox and a star", every, "a dog and an owl"),
    ]


def test_a_removal_by_words_beside_another_edit_is_told_of_an_empty_place():
    told = concepts.told_by_words([parse(text) for text in ("cat->dog", "-fox")])
    assert told.alone == ["a dog and a dog", "an empty background"]
    assert concepts.told_by_words([parse("-fox")]).alone == [""]
    assert concepts.told_by_words([parse("cat->dog"), parse("-hat")]).alone == ["a dog wearing a hat", "a cat"]
    moved = concepts.told_by_words([parse(text) for text in ("cat->dog", "-fox", "snow->beach")])
    assert moved.alone == ["a dog and a dog in the snow", "empty snow", "a cat and a fox on a beach"]
    assert moved.after_all == ["a dog and a dog on a beach", "a dog on a beach", "a dog on a beach"]


def test_words_that_put_something_beside_a_thing_imply_that_it_is_there():
    told = concepts.told_by_words([parse("+a star to the left of a cat"), parse("fox->owl")])
    implied, every = "a cat and a fox", "a star to the left of a cat and an owl"
    assert said(told) == [
        ("", "a star to the left of a cat and a fox", every, "a cat and an owl"),
        (implied, *["an owl and an owl"] * 2, every),
    ]
    assert concepts.implied([parse("+a star next to a cat"), parse("cat->dog")]) == "a cat"


@pytest.mark.parametrize(
    "edits",
    [["cat->dog"], ["cat->a dog"], ["cat->an empty beach"], ["-cat"], ["snow->a cat on a beach"],
     ["sunglasses->a cat on a beach"], ["cat->a dog on a beach", "fox->owl"]],
)  # fmt: skip
def test_most_words_have_one_reading(edits):
    assert concepts.other_reading([parse(edit) for edit in edits]) is None


def test_what_words_bring_may_be_there_already():
    """Then the edit is what it is with a caption."""
    other = concepts.other_reading([parse("star->a fox on a beach")])
    assert other is not None
    assert other[:2] == ("a star and a fox on a beach", "a star on a beach")
    assert other.told == concepts.told([parse("-star")], other.source)


def test_the_editor_tells_them(random_model, monkeypatch):
    """Both with a caption and by words that are located; and not by words of the paper."""
    made = []
    monkeypatch.setattr(module, "Together", lambda denoise, path, asked, *told: made.append(told) or denoise)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    edit = Editor(random_model()).edit
    edit(picture, "cat->dog", "hat->crown", source="a cat and a hat", steps=3)
    edit(picture, "cat->dog", "hat->crown", mask="located", steps=3)
    edit(picture, "cat->dog", "hat->crown", steps=3)
    own, every = ["a dog and a dog", "a crown and a crown"], ["a dog and a crown"] * 2
    assert made[0] == (own, own, every)
    assert made[1] == (["a dog wearing a hat", "a cat wearing a crown"], ["a dog wearing a crown"] * 2, [
        "a cat wearing a crown", "a dog wearing a hat",
    ])  # fmt: skip


def test_the_source_can_be_dropped_late_of_several_edits_too(random_model):
    """In the second half one answer for all edits is all that is asked for."""
    inversion = inverted(random_model())
    asked = [Concept(text, 3.0, None, region=region) for text, region in zip(OWN, halves(), strict=True)]
    heard = Heard(inversion.x[0])
    denoise = Thrifty(Together(heard, inversion, asked, *CAPTIONS), inversion, asked)
    list(caption.edit(denoise, inversion, asked))
    assert [prompts for i, prompts in heard.asked if 2 * i >= len(inversion.schedule)] == [[BOTH]] * 2
    assert denoise.evaluations == heard.evaluations


@pytest.mark.parametrize(
    ("source", "edits", "things"),
    [("a cat", ["cat->dog"], 0), ("a cat and a hat", ["cat->dog"], 2),
     ("a cat and a hat", ["cat->dog", "hat->crown"], 2), ("a cat, a fox and a hat", ["cat->dog"], 3),
     ("a cat on a mat and a hat", ["cat->dog"], 0)],
)  # fmt: skip
def test_what_regions_cost(random_model, source, edits, things):
    """Every second level for each edit, every sixth for each thing beside others, without the noisiest third."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    inversion = Editor(random_model()).invert(picture, source=source, steps=24, skip=0.0)
    replay = 24 * (len(edits) + 1) - 1
    assert inversion.edit(*edits).network_evaluations == replay + 12 * len(edits) + 3 * things
