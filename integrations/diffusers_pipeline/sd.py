"""LEDITS++ with Stable Diffusion 1.x and 2.x, for diffusers' `custom_pipeline=`, which takes the one pipeline here."""

from ledits import LEditsPPPipelineStableDiffusion

__all__ = ["LEditsPPPipelineStableDiffusion"]
