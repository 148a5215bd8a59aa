"""`ledits doctor`: whole models are healthy, damage is found and named, of random weights it can tell nothing."""

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from ledits import Editor
from ledits.cli import main
from ledits.doctor import examine
from ledits.doctor.page import page
from ledits.files import checkpoints

from conftest import random_parts, scheduler, tiny


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def predicts_another(folder):
    rewrite(folder / "scheduler/scheduler_config.json", prediction_type="epsilon", rescale_betas_zero_snr=False)


def other_betas(folder):
    rewrite(folder / "scheduler/scheduler_config.json", beta_schedule="linear", beta_start=0.0001, beta_end=0.02)


def larger_latents(folder):
    path = folder / "vae/config.json"
    rewrite(path, scaling_factor=5 * json.loads(path.read_text())["scaling_factor"])


def empty_block(folder):
    path = next((folder / ("unet" if (folder / "unet").exists() else "transformer")).glob("*.safetensors"))
    tensors = load_file(path)
    block = next(name for name in tensors if "attn" in name and name.endswith("weight")).rpartition("attn")[0]
    gone = {name: torch.zeros_like(each) if name.startswith(block) else each for name, each in tensors.items()}
    save_file(gone, path, {"format": "pt"})


def other_text(folder):
    """The same words by another encoder: each means another one. Not every order shows in what is drawn."""
    for path in folder.glob("text_encoder*/model.safetensors"):
        tensors = load_file(path)
        table = next(name for name in tensors if name.endswith("token_embedding.weight"))
        unet = (folder / "unet").exists()
        tensors[table] = tensors[table].roll(37, 0) if unet else tensors[table].flip(0).contiguous()
        save_file(tensors, path, {"format": "pt"})


DAMAGE = {
    "wrong prediction type": (predicts_another, "what it predicts", "prediction_type v_prediction"),
    "wrong schedule": (other_betas, "what it predicts", "beta_schedule"),
    "scale of the autoencoder": (larger_latents, "autoencoder", "scaling_factor"),
    "a block of zeros": (empty_block, "weights", "nothing but zeros"),
    "another text encoder": (other_text, "what it reads", "text encoder"),
}


def found(model, tmp_path=None, change=None):
    folder = checkpoints.find(model)
    if change is not None:
        folder = shutil.copytree(folder, tmp_path / "model")
        change(folder)
    return examine(Editor(str(folder), device="cpu", dtype="float32"))


@pytest.mark.parametrize("model", ["scenes", "scenes-flow"])
def test_a_whole_model_is_healthy(model):
    report = found(model)
    assert report.healthy, report.to_json()
    verdicts = {check.name: check.verdict for check in report.checks}
    for name in ("weights", "autoencoder", "what it predicts", "what it reads", "attention", "reconstruction"):
        assert verdicts[name] == "ok", report.to_json()
    written = page(report)
    assert written.count("<img") == len(report.pictures) >= 7
    assert "Nothing wrong was found" in written


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_named(damage, tmp_path):
    change, name, says = DAMAGE[damage]
    report = found("scenes", tmp_path, change)
    check = next(check for check in report.checks if check.name == name)
    assert (check.verdict, says in check.says) == ("wrong", True), report.to_json()
    assert not report.healthy


@pytest.mark.parametrize("damage", ["scale of the autoencoder", "a block of zeros", "another text encoder"])
def test_damage_of_a_flow_is_found_and_named(damage, tmp_path):
    change, name, says = DAMAGE[damage]
    report = found("scenes-flow", tmp_path, change)
    check = next(check for check in report.checks if check.name == name)
    assert (check.verdict, says in check.says) == ("wrong", True), report.to_json()


def test_random_weights_are_said_to_be_nothing_that_can_be_told(tmp_path, capsys):
    folder = tmp_path / "sd"
    tiny(StableDiffusionPipeline, scheduler("ddim"), random_parts(levels=3)).save_pretrained(folder)
    with pytest.raises(SystemExit):
        main(["doctor", "--model", str(folder), "--device", "cpu", "--json", "-o", str(tmp_path / "d.html")])
    said = json.loads(capsys.readouterr().out)
    verdicts = {check["name"]: check["verdict"] for check in said["checks"]}
    assert verdicts["what it predicts"] == verdicts["what it reads"] == "can't tell"
    assert verdicts["reconstruction"] == "ok"
    assert (tmp_path / "d.html").stat().st_size > 1000
