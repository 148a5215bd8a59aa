"""How a network runs on a CPU: packed layers, kernels of our own, and the number format that is fastest."""

import os

_CHOICES = ("kernels", "packed", "plain")


def allowed() -> str:
    """What the environment variable LEDITS_CPU allows: "kernels" (all of this package, if it is not set), "packed"
    (torch's own operators in packed layers, nothing compiled) or "plain" (diffusers' layers as they are).

    Raises ValueError for anything else.
    """
    choice = os.environ.get("LEDITS_CPU") or _CHOICES[0]
    if choice not in _CHOICES:
        raise ValueError(f"LEDITS_CPU is {choice!r}: {', '.join(_CHOICES)} are accepted")
    return choice
