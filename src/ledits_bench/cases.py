"""The scenes suite: edits whose answers are known, in three splits.

Settings are chosen on `tuning`. `development` is for looking at failures, as often as anybody likes. An `exam` is drawn
from a seed that is chosen when it is run, so that nothing can have been fitted to it. A case is drawn from its own
seed, so the lists never depend on each other, and a prefix of a list is a smaller suite with the same mix of kinds.
There is no kind for sizes: the generator can draw them, but the bundled model has no words for them. VERSION changes
whenever a case would; the scenes of the kinds of version 1 are still those of version 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from ledits import scenes
from ledits.asked.recipe import Edit
from ledits.backbones.texts import Prompts
from ledits.scenes import ACCESSORIES, BACKGROUNDS, COLOURED, HEADS, OBJECTS, SIDE, Mask, Placed, Scene
from ledits.scenes.style import STYLES

VERSION = 3
Kind = Literal[
    "swap", "colour", "add", "remove", "background", "two", "three",
    "accessory add", "accessory remove", "accessory swap", "style",
]  # fmt: skip
# What a model of plain scenes can be asked for, and what only one that knows accessories and styles can.
PLAIN: tuple[Kind, ...] = ("swap", "colour", "add", "remove", "background", "two", "three")
KINDS: tuple[Kind, ...] = (*PLAIN, "accessory add", "accessory remove", "accessory swap", "style")
Split = Literal["development", "tuning", "exam"]
SPLITS: tuple[Split, ...] = get_args(Split)
SIZES: dict[Split, int] = {"development": 80, "tuning": 12, "exam": 80}  # of each kind
QUICK = 6  # of each kind
# In turn: nothing held out twice as often as a pair of objects, and as an object on a background.
HELD_OUT = ("", "objects", "", "background")


@dataclass(frozen=True)
class Case:
    """One edit of one scene, and its answer."""

    id: str
    kind: Kind
    number: int  # among its kind
    seed: int  # of whatever noise a method draws
    source: Scene
    edits: tuple[Edit, ...]  # as a person types them, each thing by its own name
    twin: Scene  # what the edited picture must look like
    held_out: str  # "objects" or "background": a pair that training never saw takes part; "": none does

    def mask(self, side: int = SIDE) -> Mask:
        """The pixels that the edit may change, (side, side); the whole free half for an addition, which may lie
        anywhere in it.
        """
        if self.kind != "add":
            return self.source.mask(self.twin, side)
        mask = np.zeros((side, side), bool)
        left = self.twin.objects[-1].x < SIDE / 2
        mask[:, : side // 2] = left
        mask[:, side // 2 :] = not left
        return mask

    def target(self) -> str:
        """The whole edited picture in words, for methods that are told it."""
        if self.kind == "add":
            return f"{self.edits[0].new} {scenes.where(self.twin.background)}"
        return self.twin.caption()

    def wanted(self) -> list[Placed]:
        """The objects that the edit asks for."""
        there = {_bare(placed) for placed in self.source.objects}
        return [placed for placed in self.twin.objects if _bare(placed) not in there]

    def dressed(self) -> list[Placed]:
        """The animals that the edit puts something on, or takes it off, as they are to be."""
        return [placed for placed in self.kept() if placed not in self.source.objects]

    def gone(self) -> list[Placed]:
        """The objects that must go without another one taking their place."""
        taken = {(placed.x, placed.y) for placed in self.twin.objects}
        return [placed for placed in self.source.objects if (placed.x, placed.y) not in taken]

    def kept(self) -> list[Placed]:
        """The objects that must stay, dressed as they are to be."""
        there = {_bare(placed) for placed in self.source.objects}
        return [placed for placed in self.twin.objects if _bare(placed) in there]


def suite(
    split: Split = "development", count: int | None = None, kinds: Sequence[Kind] = KINDS, seed: int | None = None
) -> list[Case]:
    """The first `count` cases of a split (None: all), kinds in turn; `seed` says which exam."""
    count = checked(split, count, kinds)
    if (seed is not None) != (split == "exam"):
        raise ValueError(f"seed {seed}: the exam has one, and the {split} split is one fixed list")
    return [_case(split, kinds[i % len(kinds)], i // len(kinds), seed) for i in range(count)]


def checked(split: Split, count: int | None, kinds: Sequence[Kind] = KINDS) -> int:
    """How many cases are asked for; ValueError where there are not so many."""
    size = SIZES[split] * len(kinds)
    if count is not None and not 1 <= count <= size:
        raise ValueError(f"{count} cases: the {split} split of scenes has 1 to {size}")
    return size if count is None else count


def kinds_of(prompts: Prompts) -> tuple[Kind, ...]:
    """The kinds of edits that a model has words for: what a tokenizer has to spell was in no caption of scenes."""
    known = all(int(prompts.embed(word).words.sum()) == 1 for word in ("sunglasses", "sketch"))
    return KINDS if known else PLAIN


def _case(split: Split, kind: Kind, number: int, seed: int | None) -> Case:
    drawn = [2, seed] if seed is not None else [1, SPLITS.index(split)]
    rng = np.random.default_rng([*drawn, KINDS.index(kind), number])
    draw: Callable[[np.random.Generator], tuple[Scene, tuple[Edit, ...], Scene]] = {
        "swap": _swap, "colour": _colour, "add": _add, "remove": _remove, "background": _background, "two": _two,
        "three": _three, "accessory add": _wear, "accessory remove": _take_off, "accessory swap": _change,
        "style": _style,
    }[kind]  # fmt: skip
    while True:
        source, edits, twin = draw(rng)
        held_out = _held_out(source, edits, twin)
        if held_out == HELD_OUT[number % len(HELD_OUT)]:
            prefix = {"development": "", "tuning": "tuning-", "exam": f"exam-{seed}-"}[split]
            name = f"{prefix}{kind.replace(' ', '-')}-{number:03d}"
            return Case(name, kind, number, int(rng.integers(2**31)), source, edits, twin, held_out)


def _held_out(source: Scene, edits: tuple[Edit, ...], twin: Scene) -> str:
    names = [[placed.name for placed in scene.objects] for scene in (source, twin)]
    pairs = [pair for group in names for pair in combinations(group, 2)]
    pairs += [(edit.old, edit.new) for edit in edits if edit.old in OBJECTS and edit.new in OBJECTS]
    pairs += [(p.name, p.wearing) for scene in (source, twin) for p in scene.objects if p.wearing]
    if any(scenes.held_out_pair(a, b) for a, b in pairs):
        return "objects"
    places = [(name, scene.background) for scene, group in zip((source, twin), names, strict=True) for name in group]
    return "background" if any(scenes.held_out_pair(a, b) for a, b in places) else ""


def _swap(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    source = _scene(rng, _names(rng, int(rng.choice([1, 1, 2]))))
    new = _other(rng, source)
    return source, (_exchange(source, 0, new),), source.swap(0, new)


def _colour(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    row = COLOURED[int(rng.choice([0, 0, 0, 1]))]
    old, new = (row[i] for i in rng.permutation(len(row))[:2])
    source = _scene(rng, [old, *(n for n in _names(rng, int(rng.choice([0, 0, 1]))) if n not in row)])
    return source, (_exchange(source, 0, new),), source.swap(0, new)


def _add(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    twin = _scene(rng, _names(rng, 2))
    there, new = twin.objects
    side = "left" if new.x < there.x else "right"
    return twin.remove(1), (Edit("add", new=f"{scenes.a(new.name)} to the {side} of {scenes.a(there.name)}"),), twin


def _remove(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    source = _scene(rng, _names(rng, int(rng.choice([1, 2]))))
    return source, (Edit("remove", old=source.objects[0].name),), source.remove(0)


def _background(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    source = _scene(rng, _names(rng, int(rng.choice([1, 1, 2]))))
    return _moved(rng, source, (), source)


def _two(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    what = rng.choice(["swaps", "swap and background", "swap and remove"])
    source = _scene(rng, _names(rng, 2))
    new = _other(rng, source)
    edits, twin = (_exchange(source, 0, new),), source.swap(0, new)
    if what == "swap and background":
        return _moved(rng, source, edits, twin)
    return _second(rng, source, edits, twin, remove=what == "swap and remove")


def _three(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    moved = rng.random() < 0.5  # then nothing at all stays, and what is preserved has no measure
    source = _scene(rng, _names(rng, 2 if moved else 3))
    new = _other(rng, source)
    _, edits, twin = _second(
        rng, source, (_exchange(source, 0, new),), source.swap(0, new), remove=moved and rng.random() < 0.5
    )
    if moved:
        return _moved(rng, source, edits, twin)
    return source, (*edits, Edit("remove", old=source.objects[2].name)), twin.remove(2)


def _wear(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    source, accessory = _animal(rng), str(rng.choice(ACCESSORIES))
    twin = source.wear(0, accessory)
    if sum(placed.name in HEADS for placed in source.objects) > 1:  # then it must be said who wears it
        return source, (_redressed(source, twin),), twin
    return source, (Edit("add", new=_put_on(accessory)),), twin


def _take_off(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    twin, accessory = _animal(rng), str(rng.choice(ACCESSORIES))
    source = twin.wear(0, accessory)
    edit = _redressed(source, twin) if _has(source, accessory) else Edit("remove", old=accessory)
    return source, (edit,), twin


def _change(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    bare, (old, new) = _animal(rng), map(str, rng.choice(ACCESSORIES, 2, replace=False))
    source, twin = bare.wear(0, old), bare.wear(0, new)
    return source, (_redressed(source, twin) if _has(source, old) else Edit("swap", old=old, new=new),), twin


def _style(rng: np.random.Generator) -> tuple[Scene, tuple[Edit, ...], Scene]:
    source = _scene(rng, _names(rng, int(rng.choice([1, 1, 2]))))
    style = str(rng.choice(STYLES))
    return source, (Edit("add", new=style),), source.draw(style)


def _animal(rng: np.random.Generator) -> Scene:
    """One or two objects, the first an animal with room for a hat."""
    animal = str(rng.choice(list(HEADS)))
    others = [name for name in _names(rng, int(rng.choice([0, 0, 1]))) if name != animal]
    scene = _scene(rng, [animal, *others])
    return scene.put(0, scenes.room(scene.objects[0]))


def _put_on(accessory: str) -> str:
    """What is asked for: a crown alone is an object of its own."""
    return scenes.wearing(accessory) if accessory in OBJECTS else accessory


def _redressed(source: Scene, twin: Scene) -> Edit:
    """The first thing with what it wears, as one: "cat->cat wearing a bow", where a single word means two things."""
    return Edit("swap", old=source.objects[0].words(), new=twin.objects[0].words())


def _has(scene: Scene, name: str) -> bool:
    return any(placed.name == name for placed in scene.objects)


def _bare(placed: Placed) -> Placed:
    return placed._replace(wearing="")


def _second(
    rng: np.random.Generator, source: Scene, edits: tuple[Edit, ...], twin: Scene, *, remove: bool
) -> tuple[Scene, tuple[Edit, ...], Scene]:
    """With something done to the second object too."""
    if remove:
        return source, (*edits, Edit("remove", old=source.objects[1].name)), twin.remove(1)
    new = _other(rng, source, twin)
    return source, (*edits, _exchange(source, 1, new)), twin.swap(1, new)


def _moved(
    rng: np.random.Generator, source: Scene, edits: tuple[Edit, ...], twin: Scene
) -> tuple[Scene, tuple[Edit, ...], Scene]:
    """With another background too."""
    new = str(rng.choice([name for name in BACKGROUNDS if name != source.background]))
    edit = Edit("swap", old=scenes.noun(source.background), new=scenes.noun(new))
    return source, (*edits, edit), twin.move(new)


def _exchange(scene: Scene, index: int, new: str) -> Edit:
    return Edit("swap", old=scene.objects[index].name, new=new)


def _scene(rng: np.random.Generator, names: list[str]) -> Scene:
    return Scene(scenes.layout(rng, names), str(rng.choice(BACKGROUNDS)), int(rng.integers(2**31)))


def _names(rng: np.random.Generator, count: int) -> list[str]:
    return [OBJECTS[i] for i in rng.permutation(len(OBJECTS))[:count]]


def _other(rng: np.random.Generator, *there: Scene) -> str:
    """An object that is in none of the scenes, nor another colour of one that is."""
    names = {placed.name for scene in there for placed in scene.objects}
    names |= {name for row in COLOURED if names & set(row) for name in row}
    return str(rng.choice([name for name in OBJECTS if name not in names]))
