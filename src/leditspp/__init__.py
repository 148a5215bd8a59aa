"""The names of the authors' package (github.com/ml-research/ledits_pp), for code that imports it.

    from leditspp import StableDiffusionPipeline_LEDITS

Each class takes its arguments and hands them to `ledits.pipelines`; docs/migration.md says what differs.
"""

from leditspp.pipeline_if_ledits import IFDiffusion_LEDITS
from leditspp.pipeline_stable_diffusion_ledits import StableDiffusionPipeline_LEDITS
from leditspp.pipeline_stable_diffusion_xl_ledits import StableDiffusionPipelineXL_LEDITS
from leditspp.scheduling_dpmsolver_multistep_inject import DPMSolverMultistepSchedulerInject

__all__ = [
    "DPMSolverMultistepSchedulerInject",
    "IFDiffusion_LEDITS",
    "StableDiffusionPipelineXL_LEDITS",
    "StableDiffusionPipeline_LEDITS",
]
