"""The words of a model that knows a small world only, so that an unknown one is said to be unknown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ledits import scenes
from ledits.asked.recipe import Edit
from ledits.files.checkpoints import World
from ledits.language import changes, targets
from ledits.scenes.style import STYLES
from ledits.server.errors import Refused


def known(world: World | None) -> dict[str, Any]:
    """{"words": single words, "things": what can be named}; both null for a model of the open world."""
    if world is None:
        return {"words": None, "things": None}
    things = dict.fromkeys([*scenes.OBJECTS, *scenes.ACCESSORIES, *STYLES, *map(scenes.noun, scenes.BACKGROUNDS)])
    return {"words": sorted(world.words), "things": [each for each in things if set(each.split()) <= world.words]}


def unknown(world: World | None, edits: Iterable[Edit], source: str = "") -> list[str]:
    """The words of edits and a caption that the model does not know, in order."""
    said = [source, *(part for edit in edits for part in (edit.old, edit.new))]
    found = dict.fromkeys(word for text in said for word in re.findall(r"[^\W\d_]+", text.lower()))
    return [] if world is None else [word for word in found if word not in world.words]


def captions(world: World | None, edits: Sequence[Edit], source: str) -> dict[str, Any]:
    """The caption after each edit alone, and after all; null where there is no caption, or no rule is certain of it."""
    try:
        each = targets.targets(source, *edits, emptied=world.emptied if world else None)
    except ValueError:
        return {"targets": None, "target": None}
    return {"targets": each, "target": changes.together(source, each)}


def check(name: str, world: World | None, edits: Iterable[Edit], source: str) -> None:
    """Raise Refused, with what is known, for a word that the model does not know."""
    if strange := unknown(world, edits, source):
        things = ", ".join(known(world)["things"])
        raise Refused(
            f"model {name!r} does not know the word {strange[0]!r}: it knows {things}; ask for another model, or go on "
            "with anyway=true",
            param="prompt", code="unknown_word",
        )  # fmt: skip
