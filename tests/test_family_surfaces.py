"""Every family through the command line, from its folder: one edit, and what `ledits info` says."""

import functools
import json

import numpy as np
import pytest
from PIL import Image

import tiny_families
from ledits import backbones, editor
from ledits.cli import main
from ledits.files.families import FAMILIES

from conftest import picture


@pytest.fixture(params=tiny_families.MAKE)
def folder(request, tmp_path):
    tiny_families.make(request.param).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def run(capfd, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    assert stop.value.code == 0, err
    return json.loads(out)


def test_a_picture_is_edited_and_the_folder_says_what_it_is(folder, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(editor, "loaded", functools.cache(backbones.loaded))
    given, edited = tmp_path / "cat.png", tmp_path / "dog.png"
    picture(0, 32, 32).save(given)
    model = ["--model", folder, "--device", "cpu", "--steps", "2", "--json"]
    answer = run(capfd, "edit", given, "cat->dog[0..2]", "-o", edited, "--show-masks", tmp_path / "masks.png", *model)
    assert answer["edits"] == ["cat->dog[0..2]"]
    assert np.asarray(Image.open(edited)).shape == (32, 32, 3)
    assert (np.asarray(Image.open(edited)) != np.asarray(Image.open(given))).any()
    captioned = tmp_path / "night.png"
    run(capfd, "edit", given, "cat->dog[0..2]", "--source", "a cat", "-o", captioned, *model)
    assert captioned.exists()
    said = run(capfd, "info", folder, "--json")
    assert said["family"] in FAMILIES
    assert said["parts"]
    assert said["words"] == "any"


@pytest.mark.parametrize(
    "kind", ["QwenImageEditPipeline", "FluxKontextPipeline", "SanaSprintPipeline", "QwenImageLayeredPipeline"]
)
def test_checkpoints_for_something_else_are_refused_by_name(kind, tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(ValueError, match=f"is a {kind}"):
        backbones.load(str(tmp_path), device="cpu")
    with pytest.raises(ValueError, match=kind):
        backbones.from_pipe(type(kind, (), {"components": {}, "_execution_device": "cpu"})())
