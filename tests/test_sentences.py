"""Sentences as people and chat models type them: read as a person would, or refused in one sentence."""

import json
from pathlib import Path

import pytest
from PIL import Image

import ledits
from ledits import cli
from ledits.language import sentences
from ledits.language.sentences import read
from ledits.scenes.samples import draw
from sentences import LATER, UNSAYABLE, WANTED


def _read(text: str) -> list[str] | None:
    try:
        return [str(edit) for edit in read(text)]
    except ValueError:
        return None


@pytest.mark.parametrize(("text", "edits"), WANTED)
def test_none_is_guessed_wrong(text: str, edits: list[str] | None) -> None:
    assert _read(text) in (edits, None)


def test_most_are_understood_by_rules() -> None:
    assert len(WANTED) == 120
    assert sum(_read(text) == edits for text, edits in WANTED) >= 0.85 * len(WANTED)


@pytest.mark.parametrize("text", UNSAYABLE)
def test_what_no_edit_says_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+: write \+WORDS to add[^\n]+$"):
        read(text)


@pytest.mark.parametrize(("text", "edits"), LATER)
def test_what_was_read_wrongly_or_refused_once(text: str, edits: list[str] | None) -> None:
    assert _read(text) == edits


@pytest.mark.parametrize("text", [text for text, _ in [*WANTED, *LATER]])
def test_what_is_read_is_the_same_once_it_is_written_down(text: str) -> None:
    """Recipes, tables and lists of jobs hold edits as text."""
    try:
        edits = read(text)
    except ValueError:
        return
    assert sentences.asked([str(edit) for edit in edits]) == tuple(edits)


@pytest.mark.parametrize(
    "text",
    ["make the cat a dog:3", "add a clock showing 10:30", "replace the cat with a dog at 5:30", "a dog at 10:30",
     "make the cat a dog -hat", "remove the hat -scarf", "add a hat, +scarf", "add a red -20% tag", "add the text +1",
     "remove the 10:30 clock", "add a ratio 4:3 frame", "make the car a VW@home car", "add a hat|cap", "add a [red]"],
)  # fmt: skip
@pytest.mark.parametrize("source", ["", "a cat on a meadow"])
def test_words_that_an_edit_takes_for_values_are_refused_with_what_to_do(text: str, source: str) -> None:
    with pytest.raises(ValueError, match=r"^'[^\n]+ in its words, which an edit takes for a value [^\n]+$"):
        read(text, source)


@pytest.mark.parametrize(
    "text",
    ["add " + "a mug and " * 97, "make the " * 110, "a to " * 190, "the x is red and " * 58,
     "edit the image so that " * 43,
     " and ".join(["add a hat to the man"] * 40), '"' * 900, "without changing a and " * 43],
)  # fmt: skip
def test_many_clauses_end(text: str) -> None:
    assert _read(text[: sentences.LONGEST]) != []


def test_several_texts_and_edits_are_read_together() -> None:
    edit = ledits.Edit("remove", old="lamp", scale=3.0)
    asked = sentences.asked(["make the sofa green and add a plant", edit, "+rug:4"], "a sofa and a lamp")
    assert [str(each) for each in asked] == ["sofa->green sofa", "+plant", "-lamp:3", "+rug:4"]


@pytest.fixture(scope="module")
def cat() -> Image.Image:
    return Image.fromarray(draw("cat"))


def test_python_reads_sentences(cat: Image.Image) -> None:
    said = ledits.edit(cat, "make the cat a dog, please", source="a cat on a meadow", steps=4)
    typed = ledits.edit(cat, "cat->dog", source="a cat on a meadow", steps=4)
    assert said.recipe == typed.recipe
    assert said.image.tobytes() == typed.image.tobytes()


def test_a_recipe_whose_words_look_like_several_edits_is_repeated_as_one(cat: Image.Image) -> None:
    editor = ledits.Editor()
    once = editor.edit(cat, ledits.Edit("add", new="pencil sketch -hat"), steps=3)
    again = editor.repeat(cat, once.recipe)
    assert again.recipe == once.recipe


def test_the_command_line_reads_sentences_and_says_how(
    cat: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cat.save("cat.png")

    def edit(*words: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["edit", "cat.png", "--steps", "3", *words])
        return stop.value.code, *capfd.readouterr()

    code, _, err = edit("make the cat a dog", "-o", "a.png")
    assert code == 0
    assert "read as cat->dog" in err
    code, out, _ = edit("no hat, and add a bow", "-o", "b.png", "--json")
    assert code == 0
    assert json.loads(out)["edits"] == ["-hat", "+bow"]
    code, _, err = edit("make it nice")
    assert code == 2
    assert err.count("\n") == 1
    assert "is not understood" in err
    code, _, err = edit("my cat.png")
    assert code == 2
    assert "my cat.png" in err


@pytest.mark.parametrize(
    ("text", "source", "edits"),
    [
        ("add a hat", "a cat", ["+hat"]),
        ("The cat should jump", "a cat", None),
        ("a dog wearing sunglasses on a beach", "a cat on a meadow", ["->a dog wearing sunglasses on a beach"]),
        ("Edit the image so that it is a fox", "a cat", ["cat->fox"]),
        ("a dog, keep everything else unchanged", "a cat", None),
    ],
)
def test_with_a_caption(text: str, source: str, edits: list[str] | None) -> None:
    try:
        assert [str(edit) for edit in read(text, source)] == edits
    except ValueError:
        assert edits is None
