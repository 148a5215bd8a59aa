"""The composer keeps its promises (captions, masks, held-out pairs, room), and the recogniser sees what it draws."""

import ast
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from ledits import scenes
from ledits.scenes import ACCESSORIES, BACKGROUNDS, HEADS, OBJECTS, Mask, Picture, Placed, Scene
from ledits.scenes.recognise import SEEN, about, background_of, dressed, is_drawn, recognise, style_of, wearing_of
from ledits.scenes.style import STYLES, restyle

NAMES = re.compile(rf"\b({'|'.join(OBJECTS)})\b")
BESIDE = re.compile(rf"({'|'.join(OBJECTS)}) to the (left|right) of an? ({'|'.join(OBJECTS)})\b")


def sampled(seed: int, number: int, count: int | None = None, *, held_out: bool | None = None) -> Iterator[Scene]:
    rng = np.random.default_rng(seed)
    return (scenes.sample(rng, count, held_out=held_out) for _ in range(number))


def other(rng: np.random.Generator, scene: Scene) -> str:
    return str(rng.choice([name for name in OBJECTS if name not in {o.name for o in scene.objects}]))


def clean(scene: Scene, side: int = scenes.SIDE) -> Picture:
    return scenes.background(scene.background, scene.seed, side)


def drawn(scene: Scene, index: int, side: int = scenes.SIDE) -> Mask:
    """Where an object shows, found from pictures alone."""
    return (scene.render(side) != scene.remove(index).render(side)).any(-1)


def middle(scene: Scene, index: int) -> float:
    """The column in the middle of an object, found from pictures alone."""
    return float(np.nonzero(drawn(scene, index).any(0))[0].mean())


def worn(rng: np.random.Generator, picture: Picture, ghost: Picture) -> Picture:
    """A picture as an imperfect editor leaves it: a quarter of what was there before, blurred, off colour, noisy."""
    values = 0.75 * picture + 0.25 * ghost
    for axis in (0, 1):
        values = (np.roll(values, 1, axis) + 2 * values + np.roll(values, -1, axis)) / 4
    values += 10 * rng.choice([-1, 1], 3) + rng.normal(0, 8, values.shape)
    return values.clip(0, 255).astype(np.uint8)


def worn_scenes(seed: int, number: int, count: int | None = None) -> Iterator[Scene]:
    """Scenes whose first object is an animal with room for a hat."""
    rng = np.random.default_rng(seed)
    while number:
        scene = scenes.sample(rng, count, held_out=None)
        if scene.objects and scene.objects[0].name in HEADS:
            number -= 1
            yield scene.put(0, scenes.room(scene.objects[0]))


def test_same_seed_same_scene():
    for one, two in zip(sampled(1, 20), sampled(1, 20), strict=True):
        assert one == two
        assert np.array_equal(one.render(), two.render())
    assert list(sampled(1, 20)) != list(sampled(2, 20))


def test_seed_changes_light_or_horizon():
    for name in set(BACKGROUNDS) - {"night sky"}:
        assert len({scenes.background(name, seed).tobytes() for seed in range(4)}) == 4


def test_captions_name_all_or_none():
    rng = np.random.default_rng(0)
    silent = spoken = empty = 0
    for scene in sampled(3, 1500):
        names = sorted(o.name for o in scene.objects)
        assert sorted(NAMES.findall(scene.caption())) == names
        text = scene.captions(rng)
        said = sorted(NAMES.findall(text))
        assert said in ([], names), text
        if "empty" in text:
            assert not names, text
        silent += bool(names) and not said
        spoken += bool(said)
        empty += "empty" in text
    assert silent > 50
    assert spoken > 1000
    assert empty > 50


def test_captions_name_the_right_background():
    rng = np.random.default_rng(0)
    named = 0
    for scene in sampled(4, 600):
        for text in (scene.captions(rng), scene.caption(), scene.empty()):
            said = [b for b in BACKGROUNDS if scenes.noun(b) in text]
            assert said in ([], [scene.background]), text
            named += bool(said)
        assert scene.background in scene.caption()
        assert scene.background in scene.empty()
    assert named > 1200


def test_left_and_right_are_true():
    rng = np.random.default_rng(0)
    sides: list[str] = []
    for scene in sampled(5, 1200):
        text = scene.captions(rng)
        place = {o.name: i for i, o in enumerate(scene.objects)}
        if found := BESIDE.search(text):
            one, side, two = found.groups()
            assert (middle(scene, place[one]) < middle(scene, place[two])) == (side == "left"), text
            sides.append(f"{side} of")
        elif found := re.search(r"on the (left|right)\b", text):
            assert len(place) == 1
            assert (middle(scene, 0) < scenes.SIDE / 2) == (found[1] == "left"), text
            sides.append(found[1])
    assert all(sides.count(side) > 20 for side in ("left", "right", "left of", "right of"))


def test_captions_say_what_is_worn_and_the_style():
    rng = np.random.default_rng(0)
    said = alone = 0
    for _ in range(1500):
        scene = scenes.dress(rng, scenes.sample(rng))
        text = scene.captions(rng)
        # A style is in every caption of a styled scene, and in no other.
        assert [style for style in STYLES if style in text] == [scene.style] * bool(scene.style), text
        worn_there = sorted(o.wearing for o in scene.objects if o.wearing)
        # What is worn, or stands after a comma; a crown there without "wearing" is the object.
        said_so = rf"(?:wearing (?:an? )?(crown)|(?:wearing |, )(?:an? )?({'|'.join(set(ACCESSORIES) - {'crown'})}))"
        worn_said = sorted(one or two for one, two in re.findall(said_so, text))
        names = {o.name for o in scene.objects}
        if any(re.search(rf"\b{name}\b", text.split(" wearing ")[0]) for name in names):
            assert worn_said == worn_there, text
        else:
            alone += bool(worn_said) and len(names) > 1
        said += bool(worn_said)
        full = scene.caption()
        assert sorted(re.findall(rf"wearing (?:an? )?({'|'.join(ACCESSORIES)})", full)) == worn_there
        assert scene.style in full
        assert scene.draw("").caption() in full
    assert said > 150
    assert alone > 5


def test_accessories_stay_in_the_picture_and_on_the_animal():
    """None is cut off at an edge, and each covers some of the animal's own pixels."""
    for scene in worn_scenes(30, 60):
        bare = scene.wear(0, "")
        for name in ACCESSORIES:
            mask = bare.mask(scene.wear(0, name), 128)
            assert mask.any()
            assert not mask[0].any()
            assert (mask & drawn(bare, 0, 128)).sum() >= 10, (scene, name)


def test_swap_keeps_what_is_worn_where_it_can():
    scene = Scene((Placed("cat", 32, 40, 30, "bow"),), "blue", 1)
    assert scene.swap(0, "dog").objects[0].wearing == "bow"
    assert scene.swap(0, "pizza").objects[0].wearing == ""
    with pytest.raises(ValueError, match="pizza wearing bow"):
        scene.swap(0, "pizza").wear(0, "bow")


def test_styles_are_what_they_say():
    for scene in sampled(31, 10):
        plain = scene.render(128)
        gray, sketch, pixels = (scene.draw(name).render(128) for name in ("black and white photo", *STYLES[::2]))
        assert np.ptp(gray, -1).max() == np.ptp(sketch, -1).max() == 0
        assert np.abs(gray[..., 0] - plain @ [0.299, 0.587, 0.114]).max() < 1
        blocks = pixels.reshape(32, 4, 32, 4, 3)
        assert (blocks == blocks[:, :1, :, :1]).all()
        assert np.abs(blocks[:, 0, :, 0] - plain.reshape(32, 4, 32, 4, 3).mean((1, 3))).max() < 14
        # Paper is bright, whatever the picture.
        assert np.median(sketch) > 200
    with pytest.raises(ValueError, match="no style 'oil'"):
        restyle(plain, "oil")


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("edit", ["swap", "remove", "add", "move", "wear", "change hats", "styled swap", "restyle"])
def test_mask_is_what_differs(edit: str, side: int):
    rng = np.random.default_rng(6)
    for scene in worn_scenes(7, 40) if edit in ("wear", "change hats", "styled swap") else sampled(7, 60):
        index = int(rng.integers(len(scene.objects))) if scene.objects else None
        if edit == "add":
            # Anywhere, in front of other objects too.
            x, y = map(int, rng.integers(14, 51, 2))
            twin = scene.add(Placed(other(rng, scene), x, y, 26))
        elif edit == "move":
            twin = scene.move(str(rng.choice([b for b in BACKGROUNDS if b != scene.background])))
        elif edit == "restyle":
            twin = scene.draw(str(rng.choice(STYLES)))
            assert scene.mask(twin, side).all()
            continue
        elif edit == "wear":
            twin = scene.wear(0, str(rng.choice(ACCESSORIES)))
        elif edit == "change hats":
            one, two = rng.choice(ACCESSORIES, 2, replace=False)
            scene, twin = scene.wear(0, str(one)), scene.wear(0, str(two))
        elif edit == "styled swap":
            scene = scene.draw(str(rng.choice(STYLES)))
            twin = scene.swap(0, other(rng, scene))
            mask, differs = scene.mask(twin, side), (scene.render(side) != twin.render(side)).any(-1)
            assert not (differs & ~mask).any(), (scene, twin)
            continue
        elif index is None:
            continue
        else:
            twin = scene.swap(index, other(rng, scene)) if edit == "swap" else scene.remove(index)
        mask, differs = scene.mask(twin, side), (scene.render(side) != twin.render(side)).any(-1)
        assert not (differs & ~mask).any(), (scene, twin)
        assert differs.sum() > 0.9 * mask.sum(), (scene, twin)
        assert np.array_equal(mask, twin.mask(scene, side))


def test_mask_of_no_edit_is_empty():
    assert not any(scene.mask(scene).any() for scene in sampled(8, 20))


def test_held_out_pairs():
    def unseen(scene: Scene) -> bool:
        names = [o.name for o in scene.objects]
        pairs = [*combinations(names, 2), *((name, scene.background) for name in names)]
        return any(scenes.held_out_pair(a, b) for a, b in pairs)

    assert not any(map(unseen, sampled(9, 300, held_out=False)))
    assert all(map(unseen, sampled(9, 300, held_out=True)))
    assert 0 < sum(map(unseen, sampled(9, 300, held_out=None))) < 150
    rng = np.random.default_rng(9)
    clothes = [o for _ in range(2000) for o in scenes.dress(rng, scenes.sample(rng)).objects if o.wearing]
    assert not any(scenes.held_out_pair(o.name, o.wearing) for o in clothes)
    unworn = {(a, b) for a in HEADS for b in ACCESSORIES} - {(o.name, o.wearing) for o in clothes}
    assert unworn == {("panda", "crown"), ("owl", "top hat")}
    pairs = [*combinations(OBJECTS, 2), *((name, where) for name in OBJECTS for where in BACKGROUNDS)]
    assert all(scenes.held_out_pair(a, b) == scenes.held_out_pair(b, a) for a, b in pairs)
    assert 0.05 < np.mean([scenes.held_out_pair(a, b) for a, b in pairs]) < 0.12


@pytest.mark.parametrize("count", [1, 2, 3])
def test_objects_stay_apart_and_inside(count: int):
    for scene in sampled(10, 150, count):
        assert len({o.name for o in scene.objects}) == count
        for o in scene.objects:
            assert o.size / 2 <= min(o.x, o.y, 64 - o.x, 64 - o.y)
        for a, b in combinations(scene.objects, 2):
            assert abs(a.x - b.x) >= (a.size + b.size) / 2
    for side in (64, 96):
        for scene in sampled(11, 20, count):
            shown = np.sum([drawn(scene, i, side) for i in range(count)], 0)
            assert shown.max() == 1


def test_recognises_single_objects():
    for scene in sampled(12, 20, 1):
        (placed,), found = scene.objects, recognise(scene.render(), clean(scene))
        assert sorted(f.name for f in found) == sorted(OBJECTS)
        best = found[0]
        assert (best.name, best.size) == (placed.name, placed.size)
        assert max(abs(best.x - placed.x), abs(best.y - placed.y)) <= 1
        assert best.explained > 0.99
        assert [f.explained for f in found] == sorted((f.explained for f in found), reverse=True)


def test_recognises_each_of_a_pair_and_its_twin():
    rng = np.random.default_rng(13)
    for scene in sampled(14, 10, 2):
        twin = scene.swap(0, other(rng, scene))
        for s in (scene, twin):
            for placed in s.objects:
                best = recognise(s.render(), clean(s), near=placed)[0]
                assert (best.name, best.size) == (placed.name, placed.size)
                assert best.explained > 0.8
        gone = recognise(scene.remove(0).render(), clean(scene), near=scene.objects[0])[0]
        assert gone.explained < SEEN


def test_recognises_a_worn_picture():
    rng = np.random.default_rng(15)
    for scene in sampled(16, 20, 1):
        twin = scene.swap(0, other(rng, scene))
        picture = worn(rng, twin.render(), scene.render())
        assert recognise(picture, clean(scene))[0].name == twin.objects[0].name
        ghost = worn(rng, clean(scene), scene.render())
        assert recognise(ghost, clean(scene), near=scene.objects[0])[0].explained < SEEN


@pytest.mark.parametrize("side", [64, 128])
def test_recognises_what_is_worn(side: int):
    rng = np.random.default_rng(32)
    for scene in worn_scenes(33, 16):
        old, new = map(str, rng.choice(["", *ACCESSORIES], 2, replace=False))
        scene, twin = scene.wear(0, old), scene.wear(0, new)
        before, after = scene.render(side), twin.render(side)
        for picture, wanted in ((before, old), (after, new), (worn(rng, after, before), new)):
            assert wearing_of(picture, clean(scene, side), scene.objects[0]) == wanted, scene
            animal = scene.objects[0]._replace(wearing=wanted)
            found = recognise(picture, clean(scene, side), near=animal, looks=dressed(wanted), sizes=about(animal))
            assert (found[0].name, found[0].wearing) == (animal.name, wanted)
            assert max(abs(found[0].x - animal.x), abs(found[0].y - animal.y)) <= 1


@pytest.mark.parametrize("side", [64, 128])
def test_recognises_styles_and_what_is_drawn_in_them(side: int):
    rng = np.random.default_rng(34)
    for i, scene in enumerate(sampled(35, 15, 1)):
        style, plain = STYLES[i % 3], scene.render(side)
        styled = scene.draw(style).render(side)
        assert style_of(plain, scene) == ""
        assert style_of(styled, scene) == style
        assert is_drawn(styled, scene.draw(style), 0)
        wrong = scene.swap(0, other(rng, scene)).draw(style)
        if not any({scene.objects[0].name, wrong.objects[0].name} <= set(row) for row in scenes.COLOURED):
            assert not is_drawn(wrong.render(side), scene.draw(style), 0)
        assert not is_drawn(scene.remove(0).draw(style).render(side), scene.draw(style), 0)
        # A quarter of the style left out, or more of it than there should be of the plain picture.
        assert style_of((0.75 * styled + 0.25 * plain).astype(np.uint8), scene) == style
        assert style_of((0.25 * styled + 0.75 * plain).astype(np.uint8), scene) == ""


def test_explained_is_what_painting_explains():
    """The transforms give what comes of painting each answer and measuring what is left."""
    # The object is small enough, and on a tone plain enough, for the median of the difference to be zero.
    scene = Scene((Placed("cat", 30, 34, 30),), "blue", 5)
    picture, before = scene.render().astype(float), clean(scene).astype(float)
    total = ((picture - before) ** 2).sum()
    found = [f for f in recognise(scene.render(), clean(scene)) if f.explained > 0.1]
    assert len(found) > 5
    for f in found:
        rgb, alpha = scenes.art(f.name, f.size)
        height, width = alpha.shape
        explained: list[float] = []
        # An odd height or width has its middle on a half, so the rounded place stands for two.
        for top in {int(np.floor(f.y - height / 2)), int(np.ceil(f.y - height / 2))}:
            for left in {int(np.floor(f.x - width / 2)), int(np.ceil(f.x - width / 2))}:
                painted = before.copy()
                part = painted[top : top + height, left : left + width]
                part += alpha[..., None] * (rgb - part)
                explained.append(1 - ((picture - painted) ** 2).sum() / total)
        assert max(explained) == pytest.approx(f.explained, abs=1e-4)
    assert found[0].explained == pytest.approx(1, abs=1e-4)


def test_light_that_shifts_as_a_whole_is_no_difference():
    for scene in sampled(20, 5, 1):
        shifted = (scene.render() + np.array([12.0, -12.0, 12.0])).clip(0, 255).astype(np.uint8)
        best = recognise(shifted, clean(scene))[0]
        assert best.name == scene.objects[0].name
        assert best.explained > 0.95


def test_an_object_does_not_wrap_around_the_edge():
    scene = Scene((Placed("cat", 32, 32, 30),), "blue", 5)
    halves = np.roll(scene.render(), 32, axis=1)
    assert np.array_equal(np.roll(clean(scene), 32, axis=1), clean(scene))
    assert recognise(halves, clean(scene))[0].explained < 0.6


def test_recognise_refuses():
    picture = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="equal squares"):
        recognise(picture, picture[:32])
    with pytest.raises(ValueError, match="Sizes"):
        recognise(picture, picture, sizes=[])
    with pytest.raises(ValueError, match="fits"):
        recognise(picture, picture, near=Placed("cat", 2, 2, 20), sizes=[40])
    with pytest.raises(ValueError, match="mask"):
        background_of(picture, np.zeros((64, 64), bool))


def test_background_of_empty_scenes():
    for i, name in enumerate(2 * BACKGROUNDS):
        picture = scenes.background(name, 1000 + i)
        assert background_of(picture, np.ones(picture.shape[:2], bool)) == name


def test_background_of_a_patch_at_the_horizon():
    rng = np.random.default_rng(21)
    for i, name in enumerate(8 * list(scenes.LANDSCAPES)):
        mask = np.zeros((scenes.SIDE, scenes.SIDE), bool)
        y, x = rng.integers(20, 39), rng.integers(0, 52)
        mask[y : y + 12, x : x + 12] = True
        assert background_of(scenes.background(name, 2000 + i), mask) == name


def test_background_of_a_crowded_picture():
    """Objects left behind do not outvote the background around them."""
    for scene in sampled(22, 20, 2):
        large = Scene(tuple(o._replace(size=40) for o in scene.objects), scene.background, scene.seed)
        assert background_of(large.render(), np.ones((scenes.SIDE, scenes.SIDE), bool)) == scene.background


def test_background_of_a_moved_scene():
    rng = np.random.default_rng(17)
    for scene, name in zip(sampled(18, len(BACKGROUNDS)), BACKGROUNDS, strict=True):
        before = scene.move(BACKGROUNDS[BACKGROUNDS.index(name) - 1])
        twin = scene.move(name)
        noise = rng.normal(0, 8, (scenes.SIDE, scenes.SIDE, 3))
        picture = (twin.render() + noise).clip(0, 255).astype(np.uint8)
        assert background_of(picture, before.mask(twin)) == name


def test_side_128():
    for scene in sampled(19, 4, 1):
        large = scene.render(128)
        assert large.shape == (128, 128, 3)
        halved = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(halved - scene.render()).mean() < 4
        placed = scene.objects[0]
        best = recognise(large, clean(scene, 128), sizes=[placed.size - 2, placed.size])[0]
        assert (best.name, best.size) == (placed.name, placed.size)
        assert max(abs(best.x - placed.x), abs(best.y - placed.y)) <= 1
        assert background_of(large, ~scene.mask(scene.remove(0), 128)) == scene.background


def test_the_library_knows_no_noun_of_the_small_world():
    """Outside of scenes and models its words stand in examples alone, within a sentence: no rule is made of them."""
    library = Path(scenes.__file__).parents[1]
    nouns = {word for name in (*OBJECTS, *ACCESSORIES) for word in name.split()} | {scenes.noun(b) for b in BACKGROUNDS}
    nouns -= {"red", "green", "blue", "yellow", "white", "night sky", "black", "top"}  # any language's, and not things
    found = list[str]()
    for file in library.rglob("*.py"):
        # What diffusers' own tests edit is no rule either.
        if file.relative_to(library).parts[0] in ("scenes", "models") or file.name == "published.py":
            continue
        tree = ast.parse(file.read_text())
        whole = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]  # a sentence with values in it
        parts = {id(part) for node in whole for part in node.values}
        plain = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in parts]
        for node in [*plain, *whole]:
            texts = node.values if isinstance(node, ast.JoinedStr) else [node]
            said = " ".join(
                text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)
            )
            words = re.findall(r"[a-z]+", said.lower())
            if len(words) <= 5 and nouns & set(words):
                found.append(f"{file.relative_to(library)}:{node.lineno}: {said!r}")
    assert not found
