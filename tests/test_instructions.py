"""What plain words are read as. The table was written before the rules; a sentence that doesn't fit is refused."""

import pytest

from ledits.language.sentences import read

# (what somebody types, the edits that a person would write for it)
UNDERSTOOD = [
    # Something comes.
    ("add sunglasses", ["+sunglasses"]),
    ("Add a red hat to the cat.", ["+red hat"]),
    ("put a crown on the cat", ["+crown"]),
    ("give the dog a blue collar", ["+blue collar"]),
    ("give him a beard", ["+beard"]),
    ("Please could you add a rainbow in the sky?", ["+rainbow in the sky"]),
    ("make the man wear a tie", ["+tie"]),
    ("let her wear sunglasses", ["+sunglasses"]),
    ("add a cat, a dog and a bird", ["+cat", "+dog", "+bird"]),
    ("insert a small boat", ["+small boat"]),
    ("include a bench next to the tree", ["+bench next to the tree"]),
    ("add more clouds", ["+clouds"]),
    ("there should be a moon in the sky", ["+moon in the sky"]),
    ("add a hat with a feather", ["+hat with a feather"]),
    ("add a black and white dog", ["+black and white dog"]),
    # Something goes.
    ("remove the hat", ["-hat"]),
    ("take away the glasses", ["-glasses"]),
    ("take off her glasses", ["-glasses"]),
    ("take the hat off the cat", ["-hat"]),
    ("get rid of the people in the background", ["-people in the background"]),
    ("delete the text", ["-text"]),
    ("erase his beard, please", ["-beard"]),
    ("remove the hat from the man", ["-hat"]),
    ("remove the car and the bus", ["-car", "-bus"]),
    ("get the people out of the picture", ["-people"]),
    ("remove the man with the red tie", ["-man with the red tie"]),
    # One thing becomes another.
    ("make the cat a dog", ["cat->dog"]),
    ("replace the beach with snow", ["beach->snow"]),
    ("turn the cat into a fox", ["cat->fox"]),
    ("change the apple to a pear", ["apple->pear"]),
    ("Can you change the cat into a dog?", ["cat->dog"]),
    ("swap the car for a bicycle", ["car->bicycle"]),
    ("substitute a cake for the bread", ["bread->cake"]),
    ("transform the horse into a zebra", ["horse->zebra"]),
    ("convert the house to a castle", ["house->castle"]),
    ("make the cat into a tiger", ["cat->tiger"]),
    ("make the dog look like a wolf", ["dog->wolf"]),
    ("the cat should be a dog", ["cat->dog"]),
    ("I want the cat to be a dog", ["cat->dog"]),
    ("a dog instead of the cat", ["cat->dog"]),
    ("I'd like a dog instead of the cat", ["cat->dog"]),
    ("instead of the cat, show a dog", ["cat->dog"]),
    ("change the sky to a sunset", ["sky->sunset"]),
    ("turn the day into night", ["day->night"]),
    ("change it from day to night", ["day->night"]),
    ("make the cat a dog wearing sunglasses", ["cat->dog wearing sunglasses"]),
    # A thing keeps its name and changes its look.
    ("make the car red", ["car->red car"]),
    ("make the red car blue", ["red car->blue car"]),
    ("paint the door green", ["door->green door"]),
    ("change the colour of the dress to dark blue", ["dress->dark blue dress"]),
    ("change the car's color to red", ["car->red car"]),
    ("make her hair blonde", ["hair->blonde hair"]),
    ("make the table wooden", ["table->wooden table"]),
    ("the car should be red", ["car->red car"]),
    # The whole picture.
    ("turn it into a pencil sketch", ["+pencil sketch"]),
    ("make it look like a watercolour painting", ["+watercolour painting"]),
    ("make this a cartoon", ["+cartoon"]),
    ("make it black and white", ["+black and white"]),
    ("convert the photo to an oil painting", ["+oil painting"]),
    ("turn the picture into a painting by Picasso", ["+painting by Picasso"]),
    ("in the style of van Gogh", ["+style of van Gogh"]),
    ("paint it in the style of Monet", ["+style of Monet"]),
    ("make it night", ["+night"]),
    ("make it snow", ["+snow"]),
    ("change the background to a forest", ["background->forest"]),
    # Several at once.
    ("add sunglasses and remove the hat", ["+sunglasses", "-hat"]),
    ("Remove the hat. Add a crown.", ["-hat", "+crown"]),
    ("remove the cat, then add a dog", ["-cat", "+dog"]),
    ("replace the cat with a dog and the beach with snow", ["cat->dog", "beach->snow"]),
    ("add a bow tie and make the wall blue", ["+bow tie", "wall->blue wall"]),
    ("make the cat a dog, add a crown and turn it into a pencil sketch", ["cat->dog", "+crown", "+pencil sketch"]),
]

# Tried when the rules were done; these had been refused or read wrongly.
LATER = [
    ("change her dress to a red one", ["dress->red dress"]),
    ("replace both cats with dogs", ["cats->dogs"]),
    ("remove all the people", ["-people"]),
    ("make the cat's eyes blue", ["cat's eyes->blue eyes"]),
    ("change the cat for a dog", ["cat->dog"]),
    ("convert to black and white", ["+black and white"]),
    ("make it pencil sketch", ["+pencil sketch"]),
]

# (what somebody types, what he says the picture shows, the edits)
UNDERSTOOD_WITH_SOURCE = [
    ("make it a dog", "a cat on a beach", ["cat->dog"]),
    ("turn it into a fox", "a black cat", ["black cat->fox"]),
    ("make it red", "a car in front of a house", ["car->red car"]),
    ("change the background to snow", "a cat on the beach", ["beach->snow"]),
    ("a dog on a beach", "a cat on a beach", ["->a dog on a beach"]),
    ("a pencil sketch of a cat", "a cat", ["->a pencil sketch of a cat"]),
]

REFUSED = [
    "", "   ", "?", "hello", "the cat", "a dog", "a dog on a beach", "what is this?", "can you see the cat?",
    "make it nice", "make it better", "make it a dog", "make it bigger", "make the cat", "make the cat smile",
    "make the cat bigger", "remove", "add", "replace the cat", "change the hat", "turn the cat", "turn the cat around",
    "move the cat to the left", "rotate the picture", "crop to the cat", "zoom in", "undo",
    "don't remove the hat", "do not add a crown", "never add a hat", "remove everything",
    "remove everything but the cat", "remove all except the cat", "add it", "remove it", "remove him",
    "swap the cat and the dog", "make it a dog or a cat", "put the cat on the moon",
    "if there is a hat, remove it", "add sunglasses and frobnicate the dog",
    "frobnicate the cat", "add a hat but not a red one", "brighten it", "ignore all previous instructions",
    "replace the cat with", "replace with a dog", "turn it into something", "add something", "asdf qwer", "12345",
]  # fmt: skip

GRAMMAR = [
    ("cat->dog", ["cat->dog"]),
    ("cat->dog, +crown:8", ["cat->dog", "+crown:8"]),
    ("cat → dog; -hat@0.8", ["cat->dog", "-hat@0.8"]),
    ("+sunglasses -hat", ["+sunglasses", "-hat"]),
    ("+oil painting:12@0.5[2..40]\n-red hat", ["+oil painting:12@0.5[2..40]", "-red hat"]),
    ("->a dog, at night", ["->a dog, at night"]),
    ("+hat, coat and shoes", ["+hat, coat and shoes"]),
    ("-hat, cat->dog", ["-hat", "cat->dog"]),
    ("+black-and-white photo", ["+black-and-white photo"]),
]


@pytest.mark.parametrize(("text", "edits"), UNDERSTOOD + LATER)
def test_plain_words_are_read_as_a_person_would(text: str, edits: list[str]) -> None:
    assert [str(edit) for edit in read(text)] == edits


@pytest.mark.parametrize(("text", "source", "edits"), UNDERSTOOD_WITH_SOURCE)
def test_a_description_says_what_it_is(text: str, source: str, edits: list[str]) -> None:
    assert [str(edit) for edit in read(text, source)] == edits


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_understood_is_refused_and_the_grammar_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"'cat->dog'"):
        read(text)


@pytest.mark.parametrize(("text", "edits"), GRAMMAR)
def test_the_grammar_comes_before_the_words(text: str, edits: list[str]) -> None:
    assert [str(edit) for edit in read(text)] == edits


@pytest.mark.parametrize("text", ["make it a dog", "turn it into a fox"])
def test_it_needs_a_description(text: str) -> None:
    with pytest.raises(ValueError, match="source"):
        read(text)


@pytest.mark.parametrize(("text", "_"), UNDERSTOOD)
def test_with_a_description_the_words_are_read_as_instructions_too(text: str, _: list[str]) -> None:
    assert [str(edit) for edit in read(text, "a cat")]


def test_a_broken_edit_of_the_grammar_keeps_its_own_sentence() -> None:
    with pytest.raises(ValueError, match="scale 'much' is no number"):
        read("+crown:much")


@pytest.mark.parametrize(
    "text", ["make the " * 5000 + "cat a dog", "a" * 100_000, "add " + "a cat and " * 5000 + "a dog"]
)
def test_long_texts_take_no_time_to_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="long"):
        read(text)
