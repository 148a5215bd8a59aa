"""The number format a network computes in, where the user leaves it to us. The solver's is fp32 always (core.py)."""

import hashlib
import platform
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from ledits.cpu import kernels
from ledits.files import atomic
from ledits.files import cache as files

# Narrower networks run by `kernels`, or are no faster in bfloat16: two samples of the bundled one (192) take 10 ms in
# it and 16 in fp32, without kernels 44 and 35 to 43.
_NARROW = 512


def best(device: torch.device, width: int) -> torch.dtype:
    """float16 on CUDA; on a CPU bfloat16 where it is 1.5 times as fast at this width; else float32.

    `width` is the number of channels of the network's widest level. For wide ones it is measured, in a tenth of a
    second, once on a machine: beside other work a measurement may come out either way, and the same command has to give
    the same picture.
    """
    if device.type == "cuda":
        return torch.float16
    if device.type != "cpu":
        return torch.float32
    if width < _NARROW:
        return torch.bfloat16 if kernels.available(torch.bfloat16) else torch.float32
    kept, kinds = _kept(width), {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if kept is not None:
        with suppress(OSError, UnicodeDecodeError):
            if (said := kept.read_text("ascii")) in kinds:
                return kinds[said]
    found = "bfloat16" if _seconds(torch.float32, width) > 1.5 * _seconds(torch.bfloat16, width) else "float32"
    if kept is not None:
        with suppress(OSError, ValueError), atomic.written(kept, overwrite=True) as temporary:
            temporary.write_text(found, "ascii")
    return kinds[found]


def _kept(width: int) -> Path | None:
    """Where the choice for this width on this processor by this PyTorch is kept; None: nowhere."""
    text = f"{_processor()} {torch.backends.cpu.get_cpu_capability()} {torch.__version__} {width}"
    try:
        return files.folder() / f"dtype-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
    except OSError:
        return None


@cache
def _processor() -> str:
    """Its name, where the system says it."""
    with suppress(OSError):
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _seconds(dtype: torch.dtype, width: int) -> float:
    """The fastest of five products as in a transformer block: 256 places, `width` channels made eight times wider."""
    x, weight = torch.zeros(256, width, dtype=dtype), torch.zeros(8 * width, width, dtype=dtype)
    taken = list[float]()
    for _ in range(5):
        began = time.perf_counter()
        F.linear(x, weight)
        taken.append(time.perf_counter() - began)
    return min(taken)
