"""`ledits info`: what a folder or a file is, whether one can edit with it and why not, before anything is loaded."""

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

import original_files
from ledits.cli import main
from test_single_files import FILES, claimed, kohya

from conftest import random_parts, scheduler, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("info") / "sd"
    pipe = tiny(StableDiffusionPipeline, scheduler("ddim"), random_parts(levels=3))
    pipe.save_pretrained(path)
    pipe.unet.half().save_pretrained(path / "unet", variant="fp16")
    return path


@pytest.fixture
def info(capsys):
    def ask(what):
        with pytest.raises(SystemExit) as exit:
            main(["info", str(what), "--json"])
        said = json.loads(capsys.readouterr().out)
        assert exit.value.code == (2 if "error" in said else 0)
        with pytest.raises(SystemExit):
            main(["info", str(what)])
        capsys.readouterr()
        return said

    return ask


def test_a_folder_says_what_would_be_read(folder, info):
    said = info(folder)
    assert (said["kind"], said["family"], said["works"]) == ("model", "StableDiffusionPipeline", True)
    files = said["parts"]["unet"]["files"]
    assert {kind: about["format"] for kind, about in files.items()} == {"plain": "F32", "fp16": "F16"}
    assert "GiB in float32" in said["memory"]
    assert said["predicts"] == "epsilon"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: (f / "unet/config.json").write_text("{"), "can't be read"),
        (lambda f: shutil.rmtree(f / "vae"), "no vae/config.json"),
        (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").unlink(), "vae/ has no weights"),
        (
            lambda f: (f / "vae/diffusion_pytorch_model.safetensors").rename(f / "vae/diffusion_pytorch_model.bin"),
            "a pickle only",
        ),
        (
            lambda f: (f / "vae/diffusion_pytorch_model.safetensors").write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
            ),
            "git lfs pull",
        ),
        (
            lambda f: (f / "scheduler/scheduler_config.json").write_text('{"_class_name": "EDMEulerScheduler"}'),
            "one of EDM",
        ),
        (lambda f: (f / "model_index.json").write_text('{"_class_name": "FluxKontextPipeline"}'), "told how to change"),
        (lambda f: (f / "model_index.json").write_text('{"_class_name": "LTXPipeline"}'), "are accepted"),
    ],
)  # fmt: skip
def test_a_folder_that_one_can_not_edit_with_says_why(folder, info, tmp_path, change, says):
    broken = shutil.copytree(folder, tmp_path / "broken")
    change(broken)
    said = info(broken)
    assert said["works"] is False
    assert said["edits"].startswith("no: ")
    assert says in said["edits"]


def test_files_say_what_they_are_for(info, tmp_path):
    def file(name, tensors, metadata=None):
        save_file(tensors, tmp_path / name, metadata)
        return info(tmp_path / name)

    down = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight"
    pair = {down: torch.zeros(4, 768), down.replace("lora_A", "lora_B"): torch.zeros(320, 4)}
    said = file("a.safetensors", pair)
    assert (said["kind"], said["rank"], said["family"], said["layout"]) == (
        "lora", 4, "StableDiffusionPipeline", "diffusers"
    )  # fmt: skip
    said = file("b.safetensors", kohya(pair), {"ss_base_model_version": "sdxl_base_v1-0"})
    assert (said["rank"], said["family"], said["layout"]) == (4, "StableDiffusionXLPipeline", "kohya")
    said = file("c.safetensors", {"x.hada_w1_a": torch.zeros(2, 2), "x.hada_w1_b": torch.zeros(2, 2)})
    assert said["use"] == "no: diffusers reads no LoHa"
    said = file("d.safetensors", {"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)})
    assert (said["kind"], said["vectors"]) == ("embedding", "2 vectors of 1280 and 2 vectors of 768")
    said = file("e.safetensors", original_files.vae_tensors(random_parts()["vae"]))
    assert said["kind"] == "vae"
    assert "known here" in file("f.safetensors", {"what": torch.zeros(2, 2, 2)})["error"]


@pytest.mark.parametrize("kind", FILES)
def test_a_model_in_a_file_says_its_family(info, tmp_path, kind):
    shapes, family = FILES[kind]
    whole = {f"model.diffusion_model.{name}": shape for name, shape in shapes.items()} | {"first_stage_model.a": (1,)}
    said = info(claimed(tmp_path / "a.safetensors", whole))
    assert (said["family"], said["works"]) == (family, True)
    assert said.get("predicts") == {"SD 1": "epsilon", "SD 2": "v_prediction", "SDXL": "epsilon"}.get(kind)
    assert ("--base" in said["edits"]) == (not kind.startswith("SD") or kind == "SD3")


def test_a_pickle_is_not_opened(info, tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"cos\nsystem\n")
    assert "is a pickle" in info(tmp_path / "a.ckpt")["error"]
