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
PAIR = "pair"  # of two things, the first on the left

# What `ledits demo` makes. Name: picture, what it shows ("": edited by words alone), edits.
DEMO = {
    "swap": ("cat", "a cat on a meadow", ["cat->dog"]),
    "swap-far": ("rocket", "a rocket under a night sky", ["rocket->balloon"]),
    "one-of-two": ("pair", "a fox and a star on a blue background", ["fox->owl"]),
    "two-at-once": ("pair", "a fox and a star on a blue background", ["fox->cat", "star->sunflower"]),
    "colour": ("heart", "a red heart on a white background", ["red heart->blue heart"]),
    "by-words": ("cat", "", ["+sunglasses"]),
    "hat": ("panda", "a panda in the snow", ["->a panda wearing a top hat in the snow"]),
    "addition": ("panda", "a panda in the snow", ["->a tree to the right of a panda in the snow"]),
    "removal": ("gift", "a gift on a beach", ["->an empty beach"]),
    "background": ("rocket", "a rocket under a night sky", ["->a rocket at sunset"]),
    "sketch": ("cat", "a cat on a meadow", ["->a pencil sketch of a cat on a meadow"]),
    "black-and-white": ("tree", "a tree at sunset", ["->a black and white photo of a tree at sunset"]),
}
NEXT = "cat.png 'cat->dog' --source 'a cat on a meadow' -o dog.png"  # to try after the demo

# Edits that the bundled model does well on its sample pictures.
SUGGESTED = {
    "cat": ("+sunglasses", "cat->dog", "cat->owl"),
    "heart": ("red heart->blue heart", "red heart->yellow heart", "red heart->star"),
    "pair": ("fox->owl", "star->sunflower", "fox->cat, star->sunflower"),
    "rocket": ("->a rocket at sunset", "rocket->balloon"),
    "panda": ("+sunglasses", "->a crown to the right of a panda in the snow", "panda->penguin"),
    "tree": ("tree->mushroom", "->a pencil sketch of a tree at sunset@0"),
    "gift": ("gift->ball",),
}
# Alike in nothing: each caption is wrong of all others. The first shows a thing on the left and one on the right.
UNLIKE = (
    *(SAMPLES[name] for name in (PAIR, "cat", "gift", "tree", "rocket", "panda")),
    Scene((Placed("owl", 32, 33, 36),), "yellow", 201),
    Scene((Placed("donut", 31, 34, 34),), "gray", 202),
    Scene((Placed("strawberry", 33, 32, 36),), "white", 203),
    Scene((Placed("fish", 32, 34, 36),), "pink", 204),
    Scene((Placed("car", 33, 33, 38),), "green", 205),
    Scene((Placed("penguin", 31, 33, 36),), "purple", 206),
)


def draw(name: str) -> Picture:
    """A sample picture, (SIDE SIDE 3) uint8."""
    return SAMPLES[name].render(SIDE)
