"""What a network is told of a captioned edit: captions, and whether a thing goes. Text or prompts, without torch."""

from collections.abc import Hashable
from typing import NamedTuple


class Told(NamedTuple):
    """The captions of one edit: texts, or what they are embedded as; one for all pictures, or a tuple with one each.

    Where an entry does not apply to an edit it is the caption of the picture itself, the inversion's base prompt.
    """

    target: Hashable  # after the edit alone: where it and the caption predict different things is the edit's region
    early: Hashable  # what the first third of the edit's steps moves towards; away from the picture's own caption
    late: Hashable  # what the later steps move towards ...
    away: Hashable  # ... and away from
    clear: Hashable  # the region keeps clear of where this and the picture's caption predict different things
    own: Hashable  # what the edit changes in the place of everything that edits change: shares out their regions
