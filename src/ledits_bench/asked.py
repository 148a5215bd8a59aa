"""What a method is told of a case: one of three columns, which are never mixed.

* `typed`: a caption of the picture as a person writes it, and the edits as a person types them. A third of the captions
  are plain lists ("a cat and a star on a beach"). A third are ordinary English in patterns that training saw, and a
  third in patterns that it did not ("you can see a kitten at the seaside").
* `target`: the plain list, and the whole plain list of the edited picture.
* `words`: the edits as a person types them, and no caption.

A person names a thing as the caption does. A caption in which that name stands twice, which leaves out a place that is
to change, or which has a word that the model does not know, is drawn again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from ledits import scenes
from ledits.asked.plan import Plan
from ledits.asked.recipe import Edit
from ledits.asked.settings import Settings
from ledits.files.checkpoints import World
from ledits.language import changes, words
from ledits.language.implied import Implied, implied
from ledits.language.targets import targets
from ledits.scenes import PLAIN, captions
from ledits_bench.cases import Case

Column = Literal["typed", "target", "words"]
COLUMNS: tuple[Column, ...] = get_args(Column)
Wording = Literal["list", "seen", "held out"]
WORDINGS: tuple[Wording, ...] = get_args(Wording)
TRIES = 100  # for a caption; after them the plain list, which every model knows


@dataclass(frozen=True)
class Asked:
    """One case, as one column tells it."""

    case: Case
    column: Column
    source: str  # the picture's caption; "" without one
    edits: tuple[Edit, ...]
    wording: Wording | None  # of a caption that a person wrote

    def plan(self, settings: Settings, world: World | None) -> Plan:
        """What `Editor` makes of it; ValueError where it refuses."""
        return Plan.of(
            self.edits, replace(settings, source=self.source), region=None, mask=None if self.source else "located",
            composite=False, drop_source_late=False, width=1, height=1, world=world,
        )  # fmt: skip

    def captions(self, world: World | None) -> Implied:
        """The caption before, and after each edit alone: those that are given, or that the edits imply."""
        if not self.source:
            return implied(self.edits, world)
        return Implied(self.source, targets(self.source, *self.edits, emptied=world.emptied if world else None))

    def before_and_after(self, world: World | None) -> tuple[str, str]:
        """The captions of the whole picture for methods that are told these two; ValueError where there are none."""
        said = self.captions(world)
        if (after := changes.together(said.source, said.targets)) is None:
            raise ValueError(f"no caption is after all of {', '.join(map(str, self.edits))}")
        return said.source, after

    def refused(self, world: World | None) -> str:
        """Why the editor would not do it, "" where it would."""
        try:
            self.plan(Settings(steps=1, skip=0.0), world)
            self.before_and_after(world)
        except ValueError as error:
            return str(error)
        return ""


def asked(case: Case, column: Column, world: World | None) -> Asked:
    """A case as a column tells it, to a model of this world."""
    if column == "words":
        return Asked(case, column, "", case.edits, None)
    plain = case.source.caption()
    if column == "target":
        return Asked(case, column, plain, (Edit("become", new=case.target()),), None)
    wording = WORDINGS[case.number % len(WORDINGS)]
    rng = np.random.default_rng([3, case.seed])
    for _ in range(TRIES if wording != "list" else 0):
        told = captions.told(rng, case.source, held_out=wording == "held out")
        edits = _renamed(case, told)
        if edits and (world is None or set(re.findall(r"[^\W\d_]+", told.text.lower())) <= set(world.words)):
            return Asked(case, column, told.text, edits, wording)
    return Asked(case, column, plain, case.edits, "list")


def _renamed(case: Case, told: captions.Written) -> tuple[Edit, ...] | None:
    """The edits with what the caption calls things; None where it has no name for one, or twice the same."""
    names: dict[str, str] = {}
    for thing in told.things:
        placed = case.source.objects[thing.which[0]]
        names[placed.name] = thing.name
        names[scenes.a(placed.name)] = thing.text
        if placed.wearing:
            names[placed.wearing] = _bare(thing.worn)
            names[placed.words()] = _bare(thing.text)
    # "at the seaside" is named by its noun.
    place = re.sub(r"^(in front of|on|in|at|under|by|against|during) ", "", told.place)
    names[scenes.noun(case.source.background)] = _bare(place)
    if (
        _bare(place) == case.source.background and case.source.background in PLAIN
    ):  # "the background is blue" becomes green, and not a green background
        names |= {scenes.noun(colour): colour for colour in PLAIN if colour != case.source.background}
    edits = tuple(_with_names(edit, names) for edit in case.edits)
    given = words.split(told.text)
    unique = all(not edit.old or len(words.find(given, words.split(edit.old))) == 1 for edit in edits)
    return edits if unique and all(edit.old or edit.kind == "add" for edit in edits) else None


def _with_names(edit: Edit, names: Mapping[str, str]) -> Edit:
    old, new = names.get(edit.old, edit.old), names.get(edit.new, edit.new)
    head, of, beside = new.partition(" of ")
    if edit.kind == "add" and of:
        new = f"{head} of {names.get(beside, beside)}"
    name, with_, worn = new.partition(" wearing ")
    if edit.kind == "swap" and with_ and edit.old.startswith(name):
        new = f"{names.get(name, name)} wearing {worn}"
    return replace(edit, old=old, new=new)


def _bare(name: str) -> str:
    return re.sub(r"^(a|an|the|one|another) ", "", name)
