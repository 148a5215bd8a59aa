"""LEDITS++: change a real picture with words, exactly. See `ledits.method.core` for the method."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
if TYPE_CHECKING:
    from ledits.backbones import load
    from ledits.cpu.packed import pack
    from ledits.method.core import Concept, Inversion, Schedule, Step, edit, invert
    from ledits.pipelines import (
        LEditsPPDiffusionPipelineOutput,
        LEditsPPInversionPipelineOutput,
        LEditsPPPipelineStableDiffusion,
        LEditsPPPipelineStableDiffusionXL,
    )

__all__ = [
    "Concept",
    "Inversion",
    "LEditsPPDiffusionPipelineOutput",
    "LEditsPPInversionPipelineOutput",
    "LEditsPPPipelineStableDiffusion",
    "LEditsPPPipelineStableDiffusionXL",
    "Schedule",
    "Step",
    "__version__",
    "edit",
    "invert",
    "load",
    "pack",
]


def __getattr__(name: str) -> Any:
    # PEP 562: `import ledits` loads no torch, so that `ledits --help` answers at once.
    if name not in __all__:
        raise AttributeError(f"module 'ledits' has no attribute {name!r}")
    from importlib import import_module

    module = {"load": "backbones", "pack": "cpu.packed"}.get(name)
    module = module or ("pipelines" if name.startswith("LEditsPP") else "method.core")
    return getattr(import_module(f"ledits.{module}"), name)
