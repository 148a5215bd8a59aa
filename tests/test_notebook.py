"""Python as somebody types it: what completes, what is shown, and the notebook of examples/, run as it stands."""

import base64
import inspect
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ledits
from ledits import progress
from ledits.testing import ToyBackbone

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "examples/pictures/cat.png"


@pytest.fixture(scope="module")
def inversion() -> ledits.Inversion:
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return ledits.Editor(ToyBackbone()).invert(picture, source="a cat", steps=4)


def test_names_complete_without_loading_torch() -> None:
    asked = "import sys, ledits; names = dir(ledits); assert 'torch' not in sys.modules; print(*names)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == set(ledits.__all__)


def test_what_is_shown_says_what_it_is(inversion: ledits.Inversion) -> None:
    edited = inversion.edit("cat->dog")
    assert "a cat" in repr(inversion)
    assert "32x32" in repr(inversion)
    assert "cat->dog" in repr(edited)
    assert "cpu" in repr(inversion.editor)
    assert repr(next(inversion.steps("cat->dog"))) == "<EditStep 1 of 4; .preview()>"
    png = edited._repr_png_()  # pyright: ignore[reportPrivateUsage]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), np.asarray(edited.image))


def test_plain_sentences_are_edits(inversion: ledits.Inversion) -> None:
    edited = inversion.edit("make the cat a dog and add a hat", "+fence")
    assert [str(edit) for edit in edited.plan.edits] == ["cat->dog", "+hat", "+fence"]
    with pytest.raises(ValueError, match="not understood"):
        inversion.edit("frobnicate it sideways unless it rains")


def test_progress_is_told_of_inversion_and_edit(inversion: ledits.Inversion) -> None:
    told = list[tuple[int, int]]()
    inversion.edit("cat->dog", progress=lambda done, total: told.append((done, total)))
    assert told == [(k + 1, 4) for k in range(4)]


def test_a_bar_is_drawn_where_it_is_asked_for_and_in_notebooks(
    inversion: ledits.Inversion, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inversion.edit("cat->dog")
    assert capsys.readouterr().err == ""
    inversion.edit("cat->dog", progress=True)
    assert "editing" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    assert isinstance(progress.shown(None, "editing"), progress.Bar)
    assert progress.shown(False, "editing") is None


def test_files_are_missing_or_there_in_pythons_own_words(inversion: ledits.Inversion, tmp_path: Path) -> None:
    edited, path = inversion.edit("cat->dog"), tmp_path / "dog.png"
    edited.save(path)
    for kind in (FileExistsError, ValueError):
        with pytest.raises(kind, match="overwrite=True"):
            edited.save(path)
    edited.save(path, overwrite=True)
    for kind in (FileNotFoundError, ValueError):
        with pytest.raises(kind, match="There is no file"):
            inversion.editor.invert(tmp_path / "none.png")


def test_a_photograph_is_refused_at_the_front_door_and_can_be_had_anyway() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="anyway=True") as refused:
        ledits.edit(noise, "cat->dog", steps=2)
    assert "--" not in str(refused.value)
    with pytest.raises(ValueError, match="does not know the word 'sombrero'"):
        ledits.edit(PICTURE, "+sombrero", steps=2)
    assert ledits.edit(noise, "cat->dog", steps=2, anyway=True).rgb.shape == (64, 64, 3)


def test_the_example_notebook_runs_and_shows_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat: Any = pytest.importorskip("nbformat")
    nbclient: Any = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(ROOT / "examples/notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT / "examples")}}
    )
    client.execute()
    shown = [
        base64.b64decode(output["data"]["image/png"])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) == 5
    assert "IProgress" not in str([cell.get("outputs") for cell in notebook.cells])  # where ipywidgets are missing
    before = np.asarray(Image.open(PICTURE).convert("RGB")).astype(int)
    assert np.abs(np.asarray(Image.open(io.BytesIO(shown[0])).convert("RGB")) - before).mean() > 3
    assert "same_words" in str(notebook.cells[-3].outputs)


def test_every_public_name_says_what_it_is_and_what_it_raises() -> None:
    """What `help(ledits.Editor.edit)` shows. Of errors, those that a function raises in its own lines are looked at."""
    for name in ledits.__all__:
        if name == "__version__":
            continue
        public = getattr(ledits, name)
        members = dict(inspect.getmembers_static(public)) if inspect.isclass(public) else {name: public}
        for member, value in members.items():
            function = getattr(value, "fget", None) or getattr(value, "func", None) or getattr(value, "__func__", value)
            if not inspect.isfunction(function) or not function.__module__.startswith("ledits"):
                continue
            if member.startswith("_") and member != "__call__":
                continue
            told = inspect.getdoc(function)
            assert told, f"{name}.{member} says nothing"
            raised = re.findall(r"raise (\w*Error)\(", inspect.getsource(function))
            assert not raised or "Error" in told, f"{name}.{member} raises {raised[0]} and does not say so"
