"""What lies in the folder of outputs is kept: the user's own files, and what earlier batches made there."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_here import Here, batch
from ledits.batch import run as running
from ledits.batch.jobs import Ask
from ledits.batch.manifest import Source
from ledits.batch.run import Options, Summary, estimate
from ledits.cli import main

from conftest import picture

QUICK = Ask(steps=2, mask="none")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for k in range(2):
        picture(k, 16, 16).save(tmp_path / "in" / f"{k}.png")
    return tmp_path / "in"


def edited(photos: Path, output: Path, edit: str = "+hat", **options: Any) -> Summary:
    return batch(Source(pictures=(str(photos),), edits=(edit,), ask=QUICK), output, **options)


@pytest.mark.parametrize("name", ["index.html", "results.jsonl", "results.parquet"])
def test_a_file_of_the_users_is_not_replaced(photos: Path, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / name).write_text("precious")
    source = Source(pictures=(str(photos),), edits=("+hat",), ask=QUICK)
    for go in (
        lambda: edited(photos, output),
        lambda: edited(photos, output, shard=(1, 2)),
        lambda: estimate(Options(source=source, output=str(output)), Here(str(output))),
    ):
        with pytest.raises(ValueError, match=f"holds {name}, which no batch wrote") as error:
            go()
        assert "or name another folder with -o" in str(error.value)
        assert {path.name for path in output.iterdir()} == {name}
        assert (output / name).read_text() == "precious"


def test_a_link_of_the_users_that_leads_nowhere_is_not_replaced(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="no batch wrote"):
        edited(photos, tmp_path / "out")
    assert os.readlink(tmp_path / "out" / "index.html") == str(tmp_path / "elsewhere")


def test_other_files_of_the_users_hold_nothing_up(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("precious")
    for _ in range(2):
        assert edited(photos, tmp_path / "out").done == 2
    assert (tmp_path / "out" / "notes.txt").read_text() == "precious"


def test_a_run_that_came_to_no_row_goes_on(photos: Path, tmp_path: Path) -> None:
    """Its table is its own, though no worker has written of any job."""
    parts = [edited(photos, tmp_path / "out", shard=(k, 7)) for k in range(1, 8)]
    empty = next(k for k, part in enumerate(parts, 1) if part.done == 0)
    for _ in range(2):
        assert edited(photos, tmp_path / "alone", shard=(empty, 7)).done == 0
    assert edited(photos, tmp_path / "alone").done == 2


def test_a_table_does_not_take_its_manifests_place(photos: Path, tmp_path: Path) -> None:
    edited(photos, photos)
    manifest = photos / "results.jsonl"
    manifest.write_text('{"picture": "0.png", "edits": "+hat"}\n')
    with pytest.raises(ValueError, match="would replace its manifest"):
        batch(Source(manifest=manifest, root=str(photos), ask=QUICK), photos)
    assert json.loads(manifest.read_text())["picture"] == "0.png"


Told = Callable[..., str]


@pytest.fixture
def told(photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Told:
    """What the command says of a run into a folder."""
    monkeypatch.setattr(running, "_pool", lambda options, where: Here(options.output))

    def say(output: Path, edit: str = "+hat", *more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["batch", str(photos), "--edit", edit, "-o", str(output), "--steps", "2", "--mask", "none", *more])
        assert ended.value.code == 0
        return "".join(capsys.readouterr())

    return say


def test_results_that_leave_the_table_are_named(photos: Path, tmp_path: Path, told: Told) -> None:
    output = tmp_path / "out"
    assert "earlier" not in told(output)
    first = (output / "results.jsonl").read_text()
    assert "2 results of earlier runs, of other rows or settings, stayed in" in told(output, "+sun")
    assert (output / "results.jsonl").read_text() != first
    # The sentence keeps its word: the first command has its table again.
    assert "2 results of earlier runs" in told(output)
    assert (output / "results.jsonl").read_text() == first
    # Of a part of a batch the others are no earlier runs.
    assert edited(photos, output, shard=(1, 2)).unlisted == 0


def test_results_that_keep_an_earlier_name_are_named(photos: Path, tmp_path: Path, told: Told) -> None:
    output = tmp_path / "out"
    (photos / "copy.png").write_bytes((photos / "1.png").read_bytes())  # one output, named by the first
    for _ in range(2):
        assert "kept the old name" not in told(output)
    renamed = told(output, "+hat", "--name", "new-{id}.png")
    assert "2 results of earlier runs kept the old name" in renamed
    assert not list(output.glob("new-*"))
    assert "kept the old name" not in told(tmp_path / "other", "+hat", "--name", "new-{id}.png")
    assert len(list((tmp_path / "other").glob("new-*"))) == 2


def test_one_is_one_row(photos: Path, tmp_path: Path, told: Told) -> None:
    (photos / "1.png").unlink()
    assert "1 row done" in told(tmp_path / "out")
