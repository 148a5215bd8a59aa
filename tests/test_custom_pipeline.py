"""Our pipelines by diffusers' own loader of custom pipelines, from the files that we ship."""

from pathlib import Path

import pytest
import torch
from diffusers import (
    DiffusionPipeline,
    FluxPipeline,
    QwenImagePipeline,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

import ledits
import tiny_families

from conftest import picture, scheduler, seeded, tiny

FOLDER = Path(__file__).parents[1] / "integrations/diffusers_pipeline"
STOCK = {
    "sd": lambda: tiny(StableDiffusionPipeline, scheduler()),
    "sdxl": lambda: tiny(StableDiffusionXLPipeline, scheduler()),
    "sd3": lambda: StableDiffusion3Pipeline(**tiny_families.make("sd3").components),
    "flux": lambda: FluxPipeline(**tiny_families.make("flux").components),
    "qwen": lambda: QwenImagePipeline(**tiny_families.make("qwen_image").components),
}
OURS = {
    "sd": ledits.LEditsPPPipelineStableDiffusion,
    "sdxl": ledits.LEditsPPPipelineStableDiffusionXL,
    "sd3": ledits.LEditsPPPipelineStableDiffusion3,
    "flux": ledits.LEditsPPPipelineFlux,
    "qwen": ledits.LEditsPPPipelineQwenImage,
}


def test_each_file_is_tried():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(STOCK)


@pytest.mark.parametrize("family", STOCK)
def test_diffusers_loads_a_checkpoint_with_our_pipeline_and_the_latents_are_ours(family, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    STOCK[family]().save_pretrained(tmp_path / "checkpoint")
    pipes = [
        DiffusionPipeline.from_pretrained(
            tmp_path / "checkpoint", custom_pipeline=str(FOLDER / f"{family}.py"), trust_remote_code=True
        ),
        OURS[family].from_pretrained(tmp_path / "checkpoint"),
    ]
    assert [type(pipe) for pipe in pipes] == [OURS[family]] * 2
    latents = []
    for pipe in pipes:
        pipe.set_progress_bar_config(disable=True)
        inversion = pipe.invert(
            image=picture(width=48, height=32), caption="a cat and a hat", num_inversion_steps=4, generator=seeded()
        )
        latents.append(pipe(inversion=inversion, editing_prompt="a dog and a hat", output_type="latent").images)
    assert torch.equal(*latents)
