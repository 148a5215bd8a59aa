"""What a caption says, where it is as plain as "a cat and a dog on a beach": things, and the place that they are in.

Only such captions are read. Of any other, such as "a cat on a sofa in front of a window", no thing can be taken to
stand by itself, and nothing here says anything of it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

# What is between the things of a list, words that put one thing beside another one, and the things with their place.
_AND = r",? and |, "
_BESIDE = r" (?:to the (?:left|right) of|next to|beside) "
_PLACE = r"(?:on|in|at|under) (?:(an?|the) )?(.+)"
_CAPTION = re.compile(rf"(?:(.+?) )?({_PLACE})", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:an?|the) ", re.IGNORECASE)
_EMPTY = re.compile(r"(?:an )?empty (.+)", re.IGNORECASE)
# How a caption says that something is there.
_PLACES = {
    "background": "on a", "beach": "on a", "meadow": "on a", "lawn": "on a", "street": "on a", "road": "on a",
    "table": "on a", "grass": "on the", "snow": "in the", "rain": "in the", "desert": "in the", "forest": "in a",
    "garden": "in a", "kitchen": "in a", "room": "in a", "city": "in a", "park": "in a", "sunset": "at",
    "sunrise": "at", "dawn": "at", "night": "at", "sky": "under a",
}  # fmt: skip
# What is worn, by a last word; "a crown" may also stand by itself.
_WORN = {
    "sunglasses", "glasses", "goggles", "hat", "cap", "helmet", "crown", "bow", "scarf", "tie", "mask", "necklace",
    "earrings", "headphones",
}  # fmt: skip
# What makes a caption more than a list: a second place, an attribute that is something itself, a style.
_MORE = re.compile(r",|\b(?:on|in|at|under|over|by|near|behind|against|inside|with|holding|of|and)\b", re.IGNORECASE)


class Listed(NamedTuple):
    """A plain caption's things, "a cat" and "a dog", and where they are."""

    things: Counter[str]
    place: str  # "on a beach"; "" where none is named
    empty: str  # the same without them, "an empty beach"

    def filled(self, thing: str) -> str:
        """The caption with one thing for each that it has: "a fox and a fox on a beach"."""
        return f"{join([thing] * self.things.total())} {self.place}".rstrip()


def listed(caption: str) -> Listed | None:
    """What a caption lists; None where it is no plain list of things, in a place or in none."""
    if (empty := _EMPTY.fullmatch(caption)) and not _MORE.search(empty[1]):
        return Listed(Counter(), "", caption)
    names, place, empty = caption, "", ""
    if found := _CAPTION.fullmatch(caption):
        if _MORE.search(found[4]):
            return None
        names, place, empty = found[1] or "", found[2], _empty(found[3], found[4])
    things = re.split(rf"{_AND}|{_BESIDE}", names) if names or not place else []
    # With no place after them, words after a comma may be about the thing before them: "a cat, asleep".
    plain = not any(map(_MORE.search, things)) and (place or all(map(_ARTICLE.match, things)))
    return Listed(Counter(things), place, empty) if plain else None


def emptied(text: str) -> str:
    """What is left of a caption without its things, as a caption: "on a beach" is "an empty beach"."""
    place = re.fullmatch(rf"(|.+ of ){_PLACE}", text, re.IGNORECASE)
    return place[1] + _empty(place[2], place[3]) if place else text


def joined(caption: str) -> str:
    """A plain caption with "and" before its last thing: "a cat, a dog on a beach" is "a cat and a dog on a beach"."""
    known = listed(caption)
    if known is None or not known.things or re.search(_BESIDE, caption):
        return caption
    names = caption.removesuffix(known.place).rstrip()
    return f"{join(re.split(_AND, names))} {known.place}".rstrip()


def join(names: Sequence[str]) -> str:
    """A list in words: "a cat, a dog and a fox"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def beside(new: str, caption: str) -> str | None:
    """`caption` with "a star to the left of a dog" where it has "a dog"; None where that is not in it."""
    thing = neighbour(new)
    there = re.search(rf"\b{re.escape(thing)}\b", caption) if thing else None
    return caption[: there.start()] + new + caption[there.end() :] if there else None


def place(words: str) -> str:
    """The place that words name, as a caption says it: "in the snow" of "snow"; "" where it is none that is known."""
    words = _ARTICLE.sub("", words, count=1) if _ARTICLE.match(words) else words
    before = _PLACES.get(words.rsplit(" ", 1)[-1].lower(), "")
    if before.endswith(" a") and words[0].lower() in "aeiou":
        before += "n"
    return f"{before} {words}" if before else ""


def worn(words: str) -> str:
    """What is worn, in words that name nothing else: "a crown" of "wearing a crown"; "" where it is nothing known."""
    words = words.removeprefix("wearing ")
    return words if words.rsplit(" ", 1)[-1].lower() in _WORN and not neighbour(words) else ""


def neighbour(new: str) -> str:
    """What `new` is put beside, in its own words: "a dog" of "a star to the left of a dog"; "" where it is nothing."""
    parts = re.split(_BESIDE, new)
    return parts[1] if len(parts) == 2 else ""


def _empty(article: str | None, name: str) -> str:
    return f"empty {name}" if article == "the" else f"an empty {name}"
