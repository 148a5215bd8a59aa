"""What is free, and the sentence that comes in place of a crash where it is not enough."""

import psutil
import torch

from ledits.errors import LeditsError


def free(device: torch.device) -> int:
    """Bytes that can be had on the device: of the GPU, or of the machine, whose memory an Apple GPU shares."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return psutil.virtual_memory().available


def check(device: torch.device, need: int, height: int, width: int) -> None:
    """Raise ValueError where `need` bytes, for a picture of height x width pixels, are more than is free."""
    if need > (there := free(device)):
        raise LeditsError(
            f"a picture of {width}x{height} pixels needs about {need / 2**30:.1f} GiB beside the model, and "
            f"{there / 2**30:.1f} GiB are free", "work at a smaller size, such as size=512, or in a smaller dtype",
            option="size", given=(width, height),
        )  # fmt: skip
