"""LEDITS++ with Qwen-Image, for diffusers' `custom_pipeline=`, which takes the one pipeline here."""

from ledits import LEditsPPPipelineQwenImage

__all__ = ["LEditsPPPipelineQwenImage"]
