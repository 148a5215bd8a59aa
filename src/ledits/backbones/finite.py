"""Numbers that are none: a network that overflows must not become a black picture without a word."""

from torch import Tensor


def finite(values: Tensor, what: str) -> Tensor:
    """`values` as they are; ValueError where any is infinite or not a number. `what` names them."""
    if not bool(values.isfinite().all()):
        raise ValueError(
            f"{what} are not finite: a network overflowed. Use dtype float32, smaller scales, or an autoencoder that "
            "works in float16"
        )
    return values
