"""LEDITS++ as diffusers' own modular blocks, loaded by diffusers' own loader from the folder that we ship."""

from pathlib import Path

import pytest
import torch

import tiny_families
from ledits import (
    LEditsPPPipelineFlux,
    LEditsPPPipelineQwenImage,
    LEditsPPPipelineStableDiffusion,
    LEditsPPPipelineStableDiffusion3,
    LEditsPPPipelineStableDiffusionXL,
)

from conftest import picture, scheduler, seeded, tiny

diffusers_modular = pytest.importorskip("diffusers.modular_pipelines")

FOLDER = Path(__file__).parents[1] / "integrations/diffusers_blocks"
PIPES = {
    "sd": lambda: tiny(LEditsPPPipelineStableDiffusion, scheduler()),
    "sdxl": lambda: tiny(LEditsPPPipelineStableDiffusionXL, scheduler()),
    "sd3": lambda: LEditsPPPipelineStableDiffusion3(**tiny_families.make("sd3").components),
    "flux": lambda: LEditsPPPipelineFlux(**tiny_families.make("flux").components),
    "qwen": lambda: LEditsPPPipelineQwenImage(**tiny_families.make("qwen_image").components),
}


def blocks(family):
    return diffusers_modular.ModularPipelineBlocks.from_pretrained(str(FOLDER), trust_remote_code=True, family=family)


@pytest.mark.parametrize("family", PIPES)
@pytest.mark.parametrize("caption", [None, "a cat and a hat"], ids=["words", "caption"])
def test_blocks_give_the_pipelines_latents(family, caption):
    pipe = PIPES[family]()
    pipe.set_progress_bar_config(disable=True)
    shown = picture(width=48, height=32)
    edits = {
        "editing_prompt": ["a dog and a hat", "a cat"] if caption else ["a dog", "hat"],
        "edit_guidance_scale": 4.0,
    }
    pipe.invert(image=shown, num_inversion_steps=4, generator=seeded(), **({"caption": caption} if caption else {}))
    wanted = pipe(**edits, output_type="latent").images
    modular = blocks(family).init_pipeline()
    modular.update_components(
        **{name: pipe.components[name] for name in modular.component_names if pipe.components[name]}
    )
    got = modular(
        image=shown, caption=caption, num_inversion_steps=4, generator=seeded(), **edits, output_type="latent",
        output="images",
    )  # fmt: skip
    assert torch.equal(got, wanted)


def test_blocks_say_what_they_need():
    made = blocks("sdxl")
    assert {spec.name for spec in made.expected_components} >= {"unet", "vae", "text_encoder_2", "scheduler"}
    assert {"image", "editing_prompt"} <= set(made.required_inputs)
    with pytest.raises(ValueError, match="family 'wan': sd, sdxl, sd3, flux, qwen are known"):
        blocks("wan")
