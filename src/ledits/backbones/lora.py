"""LoRAs that are on a network: which of them act in a pass and how strongly. The network's layers are shared, so that
each pass sets them; diffusers, too, changes a LoRA's scale inside the network's own forward.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from ledits.asked.loading import chosen

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


@dataclass(frozen=True)
class Loaded:
    """A LoRA that is on a model's networks."""

    name: str  # as people say it
    adapter: str  # as peft does
    weight: float  # as it was loaded
    sha256: str

    def said(self, weight: float) -> str:
        """How recipes name it."""
        return f"lora {self.sha256[:32]}:{weight:g}"


class Adapters:
    """The LoRAs on a network and on its text encoders, and the layers that they are in.

    A choice is a weight for each of some of them, by their names in peft; the others don't act.
    """

    def __init__(self, loaded: Sequence[Loaded], net: Any, encoders: Iterable[Any]) -> None:
        self.loaded = tuple(loaded)
        self._net = _Layers(self.loaded, [net])
        self._texts = _Layers(self.loaded, encoders)

    @property
    def usual(self) -> dict[str, float]:
        """All of them, as they were loaded."""
        return {each.adapter: each.weight for each in self.loaded}

    def choice(self, text: str) -> dict[str, float]:
        """The choice that a text names, such as "detail:0.5, style"; ValueError for one that is not loaded."""
        by_name, found = {each.name: each for each in self.loaded}, dict[str, float]()
        for name, weight in chosen(text):
            if (each := by_name.get(name)) is None:
                there = (
                    f"{', '.join(by_name)} can be chosen, or none" if by_name else "the model was loaded without any"
                )
                raise ValueError(f"LoRA {name!r} is not loaded: {there}")
            found[each.adapter] = each.weight if weight is None else weight
        return found

    def said(self, choice: Mapping[str, float]) -> tuple[str, ...]:
        """How recipes name a choice."""
        return tuple(each.said(choice[each.adapter]) for each in self.loaded if each.adapter in choice)

    def in_network(self, choice: Mapping[str, float]) -> None:
        """Have a choice act in the network, inside `one_pass`."""
        self._net.act(choice)

    def in_texts(self, choice: Mapping[str, float]) -> None:
        """Have a choice act in the text encoders, under `SCALING`."""
        self._texts.act(choice)


class _Layers:
    """The layers of some networks that hold LoRAs."""

    def __init__(self, loaded: Sequence[Loaded], modules: Iterable[Any]) -> None:
        self._loaded = loaded
        self._acting: Mapping[str, float] | None = None  # None: as diffusers left them
        self._layers = [
            each
            for module in modules
            for each in module.modules()
            if hasattr(each, "set_scale") and hasattr(each, "scaling")
        ]

    def act(self, choice: Mapping[str, float]) -> None:
        if self._acting == choice:
            return
        for layer in self._layers:
            for each in self._loaded:
                layer.set_scale(each.adapter, choice.get(each.adapter, each.weight))
            layer.set_adapter([name for name in choice if name in layer.scaling], inference_mode=True)
        self._acting = dict(choice)
