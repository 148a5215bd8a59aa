"""What stands in a manifest's cells means what it says: nothing wins without a word, and blanks are empty."""

import json
from pathlib import Path
from typing import Any

import pytest

from ledits.batch.jobs import Ask, Row
from ledits.batch.manifest import Source
from ledits.language import sentences


def rows_of(path: Path, text: str, **source: Any) -> list[Row]:
    path.write_text(text)
    return list(Source(manifest=path, root=str(path.parent), **source).rows())


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"picture": "p.png", "edits": "+top hat", "edits": "cat->dog"}', "it has 'edits' twice: give it once"),
        ('{"picture": "p.png", "edits": "+hat", "note": {"a": 1, "a": 2}}', "it has 'a' twice: give it once"),
        ('{"picture": "p.png", "edits": "+hat", "Edits": "-hat"}', "it has column 'edits' twice: give it once"),
        ('["p.png", "+hat"]', "where one JSON object a line is needed"),
    ],
)
def test_good_json_that_is_no_row_is_said_as_what_it_is(tmp_path: Path, line: str, said: str) -> None:
    bad, good = rows_of(tmp_path / "m.jsonl", f'{line}\n{{"picture": "p.png", "edits": "+hat"}}\n')
    assert said in bad.problem
    assert "no JSON" not in bad.problem
    assert (good.problem, good.edits) == ("", ("+hat",))


def test_a_number_of_5000_digits_is_said_in_our_words(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "m.jsonl", f'{{"picture": "p.png", "seed": {"9" * 5000}}}')
    assert "a number has too many digits" in row.problem


BLANK = {"edits": " ", "source": " ", "mask": "\t", "steps": " ", "composite": " ", "use_lora": "\N{NO-BREAK SPACE}"}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_cell_of_blanks_is_an_empty_cell(tmp_path: Path, kind: str) -> None:
    text = json.dumps({"picture": "p.png", **BLANK})
    if kind == "csv":
        text = ",".join(["picture", *BLANK]) + "\n" + ",".join(["p.png", *BLANK.values()])
    given = Ask(source="a cat", mask="none", steps=7, composite=True)
    (row,) = rows_of(tmp_path / f"m.{kind}", text, edits=("+hat",), ask=given)
    assert (row.problem, row.edits, row.ask) == ("", ("+hat",), given)


def test_blanks_in_a_list_of_edits_are_no_edits(tmp_path: Path) -> None:
    listed, only = rows_of(
        tmp_path / "m.jsonl", '{"picture": "p.png", "edits": ["-hat", " "]}\n{"picture": "p.png", "edits": [""]}',
        edits=("+hat",),
    )  # fmt: skip
    assert (listed.edits, only.edits) == (("-hat",), ("+hat",))


@pytest.mark.parametrize(
    ("cell", "means"),
    [("on", True), ("Off", False), (1.0, True), ("0.0", False), ("YES", True), ("no", False), (True, True), (0, False)],
)
def test_truth_is_read_as_people_and_their_tools_write_it(tmp_path: Path, cell: object, means: bool) -> None:
    (row,) = rows_of(tmp_path / "m.jsonl", json.dumps({"picture": "p.png", "edits": "+hat", "composite": cell}))
    assert (row.problem, row.ask.composite) == ("", means)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"steps": "1_0"}, "its steps is '1_0', where a number is needed"),
        ({"skip": "0_0.1"}, "where a number is needed"),
        ({"composite": "perhaps"}, "yes, no, on, off, 1, 0"),
        ({"picture": 5}, "its picture is '5', where the path of a file is needed"),
        ({"picture": {"path": "p.png"}}, "where the path of a file is needed"),
        ({"picture": " "}, "it names no picture"),
    ],
)
def test_a_cell_that_means_nothing_is_said_with_what_is_accepted(
    tmp_path: Path, cells: dict[str, object], said: str
) -> None:
    (row,) = rows_of(tmp_path / "m.jsonl", json.dumps({"picture": "p.png", "edits": "+hat", **cells}))
    assert said in row.problem


def test_a_parquet_of_pictures_themselves_is_said_to_need_paths(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist([{"picture": b"\x89PNG", "edits": "+hat"}]), tmp_path / "m.parquet")
    with pytest.raises(ValueError, match="its picture is bytes, where the path of a file is needed"):
        Source(manifest=tmp_path / "m.parquet", root=str(tmp_path)).check()


@pytest.mark.parametrize(
    ("cell", "edits"),
    [
        ("make the cat a dog; leave the rest untouched", ["cat->dog"]),
        ("Remove the lamp. Add a plant; leave the rest untouched.", ["-lamp", "+plant"]),
        ("make the cat a dog; add a hat", ["cat->dog", "+hat"]),
        ("cat->dog; +hat", ["cat->dog", "+hat"]),
        ("add a hat; cat->dog;", ["+hat", "cat->dog"]),
        ("make the cat a dog; -hat; add a scarf", ["cat->dog", "-hat", "+scarf"]),
        ('"add a hat"; "remove the cat"', ["+hat", "-cat"]),
    ],
)
def test_a_cell_of_edits_or_of_sentences_means_what_it_means_elsewhere(
    tmp_path: Path, cell: str, edits: list[str]
) -> None:
    (row,) = rows_of(tmp_path / "m.jsonl", json.dumps({"picture": "p.png", "edits": cell}))
    assert list(map(str, sentences.asked(row.edits))) == edits


def test_of_sentences_in_a_cell_the_one_that_is_not_understood_is_named(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path / "m.jsonl", '{"picture": "p.png", "edits": "add a hat; frobnicate it"}')
    with pytest.raises(ValueError, match="^'frobnicate it' is not understood"):
        sentences.asked(row.edits)


def test_a_caption_with_a_semicolon_is_one_wish(tmp_path: Path) -> None:
    """With a caption of the picture a text may be the caption of the picture that is wanted."""
    row, other = rows_of(
        tmp_path / "m.jsonl",
        '{"picture": "p.png", "source": "a cat on a sofa", "edits": "a dog on a sofa; a lamp beside it"}\n'
        '{"picture": "p.png", "source": "a cat on a sofa", "edits": "a dog on a sofa; +lamp"}',
    )
    assert row.edits == ("a dog on a sofa; a lamp beside it",)
    assert other.edits == ("a dog on a sofa", "+lamp")
