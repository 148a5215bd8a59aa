"""The number format a network computes in, where the user leaves it to us. The solver's is fp32 always (core.py)."""

import time

import torch
import torch.nn.functional as F

from ledits.cpu import kernels

# Narrower networks run by `kernels`, or are no faster in bfloat16: two samples of the bundled one (192) take 10 ms in
# it and 16 in fp32, without kernels 44 and 35 to 43.
_NARROW = 512


def best(device: torch.device, width: int) -> torch.dtype:
    """float16 on CUDA; on a CPU bfloat16 where it is 1.5 times as fast at this width; else float32.

    `width` is the number of channels of the network's widest level. For wide ones it is measured, in a tenth of a
    second.
    """
    if device.type == "cuda":
        return torch.float16
    if device.type != "cpu":
        return torch.float32
    if width < _NARROW:
        return torch.bfloat16 if kernels.available(torch.bfloat16) else torch.float32
    return torch.bfloat16 if _seconds(torch.float32, width) > 1.5 * _seconds(torch.bfloat16, width) else torch.float32


def _seconds(dtype: torch.dtype, width: int) -> float:
    """The fastest of five products as in a transformer block: 256 places, `width` channels made eight times wider."""
    x, weight = torch.zeros(256, width, dtype=dtype), torch.zeros(8 * width, width, dtype=dtype)
    taken = list[float]()
    for _ in range(5):
        began = time.perf_counter()
        F.linear(x, weight)
        taken.append(time.perf_counter() - began)
    return min(taken)
