"""Captions of scenes as people write them: the world's English.

`Scene.caption` says everything in one fixed grammar. Here the same scene is told in many: other words for things and
places, adjectives, counts, positions, several ways to say what is worn, several openings and orders of words. Whatever
a caption says is true of the picture, and a caption that names one object names all.

The form of a caption is a `Pattern`; a fifth of all patterns is held out of training. Words within a pattern (a kitten
for a cat, "in a top hat" for "wearing a top hat") vary freely.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

from ledits import scenes
from ledits.scenes import ACCESSORIES, HEADS, LANDSCAPES, OBJECTS, PLAIN, Placed, Scene
from ledits.scenes.style import STYLES

_Choice = TypeVar("_Choice")
# A caption's words; commas are tokens of their own, and a model reads 32 tokens with a start and an end.
SHORTEST, LONGEST, MOST_TOKENS = 3, 25, 30

# Other words for the same thing, and the plural where it is not just an s.
SYNONYMS = {
    "cat": ("kitten", "kitty"), "dog": ("puppy",), "panda": ("panda bear",), "pig": ("piglet",), "rabbit": ("bunny",),
    "turtle": ("tortoise",), "pizza": ("slice of pizza", "pizza slice"), "donut": ("doughnut",),
    "gift": ("present", "gift box"), "ball": ("football", "soccer ball"), "rocket": ("spaceship",),
    "mushroom": ("toadstool",),
}  # fmt: skip
PLURALS = {
    "fish": "fish", "fox": "foxes", "butterfly": "butterflies", "strawberry": "strawberries", "kitty": "kitties",
    "puppy": "puppies", "bunny": "bunnies", "slice of pizza": "slices of pizza", "gift box": "gift boxes",
}  # fmt: skip
# What colour the art is, where one word says it. Drawn without colours nothing is any.
COLOURS = {
    "cat": "orange", "dog": "brown", "fox": "orange", "frog": "green", "pig": "pink", "rabbit": "white", "owl": "brown",
    "fish": "blue", "butterfly": "orange", "turtle": "green", "banana": "yellow", "strawberry": "red", "gift": "yellow",
    "star": "yellow", "sunflower": "yellow", "balloon": "red", "crown": "golden", "car": "red", "tree": "green",
    "mushroom": "red",
}  # fmt: skip
# What else can be seen of a thing: all animals are drawn alike, and only a cat laughs.
ADJECTIVES = {**dict.fromkeys((*HEADS, "turtle", "fish", "butterfly"), ("cute",)), "cat": ("cute", "smiling", "happy")}
BIG, SMALL = ("big", "large"), ("small", "little")
POSTURES = {
    "fish": ("facing left", "looking left"), "turtle": ("facing left", "looking left"), "penguin": ("standing",),
    "owl": ("standing",), "tree": ("standing",), "rocket": ("flying",), "butterfly": ("spreading its wings",),
}  # fmt: skip
# What is worn, by its own name first; how it is said to be worn; and that on something on top of a head.
WORN = {
    "sunglasses": ("sunglasses", "dark sunglasses", "a pair of sunglasses", "shades"),
    "top hat": ("a top hat", "a black top hat", "a black hat", "a hat", "a tall hat"),
    "crown": ("a crown", "a golden crown"),
    "bow": ("a bow", "a red bow", "a red ribbon"),
}
WEARING = ("wearing {}", "with {}", "in {}", "that wears {}", "who is wearing {}", "with {} on", "with {} on its head")
# As places, and as things. The first of each is what `Scene.caption` says.
PLACES = {
    "meadow": (
        "on a meadow", "in a meadow", "on the grass", "on green grass", "in a green meadow", "in a grassy field",
        "on a green field", "in the meadow", "on the meadow",
    ),
    "beach": (
        "on a beach", "at the beach", "on the beach", "on a sandy beach", "at the seaside", "by the sea", "on the sand",
        "on the seashore",
    ),
    "snow": ("in the snow", "on snow", "in snow", "in a snowy field", "on snowy ground", "on the snow"),
    "night sky": (
        "under a night sky", "at night", "in the night", "against a night sky", "in front of a night sky",
        "under a dark night sky", "under the night sky",
    ),
    "sunset": (
        "at sunset", "during sunset", "at dusk", "under a sunset sky", "in front of a sunset", "against a sunset",
        "during a sunset",
    ),
    **{
        colour: (
            f"on {scenes.a(colour)} background", f"on a plain {colour} background",
            f"against {scenes.a(colour)} background", f"in front of {scenes.a(colour)} background",
            f"in front of {scenes.a(colour)} wall", f"on {colour}", f"on the {colour} background",
        )
        for colour in PLAIN
    },
}  # fmt: skip
NOUNS = {
    "meadow": ("a meadow", "a green meadow", "a grassy field"),
    "beach": ("a beach", "a sandy beach", "the seaside"),
    "snow": ("snow", "a snowy field"),
    "night sky": ("a night sky", "a dark night sky"),
    "sunset": ("a sunset", "a sunset sky"),
    **{
        colour: (f"{scenes.a(colour)} background", f"a plain {colour} background", f"{scenes.a(colour)} wall")
        for colour in PLAIN
    },
}
# Before a background's name once another one's is replaced by it: "in the snow" by "in the beach".
BEFORE = ("on a", "in the", "under a", "at", "in a", "on the", "at the", "on", "in front of a", "against a", "with a")

# What a caption begins with; "is" becomes "are" before more than one.
OPENINGS = {
    "bare": "{}", "photo": "a photo of {}", "picture": "a picture of {}", "image": "an image of {}",
    "photo-of": "photo of {}", "there-is": "there is {}", "shows": "this picture shows {}",
    "the-picture": "the picture shows {}", "we-see": "we see {}", "you-see": "you can see {}", "here-is": "here is {}",
    "in-this": "in this picture there is {}", "scene": "a scene with {}", "simple": "a simple picture of {}",
}  # fmt: skip
# Openings that can follow a place: "on a beach there is a cat".
AFTER_PLACE = ("bare", "there-is", "we-see", "you-see")
# How a style is named: as an opening (those with "of"), or after the rest.
STYLED = {
    "pencil sketch": {
        "of": "a pencil sketch of {}", "bare-of": "pencil sketch of {}", "other-of": "a pencil drawing of {}",
        "comma": "{}, pencil sketch", "comma-a": "{}, a pencil sketch", "in": "{} in pencil",
        "as": "{} as a pencil sketch", "in-style": "{} in pencil sketch style",
        "style-of-a": "{} in the style of a pencil sketch",
    },
    "black and white photo": {
        "of": "a black and white photo of {}", "bare-of": "black and white photo of {}",
        "other-of": "a black and white picture of {}", "comma": "{}, black and white photo",
        "comma-a": "{}, a black and white photo", "in": "{} in black and white",
        "as": "{} as a black and white photo", "in-style": "{} in black and white photo style",
        "style-of-a": "{} in the style of a black and white photo",
    },
    "pixel art": {
        "of": "pixel art of {}", "bare-of": "pixel art picture of {}", "other-of": "a pixel art picture of {}",
        "comma": "{}, pixel art", "comma-a": "{}, in pixel art", "in": "{} in pixel art",
        "as": "{} as pixel art", "in-style": "{} in pixel art style",
        "style-of-a": "{} in the style of pixel art",
    },
}  # fmt: skip
STYLE_OPENINGS = ("of", "bare-of", "other-of")
# Where the place is named. Whatever stands in the picture may stand without it.
WHERE = ("nowhere", "last", "first", "frame", "behind")


class Told(NamedTuple):
    """One object or several of a kind, as a caption names them."""

    text: str
    several: bool
    which: tuple[int, ...]  # of the scene's objects
    name: str = ""  # of one alone: its adjectives and noun, "cute kitten" ...
    worn: str = ""  # ... and what it wears, "a red bow"


def _always(scene: Scene, told: Sequence[Told]) -> bool:
    return True


class Arrangement(NamedTuple):
    """How what is in the scene is put together: `text` with {0}, {1}, {2} for what is told of, {side} and {is}."""

    text: str
    number: int
    true: Callable[[Scene, Sequence[Told]], bool] = _always
    sentence: bool = False  # has a verb: nothing goes before it, and its place comes last or not at all
    needs_place: bool = False
    plain: str = "list"  # the same in the grammar of `Scene.captions`: "" where that has no words for it


def _sided(scene: Scene, told: Sequence[Told]) -> bool:
    return len(scene.objects) == 1 and abs(scene.objects[0].x - 32) > 7


def _central(scene: Scene, told: Sequence[Told]) -> bool:
    return len(scene.objects) == 1 and abs(scene.objects[0].x - 32) <= 3


def _in_order(scene: Scene, told: Sequence[Told]) -> bool:
    """Whether single things are told of from left to right."""
    at = [scene.objects[one.which[0]].x for one in told]
    return len(scene.objects) == len(told) and all(a + 4 < b for a, b in zip(at, at[1:], strict=False))


def _reversed(scene: Scene, told: Sequence[Told]) -> bool:
    return _in_order(scene, told[::-1])


def _between(scene: Scene, told: Sequence[Told]) -> bool:
    return _in_order(scene, (told[1], told[0], told[2])) or _in_order(scene, (told[2], told[0], told[1]))


def _neighbours(scene: Scene, told: Sequence[Told]) -> bool:
    """Whether what is third stands anywhere but between the first two."""
    return (
        _accompanied(scene, told[1:])
        and not _in_order(scene, (told[0], told[2], told[1]))
        and not _in_order(scene, (told[1], told[2], told[0]))
    )


def _accompanied(scene: Scene, told: Sequence[Told]) -> bool:
    """Whether none is a crown: "a cat with a crown" wears it."""
    return all(scene.objects[i].name != "crown" for one in told[1:] for i in one.which)


def _starless(scene: Scene, told: Sequence[Told]) -> bool:
    return scene.background != "night sky"


def _postured(scene: Scene, told: Sequence[Told]) -> bool:
    return len(scene.objects) == 1 and scene.objects[0].name in POSTURES and not scene.objects[0].wearing


_LEFT, _RIGHT = "{0} to the left of {1}", "{0} to the right of {1}"
ARRANGEMENTS = {
    "empty": Arrangement("an empty {background}", 0),
    # The night sky has its stars.
    "nothing": Arrangement("{a background} with nothing in it", 0, _starless),
    "just": Arrangement("just {a background}", 0),
    "nothing-but": Arrangement("nothing but {a background}", 0),
    "one": Arrangement("{0}", 1),
    "only": Arrangement("only {0}", 1),
    "nothing-else": Arrangement("{0} and nothing else", 1),
    "side": Arrangement("{0} on the {side}", 1, _sided, plain="{0} on the {side}"),
    "side-of": Arrangement("{0} on the {side} side of the picture", 1, _sided, plain="{0} on the {side}"),
    "middle": Arrangement("{0} in the middle", 1, _central, plain=""),
    "middle-of": Arrangement("{0} in the middle of the picture", 1, _central, plain=""),
    "posture": Arrangement("{0} {posture}", 1, _postured),
    "is": Arrangement("{0} {is}", 1, sentence=True, needs_place=True),
    "is-side": Arrangement("{0} {is} on the {side}", 1, _sided, sentence=True, plain="{0} on the {side}"),
    "is-middle": Arrangement("{0} {is} in the middle", 1, _central, sentence=True, plain=""),
    "and": Arrangement("{0} and {1}", 2),
    "with": Arrangement("{0} with {1}", 2, _accompanied),
    "together": Arrangement("{0} together with {1}", 2, _accompanied),
    "as-well": Arrangement("{0} as well as {1}", 2),
    "next-to": Arrangement("{0} next to {1}", 2),
    "beside": Arrangement("{0} beside {1}", 2),
    "side-by-side": Arrangement("{0} and {1} side by side", 2),
    "left-of": Arrangement("{0} to the left of {1}", 2, _in_order, plain=_LEFT),
    "right-of": Arrangement("{0} to the right of {1}", 2, _reversed, plain=_RIGHT),
    "on-the-left-of": Arrangement("{0} on the left of {1}", 2, _in_order, plain=_LEFT),
    "left-right": Arrangement("{0} on the left and {1} on the right", 2, _in_order, plain=_LEFT),
    "right-left": Arrangement("{0} on the right and {1} on the left", 2, _reversed, plain=_RIGHT),
    "and-are": Arrangement("{0} and {1} are", 2, sentence=True, needs_place=True),
    "is-next-to": Arrangement("{0} {is} next to {1}", 2, sentence=True),
    "is-left-of": Arrangement("{0} {is} to the left of {1}", 2, _in_order, sentence=True, plain=_LEFT),
    "is-right-of": Arrangement("{0} {is} to the right of {1}", 2, _reversed, sentence=True, plain=_RIGHT),
    "list": Arrangement("{0}, {1} and {2}", 3),
    "and-and": Arrangement("{0} and {1} and {2}", 3),
    "row": Arrangement("{0}, {1} and {2} in a row", 3),
    "from-left": Arrangement("{0}, {1} and {2} from left to right", 3, _in_order, plain=""),
    "left-to-right": Arrangement("from left to right {0}, {1} and {2}", 3, _in_order, plain=""),
    "between": Arrangement("{0} between {1} and {2}", 3, _between, plain=""),
    "left-middle-right": Arrangement("{0} on the left, {1} in the middle and {2} on the right", 3, _in_order, plain=""),
    "with-two": Arrangement("{0} with {1} and {2}", 3, _accompanied),
    "next-to-two": Arrangement("{0} next to {1} with {2}", 3, _neighbours, plain=""),
    "list-are": Arrangement("{0}, {1} and {2} are", 3, sentence=True, needs_place=True),
}  # fmt: skip


class Pattern(NamedTuple):
    """The form of a caption, without its words. A style is named by a key of STYLED's, or "" where there is none."""

    opening: str
    arrangement: str
    where: str
    style: str

    @property
    def id(self) -> str:
        return "/".join(part for part in self if part)

    @property
    def held_out(self) -> bool:
        """Whether training never says it: one in five."""
        return zlib.crc32(f"2 {self.id}".encode()) % 5 == 0  # with 2, the plainest are seen


class Written(NamedTuple):
    """A caption, how it was made, and what it calls the things and the place that it names."""

    text: str
    pattern: Pattern
    things: Sequence[Told]
    place: str  # "on green grass", "a sandy beach"; "" where none is named


def _possible(pattern: Pattern) -> bool:
    arrangement = ARRANGEMENTS[pattern.arrangement]
    if pattern.style in STYLE_OPENINGS and pattern.opening != "bare":
        return False
    if arrangement.number == 0:
        # The background is all there is.
        return pattern.where == "nowhere"
    if arrangement.sentence:
        wheres = ("last",) if arrangement.needs_place else ("nowhere", "last")
        return pattern.opening == "bare" and pattern.style not in STYLE_OPENINGS and pattern.where in wheres
    if pattern.where == "first":
        return pattern.opening in AFTER_PLACE and pattern.style not in STYLE_OPENINGS
    if (pattern.opening, pattern.where) == ("scene", "frame"):
        return False
    # "A photo of from left to right a cat ..."
    return pattern.arrangement != "left-to-right" or pattern.opening == "bare"


PATTERNS = tuple(
    pattern
    for opening in OPENINGS
    for arrangement in ARRANGEMENTS
    for where in WHERE
    for style in ("", *STYLED["pixel art"])
    if _possible(pattern := Pattern(opening, arrangement, where, style))
)


class Lesson(NamedTuple):
    """A caption for training, and the same in the grammar of `Scene.captions`: "" where that has no words for it."""

    text: str
    plain: str


def training(rng: np.random.Generator, scene: Scene) -> Lesson:
    """One caption for training: in a pattern, in the kinds of `Scene.captions`, or as an edit leaves it."""
    kind = rng.random()
    several = len({placed.name for placed in scene.objects}) < len(scene.objects)
    if kind < 0.35:
        text = scene.captions(rng)
        return Lesson(text, "" if several else text)
    if kind < 0.50 and scene.objects:
        return Lesson(edited(rng, scene), "" if several else scene.caption())
    if kind < 0.56:
        text, placed = short(rng, scene)
        plain = _plain(scene, range(len(scene.objects)), placed=False) if not placed else scene.backdrop()
        return Lesson(text, "" if several or _says_size(text) else plain)
    text, pattern, things, _ = told(rng, scene)
    if several or _says_size(text) or not ARRANGEMENTS[pattern.arrangement].plain:
        return Lesson(text, "")
    order = [i for one in things for i in one.which]
    return Lesson(
        text, _plain(scene, order, ARRANGEMENTS[pattern.arrangement].plain, placed=pattern.where != "nowhere")
    )


def _says_size(text: str) -> bool:
    return bool({*BIG, *SMALL} & set(text.split()))


def _plain(scene: Scene, order: Sequence[int], form: str = "list", *, placed: bool) -> str:
    """What is told of in this order, as `Scene.captions` says it."""
    if not scene.objects:
        return scene.empty()
    names = [scenes.a(scene.objects[i].words()) for i in order]
    side = "left" if scene.objects[order[0]].x < 32 else "right"
    what = scenes.listed(names) if form == "list" else form.format(*names, side=side)
    return scene.styled(f"{what} {scenes.where(scene.background)}" if placed else what)


def written(rng: np.random.Generator, scene: Scene, *, held_out: bool = False) -> str:
    """A caption in a pattern drawn at random, of those that training sees or of those that are held out."""
    return told(rng, scene, held_out=held_out).text


def told(rng: np.random.Generator, scene: Scene, *, held_out: bool = False) -> Written:
    """As `written`, with how it was made."""
    while True:
        things = _told(rng, scene)
        arrangement = _chosen(rng, _arrangements(len(things)))
        if not ARRANGEMENTS[arrangement].true(scene, things):
            continue
        choice = _patterns(arrangement, bool(scene.style), held_out, rng.random() < 0.4)
        if not choice:
            continue
        pattern = _chosen(rng, choice)
        text, place = _say(rng, scene, things, pattern)
        if rng.random() < 0.3:
            text, place = text.replace("gray", "grey"), place.replace("gray", "grey")
        count = len(text.split())
        if SHORTEST <= count <= LONGEST and count + text.count(",") <= MOST_TOKENS:
            return Written(text, pattern, things, place)


def edited(rng: np.random.Generator, scene: Scene) -> str:
    """A caption with words put into it or replaced, as an edit makes it of what a person typed: "a cat in the beach",
    "a cat wearing top hat", "a cat on snow, pencil sketch", "a owl and a cat on a meadow".
    """
    names, after = [], ""
    for i in rng.permutation(len(scene.objects)):
        placed = scene.objects[i]
        name = f"a {placed.name}" if rng.random() < 0.15 else scenes.a(placed.name)
        if placed.wearing:
            article = "" if rng.random() < (0.7 if placed.wearing == "sunglasses" else 0.25) else "a "
            worn = f" {_chosen(rng, ('wearing', 'wearing', 'with', 'in'))} {article}{placed.wearing}"
            if len(scene.objects) == 1 and rng.random() < 0.3:
                after = worn
            else:
                name += worn
        names.append(name)
    if len(names) == 2 and rng.random() < 0.2:
        after = f" and {names.pop()}"
    what = scenes.listed(names)
    if rng.random() < 0.85:
        before = _chosen(rng, BEFORE)
        noun = scenes.noun(scene.background)
        if rng.random() < 0.25 and scene.background in LANDSCAPES:
            noun = re.sub("^(a|an|the) ", "", _chosen(rng, NOUNS[scene.background]))
        if before.endswith(" a") and noun[0] in "aeiou" and rng.random() < 0.7:
            before += "n"
        what += f" {before} {noun}"
    else:
        what += f" {_chosen(rng, PLACES[scene.background])}"
    what += after
    if not scene.style:
        return what
    return STYLED[scene.style][_chosen(rng, ("of", "comma", "comma", "comma-a", "in-style", "in", "as"))].format(what)


def short(rng: np.random.Generator, scene: Scene) -> tuple[str, bool]:
    """What is there without where, or where without what, in words that `Scene.captions` does not use; and whether it
    is where.
    """
    things = _told(rng, scene)
    place = not things or rng.random() < 0.3
    if place:
        what = _chosen(rng, (PLACES if rng.random() < 0.5 else NOUNS)[scene.background])
        what = re.sub("^(a|an|the) ", "", what) if rng.random() < 0.4 else what
    else:
        what = scenes.listed([one.text for one in things])
        what = re.sub("^(a|an|the|one) ", "", what) if len(things) == 1 and rng.random() < 0.4 else what
    if not scene.style:
        return what, place
    if what in PLACES[scene.background]:
        return STYLED[scene.style]["comma"].format(what), place
    return STYLED[scene.style][_chosen(rng, list(STYLED[scene.style]))].format(what), place


@cache
def words() -> tuple[str, ...]:
    """Every word that a caption can have, in order."""
    texts = [*OBJECTS, *ACCESSORIES, *STYLES, *BEFORE, *WEARING, *BIG, *SMALL, *COLOURS.values(), *OPENINGS.values()]
    for table in (SYNONYMS, ADJECTIVES, POSTURES, WORN, PLACES, NOUNS):
        texts += [text for row in table.values() for text in row]
    texts += [form for forms in STYLED.values() for form in forms.values()]
    texts += [plural(name) for names in SYNONYMS.values() for name in names]
    texts += [plural(name) for name in OBJECTS]
    texts += [re.sub(r"\{[^}]*\}", "", one.text) for one in ARRANGEMENTS.values()]
    texts += [
        "a an the one another two three both all of them pair is are left right background empty behind grey animal"
    ]
    return tuple(sorted({word for text in texts for word in re.findall("[a-z]+", text)}))


@cache
def _arrangements(number: int) -> tuple[str, ...]:
    return tuple(name for name, one in ARRANGEMENTS.items() if one.number == number)


@cache
def _patterns(arrangement: str, styled: bool, held_out: bool, bare: bool) -> tuple[Pattern, ...]:
    """Those with an arrangement; without an opening where `bare`, for people do without one mostly."""
    return tuple(
        one
        for one in PATTERNS
        if one.arrangement == arrangement
        and bool(one.style) == styled
        and one.held_out == held_out
        and (one.opening == "bare" or not bare)
    )


def _say(rng: np.random.Generator, scene: Scene, things: Sequence[Told], pattern: Pattern) -> tuple[str, str]:
    """The caption, and what it calls the place: "" where it names none."""
    arrangement = ARRANGEMENTS[pattern.arrangement]
    noun = _chosen(rng, NOUNS[scene.background])
    what = arrangement.text
    if not things:
        bare = re.sub("^(a|an|the) ", "", noun)
        empty = "empty snow" if bare == "snow" else f"an empty {bare}"
        what = what.replace("an empty {background}", empty).replace("{a background}", noun)
    first = scene.objects[things[0].which[0]] if things else None
    what = what.replace("{side}", "left" if first and first.x < 32 else "right")
    what = what.replace("{is}", "are" if things and things[0].several else "is")
    if "{posture}" in what and first:
        what = what.replace("{posture}", _chosen(rng, POSTURES[first.name]))
    what = what.format(*(one.text for one in things))
    places = PLACES[scene.background]
    if arrangement.needs_place:
        places = tuple(place for place in places if not place.startswith("during"))
    place = _chosen(rng, places)
    if pattern.where == "last":
        what = f"{what} {place}"
    elif pattern.where == "frame":
        what, place = f"{noun} with {what}", noun
    elif pattern.where == "behind":
        place = NOUNS[scene.background][0]
        behind = _behind(rng, scene.background)
        what = f"{what}{behind}"
        if place not in behind:  # "the background is blue"
            place = scene.background
    elif pattern.where == "nowhere":
        place = "" if things else re.sub("^(a|an|the) ", "", noun)
    opening = OPENINGS[pattern.opening]
    if things and things[0].several and pattern.where != "frame":
        opening = opening.replace(" is ", " are ")
    what = opening.format(what)
    if pattern.where == "first":
        what = f"{place}{',' if pattern.opening == 'bare' or rng.random() < 0.5 else ''} {what}"
    return (STYLED[scene.style][pattern.style].format(what) if scene.style else what), place


def _behind(rng: np.random.Generator, background: str) -> str:
    if background in PLAIN:
        return _chosen(
            rng, (f" with {scenes.a(background)} background", f", the background is {background}",
                  f" and {scenes.a(background)} background")
        )  # fmt: skip
    noun = NOUNS[background][0]
    return _chosen(rng, (f" with {noun} in the background", f", the background is {noun}", f" with {noun} behind"))


def _told(rng: np.random.Generator, scene: Scene) -> list[Told]:
    """All that is in the scene, several of a kind as one where words can say so, in an order drawn at random."""
    kinds: dict[str, list[int]] = {}
    for i in map(int, rng.permutation(len(scene.objects))):
        kinds.setdefault(scene.objects[i].name, []).append(i)
    article = _chosen(rng, ("a",) * 16 + ("the", "the", "", "one"))
    things: list[Told] = []
    for which in kinds.values():
        if len(which) == 1:
            things.append(_single(rng, scene, which[0], article))
        elif (text := _several(rng, scene, which, alone=len(kinds) == 1)) and rng.random() < 0.85:
            things.append(Told(text, True, tuple(which)))
        else:
            first, *others = (_single(rng, scene, i, "a") for i in which)
            things.append(first)
            things += [one._replace(text=re.sub("^an? ", "another ", one.text)) for one in others]
    return things


def _single(rng: np.random.Generator, scene: Scene, i: int, article: str) -> Told:
    placed = scene.objects[i]
    name = _noun(rng, placed.name)
    adjectives = _size(rng, scene, i) + _looks(rng, placed, scene.style)
    name = " ".join([*adjectives, name])
    text = scenes.a(name) if article == "a" else f"{article} {name}".strip()
    if not placed.wearing:
        return Told(text, False, (i,), name)
    worn, how = _wears(rng, placed.wearing, scene.style)
    return Told(f"{text} {how.format(worn)}", False, (i,), name, worn)


def _several(rng: np.random.Generator, scene: Scene, which: Sequence[int], *, alone: bool) -> str:
    """Two or three of a kind; "" where what they wear can only be said of one after the other."""
    several = [scene.objects[i] for i in which]
    name = plural(_noun(rng, several[0].name))
    name = " ".join([*_looks(rng, several[0], scene.style), name])
    count = "three" if len(which) == 3 else _chosen(rng, ("two", "two", "two", "a pair of"))
    worn = [placed.wearing for placed in several if placed.wearing]
    if not worn:
        return f"{count} {name}"
    thing = _chosen(rng, _clothes(worn[0], scene.style))
    if len(worn) == len(which) and len(set(worn)) == 1:
        return f"{count} {name} {'both' if len(which) == 2 else 'all'} wearing {thing}"
    # "Two cats, one wearing a bow and a star" gives the cat the star.
    return f"{count} {name}, one of them wearing {thing}" if len(worn) == 1 and alone else ""


def _noun(rng: np.random.Generator, name: str) -> str:
    return _chosen(rng, SYNONYMS[name]) if name in SYNONYMS and rng.random() < 0.3 else name


def _size(rng: np.random.Generator, scene: Scene, i: int) -> list[str]:
    """Big or small, where it plainly is: alone against the picture, beside one other thing against that."""
    size, others = scene.objects[i].size, [placed.size for j, placed in enumerate(scene.objects) if j != i]
    if len(others) > 1 or rng.random() < 0.3:
        return []
    big = size >= 1.6 * others[0] if others else size >= 40
    small = others[0] >= 1.6 * size if others else size <= 20
    return [_chosen(rng, BIG if big else SMALL)] if big or small else []


def _looks(rng: np.random.Generator, placed: Placed, style: str) -> list[str]:
    if placed.name in COLOURS and style not in STYLES[:2] and rng.random() < 0.15:
        return [COLOURS[placed.name]]
    return [_chosen(rng, ADJECTIVES[placed.name])] if placed.name in ADJECTIVES and rng.random() < 0.1 else []


def _wears(rng: np.random.Generator, accessory: str, style: str) -> tuple[str, str]:
    """What a worn thing is called, and how it is said to be worn."""
    nouns = _clothes(accessory, style)
    noun = nouns[0] if rng.random() < 0.5 else _chosen(rng, nouns)
    forms = [form for form in WEARING if "head" not in form or accessory != "sunglasses"]
    # Nobody is said to be in a bow.
    forms = [form for form in forms if form != "in {}" or accessory in ("sunglasses", "top hat")]
    return noun, forms[0] if rng.random() < 0.35 else _chosen(rng, forms)


def _clothes(accessory: str, style: str) -> list[str]:
    """What a worn thing is called; by its colour only where there are colours."""
    grey = style in STYLES[:2]
    return [noun for noun in WORN[accessory] if not (grey and {"black", "golden", "red"} & set(noun.split()))]


def plural(name: str) -> str:
    colour, _, noun = name.rpartition(" ")
    return PLURALS.get(name) or f"{colour} {PLURALS.get(noun, noun + 's')}".strip()


def _chosen(rng: np.random.Generator, choice: Sequence[_Choice]) -> _Choice:
    return choice[int(rng.integers(len(choice)))]
