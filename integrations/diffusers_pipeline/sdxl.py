"""LEDITS++ with SDXL, for diffusers' `custom_pipeline=`, which takes the one pipeline here."""

from ledits import LEditsPPPipelineStableDiffusionXL

__all__ = ["LEditsPPPipelineStableDiffusionXL"]
