"""Inversions in files: bit for bit, and nothing foreign, damaged or mismatched is taken."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file

from ledits.asked.settings import Settings
from ledits.files import artifact
from ledits.files.artifact import Provenance
from ledits.method.core import Inversion, Schedule
from ledits.picture.frame import Frame

FRAME = Frame(width=64, height=48, working_width=64, working_height=48, padded_width=64, padded_height=48)
ORIGIN = Provenance(
    model="scenes", fingerprint="f1", picture="p1", frame=FRAME, dtype="float32", device="cpu",
    settings=Settings(steps=2, skip=0.15, source="a cat", source_scale=3.5),
)  # fmt: skip


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


def test_a_path_with_more_noise_than_its_schedule_says_comes_back_so(tmp_path):
    """TurboEdit's levels were lost: what goes, and a new background, were given another level's noise."""
    made = inversion()
    noised = ((0.2, 0.8, 0.99), (0.97, 0.5, 0.1))
    made = dataclasses.replace(made, schedule=dataclasses.replace(made.schedule, noised=noised))
    artifact.save(tmp_path / "a.safetensors", made, ORIGIN)
    assert artifact.load(tmp_path / "a.safetensors")[0].schedule.noised == noised


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
        ({"x": x, "denoised": x.clone()}, {"ledits": json.dumps(header)}),
        ({"x": x * torch.nan, "denoised": x[1:].clone()}, {"ledits": json.dumps(header)}),
        (
            {"x": x, "denoised": x[1:].clone()},
            {"ledits": json.dumps({k: v for k, v in header.items() if k != "settings"})},
        ),
    ):
        save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match=r"a\.safetensors is"):
            artifact.load(path)


BAD_HEADERS = {
    "an alpha that is no number": lambda h: h["alpha"].__setitem__(0, float("nan")),
    "an alpha of text": lambda h: h["alpha"].__setitem__(0, "1"),
    "one level too few": lambda h: h["t"].pop(),
    "a schedule of order 7": lambda h: h.update(order=7),
    "an order of text": lambda h: h.update(order="2"),
    "levels that are no list": lambda h: h.update(t=5),
    "no frame": lambda h: h.pop("frame"),
    "a frame of text": lambda h: h.update(frame="64x48"),
    "a width of text": lambda h: h["frame"].update(width="64"),
    "sizes unlike the tensors": lambda h: h["frame"].update(padded_width=300_000, padded_height=300_000),
    "cells that are not square": lambda h: h["frame"].update(padded_width=128),
    "a seed of text": lambda h: h["settings"].update(seed="0"),
    "steps unlike the schedule": lambda h: h["settings"].update(steps=3),
    "a skip that is no number": lambda h: h["settings"].update(skip=float("nan")),
    "a setting too many": lambda h: h["settings"].update(surprise=1),
    "a model that is no text": lambda h: h.update(model=None),
    "a key too many": lambda h: h.update(surprise=1),
    "noise of one list": lambda h: h.update(noised=[[0.1, 0.2, 0.3]]),
    "noise of text": lambda h: h.update(noised=["012", "012"]),
    "noise of other levels": lambda h: h.update(noised=[[0.1, 0.2], [0.9, 0.8]]),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_an_inversion_whose_header_lies_is_refused_before_anything_is_allocated(tmp_path, name):
    path = tmp_path / "a.safetensors"
    artifact.save(path, inversion(), ORIGIN)
    header = artifact.header(path)
    BAD_HEADERS[name](header)
    made = inversion()
    tensors = {"x": made.x, "denoised": made.denoised, "base_denoised": made.base_denoised}
    save_file(tensors, path, {"ledits": json.dumps(header)})
    with pytest.raises(ValueError, match=r"a\.safetensors is a damaged inversion") as error:
        artifact.load(path)
    assert "\n" not in str(error.value)


def test_another_picture_or_model_is_refused(tmp_path):
    artifact.check(ORIGIN, tmp_path, fingerprint="f1", model="scenes", picture="p1", frame=FRAME)
    with pytest.raises(ValueError, match="another picture"):
        artifact.check(ORIGIN, tmp_path, fingerprint="f1", model="scenes", picture="p2", frame=FRAME)
    with pytest.raises(ValueError, match="pass that model"):
        artifact.check(ORIGIN, tmp_path, fingerprint="f2", model="other", picture="p1", frame=FRAME)
    other = dataclasses.replace(FRAME, width=65)
    with pytest.raises(ValueError, match="sizes are not the picture's"):
        artifact.check(ORIGIN, tmp_path, fingerprint="f1", model="scenes", picture="p1", frame=other)
