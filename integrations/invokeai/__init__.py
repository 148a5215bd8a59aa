"""LEDITS++ for InvokeAI: change a real picture with words."""

from .invocations import (
    LeditsApplyInvocation,
    LeditsEditInvocation,
    LeditsInvertInvocation,
    LeditsLoadInversionInvocation,
    LeditsLoadInvocation,
    LeditsSaveInversionInvocation,
    LeditsSheetInvocation,
    LeditsUseModelInvocation,
)

__all__ = [
    "LeditsApplyInvocation",
    "LeditsEditInvocation",
    "LeditsInvertInvocation",
    "LeditsLoadInversionInvocation",
    "LeditsLoadInvocation",
    "LeditsSaveInversionInvocation",
    "LeditsSheetInvocation",
    "LeditsUseModelInvocation",
]
