"""The authors' arguments, in the forms that `ledits.pipelines` takes."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from PIL import Image
from torch import Tensor

from ledits.picture import image as images

Callback = Callable[[int, Tensor, Tensor], object]  # (step, timestep, latents), as diffusers had it until 0.25


def picture(image_path: Any, image: Any) -> Any:
    """What is to be inverted: their code calls it image_path, their README image."""
    if (image_path is None) == (image is None):
        raise ValueError("image_path and image are two names of one argument: give one of them")
    return image if image_path is None else image_path


def oblong(given: Any, side: int) -> list[Image.Image]:
    """Each picture at side x side, or with 1.5 side where it is longer than it is wide, or wider, by over a quarter."""
    return [_resized(item, _oblong_size(item, side)) for item in _each(given)]


def stretched(given: Any, width: int, height: int) -> list[Image.Image]:
    """Each picture at this size, whatever its shape."""
    return [_resized(item, (width, height)) for item in _each(given)]


def centred(given: Any, side: int) -> list[Image.Image]:
    """The square in the middle of each picture, at side x side."""
    pictures = list[Image.Image]()
    for item in _each(given):
        short = min(item.size)
        left, top = (item.width - short) // 2, (item.height - short) // 2
        pictures.append(_resized(item.crop((left, top, left + short, top + short)), (side, side)))
    return pictures


def check_eta(eta: float) -> None:
    if eta != 1:
        raise ValueError(f"eta {eta}: only 1 is known here, with which LEDITS++ inverts; leave it out")


def weighted(scale: Any, weights: Sequence[float] | None) -> Any:
    """The guidance scale of each edit times its weight."""
    if not weights:
        return scale
    scales = list(scale) if isinstance(scale, list | tuple) else [scale] * len(weights)
    if len(scales) != len(weights):
        raise ValueError(f"edit_weights has {len(weights)} values for {len(scales)} scales: give one for each edit")
    return [a * b for a, b in zip(scales, weights, strict=True)]


def on_step_end(callback: Callback | None, every: int) -> Callable[..., Mapping[str, Tensor]] | None:
    """The callback as diffusers has it by now; its return value is ignored, as in diffusers before 0.25."""
    if callback is None:
        return None
    if every < 1:
        raise ValueError(f"callback_steps {every}: a whole number from 1 is needed")

    def call(_: Any, i: int, t: Tensor, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if i % every == 0:
            callback(i, t, tensors["latents"])
        return {}

    return call


@contextmanager
def bar(pipe: Any, verbose: bool) -> Generator[None]:
    """The pipeline's progress bar, left out inside the block where `verbose` is False."""
    before: dict[str, Any] = getattr(pipe, "_progress_bar_config", {})
    if not verbose:
        pipe.set_progress_bar_config(**{**before, "disable": True})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)


def _each(given: Any) -> list[Image.Image]:
    items = list(given) if isinstance(given, list | tuple) else [given]  # pyright: ignore[reportUnknownArgumentType]
    return [Image.fromarray(images.take(item).rgb) for item in items]


def _oblong_size(item: Image.Image, side: int) -> tuple[int, int]:
    if max(item.size) <= 1.25 * min(item.size):
        return side, side
    return (side, side * 3 // 2) if item.height > item.width else (side * 3 // 2, side)


def _resized(item: Image.Image, size: tuple[int, int]) -> Image.Image:
    return item if item.size == size else item.resize(size)
