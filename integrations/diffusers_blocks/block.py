"""LEDITS++ as blocks of diffusers' Modular Diffusers: `LeditsInvert`, `LeditsEdit`, and both in a row.

They hold no method: each hands the pipeline's parts to the pipeline of ledits that has them.
"""

from importlib import import_module
from typing import Any

from diffusers.modular_pipelines import (
    ComponentSpec,
    InputParam,
    ModularPipelineBlocks,
    OutputParam,
    SequentialPipelineBlocks,
)

import ledits
from ledits.files.families import FAMILIES

_PIPELINES: dict[str, tuple[str, Any]] = {
    "sd": ("StableDiffusionPipeline", ledits.LEditsPPPipelineStableDiffusion),
    "sdxl": ("StableDiffusionXLPipeline", ledits.LEditsPPPipelineStableDiffusionXL),
    "sd3": ("StableDiffusion3Pipeline", ledits.LEditsPPPipelineStableDiffusion3),
    "flux": ("FluxPipeline", ledits.LEditsPPPipelineFlux),
    "qwen": ("QwenImagePipeline", ledits.LEditsPPPipelineQwenImage),
}


class _Ledits(ModularPipelineBlocks):
    """A block over the parts of one family: "sd" (1.x and 2.x), "sdxl", "sd3", "flux" or "qwen"."""

    def __init__(self, family: str = "sdxl") -> None:
        super().__init__()
        if family not in _PIPELINES:
            raise ValueError(f"family {family!r}: {', '.join(_PIPELINES)} are known")
        self.family = family

    @property
    def expected_components(self) -> list[ComponentSpec]:
        parts = FAMILIES[_PIPELINES[self.family][0]].parts
        specs = [ComponentSpec(name, _kind(classes[0]), subfolder=name) for name, classes in parts.items()]
        usual = "FlowMatchEulerDiscreteScheduler" if "transformer" in parts else "DPMSolverMultistepScheduler"
        return [*specs, ComponentSpec("scheduler", _kind(usual), subfolder="scheduler")]

    def pipe(self, components: Any) -> Any:
        """Our pipeline over the parts that the modular pipeline has."""
        parts = {spec.name: getattr(components, spec.name) for spec in self.expected_components}
        if self.family == "sd":
            parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipe = _PIPELINES[self.family][1](**parts)
        pipe.set_progress_bar_config(disable=True)
        return pipe


class LeditsInvert(_Ledits):
    """Inverts a picture, exactly."""

    @property
    def description(self) -> str:
        return "Inverts a picture once, for any number of edits. With a caption, edits are captions of what it becomes."

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("image", required=True, description="The picture, or a list of them."),
            InputParam("caption", description="What it shows; edits are then whole captions of what it becomes."),
            InputParam("num_inversion_steps", description="Noise levels. None: the model's own."),
            InputParam("skip", description="Share of the noisiest levels left out. None: the model's own."),
            InputParam("generator", description="Of the noise."),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("inversion", ledits.LEditsPPInversionPipelineOutput, "The path, for `LeditsEdit`.")]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        asked = self.get_block_state(state)
        given = {name: getattr(asked, name) for name in ("num_inversion_steps", "skip", "generator", "caption")}
        said = {name: value for name, value in given.items() if value is not None}
        asked.inversion = self.pipe(components).invert(image=asked.image, **said)
        self.set_block_state(state, asked)
        return components, state


class LeditsEdit(_Ledits):
    """Replays an inversion with edits."""

    @property
    def description(self) -> str:
        return "Edits an inverted picture: several edits at once, each kept in its place."

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("inversion", required=True, description="What `LeditsInvert` gave."),
            InputParam("editing_prompt", required=True, description="An edit, or a list of them."),
            InputParam("edit_guidance_scale", description="One number, or one for each edit."),
            InputParam("edit_threshold", description="Share of the picture that each edit leaves alone."),
            InputParam("reverse_editing_direction", description="Whether an edit takes away, or one for each."),
            InputParam("edit_warmup_steps", description="Steps before an edit acts."),
            InputParam("output_type", default="pil", description='"pil", "np", "pt" or "latent".'),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("images", description="The edited pictures.")]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        asked = self.get_block_state(state)
        said = {each.name: getattr(asked, each.name) for each in self.inputs}
        asked.images = self.pipe(components)(**{name: v for name, v in said.items() if v is not None}).images
        self.set_block_state(state, asked)
        return components, state


class LeditsBlocks(SequentialPipelineBlocks):
    """Inverts and edits in a row."""

    def __init__(self, family: str = "sdxl") -> None:
        self.block_classes = [LeditsInvert, LeditsEdit]
        self.block_names = ["invert", "edit"]
        super().__init__()
        for name, block in {"invert": LeditsInvert(family), "edit": LeditsEdit(family)}.items():
            self.sub_blocks[name] = block

    @property
    def description(self) -> str:
        return "LEDITS++: changes a real picture with words, exactly where they say (arXiv 2311.16711)."


def _kind(name: str) -> Any:
    module = "transformers" if not hasattr(import_module("diffusers"), name) else "diffusers"
    return getattr(import_module(module), name)
