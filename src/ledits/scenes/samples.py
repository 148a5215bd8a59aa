"""The sample pictures: scenes that the bundled model has not seen in training, composed at fixed places."""

from ledits.scenes import Picture, Placed, Scene

SIDE = 128  # pixels, of what the bundled model was trained on

SAMPLES = {
    "cat": Scene((Placed("cat", 30, 36, 36),), "meadow", 101),
    "rocket": Scene((Placed("rocket", 33, 30, 36),), "night sky", 102),
    "heart": Scene((Placed("red heart", 32, 33, 38),), "white", 103),
    "gift": Scene((Placed("gift", 34, 36, 34),), "beach", 104),
    "panda": Scene((Placed("panda", 17, 36, 28),), "snow", 105),
    "tree": Scene((Placed("tree", 32, 34, 38),), "sunset", 106),
    "pair": Scene((Placed("fox", 16, 35, 28), Placed("star", 47, 30, 28)), "blue", 107),
}


def draw(name: str) -> Picture:
    """A sample picture, (SIDE SIDE 3) uint8."""
    return SAMPLES[name].render(SIDE)
