"""LEDITS++ with FLUX.1, for diffusers' `custom_pipeline=`, which takes the one pipeline here."""

from ledits import LEditsPPPipelineFlux

__all__ = ["LEditsPPPipelineFlux"]
