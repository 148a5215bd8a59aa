"""The grammar of edits, and recipes that come back as they were written."""

import dataclasses

import pytest

from ledits import editing
from ledits.backbones.network import DEFAULTS
from ledits.recipe import Edit, Recipe, parse


@pytest.mark.parametrize(
    ("text", "edit"),
    [
        ("+sunglasses", Edit("add", new="sunglasses")),
        ("-hat", Edit("remove", old="hat")),
        (" -hat ", Edit("remove", old="hat")),
        ("cat->dog", Edit("swap", old="cat", new="dog")),
        ("a cat -> a big dog", Edit("swap", old="a cat", new="a big dog")),
        ("+red hat:8", Edit("add", new="red hat", scale=8.0)),
        ("+red hat@0.5:-8", Edit("add", new="red hat", scale=-8.0, threshold=0.5)),
        ("-hat:6@.9[3..40]", Edit("remove", old="hat", scale=6.0, threshold=0.9, warmup=3, cooldown=40)),
        ("cat->dog[2..]", Edit("swap", old="cat", new="dog", warmup=2)),
        ("->a dog at night@0.3", Edit("become", new="a dog at night", threshold=0.3)),
        ("cat->dog [..9] :4", Edit("swap", old="cat", new="dog", scale=4.0, cooldown=9)),
    ],
)
def test_edits_as_typed(text, edit):
    assert parse(text) == edit
    assert parse(str(edit)) == edit


@pytest.mark.parametrize(
    "text",
    ["", " ", "+", "-", "->", "cat->", "+->dog", "hat", "+hat:", "+hat:big", "+hat@", "+hat[3]", "+hat[a..b]",
     "+hat[-1..2]", "+hat:1:2", "+:8", "[1..2]", "-cat->dog", "+cat->dog"],
)  # fmt: skip
def test_what_is_no_edit_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match="edit") as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_values_not_given_are_the_models():
    defaults = {**DEFAULTS, "swap_new_scale": 10.0, "swap_old_scale": 5.0, "warmup": 2}
    new, old = (c for c in editing.concepts([parse("cat->dog")], defaults)[::-1])
    assert (new.prompt, new.scale, new.warmup) == ("dog", 10.0, 2)
    assert (old.prompt, old.scale) == ("cat", -5.0)
    assert old.threshold == DEFAULTS["swap_old_threshold"]


def test_one_scale_for_a_swap_keeps_the_share_of_what_goes():
    defaults = {**DEFAULTS, "swap_new_scale": 10.0, "swap_old_scale": 5.0}
    old, new = editing.concepts([parse("cat->dog:4@0.6[1..3]")], defaults)
    assert (new.scale, old.scale) == (4.0, -2.0)
    assert {(c.threshold, c.warmup, c.cooldown) for c in (old, new)} == {(0.6, 1, 3)}


def test_a_removal_moves_away():
    (hat,) = editing.concepts([parse("-hat:7")], DEFAULTS)
    assert (hat.prompt, hat.scale) == ("hat", -7.0)


RECIPE = Recipe(
    ("+hat", "cat->dog:8"), "scenes", "f", 20, 0.15, 3, "intersect", "", 0.0, "", 4096, "float32", "cpu", False
)


def test_recipes_come_back():
    assert Recipe.from_json(RECIPE.to_json(), "x.png") == RECIPE
    older = {name: value for name, value in RECIPE.to_json().items() if name != "thrifty"}
    assert Recipe.from_json(older, "x.png") == RECIPE


@pytest.mark.parametrize("damage", [{"format": 99}, {"edits": None}, {"edits": "hat"}, {"surprise": 1}])
def test_a_damaged_recipe_is_refused(damage):
    with pytest.raises(ValueError, match=r"x\.png holds"):
        Recipe.from_json({**dataclasses.asdict(RECIPE), "edits": list(RECIPE.edits), **damage}, "x.png")
