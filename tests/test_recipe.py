"""The grammar of edits, and recipes that come back as they were written."""

import dataclasses
import json
from typing import get_args

import pytest

from ledits.asked.plan import by_words
from ledits.asked.recipe import MASK_RULES, Edit, Recipe, parse
from ledits.asked.settings import Settings
from ledits.files.defaults import Defaults
from ledits.method import core


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
        ("+hat|120,40,200,160:3", Edit("add", new="hat", scale=3.0, box=(120, 40, 200, 160))),
    ],
)
def test_edits_as_typed(text, edit):
    assert parse(text) == edit
    assert parse(str(edit)) == edit


@pytest.mark.parametrize(
    "text",
    ["", " ", "+", "-", "->", "cat->", "+->dog", "hat", "+hat:", "+hat:big", "+hat@", "+hat[3]", "+hat[a..b]",
     "+hat[-1..2]", "+hat:1:2", "+:8", "[1..2]", "-cat->dog", "+cat->dog",
     "+hat@2", "+hat@nan", "+hat:inf", "+hat[5..3]", "+hat|1,2", "+hat|1,2,0,4", "+hat|a,b,c,d"],
)  # fmt: skip
def test_what_is_no_edit_is_refused_in_one_sentence(text):
    with pytest.raises(ValueError, match="edit") as error:
        parse(text)
    assert "\n" not in str(error.value)


def test_values_not_given_are_the_models():
    defaults = Defaults(swap_new_scale=10.0, swap_old_scale=5.0, warmup=2)
    new, old = by_words(parse("cat->dog"), defaults)[::-1]
    assert (new.prompt, new.scale, new.warmup) == ("dog", 10.0, 2)
    assert (old.prompt, old.scale) == ("cat", -5.0)
    assert old.threshold == Defaults().swap_old_threshold


def test_one_scale_for_a_swap_keeps_the_share_of_what_goes():
    defaults = Defaults(swap_new_scale=10.0, swap_old_scale=5.0)
    old, new = by_words(parse("cat->dog:4@0.6[1..3]"), defaults)
    assert (new.scale, old.scale) == (4.0, -2.0)
    assert {(c.threshold, c.warmup, c.cooldown) for c in (old, new)} == {(0.6, 1, 3)}


def test_a_removal_moves_away():
    (hat,) = by_words(parse("-hat:7"), Defaults())
    assert (hat.prompt, hat.scale) == ("hat", -7.0)


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-7, 123456.789, 7.0, 1 / 3])
def test_a_scale_or_threshold_reads_back_to_the_last_digit(value):
    edit = Edit("add", new="hat", scale=value, threshold=value % 1 or 0.5)
    assert parse(str(edit)) == edit


SETTINGS = Settings(steps=20, skip=0.15, seed=3, area=4096)
RECIPE = Recipe(
    edits=("+hat", "cat->dog:8"), regions=(None, None), model="scenes", fingerprint="f", settings=SETTINGS,
    mask="intersect", composite=False, drop_source_late=False, dtype="float32", device="cpu",
)  # fmt: skip
CAPTIONED = dataclasses.replace(RECIPE, settings=dataclasses.replace(SETTINGS, source="a cat"), mask=None)


@pytest.mark.parametrize("recipe", [RECIPE, CAPTIONED])
def test_recipes_come_back(recipe):
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json())), "x.png") == recipe


DAMAGE = {
    "another format": {"format": 99},
    "no edits": {"edits": None},
    "empty edits": {"edits": [], "regions": []},
    "edits that are one text": {"edits": "hat"},
    "an edit that is none": {"edits": ["hat", "+b"]},
    "an edit that is a number": {"edits": [3, "+b"]},
    "a region too few": {"regions": [None]},
    "regions of numbers": {"regions": [1, 2]},
    "an unknown key": {"surprise": 1},
    "an unknown mask": {"mask": "evil"},
    "no mask, by words": {"mask": None},
    "a list for a mask": {"mask": ["intersect"]},
    "a model that is none": {"model": None},
    "an empty dtype": {"dtype": ""},
    "a number for a yes": {"composite": 1},
    "settings that are a list": {"settings": []},
    "a setting missing": {"settings": {"steps": 3}},
    "steps of text": {"settings": {**dataclasses.asdict(SETTINGS), "steps": "20"}},
    "steps of true": {"settings": {**dataclasses.asdict(SETTINGS), "steps": True}},
    "no steps": {"settings": {**dataclasses.asdict(SETTINGS), "steps": 0}},
    "a skip that is no number": {"settings": {**dataclasses.asdict(SETTINGS), "skip": float("nan")}},
    "a skip of one": {"settings": {**dataclasses.asdict(SETTINGS), "skip": 1}},
    "an endless seed": {"settings": {**dataclasses.asdict(SETTINGS), "seed": 10**40}},
    "a source scale without a source": {"settings": {**dataclasses.asdict(SETTINGS), "source_scale": 2.0}},
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_recipe_is_refused(name):
    with pytest.raises(ValueError, match=r"x\.png holds") as error:
        Recipe.from_json({**RECIPE.to_json(), **DAMAGE[name]}, "x.png")
    assert "\n" not in str(error.value)


def test_a_region_in_a_recipe_that_is_no_picture_is_refused():
    with pytest.raises(ValueError, match="base64"):
        dataclasses.replace(RECIPE, regions=("!", None)).masks()


def test_recipes_know_the_rules_of_the_core_and_one_more():
    assert set(MASK_RULES) == {"located", *get_args(core.MaskRule)}
