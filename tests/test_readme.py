"""The README's commands, in order, in an empty folder."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ledits import backbones, editor
from ledits.cli import main
from ledits.picture import image
from ledits.scenes import samples
from ledits.scenes.samples import SAMPLES, draw

README = Path(__file__).parent.parent / "README.md"


def commands() -> list[str]:
    """The lines that begin with ledits; not benchmarks, which run for hours, nor what needs a model of the hub."""
    lines = re.findall(r"^    (?:\.venv/bin/)?(ledits .*)$", README.read_text(), re.MULTILINE)
    return [line for line in lines if " bench " not in line and "--model" not in line]


def test_the_commands_run_in_order(tmp_path, monkeypatch, capfd):
    backbone = backbones.load(device="cpu", dtype="float32")
    # Few steps: what is tested is that the commands fit each other.
    backbone.defaults = backbone.defaults.changed({"steps": 2})
    monkeypatch.setattr(editor, "loaded", lambda *_, **__: backbone)
    monkeypatch.setattr(samples, "DEMO", {"swap": samples.DEMO["swap"]})
    monkeypatch.chdir(tmp_path)
    assert len(commands()) > 8
    for line in ["ledits demo demo", *commands()]:
        if "<" in line.split("#")[0]:  # redirected: by a shell
            shell = line.replace("ledits edit", f"{shlex.quote(sys.executable)} -m ledits edit --steps 2")
            subprocess.run(shell, shell=True, check=True)
            continue
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(line, comments=True)[1:])
        assert stop.value.code == 0, (line, capfd.readouterr().err)
    written = {path.name for path in tmp_path.iterdir()}
    assert {
        "panda.png",
        "two.png",
        "masks.png",
        "kept.png",
        "cat.safetensors",
        "worn.png",
        "again.png",
        "piped.png",
    } <= written
    assert Path(tmp_path / "panda.png").read_bytes() == Path(tmp_path / "again.png").read_bytes()


def test_its_python_runs(tmp_path, monkeypatch):
    """Every block but the one that needs a model of the hub."""
    backbone = backbones.load(device="cpu", dtype="float32")
    backbone.defaults = backbone.defaults.changed({"steps": 2})
    monkeypatch.setattr(editor, "load", lambda *_, **__: backbone)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    for name in SAMPLES:
        image.write(tmp_path / "demo" / f"{name}.png", draw(name))
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        if "from_pretrained" not in block:
            exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "cat-panda.png").exists()
    assert (tmp_path / "edited.png").exists()
