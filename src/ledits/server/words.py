"""The words of a model that knows a small world only, so that an unknown one is said to be unknown."""

import re
from collections.abc import Sequence
from typing import Any

from ledits import scenes
from ledits.backbones import BUNDLED
from ledits.editor import Editor
from ledits.recipe import Edit

# What captions of the world join its things with.
_JOINTS = "a an and the on in at under with of to without no empty background photo picture"


def known(editor: Editor) -> dict[str, Any]:
    """{"words": single words, "things": what can be named}; both null for a model of the open world."""
    if not editor.backbone.name.startswith(BUNDLED):
        return {"words": None, "things": None}
    things = [*scenes.OBJECTS, *map(scenes.noun, scenes.BACKGROUNDS)]
    return {"words": sorted(_split(" ".join(things)) | _split(_JOINTS)), "things": things}


def unknown(edits: Sequence[Edit], editor: Editor) -> list[str]:
    """The words of the edits that the model does not know, in order."""
    words = known(editor)["words"]
    if words is None:
        return []
    said = dict.fromkeys(word for edit in edits for word in re.findall(r"[^\W\d_]+", f"{edit.old} {edit.new}".lower()))
    return [word for word in said if word not in words]


def _split(text: str) -> set[str]:
    return set(text.lower().split())
