"""Where the small models are found, and the one sentence that each surface says where they are not installed."""

import json
import shutil

import pytest
from PIL import Image

import ledits
from ledits import backbones, cli, editor
from ledits.files import checkpoints

SENTENCE = (
    "the small model 'scenes' is not installed: pip install 'ledits[demo]' brings it, or name a model of your own, a "
    "folder or a hub id"
)


@pytest.fixture
def missing(monkeypatch, tmp_path):
    """As after `pip install ledits` alone, with a picture in the folder."""
    monkeypatch.setattr(checkpoints, "_CHECKOUT", tmp_path / "none")
    monkeypatch.setattr(checkpoints, "_PACKAGE", "ledits_no_such_package")
    monkeypatch.delenv("LEDITS_MODEL", raising=False)
    monkeypatch.chdir(tmp_path)
    editor._editor.cache_clear()
    Image.new("RGB", (64, 64), "white").save("cat.png")
    yield tmp_path
    editor._editor.cache_clear()


COMMANDS = (
    "edit cat.png cat->dog -o dog.png",
    "edit cat.png cat->dog -o dog.png --model scenes",
    "invert cat.png -o cat.safetensors",
    "batch cat.png --edit cat->dog -o edited",
    "demo demo",
    "doctor",
    "info scenes",
    "serve --port 0",
    "studio --port 0",
    "mcp .",
    "bench scenes --quick --out runs",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_says_what_to_install(command, missing, monkeypatch, capfd):
    opened = list[str]()
    monkeypatch.setattr("webbrowser.open", opened.append)
    with pytest.raises(SystemExit) as stop:
        cli.main(command.split())
    said = capfd.readouterr()
    assert (stop.value.code, said.out) == (2, "")
    assert said.err.splitlines()[-1].removeprefix("error: ").removeprefix("ledits: ") == SENTENCE
    # Nothing was made, and no page opened, for what can't be done.
    assert {path.name for path in missing.iterdir()} == {"cat.png"}
    assert opened == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda: ledits.edit("cat.png", "cat->dog"),
        lambda: ledits.Editor(),
        lambda: backbones.load("scenes"),
    ],
    ids=["edit", "Editor", "load"],
)
def test_python_says_what_to_install(ask, missing):
    with pytest.raises(ValueError, match="not installed") as said:
        ask()
    assert str(said.value) == SENTENCE


def test_models_lists_what_is_here_and_says_what_is_not(missing, capfd, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(missing / "hub"))
    for arguments in (["models"], ["models", "--json"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 0
    text, listed = capfd.readouterr().out.rsplit("\n{", 1)
    assert text.startswith("The small models, scenes and scenes-flow, are not installed: pip install 'ledits[demo]'")
    assert json.loads("{" + listed) == {"models": []}


def test_the_package_of_the_extra_is_found(missing, monkeypatch):
    """A checkout's own come first; without them those of the package, which nothing has to import."""
    monkeypatch.setattr(checkpoints, "_PACKAGE", "ledits_scenes_here")
    package = missing / "site/ledits_scenes_here"
    (package / "scenes/unet").mkdir(parents=True)
    (package / "scenes/unet/weights.safetensors").touch()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(missing / "site")
    assert checkpoints.find("scenes") == package / "scenes"
    here = missing / "src/models"
    shutil.copytree(package, here)
    monkeypatch.setattr(checkpoints, "_CHECKOUT", here)
    assert checkpoints.find("scenes") == here / "scenes"
    # An sdist's folder has no weights.
    (here / "scenes/unet/weights.safetensors").unlink()
    assert checkpoints.find("scenes") == package / "scenes"
