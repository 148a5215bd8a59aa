"""diffusers' LEDITS++ pipelines, by their names and arguments, and the same for four families more. What they ask for
is translated here; the method is `ledits.method.core`, the networks are `ledits.backbones`.

    from ledits import LEditsPPPipelineStableDiffusion   # instead of: from diffusers import ...

docs/migration.md says what differs from diffusers and why.
"""

from ledits.pipelines.deepfloyd_if import LEditsPPPipelineIF
from ledits.pipelines.flux import LEditsPPPipelineFlux
from ledits.pipelines.outputs import LEditsPPDiffusionPipelineOutput, LEditsPPInversionPipelineOutput
from ledits.pipelines.qwen_image import LEditsPPPipelineQwenImage
from ledits.pipelines.stable_diffusion import LEditsPPPipelineStableDiffusion
from ledits.pipelines.stable_diffusion_3 import LEditsPPPipelineStableDiffusion3
from ledits.pipelines.stable_diffusion_xl import LEditsPPPipelineStableDiffusionXL

__all__ = [
    "LEditsPPDiffusionPipelineOutput",
    "LEditsPPInversionPipelineOutput",
    "LEditsPPPipelineFlux",
    "LEditsPPPipelineIF",
    "LEditsPPPipelineQwenImage",
    "LEditsPPPipelineStableDiffusion",
    "LEditsPPPipelineStableDiffusion3",
    "LEditsPPPipelineStableDiffusionXL",
]
