"""diffusers' LEDITS++ pipelines, by their names and arguments. What they ask for is translated here; the method is
`ledits.method.core`, the networks are `ledits.backbones`.

    from ledits import LEditsPPPipelineStableDiffusion   # instead of: from diffusers import ...

docs/migration.md says what differs from diffusers and why.
"""

from ledits.pipelines.outputs import LEditsPPDiffusionPipelineOutput, LEditsPPInversionPipelineOutput
from ledits.pipelines.stable_diffusion import LEditsPPPipelineStableDiffusion
from ledits.pipelines.stable_diffusion_xl import LEditsPPPipelineStableDiffusionXL

__all__ = [
    "LEditsPPDiffusionPipelineOutput",
    "LEditsPPInversionPipelineOutput",
    "LEditsPPPipelineStableDiffusion",
    "LEditsPPPipelineStableDiffusionXL",
]
