"""What the caller can mend: errors have fields, surfaces name their own remedies, files' errors are Python's too."""

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ledits
from ledits import Editor
from ledits.errors import FileMissing, FileThere, LeditsError, Unsuited
from ledits.picture import image
from ledits.testing import ToyBackbone

from conftest import picture

SOURCE = Path(ledits.__file__).parent
# What is started by a command, and speaks of its options.
COMMANDS = ("cli", "server", "batch", "studio")
OPTION = re.compile(r"(?<![\w-])--[a-z]")


def test_no_error_in_python_names_an_option_of_the_command_line() -> None:
    found = []
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] in COMMANDS:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        raised = [node for each in ast.walk(tree) if isinstance(each, ast.Raise) for node in ast.walk(each)]
        texts = [node.value for node in raised if isinstance(node, ast.Constant) and isinstance(node.value, str)]
        found += [(path.name, text) for text in texts if OPTION.search(text) and "pip install" not in text]
    assert found == []


def test_an_error_of_a_file_is_the_one_that_python_has_too(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        image.read(tmp_path / "no.png")
    with pytest.raises(FileNotFoundError):
        Editor(ToyBackbone()).open_inversion(tmp_path / "no.safetensors", picture())
    edited = Editor(ToyBackbone()).edit(picture(), "+hat")
    edited.save(tmp_path / "a.png")
    with pytest.raises(FileExistsError) as there:
        edited.save(tmp_path / "a.png")
    for error in (missing.value, there.value):
        assert isinstance(error, ValueError)
        assert isinstance(error, LeditsError)
        assert error.filename == error.given
    assert "overwrite=True" in str(there.value)
    assert "--force" in there.value.said({"overwrite": "--force"})
    edited.save(tmp_path / "a.png", overwrite=True)


@pytest.mark.parametrize(
    "error",
    [FileMissing("a.png"), FileThere("a.png"), Unsuited("no", "go on", option="anyway", given="word", accepted="cat"),
     LeditsError("no")],
)  # fmt: skip
def test_an_error_travels_between_processes(error: LeditsError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.option, back.given, back.accepted) == (
        type(error), str(error), error.option, error.given, error.accepted,
    )  # fmt: skip


def test_the_command_line_names_its_own_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ledits.cli import main

    def said(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 2
        return capsys.readouterr().err

    cat = str(tmp_path / "cat.png")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(cat)
    assert "--force" in said("edit", cat, "+dog", "-o", cat)
    assert "--source" in said("edit", cat, "->a dog")
    assert "--source" in said("edit", cat, "+dog", "--thrifty")
    assert "--mask" in said("edit", cat, "cat->dog", "--source", "a cat", "--mask", "noise")
    assert "--anyway" in said("edit", cat, "+wibblefrotz")
    for words in (("edit", cat, "+dog", "-o", cat), ("edit", cat, "+wibblefrotz")):
        assert "=True" not in said(*words)
