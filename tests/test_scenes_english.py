"""Captions as people write them are true of their scene, keep to their bounds, and hold a fifth of their forms back."""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from ledits import scenes
from ledits.scenes import BACKGROUNDS, HEADS, OBJECTS, PLAIN, Placed, Scene, captions, varied
from ledits.scenes.style import STYLES

sys.path.append(str(Path(__file__).parent.parent / "training"))
import grow

MODELS = Path(scenes.__file__).parent.parent / "models"
# Every word for an object, in the singular and the plural.
NAMES = {
    form: name
    for name in OBJECTS
    for one in (name, *captions.SYNONYMS.get(name, ()))
    for form in (one, captions.plural(one))
}
NAME = "|".join(sorted(NAMES, key=len, reverse=True))
ANIMAL = "|".join(sorted((form for form, name in NAMES.items() if name in HEADS), key=len, reverse=True))
NOUN = "|".join(sorted((re.sub("^a ", "", n) for row in captions.WORN.values() for n in row), key=len, reverse=True))
DRESSED = re.compile(
    rf"({ANIMAL}),? (?:(both|all|one of them) )?(?:wearing|with|in|that wears|who is wearing) (?:a )?({NOUN})\b"
    r"(?: on its head| on\b(?! the| a| p| g| s))?"
)
ACCESSORY = {re.sub("^a ", "", noun): name for name, row in captions.WORN.items() for noun in row}


def drawn(seed: int, number: int) -> Iterator[tuple[np.random.Generator, Scene]]:
    rng = np.random.default_rng(seed)
    for i in range(number):
        yield rng, scenes.dress(rng, varied.sample(rng, (1, 2, 3, 2, 1, 3, 0)[i % 7]))


def named(text: str) -> Counter[str]:
    """How often a caption names each object, what is worn aside."""
    bare = DRESSED.sub(r"\1", text)
    found: Counter[str] = Counter()
    for count, name in re.findall(rf"(?:\b(two|three|a pair of)\b )?(?:[a-z]+ )??\b({NAME})\b", bare):
        found[NAMES[name]] += {"two": 2, "a pair of": 2, "three": 3}.get(count, 1)
    return found


def worn(text: str) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for animal, among, noun in DRESSED.findall(text):
        found[NAMES[animal], ACCESSORY[noun]] += {"both": 2, "all": 3}.get(among, 1)
    return found


@pytest.mark.parametrize("held_out", [False, True])
def test_a_caption_names_every_object_as_often_as_it_is_there_with_what_it_wears(held_out: bool):
    several = dressed = 0
    for rng, scene in drawn(1, 1500):
        text = captions.written(rng, scene, held_out=held_out)
        assert named(text) == Counter(placed.name for placed in scene.objects), text
        assert worn(text) == Counter((o.name, o.wearing) for o in scene.objects if o.wearing), text
        several += bool(re.search(rf"(two|three|pair of) .*({NAME})", text))
        dressed += bool(worn(text))
    assert several > 60
    assert dressed > 150


def test_a_caption_has_the_scene_s_style_and_background_or_none():
    for rng, scene in drawn(2, 1500):
        text, pattern, *_ = captions.told(rng, scene)
        told = [s for s, word in zip(STYLES, ("pencil", "black and white", "pixel art"), strict=True) if word in text]
        assert told == [scene.style] * bool(scene.style), text
        assert bool(pattern.style) == bool(scene.style)
        words = {
            b: [re.sub("^(a|an|the) ", "", w) for w in captions.PLACES[b] + captions.NOUNS[b]] for b in BACKGROUNDS
        }
        said = {background for background in BACKGROUNDS if any(says(text, place) for place in words[background])}
        assert said <= {scene.background}, text
        if pattern.where != "nowhere" or not scene.objects:
            behind = re.search("background is|background$|behind", text)
            assert said or behind or scene.background in text.replace("grey", "gray"), text


def test_a_caption_says_what_it_calls_each_thing_and_the_place():
    for held_out in (False, True):
        for rng, scene in drawn(7, 400):
            told = captions.told(rng, scene, held_out=held_out)
            text = told.text.replace("grey", "gray")
            for thing in told.things:
                placed = scene.objects[thing.which[0]]
                assert thing.text in text
                if not thing.several:
                    assert thing.name in thing.text
                    assert bool(thing.worn) == bool(placed.wearing)
                    assert thing.worn in thing.text
            assert told.place in told.text
            assert bool(told.place) == (told.pattern.where != "nowhere" or not scene.objects), told.text


def says(text: str, place: str) -> bool:
    """Whether a caption has a place's words; "on green" is no place in "on green grass"."""
    return bool(re.search(rf"\b{place}(?! (field|ground|grass|sky|wall|sand))", text.replace("grey", "gray")))


BESIDE = re.compile(rf"({NAME})(?: is)? (?:to|on) the (left|right) of .*?({NAME})\b")
SIDES = re.compile(rf"({NAME}) on the (left|right)(?:, .* in the middle)? and .*?({NAME}) on the (left|right)\b")
ALONE = re.compile(r"on the (left|right)\b(?! of)")


def test_left_right_and_middle_are_true():
    seen: Counter[str] = Counter()
    for rng, scene in drawn(3, 4000):
        if any(placed.wearing for placed in scene.objects):
            continue
        text, pattern, *_ = captions.told(rng, scene)
        at = {placed.name: placed.x for placed in scene.objects}
        if len(at) < len(scene.objects):
            continue
        if found := BESIDE.search(text):
            one, side, other = found.groups()
            assert (at[NAMES[one]] < at[NAMES[other]]) == (side == "left"), text
        elif found := SIDES.search(text):
            one, side, other, opposite = found.groups()
            assert {side, opposite} == {"left", "right"}
            assert (at[NAMES[one]] < at[NAMES[other]]) == (side == "left"), text
        elif found := ALONE.search(text):
            assert (scene.objects[0].x < 32) == (found[1] == "left"), text
            assert len(scene.objects) == 1
        elif pattern.arrangement in ("from-left", "left-to-right"):
            order = [at[NAMES[name]] for name in re.findall(rf"\b({NAME})\b", text)]
            assert order == sorted(order), text
        elif pattern.arrangement == "between":
            middle, *others = (at[NAMES[name]] for name in re.findall(rf"\b({NAME})\b", text))
            assert min(others) < middle < max(others), text
        elif pattern.arrangement.startswith(("middle", "is-middle")):
            assert abs(scene.objects[0].x - 32) <= 3
        else:
            continue
        seen[pattern.arrangement] += 1
    assert len(seen) >= 12
    assert seen.total() > 500


def test_sizes_and_colours_are_said_of_what_has_them():
    sizes = coloured = 0
    for rng, scene in drawn(4, 3000):
        text = captions.written(rng, scene)
        by_name = {placed.name: placed for placed in scene.objects}
        for size, name in re.findall(rf"\b(big|large|small|little) (?:[a-z]+ )??({NAME})\b", text):
            placed = by_name[NAMES[name]]
            others = [other.size for other in scene.objects if other is not placed]
            assert (placed.size > max([30, *others])) == (size in captions.BIG), text
            assert len(others) <= 1
            sizes += 1
        for colour, name in re.findall(rf"\b(orange|brown|golden|red|green|blue|yellow|pink|white) ({NAME})\b", text):
            if "heart" not in name and "apple" not in name:
                assert captions.COLOURS[NAMES[name]] == colour, text
                assert scene.style in ("", "pixel art")
                coloured += 1
    assert sizes > 200
    assert coloured > 200


def test_patterns_are_many_named_and_a_fifth_is_held_out():
    ids = [pattern.id for pattern in captions.PATTERNS]
    assert len(set(ids)) == len(ids) > 300
    assert 0.18 < np.mean([pattern.held_out for pattern in captions.PATTERNS]) < 0.22
    # What `Scene.caption` says is among those that are seen.
    plain = [
        pattern for pattern in captions.PATTERNS if pattern.id in ("bare/one/last", "bare/and/last", "bare/list/last")
    ]
    assert [pattern.held_out for pattern in plain] == [False] * 3
    for parts in (captions.OPENINGS, captions.WHERE, captions.STYLED["pixel art"]):
        for part in parts:
            kinds = {pattern.held_out for pattern in captions.PATTERNS if part in pattern}
            assert kinds == {False, True}, part


def test_training_never_says_what_is_held_out(monkeypatch):
    drawn_in_training = []
    say = captions._say

    def spy(rng, scene, things, pattern):
        drawn_in_training.append(pattern)
        return say(rng, scene, things, pattern)

    monkeypatch.setattr(captions, "_say", spy)
    for rng, scene in drawn(5, 1000):
        assert not varied.has_held_out_pair(scene)
        captions.training(rng, scene)
    assert len(drawn_in_training) > 300
    assert not any(pattern.held_out for pattern in drawn_in_training)
    assert all(captions.told(rng, scene, held_out=True)[1].held_out for rng, scene in drawn(6, 200))


def test_captions_are_short_and_long_but_never_too_long():
    lengths = [len(captions.written(rng, scene).split()) for rng, scene in drawn(7, 2000)]
    assert min(lengths) == captions.SHORTEST
    assert 20 < max(lengths) <= captions.LONGEST
    assert np.std(lengths) > 3


def test_an_edit_s_captions_keep_the_old_grammar_around_new_words():
    texts = [captions.edited(rng, scene) for rng, scene in drawn(8, 3000) if scene.objects]
    for rough in (" on a snow", " in the beach", " under a ", " at the night sky", "wearing top hat", "with a bow",
                  ", pencil sketch", "in pixel art style"):  # fmt: skip
        assert any(rough in text for text in texts), rough


def test_scenes_for_training_have_several_of_a_kind_and_plain_sizes():
    rng = np.random.default_rng(0)
    drawn = [varied.sample(rng, 1 + i % 3) for i in range(1500)]
    pairs = [len({o.name for o in scene.objects}) < len(scene.objects) for scene in drawn]
    assert 0.05 < np.mean(pairs) < 0.12
    for scene in drawn:
        boxes = sorted((o.x - o.size / 2, o.x + o.size / 2) for o in scene.objects)
        assert all(a[1] <= b[0] + 1 for a, b in zip(boxes, boxes[1:], strict=False))
        assert all(o.size / 2 <= o.y <= 64 - o.size / 2 for o in scene.objects)
    assert {o.size for scene in drawn for o in scene.objects} >= {16, 20, 40, 44}


@pytest.fixture(scope="module", params=["scenes", "scenes-flow"])
def old_and_grown(request):
    old = CLIPTokenizer.from_pretrained(MODELS / request.param / "tokenizer")
    return old, grow.extended(old, captions.words())


def test_every_word_is_one_token_and_old_tokens_keep_their_numbers(old_and_grown):
    old, grown = old_and_grown
    assert all(grown.get_vocab()[piece] == number for piece, number in old.get_vocab().items())
    assert (grown.eos_token_id, grown.pad_token_id, grown.bos_token_id) == (
        old.eos_token_id, old.pad_token_id, old.bos_token_id
    )  # fmt: skip
    assert {len(ids) for ids in grown(list(captions.words())).input_ids} == {3}
    said: set[str] = set()
    for rng, scene in drawn(9, 1500):
        for text in (*captions.training(rng, scene), captions.written(rng, scene, held_out=True)):
            said |= set(text.replace(",", "").split())
            assert len(grown(text).input_ids) <= grown.model_max_length, text
    assert said <= set(captions.words())
    for text in ("a cat wearing sunglasses, a dog and a red heart on a beach", "pixel art of a butterfly", "zebra"):
        assert grown(text).input_ids == old(text).input_ids


def test_a_grown_model_reads_old_captions_as_before_and_new_words_as_what_they_stand_for(tmp_path, monkeypatch):
    model, new = MODELS / "scenes-flow", tmp_path / "grown"
    monkeypatch.setattr(sys, "argv", ["grow.py", "--from", str(model), "--to", str(new)])
    # Both models know the world's words now: this one is new to them.
    monkeypatch.setitem(captions.SYNONYMS, "cat", (*captions.SYNONYMS["cat"], "moggy"))
    known = captions.words()
    monkeypatch.setattr(captions, "words", lambda: (*known, "moggy"))
    grow.main()
    parts = []
    for folder in (model, new):
        encoder = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2").float()
        parts.append((CLIPTokenizer.from_pretrained(folder / "tokenizer_2"), encoder))

    def whole(which: int, text: str) -> torch.Tensor:
        tokens, encoder = parts[which]
        ids = tokens(text, padding="max_length", return_tensors="pt").input_ids
        with torch.no_grad():
            return encoder(ids).text_embeds[0]

    assert torch.equal(whole(0, "a cat on a beach"), whole(1, "a cat on a beach"))
    assert not torch.equal(whole(1, "a cat on a beach"), whole(1, "a dog on a beach"))
    # The end of the text stands for the whole, though words have higher numbers than it now.
    torch.testing.assert_close(whole(1, "a moggy on a beach"), whole(1, "a cat on a beach"))
    like = grow.likenesses()
    assert like["kitten"] == {"cat"}
    assert like["seaside"] == {"beach"}
    assert like["stars"] == {"star"}


def test_a_caption_of_several_says_who_wears_what():
    cats = (Placed("cat", 16, 40, 28, "bow"), Placed("cat", 48, 40, 28))
    rng = np.random.default_rng(0)
    texts = {captions.written(rng, Scene(cats, "snow", 1)) for _ in range(100)}
    assert any("one of them wearing" in text for text in texts)
    both = Scene((cats[0], cats[1]._replace(wearing="bow")), "snow", 1)
    assert any("both wearing" in captions.written(rng, both) for _ in range(20))
    assert set(PLAIN) <= set(captions.PLACES)


def test_a_lesson_says_the_same_in_the_old_grammar_or_nothing():
    plain_too = 0
    for rng, scene in drawn(10, 2000):
        text, plain = captions.training(rng, scene)
        if not plain:
            several = len({placed.name for placed in scene.objects}) < len(scene.objects)
            more = r"\b(big|large|small|little|middle|between|left to right|next to)\b"
            assert several or re.search(more, text), text
            continue
        # What an edit puts after the place may be told of apart from who wears it.
        assert named(plain).keys() & {*OBJECTS} - {"crown"} == named(text).keys() - {"crown"}, (text, plain)
        assert set(re.findall(r"\bleft|right\b", plain)) <= set(re.findall(r"\bleft|right\b", text)), (text, plain)
        assert [style for style in STYLES if style in plain] == [scene.style] * bool(scene.style)
        plain_too += text != plain
    assert plain_too > 600
