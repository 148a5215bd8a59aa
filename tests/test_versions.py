"""The roads that other versions of what is built on would break first: `make test-oldest`, `make test-newest`."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ledits import Editor, cli
from ledits.backbones import load
from serving import decoded, saved, served

ROOT = Path(__file__).parent.parent


def test_the_lowest_versions_are_those_that_the_documents_name() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = {name: least for name, _, least in (each.partition(">=") for each in asked)}
    assert f"({lowest['torch']} and {lowest['diffusers']} or newer)" in (ROOT / "docs/start.md").read_text()
    assert f"diffusers ({lowest['diffusers']} or newer)" in (ROOT / "docs/migration.md").read_text()


def test_the_command_line_and_the_server_give_the_same_pixels_in_processes_of_their_own(
    tmp_path: Path, scene_pictures: list[np.ndarray]
) -> None:
    picture, output = tmp_path / "cat.png", tmp_path / "out.png"
    picture.write_bytes(saved(Image.fromarray(scene_pictures[0])))
    command = [sys.executable, "-m", "ledits", "edit", str(picture), "+crown", "--steps", "3", "-o", str(output)]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert ran.returncode == 0, ran.stderr
    with served(tmp_path / "store", editors={"scenes": Editor(load())}) as server, server.client() as http:
        form = {"prompt": "+crown", "steps": "3"}
        answer = http.post("/v1/images/edits", files={"image": picture.read_bytes()}, data=form).json()
    assert np.array_equal(decoded(answer["data"][0]["b64_json"]), np.asarray(Image.open(output)))


def help_of(*command: str) -> str:
    wide = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    ran = subprocess.run([sys.executable, "-m", "ledits", *command, "--help"], capture_output=True, text=True, env=wide)
    assert (ran.returncode, ran.stderr) == (0, ""), version("typer")
    return ran.stdout


@pytest.mark.parametrize("command", ["", *cli._HERE, "bench", "bench scenes", "bench report"])
def test_every_help_can_be_read(command: str) -> None:
    """Nothing is to be typed after a switch, and no type of Python is named; -h asks for help as well."""
    said = help_of(*command.split())
    assert "<bool>" not in said
    assert not re.search(r"--\w.*<list\[", said)
    if not command.startswith("bench"):
        assert "-h" in said


def test_help_shows_the_defaults_that_it_writes() -> None:
    """Brackets are marks of the help's own: what they hold is swallowed where they are not escaped."""
    for path in [*Path(cli.__file__).parent.glob("*.py"), Path(cli.__file__).parents[2] / "ledits_bench/cli.py"]:
        assert not re.findall(r"help=.*[^\\]\[default.*", path.read_text()), path
    assert "[default: scenes]" in help_of("serve")
