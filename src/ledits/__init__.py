"""LEDITS++: change a real picture with words. `ledits.edit` is the short way, `ledits.Editor` the long one."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
if TYPE_CHECKING:
    from ledits.asked.recipe import Edit, Recipe
    from ledits.asked.settings import Settings
    from ledits.backbones import load
    from ledits.cpu.packed import pack
    from ledits.editor import Edited, Editor, Inversion, edit
    from ledits.language.targets import targets
    from ledits.picture.keeping import Kept, keep
    from ledits.pipelines import (
        LEditsPPDiffusionPipelineOutput,
        LEditsPPInversionPipelineOutput,
        LEditsPPPipelineFlux,
        LEditsPPPipelineIF,
        LEditsPPPipelineQwenImage,
        LEditsPPPipelineStableDiffusion,
        LEditsPPPipelineStableDiffusion3,
        LEditsPPPipelineStableDiffusionXL,
    )

__all__ = [
    "Edit",
    "Edited",
    "Editor",
    "Inversion",
    "Kept",
    "LEditsPPDiffusionPipelineOutput",
    "LEditsPPInversionPipelineOutput",
    "LEditsPPPipelineFlux",
    "LEditsPPPipelineIF",
    "LEditsPPPipelineQwenImage",
    "LEditsPPPipelineStableDiffusion",
    "LEditsPPPipelineStableDiffusion3",
    "LEditsPPPipelineStableDiffusionXL",
    "Recipe",
    "Settings",
    "__version__",
    "edit",
    "keep",
    "load",
    "pack",
    "targets",
]
_WHERE = {
    "Edit": "asked.recipe", "Recipe": "asked.recipe", "Settings": "asked.settings", "load": "backbones",
    "pack": "cpu.packed",
    "Edited": "editor", "Editor": "editor", "Inversion": "editor", "edit": "editor",
    "Kept": "picture.keeping", "keep": "picture.keeping",
    "targets": "language.targets",
}  # fmt: skip


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    # PEP 562: `import ledits` loads no torch, so that `ledits --help` answers at once.
    if name not in __all__:
        raise AttributeError(f"module 'ledits' has no attribute {name!r}")
    from importlib import import_module

    from ledits import progress

    if progress.in_notebook():
        progress.accept_text()
    return getattr(import_module(f"ledits.{_WHERE.get(name, 'pipelines')}"), name)
