"""Inversions in files: bit for bit, and nothing foreign, damaged or mismatched is taken."""

import json

import pytest
import torch
from safetensors.torch import save_file

from ledits.files import artifact
from ledits.files.artifact import Origin
from ledits.method.core import Inversion, Schedule

ORIGIN = Origin("scenes", "f1", "p1", 64, 48, 64, 48, 64, 64, None, 0, 0.15, "a cat", 3.5, "", "float32", "cpu")


def inversion(dtype: torch.dtype = torch.float32) -> Inversion:
    x, x0, null_x0 = (torch.randn(n, 1, 4, 6, 8).to(dtype) for n in (3, 2, 2))
    schedule = Schedule((500.0, 1.0), (0.3, 0.9, 0.999), (0.95, 0.4, 0.03))
    return Inversion(schedule, x, x0, null_x0, "", "a cat", 3.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_what_is_saved_comes_back(tmp_path, dtype):
    made = inversion(dtype)
    artifact.save(tmp_path / "a.safetensors", made, ORIGIN)
    back, origin = artifact.load(tmp_path / "a.safetensors")
    assert origin == ORIGIN
    assert back.schedule == made.schedule
    assert (back.source, back.source_scale, back.base_prompt) == ("a cat", 3.5, "")
    for name in ("x", "denoised", "base_denoised"):
        assert torch.equal(getattr(back, name), getattr(made, name))
        assert getattr(back, name).dtype == dtype
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_text("mine")
    with pytest.raises(ValueError, match="exists"):
        artifact.save(path, inversion(), ORIGIN)
    assert path.read_text() == "mine"
    artifact.save(path, inversion(), ORIGIN, overwrite=True)
    assert artifact.load(path)[1] == ORIGIN


@pytest.mark.parametrize("name", ["a.pt", "none/a.safetensors", "folder.safetensors"])
def test_unwritable_names_are_refused_before_anything_is_made(tmp_path, name):
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(ValueError, match=r"safetensors|folder"):
        artifact.save(tmp_path / name, inversion(), ORIGIN)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.safetensors"]


def test_foreign_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    artifact.save(path, inversion(), ORIGIN)
    whole = path.read_bytes()
    header = artifact.header(path)
    bad: dict[str, bytes] = {"empty": b"", "text": b"hello, world", "cut": whole[:-40], "cut in the header": whole[:50]}
    for name, content in bad.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.safetensors"):
            artifact.load(path)
        assert name
    x = torch.zeros(3, 1, 4, 6, 8)
    for tensors, metadata in (
        ({"x": x}, None),
        ({"x": x}, {"other": "{}"}),
        ({"x": x}, {"ledits": "[]"}),
        ({"x": x}, {"ledits": json.dumps({**header, "format": 99})}),
        ({"x": x}, {"ledits": json.dumps(header)}),
        ({"x": x, "x0": x.clone()}, {"ledits": json.dumps(header)}),
        ({"x": x * torch.nan, "x0": x[1:].clone()}, {"ledits": json.dumps(header)}),
        ({"x": x, "x0": x[1:].clone()}, {"ledits": json.dumps({k: v for k, v in header.items() if k != "seed"})}),
    ):
        save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match=r"a\.safetensors is"):
            artifact.load(path)


def test_another_picture_or_model_is_refused(tmp_path):
    artifact.check(ORIGIN, tmp_path, fingerprint="f1", model="scenes", picture="p1")
    with pytest.raises(ValueError, match="another picture"):
        artifact.check(ORIGIN, tmp_path, fingerprint="f1", model="scenes", picture="p2")
    with pytest.raises(ValueError, match="pass that model"):
        artifact.check(ORIGIN, tmp_path, fingerprint="f2", model="other", picture="p1")
