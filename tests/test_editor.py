"""The front door: every kind of picture and region, steps, drafts, sheets, recipes, and threads on one inversion."""

import gc
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ledits
from ledits import Editor
from ledits.asked.recipe import Recipe, parse
from ledits.errors import Unsuited
from ledits.files.checkpoints import World
from ledits.language.implied import implied
from ledits.scenes.samples import draw
from ledits.testing import DEFAULTS, ToyBackbone

from conftest import picture

STEPS = {"steps": 4, "skip": 0.2}
# Each mode with an edit in it.
MODES = {"words": ({}, "cat->dog@0.6"), "caption": ({"source": "a cat on a meadow"}, "cat->dog")}


@pytest.fixture(scope="module")
def editor(random_model) -> Editor:
    return Editor(random_model())


@pytest.fixture(params=MODES)
def case(editor, request):
    """An inversion in each mode, and an edit that suits it."""
    options, edit = MODES[request.param]
    return editor.invert(picture(), **STEPS, **options), edit


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_short_way_edits_a_picture_and_keeps_the_model(tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((48, 64, 3), 200, np.uint8)).save(photo)
    ledits.edit(photo, "cat->dog", source="a cat", steps=2).save(tmp_path / "dog.png")
    with Image.open(tmp_path / "dog.png") as result:
        assert result.size == (64, 48)
        assert "ledits" in result.text
    with pytest.raises(ValueError, match="exists"):
        ledits.edit(str(photo), "cat->dog", source="a cat", steps=2).save(tmp_path / "dog.png")


def test_every_kind_of_picture_is_the_same_picture(editor, tmp_path):
    image = picture()
    path = tmp_path / "a.png"
    path.write_bytes(png(image))
    array = np.asarray(image)
    kinds = [
        path, str(path), path.read_bytes(), image, array, array.astype(np.float32) / 255,
        torch.from_numpy(array.copy()).permute(2, 0, 1), torch.from_numpy(array / 255).permute(2, 0, 1)[None],
    ]  # fmt: skip
    inversions = [editor.invert(kind, **STEPS) for kind in kinds]
    assert len({inversion.picture.sha256 for inversion in inversions}) == 1
    assert len({inversion.edit("+hat").rgb.tobytes() for inversion in inversions}) == 1


@pytest.mark.parametrize(
    "bad",
    [np.zeros((8, 8, 2)), np.zeros((4, 4, 3), np.uint8), np.full((8, 8, 3), 2.0), np.zeros((8, 8, 3), np.int64),
     torch.zeros(2, 3, 8, 8), torch.zeros(8, 8, 3), b"no picture", Image.new("F", (9, 9)), "none.png"],
)  # fmt: skip
def test_what_is_no_picture_is_one_sentence(editor, bad):
    with pytest.raises(ValueError, match=r"\w+") as error:
        editor.invert(bad)
    assert "\n" not in str(error.value)


def test_steps_end_at_what_edit_gives_and_count_what_it_costs(case):
    inversion, edit = case
    replay = inversion.steps(edit)
    steps = list(replay)
    result = replay.result()
    assert [step.index for step in steps] == list(range(steps[0].total))
    assert [step.network_evaluations for step in steps] == sorted(step.network_evaluations for step in steps)
    assert steps[-1].preview().size == result.image.size
    again = inversion.edit(edit)
    assert again.rgb.tobytes() == result.rgb.tobytes()
    assert inversion.steps(edit).result().rgb.tobytes() == result.rgb.tobytes()


def test_an_edit_of_scale_0_is_the_reconstruction(case):
    inversion, edit = case
    result = inversion.edit(f"{edit}:0")
    assert result.rgb.tobytes() == np.asarray(result.reconstruction).tobytes()
    assert result.rgb.tobytes() != inversion.edit(f"{edit}:9").rgb.tobytes()


def test_a_replay_that_is_dropped_leaves_no_trace(case):
    inversion, edit = case
    whole = inversion.edit(edit).rgb
    first, second = inversion.steps(edit), inversion.steps(edit)
    next(first), next(second), next(first)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    del first
    gc.collect()
    assert not torch.is_inference_mode_enabled()
    assert second.result().rgb.tobytes() == whole.tobytes()


def test_another_thread_may_step(case):
    inversion, edit = case
    replay = inversion.steps(edit)
    next(replay)
    results = []
    thread = threading.Thread(target=lambda: results.append(replay.result().rgb))
    thread.start()
    thread.join()
    assert results[0].tobytes() == inversion.edit(edit).rgb.tobytes()


def test_threads_on_one_inversion_do_not_meet(case):
    inversion, edit = case
    edits = [f"{edit}:{scale}" for scale in (1, 2, 3, 4)]
    alone = [inversion.edit(each).rgb.tobytes() for each in edits]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda each: inversion.edit(each).rgb.tobytes(), edits)) == alone


def test_a_change_of_strength_asks_for_no_region_again(editor):
    inversion = editor.invert(picture(), **STEPS, source="a cat on a meadow")
    first, second = inversion.edit("cat->dog:2"), inversion.edit("cat->dog:3")
    assert second.network_evaluations < first.network_evaluations
    fresh = editor.invert(picture(), **STEPS, source="a cat on a meadow").edit("cat->dog:3")
    assert fresh.rgb.tobytes() == second.rgb.tobytes()


def test_the_order_of_edits_is_irrelevant_and_each_has_its_mask(case):
    inversion, edit = case
    other = "+hat@0.6" if inversion.mode == "words" else "meadow->beach"
    one, two = inversion.edit(edit, other), inversion.edit(other, edit)
    assert np.abs(one.rgb.astype(int) - two.rgb).max() <= 1
    for a, b in zip(one.masks, reversed(two.masks), strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1


def test_an_edit_that_changes_nothing_says_why(case):
    inversion, edit = case
    assert inversion.edit(edit).idle == [None]
    assert [idle and idle.why for idle in inversion.edit(f"{edit}:0").idle] == ["no_strength"]
    assert [idle and idle.why for idle in inversion.edit("cat->the cat").idle] == ["same_words"]
    with pytest.raises(ValueError, match="region of its own"):
        inversion.edit("cat->dog", "cat->fox")
    # Each in a place of its own: two cats.
    apart = inversion.edit("cat->dog|0,0,8,32@0", "cat->fox|16,0,8,32@0").idle
    assert apart == [None, None]


def test_a_preview_shows_the_original_where_no_mask_is_open(case):
    inversion, edit = case
    for step in inversion.steps(f"{edit}|0,0,8,32"):
        preview = np.asarray(step.preview()).astype(int)
        assert np.abs(preview - inversion.picture.rgb)[:, 16:].max() == 0


def test_a_region_keeps_an_edit_inside_it_and_comes_in_any_form(case, tmp_path):
    inversion, edit = case
    mask = np.zeros((32, 32), bool)
    mask[8:24, :16] = True
    Image.fromarray(mask).convert("L").save(tmp_path / "mask.png")
    forms = [
        mask, mask.astype(np.float32), mask.astype(np.uint8) * 255, Image.fromarray(mask), torch.from_numpy(mask),
        tmp_path / "mask.png", (0, 8, 16, 16), [mask],
    ]  # fmt: skip
    results = [inversion.edit(edit, region=form, composite=True) for form in forms]
    assert len({result.rgb.tobytes() for result in results}) == 1
    boxed = inversion.edit(f"{edit}|0,8,16,16", composite=True)
    assert boxed.rgb.tobytes() == results[0].rgb.tobytes()
    assert not np.asarray(results[0].masks[0])[~mask].any()
    changed = (results[0].rgb != inversion.picture.rgb).any(2)
    assert changed.any()
    assert not changed[:, 24:].any()  # past the cell beside the region, which the decoder carries it into


@pytest.mark.parametrize(
    "region",
    [np.zeros((8, 8)), np.zeros((32, 32)), np.full((32, 32), 2.0), (0, 0, 4), (40, 0, 4, 4), [None, None], "none.png"],
)
def test_a_region_that_can_not_be_is_one_sentence(editor, region):
    with pytest.raises(ValueError, match="region|file") as error:
        editor.invert(picture(), **STEPS).steps("+hat", region=region)
    assert "\n" not in str(error.value)


def test_a_closed_replay_leaves_the_model_at_once():
    """A host that has one model for all must have it back, though something still holds the replay."""

    class Watched(ToyBackbone):
        inside = 0

        @contextmanager
        def denoiser(self, *args: Any, **given: Any):
            Watched.inside += 1
            with super().denoiser(*args, **given) as denoise:
                try:
                    yield denoise
                finally:
                    Watched.inside -= 1

    replay = Editor(Watched()).invert(picture()).steps("+hat")
    next(replay)
    assert Watched.inside == 1
    replay.close()
    assert Watched.inside == 0
    assert list(replay) == []


@pytest.mark.parametrize("composite", [False, True])
def test_a_recipe_makes_the_same_picture_again(case, tmp_path, composite):
    inversion, edit = case
    soft = np.linspace(0, 1, 32, dtype=np.float32)[None].repeat(32, 0)
    made = inversion.edit(edit, region=soft, composite=composite)
    value = made.recipe.to_json()
    again = inversion.editor.repeat(picture(), Recipe.from_json(value, "here"))
    assert again.rgb.tobytes() == made.rgb.tobytes()
    assert again.recipe == made.recipe


def test_an_inversion_from_a_file_edits_as_it_did(case, tmp_path):
    inversion, edit = case
    inversion.save(tmp_path / "a.safetensors")
    back = inversion.editor.open_inversion(tmp_path / "a.safetensors", picture())
    assert back.mode == inversion.mode
    assert back.edit(edit).rgb.tobytes() == inversion.edit(edit).rgb.tobytes()
    with pytest.raises(ValueError, match="another picture"):
        inversion.editor.open_inversion(tmp_path / "a.safetensors", picture(1))


def test_a_draft_costs_nothing_and_is_exact(case):
    inversion, edit = case
    draft = inversion.draft(2)
    assert draft.network_evaluations == 0
    assert len(draft.path.schedule) == 2
    assert draft.latent_error() <= 1e-5
    assert inversion.draft(4).edit(edit).rgb.tobytes() == inversion.edit(edit).rgb.tobytes()
    with pytest.raises(ValueError, match="1 to 4"):
        inversion.draft(5)


def test_a_draft_knows_how_much_noise_its_levels_have(case, monkeypatch):
    """Of a path with more noise than its schedule says (TurboEdit) it was forgotten."""
    inversion, _ = case
    s = inversion.path.schedule
    more = replace(s, noised=(tuple(alpha / 2 for alpha in s.alpha), s.sigma))
    monkeypatch.setattr(inversion, "path", replace(inversion.path, schedule=more))
    draft = inversion.draft(2).path.schedule
    assert draft.noised == (tuple(alpha / 2 for alpha in draft.alpha), draft.sigma)


def test_a_sheet_holds_what_each_edit_gives(case):
    inversion, edit = case
    edit = edit.partition("@")[0]
    rows = inversion.sheet(edit, scale=(1, 3), threshold=(0.5, 0.8, 0.9))
    assert [len(row) for row in rows] == [2, 2, 2]
    assert rows[1][1].rgb.tobytes() == inversion.edit(f"{edit}:3@0.8").rgb.tobytes()


def test_padding_is_no_part_of_what_masks_are_a_share_of(editor):
    """A picture of 36x20 pixels is padded to 40x24: the share left alone is of its own cells."""
    inversion = editor.invert(picture(width=36, height=20), **STEPS)
    rows, columns = inversion.path.x.shape[-2:]
    inside = inversion.frame.inside(rows, columns)
    assert inside is not None
    assert 0 < inside.sum() < rows * columns
    (step, *_) = inversion.steps("+hat@0.75", mask="noise")
    mask = step.step.masks[0, 0]
    assert not mask[inside[0, 0] == 0].any()
    assert mask.sum() == pytest.approx(0.25 * inside.sum().item(), abs=1.5)


def test_a_network_that_overflows_is_said_so_instead_of_a_black_picture(editor):
    inversion = editor.invert(picture(), **STEPS)
    with pytest.raises(ValueError, match="not finite"):
        inversion.edit("+hat:1e38")


def test_progress_is_told_and_can_stop_an_inversion(random_model):
    seen = []
    Editor(random_model(max_batch=1)).invert(picture(), **STEPS, progress=lambda *at: seen.append(at))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        Editor(random_model(max_batch=1)).invert(picture(), **STEPS, progress=stop)


WRONG = {
    "no edit": ((), {}, "no edit is given"),
    "a list of edits": ((["+hat", "-bow"],), {}, "each one by itself"),
    "a caption's edit by words": (("->a dog",), {}, "source="),
    "a mask rule with a caption": (("cat->dog",), {"source": "a cat", "mask": "noise"}, "edits by words"),
    "dropping a source that is not there": (("+hat",), {"drop_source_late": True}, "needs a source"),
    "a source scale alone": (("+hat",), {"source_scale": 2.0}, "a source with it"),
    "a negative prompt with a caption": (("cat->dog",), {"source": "a cat", "negative": "x"}, "leave the negative"),
    "an edit past the end": (("+hat[9..]",), {"steps": 4}, "past the end"),
    "what the caption does not hold": (("fox->dog",), {"source": "a cat"}, "not in the source"),
    "no steps": (("+hat",), {"steps": 0}, "at least 1"),
    "skip of 1": (("+hat",), {"skip": 1.0}, "skip"),
    "skip that is no number": (("+hat",), {"skip": float("nan")}, "skip"),
    "a seed of 65 bits": (("+hat",), {"seed": 2**65}, "64 bits"),
    "size 0": (("+hat",), {"size": 0}, "8 pixels"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_can_not_be_is_said_before_the_picture_is_inverted(editor, name, monkeypatch):
    edits, options, words = WRONG[name]
    monkeypatch.setattr(Editor, "invert", lambda *_, **__: pytest.fail("inverted"))
    with pytest.raises(ValueError, match=words) as error:
        editor.edit(picture(), *edits, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("edits", "caption", "prompts"),
    [
        (["cat->dog"], "a cat", ["a dog"]),
        (["cat->an owl", "red fox->dog"], "a cat and a red fox", ["an owl and a red fox", "a cat and a dog"]),
        (["cat->an empty beach"], "a cat", ["an empty beach"]),
        (["cat->dog", "-owl"], "a cat and an owl", ["a dog and an owl", "a cat"]),
        (["dress->skirt"], "a dress", ["a skirt"]),
        # What is worn ...
        (["-sunglasses"], "wearing sunglasses", [""]),
        (["cat->dog", "+sunglasses"], "a cat", ["a dog", "a cat wearing sunglasses"]),
        (["top hat->crown"], "wearing a top hat", ["wearing a crown"]),
        (["frog wearing a crown->frog wearing a hat"], "a frog wearing a crown", ["a frog wearing a hat"]),
        (["+a crown", "+in the snow"], "", ["wearing a crown", "in the snow"]),
        (["crown->cat"], "a crown", ["a cat"]),
        # ... and where everything is, which a place's new words may say.
        (["beach->snow"], "on a beach", ["in the snow"]),
        (["cat->dog", "beach->snow"], "a cat on a beach", ["a dog on a beach", "a cat in the snow"]),
        (["beach->a cat and a fox in the snow"], "a cat and a fox on a beach", ["a cat and a fox in the snow"]),
        (["beach->snow", "sunset->night"], "a beach and a sunset", ["a snow and a sunset", "a beach and a night"]),
    ],
)
def test_edits_by_words_imply_a_caption(edits, caption, prompts):
    """Of a model that says which words name places, and which what is worn."""
    places = {"beach": "on a {}", "snow": "in the {}", "sunset": "at {}"}
    world = World(frozenset(), 0.0, places=places, worn=frozenset({"sunglasses", "hat", "crown"}))
    assert implied([parse(edit) for edit in edits], world) == (caption, prompts)


def test_no_word_of_a_small_world_is_known_to_the_library():
    assert implied([parse("beach->snow"), parse("hat->crown")], None).source == "a beach and a hat"


def test_located_edits_by_words_are_edits_with_the_caption_that_they_imply(editor):
    """The same path under the same caption, whether it is asked at once or after an inversion without one."""
    edits = ["cat->dog:3", "fox->owl@0.8"]
    inversion = editor.invert(picture(), **STEPS)
    inversion.edit("+hat", mask="located")  # asks along the path too, under no caption
    located = inversion.edit(*edits, mask="located")
    captioned = editor.edit(picture(), *edits, source="a cat and a fox", **STEPS)
    assert png(located.image) == png(captioned.image) != png(located.reconstruction)
    assert located.recipe.mask == "located"
    assert png(editor.repeat(picture(), located.recipe).image) == png(located.image)


def test_only_a_model_with_a_scale_for_it_locates_edits_by_words_of_itself():
    plain, tuned = (Editor(ToyBackbone(defaults=DEFAULTS.changed(d))) for d in ({}, {"located_scale": 3.0}))
    assert plain.edit(picture(), "cat->dog").recipe.mask == "intersect"
    by_itself = tuned.edit(picture(), "cat->dog")
    assert by_itself.recipe.mask == "located"
    assert png(by_itself.image) == png(plain.edit(picture(), "cat->dog:3", mask="located").image)
    assert tuned.edit(picture(), "cat->dog", mask="noise").recipe.mask == "noise"
    assert tuned.edit(picture(), "cat->dog", negative="blurry").recipe.mask == "intersect"
    assert tuned.edit(picture(), "cat->dog", source="a cat").recipe.mask is None
    with pytest.raises(ValueError, match="choose another mask, such as intersect"):
        tuned.edit(picture(), "cat->dog", mask="located", negative="blurry")


def test_a_threshold_of_0_leaves_nothing_alone(case):
    inversion, edit = case
    edited = inversion.edit(edit.partition("@")[0] + "@0")
    assert all(np.asarray(mask).min() == 255 for mask in edited.masks)


def test_a_drafts_recipe_repeats_it_bit_for_bit_also_after_a_file(case, tmp_path):
    """It said as many steps as the draft has, which are other levels: 240 of 255 off."""
    inversion, edit = case
    draft = inversion.editor.invert(picture(), replace(inversion.settings, steps=7)).draft(5)
    for each in (draft, draft.draft(3)):
        each.save(tmp_path / "draft.safetensors", overwrite=True)
        back = inversion.editor.open_inversion(tmp_path / "draft.safetensors", picture())
        made = each.edit(edit)
        value = json.loads(json.dumps(made.recipe.to_json()))
        assert len(value["levels"]) == len(each.path.schedule)
        again = inversion.editor.repeat(picture(), Recipe.from_json(value, "here"))
        assert again.rgb.tobytes() == made.rgb.tobytes() == back.edit(edit).rgb.tobytes()
        assert again.recipe == made.recipe == back.edit(edit).recipe
    assert "levels" not in inversion.edit(edit).recipe.to_json()
    assert "levels" not in draft.editor.invert(picture(), draft.settings).draft(7).edit(edit).recipe.to_json()


@pytest.mark.parametrize("levels", [[], [3, 1], [0, 0], [-1, 2], [0, 4], [True], ["1"], "02", {}, 1.5])
def test_levels_that_can_not_be_are_refused(case, levels):
    inversion, edit = case
    value = inversion.edit(edit).recipe.to_json() | {"levels": levels}
    with pytest.raises(ValueError, match="levels"):
        Recipe.from_json(value, "here")


CONTRADICTING = [
    ["cat->dog", "cat->fox"], ["cat->dog", "-cat"], ["+hat", "-hat"], ["cat->dog:2", "CAT->fox:3@0.5"],
    ["cat->dog[..3]", "cat->fox[2..]"], ["cat->dog|0,0,9,9", "cat->fox|8,8,9,9"],
    ["cat->dog", "+hat", "cat->fox|0,0,4,4"],
]  # fmt: skip
AGREEING = [
    ["cat->dog", "fox->owl"], ["cat->dog[..2]", "cat->fox[2..]"], ["cat->dog|0,0,8,8", "cat->fox|8,8,8,8"],
    ["cat->dog", "cat->fox:0"], ["+hat", "-cat"], ["cat->dog", "fox->cat"], ["-hat", "+hat:0"],
]  # fmt: skip


@pytest.mark.parametrize("edits", CONTRADICTING, ids=" ".join)
def test_edits_that_contradict_each_other_are_said(edits):
    """One of them won, and the other's slider showed nothing."""
    inversion = Editor(ToyBackbone()).invert(picture())
    with pytest.raises(ValueError, match="contradict each other.*region of its own"):
        inversion.steps(*edits)


@pytest.mark.parametrize("edits", AGREEING, ids=" ".join)
def test_edits_in_other_places_or_steps_do_not_contradict(edits):
    Editor(ToyBackbone()).edit(picture(), *edits)


def test_a_caption_has_one_whole_picture_to_become():
    inversion = Editor(ToyBackbone()).invert(picture(), source="a cat on a beach")
    with pytest.raises(ValueError, match="contradict|change the same"):
        inversion.steps("->a dog on a beach", "->an owl at night")


def test_the_front_door_refuses_what_the_model_does_not_know_unless_told(bundled):
    """Python smeared what the command line refuses."""
    editor = Editor(bundled)
    ramp = np.linspace(0, 255, 128)
    photograph = np.stack([ramp[None].repeat(128, 0), ramp[:, None].repeat(128, 1), np.full((128, 128), 90.0)], 2)
    rng = np.random.default_rng(0)
    photograph = (photograph + rng.normal(0, 40, photograph.shape)).clip(0, 255).astype(np.uint8)
    with pytest.raises(Unsuited, match="anyway=True"):
        editor.invert(photograph, steps=1)
    with pytest.raises(Unsuited, match="anyway=True"):
        editor.edit(photograph, "+hat", steps=1)
    inversion = editor.invert(photograph, steps=1, anyway=True)
    inversion.edit("+wibblefrotz")
    known = editor.invert(draw("cat"), steps=1)
    with pytest.raises(Unsuited, match="wibblefrotz"):
        known.edit("+wibblefrotz")
    with pytest.raises(Unsuited, match="wibblefrotz"):
        editor.edit(draw("cat"), "+wibblefrotz", steps=1)
    made = inversion.edit("+hat")
    assert editor.repeat(photograph, made.recipe).rgb.tobytes() == made.rgb.tobytes()
