"""What captions after edits change in the caption before: a thing that another takes the place of, one that goes, one
that comes.

Two captions that differ in one place say it. It is all that is known of an edit, so that "cat->dog" and the caption
after it are one and the same.
"""

from collections.abc import Sequence, Set
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import NamedTuple

from ledits.language import things, words
from ledits.language.targets import Nothing, Unsure, removed
from ledits.language.things import Span
from ledits.language.words import Word

# How a caption may say that nothing is left in a place.
_EMPTIED = (None, "an empty {}")
# A thing's longest name, in words, articles and adjectives included.
_LONGEST = 6


class Change(NamedTuple):
    """Words of the source, from `start` to before `end`, and what takes their place."""

    start: int
    end: int
    new: tuple[Word, ...]

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


class Reading(NamedTuple):
    """What the caption after an edit changes in the source."""

    changes: list[Change]
    gone: str = ""  # the thing that it takes away, with nothing in its place
    emptied: str | None = None  # how its place is said to be empty
    item: Change | None = None  # the one thing, among things that are joined by "and", that it changes
    described: Change | None = None  # the one thing that it says more of, and leaves the rest of it
    beside: bool = False  # whether it puts a thing of its own beside the others
    comes: bool = False  # whether a thing comes, there or elsewhere: "wearing a hat", and not a colour


def together(source: str, targets: Sequence[str]) -> str | None:
    """The caption after all edits, of those after each alone; None where two change the same words."""
    return after(words.split(source), [read(source, target) for target in targets])


def conflicts(source: str, targets: Sequence[str]) -> tuple[int, int] | None:
    """The numbers of two edits that change the same words in different ways; None where there are no such."""
    given, readings = words.split(source), [read(source, target) for target in targets]
    pairs = [(j, k) for k in range(len(readings)) for j in range(k)]
    return next((pair for pair in pairs if after(given, [readings[k] for k in pair]) is None), None)


def read(source: str, target: str) -> Reading:
    """What the caption `target` changes in `source`."""
    old, new = words.split(source), words.split(target)
    changes = _changes(old, new)
    for begin, end in _phrases(old, changes):
        for emptied in _EMPTIED:
            phrase = words.join(old[begin:end])
            if _tells(source, phrase, emptied, new):
                listed = things.is_listed(old, Span(begin, end))
                return Reading(changes, phrase, emptied, Change(begin, end, ()) if listed else None)
    if len(changes) != 1:  # "only a cat, a bow" is no more only a cat
        added = _changes(words.without_alone(old), new)
        return Reading(changes, comes=len(added) == 1 and added[0].start == added[0].end)
    if changes[0].start == changes[0].end:
        beside = next(filter(_is_beside, _shifted(old, changes[0])), None)
        if beside is None:
            return Reading(changes, described=_described(old, changes[0]), comes=_comes(old, changes[0]))
        return Reading([beside], beside=True, comes=True)
    item, end = _swapped(old, changes[0]), things.name_around(old, changes[0].span).end
    # What another thing wears may be worn elsewhere: a hat in the place of sunglasses.
    return Reading(changes, item=item, comes=item is None and changes[0].end == end and not _is_said(old, changes[0]))


def after(given: Sequence[Word], readings: Sequence[Reading], emptied: str | None = None) -> str | None:
    """The caption after several edits, in whatever order; None where two change the same words in different ways.

    `emptied` is how a place is said to be empty, if none of the edits says it.
    """
    gone = [reading for reading in readings if reading.gone]
    changes = {change for reading in readings if not reading.gone for change in reading.changes}
    if len(gone) == 1 and (text := _changed(given, changes | set(gone[0].changes))) is not None:
        return text
    text = _changed(given, changes)
    if not gone or text is None:
        return text
    # Which words went can be told in several ways where others like them stay: "a red heart and a blue heart".
    for phrase in {reading.gone for reading in gone}:
        at = words.find(given, words.split(phrase))[0]
        if any(change.start < at + len(words.split(phrase)) and at < change.end for change in changes):
            return None
    emptied = next((reading.emptied for reading in gone if reading.emptied), emptied)
    try:
        for phrase in sorted({reading.gone for reading in gone}):
            text = removed(text, phrase, emptied)
    except Unsure:
        return None
    return text


def parts(source: str, target: str, emptied: str | None = None) -> list[str]:
    """The captions after each of the edits that `target` is made of, alone; `target` itself where it is but one.

    Things that both captions list are compared in order, and what stands around the lists by itself. Parts that do not
    make the target again when they are put together are none.
    """
    old, new = words.split(source), words.split(target)
    if (gone := read(source, target).gone) and not words.JOINS & set(words.keys(words.split(gone))):
        return [target]  # one thing goes, and what is said of it and others agrees with those that are left
    if any(_is_of_one_name(given, _changes(given, new)) for given in (old, words.without_alone(old))):
        return [target]  # what one thing becomes is one edit, and so is what comes where nothing else was
    there, wanted = _list(old), _list(new)
    if not there or not wanted:
        return [target]
    found = list[str]()
    was, becomes = ([tuple(words.keys(text[i:j])) for i, j in spans] for text, spans in ((old, there), (new, wanted)))
    for kind, i, j, a, b in SequenceMatcher(None, was, becomes, autojunk=False).get_opcodes():
        if kind == "insert" or b - a > j - i:
            return [target]  # what is new beside the others is said of one of them
        if kind == "equal":
            continue
        for thing, other in zip_longest(there[i:j], wanted[a:b]):
            if other is not None:
                found.append(filled(old, [thing], new[other.start : other.end], []) or target)
            elif (left := without(old, [thing], emptied)) is not None:
                found.append(left)
    around = (
        (old[: there[0].start], new[: wanted[0].start], 0),
        (old[there[-1].end :], new[wanted[-1].end :], there[-1].end),
    )
    for before, behind, at in around:
        if before and not behind:
            return [target]  # a place is not left out alone: "an empty beach"
        if _changes(before, behind):
            found.append(words.join([*old[:at], *behind, *old[at + len(before) :]]))
    whole = together(source, found) if len(found) > 1 else None
    return found if whole is not None and words.keys(words.split(whole)) == words.keys(new) else [target]


def filled(given: Sequence[Word], items: Sequence[Span], thing: Sequence[Word], rest: Sequence[Reading]) -> str | None:
    """The source with `thing` in the place of each of `items`, after the edits of `rest`."""
    placed = [
        Change(i.start, i.end, (thing[0]._replace(space=given[i.start].space), *thing[1:])) for i in items
    ]  # fmt: skip
    return after(given, [Reading(placed), *rest])


def without(
    given: Sequence[Word], items: Sequence[Span], emptied: str | None, rest: Sequence[Reading] = ()
) -> str | None:  # fmt: skip
    """The source after the edits of `rest` and without what it lists, a background alone where it says no more;
    None where no rule is certain of it.
    """
    first, end = items[0], items[-1].end
    # The whole list goes as its first thing would by itself.
    name = given[first.start : first.end]
    verb = int(given[end : end + 1] != [] and given[end].key in words.AUXILIARIES)  # "are in a field"
    said = verb + words.begins_with_arrangement(given[end + verb :])
    where = given[end + said : end + said + 1]
    if verb and where and where[0].key not in words.PREPOSITIONS:
        said = 0  # "are asleep in a field"
    all_of_them = Change(first.start, end + said, tuple(name))
    left = after(given, [Reading([all_of_them]), *rest])
    try:
        return removed(left, words.join(name), emptied) if left is not None else None
    except Nothing:
        return (emptied or "{}").format(words.BACKDROP)
    except Unsure:
        return None


def widened(old: Sequence[Word], change: Change, name: Span) -> Change:
    """A change of part of a name as one of all of it."""
    return Change(*name, (*old[name.start : change.start], *change.new, *old[change.end : name.end]))


def _changed(given: Sequence[Word], changes: Set[Change]) -> str | None:
    """The caption after changes; None where two are of the same words."""
    result, at = list[Word](), 0
    for change in sorted(changes, key=lambda c: (c.start, c.end, words.join(c.new))):
        if change.start < at:
            return None
        result += [*given[at : change.start], *change.new]
        at = change.end
    return words.join([*result, *given[at:]])


def _changes(old: Sequence[Word], new: Sequence[Word]) -> list[Change]:
    matcher = SequenceMatcher(None, words.keys(old), words.keys(new), autojunk=False)
    return [
        Change(i, j, tuple(new[a:b])) for kind, i, j, a, b in matcher.get_opcodes() if kind != "equal"
    ]  # fmt: skip


def _is_of_one_name(old: Sequence[Word], changes: Sequence[Change]) -> bool:
    """Whether one change is all, of the name of one thing or between names, and not of how the picture is presented."""
    if len(changes) != 1:
        return False
    (change,) = changes
    name = things.name_around(old, change.span) if change.start < change.end else change.span
    inside = name.start <= change.start and change.end <= name.end
    return inside and not any(words.presents(change.new[:i]) for i in range(1, len(change.new)))


def _list(given: Sequence[Word]) -> list[Span]:
    """The things that a caption lists, if it begins with them or with what presents them or says where they are."""
    for i in range(len(given)):
        name = things.name_around(given, Span(i, i + 1))
        if name.start == i < name.end and (found := things.listed(given, name)):
            begins = words.presents(given[:i]) or given[0].key in words.PREPOSITIONS
            return found if begins and found[0] == name else []
    return []


def _phrases(old: Sequence[Word], changes: Sequence[Change]) -> list[tuple[int, int]]:
    """Where the name of a thing may lie that changes take away: the likeliest first, and the shortest."""
    taken = [change for change in changes if change.start < change.end]
    if not taken or sum(len(change.new) for change in changes) > _LONGEST:
        return []
    low, high = max(0, taken[0].start - 2), min(len(old), taken[-1].end + 1)
    spans = [(i, j) for i in range(low, high) for j in range(i + 1, min(i + _LONGEST, high) + 1)]
    listed = [span for span in spans if things.is_listed(old, Span(*span))]  # "owl", and not "the left of owl"
    named = [(i, j) for i, j in spans if words.is_determiner(old[i].key) and j > i + 1]
    return sorted(spans, key=lambda span: (span not in listed, span not in named, span[1] - span[0]))


def _tells(source: str, phrase: str, emptied: str | None, new: Sequence[Word]) -> bool:
    """Whether `new` is the source without what `phrase` names."""
    try:
        return words.keys(words.split(removed(source, phrase, emptied))) == words.keys(new)
    except Unsure:
        return False


def _shifted(old: Sequence[Word], added: Change) -> list[Change]:
    """All places where the same words may have come in: "a dog and" before "a cat", or "dog and a" before "cat"."""
    start, new = added.start, list(added.new)
    while start > 0 and old[start - 1].key == new[-1].key:
        start, new = start - 1, [old[start - 1], *new[:-1]]
    ways = [Change(start, start, tuple(new))]
    while start < len(old) and old[start].key == new[0].key:
        start, new = start + 1, [*new[1:], old[start]]
        ways.append(Change(start, start, tuple(new)))
    return ways


def _is_beside(change: Change) -> bool:
    """Whether words that are put in name a thing of its own: "and a star", "a star to the left of"."""
    return "and" in (change.new[0].key, change.new[-1].key) or words.ends_in_relation(change.new) > 0


def _swapped(old: Sequence[Word], change: Change) -> Change | None:
    """A change with the whole names of both things, articles and all, where the old one is listed with others."""
    span = things.name_around(old, change.span)
    whole = widened(old, change, span)
    inside = span.start <= change.start and change.end <= span.end and bool(whole.new)
    if not inside or things.name_around(whole.new, Span(0, len(whole.new))) != (0, len(whole.new)):
        return None
    return whole if things.is_listed(old, span) and whole.new[-1].key not in words.BACKDROPS else None


def _is_said(old: Sequence[Word], change: Change) -> bool:
    """Whether a change is of what is said of a thing, and of no thing itself: "the cat is black"."""
    name = things.name_around(old, change.span)
    after_verb = bool({*words.keys(old[: name.start])[-1:]} & words.BEING)
    return after_verb and not any(words.is_determiner(word.key) for word in (old[name.start], *change.new[:1]))


def _comes(old: Sequence[Word], added: Change) -> bool:
    """Whether words that are put in name a thing: not a colour of one, nor when or where the picture is."""
    first = next((word.key for word in added.new if word.key not in words.JOINS), "")
    inside = not added.start or added.start < things.name_around(old, Span(added.start - 1, added.start)).end
    return not inside and (first == "with" or first not in words.PREPOSITIONS)


def _described(old: Sequence[Word], added: Change) -> Change | None:
    """Words that are put in with the whole name of the thing that they say more of."""
    if not added.start:
        return None
    name = things.name_around(old, Span(added.start - 1, added.start))
    ends = {word.key for word in (added.new if added.start < name.end else (added.new[0], added.new[-1]))}
    if ends & words.JOINS:
        return None  # ", a hat" is of the whole picture
    has = words.is_participle(added.new[0].key) or added.new[0].key in words.RELATIVES | {"with"}
    if not name.start < added.start <= name.end or not (added.start < name.end or has):
        return None  # "at night" is neither
    return Change(*name, (*old[name.start : added.start], *added.new, *old[added.start : name.end]))
