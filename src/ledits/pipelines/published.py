"""The slow tests that diffusers has of its LEDITS++, repeated with the pipelines here: how far off their numbers lie.

Nine pixels' blue of a cat that has become a dog, as diffusers publishes them in tests/pipelines/ledits_pp at 3052fa6
(Stable Diffusion 1.5 in float16 on CUDA) and 265b3f4 (SDXL base in float32). Theirs are of an inversion that isn't
exact.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from PIL import Image

from ledits.pipelines.stable_diffusion import LEditsPPPipelineStableDiffusion
from ledits.pipelines.stable_diffusion_xl import LEditsPPPipelineStableDiffusionXL

SIDE = 512  # that the picture is brought to


@dataclass(frozen=True)
class Published:
    """A test: how it is asked, what it expects, and how far off it allows."""

    model: str
    pipeline: type[Any]
    scales: tuple[float, float]
    numbers: tuple[float, ...]
    allowed: float
    again: bool  # whether the edit's generator is a new one, of the same seed


_TESTS: Mapping[str, Published] = {
    "StableDiffusionPipeline": Published(
        "Stable Diffusion 1.5 in float16", LEditsPPPipelineStableDiffusion, (5.0, 5.0),
        (0.9453125, 0.93310547, 0.84521484, 0.94628906, 0.9111328, 0.80859375, 0.93847656, 0.9042969, 0.8144531),
        1e-2, again=True,
    ),
    "StableDiffusionXLPipeline": Published(
        "SDXL base in float32", LEditsPPPipelineStableDiffusionXL, (2.0, 4.0),
        (0.56419, 0.44121838, 0.2765603, 0.5708484, 0.42763475, 0.30945742, 0.5387106, 0.4735807, 0.3547244),
        1e-3, again=False,
    ),
}  # fmt: skip


def test_of(family: str) -> Published:
    """The test of a family; ValueError where there is none."""
    if family not in _TESTS:
        raise ValueError(
            f"diffusers has no published numbers for a {family}: its tests of LEDITS++ are of Stable Diffusion 1.5 and "
            "SDXL base"
        )
    return _TESTS[family]


def numbers(test: Published, parts: Mapping[str, Any], scheduler: Mapping[str, Any], picture: Any) -> Sequence[float]:
    """The nine numbers as the pipelines here have them, of the picture that the test is of."""
    sde = {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}
    own: Any = DPMSolverMultistepScheduler
    known = ("vae", "unet", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    given: dict[str, Any] = {name: parts[name] for name in known if name in parts}
    if test.pipeline is LEditsPPPipelineStableDiffusion:
        given |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe: Any = test.pipeline(**given, scheduler=own.from_config({**scheduler, **sde}))
    pipe.set_progress_bar_config(disable=True)
    shown = Image.open(picture).convert("RGB").resize((SIDE, SIDE))
    generator = torch.Generator().manual_seed(0)
    pipe.invert(image=shown, generator=generator, timesteps="diffusers")
    out = pipe(
        editing_prompt=["cat", "dog"], reverse_editing_direction=[True, False], edit_guidance_scale=list(test.scales),
        edit_threshold=[0.8, 0.8], mask_upsampling="nearest", noise_mask_below=800.0 if test.again else None,
        generator=torch.Generator().manual_seed(0) if test.again else generator, output_type="np",
    )  # fmt: skip
    return [float(each) for each in np.asarray(out.images[0])[150:153, 140:143, -1].flatten()]
