"""Means with bootstrap intervals, and the curve of success against preservation with the area under it.

Cases are what is resampled, with one seed, so that a report is the same whenever it is written.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
RESAMPLES = 1000
# The curve runs over this range of preservation, in dB outside the true mask: from where a scene can't be told from
# another to about what the bundled model's autoencoder costs.
DECIBELS = np.linspace(15, 35, 81)


class Interval(NamedTuple):
    """A mean, its 95 % bootstrap interval, and of how many values it is."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Sequence[float | None]) -> Interval | None:
    """The mean of the values that there are; None of none."""
    known = np.array([value for value in values if value is not None], float)
    if not len(known):
        return None
    means = known[_draws(len(known))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(known.mean()), float(low), float(high), len(known))


class Curve(NamedTuple):
    """What success a method reaches where it must preserve so much, and the share of the plane under that."""

    success: Values  # (81,) at DECIBELS, 0 where no setting preserves so much
    area: Interval
    points: list[tuple[float, float]]  # preservation and success of each setting


def curve(success: Values, preserved: Values) -> Curve:
    """success (settings, cases) in 0..1, preserved (settings, cases) in dB, nan where a case has no measure of it.

    The best of the settings is taken on the same cases that it is scored on, for every method alike: compare areas, and
    do not read them as what a setting chosen beforehand would give.
    """
    draws = _draws(success.shape[1])
    areas = [_best(success[:, draw], preserved[:, draw]).mean() for draw in draws]
    best = _best(success, preserved)
    low, high = np.quantile(areas, (0.025, 0.975))
    area = Interval(float(best.mean()), float(low), float(high), success.shape[1])
    points = zip(_known_mean(preserved), success.mean(1), strict=True)
    return Curve(best, area, [(float(x), float(y)) for x, y in points])


def _best(success: Values, preserved: Values) -> Values:
    """The highest success of all settings that preserve at least DECIBELS, (81,)."""
    enough = _known_mean(preserved)[:, None] >= DECIBELS
    return np.where(enough, success.mean(1)[:, None], 0.0).max(0)


def _known_mean(preserved: Values) -> Values:
    """Of each setting over the cases that have a measure; nan, which is not enough for anything, where none has."""
    known = ~np.isnan(preserved)
    count = known.sum(1)
    return np.where(count > 0, np.where(known, preserved, 0).sum(1) / np.maximum(count, 1), np.nan)


def _draws(n: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(n, size=(RESAMPLES, n))
