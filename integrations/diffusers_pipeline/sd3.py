"""LEDITS++ with Stable Diffusion 3 and 3.5, for diffusers' `custom_pipeline=`, which takes the one pipeline here."""

from ledits import LEditsPPPipelineStableDiffusion3

__all__ = ["LEditsPPPipelineStableDiffusion3"]
