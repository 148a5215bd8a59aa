"""Which number format to train in: whichever is faster here.

bfloat16 halves the time of a step where the processor has instructions for it, and is emulated at a thirtieth of fp32's
speed where it has not; nothing but a measurement tells.
"""

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch


def autocast(device: str, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Products in `dtype`; float32 for what is already float32 everywhere."""
    return contextlib.nullcontext() if dtype == torch.float32 else torch.autocast(torch.device(device).type, dtype)


def fastest(device: str, step: Callable[[torch.dtype], object], repeats: int = 3) -> torch.dtype:
    """bfloat16 or float32, by the time that `step(dtype)`, forward and backward, takes after a first call."""
    seconds = dict.fromkeys((torch.float32, torch.bfloat16), float("inf"))
    for dtype in seconds:
        step(dtype)
        # The best of a few, for what else the machine does comes and goes.
        for _ in range(repeats):
            seconds[dtype] = min(seconds[dtype], _timed(device, lambda dtype=dtype: step(dtype)))
    best = min(seconds, key=seconds.__getitem__)
    print(
        {str(dtype).removeprefix("torch."): round(s, 3) for dtype, s in seconds.items()}, "seconds a step", flush=True
    )
    return best


def _timed(device: str, step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began
