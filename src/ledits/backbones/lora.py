"""LoRAs whose scale is set for one pass: diffusers changes the shared layers inside the network's own forward."""

from collections.abc import Generator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

SCALING = Lock()  # a LoRA's scale is set on a shared text encoder while a prompt goes through it
_passes: WeakKeyDictionary[Any, Lock] = WeakKeyDictionary()
_passes_lock = Lock()


@contextmanager
def one_pass(net: Any) -> Generator[None]:
    """A pass through `net`, while no other thread is in it if it carries LoRAs; networks without run side by side.

    A pass without a scale has to wait too: it would see the layers as another thread's pass has scaled them.
    """
    if not getattr(net, "peft_config", None):
        yield
        return
    with _passes_lock:
        lock = _passes.setdefault(getattr(net, "_orig_mod", net), Lock())  # what torch.compile wraps
    with lock:
        yield
