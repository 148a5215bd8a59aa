"""The caption after an edit: right, or refused in one sentence that says what to write, and never nonsense."""

import ast
import contextlib
import itertools
import json
import re
from pathlib import Path

import pytest

import ledits
from ledits import scenes
from ledits.asked.recipe import parse
from ledits.language import things, words
from ledits.language.changes import conflicts, parts, together
from ledits.language.several import told
from ledits.language.targets import Unsure, removed, target, targets
from ledits.method.told import Told

# 160 ordinary captions and edits, written before the rules by somebody who did not know them.
CASES = json.loads((Path(__file__).parent / "captions.json").read_text(encoding="utf-8"))
# Which words make one name together no rule can know: "hot dog"; nor what contradicts what: "an empty bowl".
BEYOND = {
    ("dog->cat", "a hot dog on a plate"), ("-dog", "a hot dog on a plate"), ("-bear", "a teddy bear next to a lamp"),
    ("+a bone next to the dog", "a hot dog on a plate"), ("+soup in the bowl", "an empty bowl on a table"),
    ("+a hat on a cat", "two cats on a couch"),
}  # fmt: skip


def test_ordinary_captions_are_right_or_refused():
    refused, wrong = list[str](), list[tuple[str, str, str]]()
    for case in CASES:
        try:
            result = target(parse(case["edit"]), case["source"])
        except ValueError as error:
            refused += [str(error)] * (not case["refuse"])
            continue
        if result not in case["accept"] and (case["edit"], case["source"]) not in BEYOND:
            wrong.append((case["edit"], case["source"], result))
    assert wrong == []
    assert len(CASES) == 160
    assert len(refused) <= 3  # which a reader of English would have been certain of
    assert all("->" in said and "\n" not in said for said in refused)


@pytest.mark.parametrize(
    ("edit", "source", "expected"),
    [
        ("cat->dog", "a black and white cat on a bed", "a black and white dog on a bed"),
        ("-car", "photo of a red car in the rain", "photo of the rain"),
        ("-horse", "a man riding a horse on a beach", "a man on a beach"),
        ("-dogs", "two dogs on a beach", "a beach"),
        ("heart->blue heart", "a red heart", "a blue heart"),
        ("hour->unicorn", "an hour", "a unicorn"),
        ("cat->dog", "A Cat", "A Dog"),
        ("猫->狗", "一只猫在海滩上", "一只狗在海滩上"),
        ("кот->собака", "Кот на пляже", "Собака на пляже"),
        ("-dog", "a cat, a dog and a fox", "a cat and a fox"),
        ("sunglasses->bow", "a cat wearing sunglasses", "a cat wearing a bow"),
        ("bow->sunglasses", "a cat wearing a bow", "a cat wearing sunglasses"),
        ("->a dog", "a cat", "a dog"),
        # Each of two has its own place.
        ("-cat", "a cat on the left and a dog on the right", "a dog on the right"),
        ("-dog", "a cat on the left and a dog on the right", "a cat on the left"),
        # Verbs of one thing say nothing of what it has.
        ("-hat", "a man with a hat is next to a car", "a man is next to a car"),
        ("-hat", "a dog that wears a hat", "a dog"),
        ("-hat", "a dog that is wearing a hat on a bed", "a dog on a bed"),
        ("hat->gloves", "a man with a hat is on a horse", "a man with gloves is on a horse"),
        ("gloves->hat", "there is a man with gloves", "there is a man with a hat"),
        ("owl->owl wearing glasses", "there is an owl on a branch", "there is an owl wearing glasses on a branch"),
        ("-dog", "a dog is next to a cat", "a cat"),
        ("-cat", "a dog is to the left of a cat", "a dog"),
        ("-cat", "a dog together with a cat", "a dog"),
        ("-dog", "a dog as well as a cat", "a cat"),
        ("-dog", "one dog, one cat and one fox", "one cat and one fox"),
        # What presents a list, frames it, or is said of all that is in it, is of no thing.
        ("-cat", "there are a cat and a dog on a bed", "there is a dog on a bed"),
        ("-cat", "there are a cat and two dogs on a bed", "there are two dogs on a bed"),
        (
            "-cat",
            "in this picture there is a cat, a crown and a fox in a row",
            "in this picture there is a crown and a fox in a row",
        ),
        ("-cat", "we can see a cat next to a gift", "we can see a gift"),
        ("-cat", "The image shows only a cat on a red background", "The image shows only a red background"),
        ("-cat", "a black and white photo of a cat and a dog", "a black and white photo of a dog"),
        ("-cat", "on a beach, a cat and a dog", "on a beach, a dog"),
        ("-cat", "on a beach, a cat", "a beach"),
        ("-cat", "under a night sky, a cat next to a dog", "under a night sky, a dog"),
        ("-cat", "on the beach there is a cat and nothing else", "the beach"),
        ("-cat", "a cat, a dog and a fox are on a bed", "a dog and a fox are on a bed"),
        ("-dog", "a cat and a dog are on a bed", "a cat is on a bed"),
        ("-cat", "a cat and two dogs are on a bed", "two dogs are on a bed"),
        ("-dog", "a cat and a dog side by side on a bed", "a cat on a bed"),
        ("-dog", "a cat and a dog with a beach in the background", "a cat with a beach in the background"),
        ("-dog", "a cat together with a dog, the background is blue", "a cat, the background is blue"),
        ("-cat", "a photo of a cat, the background is blue", "the background is blue"),
        ("-cat", "a cat with a beach behind it", "a beach"),
        ("-dog", "a fox on the right and a dog on the left on green", "a fox on the right on green"),
        ("-cat", "a cat at night", "at night"),
        ("-man", "a man sitting on a bench", "a bench"),
        # What is worn goes with what is said of where.
        ("-hat", "A dog with a hat on", "A dog"),
        ("-hat", "a dog with a hat on its head near a cat", "a dog near a cat"),
        ("-hat", "a dog with a hat on its head and a cat", "a dog and a cat"),
        ("-laptop", "A table with a laptop on it", "A table"),
        ("-scarf", "a woman with a scarf around her neck in the snow", "a woman in the snow"),
        ("-mountain", "a lake with a mountain in the background", "a lake"),
        ("-cars", "a street with people and cars in the background", "a street with people in the background"),
        ("-tree", "a house with a tree behind it", "a house"),
        ("-hat", "a dog wearing a hat to the left of a star", "a dog to the left of a star"),
        ("glasses->bow", "a dog that wears glasses on the right", "a dog that wears a bow on the right"),
        ("glasses->bow", "a dog in glasses as well as a cat", "a dog in a bow as well as a cat"),
        ("bow->glasses", "there is the dog that wears a bow", "there is the dog that wears glasses"),
        # Things are on a background, and not in or under one; and what is new is not alone.
        ("snow->gray background", "a cat in snow", "a cat on a gray background"),
        ("night->blue background", "a cat at night", "a cat on a blue background"),
        ("+a dog next to the cat", "only the cat on a bed", "a dog next to the cat on a bed"),
        ("+dog next to cat", "a black cat on a sofa", "a dog next to a black cat on a sofa"),
        ("+a lamp next to sofa", "a black cat on a sofa", "a black cat on a sofa, a lamp next to sofa"),
        ("-cat", "There is a cat and two dogs.", "There are two dogs."),
        ("-hat", "a cat with a hat and a dog with a bow", "a cat and a dog with a bow"),
        ("sky->red background", "an airplane flying through a sky", "an airplane flying on a red background"),
        ("+a dog next to a cat", "a cat and nothing else on a bed", "a dog next to a cat on a bed"),
        # A participle between an article and a noun says what the thing is like, and goes with it.
        ("-cat", "a smiling cat and a dog on a beach", "a dog on a beach"),
        ("-dog", "a small sleeping dog on a sofa", "a sofa"),
        ("-baby", "a woman holding a sleeping baby and a bag", "a woman holding a bag"),
        ("-eyes", "a cat with glowing eyes", "a cat"),
        ("-horse", "a man riding a running horse", "a man"),
        ("-rice", "a man eating rice", "a man"),
        ("-woman", "old smiling woman on a bench", "a bench"),
        ("-shoes", "a woman wearing running shoes and a hat", "a woman wearing a hat"),
        # What is said of all of several things goes with all of them; where one thing is goes with it.
        ("-lake", "mountains with a lake in the foreground", "mountains"),
        ("-cake", "a table with a cake on top of it", "a table"),
        ("-bike", "a man wearing a hat while riding a bike", "a man wearing a hat"),
        # One thing "as well as" another: the other is not left alone with those words.
        ("-rabbit", "a beach with a rabbit as well as a donut", "a beach with a donut"),
        ("-a donut", "a beach with a rabbit as well as a donut", "a beach with a rabbit"),
    ],
)
def test_certain(edit, source, expected):
    assert target(parse(edit), source) == expected


@pytest.mark.parametrize(
    ("edit", "source"),
    [
        ("-woman", "a woman in a red dress"), ("-man", "a man riding a horse on a beach"), ("-dog", "two dogs"),
        ("dog->cat", "a hot dog and a dog"), ("dog->cat", "a fox"), ("-cat", "a cat"), ("-man", "a man and his dog"),
        ("heart->blue heart", "a big heart"), ("Hund->Katze", "ein Hund auf einer Wiese"), ("-cup", "a cup of coffee"),
        ("two cats->a dog", "two cats are on a bed"), ("cat->dog", "a catfish"), ("+a cat", "a cat on a bed"),
        ("-people", "a beach with people swimming"), ("-cat", "a fat sleeping cat on a bed"),
        ("-machine", "an electric sewing machine and a lamp"), ("-cup", "a desk next to a cup of coffee"),
        ("-giraffes", "two giraffes standing next to each other"), ("-people", "a street with people in costumes"),
        ("-hat", "a man wearing a hat and a woman holding a dog"), ("ball->blue cube", "a red ball"),
        ("man->old woman", "a young man"),
    ],
)  # fmt: skip
def test_not_certain(edit, source):
    with pytest.raises(ValueError, match="->") as error:
        target(parse(edit), source)
    assert "\n" not in str(error.value)


def test_a_model_says_how_its_places_are_empty():
    empty = "an empty {}"
    assert target(parse("-cat"), "a cat on a beach", empty) == "an empty beach"
    assert target(parse("-cat"), "a cat in the snow", empty) == "empty snow"
    assert target(parse("-cat"), "a photo of a cat at sunset", empty) == "a photo of an empty sunset"
    assert target(parse("-cat"), "a cat, the background is a night sky", empty) == "an empty night sky"
    assert target(parse("-cat"), "a cat, the background is blue", empty) == "an empty blue background"
    assert target(parse("-cat"), "a cat with a red background", empty) == "an empty red background"


def test_targets_need_no_model():
    assert ledits.targets("a cat and a dog on a bed", "cat->fox", "-dog") == [
        "a fox and a dog on a bed",
        "a cat on a bed",
    ]
    with pytest.raises(ValueError, match="no caption"):
        targets("", "cat->fox")


def test_what_changes_the_same_words_contradicts_itself():
    source = "a rocket and a cat"
    assert conflicts(source, targets(source, "rocket->banana", "cat->dog", "rocket->balloon")) == (0, 2)
    assert conflicts(source, targets(source, "rocket->banana", "cat->dog", "+snow", "+rain")) is None


@pytest.mark.parametrize(
    "text", ["a cat, on a bed.", "  two  spaces ", "l'été — «chat»", "a\tb", "一只猫", "हिन्दी में", ""]
)
def test_a_text_is_the_same_after_it_was_split(text):
    assert words.join(words.split(text)) == text.strip()


def test_no_noun_of_the_small_world_is_known_to_the_library():
    """What only that world knows lies in its model's own file; words of examples in messages and help are no rules."""
    nouns = {word for name in (*scenes.OBJECTS, *scenes.ACCESSORIES) for word in name.split()} | set(scenes.LANDSCAPES)
    # Colours, and what "sky blue" and "at sunset" are made of, are ordinary English.
    nouns -= {"red", "green", "blue", "yellow", "top", "sunset", "snow", "night sky"}
    found = list[tuple[str, int, str]]()
    for room in ("method", "language", "backbones", "picture", "pipelines", "files", "cpu"):
        # What a language model is asked has examples in it, and so have the published tests of diffusers.
        paths = sorted((Path(ledits.__file__).parent / room).rglob("*.py"))
        for path in (path for path in paths if path.name not in {"assistant.py", "published.py"}):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            texts = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in said)
            for node in texts:
                if isinstance(node.value, str) and nouns & set(re.findall(r"[a-z]+", node.value.lower())):
                    found.append((f"{room}/{path.name}", node.lineno, node.value))
    assert found == []


@pytest.mark.parametrize(("source", "gone", "meant"), [
    ("a girl is eating an ice cream", "ice cream", "a girl"),
    ("a man is on a horse", "horse", "a man"),
    ("a bird perched on a branch", "branch", "a bird"),
    ("a house covered in snow", "snow", "a house"),
    ("a vase filled with red and yellow flowers", "flowers", ""),
    ("a dog and a black and white cat", "cat", ""),
])  # fmt: skip
def test_no_verb_and_no_adjective_is_left_behind(source, gone, meant):
    with pytest.raises(ValueError, match=f"such as '->{meant}'" if meant else "write '->'"):
        ledits.targets(source, f"-{gone}")
    assert ledits.targets("dogs and small cats on a plate of eggs and fried bacon", "-bacon") == [
        "dogs and small cats on a plate of eggs"
    ]


@pytest.mark.parametrize(("source", "edit"), [
    ("A man on a bike, a woman on foot", "-woman"), ("A cat on a chair and a dog on a rug", "-dog"),
    ("A cat on a chair and a dog", "-chair"), ("A chef cooks eggs and bacon", "-eggs"),
    ("A tennis player swinging a racket at a ball", "-racket"), ("A man putting a hat on a dog", "-hat"),
    ("A view of the tower at night", "-tower"), ("A pair of shoes and a hat", "-shoes"),
    ("A salt and pepper shaker on a table", "-salt"), ("A living room with a couch, TV and fireplace", "-couch"),
    ("A man next to a woman in a red dress", "-woman"),
    ("A boy next to a girl with long hair", "-girl"), ("A man on a bench with a dog behind him", "man->woman"),
    ("A photo of a tower at night", "-tower"), ("A dog looking at the camera", "-dog"),
    ("A man with a hat on his horse", "-hat"), ("A cat with a hat on its head and a bell", "-cat"),
    ("A dog without a collar", "-collar"), ("A man with no hat", "-hat"),
    ("A bride, dressed in white, and a groom", "-groom"), ("Five cows in a meadow", "five->one"),
    ("Two men in a park", "men->woman"), ("This cat sleeps", "cat->cats"),
    ("A dog runs across a field", "a dog->two dogs"), ("The boy's dog", "boy->girl"),
])  # fmt: skip
def test_what_read_on_would_say_something_else_is_refused(source, edit):
    """By somebody who wrote 185 captions before reading the rules. No proposal is one that no rule has checked."""
    with pytest.raises(ValueError, match="write '->'") as refused:
        ledits.targets(source, edit)
    assert "such as" not in str(refused.value)


@pytest.mark.parametrize(("source", "edit", "expected"), [
    ("A man sitting on a bench and reading a book", "-book", "A man sitting on a bench"),
    ("A man riding a bike and wearing a hat", "-bike", "A man wearing a hat"),
    ("a pizza with mushrooms, olives, and peppers", "-mushrooms", "a pizza with olives and peppers"),
    ("Two dogs playing in the snow", "two dogs->a cat", "A cat playing in the snow"),
    ("MAN RIDING A BIKE", "bike->elephant", "MAN RIDING AN ELEPHANT"), ("A car", "car->SUV", "An SUV"),
    ("A “Stop” sign", "“Stop”->“Open”", "An “Open” sign"), ("A ball", "ball->8-ball", "An 8-ball"),
    ("A cat", "cat->éclair", "An éclair"), ("A cat", "cat->ukulele", "A ukulele"),
    ("One sheep and five cows", "five->ten", "One sheep and ten cows"),
])  # fmt: skip
def test_what_was_written_wrongly_once(source, edit, expected):
    assert ledits.targets(source, edit) == [expected]


@pytest.mark.parametrize(("source", "target", "expected"), [
    ("a fox and a star on a beach", "an owl and a cat on a beach",
     ["an owl and a star on a beach", "a fox and a cat on a beach"]),
    ("a fox and a star on a beach", "an owl on a beach", ["an owl and a star on a beach", "a fox on a beach"]),
    ("a fox on a beach", "an owl in the snow", ["an owl on a beach", "a fox in the snow"]),
    ("a photo of a man and a dog in a park", "a photo of a woman and a cat at night",
     ["a photo of a woman and a dog in a park", "a photo of a man and a cat in a park",
      "a photo of a man and a dog at night"]),
    ("a fox on a bed", "a pencil sketch of an owl on a bed", ["an owl on a bed", "a pencil sketch of a fox on a bed"]),
    ("a red ball and a blue ball on a bed", "a star in the snow",
     ["a star and a blue ball on a bed", "a red ball on a bed", "a red ball and a blue ball in the snow"]),
    # One change, or none that can be taken apart.
    ("a fox on a beach", "an owl on a beach", ["an owl on a beach"]),
    ("a fox and a star on a beach", "a fox on a beach", ["a fox on a beach"]),
    ("a fox and a star on a beach", "an empty beach", ["an empty beach"]),
    ("a fox on a beach", "a fox and a dog on a beach", ["a fox and a dog on a beach"]),
    ("a fox sleeps", "it rains", ["it rains"]),
    ("a fox and a star on a bed", "a fox, in a hat, and a star on a bed", ["a fox, in a hat, and a star on a bed"]),
    ("we see a fox and a star", "we see a star", ["we see a star"]),
    ("a star beside a box in front of a purple wall", "a star beside a box in front of a white background",
     ["a star beside a box in front of a white background"]),
    ("here are a kit and a dog", "here are a cat wearing a hat and a dog", ["here are a cat wearing a hat and a dog"]),
    ("we see only the panda at dusk", "we see the panda at dusk, bow", ["we see the panda at dusk, bow"]),
    ("on snow, the car and nothing else", "on snow, a gift beside the car", ["on snow, a gift beside the car"]),
])  # fmt: skip
def test_a_caption_that_changes_several_things_is_told_in_parts(source, target, expected):
    assert parts(source, target) == expected
    assert together(source, parts(source, target)) == target
    (whole,) = told(source, [target])
    assert [part.target for part in whole.parts or (whole,)] == expected
    assert whole.target == target


@pytest.mark.parametrize(("source", "edit", "worn", "bare", "other"), [
    ("on the white background, we see a cat and a cute dog", "cat->cat wearing a crown",
     "on the white background, we see a cat wearing a crown and a cat wearing a crown",
     "on the white background, we see a cat and a cat", "on the white background, we see a cute dog and a cute dog"),
    ("a man and a woman in a park", "man->man with a beard", "a man with a beard and a man with a beard in a park",
     "a man and a man in a park", "a woman and a woman in a park"),
])  # fmt: skip
def test_what_one_of_several_things_is_to_wear_goes_to_that_one(source, edit, worn, bare, other):
    """It is one edit, and none that takes the thing away; told of that thing alone, it can't go to the other."""
    (after,) = ledits.targets(source, edit)
    assert parts(source, after) == [after]
    (whole,) = told(source, [after])
    # For a mask or a share that is given it is told as it is.
    assert whole == Told.of(after, source)._replace(comes=True, parts=whole.parts)
    (part,) = whole.parts
    assert (part.target, part.early, part.late) == (worn, worn, worn)
    assert (part.away, part.clear, part.own, part.stays) == (bare, bare, bare, (other,))
    assert (part.goes, part.comes, part.thing) == (False, True, True)


@pytest.mark.parametrize(("source", "target"), [
    ("a dog and a cat", "a dog and a cat on a beach"), ("a dog and a cat", "a dog and a cat at night"),
    ("a mountain and a lake", "a mountain and a lake in the style of Van Gogh"),
    ("a portrait of a woman, detailed, 4k", "a portrait of a woman wearing a hat, detailed, 4k"),
    ("cat, window, sunlight", "black cat, window, sunlight"),
    ("a black and white cat on a sofa", "a black and white cat wearing a hat on a sofa"),
    ("a man behind a desk", "a man wearing a tie behind a desk"), ("a dog, a cat", "a dog, a mouse, a cat"),
])  # fmt: skip
def test_what_is_not_of_one_of_several_things_is_told_as_it_is(source, target):
    (whole,) = told(source, [target])
    assert not whole.parts
    assert (whole.target, whole.own, whole.stays) == (target, source, ())


def test_two_edits_of_which_one_says_more_of_a_thing_are_told_as_they_are():
    source = "a cat and a dog on a beach"
    hat, fox = told(source, ledits.targets(source, "cat->cat wearing a hat", "dog->fox"))
    assert not hat.parts
    assert (hat.late, hat.away) == ("a cat wearing a hat and a fox on a beach", "a cat and a fox on a beach")
    assert fox.early == "a fox and a fox on a beach"


def test_what_comes_is_told_from_what_changes():
    """A hat may be larger than where it was found; a colour is where the thing is."""
    for source, edit, comes in (
        ("a cat on a beach", "+sunglasses", True), ("a cat on a beach", "cat->cat wearing a hat", True),
        ("a cat", "+star next to cat", True), ("only a cat on a beach", "+sunglasses", True),
        ("a cat wearing a hat on a bed", "hat->bow", True), ("a heart and a star", "heart->blue heart", False),
        ("a cat in a red hat", "red->blue", False), ("a cat on a beach", "+at night", False),
        ("a heart on a bed", "heart->blue heart", False), ("a cat on a beach", "cat->dog", False),
        ("a cat and a dog", "-cat", False),
    ):  # fmt: skip
        assert told(source, ledits.targets(source, edit))[0].comes == comes, (source, edit)


def test_an_addition_that_says_what_a_thing_does_is_said_of_it():
    for source, expected in (
        ("a cat", "a cat wearing a hat"), ("A cat.", "A cat wearing a hat."),
        ("two dogs on a sofa", "two dogs wearing a hat on a sofa"),
        # Not certain whose it is.
        ("a cat and a dog", "a cat and a dog, wearing a hat"),
        ("a man riding a horse", "a man riding a horse, wearing a hat"),
        ("a cat with a bow", "a cat with a bow, wearing a hat"),
        ("a table next to a man", "a table next to a man, wearing a hat"),
        ("a bench in a park with a man", "a bench in a park with a man, wearing a hat"),
    ):  # fmt: skip
        assert ledits.targets(source, "+wearing a hat") == [expected]
    for added in (
        "ceiling lamp",
        "falling snow",
        "during a storm",
        "raining",
        "wearing",
    ):  # none of these is done by it
        assert ledits.targets("a table in a kitchen", f"+{added}") == [f"a table in a kitchen, {added}"]


def test_things_that_edits_change_apart_have_places_apart_where_one_is_with_another():
    """ "A penguin with a frog" may be two things, and "a man with a beard" is one, who is left."""
    source = "you can see a penguin with a frog and an owl"
    owl, penguin, frog = told(source, ledits.targets(source, "owl->heart", "penguin->pig", "-frog"))
    assert (owl.early, owl.late) == (
        "you can see a penguin with a heart and a heart", "you can see a pig with a heart",
    )  # fmt: skip
    assert (penguin.early, penguin.late) == (penguin.target, "you can see a pig with a heart")
    assert (frog.early, frog.late) == ("you can see a penguin", "you can see a pig")
    source = "a man with a beard on a street"
    targets = ledits.targets(source, "man->woman", "-beard")
    every = together(source, targets)
    for k, edit in enumerate(told(source, targets)):
        assert (edit.target, edit.early, edit.late) == (targets[k], targets[k], every)
        assert edit.own != source
    assert [edit.own for edit in told(source, targets)] == [
        "a man with a man on a street", "a beard with a beard on a street",
    ]  # fmt: skip
    (alone,) = told(source, ledits.targets(source, "-beard"))
    assert alone.own == source


def test_what_a_background_has_or_stands_in_a_row_is_a_list():
    source = "a purple background with a ball and a pizza"
    ball, pizza = told(source, ledits.targets(source, "ball->panda", "-pizza", emptied="an empty {}"), "an empty {}")
    # Each in the place of all, until the picture shows what went.
    assert ball.early == "a purple background with a panda and a panda"
    assert (ball.late, ball.away) == ("a purple background with a panda", "a purple background with a ball")
    assert pizza.early == pizza.late == "an empty purple background"
    source = "a photo of snow with a kitten, a frog and a heart in a row"
    frog, kitten = told(source, ledits.targets(source, "frog->star", "-kitten"))
    assert frog.early == "a photo of snow with a star, a star and a star in a row"
    assert kitten.early == "a photo of snow"
    source = "a man with a beard and a hat"  # what is left of it may be his
    for edit in told(source, ledits.targets(source, "man->woman", "hat->cap")):
        assert "cap and a cap" not in edit.early


def test_what_one_thing_holds_goes_with_it():
    """Found by one who read 205 captions: the basket went with the oranges, and a girl's doll with a boy's ball."""
    source = "a basket of apples and oranges on a table"
    for edit in told(source, ledits.targets(source, "-oranges", "apples->lemons"), "an empty {}"):
        assert edit.late == "a basket of lemons on a table"
        assert edit.own == source
    source = "a boy with a ball and a girl with a doll"
    ball, doll = told(source, ledits.targets(source, "-ball", "doll->teddy bear"))
    assert ball.late == doll.late == "a boy and a girl with a teddy bear"
    source = "a black and white cat and a dog"
    cat, dog = told(source, ledits.targets(source, "cat->fox", "-dog"), "an empty {}")
    assert (cat.early, cat.late) == ("a black and white fox and a black and white fox", "a black and white fox")
    assert dog.late == "an empty background"


def test_what_becomes_a_background_is_no_thing_beside_others():
    source = "a pig as well as a car in front of a sunset"
    pig, car, sunset = told(source, ledits.targets(source, "pig->turtle", "-car", "sunset->green background"))
    assert pig.early == "a turtle as well as a turtle in front of a sunset"
    assert pig.late == "a turtle in front of a green background"
    assert (car.early, car.late) == ("a sunset", "a green background")
    assert sunset.early == "a pig as well as a car in front of a green background"


def test_what_is_worn_is_told_of_its_place_and_the_place_of_what_comes():
    """Sunglasses are before the eyes and a crown is not: of 40 swaps the flow's region missed it in 7."""
    for source, edit, bare in (
        ("a frog wearing sunglasses under a night sky", "sunglasses->crown", "a frog under a night sky"),
        ("an owl that wears shades as well as a fish", "shades->top hat", "an owl as well as a fish"),
        ("a man in a big red hat", "red hat->crown", "a man"),
        ("a woman holding a book in a park", "book->guitar", "a woman in a park"),
        ("a cat wearing a hat and a dog on a beach", "hat->crown", "a cat and a dog on a beach"),
    ):
        assert [each.bare for each in told(source, ledits.targets(source, edit))] == [bare]
    for source, edit in (
        ("a dog on a beach", "beach->snow"), ("a cat", "+a hat"), ("a cat and a dog", "cat->fox"),
        ("a cat", "cat->fox"), ("a red heart on a beach", "red->blue"),
        ("a man who is wearing a hat and a tie", "hat->cap"),
    ):  # fmt: skip
        assert [each.bare for each in told(source, ledits.targets(source, edit))] == [source]


def test_what_a_caption_calls_a_background_is_one_and_nothing_else_is():
    """Of 40 new backgrounds beside other edits the flow did not find six, and took a rabbit for one."""
    for source, edit, ground, thing in (
        ("a yellow wall with a heart", "yellow wall->gray background", True, False),
        ("a balloon, the background is white", "white->yellow", True, False),
        ("a cat on a white background", "white background->beach", True, False),
        ("a cat, blurry background", "blurry background->city", True, False),
        ("a cat on a white background", "cat->dog", False, True),
        ("a beach with people in the background", "beach->snowy field", False, False),
        ("a woman in a forest with a blurred background", "forest->city", False, False),
        ("a cat on the red background is black", "black->white", False, False),
        ("a cat on a white background", "+pencil sketch", False, False),
        ("a cat on a beach", "beach->snow", False, False),
        ("a cat on a beach", "cat->dog", False, False),
        ("a cat against a background of mountains", "mountains->skyscrapers", True, False),
        ("the background of the picture is white", "white->red", True, False),
        ("a cat on a white background", "->a cat in a forest", True, False),
        ("a lake with mountains in the background", "mountains->a city", False, False),
        ("the woman in the background is old", "old->young", False, False),
        # What is of the whole picture may change with whatever background.
        ("a photo of a cat on a white background", "photo->painting", False, False),
        ("a woman on a beach at sunset with a blurred background", "sunset->night", False, False),
        ("a sunny street with people in the background", "sunny->rainy", False, False),
        ("a woman on a beach with a lighthouse in the background", "beach->snowy field", False, False),
    ):
        (said,) = told(source, ledits.targets(source, edit))
        assert (said.ground, said.thing) == (ground, thing), edit
    (said,) = told("the cat is black", ["the cat is white"])
    assert not said.comes  # a colour is no thing
    (said,) = told("the woman has sunglasses", ["the woman has goggles"])
    assert said.comes


def test_one_of_several_things_is_told_of_alone_and_nothing_else_is():
    """Found by one who read 787 captions: "a cat, photorealistic, 8k" was told "a dog, a dog, a dog"."""
    for source, edit, alone in (
        ("a cat and a dog on a bed", "cat->fox", "a fox and a fox on a bed"),
        ("a cat on the left and a dog on the right", "dog->fox", "a fox on the left and a fox on the right"),
        ("dog and cat, both are white", "dog->fox", "fox and fox, both are white"),
        ("masterpiece, a cat and a dog, 8k", "cat->fox", "masterpiece, a fox and a fox, 8k"),
        ("three cats, two dogs", "two dogs->two foxes", "two foxes, two foxes"),
        ("a cat and a dog sitting on a sofa", "dog->fox", "a fox and a fox sitting on a sofa"),
    ):
        (said,) = told(source, ledits.targets(source, edit))
        assert (said.early, said.late, said.away) == (alone, alone, said.target)
    for source, edit in (
        ("a cat, photorealistic, 8k", "cat->dog"),
        ("a castle, fantasy art, night, full moon", "night->day"),
        ("portrait of a woman, red hair, green eyes, freckles", "red hair->blonde hair"),
        ("a building near a lake", "building->castle"),
        ("a man and his dog", "dog->cat"),
        ("a woman, blue eyes, freckles", "blue->green"),
        ("a boy and a girl, anime style, sunset", "sunset->night"),
        ("a poster of a cat and a dog on a bed", "dog->fox"),
        ("a man with a beard next to a tree", "tree->car"),
        ("a man holding a cup and a woman reading a book", "woman->robot"),
        ("a man with a beard and a woman smiling", "woman->robot"),
    ):
        (said,) = told(source, ledits.targets(source, edit))
        assert (said.early, said.late, said.away) == (said.target, said.target, source)
    assert told("a photo of a dog", ["a painting of a dog", "a photo of a cat"])[0].own == "a photo of a dog"


def test_what_is_left_of_a_list_stands_in_no_row_and_on_an_empty_background():
    for source, gone, left in (
        ("snow with a kitten and a star in a row", "a star", "snow with a kitten"),
        ("snow with kittens and a star in a row", "a star", "snow with kittens in a row"),
        ("a photo of a blue background with a fox", "a fox", "a photo of an empty blue background"),
        ("a room with a fox", "a fox", "a room"),
    ):
        assert removed(source, gone, "an empty {}") == left
    assert removed("a blue background with a fox", "a fox") == "a blue background"


def test_a_listed_thing_is_told_from_where_it_is():
    source = "a yellow heart and a balloon on a beach"
    each = told(source, ledits.targets(source, "yellow heart->apple", "balloon->owl", "beach->yellow background"))
    assert [edit.thing for edit in each] == [True, True, False]
    source = "a beach with dogs"  # what a caption begins with is no thing for that
    assert not any(edit.thing for edit in told(source, ledits.targets(source, "beach->desert", "dogs->cats")))


def test_things_are_told_apart_in_ordinary_captions():
    """What is listed with a thing is told by itself, whatever presents the list and says how it stands."""
    for source, gone, other in (
        ("you can see a tortoise beside a fox with a purple background", "a tortoise", "a fox"),
        ("there is a fox on the left of a red heart, the background is green", "a fox", "a red heart"),
        ("on a beach, a gift and a yellow star side by side", "a gift", "a yellow star"),
        ("the image shows a slice of pizza and a red apple", "a slice of pizza", "a red apple"),
        ("a room with a cat on the left and a dog on the right", "a cat", "a dog"),
        ("a cat is next to a dog", "a cat", "a dog"),
    ):
        (said,) = told(source, [source.replace(gone, "a boat")])
        assert said.own == source.replace(other, gone)
        assert said.stays == (source.replace(gone, other),)


@pytest.mark.parametrize(
    "source", ["a photo of a yellow gift", "a donut is on the left", "a banana and nothing else", "a penguin standing"]
)
def test_a_model_that_can_say_empty_is_told_so_where_nothing_else_is_named(source):
    """It was refused, though the model's own file says how an empty picture is put."""
    thing = next(name for name in ("yellow gift", "donut", "banana", "penguin") if name in source)
    assert target(parse(f"-{thing}"), source, "an empty {}") == "an empty background"
    with pytest.raises(ValueError, match="nothing is left beside"):
        target(parse(f"-{thing}"), source)  # of another model nobody knows how


def test_two_of_a_kind_are_two_things():
    assert target(parse("-blue heart"), "green heart and blue heart on a wall") == "green heart on a wall"
    with pytest.raises(ValueError, match="may be said of"):
        target(parse("-yellow flowers"), "red and yellow flowers on a wall")


def test_a_colour_alone_is_no_place_that_can_be_empty():
    """The network was told of "an empty green"."""
    assert target(parse("-fox"), "a fox on green", "an empty {}") == "an empty green background"
    assert target(parse("-fox"), "a fox on a green wall", "an empty {}") == "an empty green wall"
    assert target(parse("-fox"), "a fox on the green", "an empty {}") == "empty green"


@pytest.mark.parametrize(
    ("edit", "source", "left"),
    [
        ("-dog", "a cat and a dog are side by side on a beach", "a cat on a beach"),
        ("-cat", "a cat and two dogs are next to each other", "two dogs"),
        ("-dog", "a cat, a dog and a fox are side by side", "a cat and a fox are side by side"),
    ],
)
def test_one_thing_alone_is_in_no_row(edit, source, left):
    """It was "a cat is side by side on a beach"."""
    assert target(parse(edit), source) == left


def test_a_place_is_no_thing_of_a_list_and_neither_is_what_one_thing_holds():
    """The network was told of "a lamp, a lamp and a lamp by a lamp", and of an empty background for one fruit."""
    source = "a cat, a lamp and a plant by the window"
    given = words.split(source)
    names = [words.join(given[i.start : i.end]) for i in things.listed(given, things.Span(0, 2))]
    assert names == ["a cat", "a lamp", "a plant"]
    bowl = words.split("a bowl of apples, oranges and bananas")
    assert all(things.listed(bowl, things.name_around(bowl, things.Span(i, i + 1))) == [] for i in (1, 5, 7))
    beside = words.split("a glass of water next to a plate")
    assert len(things.listed(beside, things.Span(0, 4))) == 2


def test_what_goes_is_the_thing_and_not_where_it_was():
    """Of names without articles "the left of owl" was read as what goes, and another thing came in its place."""
    source = "pig on the left of owl on a blue background"
    fish, gone = told(source, targets(source, "pig->fish", "-owl", emptied="an empty {}"), "an empty {}")
    assert (gone.early, gone.late) == ("an empty blue background",) * 2
    assert gone.own == "owl on the left of owl on a blue background"
    assert fish.early == "fish on the left of fish on a blue background"


def test_whatever_is_to_go_there_is_a_caption_or_one_sentence():
    """A caption that ends in "on", or where only a preposition was left, was a traceback."""
    captions = [
        *(case["source"] for case in CASES),
        "there is an owl with a top hat on", "an owl on", "you can see a panda on on a yellow background",
        "you can see panda bear with a top hat on and nothing else on a yellow background",
    ]  # fmt: skip
    for source in captions:
        given = words.split(source)
        for i, j in itertools.combinations(range(len(given) + 1), 2):
            for emptied in (None, "an empty {}"):
                with contextlib.suppress(Unsure):
                    assert removed(source, words.join(given[i:j]), emptied)
