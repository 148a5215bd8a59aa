"""What a model sees in a picture: its caption, and where something is. torch is loaded only when these are asked."""

from typing import Any


def described(picture: Any, device: str | None) -> str:
    """What a picture shows, by Florence-2."""
    from ledits.backbones.loading import device_named
    from ledits.seeing import florence

    return florence.caption(picture, device_named(device or "auto"))


def found_by(picture: Any, phrase: str, device: str | None) -> Any:
    """The region that a phrase names, by Florence-2."""
    from ledits.backbones.loading import device_named
    from ledits.seeing import florence

    return florence.where(picture, phrase, device_named(device or "auto"))
